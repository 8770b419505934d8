"""Tables of MATLAB's `.mat` files, up to its version 7."""

from pathlib import Path

import numpy as np


def read_mat(file: Path, names: tuple[str, ...], optional: tuple[str, ...] = ()) -> dict[str, np.ndarray]:
    """The variables called `names`, and those of `optional` that are there.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no such file, is saved as version 7.3, which is another format (HDF5), or lacks a variable.
    """
    from scipy.io import loadmat

    if not file.exists():
        raise FileNotFoundError(f"There is no table {file}; put the data set's own there, or give the folder that holds it.")
    try:
        found = loadmat(file, variable_names=[*names, *optional])
    except NotImplementedError:
        raise ValueError(
            f"{file} is saved as MATLAB 7.3 (HDF5), which cannot be read here; load it in MATLAB and save it again under its name "
            f"with `save('{file.name}', {', '.join(repr(name) for name in names)}, '-v7')`."
        ) from None
    except Exception as error:  # scipy raises nearly anything for broken files
        raise ValueError(f"{file} is no .mat file, or a damaged one ({error}); fetch it again.") from error
    if missing := [name for name in names if name not in found]:
        raise ValueError(f"{file} lacks {', '.join(missing)}; it is not the table that this reader knows.")
    return {name: found[name] for name in (*names, *optional) if name in found}

"""WFLW's text lists: per line 98 landmarks, a box, six flags and the name of an image (Wu et al., CVPR 2018)."""

from pathlib import Path

import numpy as np

from facelab.batch import FaceBatch
from facelab.datasets.annotations import Annotation, cropped, read_text
from facelab.datasets.cropping import WIDEN

FLAGS = ("pose", "expression", "illumination", "make-up", "occlusion", "blur")
_NUMBERS = 2 * 98 + 4 + len(FLAGS)


def read_wflw(list_file: Path, image_folder: Path) -> list[Annotation]:
    """Every face of a list; nobody knows who it is.

    Raises:
        FileNotFoundError: there is no such list.
        ValueError: a line does not hold 206 numbers and a file name.
    """
    if not list_file.exists():
        raise FileNotFoundError(f"There is no list {list_file}; WFLW's lie in WFLW_annotations/list_98pt_rect_attr_train_test.")
    annotations = []
    for number, line in enumerate(read_text(list_file).splitlines(), start=1):
        if not line.strip():
            continue
        *values, file = line.strip().split(maxsplit=_NUMBERS)
        try:
            numbers = np.array(values, dtype=float)
            landmarks, box, flags = np.split(numbers, [196, 200])
            if len(numbers) != _NUMBERS or not set(flags) <= {0.0, 1.0}:
                raise ValueError(f"it holds {len(numbers)} numbers" if len(numbers) != _NUMBERS else "a flag is neither 0 nor 1")
        except ValueError as error:
            raise ValueError(
                f"{list_file}, line {number}: expected 196 coordinates, 4 of a box, 6 flags and a file name ({error})."
            ) from None
        name = f"{file}#{number}"  # an image may hold several faces
        true = frozenset(flag for flag, value in zip(FLAGS, flags, strict=True) if value)
        annotations.append(Annotation(image_folder / file, landmarks.reshape(98, 2), name, name, box=box, flags=true))
    return annotations


def wflw(list_file: str | Path, image_folder: str | Path, size: int = 64, widen: float = WIDEN, flag: str = "") -> FaceBatch:
    """Cropped faces of a WFLW list with 98 landmarks; every line counts as another person.

    The crop follows the 68 of the 98 points that the other data sets have, so that faces are framed alike.

    Args:
        list_file: such as `list_98pt_rect_attr_test.txt`.
        image_folder: `WFLW_images`.
        size: width and height, pixels.
        widen: side of the crop over the longer side of the landmarks' box.
        flag: only faces with this flag, one of `FLAGS`: the subsets WFLW is evaluated on; empty for all.

    Raises:
        FileNotFoundError: there is no such list.
        ValueError: unknown flag, a damaged list, or no face that can be used.
    """
    if flag and flag not in FLAGS:
        raise ValueError(f"There is no flag {flag!r}; choose one of {FLAGS}, or none.")
    annotations = read_wflw(Path(list_file), Path(image_folder))
    return cropped([annotation for annotation in annotations if not flag or flag in annotation.flags], size, widen, "wflw")

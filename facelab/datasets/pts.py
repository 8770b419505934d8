"""Folders of photographs with a `.pts` file beside each: 300-W, LFPW, HELEN, AFW, IBUG."""

from pathlib import Path

import numpy as np
from jaxtyping import Float

from facelab.batch import FaceBatch
from facelab.datasets.annotations import Annotation, cropped
from facelab.datasets.cropping import WIDEN

_IMAGES = (".png", ".jpg", ".jpeg", ".bmp")


def read_pts(file: Path) -> Float[np.ndarray, "K 2"]:
    """The landmarks of one `.pts` file in our pixel coordinates (the format counts pixels from 1, we from 0).

    Raises:
        ValueError: it does not hold `n_points: K` and then K pairs of numbers in braces.
    """
    try:
        head, _, rest = file.read_text(encoding="utf-8").partition("{")
        body, closed, _ = rest.partition("}")
        values = dict(line.split(":", 1) for line in head.splitlines() if ":" in line)
        landmarks = np.array(body.split(), dtype=float).reshape(int(values["n_points"]), 2) - 1.0
    except (KeyError, ValueError) as error:
        raise ValueError(f"{file} is no .pts file: it needs `n_points: K` and K pairs of numbers in braces ({error}).") from error
    if not closed:
        raise ValueError(f"{file} ends before its closing brace.")
    return landmarks


def read_ibug(folder: Path) -> list[Annotation]:
    """Every `.pts` file in `folder` and below with the image of the same name; nobody knows who is in them.

    Raises:
        FileNotFoundError: there is no such folder, or no `.pts` file in it.
    """
    files = sorted(folder.rglob("*.pts"))
    if not files:
        raise FileNotFoundError(f"There is no .pts file in {folder}; give the folder of 300-W, or of one of its parts.")
    annotations = []
    for file in files:
        images = [file.with_suffix(suffix) for suffix in _IMAGES if file.with_suffix(suffix).exists()]
        landmarks, fault = np.full((68, 2), np.nan), ""
        try:
            landmarks = read_pts(file)
            if len(landmarks) != 68:
                fault = f"{len(landmarks)} landmarks instead of 68"
        except ValueError:
            fault = "its .pts file is damaged"
        name = file.relative_to(folder).with_suffix("").as_posix()
        annotations.append(Annotation((images or [file.with_suffix(".png")])[0], landmarks, name, name, fault=fault))
    return annotations


def ibug(folder: str | Path, size: int = 64, widen: float = WIDEN) -> FaceBatch:
    """Cropped faces of a folder with images and `.pts` files, 68 landmarks; every image counts as another person.

    Args:
        folder: searched with all its subfolders.
        size: width and height, pixels.
        widen: side of the crop over the longer side of the landmarks' box.

    Raises:
        FileNotFoundError: as `read_ibug`.
        ValueError: none of the images can be used.
    """
    return cropped(read_ibug(Path(folder)), size, widen, "ibug")

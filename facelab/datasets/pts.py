"""Folders of photographs with a `.pts` file beside each: 300-W, LFPW, HELEN, AFW, IBUG."""

import os
from pathlib import Path

import numpy as np
from jaxtyping import Float

from facelab.batch import FaceBatch
from facelab.datasets.annotations import Annotation, cropped, read_text
from facelab.datasets.cropping import WIDEN

_IMAGES = (".png", ".jpg", ".jpeg", ".bmp")


def read_pts(file: Path) -> Float[np.ndarray, "K 2"]:
    """The landmarks of one `.pts` file in our pixel coordinates (the format counts pixels from 1, we from 0).

    Raises:
        ValueError: it does not hold `n_points: K` and then K pairs of numbers in braces.
    """
    try:
        head, _, rest = read_text(file).partition("{")
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

    Endings may be written in capitals; links to folders and files are followed.

    Raises:
        FileNotFoundError: there is no such folder, or no `.pts` file in it.
    """
    found = _files(folder)
    files = sorted(file for file in found if file.suffix.lower() == ".pts")
    photographs: dict[Path, list[Path]] = {}
    for file in sorted(file for file in found if file.suffix.lower() in _IMAGES and file.exists()):
        photographs.setdefault(file.with_suffix(""), []).append(file)
    if not files:
        raise FileNotFoundError(f"There is no .pts file in {folder}; give the folder of 300-W, or of one of its parts.")
    annotations = []
    for file in files:
        images = sorted(photographs.get(file.with_suffix(""), []), key=lambda image: _IMAGES.index(image.suffix.lower()))
        landmarks, fault = np.full((68, 2), np.nan), ""
        try:
            landmarks = read_pts(file)
            if len(landmarks) != 68:
                fault = f"{len(landmarks)} landmarks instead of 68"
        except (ValueError, OSError):
            fault = "its .pts file is damaged"
        name = file.relative_to(folder).with_suffix("").as_posix()
        annotations.append(Annotation((images or [file.with_suffix(".png")])[0], landmarks, name, name, fault=fault))
    return annotations


def _files(folder: Path) -> list[Path]:
    """All files in `folder` and below; what lies behind links comes last, and once."""
    files: list[Path] = []
    pending, seen = [folder], set()
    while pending:
        for place, folders, names in os.walk(pending.pop(0)):
            if (real := os.path.realpath(place)) in seen:
                folders.clear()
                continue
            seen.add(real)
            pending += [path for name in sorted(folders) if (path := Path(place) / name).is_symlink()]
            files += [Path(place) / name for name in names]
    return files


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

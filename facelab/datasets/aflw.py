"""AFLW with 19 landmarks: the photographs of Koestinger et al. (2011), the revised annotation of S. Zhu et al. (CVPR 2016)."""

from pathlib import Path

import numpy as np

from facelab.batch import FaceBatch
from facelab.datasets import catalogue
from facelab.datasets.annotations import Annotation, cropped
from facelab.datasets.cropping import WIDEN
from facelab.datasets.matlab import read_mat

SPLITS = ("train", "test", "frontal", "all")
_TRAIN = 20_000
"""Of the table's own random order, the first so many are for training: the split AFLW-Full; AFLW-Frontal tests on the unhidden ones."""


def read_aflw(folder: Path, split: str = "all") -> list[Annotation]:
    """Faces of `AFLWinfo_release.mat` in the order of its split; photographs lie in `data/flickr`; nobody knows who is in them.

    Hidden landmarks have coordinates too, which annotators guessed. Coordinates are taken as they are.

    Raises:
        FileNotFoundError: there is no such table.
        ValueError: unknown split, or the table does not hold what it should.
    """
    if split not in SPLITS:
        raise ValueError(f"There is no split {split!r}; choose one of {SPLITS}.")
    file = folder / "AFLWinfo_release.mat"
    table = read_mat(file, ("bbox", "data", "mask_new", "nameList", "ra"))
    try:
        order = table["ra"].ravel().astype(int) - 1
        points = table["data"].reshape(len(order), 2, 19).transpose(0, 2, 1).astype(float)  # all x, then all y
        boxes = table["bbox"].reshape(len(order), 4)[:, [0, 2, 1, 3]].astype(float)  # stored as left, right, top, bottom
        visible = table["mask_new"].reshape(len(order), 19) == 1
        files = [str(np.ravel(name)[0]) for name in table["nameList"].ravel()]
        if sorted(order) != list(range(len(files))):
            raise ValueError("ra does not number the faces")
    except (ValueError, IndexError) as error:
        raise ValueError(f"{file} does not hold 19 landmarks, marks, a box and a name for each face ({error}).") from None
    if split != "all":
        order = order[:_TRAIN] if split == "train" else order[_TRAIN:]
    if split == "frontal":
        order = order[visible[order].all(axis=1)]
    names = [f"{files[i]}#{i + 1}" for i in order]  # a photograph may hold several faces
    return [
        Annotation(folder / "data/flickr" / files[i], points[i], name, name, box=boxes[i], visible=visible[i])
        for i, name in zip(order, names, strict=True)
    ]


def aflw(split: str = "train", size: int = 64, widen: float = WIDEN) -> FaceBatch:
    """Cropped faces of AFLW with 19 landmarks and whether each is visible; every face counts as another person.

    Args:
        split: "train" (20,000 faces), "test" (the other 4,386), "frontal" (those of them with nothing hidden) or "all".
        size: width and height, pixels.
        widen: side of the crop over the longer side of the landmarks' box.

    Raises:
        ValueError, FileNotFoundError: as `read_aflw`, or the data set is not on this machine.
    """
    return cropped(read_aflw(catalogue.path("aflw"), split), size, widen, "aflw")

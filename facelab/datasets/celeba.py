"""CelebA's text lists: five landmarks, the split, and who it is (Liu et al., ICCV 2015)."""

from pathlib import Path

import numpy as np

from facelab.batch import FaceBatch
from facelab.datasets import catalogue
from facelab.datasets.annotations import Annotation, cropped, read_text

SPLITS = ("train", "validation", "test", "all")
WIDEN_FIVE = 2.6
"""Frames faces about as the 68 points do: on P1 their box is twice as large as that of the five (median of the training frames)."""


def _rows(file: Path, values: int, head: int = 0) -> dict[str, list[int]]:
    """File name -> whole numbers, of a list whose first `head` lines count and name the columns."""
    if not file.exists():
        raise FileNotFoundError(f"There is no list {file}; CelebA's lie in its folders Anno and Eval.")
    rows = {}
    for number, line in enumerate(read_text(file).splitlines()[head:], start=head + 1):
        name, *numbers = line.split() or [""]
        if not name:
            continue
        try:
            rows[name] = [int(number) for number in numbers]
        except ValueError:
            rows[name] = []
        if len(rows[name]) != values:
            raise ValueError(f"{file}, line {number}: expected a file name and {values} whole number(s).")
    return rows


def read_celeba(folder: Path, split: str = "all", aligned: bool = True) -> list[Annotation]:
    """The faces of a split, in the order of the list: both eyes, nose tip, both corners of the mouth, image left first.

    People are told apart where `Anno/identity_CelebA.txt` is there; else every image counts as another person.

    Raises:
        FileNotFoundError: a list is missing.
        ValueError: unknown split, or a damaged list.
    """
    if split not in SPLITS:
        raise ValueError(f"There is no split {split!r}; choose one of {SPLITS}.")
    lists, images = ("list_landmarks_align_celeba.txt", "img_align_celeba") if aligned else ("list_landmarks_celeba.txt", "img_celeba")
    points = _rows(folder / "Anno" / lists, 10, head=2)
    parts = _rows(folder / "Eval/list_eval_partition.txt", 1)
    identities = folder / "Anno/identity_CelebA.txt"
    people = _rows(identities, 1) if identities.exists() else {}
    if unknown := next((name for name in points if parts.get(name, [-1])[0] not in (0, 1, 2)), ""):
        raise ValueError(f"{folder / 'Eval/list_eval_partition.txt'} gives {unknown} none of the splits 0, 1 and 2; fetch it again.")
    annotations = []
    for name, values in points.items():
        if split in ("all", SPLITS[parts[name][0]]):
            person = f"{people[name][0]:010d}" if name in people else name  # of ten digits: the rank of names is that of numbers
            annotations.append(Annotation(folder / "Img" / images / name, np.array(values, float).reshape(5, 2), name, person))
    return annotations


def celeba(split: str = "train", aligned: bool = True, size: int = 64, widen: float = WIDEN_FIVE) -> FaceBatch:
    """Cropped faces of CelebA with 5 landmarks.

    Args:
        split: "train", "validation", "test" (no person is in two of them) or "all".
        aligned: of the small images in which eyes lie at one place, else of the photographs as they were.
        size: width and height, pixels.
        widen: side of the crop over the longer side of the landmarks' box.

    Raises:
        ValueError, FileNotFoundError: as `read_celeba`, or the data set is not on this machine.
    """
    return cropped(read_celeba(catalogue.path("celeba"), split, aligned), size, widen, "celeba")

"""P1_Facial_Keypoints: frames of YouTube Faces with 68 landmarks, split so that no person is in two splits."""

import csv
import hashlib
from pathlib import Path

import numpy as np

from facelab.batch import FaceBatch
from facelab.datasets import catalogue
from facelab.datasets.annotations import Annotation, cropped, read_text
from facelab.datasets.cropping import WIDEN

SPLITS = ("train", "validation", "test", "all")


def split_of(person: str) -> str:
    """The split a person belongs to: by a hash of the name, so that new frames never move anybody."""
    bucket = int(hashlib.sha256(person.encode()).hexdigest(), 16) % 10
    return "test" if bucket < 2 else "validation" if bucket == 2 else "train"


def person_and_clip(name: str) -> tuple[str, int, int]:
    """Person, clip and frame of a file name: `training/Ben_Stein_42.jpg` is Ben_Stein, clip 4, frame 2.

    Raises:
        ValueError: the name does not end in `_<clip digit><frame digit>.<suffix>`.
    """
    stem = Path(name).stem
    person, _, digits = stem.rpartition("_")
    if not person or len(digits) != 2 or not digits.isdigit():
        raise ValueError(f"The file name {name!r} should be PERSON_<clip digit><frame digit>.jpg, as in Ben_Stein_42.jpg.")
    return person, int(digits[0]), int(digits[1])


def read_p1(folder: Path) -> list[Annotation]:
    """All annotated frames of the upstream folder, `training` then `test`, in the order of the csv files.

    Raises:
        FileNotFoundError: a csv file is missing.
        ValueError: a csv file does not hold a file name and 136 numbers per line.
    """
    annotations = []
    for part in ("training", "test"):
        table = folder / "data" / f"{part}_frames_keypoints.csv"
        lines = [(number, line) for number, line in enumerate(read_text(table).splitlines(), start=1) if line.strip(", \t")]
        for number, line in lines:
            file, *values = next(csv.reader([line]))
            if number == lines[0][0] and not Path(file).suffix:
                continue  # the header, which counts the columns and names no file
            try:
                points = np.array(values, dtype=float).reshape(68, 2)
                person, _, _ = person_and_clip(file)
            except ValueError as error:
                raise ValueError(f"{table}, line {number}: expected a file name and 136 numbers ({error}).") from None
            annotations.append(Annotation(folder / "data" / part / file, points, f"{part}/{file}", person))
    return annotations


def p1(split: str = "train", size: int = 64, widen: float = WIDEN) -> FaceBatch:
    """Cropped frames of P1_Facial_Keypoints with 68 landmarks; decoded once, then read from the user's cache.

    Args:
        split: "train", "validation", "test" (no person is in two of them) or "all".
        size: width and height, pixels.
        widen: side of the crop over the longer side of the landmarks' box.

    Raises:
        ValueError: unknown split.
        FileNotFoundError: the data set is not on this machine.
    """
    if split not in SPLITS:
        raise ValueError(f"There is no split {split!r}; choose one of {SPLITS}.")
    batch = cropped(read_p1(catalogue.path("p1")), size, widen, "p1")
    if split == "all":
        return batch
    return batch.take(np.array([split_of(person_and_clip(name)[0]) == split for name in batch.names]))


def p1_people(split: str = "all") -> tuple[str, ...]:
    """Names of the people in a split, sorted.

    Raises:
        ValueError, FileNotFoundError: as `p1`.
    """
    if split not in SPLITS:
        raise ValueError(f"There is no split {split!r}; choose one of {SPLITS}.")
    people = {annotation.person for annotation in read_p1(catalogue.path("p1"))}
    return tuple(sorted(person for person in people if split in ("all", split_of(person))))

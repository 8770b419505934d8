"""COFW in colour: photographs, 29 landmarks and which are hidden, in one table (Burgos-Artizzu et al., ICCV 2013)."""

from pathlib import Path

import numpy as np
from PIL import Image

from facelab.batch import FaceBatch
from facelab.datasets import catalogue
from facelab.datasets.annotations import Annotation, crop_all, report, to_rgb
from facelab.datasets.cropping import WIDEN
from facelab.datasets.matlab import read_mat

SPLITS = {"train": "Tr", "test": "T"}
ORDER = (0, 4, 5, 2, 3, 7, 6, 1, 8, 12, 10, 13, 11, 14, 9, 15, 16, 17, 18, 20, 19, 21, 22, 24, 23, 27, 25, 26, 28)
"""Where each landmark of our mark-up 29 stands in COFW's order, which is that of LFPW: pairs first, image left before image right.

COFW marks the upper and the lower edge of the middle of each brow; our mark-up, made of the 68, has two points along it instead.
The upper edge takes the place of `mid_outer`, the lower that of `mid_inner`: no average of 68 points compares with these four.
"""


def read_cofw(file: Path, split: str) -> list[Annotation]:
    """The faces of `COFW_train_color.mat` or `COFW_test_color.mat`, saved again as MATLAB 7; nobody knows who they are.

    MATLAB counts pixels from 1, we from 0.

    Raises:
        FileNotFoundError: there is no such table.
        ValueError: unknown split, or the table is still MATLAB 7.3, or does not hold what it should.
    """
    if split not in SPLITS:
        raise ValueError(f"There is no split {split!r}; choose one of {tuple(SPLITS)}.")
    end = SPLITS[split]
    table = read_mat(file, (f"Is{end}", f"phis{end}", f"bboxes{end}"))
    images, points, boxes = table[f"Is{end}"].ravel(), table[f"phis{end}"], table[f"bboxes{end}"]
    if points.shape != (len(images), 87) or boxes.shape != (len(images), 4):
        raise ValueError(f"{file} should hold 87 numbers and a box of 4 for each of {len(images)} images: x, y, and hidden or not.")
    annotations = []
    for number, (pixels, values, box) in enumerate(zip(images, points.astype(float), boxes.astype(float), strict=True), start=1):
        x, y, hidden = values.reshape(3, 29)[:, ORDER]
        landmarks, name = np.stack([x, y], axis=1) - 1, f"{split}/{number}"
        corners = np.concatenate([box[:2], box[:2] + box[2:]]) - 1  # stored as left, top, width, height
        rgb = np.array(to_rgb(Image.fromarray(pixels)))  # the part from LFPW is partly gray
        annotations.append(Annotation(file, landmarks, name, name, box=corners, visible=hidden == 0, pixels=rgb))
    return annotations


def cofw(split: str = "train", size: int = 64, widen: float = WIDEN) -> FaceBatch:
    """Cropped faces of COFW with 29 landmarks and whether each is visible; every image counts as another person.

    Args:
        split: "train" (1,345 faces, of which 845 come from LFPW) or "test" (507).
        size: width and height, pixels.
        widen: side of the crop over the longer side of the landmarks' box.

    Raises:
        ValueError, FileNotFoundError: as `read_cofw`, or the data set is not on this machine.
    """
    annotations = read_cofw(catalogue.path("cofw") / f"COFW_{split}_color.mat", split)
    batch, problems = crop_all(annotations, size, widen)
    report(problems, len(annotations), "cofw")
    return batch

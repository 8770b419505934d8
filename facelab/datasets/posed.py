"""AFLW2000-3D and 300W-LP: a `.mat` with head pose and 68 landmarks beside every photograph (X. Zhu et al., CVPR 2016)."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from facelab.batch import FaceBatch
from facelab.datasets import catalogue, head_pose
from facelab.datasets.annotations import Annotation, cropped
from facelab.datasets.cropping import WIDEN
from facelab.datasets.matlab import read_mat

SETS = ("AFW", "HELEN", "IBUG", "LFPW")
LIMIT = 99.0
"""Degrees. Faces turned further, by any angle, are left out, as all who report errors on these sets do."""


def read_posed(file: Path, name: str, person: str) -> Annotation:
    """The face of one `.mat`, with the `.jpg` of the same name.

    Its 68 points are those of the fitted 3-D face, projected: hidden ones lie where they would be seen through the head. AFLW2000-3D
    calls them `pt3d_68`, 300W-LP `pt2d`. MATLAB counts pixels from 1, we from 0.

    Raises:
        FileNotFoundError, ValueError: as `read_mat`, or it does not hold 68 points and a pose.
    """
    table = read_mat(file, ("Pose_Para",), optional=("pt3d_68", "pt2d"))
    points, angles = table.get("pt3d_68", table.get("pt2d")), table["Pose_Para"].ravel()[:3].astype(float)
    if points is None or points.ndim != 2 or points.shape[1] != 68 or len(angles) != 3:
        raise ValueError(f"{file} does not hold 68 points in pt3d_68 or pt2d and three angles in Pose_Para.")
    fault = "" if (np.abs(np.degrees(angles)) <= LIMIT).all() else f"turned by more than {LIMIT:.0f} degrees"
    landmarks = points[:2].T.astype(float) - 1
    return Annotation(file.with_suffix(".jpg"), landmarks, name, person, fault=fault, pose=head_pose.from_3ddfa(angles))


def read_aflw2000(folder: Path) -> list[Annotation]:
    """Every `image*.mat` of the folder; nobody knows who is in them.

    Raises:
        FileNotFoundError: there is none.
        ValueError: one of them is damaged.
    """
    files = sorted(folder.glob("image*.mat"))
    if not files:
        raise FileNotFoundError(f"There is no image*.mat in {folder}; give the folder AFLW2000 with image00002.jpg and .mat and so on.")
    return [read_posed(file, file.stem, file.stem) for file in files]


def read_300wlp(folder: Path, sets: Iterable[str] = SETS, flipped: bool = False) -> list[Annotation]:
    """The faces of the folders `sets`, and of their mirror images in `*_Flip`.

    All that was made of one photograph counts as one person: names end in `_` and the number of the turn.

    Raises:
        FileNotFoundError: a folder is missing or empty.
        ValueError: a table is damaged.
    """
    annotations = []
    for part in sets:
        for place in (part, f"{part}_Flip") if flipped else (part,):
            files = sorted((folder / place).glob("*.mat"))
            if not files:
                raise FileNotFoundError(f"There is no .mat in {folder / place}; give the folder 300W_LP, which holds {', '.join(SETS)}.")
            annotations += [read_posed(file, f"{place}/{file.stem}", f"{part}/{file.stem.rpartition('_')[0]}") for file in files]
    return annotations


def aflw2000(size: int = 64, widen: float = WIDEN) -> FaceBatch:
    """Cropped faces of AFLW2000-3D with 68 landmarks, yaw, pitch and roll; every image counts as another person.

    Args:
        size: width and height, pixels.
        widen: side of the crop over the longer side of the landmarks' box.

    Raises:
        ValueError, FileNotFoundError: as `read_aflw2000`, or the data set is not on this machine.
    """
    return cropped(read_aflw2000(catalogue.path("aflw2000")), size, widen, "aflw2000")


def w300lp(sets: Iterable[str] = SETS, flipped: bool = False, size: int = 64, widen: float = WIDEN) -> FaceBatch:
    """Cropped faces of 300W-LP (photographs turned further, by rendering) with 68 landmarks, yaw, pitch and roll.

    Args:
        sets: some of `SETS`.
        flipped: with the mirror images that come with the set.
        size, widen: as in `aflw2000`.

    Raises:
        ValueError, FileNotFoundError: as `read_300wlp`, or the data set is not on this machine.
    """
    return cropped(read_300wlp(catalogue.path("300w_lp"), sets, flipped), size, widen, "300w_lp")

"""Eyes with a known line of sight: MPIIGaze (Zhang et al., CVPR 2015) and UnityEyes (Wood et al., ETRA 2016)."""

import json
from ast import literal_eval
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from facelab.batch import FaceBatch, concatenate
from facelab.datasets import catalogue, head_pose
from facelab.datasets.annotations import Annotation, cropped, read_text
from facelab.datasets.head_pose import AXES_DOWN
from facelab.datasets.matlab import read_mat

PEOPLE = tuple(range(15))
SIDES = ("left", "right")
UNITY_POINTS = {"interior_margin_2d": 16, "caruncle_2d": 7, "iris_2d": 32}
"""The landmarks of UnityEyes, in this order: rim of the lids, the inner corner's flesh, rim of the iris."""


def read_mpiigaze(file: Path, person: int) -> FaceBatch:
    """The left and then the right eyes of one day, `Data/Normalized/p00/day01.mat` and so on.

    Its vectors have y down and z away from the camera; heads are given as rotation vectors.

    Raises:
        FileNotFoundError, ValueError: as `read_mat`, or it does not hold images of 36 x 60 pixels, gaze and pose.
    """
    from scipy.spatial.transform import Rotation

    data = read_mat(file, ("data",))["data"]
    try:
        sides = [data[0, 0][side][0, 0] for side in SIDES]
        images = np.concatenate([side["image"].reshape(-1, 36, 60).astype(np.uint8) for side in sides])
        gaze, pose = (np.concatenate([side[name].reshape(-1, 3).astype(float) for side in sides]) for name in ("gaze", "pose"))
        counts = [len(side["gaze"].reshape(-1, 3)) for side in sides]
        yaw, pitch, roll = head_pose.from_rotation_down(Rotation.from_rotvec(pose).as_matrix()).T
        names = [f"p{person:02d}/{file.stem}/{name}/{i}" for name, count in zip(SIDES, counts, strict=True) for i in range(count)]
        truth = {"identity": np.full(len(images), person), "gaze": gaze / np.linalg.norm(gaze, axis=1, keepdims=True) @ AXES_DOWN}
        colour = np.repeat(images[..., None], 3, axis=-1)
        return FaceBatch(colour, **truth, yaw=yaw, pitch=pitch, roll=roll, names=tuple(names))
    except (IndexError, TypeError, ValueError) as error:
        raise ValueError(f"{file} is no day of MPIIGaze: it needs data.left and data.right with image, gaze and pose ({error}).") from None


def mpiigaze(people: Iterable[int] = PEOPLE) -> FaceBatch:
    """The eyes of MPIIGaze, 36 x 60 pixels as its authors cut and straightened them, with gaze, and yaw, pitch and roll of the head.

    Args:
        people: some of 0 to 14; the usual protocol leaves out one at a time.

    Raises:
        FileNotFoundError: the data set, or somebody in it, is not on this machine.
        ValueError: a table is damaged, or nobody was asked for.
    """
    folder, days = catalogue.path("mpiigaze") / "Data/Normalized", []
    for person in people:
        files = sorted((folder / f"p{person:02d}").glob("day*.mat"))
        if not files:
            raise FileNotFoundError(f"There is no day*.mat in {folder / f'p{person:02d}'}; put the days of this person there.")
        days += [read_mpiigaze(file, person) for file in files]
    batch = concatenate(days)
    identity = np.concatenate([day.known("identity") for day in days])  # days of one person belong together
    return replace(batch, identity=identity)


def read_unityeyes(folder: Path) -> list[Annotation]:
    """Every `N.json` of a folder that UnityEyes wrote, with its `N.jpg`, in the order of the numbers.

    Unity measures from the lower left corner of the image, y up, and its z points away from the camera.

    Raises:
        FileNotFoundError: there is none.
        ValueError: one of them is damaged.
    """
    files = sorted(folder.glob("*.json"), key=lambda file: (len(file.stem), file.stem))
    if not files:
        raise FileNotFoundError(f"There is no .json in {folder}; let UnityEyes write its images there.")
    annotations = []
    for file in files:
        image, landmarks, fault = file.with_suffix(".jpg"), np.full((sum(UNITY_POINTS.values()), 2), np.nan), ""
        try:
            about = json.loads(read_text(file))
            points = np.array([literal_eval(point)[:2] for name in UNITY_POINTS for point in about[name]], dtype=float)
            gaze = np.array(literal_eval(about["eye_details"]["look_vec"])[:3], dtype=float) * [1, 1, -1]
            if len(points) != len(landmarks):
                raise ValueError(f"{len(points)} landmarks instead of {len(landmarks)}")
        except (KeyError, TypeError, ValueError, SyntaxError) as error:
            raise ValueError(f"{file} is no description of an eye by UnityEyes ({error}).") from None
        try:
            with Image.open(image) as opened:
                landmarks = np.stack([points[:, 0] - 0.5, opened.height - 0.5 - points[:, 1]], axis=1)
        except OSError:
            fault = "image missing or damaged"
        annotations.append(Annotation(image, landmarks, file.stem, file.stem, fault=fault, gaze=gaze / np.linalg.norm(gaze)))
    return annotations


def unityeyes(size: int = 64, widen: float = 1.6) -> FaceBatch:
    """Cropped eyes of UnityEyes with gaze and 55 landmarks, `UNITY_POINTS`, which are no mark-up of faces.

    Args:
        size: width and height, pixels.
        widen: side of the crop over the longer side of the landmarks' box.

    Raises:
        ValueError, FileNotFoundError: as `read_unityeyes`, or the images are not on this machine.
    """
    return cropped(read_unityeyes(catalogue.path("unityeyes")), size, widen, "unityeyes")

"""BIWI Kinect Head Pose: frames of people turning their heads, measured with a depth camera (Fanelli et al., IJCV 2013)."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
from jaxtyping import Float

from facelab.batch import FaceBatch
from facelab.datasets import catalogue, head_pose
from facelab.datasets.annotations import read_image, read_text, report
from facelab.datasets.cropping import crop_face

SEQUENCES = tuple(range(1, 25))
HEAD = 240.0
"""Millimetres: side of the square around the centre of the head that is cut out."""


def _numbers(file: Path, count: int, what: str) -> Float[np.ndarray, " count"]:
    if not file.exists():
        raise FileNotFoundError(f"There is no {file}; every sequence of BIWI has its own {what}.")
    try:
        values = np.array(read_text(file).split(), dtype=float)
    except ValueError:
        values = np.zeros(0)
    if len(values) < count:
        raise ValueError(f"{file} does not hold the {count} numbers of a {what}.")
    return values[:count]


def read_biwi_pose(file: Path) -> tuple[Float[np.ndarray, "3 3"], Float[np.ndarray, "3"]]:
    """Rotation of the head and centre of the head (millimetres) in the space of the depth camera: x right, y down, z away from it.

    Raises:
        FileNotFoundError, ValueError: no such file, or not twelve numbers.
    """
    values = _numbers(file, 12, "frame_*_pose.txt")
    return values[:9].reshape(3, 3), values[9:]


def head_box(calibration: Path, centre: Float[np.ndarray, "3"]) -> Float[np.ndarray, "4"]:
    """Left, top, right, bottom of the head in the colour image, pixels, without the lens's small distortion.

    The calibration's rotation and shift are taken to lead from the depth camera to the colour camera.

    Raises:
        FileNotFoundError, ValueError: no such calibration, or not what it should hold.
    """
    values = _numbers(calibration, 25, "rgb.cal")
    camera, rotation, shift = values[:9].reshape(3, 3), values[13:22].reshape(3, 3), values[22:25]
    x, y, z = camera @ (rotation @ centre + shift)
    half = np.array([camera[0, 0], camera[1, 1]]) * HEAD / (2 * z)
    middle = np.array([x, y]) / z
    return np.concatenate([middle - half, middle + half])


def biwi(sequences: Iterable[int] = SEQUENCES, size: int = 64, widen: float = 1.0) -> FaceBatch:
    """Cropped heads of BIWI with yaw, pitch and roll, as measured by the depth camera; no landmarks.

    Identity is the sequence: 24 of 20 people, four of whom come twice.

    Args:
        sequences: some of 1 to 24; all are 15,678 frames.
        size: width and height, pixels.
        widen: side of the crop over 240 millimetres.

    Raises:
        FileNotFoundError: the data set is not on this machine, or a sequence or its calibration is missing.
        ValueError: a pose or calibration is damaged, or no frame can be used.
    """
    folder, images, names, poses, identity, problems = catalogue.path("biwi"), [], [], [], [], []
    for sequence in sequences:
        files = sorted((folder / f"{sequence:02d}").glob("frame_*_pose.txt"))
        if not files:
            raise FileNotFoundError(f"There is no frame_*_pose.txt in {folder / f'{sequence:02d}'}; put the sequence there.")
        for file in files:
            name = f"{sequence:02d}/{file.stem.removesuffix('_pose')}"
            rotation, centre = read_biwi_pose(file)
            box = head_box(file.parent / "rgb.cal", centre)
            try:
                image = read_image(file.with_name(file.name.replace("_pose.txt", "_rgb.png")))
            except (OSError, ValueError) as error:
                problems.append(f"{name}: {'image corrupt or truncated' if isinstance(error, ValueError) else 'image missing'}")
                continue
            images.append(crop_face(image, box, size, widen)[0])
            names.append(name)
            poses.append(head_pose.from_rotation_down(rotation))
            identity.append(sequence - 1)
    if not images:
        raise ValueError(f"None of {len(problems)} frames can be used: {'; '.join(problems[:3]) or 'no sequence was asked for'}.")
    report(problems, len(problems) + len(images), "biwi")
    yaw, pitch, roll = np.stack(poses).T
    return FaceBatch(np.stack(images), identity=np.array(identity), yaw=yaw, pitch=pitch, roll=roll, names=tuple(names))

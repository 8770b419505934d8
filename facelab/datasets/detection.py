"""Finding faces in photographs without landmarks, framed as the networks know them (scikit-image's bundled LBP cascade)."""

from functools import cache

import numpy as np
from jaxtyping import Float, Num, UInt8
from PIL import Image

from facelab.datasets.cropping import WIDEN, Crop, cut, square_around

# How the 68 landmarks' bounding box lies in the cascade's, in units of the cascade's box: medians over 551 detections in
# 592 training frames of P1 (median absolute deviation 0.07 across, as heads turn; 0.03 down; 0.06 in size). The 38
# detections in dlib's photographs give 0.01, 0.13 and 0.87. Across we take 0: a mirrored face must give a mirrored crop.
SHIFT_DOWN = 0.165
LONGER_SIDE = 0.90

_LONGEST = 512
"""Larger photographs are shrunk to this longer side first, pixels: the search takes time, and faces stay large enough."""
_WINDOW = 24
"""The cascade sees no smaller faces, pixels."""
_STRICTNESS = (10, 4, 2)
"""Overlapping hits that make a detection: the strict answer first, the lenient ones only if it is empty."""


class NoFaceFound(ValueError):
    """The detector finds no face in the photograph."""


@cache
def _cascade():
    from skimage.data import lbp_frontal_face_cascade_filename
    from skimage.feature import Cascade

    return Cascade(lbp_frontal_face_cascade_filename())


def detect_face(image: UInt8[np.ndarray, "H W 3"], smallest: float = 0.15) -> Float[np.ndarray, "N 4"]:
    """Boxes (left, top, right, bottom) of frontal faces, pixels, the largest first; often empty for profiles.

    Args:
        image: RGB.
        smallest: side of the smallest face looked for, as a share of the image's shorter side.

    Raises:
        ValueError: `smallest` is not within 0..1.
    """
    if not 0 < smallest <= 1:
        raise ValueError(f"The smallest face is a share of the image's shorter side between 0 and 1, not {smallest}.")
    height, width = image.shape[:2]
    scale = min(1.0, _LONGEST / max(height, width))
    if scale < 1:
        image = np.asarray(Image.fromarray(image).resize((round(width * scale), round(height * scale)), Image.Resampling.BOX))
    shorter = min(image.shape[:2])
    if shorter < _WINDOW:
        return np.zeros((0, 4))
    least, most = max(_WINDOW, int(smallest * shorter)), shorter
    for neighbours in _STRICTNESS:
        found = _cascade().detect_multi_scale(
            image, scale_factor=1.1, step_ratio=1, min_size=(least, least), max_size=(most, most), min_neighbor_number=neighbours
        )
        if found:
            break
    found = sorted(found, key=lambda face: -face["width"])
    boxes = [(face["c"], face["r"], face["c"] + face["width"] - 1, face["r"] + face["height"] - 1) for face in found]
    return (np.array(boxes, dtype=float).reshape(-1, 4) + 0.5) / scale - 0.5


def face_box_to_crop(box: Num[np.ndarray, "4"], size: int = 64, widen: float = WIDEN) -> Crop:
    """The crop that the landmarks of a detected face would most likely give.

    Args:
        box: one row of `detect_face`, pixels.
        size: width and height of the crop, pixels.
        widen: side of the crop over the longer side of the landmarks' box.

    Raises:
        ValueError: the box is empty, or `size` or `widen` is not positive.
    """
    left, top, right, bottom = (float(edge) for edge in box)
    side = max(right - left, bottom - top) + 1
    x, y = (left + right) / 2, (top + bottom) / 2 + SHIFT_DOWN * side
    half = LONGER_SIDE * side / 2
    return square_around(np.array([x - half, y - half, x + half, y + half]), size, widen)


def crop_largest_face(
    image: UInt8[np.ndarray, "H W 3"], size: int = 64, widen: float = WIDEN
) -> tuple[UInt8[np.ndarray, "size size 3"], Crop]:
    """The largest detected face as the networks know faces, and the crop that maps points into it and back.

    Raises:
        NoFaceFound: the detector finds none.
    """
    boxes = detect_face(image)
    if not len(boxes):
        raise NoFaceFound(
            "No face was found: the detector knows upright faces seen from the front, at least a seventh of the picture's height. "
            "Try another photograph, or say where the face is: crop_face(image, box)."
        )
    crop = face_box_to_crop(boxes[0], size, widen)
    return cut(image, crop), crop

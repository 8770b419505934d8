"""What trees may ask about a face: gradients at landmarks, distances and angles among them, and which landmarks each answer reads."""

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from facelab.blocks.descriptors import angles, distances, gradient_histograms

EYES, MOUTH, OUTER_EYES = (*range(10), *range(19, 31)), tuple(range(31, 51)), (19, 28)
"""Of the 51 points inside the face, which are the 68 without the jaw: brows and eyes, lips, and the outer corners of the eyes."""
FIRM = (*range(10, 19), 19, 22, 25, 28)
"""Of those, the nose and the corners of the eyes."""
REGIONS = (
    (*range(5), *range(19, 25)),
    (*range(5, 10), *range(25, 31)),
    tuple(range(10, 19)),
    (*range(31, 35), *range(41, 46), 50),
    (*range(35, 41), *range(46, 50)),
)
"""The 51 points by region: an eye and its brow, the other ones, the nose, and the two halves of the mouth."""


def face_features(
    images: Float[Tensor, "batch 1 height width"],
    points: Float[Tensor, "batch points 2"],
    triangles: Int[Tensor, "triangles 3"],
    eyes: tuple[int, int],
) -> Float[Tensor, "batch features"]:
    """The gradient histogram at every landmark, then every distance of two landmarks, then the three angles of every triangle.

        features = face_features(images, landmarks, triangles, eyes=(36, 45))

    Args:
        images: gray.
        points: (x, y) of the landmarks in pixels.
        triangles: indices of three landmarks each.
        eyes: the two landmarks whose distance is the unit of all distances.

    Returns:
        Histograms have length one, distances are in units of the eyes' distance, angles in radians from 0 to pi.
    """
    unit = distances(points, [eyes]).clamp(min=1e-6)
    turns = torch.cat([triangles.roll(shift, dims=1) for shift in range(3)])
    return torch.cat([gradient_histograms(images, points).flatten(1), distances(points) / unit, angles(points, turns)], dim=1)


def landmarks_of_features(points: int, triangles: Int[Tensor, "triangles 3"], bins: int = 32) -> Bool[np.ndarray, "features points"]:
    """Which landmarks each number of `face_features` is computed from; `bins` is the length of a histogram.

    The unit of the distances is left aside, since it speaks of the size of the whole face.
    """
    own = np.eye(points, dtype=bool)
    first, second = np.triu_indices(points, k=1)
    corners = own[triangles.numpy()].any(axis=1)
    return np.concatenate([own.repeat(bins, axis=0), own[first] | own[second], np.tile(corners, (3, 1))])


def describe(
    images: Float[np.ndarray, "batch 1 height width"], points: Float[np.ndarray, "batch 51 2"], triangles: Int[np.ndarray, "triangles 3"]
) -> Float[np.ndarray, "batch features"]:
    """`face_features` of the 51 points inside many faces, a few hundred at a time."""
    pixels, places, corners = torch.from_numpy(images), torch.from_numpy(points).float(), torch.from_numpy(triangles)
    parts = zip(pixels.split(250), places.split(250), strict=True)
    return torch.cat([face_features(image, place, corners, OUTER_EYES) for image, place in parts]).numpy()

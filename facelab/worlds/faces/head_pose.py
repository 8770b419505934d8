"""Head pose from landmarks alone, by fitting the world's mean head: photographs get the world's own angles."""

from functools import cache

import numpy as np
from jaxtyping import Float

from facelab.markups import convert
from facelab.worlds.faces import geometry

INNER = slice(17, 68)
"""Brows, nose, eyes and lips. The contour of the jaw slides along the face as the head turns, so it says less."""
DISTANCE = 14.0
"""Of the camera, half head widths: between the 7 and the 40 of the world's cameras; the nearest ones mislead the fit by five degrees."""
STARTS = (-60.0, 0.0, 60.0)
STEPS = 10


@cache
def mean_head() -> Float[np.ndarray, "68 3"]:
    """The 68 landmarks of the mean face at rest, half head widths, relative to the point about which heads turn."""
    rig = geometry.rig()
    corners = rig.mean.reshape(-1, 3)[rig.landmark_vertex].astype(np.float64)
    return convert(np.einsum("kj,kjc->kc", rig.landmark_weight.astype(np.float64), corners), 68) - geometry.PIVOT


def estimate_pose(landmarks: Float[np.ndarray, "B 68 2"]) -> Float[np.ndarray, "B 3"]:
    """Yaw, pitch and roll in degrees, with the signs of `FaceBatch`, of faces of which only the landmarks are known.

    Finds the rotation, scale and shift of the mean head whose picture has the least squared distance from the inner 51 landmarks. In
    full profile pitch and roll turn the head about the same axis; there only their difference can be told.

    Args:
        landmarks: (x, y) in pixels.
    """
    seen = _centred(landmarks[:, INNER].astype(np.float64))
    found = [_fitted(seen, start) for start in STARTS]  # a head seen from the side could end in the wrong valley from one start
    best = np.argmin([np.square(_residual(angles, seen)).sum(axis=1) for angles in found], axis=0)
    return np.stack(found)[best, np.arange(len(landmarks))]


def _centred(points: Float[np.ndarray, "B K 2"]) -> Float[np.ndarray, "B K 2"]:
    """Points less their mean, over their root mean square distance from it."""
    points = points - points.mean(axis=1, keepdims=True)
    return points / np.sqrt(np.square(points).sum(axis=(1, 2), keepdims=True))


def _residual(angles: Float[np.ndarray, "B 3"], seen: Float[np.ndarray, "B K 2"]) -> Float[np.ndarray, "B K2"]:
    """What the best scale and shift leave of the difference between the landmarks and the mean head turned by `angles`."""
    turned = np.einsum("nij,kj->nki", geometry.rotation(*angles.T), mean_head()[INNER])
    picture = turned[..., :2] * [1, -1] / (DISTANCE - turned[..., 2:])
    picture = _centred(picture)
    scale = (picture * seen).sum(axis=(1, 2), keepdims=True)
    return (seen - scale * picture).reshape(len(seen), -1)


def _fitted(seen: Float[np.ndarray, "B K 2"], yaw: float) -> Float[np.ndarray, "B 3"]:
    """Levenberg-Marquardt with a fixed damping, all faces at once, from one yaw."""
    angles = np.tile([yaw, 0.0, 0.0], (len(seen), 1))
    damping = 1e-7 * np.eye(3)  # in full profile two angles do the same
    for _ in range(STEPS):
        residual = _residual(angles, seen)
        slopes = np.stack([(_residual(angles + step, seen) - residual) / 1e-3 for step in 1e-3 * np.eye(3)], axis=-1)
        normal = slopes.mT @ slopes + damping
        step = np.linalg.solve(normal, slopes.mT @ residual[..., None])[..., 0]
        angles = angles - np.clip(step, -25, 25)  # one valley at a time
        angles[:, 0] = np.clip(angles[:, 0], -90, 90)
    return angles


def angle_between(pose: Float[np.ndarray, "B 3"], true: Float[np.ndarray, "B 3"]) -> Float[np.ndarray, " B"]:
    """Angle of the rotation that leads from one pose to another, degrees.

    In profile pitch and roll turn the head about the same axis of the image: their differences may be large where the heads are alike.

    Args:
        pose, true: yaw, pitch and roll in degrees.
    """
    ours, theirs = (geometry.rotation(*np.asarray(angles, dtype=float).T) for angles in (pose, true))
    cosine = ((ours * theirs).sum(axis=(1, 2)) - 1) / 2  # the trace of a rotation is 1 + 2 cos(angle)
    return np.degrees(np.arccos(np.clip(cosine, -1, 1)))

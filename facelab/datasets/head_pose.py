"""Yaw, pitch and roll from what data sets say of head pose: rotation matrices, vectors and angles in other orders.

A rotation turns head space (x to the subject's left, y up, z out of the face) into camera space (x right, y up, z towards the
camera), as everywhere in the package. Many data sets count y down and z away from the camera, for head and camera alike.
"""

import numpy as np
from jaxtyping import Float

AXES_DOWN = np.diag([1.0, -1.0, -1.0])
"""Turns vectors with y down and z away from the camera into ours, and back."""


def from_rotation(rotation: Float[np.ndarray, "*B 3 3"]) -> Float[np.ndarray, "*B 3"]:
    """Yaw, pitch and roll in degrees, with the signs of `FaceBatch`, of a head that turns first in pitch, then yaw, then roll.

    Of the two ways to write a rotation it is the one with a pitch of at most 90 degrees.
    """
    yaw = np.arcsin(np.clip(-rotation[..., 2, 0], -1, 1))
    pitch = np.arctan2(-rotation[..., 2, 1], rotation[..., 2, 2])
    roll = np.arctan2(-rotation[..., 1, 0], rotation[..., 0, 0])
    behind = np.abs(pitch) > np.pi / 2  # the face looks away: yaw exceeds a quarter turn
    yaw = np.where(behind, np.where(yaw < 0, -np.pi, np.pi) - yaw, yaw)
    pitch, roll = (np.where(behind, angle - np.copysign(np.pi, angle), angle) for angle in (pitch, roll))
    return np.degrees(np.stack([yaw, pitch, roll], axis=-1))


def from_rotation_down(rotation: Float[np.ndarray, "*B 3 3"]) -> Float[np.ndarray, "*B 3"]:
    """The same of a rotation between spaces whose y points down and z away from the camera."""
    return from_rotation(AXES_DOWN @ rotation @ AXES_DOWN)


def from_3ddfa(angles: Float[np.ndarray, "3"]) -> Float[np.ndarray, "3"]:
    """The same of the pitch, yaw and roll in radians that 300W-LP and AFLW2000-3D give.

    There R = R_x(pitch) R_y(yaw) R_z(roll), so the head turns in the opposite order: the angles differ by more than their signs.
    Source: X. Zhu et al., Face Alignment Across Large Poses: A 3D Solution, CVPR 2016, and its authors' code.
    """
    (cx, cy, cz), (sx, sy, sz) = np.cos(angles), np.sin(angles)
    about_x = np.array([[1, 0, 0], [0, cx, sx], [0, -sx, cx]])
    about_y = np.array([[cy, 0, -sy], [0, 1, 0], [sy, 0, cy]])
    about_z = np.array([[cz, sz, 0], [-sz, cz, 0], [0, 0, 1]])
    return from_rotation(about_x @ about_y @ about_z)

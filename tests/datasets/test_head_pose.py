"""Angles of other conventions against the rotation of the rendered heads, on points in space."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from facelab.datasets import head_pose
from facelab.worlds.faces import geometry

POSES = np.random.default_rng(0).uniform([-85, -60, -60], [85, 60, 60], size=(50, 3))


def test_rotations_of_the_world_give_its_angles_back():
    assert head_pose.from_rotation(geometry.rotation(*POSES.T)) == pytest.approx(POSES)


def test_spaces_with_y_down_and_z_away():
    """The same points, written in the other space, are turned to the same places."""
    ours = geometry.rotation(*POSES.T)
    down = Rotation.from_matrix(head_pose.AXES_DOWN @ ours @ head_pose.AXES_DOWN).as_matrix()
    point = np.array([0.3, 0.5, 1.0])
    assert (down @ (point * [1, -1, -1])) * [1, -1, -1] == pytest.approx(ours @ point)
    assert head_pose.from_rotation_down(down) == pytest.approx(POSES)


def test_a_yaw_beyond_a_quarter_turn_keeps_its_pitch():
    steep = np.array([[100.0, 20.0, -10.0], [-120.0, -5.0, 30.0]])
    assert head_pose.from_rotation(geometry.rotation(*steep.T)) == pytest.approx(steep)


@pytest.mark.parametrize(
    ("angles", "expected"),
    [((0.3, 0, 0), (0, 0.3, 0)), ((0, 0.3, 0), (-0.3, 0, 0)), ((0, 0, 0.3), (0, 0, 0.3))],
    ids=["pitch looks up", "yaw turns to the subject's right", "roll tilts clockwise"],
)
def test_single_angles_of_3ddfa(angles, expected):
    assert np.radians(head_pose.from_3ddfa(np.array(angles))) == pytest.approx(expected)


def test_angles_of_3ddfa_turn_points_as_ours_do():
    """Three turns about the axes, one after another, the last named first; each moves the nose tip as drawn in the paper's code."""
    for pitch, yaw, roll in np.radians(POSES[:, [1, 0, 2]]):
        nose = Rotation.from_rotvec([0, 0, -roll]).apply([[0.2, 0.1, 1.0], [0.0, 1.0, 0.0]])
        nose = Rotation.from_rotvec([0, -yaw, 0]).apply(nose)
        nose = Rotation.from_rotvec([-pitch, 0, 0]).apply(nose)
        ours = geometry.rotation(*head_pose.from_3ddfa(np.array([pitch, yaw, roll]))[:, None])[0]
        assert np.array([[0.2, 0.1, 1.0], [0.0, 1.0, 0.0]]) @ ours.T == pytest.approx(nose)

"""The pose read from landmarks against the pose with which faces were rendered."""

import numpy as np
import pytest

from facelab.markups import markup
from facelab.worlds.faces import estimate_pose, mean_head, render
from facelab.worlds.faces.geometry import PIVOT, rotation
from facelab.worlds.faces.head_pose import DISTANCE, angle_between

WIDE = dict(yaw=(-90.0, 90.0), pitch=(-25.0, 25.0), roll=(-20.0, 20.0))


def truth(faces):
    return np.stack([faces.yaw, faces.pitch, faces.roll], axis=1)


def between(a, b):
    """Angle in degrees of the turn from one pose to the other."""
    turn = np.einsum("nij,nij->n", rotation(*a.T), rotation(*b.T))
    return np.degrees(np.arccos(np.clip((turn - 1) / 2, -1, 1)))


def pictures(angles, scale=20.0, shift=(31.0, 28.0), distance=DISTANCE):
    """The mean head photographed in these poses."""
    turned = np.einsum("nij,kj->nki", rotation(*angles.T), mean_head())
    return scale * turned[..., :2] * [1, -1] * distance / (distance - turned[..., 2:]) + np.array(shift)


@pytest.fixture(scope="module")
def faces():
    return render(300, seed=5, size=32, channels=(), **WIDE)


def test_the_mean_head_itself_is_read_exactly_whatever_its_size_and_place():
    generator = np.random.default_rng(0)
    angles = generator.uniform([-80, -25, -20], [80, 25, 20], size=(50, 3))
    np.testing.assert_allclose(estimate_pose(pictures(angles)), angles, atol=1e-3)
    np.testing.assert_allclose(estimate_pose(pictures(angles, 3.0, (-40.0, 900.0))), angles, atol=1e-3)


def test_the_mean_head_is_symmetric_and_that_of_average_faces():
    head = mean_head()
    np.testing.assert_allclose(head[markup(68).flip] * [-1, 1, 1], head, atol=0.03)
    shapes = render(300, seed=0, size=32, channels=(), expression="neutral", yaw=0.0, pitch=0.0).landmarks_3d.mean(axis=0) - PIVOT
    assert np.linalg.norm(shapes - head, axis=1)[17:].max() < 0.12  # half head widths


def test_rendered_faces_of_all_shapes_and_expressions_within_a_few_degrees(faces):
    found = estimate_pose(faces.landmarks)
    error = np.abs(found - truth(faces))
    assert error[:, 0].mean() < 3.5 and np.quantile(error[:, 0], 0.95) < 9
    assert between(found, truth(faces)).mean() < 5
    frontal = np.abs(faces.yaw) < 60
    assert error[frontal, 1].mean() < 4 and error[frontal, 2].mean() < 2


def test_yaw_of_profiles_is_read_on_the_right_side(faces):
    profile = np.abs(faces.yaw) > 40
    assert (np.sign(estimate_pose(faces.landmarks)[profile, 0]) == np.sign(faces.yaw[profile])).all()


def test_a_mirrored_face_has_yaw_and_roll_of_the_other_sign(faces):
    mirrored = (31.0 - faces.landmarks * [1, 0])[:, markup(68).flip] * [1, 0] + (faces.landmarks * [0, 1])[:, markup(68).flip]
    plain = np.abs(faces.yaw) < 60
    expected = estimate_pose(faces.landmarks[plain]) * [-1, 1, -1]
    np.testing.assert_allclose(estimate_pose(mirrored[plain]), expected, atol=1.5)  # the mean head is a little lopsided


def test_the_assumed_camera_costs_what_is_stated():
    """Five degrees for the nearest cameras of the world, less for distant ones."""
    angles = np.array([[0.0, 0, 0], [30, 10, 5], [-60, -10, 10]])
    near, far = (between(estimate_pose(pictures(angles, distance=distance)), angles).max() for distance in (7.0, 40.0))
    assert far < near == pytest.approx(5, abs=0.5)


def test_the_angle_between_two_heads_is_that_of_one_rotation():
    front, turned = np.zeros((1, 3)), np.array([[0.0, 0.0, 30.0]])
    assert angle_between(front, turned) == pytest.approx(30)
    assert angle_between(turned, turned) == pytest.approx(0, abs=1e-5)
    # in profile a nod and a tilt are one turn: angles that differ by 40 degrees twice describe nearly one head
    assert angle_between(np.array([[89.9, 20.0, 0.0]]), np.array([[89.9, -20.0, -40.0]])) + angle_between(
        np.array([[89.9, 20.0, 0.0]]), np.array([[89.9, -20.0, 40.0]])
    ) == pytest.approx(80, abs=1)

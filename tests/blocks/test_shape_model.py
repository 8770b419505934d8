"""The shape model on shapes that it made itself."""

import numpy as np
import pytest

from facelab.blocks.shape_model import ShapeModel, as_pairs


def learned(samples=80, points=7, modes=3, seed=0):
    random = np.random.default_rng(seed)
    mean = np.array([10, 30]) + random.normal(size=(points, 2)) * 12
    return ShapeModel.of(mean + random.normal(size=(samples, points, 2)), modes)


def drawn(model, samples=20, seed=1):
    return np.random.default_rng(seed).normal(size=(samples, 4 + len(model.modes))) * 2


def test_parameters_of_its_own_shapes_are_found_exactly():
    model = learned()
    parameters = drawn(model)
    np.testing.assert_allclose(model.parameters(model.shape(parameters)), parameters, atol=1e-9)


def test_modes_are_orthonormal_and_orthogonal_to_what_moves_turns_and_scales():
    model = learned()
    basis = [model.mean, 1j * model.mean, np.ones_like(model.mean), 1j * np.ones_like(model.mean)]
    basis = np.array([b / np.linalg.norm(b) for b in basis] + list(model.modes))
    np.testing.assert_allclose((basis @ basis.conj().T).real, np.eye(len(basis)), atol=1e-9)


def test_a_step_of_one_in_any_parameter_moves_the_points_by_one():
    model = learned()
    still = np.zeros((1, 4 + len(model.modes)))
    for parameter in range(still.shape[1]):
        moved = still.copy()
        moved[0, parameter] = 1.0
        assert np.linalg.norm(model.shape(moved) - model.shape(still)) == pytest.approx(1.0)


def test_turning_scaling_and_moving_leave_the_modes_alone():
    model = learned()
    parameters = drawn(model)
    shapes = model.shape(parameters)
    points = 1.2 * np.exp(0.4j) * (shapes[..., 0] + 1j * shapes[..., 1]) + 3 - 2j
    np.testing.assert_allclose(model.parameters(as_pairs(points))[:, 4:], parameters[:, 4:], atol=1e-9)


def test_more_modes_leave_less_over():
    shapes = np.random.default_rng(0).normal(size=(60, 6, 2)) + 10 * np.arange(12).reshape(6, 2) % 17
    left = []
    for modes in (1, 4, 8):
        model = ShapeModel.of(shapes, modes)
        left.append(np.abs(model.shape(model.parameters(shapes)) - shapes).mean())
    assert left[0] > left[1] > left[2]
    assert left[2] < 1e-9, "8 modes and a similarity are all that 6 points can do"


def test_implausible_modes_are_cut_and_places_kept():
    model = learned()
    wild = np.full((1, 4 + len(model.modes)), 1e3)
    cut = model.plausible(wild)
    np.testing.assert_allclose(cut[0, 4:], 3 * model.deviations)
    np.testing.assert_array_equal(cut[0, :4], wild[0, :4])


@pytest.mark.parametrize("modes", [0, 11])
def test_modes_that_cannot_be_are_refused(modes):
    with pytest.raises(ValueError, match="can have 1 to 10"):
        learned(modes=modes)

"""Grids, rounding and its gradient, and networks that train through it."""

import numpy as np
import pytest
import torch
from torch import nn

from facelab.blocks import quantisation as q
from facelab.networks.perturbations import quantisation

WEIGHT = torch.randn(6, 3, 5, 5, generator=torch.Generator().manual_seed(0))
GRIDS = {
    "uniform": q.uniform_grid(4),
    "power": q.power_grid(4, 0.6),
    "logarithmic": q.logarithmic_grid(4),
    "lloyd": q.lloyd_grid((WEIGHT.abs() / WEIGHT.abs().max()).flatten().numpy(), 4),
    "unsigned": q.uniform_grid(3, signed=False),
}


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
@pytest.mark.parametrize("per_channel", [False, True])
def test_the_uniform_grid_rounds_as_the_perturbation_of_that_name_does(bits, per_channel):
    found = q.quantise(WEIGHT, q.uniform_grid(bits), q.scale_of(WEIGHT, 0 if per_channel else None))
    torch.testing.assert_close(found, quantisation(WEIGHT, bits, per_channel=per_channel))


def test_levels_in_closed_form():
    np.testing.assert_allclose(q.uniform_grid(3).levels, [0, 1 / 3, 2 / 3, 1])
    np.testing.assert_allclose(q.power_grid(3, 0.5).levels, [0, 1 / 9, 4 / 9, 1])
    np.testing.assert_allclose(q.power_grid(3, 0.5).thresholds, [1 / 36, 9 / 36, 25 / 36])
    np.testing.assert_allclose(q.logarithmic_grid(3).levels, [0, 0.25, 0.5, 1])
    np.testing.assert_allclose(q.uniform_grid(1, signed=False).levels, [0, 1])


@pytest.mark.parametrize("grid", GRIDS.values(), ids=GRIDS)
@pytest.mark.parametrize("axis", [None, 0, 1])
def test_rounding_is_odd_idempotent_and_keeps_the_scale(grid, axis):
    scale = q.scale_of(WEIGHT, axis)
    once = q.quantise(WEIGHT, grid, scale)
    torch.testing.assert_close(q.quantise(once, grid, scale), once)
    assert torch.equal(q.quantise(-WEIGHT, grid, scale), -once)
    assert len((once / scale).abs().unique()) <= len(grid.levels) * (1 if axis is None else len(WEIGHT))  # up to rounding
    codes = q.codes_of(WEIGHT, grid, scale)
    assert torch.equal(scale * (codes.sign() * torch.tensor(grid.levels, dtype=WEIGHT.dtype)[codes.abs()]), once)


def test_lloyd_has_the_least_error_and_means_of_its_cells():
    magnitudes = (WEIGHT.abs() / WEIGHT.abs().max()).flatten().double().numpy()
    scale = q.scale_of(WEIGHT)
    errors = {name: float((q.quantise(WEIGHT, grid, scale) - WEIGHT).square().mean()) for name, grid in GRIDS.items() if name != "unsigned"}
    assert min(errors, key=lambda name: errors[name]) == "lloyd"
    grid = GRIDS["lloyd"]
    cells = np.searchsorted(grid.thresholds, magnitudes)
    for cell in range(1, len(grid.levels)):
        np.testing.assert_allclose(grid.levels[cell], magnitudes[cells == cell].mean(), rtol=0.02)


def test_gradients_go_straight_through_but_not_where_values_are_clipped():
    x = torch.tensor([-2.0, -0.6, 0.1, 0.9, 3.0], requires_grad=True)
    y = q.quantise(x, q.uniform_grid(3), 1.0)
    torch.testing.assert_close(y, torch.tensor([-1.0, -2 / 3, 0.0, 1.0, 1.0]))
    (y * torch.arange(5.0)).sum().backward()
    torch.testing.assert_close(x.grad, torch.tensor([0.0, 1.0, 2.0, 3.0, 0.0]))


def test_zeros_stay_zeros():
    assert torch.equal(q.quantise(torch.zeros(3, 2), q.uniform_grid(4), q.scale_of(torch.zeros(3, 2), 0)), torch.zeros(3, 2))


def test_inputs_are_scaled_by_the_batch_in_training_and_by_the_mean_of_scales_afterwards():
    rounding = q.InputQuantisation(q.uniform_grid(8), momentum=0.5).train()
    for largest in (1.0, 3.0):
        x = torch.linspace(-largest, largest, 11)
        torch.testing.assert_close(rounding(x), quantisation(x, 8))
    assert float(rounding.scale) == 2.0
    assert float(rounding.eval()(torch.tensor([5.0]))) == 2.0
    fresh = q.InputQuantisation(q.uniform_grid(4, signed=False), signed=False).eval()
    assert fresh(torch.tensor([-1.0, 2.0])).tolist() == [0.0, 2.0] and float(fresh.scale) == 2.0


def test_a_network_trains_behind_its_rounded_weights_and_keeps_them():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(36, 3))
    images, labels = torch.rand(16, 1, 5, 5), torch.arange(16) % 3

    def rule(weight):
        return q.quantise(weight, q.uniform_grid(3), q.scale_of(weight, 0))

    student = q.quantisation_aware(model, rule, lambda: q.InputQuantisation(q.uniform_grid(8)))
    optimizer = torch.optim.Adam(student.parameters(), 0.02)
    losses = []
    for _ in range(30):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(student.train()(images), labels)
        loss.backward()
        optimizer.step()
        losses.append(float(loss))
    assert losses[-1] < 0.8 * losses[0]
    stored = q.with_rounded_weights(student.eval())
    torch.testing.assert_close(stored(images), student(images))
    weight = stored[0][1].weight
    torch.testing.assert_close(q.quantise(weight, q.uniform_grid(3), q.scale_of(weight, 0)), weight)
    assert not torch.equal(weight, model[0].weight) and len(list(stored.parameters())) == len(list(model.parameters()))


def test_sixteen_bits_are_as_good_as_floats():
    model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 4)).eval()
    x = torch.randn(32, 8)
    rounded = q.quantisation_aware(
        model, lambda w: q.quantise(w, q.uniform_grid(16), q.scale_of(w, 0)), lambda: q.InputQuantisation(q.uniform_grid(16))
    )
    torch.testing.assert_close(rounded.eval()(x), model(x), atol=2e-3, rtol=0)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: q.uniform_grid(1), "no grid of 1 bits; choose 2 to 16"),
        (lambda: q.power_grid(4, 0.0), "give an exponent above 0"),
        (lambda: q.Grid((0.0, 1.0), ()), "give rising levels and one less"),
    ],
)
def test_what_is_no_grid_is_refused(call, words):
    with pytest.raises(ValueError, match=words):
        call()

"""Modes of a density of weights: against the density itself, closed forms and limits."""

import numpy as np
import pytest
import torch
from scipy.stats import gaussian_kde, norm
from torch import nn

from facelab.networks.hashing import bandwidth, find_modes, hashed


@pytest.fixture
def weights():
    return 0.1 * torch.randn(40, 60, generator=torch.Generator().manual_seed(0))


def test_density_is_that_of_a_sum_of_gaussians(weights):
    width = bandwidth(weights)
    modes = find_modes(weights, width)
    exact = gaussian_kde(weights.flatten().numpy(), bw_method=width / float(weights.numpy().std(ddof=1)))(modes.grid[::7])
    assert np.allclose(modes.density[::7], exact, atol=0.01 * exact.max())
    assert np.trapezoid(modes.density, modes.grid) == pytest.approx(1.0, abs=1e-6)


def test_values_are_maxima_and_fences_minima(weights):
    modes = find_modes(weights, 0.2 * bandwidth(weights))
    assert len(modes.values) == len(modes.fences) + 1 > 5
    assert (modes.values[:-1] < modes.fences).all() and (modes.fences < modes.values[1:]).all()
    there = np.interp(modes.values, modes.grid, modes.density)
    between = np.interp(modes.fences, modes.grid, modes.density)
    assert (between < there[:-1]).all() and (between < there[1:]).all()


def test_two_bumps():
    """The maxima of two Gaussians far apart are their means, and the minimum lies in the middle."""
    values = torch.tensor(
        np.concatenate([norm(-1, 0.1).ppf(np.linspace(0.001, 0.999, 500)), norm(2, 0.1).ppf(np.linspace(0.001, 0.999, 500))])
    )
    modes = find_modes(values, 0.1)
    assert modes.values == pytest.approx([-1, 2], abs=1e-3)
    assert modes.fences == pytest.approx([0.5], abs=0.5)


def test_hash_is_monotone_and_idempotent(weights):
    modes = find_modes(weights, 0.25 * bandwidth(weights))
    once = modes.hash(weights)
    assert torch.equal(modes.hash(once), once) and once.dtype == weights.dtype and once.shape == weights.shape
    ordered = weights.flatten().sort().values
    assert (modes.hash(ordered).diff() >= 0).all()
    assert len(once.unique()) == len(modes.values)
    assert modes.displacement(weights) == pytest.approx(float((once - weights).abs().max()))


def test_a_fence_belongs_to_the_cell_above():
    modes = find_modes(torch.tensor([0.0, 0.0, 1.0, 1.0]), 0.1)
    fence = torch.tensor(modes.fences)
    assert modes.indices(torch.cat([fence, fence - 1e-9])).tolist() == [1, 0]


def test_small_bandwidth_changes_nothing():
    values = torch.linspace(-1, 1, 50)
    assert torch.equal(find_modes(values, 1e-4).hash(values), values)
    two = torch.tensor([-0.3, 0.7]).repeat(20)
    assert torch.equal(find_modes(two, 0.01).hash(two), two)


def test_equal_weights_have_one_mode():
    modes = find_modes(torch.full((3, 3), 0.25), 1.0)
    assert modes.values.tolist() == [0.25] and modes.hash(torch.full((2,), 0.25)).tolist() == [0.25, 0.25]
    assert bandwidth(torch.full((3, 3), 0.25)) == 0


def test_bandwidth_follows_the_scale_and_survives_zeros(weights):
    assert bandwidth(3 * weights) == pytest.approx(3 * bandwidth(weights))
    sparse = torch.where(torch.rand(weights.shape, generator=torch.Generator().manual_seed(1)) < 0.8, 0.0, weights)
    assert bandwidth(sparse) > 0


def test_a_network_keeps_two_values_in_each_layer(weights):
    model = nn.Sequential(nn.Linear(60, 40), nn.ReLU(), nn.Linear(40, 3))
    model[0].weight.data = weights.clone()
    result, modes = hashed(model, scale=50.0)
    assert all(len(found.values) >= 2 for found in modes.values())
    assert len(result[0].weight.unique()) == len(modes["0"].values) and torch.equal(result[0].bias, model[0].bias)
    assert torch.equal(model[0].weight, weights), "the network itself stays as it is"


def test_what_cannot_be_hashed_is_said(weights):
    with pytest.raises(ValueError, match="too small for weights"):
        find_modes(weights, 1e-9)
    with pytest.raises(ValueError, match="not all finite"):
        find_modes(torch.tensor([1.0, torch.nan]), 0.1)
    with pytest.raises(ValueError, match="A scale of 0"):
        hashed(nn.Linear(2, 2), scale=0)

"""PowerQuant: powers keep products, grids by hand, the search never loses, ranges that batch norms know, networks of all kinds."""

import math

import numpy as np
import pytest
import torch
from nets import Plain, Residual
from torch import nn

from facelab.blocks import seeded
from facelab.blocks.quantisation import codes_of, lloyd_grid, power_grid, scale_of
from facelab.methods.powerquant import (
    find_exponent,
    inputs_without_data,
    kept_weights,
    power_rule,
    powered,
    quantised,
    reconstruction_error,
    rounded,
    with_weights,
)
from facelab.networks.folding import folded


def gaussian(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def laplace(*shape: int) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(0).laplace(size=shape)).float()


def mixed() -> nn.Sequential:
    """Depthwise, grouped and transposed convolutions."""
    with seeded(0):
        return nn.Sequential(
            nn.Conv2d(1, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU(), nn.Conv2d(6, 6, 3, padding=1, groups=6), nn.GELU(),
            nn.ConvTranspose2d(6, 8, 2, groups=2),
            nn.ReLU(), nn.Conv2d(8, 8, 3, groups=2), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4),
        ).eval()  # fmt: skip


def test_rounding_by_hand():
    weight = torch.tensor([[9.0, -4.0, 3.5, 0.2, 0.0]])
    assert torch.equal(rounded(weight, 0.5, 3), torch.tensor([[9.0, -4.0, 4.0, 0.0, 0.0]])), "levels are squares"
    assert rounded(weight, 1.0, 3).tolist() == [[9.0, -3.0, 3.0, 0.0, 0.0]], "even steps"


def test_the_formula_of_the_paper():
    weight, exponent, bits = gaussian(40, 7), 0.63, 4
    scale = powered(weight, exponent).abs().amax(dim=1, keepdim=True) / (2 ** (bits - 1) - 1)
    codes = (powered(weight, exponent) / scale).round()
    assert torch.equal(codes.long(), codes_of(weight, power_grid(bits, exponent), scale_of(weight, 0)))
    assert torch.allclose(rounded(weight, exponent, bits), powered(codes * scale, 1 / exponent), rtol=1e-4)


@pytest.mark.parametrize("exponent", [0.3, 0.5, 1.0, 1.7])
def test_powers_keep_products(exponent):
    x, y = gaussian(50).double(), gaussian(50, seed=1).double()
    assert torch.allclose(powered(x, exponent) * powered(y, exponent), powered(x * y, exponent))
    assert torch.allclose(powered(powered(x, exponent), 1 / exponent), x)


@pytest.mark.parametrize("axis", [None, 0])
@pytest.mark.parametrize("exponent", [0.2, 0.5, 1.0, 1.3])
def test_rounding_is_odd_monotone_and_done_once(exponent, axis):
    weight = gaussian(6, 30).sort(dim=1).values
    once = rounded(weight, exponent, 4, axis)
    assert torch.equal(rounded(once, exponent, 4, axis), once)
    assert torch.equal(rounded(-weight, exponent, 4, axis), -once)
    assert (once.diff(dim=1) >= 0).all()
    assert torch.equal(scale_of(once, axis), scale_of(weight, axis)), "the largest stays"
    assert all(len(row.unique()) <= 15 for row in once)


def test_the_search_finds_the_valley_and_never_loses():
    for weight in (gaussian(50, 64), laplace(50, 64), torch.rand(50, 64) - 0.5):
        found = find_exponent([weight], 4)
        least = min(reconstruction_error([weight], a, 4) for a in np.arange(0.2, 1.3, 0.02))
        assert reconstruction_error([weight], found, 4) <= min(reconstruction_error([weight], 1.0, 4), 1.02 * least)


def test_heavy_tails_want_small_exponents():
    light, middle, heavy = (find_exponent([own], 4) for own in (torch.rand(64, 500) - 0.5, gaussian(64, 500), laplace(64, 500)))
    assert heavy < middle < light and light > 0.9
    assert reconstruction_error([laplace(64, 500)], heavy, 4) < 0.9 * reconstruction_error([laplace(64, 500)], 1.0, 4)


def test_a_layer_of_zeros_stays():
    weights = [torch.zeros(3, 4), gaussian(5, 6)]
    assert torch.equal(rounded(weights[0], 0.5, 3), weights[0])
    assert math.isfinite(reconstruction_error(weights, find_exponent(weights, 3), 3))


def test_errors_add_up_over_layers():
    first, second = gaussian(4, 9), gaussian(7, 3, seed=1)
    parts = [float((rounded(own, 0.7, 3) - own).norm()) for own in (first, second)]
    assert reconstruction_error([first, second], 0.7, 3) == pytest.approx(sum(parts))


@pytest.mark.parametrize("kind", [Plain, Residual, mixed])
def test_networks_of_all_kinds(kind):
    with seeded(0):
        model = kind().eval()
    images = torch.randn(4, 1, 12, 12, generator=torch.Generator().manual_seed(3))
    expected = model(images).detach()
    flat = folded(model, images)
    before = {name: own.clone() for name, own in kept_weights(flat).items()}
    inputs = inputs_without_data(model, images)
    fine = quantised(flat, power_rule(0.8), 12, inputs, axis=0)(images).detach()
    coarse = quantised(flat, power_rule(0.8), 2)(images).detach()
    assert (fine - expected).norm() < 0.05 * expected.norm() < 5 * (coarse - expected).norm()
    assert all(torch.equal(own, before[name]) for name, own in kept_weights(flat).items()), "the network stays as it is"
    assert torch.equal(model(images), expected)


def test_each_channel_has_a_scale_even_in_transposed_convolutions():
    layer = nn.ConvTranspose2d(2, 3, 2)
    found = with_weights(nn.Sequential(layer), lambda weight: rounded(weight, 1.0, 2))[0].weight
    for channel in range(3):
        own = layer.weight[:, channel].detach()
        assert set(found[:, channel].abs().unique().tolist()) <= {0.0, float(own.abs().max())}


def test_batch_norms_know_what_comes_next():
    model = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2), nn.ReLU(), nn.Linear(2, 2))
    nn.init.constant_(model[1].bias, 5.0)
    nn.init.constant_(model[1].weight, 0.1)
    model[1].running_mean.fill_(100.0)  # noise must not be measured by it
    known = inputs_without_data(model.eval(), gaussian(1000, 3))
    assert not known["3"].signed and known["0"].signed
    assert float(known["3"].sample.mean()) == pytest.approx(5.0, abs=0.01)
    assert float(known["3"].sample.std()) == pytest.approx(0.1, abs=0.01)
    assert float(model[1].running_mean[0]) == 100.0


def test_rules_are_told_what_they_round():
    model = nn.Sequential(nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, 2)).eval()
    told = []

    def rule(magnitudes, bits, signed):
        told.append(signed)
        assert magnitudes.min() >= 0 and magnitudes.max() <= 1
        return lloyd_grid(magnitudes, bits, signed=signed)

    quantised(model, rule, 4, inputs_without_data(model, gaussian(200, 5)))
    assert told == [True, True, True, False]

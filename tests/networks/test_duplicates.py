"""Planted duplicates: the wide network computes the same, and every neuron knows whose copy it is."""

import pytest
import torch
from torch import nn

from facelab.blocks import seeded
from facelab.networks.duplicates import duplicated


def network() -> nn.Sequential:
    with seeded(0):
        return nn.Sequential(nn.Flatten(), nn.Linear(12, 5), nn.ReLU(), nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, 3)).double()


def test_it_computes_the_same_and_names_its_copies():
    small, inputs = network(), torch.randn(7, 3, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    wide, labels = duplicated(small, copies=3)
    assert torch.allclose(wide(inputs), small(inputs), atol=1e-12)
    assert [wide[i].weight.shape for i in (1, 3, 5)] == [(15, 12), (12, 15), (3, 12)]
    assert list(labels) == ["1", "3"]
    assert torch.equal(wide[1].weight, small[1].weight[labels["1"]])
    assert labels["1"].bincount().tolist() == [3] * 5
    assert not torch.equal(labels["1"], torch.arange(5).repeat(3)), "they are shuffled"


def test_noise_and_seed():
    once, again, other = (duplicated(network(), 4, 0.1, seed)[0][1].weight for seed in (0, 0, 1))
    assert torch.equal(once, again) and not torch.equal(once, other)
    exact = duplicated(network(), 4, 0.0, 0)[0][1].weight
    assert float((once - exact).detach().std() / exact.detach().std()) == pytest.approx(0.1, rel=0.2)


def test_what_it_refuses():
    with pytest.raises(ValueError, match="copies=0 leaves no neuron"):
        duplicated(network(), 0)
    with pytest.raises(ValueError, match="layer 0 is no linear layer"):
        duplicated(nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten(), nn.Linear(8, 3)), 2)

"""The tree on planted cases with a known answer, its limiting cases, and the winner on networks with ties, norms and depthwise layers."""

import itertools

import nets
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from facelab.blocks import seeded
from facelab.methods.archtree import Candidates, archtree, grow
from facelab.networks.devices import EDGE, clock, stopwatch
from facelab.networks.groups import cut

IMAGES = torch.randn(20, 1, 12, 12, generator=torch.Generator().manual_seed(0))
LABELS = torch.arange(20) % 4


def two_layers(second: float) -> nn.Sequential:
    """Linear layers a, b of 16 channels, each with one path of its own to the answer; the channels of b weigh `second`, those of a 1."""

    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b, self.of_a, self.of_b = nn.Linear(16, 16), nn.Linear(16, 16), nn.Linear(16, 1), nn.Linear(16, 1)
            for layer, weight in ((self.a, torch.eye(16)), (self.b, torch.eye(16))):
                layer.weight.data, layer.bias.data = weight.clone(), torch.zeros(16)
            self.of_a.weight.data.fill_(1.0), self.of_b.weight.data.fill_(second)

        def forward(self, x):
            return self.of_a(self.a(x)) + self.of_b(self.b(x))

    return Two().eval()


def tiles(widths) -> float:
    return float(np.prod([-(-width // 8) for width in widths.values()]))


def planted(second: float):
    """Two layers, one-hot inputs, and the answers of the whole network to come near to."""
    model, x = two_layers(second), torch.eye(16)
    with torch.no_grad():
        return model, (x, model(x) + 0.1)  # so that there is a slope


def test_the_less_important_of_two_layers_goes():
    for second, expected in ((1.1, (8, 16)), (0.9, (16, 8))):
        model, data = planted(second)
        smaller, nodes = archtree(model, data[0][:2], data, 2.0, tiles, loss=F.mse_loss)
        assert nodes.widths[nodes.chosen].item() == expected
        assert (smaller.a.out_features, smaller.b.out_features) == expected


def test_importance_by_the_closed_form():
    """Mean squared error: channel i is read by one sample alone, with weight w and residual -0.1, so w dL/dw = -2 * 0.1 * w / 16."""
    model, data = planted(3.0)
    candidates = Candidates(model, data[0][:2], data, F.mse_loss)
    for found, weight in zip(candidates.importance(candidates.whole), (1.0, 3.0), strict=True):
        torch.testing.assert_close(found, torch.full((16,), 2 * 0.1 * weight / 16))


def network(net, *arguments):
    with seeded(0):
        return nets.lively(net(*arguments))


class Depthwise(nn.Sequential):
    def __init__(self):
        super().__init__(
            *(nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.Conv2d(16, 16, 3, padding=1, groups=16)),
            *(nn.BatchNorm2d(16), nn.ReLU(), nn.Conv2d(16, 24, 1), nn.ReLU(), nn.MaxPool2d(6), nn.Flatten(), nn.Linear(96, 4)),
        )


@pytest.mark.parametrize("net", [nets.Plain, nets.Residual, nets.Squeezing, Depthwise])
def test_the_winner_is_cut_as_it_was_scored(net):
    model = network(net)
    ticks = clock(EDGE, model, IMAGES)
    budget = 0.9 * ticks({})
    if net is not Depthwise:  # narrower than a tile: nothing is won, so the device counts single channels
        budget, ticks = 0.7 * sum(Candidates(model, IMAGES, (IMAGES, LABELS)).widths(((),) * 99).values()), lambda w: sum(w.values())
    tree = grow(Candidates(model, IMAGES, (IMAGES, LABELS)), ticks, budget, step=2)
    smaller, nodes = archtree(model, IMAGES, (IMAGES, LABELS), budget, ticks, step=2)
    assert nodes.equals(tree.nodes) and nodes.latency[tree.winner] <= budget
    with torch.no_grad():
        assert float(F.cross_entropy(smaller(IMAGES), LABELS)) == pytest.approx(nodes.score[tree.winner], rel=1e-4)
    assert sum(p.numel() for p in smaller.parameters()) < sum(p.numel() for p in model.parameters())

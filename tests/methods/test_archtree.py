"""The tree on planted cases with a known answer, its limiting cases, and the winner on networks with ties, norms and depthwise layers."""

import itertools

import nets
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from facelab.blocks import seeded
from facelab.methods.archtree import Candidates, archtree, grow, single_path, uniform, widest
from facelab.networks.devices import Device, clock, stopwatch

IMAGES = torch.randn(20, 1, 12, 12, generator=torch.Generator().manual_seed(0))
LABELS = torch.arange(20) % 4
SMOOTH = Device("smooth", tile=1, start=1.0, rate=1.0)


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


@pytest.mark.parametrize("net", [nets.Plain, nets.Residual, nets.Squeezing, nets.Hourglass, Depthwise])
def test_the_winner_is_cut_as_it_was_scored(net):
    model = network(net)
    ticks = clock(SMOOTH, model, IMAGES)
    budget = 0.8 * ticks({})
    tree = grow(Candidates(model, IMAGES, (IMAGES, LABELS)), ticks, budget, step=2)
    smaller, nodes = archtree(model, IMAGES, (IMAGES, LABELS), budget, ticks, step=2)
    assert nodes.equals(tree.nodes) and nodes.latency[tree.winner] <= budget
    with torch.no_grad():
        assert float(F.cross_entropy(smaller(IMAGES), LABELS)) == pytest.approx(nodes.score[tree.winner], rel=1e-4)
    assert sum(p.numel() for p in smaller.parameters()) < sum(p.numel() for p in model.parameters())


def test_importance_is_the_slope_of_a_factor_on_what_is_read():
    """By finite differences in double precision, also where a transposed convolution or several layers read a channel."""
    model = network(nets.Hourglass).double().requires_grad_(False)
    data = IMAGES.double(), LABELS
    candidates = Candidates(model, data[0], data)
    found = candidates.importance(candidates.whole)
    for group, channels in zip(candidates.groups, found, strict=True):
        losses = []
        for factor in (1e-5, -1e-5):
            copy = nets.lively(nets.Hourglass()).double()
            copy.load_state_dict(model.state_dict())
            for name, columns in group.consumers.items():
                module = copy.get_submodule(name)
                axis = 0 if isinstance(module, nn.ConvTranspose2d) else 1
                module.weight.data.movedim(axis, 0)[columns[0]] *= 1 + factor
            losses.append(float(F.cross_entropy(copy(data[0]), LABELS)))
        assert abs(losses[0] - losses[1]) / 2e-5 == pytest.approx(float(channels[0]), rel=1e-4, abs=1e-8)


def digits_like():
    """A small trained-like network with norms and its data; enough for a tree."""
    model = network(nets.Residual, (8, 16), 1)
    return model, Candidates(model, IMAGES, (IMAGES, LABELS))


def test_a_budget_that_the_network_meets_leaves_it_alone():
    model, candidates = digits_like()
    ticks = clock(SMOOTH, model, IMAGES)
    tree = grow(candidates, ticks, ticks({}))
    assert len(tree.nodes) == 1 and tree.best == candidates.whole


def test_a_beam_as_wide_as_a_depth_visits_every_order_of_cuts():
    model, data = planted(1.1)
    candidates = Candidates(model, data[0][:2], data, F.mse_loss)
    tree = grow(candidates, lambda widths: float(sum(widths.values())), 16.0, beam=99, step=4)
    assert set(tree.nodes.widths) == {w for w in itertools.product((16, 12, 8, 4), repeat=2) if sum(w) >= 16 or sum(w) + 4 > 16}
    fits = tree.nodes[tree.nodes.fits]
    assert tree.nodes.score[tree.winner] == fits.score.min()


def test_every_node_follows_from_its_parent():
    model, candidates = digits_like()
    ticks = clock(SMOOTH, model, IMAGES)
    tree = grow(candidates, ticks, 0.8 * ticks({}), beam=2, step=4)
    nodes = tree.nodes
    assert (nodes.groupby("depth").kept.sum() <= 2).all() and nodes.chosen.sum() == 1
    assert not (nodes.kept & nodes.fits).any() and nodes.fits[tree.winner]
    for number, node in nodes.iloc[1:].iterrows():
        before, place = tree.gone[node.parent], tree.groups.index(node.group)
        assert nodes.kept[node.parent] and nodes.depth[node.parent] == node.depth - 1
        assert tree.gone[number] == candidates.narrower(before, place, 4)
        assert node.latency == ticks(candidates.widths(tree.gone[number])) < nodes.latency[node.parent]
        assert node.score == candidates.score(tree.gone[number])


def test_threads_and_memory_change_nothing():
    model, candidates = digits_like()
    ticks = clock(SMOOTH, model, IMAGES)
    alone = grow(candidates, ticks, 0.8 * ticks({}), step=4)
    side_by_side = grow(Candidates(model, IMAGES, (IMAGES, LABELS)), ticks, 0.8 * ticks({}), step=4, n_jobs=2)
    assert alone.gone == side_by_side.gone and alone.nodes.equals(side_by_side.nodes)
    assert alone.gone == grow(candidates, ticks, 0.8 * ticks({}), step=4).gone


def test_fixed_importance_makes_the_order_of_cuts_irrelevant():
    model, _ = digits_like()
    fixed = Candidates(model, IMAGES, (IMAGES, LABELS), fixed=True)
    one, other = (fixed.narrower(fixed.narrower(fixed.whole, a, 4), b, 4) for a, b in ((0, 1), (1, 0)))
    assert one == other == fixed.at_once(fixed.widths(one))


def test_the_single_path_cuts_the_layer_that_costs_least():
    model, data = planted(1.1)
    candidates = Candidates(model, data[0][:2], data, F.mse_loss)
    assert tuple(candidates.widths(single_path(candidates, tiles, 2.0)).values()) == (8, 16)
    with pytest.raises(ValueError, match="ends above the budget"):
        single_path(candidates, tiles, 0.5)


def test_the_widest_within_a_budget():
    model, data = planted(1.1)
    candidates = Candidates(model, data[0][:2], data, F.mse_loss)
    found = widest(candidates, lambda widths: float(sum(widths.values())), 20.0, step=6)
    assert [tuple(widths.values()) for widths in found] == [(6, 12), (12, 6)]  # 16 and 6 are too many


def test_uniform_widths_within_a_budget():
    model, data = planted(1.1)
    candidates = Candidates(model, data[0][:2], data, F.mse_loss)
    assert uniform(candidates, tiles, 4.0) == {"a": 16, "b": 16}
    assert uniform(candidates, tiles, 3.0) == {"a": 8, "b": 8}
    with pytest.raises(ValueError, match="Even 8 channels"):
        uniform(candidates, tiles, 0.5)


def test_a_stopwatch_can_be_the_clock():
    model, data = planted(1.1)
    watch = stopwatch(model, data[0][:2], rounds=3)
    smaller, nodes = archtree(model, data[0][:2], data, 10 * watch({}), watch, loss=F.mse_loss)
    assert len(nodes) == 1 and (nodes.latency > 0).all() and smaller.a.out_features == 16


def test_what_cannot_be_done_is_said():
    model, data = planted(1.1)
    with pytest.raises(ValueError, match="the fastest takes 1"):
        archtree(model, data[0][:2], data, 0.5, tiles, loss=F.mse_loss)
    with pytest.raises(ValueError, match="beam = 0"):
        archtree(model, data[0][:2], data, 2.0, tiles, loss=F.mse_loss, beam=0)
    with pytest.raises(ValueError, match=r"No channels of Preactivated can be cut: stem.conv1 because conv2 is a grouped convolution"):
        Candidates(nets.Preactivated().eval(), IMAGES, (IMAGES, LABELS))
    with pytest.raises(ValueError, match="No channels of Linear can be cut"):
        archtree(nn.Linear(3, 2), torch.ones(2, 3), (torch.ones(2, 3), torch.zeros(2, 2)), 1.0, tiles, loss=F.mse_loss)

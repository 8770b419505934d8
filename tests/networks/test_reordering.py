"""Channels in another order compute the same, behind flattenings, depthwise convolutions and residual connections."""

import numpy as np
import own_networks
import pytest
import torch
from torch import nn

from facelab.compression import zoo
from facelab.networks.evaluation import answers, same_answers
from facelab.networks.folding import folded
from facelab.networks.moments import inputs_of, patches
from facelab.networks.reordering import free_groups, reordered

EXAMPLE = own_networks.loaders()[1][0][0]


@pytest.mark.parametrize("architecture", ["plain", "residual", "depthwise", "transformer"])
def test_any_order_computes_the_same(architecture):
    x = torch.rand(3, 1, 16, 16)
    whole = folded(zoo.load("digits", architecture), x)
    free = free_groups(whole, x)
    assert len(free) >= 2
    orders = {group: np.random.default_rng(0).permutation(group.width) for group in free}
    again = reordered(whole, orders)
    assert same_answers(answers(again, x), answers(whole, x))
    group = free[0]
    name, rows = next(iter(group.producers.items()))
    weights = [model.get_submodule(name).weight.detach().flatten(1).sort(dim=1).values for model in (again, whole)]  # inputs move as well
    assert torch.equal(weights[0][rows[:, 0]], weights[1][rows[orders[group], 0]])
    with pytest.raises(ValueError, match="name each of its"):
        reordered(whole, {group: np.zeros(group.width, dtype=int)})


def test_a_tied_group_has_one_order():
    x = torch.rand(3, 1, 16, 16)
    free = free_groups(folded(zoo.load("digits", "residual"), x), x)
    assert max(len(group.producers) for group in free) >= 2


@pytest.mark.parametrize(
    "layer",
    [nn.Linear(5, 6, bias=False), nn.Conv1d(4, 6, 3, padding=1, groups=2, bias=False), nn.Conv2d(4, 6, 3, stride=2, bias=False)],
    ids=["linear", "grouped", "strided"],
)
def test_patches_times_weights_are_outputs(layer):
    x = torch.rand({nn.Linear: (7, 5), nn.Conv1d: (7, 4, 9), nn.Conv2d: (7, 4, 9, 9)}[type(layer)])
    model = nn.Sequential(layer)
    met = patches(layer, inputs_of(model, x, ["0"])["0"])
    made = met @ layer.weight.flatten(1).unflatten(0, (len(met), -1)).transpose(1, 2)  # (groups, rows, outputs of a group)
    outputs = layer(x).movedim(1, -1) if x.ndim > 2 else layer(x)
    torch.testing.assert_close(made.permute(1, 0, 2).flatten(1), outputs.flatten(0, -2))

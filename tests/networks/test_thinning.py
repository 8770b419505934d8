"""Pruning by a score: the lowest go, L1 is torch-pruning's, FPGM drops what lies in the middle."""

import pytest
import torch
import torch_pruning
from nets import Plain
from torch import nn

from facelab.blocks import seeded
from facelab.networks.folding import folded
from facelab.networks.groups import cut, groups
from facelab.networks.thinning import distance_to_others, l1, thinned


def test_it_computes_what_the_cut_network_does():
    with seeded(0):
        model, images = Plain().eval(), torch.randn(4, 1, 12, 12)
    model = folded(model, images)
    found = groups(model, images)
    first = {group.name: list(range(group.width - -(-group.width // 2))) for group in found}
    smaller = thinned(model, images, 0.5, lambda rows: torch.arange(len(rows)))
    assert torch.allclose(smaller(images), cut(model, images, first)(images), atol=1e-5)
    assert torch.allclose(thinned(model, images, 1.0, l1)(images), model(images))
    with pytest.raises(ValueError, match="keep=0 is not a share"):
        thinned(model, images, 0, l1)


def test_l1_is_that_of_torch_pruning():
    with seeded(0):
        model = nn.Sequential(nn.Linear(9, 7), nn.ReLU(), nn.Linear(7, 2))
    graph = torch_pruning.DependencyGraph().build_dependency(model, torch.zeros(1, 9))
    group = graph.get_pruning_group(model[0], torch_pruning.prune_linear_out_channels, list(range(7)))
    criterion = torch_pruning.importance.MagnitudeImportance(p=1, normalizer=None, group_reduction="first")
    assert torch.allclose(l1(model[0].weight.data), criterion(group))


def test_the_middle_goes_first():
    rows = torch.tensor([[0.0, 0], [1, 0], [0, 1], [-1, 0], [0, -1]])
    assert torch.allclose(distance_to_others(rows), torch.tensor([4.0, *[3 + 2 * 2**0.5] * 4]))

"""Criteria of torch-pruning: that each ranks as its definition says, on networks with ties, depthwise convolutions and attention."""

import own_networks
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from facelab.blocks import seeded
from facelab.compression.opponents import CRITERIA, pruned

TRAINING, TEST = own_networks.loaders()
IMAGES, LABELS = TRAINING[0]


def chain():
    with seeded(0):
        return nn.Sequential(nn.Conv2d(3, 6, 3, bias=False), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 4)).eval()


def kept(small, model):
    """Which channels of the first layer are left."""
    rows = model[0].weight.detach().flatten(1)
    return sorted(int((rows - row).abs().sum(dim=1).argmin()) for row in small[0].weight.detach().flatten(1))


def test_l1_keeps_the_largest():
    model = chain()
    size = model[0].weight.detach().abs().flatten(1).sum(1) + model[4].weight.detach().abs().sum(
        0
    )  # the group, as torch-pruning adds it up
    small, report = pruned(model, IMAGES, 0.5, "l1")
    assert kept(small, model) == sorted(size.topk(3).indices.tolist())
    assert (report.after == 3).all()


def test_taylor_is_the_sum_inside_of_the_absolute_value():
    model = chain()
    weight = model[0].weight
    with torch.no_grad():
        weight[0] = 0.0  # whose product with any gradient is zero
    small, _ = pruned(model, IMAGES, 1 / 6, "taylor", data=(IMAGES, LABELS), loss=F.cross_entropy)
    grads = torch.autograd.grad(F.cross_entropy(model(IMAGES), LABELS), [weight, model[4].weight])
    score = (weight * grads[0]).flatten(1).sum(1).abs() + (model[4].weight * grads[1]).sum(0).abs()
    assert kept(small, model) == sorted(score.topk(5).indices.tolist())


def test_fpgm_drops_one_of_two_equals():
    model = chain()
    weight, out = model[0].weight.data, model[4].weight.data
    weight[:], out[:] = torch.eye(27)[:6].reshape(6, 3, 3, 3), 0.0
    weight[1:4] = weight[:1]  # four at one place, two far away
    small, _ = pruned(model, IMAGES, 1 / 6, "fpgm")
    assert int((small[0].weight.detach().flatten(1)[:, 0] == 1).sum()) == 3


@pytest.mark.parametrize("criterion", CRITERIA)
@pytest.mark.parametrize("build", [own_networks.attentive, own_networks.mobile])
def test_networks_of_a_user(build, criterion):
    model = build()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    small, report = pruned(model, IMAGES, 0.5, criterion, data=(IMAGES, LABELS), loss=F.cross_entropy)
    assert small(IMAGES).shape == (32, 4)
    assert sum(p.numel() for p in small.parameters()) < sum(p.numel() for p in model.parameters())
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert ((report.after < report.before) == (report.obstacle == "")).all()


def test_nothing_removed_is_the_network_itself():
    model = own_networks.mobile()
    small, _ = pruned(model, IMAGES, 0.0)
    assert torch.equal(small(IMAGES), model(IMAGES))


def test_mistakes_are_one_sentence():
    with pytest.raises(ValueError, match="choose one of l1, fpgm, taylor"):
        pruned(chain(), IMAGES, criterion="l2")
    with pytest.raises(ValueError, match="give one from 0"):
        pruned(chain(), IMAGES, 1.0)
    with pytest.raises(ValueError, match="needs a gradient"):
        pruned(chain(), IMAGES, criterion="taylor")

"""Groups of channels: what is tied, what cannot be cut, and that surgery leaves the function as it was."""

import copy

import numpy as np
import pytest
import torch
from torch import nn

from facelab.networks.folding import folded
from facelab.networks.groups import cut, groups, incoming, masked, merged


class Residual(nn.Module):
    """Two additions onto one stream, which a flattening spreads."""

    def __init__(self):
        super().__init__()
        self.stem, self.norm = nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8)
        self.inner, self.inner_norm, self.outer = nn.Conv2d(8, 6, 3, padding=1), nn.BatchNorm2d(6), nn.Conv2d(6, 8, 1)
        self.last = nn.Linear(8 * 16, 10)

    def forward(self, x):
        stream = torch.relu(self.norm(self.stem(x)))
        stream = stream + self.outer(torch.sigmoid(self.inner_norm(self.inner(stream))))
        return self.last(nn.functional.max_pool2d(stream, 2).flatten(1))


class Joined(nn.Module):
    """Two branches side by side."""

    def __init__(self):
        super().__init__()
        self.left, self.right = nn.Conv2d(1, 4, 3), nn.Conv2d(1, 5, 3)
        self.last = nn.Conv2d(9, 3, 1)

    def forward(self, x):
        return self.last(torch.cat([self.left(x).relu(), self.right(x).tanh()], dim=1))


class Encoder(nn.Module):
    """A transformer, whose stream is normed and split among heads."""

    def __init__(self):
        super().__init__()
        self.embed, self.place = nn.Linear(8, 16), nn.Parameter(torch.randn(1, 8, 16))
        self.layer = nn.TransformerEncoderLayer(16, 2, 32, dropout=0.0, batch_first=True)
        self.last = nn.Linear(16, 10)

    def forward(self, x):
        return self.last(self.layer(self.embed(x.squeeze(1)) + self.place).mean(dim=1))


def depthwise() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1), nn.GELU(), nn.Conv2d(8, 8, 3, padding=1, groups=8), nn.Conv2d(8, 12, 1), nn.Sigmoid(),
        nn.Conv2d(12, 12, 3, groups=3), nn.ReLU(), nn.ConvTranspose2d(12, 6, 2), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        nn.Linear(6, 10),
    )  # fmt: skip


BUILDERS = {"residual": Residual, "joined": Joined, "encoder": Encoder, "depthwise": depthwise}


@pytest.fixture(params=BUILDERS)
def network(request):
    """A network with batch norms folded in and a batch for it."""
    torch.manual_seed(0)
    model = BUILDERS[request.param]().eval()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            for values in (module.weight.data, module.bias.data, module.running_mean):
                values.normal_()
            module.running_var.uniform_(0.5, 2.0)
    images = torch.randn(4, 1, 8, 8)
    return folded(model, images), images


def test_what_is_tied_is_one_group():
    torch.manual_seed(0)
    images = torch.randn(2, 1, 8, 8)
    found = {group.name: group for group in groups(folded(Residual().eval(), images), images)}
    assert list(found) == ["stem+outer", "inner"]
    assert found["stem+outer"].consumers["last"].shape == (8, 16), "a channel owns 16 columns behind the flattening"
    assert not found["stem+outer"].obstacle and not found["inner"].obstacle


def test_obstacles_are_named():
    images = torch.randn(2, 1, 8, 8)
    found = {group.name: group.obstacle for group in groups(depthwise().eval(), images)}
    assert "5 is a grouped convolution" in found["3"] and "5 is a grouped convolution" in found["5"]
    assert found["0+2"] == found["7"] == ""
    stream = groups(Encoder().eval(), images)[0]
    assert stream.name == "embed+layer.linear2" and stream.obstacle, "heads and norms mix the channels of the stream"


def test_outputs_are_no_group(network):
    model, images = network
    last = [name for name, module in model.named_modules() if isinstance(module, nn.Linear | nn.Conv2d)][-1]
    assert all(last not in group.producers for group in groups(model, images))


def test_a_cut_network_is_smaller_and_computes_what_the_masked_one_does(network):
    model, images = network
    free = [group for group in groups(model, images) if not group.obstacle]
    gone = {group: [0, group.width - 1] for group in free}
    smaller = cut(model, images, {group.name: channels for group, channels in gone.items()})
    assert torch.allclose(smaller(images), masked(model, gone)(images), atol=1e-5)
    assert not torch.allclose(smaller(images), model(images), atol=1e-5), "something was cut"
    assert {group.name: group.width for group in groups(smaller, images)} == {
        group.name: group.width - 2 * (group in free) for group in groups(model, images)
    }
    assert isinstance(smaller(images).sum().backward(), type(None)), "it can be trained on"


def test_the_network_itself_stays_as_it_is(network):
    model, images = network
    before = copy.deepcopy(model.state_dict())
    free = [group for group in groups(model, images) if not group.obstacle]
    cut(model, images, {free[0].name: [0]})
    merged(model, images, {free[0].name: np.zeros(free[0].width, dtype=int)})
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())


def test_merging_equal_channels_changes_nothing(network):
    model, images = network
    labels = {}
    for group in groups(model, images):
        if group.obstacle:
            continue
        for name, rows in group.producers.items():  # channel 2 becomes a copy of channel 0
            module = model.get_submodule(name)
            axis = 1 if isinstance(module, nn.ConvTranspose2d) else 0
            weight = module.weight.data.movedim(axis, 0)
            weight[rows[2, 0]], module.bias.data[rows[2, 0]] = weight[rows[0, 0]], module.bias.data[rows[0, 0]]
        channels = incoming(model, group)
        assert torch.equal(channels[0], channels[2]) and not torch.equal(channels[0], channels[1])
        labels[group.name] = np.array([0, 1, 0, *range(3, group.width)])
    smaller = merged(model, images, labels)
    assert torch.allclose(smaller(images), model(images), atol=1e-5)
    widths = {group.name: group.width for group in groups(model, images)}
    assert all(group.width == widths[group.name] - (group.name in labels) for group in groups(smaller, images))


def test_unlike_channels_become_their_mean_and_their_readers_add_up():
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 1))
    model[0].weight.data, model[0].bias.data = torch.tensor([[1.0, 2.0], [3.0, 6.0]]), torch.tensor([0.0, 4.0])
    model[1].weight.data = torch.tensor([[10.0, 20.0]])
    smaller = merged(model, torch.ones(1, 2), {"0": np.array([7, 7])})
    assert smaller[0].weight.tolist() == [[2.0, 4.0]] and smaller[0].bias.tolist() == [2.0]
    assert smaller[1].weight.tolist() == [[30.0]]


def test_labels_that_are_all_different_change_nothing(network):
    model, images = network
    free = {group.name: np.arange(group.width)[::-1] for group in groups(model, images) if not group.obstacle}
    assert torch.allclose(merged(model, images, free)(images), model(images), atol=1e-6)


def test_what_cannot_be_done_is_said():
    images = torch.randn(2, 1, 8, 8)
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 2, 3)).eval()
    with pytest.raises(ValueError, match=r"no group of channels 'nothing'; choose some of \('0',\)"):
        cut(model, images, {"nothing": [0]})
    with pytest.raises(ValueError, match=r"Of the 4 channels of 0, .* leave one"):
        cut(model, images, {"0": [0, 1, 2, 3]})
    with pytest.raises(ValueError, match="fold batch norms first"):
        merged(model, images, {"0": np.zeros(4, dtype=int)})
    with pytest.raises(ValueError, match="There are 3 labels for the 4 channels"):
        merged(model, images, {"0": np.zeros(3, dtype=int)})
    with pytest.raises(ValueError, match="grouped convolution"):
        cut(depthwise(), images, {"3": [0]})


def test_what_keeps_channels_from_merging_is_named():
    images = torch.rand(2, 3, 8, 8)
    plain, normed = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)
    (free,) = groups(nn.Sequential(plain, nn.ReLU(), nn.Conv2d(4, 2, 3)).eval(), images)
    assert free.merge_obstacle == ""
    model = nn.Sequential(plain, normed, nn.Conv2d(4, 2, 3)).eval()
    (held,) = groups(model, images)
    assert not held.obstacle
    assert held.merge_obstacle == "1 has weights of its own for each"
    with pytest.raises(ValueError, match=r"cannot be merged, as 1 has weights of its own for each; fold batch norms first"):
        merged(model, images, {held.name: np.array([0, 0, 1, 2])})

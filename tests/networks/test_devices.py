"""Simulated devices: their closed form, widths against really smaller networks, the staircase, and where a table is wrong."""

import dataclasses
import math

import nets
import numpy as np
import pytest
import torch
from torch import nn

from facelab.networks import devices
from facelab.networks.devices import DEVICES, EDGE, SERVER, SPILL, Device, Work
from facelab.networks.groups import cut, groups

IMAGES = torch.randn(4, 1, 12, 12, generator=torch.Generator().manual_seed(0))


class Depthwise(nn.Sequential):
    """A depthwise convolution between others, then a flattening."""

    def __init__(self):
        super().__init__(
            *(nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 16, 3, padding=1, groups=16), nn.ReLU(), nn.Conv2d(16, 24, 1)),
            *(nn.ReLU(), nn.MaxPool2d(6), nn.Flatten(), nn.Linear(96, 4)),
        )


def narrowed(model, share=0.5):
    """Widths of all groups that can be cut, and the network cut to them."""
    free = [group for group in groups(model, IMAGES) if not group.obstacle]
    widths = {group.name: max(1, int(share * group.width)) for group in free}
    gone = {group.name: list(range(group.width - widths[group.name])) for group in free}
    return widths, cut(model, IMAGES, gone)


def test_one_layer_by_hand():
    device = Device("by hand", tile=8, start=5.0, rate=2.0, cache=100, fetch=3.0)
    layer = Work("conv", inputs=3, outputs=12, kernel=9, places=10)
    tiles = 2.0 / 1000 * 10 * 9 * 8 * 16
    assert device.latency([layer]) == pytest.approx(5 + tiles + 3 * (3 * 12 * 9 - 100) / 1000)
    assert dataclasses.replace(device, cache=324).latency([layer]) == pytest.approx(5 + tiles)


def test_a_single_input_is_no_tile():
    depthwise = Work("conv", inputs=1, outputs=16, kernel=9, places=10)
    assert EDGE.latency([depthwise]) == pytest.approx(EDGE.start + EDGE.rate / 1000 * 10 * 9 * 16)


def test_the_work_of_a_network():
    found = {layer.name: layer for layer in devices.work(Depthwise(), IMAGES)}
    assert found["0"] == Work("0", 1, 16, 9, 144)
    assert found["2"] == Work("2", 1, 16, 9, 144)
    assert found["4"] == Work("4", 16, 24, 1, 144)
    assert found["8"] == Work("8", 96, 4, 1, 1)
    (up,) = devices.work(nn.ConvTranspose2d(3, 5, 2, stride=2), torch.zeros(1, 3, 4, 4))
    assert up == Work("", 3, 5, 4, 16)


@pytest.mark.parametrize("net", [Depthwise, nets.Plain, nets.Residual, nets.Squeezing])
def test_widths_say_what_the_cut_network_takes(net):
    model = net().eval()
    widths, smaller = narrowed(model)
    for device in DEVICES.values():
        assert devices.clock(device, model, IMAGES)(widths) == pytest.approx(device.latency(devices.work(smaller, IMAGES)))


def test_more_channels_never_take_less():
    model = Depthwise()
    for device in DEVICES.values():
        ticks = devices.clock(device, model, IMAGES)
        for group in groups(model, IMAGES):
            times = [ticks({group.name: width}) for width in range(2, group.width + 1)]  # one input is no tile
            assert (np.diff(times) >= 0).all()
            if group.name == "0+2":  # a flattening would spread the other over several tiles
                assert len(set(times)) == math.ceil(group.width / device.tile)


def test_the_table_is_right_but_for_the_cache():
    model = nn.Sequential(nn.Conv2d(1, 40, 3, padding=1), nn.ReLU(), nn.Conv2d(40, 40, 3), nn.ReLU(), nn.Conv2d(40, 40, 3))
    for device in (EDGE, SERVER):
        assert devices.table(device, model, IMAGES)({"0": 16}) == pytest.approx(devices.clock(device, model, IMAGES)({"0": 16}))
    outside = 40 * 9 * (1 + 40 + 40) - SPILL.cache
    assert devices.clock(SPILL, model, IMAGES)({}) - devices.table(SPILL, model, IMAGES)({}) == pytest.approx(SPILL.fetch * outside / 1000)


def test_the_stopwatch_finds_a_much_smaller_network_faster():
    model = nn.Sequential(nn.Conv2d(1, 96, 3, padding=1), nn.ReLU(), nn.Conv2d(96, 96, 3, padding=1), nn.ReLU(), nn.Conv2d(96, 2, 3))
    watch = devices.stopwatch(model.eval(), IMAGES, rounds=5)
    assert watch({"0": 4, "2": 4}) < 0.6 * watch({})


def test_an_unknown_group_is_refused():
    with pytest.raises(ValueError, match="no group of channels 'tail'"):
        devices.clock(EDGE, Depthwise(), IMAGES)({"tail": 3})

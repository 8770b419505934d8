"""From a control's change to the new picture: under 100 ms of the kernel's time, the network run again included."""

import time
from itertools import cycle

import numpy as np
import pytest

from facelab.blocks import seeded
from facelab.explorers import AttentionExplorer
from facelab.explorers.world import CHANNELS, WorldExplorer
from facelab.methods.decafa import DeCaFA

LIMIT = 0.1
"""Seconds."""


def _explorer(size: int) -> AttentionExplorer:
    generator = np.random.default_rng(0)
    with seeded(0):
        network = DeCaFA(stages=3, stride=size // 32).eval()
    images = generator.random((2, 1, size, size)).astype(np.float32)
    return AttentionExplorer(images, network, truth=generator.uniform(0, size, (2, 68, 2)))


@pytest.mark.benchmark(timer=time.process_time)
@pytest.mark.parametrize("size", [64, 128])
def test_another_landmark(benchmark, size):
    explorer = _explorer(size)
    landmarks = cycle(range(68))
    benchmark.pedantic(lambda: explorer.set(landmark=next(landmarks)), rounds=15, warmup_rounds=2)
    assert explorer.error is None
    assert benchmark.stats["median"] < LIMIT


@pytest.mark.benchmark(timer=time.process_time)
@pytest.mark.parametrize("size", [64, 128])
@pytest.mark.parametrize("use", [-1, 0], ids=["patch", "attention"])
def test_a_square_moves_and_the_network_runs_again(benchmark, size, use):
    explorer = _explorer(size)
    explorer.set(use=use)
    places = cycle(range(size))
    benchmark.pedantic(lambda: explorer.set(x=next(places)), rounds=15, warmup_rounds=2)
    assert explorer.error is None
    assert benchmark.stats["median"] < LIMIT


@pytest.mark.long
@pytest.mark.benchmark(timer=time.process_time)
@pytest.mark.parametrize("size", [64, 128])
@pytest.mark.parametrize("channel", CHANNELS)
def test_a_factor_of_the_world_moves(benchmark, size, channel):
    explorer = WorldExplorer(size=size, channel=channel, factors=("yaw", "au_12"))
    angles = cycle(range(-40, 41))
    benchmark.pedantic(lambda: explorer.set(yaw=next(angles)), rounds=15, warmup_rounds=2)
    assert explorer.error is None
    assert benchmark.stats["median"] < LIMIT

"""From a control's change to the new picture: under 100 ms of the kernel's time, the network run again included."""

import time
from itertools import cycle

import numpy as np
import pytest

from facelab.blocks import seeded
from facelab.compression import sweep
from facelab.explorers import (
    AttentionExplorer,
    CompressionExplorer,
    CurveExplorer,
    ExponentExplorer,
    MapExplorer,
    NeighbourExplorer,
    TernaryExplorer,
)
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


@pytest.mark.benchmark(timer=time.process_time)
@pytest.mark.parametrize("kind", ["map", "neighbours", "curves"])
def test_a_generic_explorer(benchmark, kind):
    generator = np.random.default_rng(0)
    images, x = generator.random((1000, 3, 64, 64)).astype(np.float32), np.geomspace(0.001, 1, 50)
    if kind == "map":
        explorer, name, values = MapExplorer(images, {"map": generator.random((1000, 16, 16))}), "image", range(1000)
    elif kind == "neighbours":
        explorer, name, values = NeighbourExplorer(generator.random((1000, 128)), images), "query", range(1000)
    else:
        rivals = {f"rival {i}": generator.random(50) for i in range(6)}
        explorer = CurveExplorer(x, rivals, label="rate", value_label="error, %", logarithmic=True)
        name, values = "point", x.tolist()
    places = cycle(values)
    benchmark.pedantic(lambda: explorer.set(**{name: next(places)}), rounds=15, warmup_rounds=2)
    assert explorer.error is None
    assert benchmark.stats["median"] < LIMIT


@pytest.mark.benchmark(timer=time.process_time)
@pytest.mark.parametrize("kind", ["bench", "exponent", "ternary"])
def test_an_explorer_of_compression(benchmark, kind):
    if kind == "bench":
        explorer, name, values = CompressionExplorer(*sweep.stored()), "strength", ("mild", "medium", "strong")
    elif kind == "exponent":
        layers = {"first": np.random.default_rng(0).standard_t(4, (64, 288)).astype(np.float32)}
        explorer, name, values = ExponentExplorer(layers), "exponent", (0.3, 0.4, 0.5, 0.6, 0.7)
    else:
        explorer, name, values = TernaryExplorer(), "outlier", (1.0, 1.5, 2.0, 3.0)
    places = cycle(values)
    benchmark.pedantic(lambda: explorer.set(**{name: next(places)}), rounds=15, warmup_rounds=5)
    assert explorer.error is None
    assert benchmark.stats["median"] < LIMIT

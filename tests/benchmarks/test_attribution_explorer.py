"""From a control's change to the new picture: what is known is drawn within 100 ms, and so is a new path of 20 steps on a small network."""

import time
from itertools import cycle, pairwise

import numpy as np
import pytest
from torch import nn

from facelab.blocks import seeded
from facelab.explorers import AttributionExplorer

LIMIT = 0.1
"""Seconds."""


@pytest.fixture(scope="module")
def explorer() -> AttributionExplorer:
    """A face of 14 parts at 64 pixels, and a network that reads action units off such faces."""
    widths = (3, 12, 24, 32)
    with seeded(0):
        blocks = [(nn.Conv2d(a, b, 3, padding=1), nn.BatchNorm2d(b), nn.ReLU(), nn.MaxPool2d(2)) for a, b in pairwise(widths)]
        network = nn.Sequential(*(layer for block in blocks for layer in block), nn.Flatten(), nn.Linear(32 * 64, 6))
    generator = np.random.default_rng(0)
    y, x = np.mgrid[:64, :64] // 17
    options = dict(parts=np.stack([(4 * y + x) % 14] * 8), truth=generator.random((8, 6, 64, 64)) > 0.97)
    return AttributionExplorer(network, generator.random((8, 3, 64, 64)).astype(np.float32), **options)


def measure(benchmark, explorer, **values) -> None:
    (name, places), turns = next(iter(values.items())), 12
    benchmark.pedantic(lambda: explorer.set(**{name: next(places)}), rounds=turns, warmup_rounds=2)
    assert explorer.error is None
    assert benchmark.stats["median"] < LIMIT


@pytest.mark.benchmark(timer=time.process_time)
@pytest.mark.parametrize("steps", [20, 100])
def test_a_place_that_was_prepared(benchmark, explorer, steps):
    explorer.set(first="integrated gradients", second="conductance", steps=steps, output=0, part=3)
    explorer.prepare(progress=False, output=[0])
    measure(benchmark, explorer, image=cycle(range(8)))


@pytest.mark.benchmark(timer=time.process_time)
def test_opacity(benchmark, explorer):
    measure(benchmark, explorer, opacity=cycle([0.2, 0.4, 0.6]))


@pytest.mark.benchmark(timer=time.process_time)
def test_a_new_part(benchmark, explorer):
    measure(benchmark, explorer, part=cycle(range(14)))


@pytest.mark.benchmark(timer=time.process_time)
@pytest.mark.parametrize("second", ["input x gradient", "grad-cam", "guided backpropagation"])
def test_a_new_place_of_20_steps(benchmark, explorer, second):
    """Each redraw has a place of its own: nothing is known."""
    explorer.set(first="integrated gradients", second=second, steps=20, part=-1, baseline="blurred")
    outputs = {"input x gradient": 2, "grad-cam": 3, "guided backpropagation": 4}[second]
    explorer.set(output=outputs, quadrature="riemann_middle")
    baselines = iter([(image, baseline) for baseline in ("black", "mean image") for image in range(8)])

    def move() -> None:
        image, baseline = next(baselines)
        explorer.set(image=image, baseline=baseline)

    benchmark.pedantic(move, rounds=12, warmup_rounds=2)
    assert explorer.error is None
    assert benchmark.stats["median"] < LIMIT

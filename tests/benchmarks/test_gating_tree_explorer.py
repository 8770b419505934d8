"""How long the gating-tree explorer takes: a redraw at depth 5, experts and attribution run again, and the first picture at depth 10.

The model is a small mixture of convolutional experts' answers, so that what is timed is mostly the explorer.
"""

import time
from itertools import cycle

import numpy as np
import pytest
import torch
from torch import nn

from facelab.blocks import TreeGate, leaf_probabilities, seeded
from facelab.explorers import GatingTreeExplorer

pytestmark = pytest.mark.benchmark(timer=time.process_time)


class Mixture(nn.Module):
    """64 px images -> 5 landmarks: one small convolutional code, a tree on it, linear experts."""

    def __init__(self, depth: int):
        super().__init__()
        self.code = nn.Sequential(nn.Conv2d(1, 8, 5, stride=4), nn.ReLU(), nn.Conv2d(8, 8, 3, stride=2), nn.ReLU(), nn.Flatten())
        self.gate = TreeGate(8 * 7 * 7, depth)
        self.experts = nn.Parameter(torch.rand(2**depth, 10) * 64)

    def forward(self, images):
        return (leaf_probabilities(self.gate(self.code(images))) @ self.experts).unflatten(1, (5, 2))


def build(depth: int, count: int, steps: int = 41) -> GatingTreeExplorer:
    generator = np.random.default_rng(0)
    with seeded(0):
        model = Mixture(depth)
    images = generator.random((count, 1, 64, 64)).astype(np.float32)
    sweep = np.arange(steps), generator.random((steps, 1, 64, 64)).astype(np.float32)
    return GatingTreeExplorer(model, images, sweeps={"factor": sweep}, landmarks=lambda output: output)


@pytest.mark.parametrize("source", ["the collection", "factor"])
@pytest.mark.parametrize("moved", ["image", "node"])
def test_redraw(benchmark, source, moved):
    explorer = build(5, 100)
    explorer.set(source=source)
    values = cycle(range(2, 41))  # every view for the first time: nothing is cached
    benchmark.pedantic(lambda: explorer.set(**{moved: next(values)}), rounds=15, warmup_rounds=2)
    assert explorer.error is None
    assert benchmark.stats["min"] < 0.1  # other work on the machine only ever adds


def test_first_picture_of_a_deep_tree(benchmark):
    """1,023 nodes, 1,000 samples: from the model and the images to the first picture, all of the collection passed through the model."""
    generator = np.random.default_rng(0)
    with seeded(0):
        model = Mixture(10)
    images = generator.random((1000, 1, 64, 64)).astype(np.float32)
    explorer = benchmark.pedantic(lambda: GatingTreeExplorer(model, images, landmarks=lambda output: output), rounds=3, warmup_rounds=1)
    assert explorer.error is None and explorer.flow().reach.shape == (1000, 2047)
    assert benchmark.stats["min"] < 1

"""How long the recombinator explorer takes to redraw, at the size of the notebook."""

import time

import numpy as np
import pytest

from facelab.explorers.recombinator import RecombinatorExplorer
from facelab.methods.recombinator import RCN, SumNet


@pytest.mark.benchmark(timer=time.process_time)
def test_redraw(benchmark):
    generator = np.random.default_rng(0)
    images = generator.random((4, 1, 40, 40)).astype(np.float32)
    explorer = RecombinatorExplorer(
        images, SumNet(5, channels=(12,) * 4), RCN(5, channels=(12,) * 4), truth=generator.uniform(4, 36, (4, 5, 2))
    )
    places = iter(np.tile(np.arange(40), 1000))
    benchmark(lambda: explorer.set(side=10, x=int(next(places))))
    assert explorer.error is None
    assert benchmark.stats["min"] < 0.1  # other work on the machine only ever adds

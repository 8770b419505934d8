"""The bandwidth explorer answers within 100 ms of the kernel's time."""

import time
from itertools import cycle

import numpy as np
import pytest
import torch

from facelab.explorers import BandwidthExplorer


@pytest.mark.benchmark(timer=time.process_time)
def test_another_bandwidth(benchmark):
    weights = torch.randn(256, 256, generator=torch.Generator().manual_seed(0))
    scales = np.array([0.1, 0.25, 0.5, 1.0])
    explorer = BandwidthExplorer({"1": weights}, scales, {"density": 90 - scales, "k-means": 91 - scales, "uniform": 89 - scales})
    steps = cycle(scales.tolist())
    benchmark.pedantic(lambda: explorer.set(scale=next(steps)), rounds=15, warmup_rounds=4)
    assert explorer.error is None
    assert benchmark.stats["median"] < 0.1

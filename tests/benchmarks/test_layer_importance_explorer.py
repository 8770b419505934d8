"""How long the layer-importance explorer takes to redraw 40 layers: under 100 ms of the kernel's time."""

import time
from itertools import cycle

import pytest
from importance_tables import tables

from facelab.explorers import LayerImportanceExplorer

LIMIT = 0.1
"""Seconds."""


@pytest.mark.benchmark(timer=time.process_time)
@pytest.mark.parametrize("control", ["layer", "family", "budget", "sort"])
def test_redraw(benchmark, control):
    explorer = LayerImportanceExplorer(*tables(40, ties=((1, 3, 5), (8, 10), (12, 14))))
    options = cycle([value for _, value in explorer.controls[control]._options_full])
    benchmark.pedantic(lambda: explorer.set(**{control: next(options)}), rounds=20, warmup_rounds=5)
    assert explorer.error is None
    assert benchmark.stats["median"] < LIMIT

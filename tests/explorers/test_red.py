"""The bandwidth explorer: its counters are those of the hash, and what it refuses."""

import numpy as np
import pytest
import torch

from facelab.explorers import BandwidthExplorer
from facelab.networks.hashing import bandwidth, find_modes

SCALES = [0.1, 0.25, 1.0]


def test_its_counters_are_those_of_the_hash():
    weights = torch.randn(50, 40, generator=torch.Generator().manual_seed(0))
    explorer = BandwidthExplorer({"1": weights}, SCALES, {"density": [90.0, 80.0, 10.0]})
    explorer.set(scale=0.25)
    modes = find_modes(weights, 0.25 * bandwidth(weights))
    assert f"{len(modes.values)} distinct values for 2000 weights" in explorer.shown.text
    assert f"largest displacement {modes.displacement(weights):.3g}" in explorer.shown.text and "density 80.0 %" in explorer.shown.text


@pytest.mark.parametrize(
    ("layers", "scales", "curves", "message"),
    [
        ({}, SCALES, {"a": SCALES}, "0 layers"),
        ({"1": np.eye(3)}, [1.0, 0.5], {"a": [1.0, 2.0]}, "that increase"),
        ({"1": np.eye(3)}, SCALES, {"a": [1.0, 2.0]}, "one value for each of 3"),
    ],
)
def test_what_it_refuses(layers, scales, curves, message):
    with pytest.raises(ValueError, match=message):
        BandwidthExplorer(layers, scales, curves)

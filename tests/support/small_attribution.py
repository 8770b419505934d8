"""An attribution explorer that needs no training, for tests: a random network and images in three stripes."""

import numpy as np
from torch import nn

from facelab.blocks import seeded
from facelab.explorers import AttributionExplorer


def explorer() -> AttributionExplorer:
    """Two outputs, three images of 24 pixels, the upper third known to cause the first output."""
    with seeded(0):
        network = nn.Sequential(
            nn.Conv2d(1, 6, 3, padding=1), nn.ReLU(inplace=True), nn.MaxPool2d(2), nn.Conv2d(6, 8, 3), nn.Flatten(), nn.Linear(800, 2)
        )
    stripes = np.broadcast_to(np.arange(24)[:, None] // 8, (3, 24, 24))
    truth = np.stack([stripes == 0, stripes == 2], axis=1)
    images = np.random.default_rng(0).random((3, 1, 24, 24)).astype(np.float32)
    return AttributionExplorer(network, images, ["first", "second"], parts=stripes, part_names=("brows", "eyes", "mouth"), truth=truth)

"""A cascade without training, for tests: maps are Gaussians around a mean face, sharper by stage and drawn to bright pixels."""

import numpy as np
import torch

from facelab.blocks import expected_position, spatial_softmax
from facelab.explorers.attention import Stage


def faces(count: int = 3, size: int = 48) -> tuple[np.ndarray, np.ndarray]:
    """Gray images (B,1,size,size) of noise with a bright disc, and 5 true landmarks (B,5,2) on it."""
    generator = np.random.default_rng(0)
    y, x = np.mgrid[:size, :size]
    images = 0.2 * generator.random((count, 1, size, size))
    middle = size / 2 + generator.uniform(-3, 3, (count, 2))
    distance = np.hypot(x - middle[:, 0, None, None], y - middle[:, 1, None, None])
    images[:, 0] += 0.7 * (distance < size * 0.38)
    points = np.array([[-0.16, -0.1], [0.16, -0.1], [0, 0.05], [-0.12, 0.2], [0.12, 0.2]]) * size
    return images.astype(np.float32), middle[:, None] + points


class Cascade(torch.nn.Module):
    """Maps of the same interface as a trained DeCaFA's."""

    fusion = "deep"

    def forward(self, images, attention=None):
        _, points = faces(1, images.shape[-1])
        y, x = torch.meshgrid(*(torch.arange(n, dtype=torch.float32) for n in images.shape[2:]), indexing="ij")
        stages = []
        for stage, width in enumerate((9.0, 5.0, 2.5)):
            place = torch.from_numpy(points[0]).float()
            squares = (x - place[:, 0, None, None]) ** 2 + (y - place[:, 1, None, None]) ** 2
            logits = -squares[None] / (2 * width**2) + 3 * images
            if attention and stage - 1 in attention:
                logits = logits + torch.log(attention[stage - 1] + 1e-3)
            maps = spatial_softmax(logits)
            merged = maps.sum(1, keepdim=True)
            stages.append(Stage({5: maps}, {5: expected_position(maps)}, merged / merged.amax()))
        return stages

"""A mixture of landmark regressors without training, for tests: a gate on coarse pixels, experts that each put a small shape elsewhere."""

import torch
from torch import nn

from facelab.blocks import TreeGate, leaf_probabilities

POINTS = 5


class Mixture(nn.Module):
    """Images (B,1,S,S) -> landmarks (B,5,2), pixels: experts' answers mixed by a soft tree.

    Args:
        size: of the images.
        depth: of the tree.
        detached: no gradient from the gate to the pixels.
    """

    def __init__(self, size: int = 32, depth: int = 3, detached: bool = False, seed: int = 0):
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.size, self.detached = size, detached
        self.pool = nn.AdaptiveAvgPool2d(8)
        self.gate = TreeGate(64, depth)
        with torch.no_grad():
            self.gate.linear.weight.copy_(torch.randn(self.gate.linear.weight.shape, generator=generator))
            self.gate.norm.running_mean.copy_(0.4 * self.gate.linear.weight.sum(dim=1) + self.gate.linear.bias)
        shape = torch.tensor([[-0.16, -0.1], [0.16, -0.1], [0, 0.05], [-0.12, 0.2], [0.12, 0.2]])
        middles = 0.5 + 0.25 * (torch.rand(2**depth, 1, 2, generator=generator) - 0.5)
        self.register_buffer("answers", size * (middles + shape))

    def forward(self, images):
        features = self.pool(images).flatten(1)
        weights = leaf_probabilities(self.gate(features.detach() if self.detached else features))
        return (weights @ self.answers.flatten(1)).unflatten(1, (-1, 2))

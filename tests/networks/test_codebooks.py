"""A few given values: chosen evenly, chosen by k-means, and taken by the weights."""

import numpy as np
import torch
from torch import nn

from facelab.blocks import seeded
from facelab.networks.codebooks import even_values, k_means_values, rounded


def test_values():
    weights = torch.tensor([[-1.0, -0.98], [2.0, 2.02], [2.04, -1.02]])
    assert np.allclose(even_values(weights, 4), np.linspace(-1.02, 2.04, 4)) and np.allclose(even_values(weights, 1), [0.51])
    assert np.allclose(k_means_values(weights, 2), [-1.0, 2.02])
    assert len(k_means_values(torch.tensor([1.0, 1.0, 2.0]), 5)) == 2


def test_each_weight_takes_the_nearest_value():
    with seeded(0):
        model = nn.Sequential(nn.Linear(9, 7), nn.ReLU(), nn.Linear(7, 2))
    allowed = np.array([-0.2, 0.05, 0.3])
    result = rounded(model, {"0": 3}, lambda weights, count: allowed)
    distance = (model[0].weight[..., None] - torch.as_tensor(allowed)).abs()
    assert torch.allclose(result[0].weight.double(), torch.as_tensor(allowed)[distance.argmin(dim=-1)])
    assert torch.equal(result[2].weight, model[2].weight) and torch.equal(result[0].bias, model[0].bias)


def test_k_means_has_the_smaller_error():
    weights = torch.randn(3000, generator=torch.Generator().manual_seed(0)) ** 3
    errors = [
        float(np.abs(weights.numpy()[:, None] - values).min(axis=1).mean())
        for values in (k_means_values(weights, 12), even_values(weights, 12))
    ]
    assert errors[0] < errors[1]

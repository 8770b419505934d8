"""Weights that take a few given values, chosen by k-means or evenly: what a hash by density is compared with."""

from collections.abc import Callable, Mapping

import numpy as np
import torch
from jaxtyping import Float
from sklearn.cluster import KMeans
from torch import Tensor, nn

from facelab.networks.evaluation import copied
from facelab.networks.layers import layer_of


def even_values(weights: Float[Tensor, "..."], count: int) -> Float[np.ndarray, " count"]:
    """Values from the smallest weight to the largest in even steps; a single one is the middle."""
    low, high = float(weights.min()), float(weights.max())
    return np.linspace(low, high, count) if count > 1 else np.array([(low + high) / 2])


def k_means_values(weights: Float[Tensor, "..."], count: int, seed: int = 0, most: int = 5000) -> Float[np.ndarray, " values"]:
    """Centres of k-means, ascending.

    Args:
        count: of the values; fewer where the weights differ in fewer.
        seed: of the first centres and of the sample.
        most: weights that are looked at; more are sampled.
    """
    values = weights.detach().double().flatten().numpy()
    if values.size > most:
        values = np.random.default_rng(seed).choice(values, most, replace=False)
    count = min(count, len(np.unique(values)))
    return np.sort(KMeans(count, n_init=1, random_state=seed).fit(values[:, None]).cluster_centers_[:, 0])


def rounded(model: nn.Module, counts: Mapping[str, int], rule: Callable[[Tensor, int], np.ndarray]) -> nn.Module:
    """A copy in which each weight of some layers has become the nearest of a few values.

        rounded(model, {"1": 16}, k_means_values)

    Args:
        counts: name of a layer -> how many values its weights may take.
        rule: weights, count -> values, ascending.

    Raises:
        ValueError: no such layer, or one whose weight cannot be changed alone.
    """
    result = copied(model)
    for name, count in counts.items():
        weight = layer_of(result, name).weight.data
        values = rule(weight, count)  # type: ignore[arg-type]
        middles = torch.as_tensor((values[1:] + values[:-1]) / 2)
        weight.copy_(torch.as_tensor(values)[torch.bucketize(weight.double(), middles)])  # type: ignore[operator]
    return result

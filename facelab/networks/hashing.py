"""Weights gathered at the modes of their own density: a hash without data, whose number of values is found and not given."""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from jaxtyping import Float, Int
from scipy.ndimage import gaussian_filter1d
from scipy.signal import find_peaks
from torch import Tensor, nn

from facelab.networks.evaluation import copied, require_precision
from facelab.networks.layers import LAYERS

_STEPS = 6  # of the grid in a bandwidth
_LARGEST = 4_000_000  # points of a grid


@dataclass(frozen=True)
class Modes:
    """The maxima of a density and the minima between them.

    Attributes:
        values: (K,) the maxima, ascending: what weights become.
        fences: (K-1,) the minima between them: a weight from one fence up to below the next becomes the maximum between them.
        grid, density: (G,) where the density was computed, and what it is there, per unit of weight.
        bandwidth: standard deviation of the kernel, in units of the weights.
    """

    values: Float[np.ndarray, " K"]
    fences: Float[np.ndarray, " K-1"]
    grid: Float[np.ndarray, " G"]
    density: Float[np.ndarray, " G"]
    bandwidth: float

    def indices(self, weights: Tensor) -> Int[Tensor, "..."]:
        """Which value each weight becomes, 0 .. K-1."""
        return torch.bucketize(weights.double(), torch.as_tensor(self.fences), right=True)

    def hash(self, weights: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        """Weights of the same shape and type that take at most K values, the same number wherever the same value is meant."""
        return torch.as_tensor(self.values).to(weights.dtype)[self.indices(weights)]

    def displacement(self, weights: Float[Tensor, "..."]) -> float:
        """How far the hash moves a weight at most."""
        return float((self.hash(weights) - weights).abs().max())


def bandwidth(weights: Float[Tensor, "..."]) -> float:
    """Silverman's bandwidth of the weights' density: 0.9 min(standard deviation, interquartile range / 1.34) N^(-1/5).

    Zero if all weights are equal. Where more than half of them are (a pruned layer), the range is 0 and the standard deviation serves.
    """
    values = weights.detach().double().flatten().numpy()
    low, high = np.quantile(values, [0.25, 0.75])
    spread, deviation = (high - low) / 1.34, float(values.std())
    return float(0.9 * (min(spread, deviation) if spread else deviation) * values.size**-0.2)


def find_modes(weights: Float[Tensor, "..."], bandwidth: float) -> Modes:
    """Maxima and minima of the density of weights, a sum of Gaussians, one around each weight (RED, section 3).

    The density is computed on a grid of a sixth of the bandwidth, from counts that are smoothed; then each maximum is moved to that
    of the sum over the weights themselves (mean shift).

    Args:
        weights: of any shape.
        bandwidth: standard deviation of the Gaussians, at least about a millionth of the range of the weights. If all weights are
            equal it does not matter.

    Raises:
        ValueError: there is no weight or an infinite one, or the bandwidth is not positive, or so small that the grid does not fit.
    """
    ordered = weights.detach().double().flatten().sort().values.numpy()
    if not ordered.size or not np.isfinite(ordered).all():
        raise ValueError(f"Weights of shape {tuple(weights.shape)} are none or not all finite, so they have no density; give finite ones.")
    low, high = float(ordered[0]), float(ordered[-1])
    if low == high:
        return Modes(np.array([low]), np.array([]), np.array([low]), np.array([np.inf]), bandwidth)
    count = (high - low) / bandwidth * _STEPS if bandwidth > 0 else np.inf
    if count > _LARGEST:
        least = (high - low) * _STEPS / _LARGEST
        raise ValueError(f"A bandwidth of {bandwidth:g} is too small for weights from {low:g} to {high:g}; take at least {least:.1g}.")
    step, margin = bandwidth / _STEPS, 5 * _STEPS + 1
    grid = low + step * np.arange(-margin, int(np.ceil(count)) + margin + 1)
    place = (ordered - grid[0]) / step
    left = np.floor(place).astype(int)
    share = place - left  # a weight between two points of the grid counts for both
    counts = np.bincount(left, 1 - share, len(grid)) + np.bincount(left + 1, share, len(grid))
    density = gaussian_filter1d(counts, _STEPS, mode="constant", truncate=5) / (step * ordered.size)
    density[density < 1e-12 * density.max()] = 0  # what rounding leaves there would have maxima of its own
    peaks, _ = find_peaks(density)
    valleys = [_valley(density[left:right]) + left for left, right in pairwise(peaks)]
    fences = grid[np.array(valleys, dtype=int)]
    values = np.array([_mean_shift(ordered, grid[peak], bandwidth) for peak in peaks])
    return Modes(values, fences, grid, density, bandwidth)


def _valley(density: Float[np.ndarray, " G"]) -> int:
    """Where a density between two maxima is lowest; the middle, where it is so at several points (an empty stretch)."""
    lowest = np.flatnonzero(density == density.min())
    return int(lowest[len(lowest) // 2])


def _mean_shift(ordered: Float[np.ndarray, " N"], start: float, bandwidth: float, rounds: int = 3) -> float:
    """The maximum near a point of the grid: the mean of the weights around it, weighted by the kernel, again and again."""
    for _ in range(rounds):
        near = ordered[np.searchsorted(ordered, start - 6 * bandwidth) : np.searchsorted(ordered, start + 6 * bandwidth, side="right")]
        kernel = np.exp(-0.5 * ((near - start) / bandwidth) ** 2)
        start = float(kernel @ near / kernel.sum())
    return start


def hashed(model: nn.Module, scale: float = 0.25) -> tuple[nn.Module, dict[str, Modes]]:
    """A copy of a network whose layers' weights are hashed, each layer by its own density; biases stay (RED, section 3).

        smaller, modes = hashed(folded(model, images[:2]))
        {name: len(found.values) for name, found in modes.items()}  # how many values each layer has left

    Args:
        scale: bandwidth in units of Silverman's for each layer. A layer that would be left with one value although it has more gets
            half the bandwidth until it keeps two.

    Raises:
        ValueError: the scale is not positive, or the model is in half precision.
    """
    if not scale > 0:
        raise ValueError(f"A scale of {scale} is no bandwidth; give a positive share of Silverman's, such as 0.25.")
    require_precision(model)
    result, found = copied(model), {}
    for name, module in result.named_modules():
        if isinstance(module, LAYERS):
            weights, width = module.weight.data, scale * bandwidth(module.weight)
            modes = find_modes(weights, width)
            while len(modes.values) < 2 and float(weights.min()) < float(weights.max()):
                width /= 2
                modes = find_modes(weights, width)
            module.weight.data, found[name] = modes.hash(weights), modes
    return result, found

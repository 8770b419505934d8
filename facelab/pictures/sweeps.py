"""What changes with a factor, such as the error or a gate's weights with the yaw of the head."""

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from facelab.pictures.style import PALETTE, Picture, as_array, new_picture, styled
from facelab.statistics import bootstrap_interval

MARKERS = "os^Dvp*X"
FEWEST = 3
"""Samples in a bin that is drawn."""


def binned_means(factor: Any, values: Any, edges: Any, least: int = 1) -> tuple[Float[np.ndarray, " bins"], Float[np.ndarray, "bins *D"]]:
    """Middles of the bins of a factor, and the mean of the values of the samples in each.

    Args:
        factor: (N,) of each sample.
        values: (N, ...).
        edges: of the bins, each with its lower edge; samples outside count nowhere.
        least: a bin with fewer samples is left out.
    """
    values, bins = as_array(values).astype(float), _bins(factor, edges)
    kept = [i for i in range(len(edges) - 1) if (bins == i).sum() >= max(least, 1)]
    middles = (np.asarray(edges, dtype=float)[:-1] + np.asarray(edges, dtype=float)[1:])[kept] / 2
    return middles, np.array([values[bins == i].mean(axis=0) for i in kept])


def _bins(factor: Any, edges: Any) -> Int[np.ndarray, " N"]:
    return np.digitize(as_array(factor), np.asarray(edges, dtype=float)) - 1


@styled
def plot_against(
    factor: Any,
    scores: Mapping[str, Any],
    edges: Any,
    *,
    factor_label: str = "yaw, degrees",
    label: str = "error, %",
    colors: Mapping[str, str] | None = None,
    bands: Collection[str] | None = None,
    width: float = 7.5,
) -> Picture:
    """One line per name: the mean of its scores in each bin of a factor, with its 95 % bootstrap interval as a band.

    Args:
        factor: (N,) of each sample.
        scores: name -> (N,) scores, or (seeds, N): then the interval is over samples, of the seeds' mean.
        edges: (bins + 1,) of the bins, each with its lower edge; samples outside count nowhere, a bin of fewer than three is left out.
        factor_label: of the horizontal axis, with its unit.
        label: of the scores, with their unit.
        colors: of the names that shall not get theirs by their place.
        bands: names that are drawn with their band; all by default.
        width: inches.
    """
    bins = _bins(factor, edges)
    kept = [i for i in range(len(edges) - 1) if (bins == i).sum() >= FEWEST]
    picture, grid = new_picture(width, 3.1)
    axes = grid[0, 0]
    for index, (name, values) in enumerate(scores.items()):
        values = as_array(values).astype(float)
        values = values.mean(axis=0) if values.ndim == 2 else values
        color, marker = (colors or {}).get(name, PALETTE[index % len(PALETTE)]), MARKERS[index % len(MARKERS)]
        middles, means = binned_means(factor, values, edges, FEWEST)
        if bands is None or name in bands:
            low, high = np.transpose([bootstrap_interval(values[bins == i]) for i in kept])
            axes.fill_between(middles, low, high, color=color, alpha=0.13, linewidth=0)
        axes.plot(middles, means, color=color, marker=marker, markersize=4, label=name)
    axes.set(xlabel=factor_label, ylabel=label)
    axes.grid(axis="y")
    axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5))
    return picture

"""What changes with a factor, such as the error or a gate's weights with the yaw of the head."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from facelab.pictures.curves import bootstrap_interval
from facelab.pictures.style import PALETTE, Picture, as_array, new_picture, styled

MARKERS = "os^Dvp*X"


@styled
def plot_against(
    factor: Any, scores: Mapping[str, Any], edges: Any, *, factor_label: str = "yaw, degrees", label: str = "error, %", width: float = 7.5
) -> Picture:
    """One line per name: the mean of its scores in each bin of a factor, with its 95 % bootstrap interval as a band.

    Args:
        factor: (N,) of each sample.
        scores: name -> (N,) scores, or (seeds, N): then the interval is over samples, of the seeds' mean.
        edges: (bins + 1,) of the bins, each with its lower edge; samples outside count nowhere, a bin of fewer than three is left out.
        factor_label: of the horizontal axis, with its unit.
        label: of the scores, with their unit.
        width: inches.
    """
    factor, edges = as_array(factor), np.asarray(edges, dtype=float)
    bins = np.digitize(factor, edges) - 1
    kept = [i for i in range(len(edges) - 1) if (bins == i).sum() >= 3]
    middles = ((edges[:-1] + edges[1:]) / 2)[kept]
    picture, grid = new_picture(width, 3.1)
    axes = grid[0, 0]
    for index, (name, values) in enumerate(scores.items()):
        values = as_array(values).astype(float)
        values = values.mean(axis=0) if values.ndim == 2 else values
        color = PALETTE[index % len(PALETTE)]
        low, high = np.transpose([bootstrap_interval(values[bins == i]) for i in kept])
        axes.fill_between(middles, low, high, color=color, alpha=0.13, linewidth=0)
        marker = MARKERS[index % len(MARKERS)]
        axes.plot(middles, [values[bins == i].mean() for i in kept], color=color, marker=marker, markersize=4, label=name)
    axes.set(xlabel=factor_label, ylabel=label)
    axes.grid(axis="y")
    axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5))
    return picture


@styled
def plot_shares(
    factor: Any, shares: Any, edges: Any, *, names: Sequence[str] = (), factor_label: str = "yaw, degrees", width: float = 7.5
) -> Picture:
    """Shares that add up to one, stacked, as means over the bins of a factor: which expert answers where.

    Args:
        factor: (N,) of each sample.
        shares: (N, L) of each sample.
        edges: (bins + 1,) of the bins; an empty bin is bridged.
        names: (L,) of the shares, lowest first; "leaf 0" and so on by default.
        factor_label: of the horizontal axis, with its unit.
        width: inches.
    """
    factor, shares, edges = as_array(factor), as_array(shares), np.asarray(edges, dtype=float)
    bins = np.digitize(factor, edges) - 1
    kept = [i for i in range(len(edges) - 1) if (bins == i).any()]
    means = np.array([shares[bins == i].mean(axis=0) for i in kept])
    names = [f"leaf {i}" for i in range(shares.shape[1])] if not names else list(names)
    picture, grid = new_picture(width, 2.8)
    axes = grid[0, 0]
    colors = [PALETTE[i % len(PALETTE)] for i in range(len(names))]
    middles = ((edges[:-1] + edges[1:]) / 2)[kept]
    axes.stackplot(middles, means.T, labels=names, colors=colors, alpha=0.85, edgecolor="white", linewidth=0.8)
    axes.set(xlabel=factor_label, ylabel="mean weight", ylim=(0, 1), xlim=(middles[0], middles[-1]))
    axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), reverse=True)
    return picture

"""Redundancies of a network: two neurons that become one, the density of weights with its modes, kernels that are computed once."""

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float, Int
from matplotlib.axes import Axes

from facelab.pictures.style import BLACK, BLUE, GRAY, ORANGE, PALETTE, PINK, SIGNED, Picture, bare, new_picture, styled


@styled
def draw_merging(incoming: Sequence[float], outgoing: tuple[float, float]) -> Picture:
    """Two neurons with the same incoming weights, and the one that takes their place: its outgoing weight is the sum.

    Args:
        incoming: weights of either neuron.
        outgoing: of the one and of the other.
    """
    picture, grid = new_picture(7.2, 2.3, 1, 2)
    for axes, weights, title in ((grid[0, 0], outgoing, "before"), (grid[0, 1], (sum(outgoing),), "after")):
        bare(axes, title)
        axes.set(xlim=(-0.3, 2.4), ylim=(-0.25, 1.25))
        neurons = [(1.0, 0.9 - 0.8 * i) if len(weights) > 1 else (1.0, 0.5) for i in range(len(weights))]
        inputs = [(0.0, y) for y in np.linspace(0.9, 0.1, len(incoming))]
        for number, (neuron, weight) in enumerate(zip(neurons, weights, strict=True)):
            for source, w in zip(inputs, incoming, strict=True):
                _arrow(axes, source, neuron, f"{w:g}", BLUE)
            _arrow(axes, neuron, (2.0, 0.5), f"{weight:g}", ORANGE, 1 + abs(weight))
            _node(axes, neuron, "ab"[number] if len(weights) > 1 else "a+b")
        for number, source in enumerate(inputs):
            _node(axes, source, f"x{number + 1}")
        _node(axes, (2.0, 0.5), "y")
    return picture


def _arrow(axes: Axes, start: tuple[float, float], end: tuple[float, float], text: str, color: str, width: float = 1.4) -> None:
    style = {"arrowstyle": "-|>", "color": color, "lw": width, "shrinkA": 12, "shrinkB": 12}
    axes.annotate("", end, start, arrowprops=style)
    x, y = (0.62 * a + 0.38 * b for a, b in zip(start, end, strict=True))
    axes.text(x, y, text, color=color, ha="center", va="center", bbox={"facecolor": "white", "edgecolor": "none", "pad": 1}, fontsize=8)


def _node(axes: Axes, place: tuple[float, float], text: str) -> None:
    axes.text(*place, text, ha="center", va="center", bbox={"boxstyle": "circle,pad=0.35", "facecolor": "white", "edgecolor": BLACK})


@styled
def show_kernels(kernels: Sequence[Float[np.ndarray, "_ k k"]], *, width: float = 7.0) -> Picture:
    """The distinct kernels of a convolution, a row for each input channel.

    Args:
        kernels: of each input channel, as many as it has.
        width: inches.
    """
    most = max(len(own) for own in kernels)
    picture, grid = new_picture(width, 0.75 * len(kernels) + 0.2, len(kernels), most)
    reach = max(float(np.abs(own).max()) for own in kernels)
    for channel, row in enumerate(grid):
        for number, axes in enumerate(row):
            bare(axes)
            if number < len(kernels[channel]):
                axes.imshow(kernels[channel][number], cmap=SIGNED, vmin=-reach, vmax=reach)
        row[0].set_ylabel(f"input {channel + 1}", rotation=0, ha="right", va="center")
    return picture


@styled
def plot_modes(
    counts: Float[np.ndarray, " bins"],
    edges: Float[np.ndarray, " bins+1"],
    grid: Float[np.ndarray, " G"],
    density: Float[np.ndarray, " G"],
    values: Float[np.ndarray, " K"],
    fences: Float[np.ndarray, " K-1"],
    *,
    scales: Float[np.ndarray, " N"],
    curves: Mapping[str, Float[np.ndarray, " N"]],
    index: int,
    logarithmic: bool,
    weights: Int[np.ndarray, " K"],
) -> Picture:
    """The density of a layer's weights, its modes as orange poles, its minima as pink fences; beside it the accuracy at every bandwidth.

    Args:
        counts, edges: histogram of the weights, as a density.
        grid, density: where the density is known, and what it is there.
        values: the modes.
        fences: between them.
        scales: bandwidths in units of Silverman's, increasing.
        curves: name -> accuracy at each of them, percent.
        index: the bandwidth that is shown.
        logarithmic: a logarithmic axis of densities, which shows the few weights far out.
        weights: how many of them each mode takes.
    """
    picture = Picture(figsize=(9.0, 3.3))  # fixed places: laying out anew would take half of the time
    axes = picture.add_axes((0.08, 0.145, 0.505, 0.77))
    low, high = 0.5 * float(counts[counts > 0].min()), 1.3 * float(counts.max())
    # logarithms on a plain axis, since a logarithmic one draws too slowly
    height = (lambda values: np.log10(np.maximum(values, low))) if logarithmic else np.asarray
    floor, top = (np.log10(low), np.log10(2 * high)) if logarithmic else (0.0, high)
    axes.stairs(height(counts), edges, baseline=floor, fill=True, color="#dddddd")
    axes.plot(grid, height(density), color=BLUE, linewidth=1.2)
    axes.vlines(fences, floor, top, color=PINK, linewidth=0.7, alpha=0.6)
    axes.vlines(values, floor, np.maximum(height(np.interp(values, grid, density)), floor + 0.06 * (top - floor)),
                color=ORANGE, linewidth=min(1.8, 150 / len(values)))  # fmt: skip
    if logarithmic:
        powers = np.arange(np.ceil(floor), np.floor(top) + 1)
        axes.set_yticks(powers, [f"{10.0**power:g}" for power in powers])
    axes.set(xlim=(edges[0], edges[-1]), ylim=(floor, top), xlabel="weight", ylabel="density, per unit of weight")
    axes.set_title(f"{len(values)} modes (orange); the fullest takes {weights.max() / weights.sum():.0%} of the weights")
    axes = picture.add_axes((0.655, 0.145, 0.335, 0.77))
    axes.axvline(scales[index], color="#e8d9b4", linewidth=5, zorder=0)
    for place, (name, curve) in enumerate(curves.items()):
        axes.plot(scales, curve, color=PALETTE[place])
        axes.text(scales[0], 16 + 9 * (len(curves) - 1 - place), name, color=PALETTE[place], fontsize=8)  # quicker than a legend
        axes.plot(scales[index], curve[index], "o", color=PALETTE[place], markeredgecolor="white", markersize=6)
    axes.axhline(10, color=GRAY, linewidth=0.8, linestyle=":")
    axes.set(xlabel="bandwidth, of Silverman's", ylabel="accuracy, %", ylim=(0, 101))
    axes.set_title("all layers hashed")
    axes.set_yticks(range(0, 101, 20))
    return picture

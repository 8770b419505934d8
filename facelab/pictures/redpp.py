"""Weights that share products: one input's products fanned out, and how far a hashed network moves."""

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float
from matplotlib.collections import LineCollection
from matplotlib.patches import Rectangle

from facelab.pictures.style import BLACK, BLUE, GRAY, ORANGE, PALETTE, SIGNED, Picture, new_picture, styled
from facelab.pictures.sweeps import MARKERS
from facelab.pictures.view import Spot, View


@styled
def split_view(weights: Float[np.ndarray, "outputs inputs"], hashed: Float[np.ndarray, "outputs inputs"], column: int) -> View:
    """A layer's weights by their hashed value, and the products of one input with the outputs that add them up.

    Args:
        weights: before hashing, for the range of colours.
        hashed: the weights as they are used.
        column: which input is looked at.
    """
    outputs = len(hashed)
    values, code = np.unique(hashed[:, column], return_inverse=True)
    counts = np.array([len(np.unique(each)) for each in hashed.T])
    reach = float(np.quantile(np.abs(weights), 0.98)) or 1.0
    picture = Picture(figsize=(10.6, 4.7))
    matrix, fan = picture.add_axes((0.055, 0.13, 0.40, 0.76)), picture.add_axes((0.55, 0.05, 0.44, 0.84))
    drawn = matrix.imshow(hashed, cmap=SIGNED, vmin=-reach, vmax=reach, aspect="auto")
    matrix.add_patch(Rectangle((column - 0.5, -0.5), 1, outputs, fill=False, edgecolor=BLACK, linewidth=1.6))
    matrix.set_xticks([0, column, hashed.shape[1] - 1])
    matrix.set_yticks([0, outputs - 1])
    matrix.set(xlabel="input", ylabel="output", title=f"weights by value, input {column} framed")
    bar = picture.colorbar(drawn, extend="both", ticks=[-reach, 0, reach], format="%.2g", cax=picture.add_axes((0.465, 0.13, 0.012, 0.76)))
    bar.set_label("weight", labelpad=-4)
    places = np.linspace(0, 1, len(values) + 2)[1:-1]
    ends = np.empty(outputs)
    ends[np.argsort(code, kind="stable")] = np.linspace(1, 0, outputs)
    color = drawn.to_rgba(values)
    lines = color * [0.78, 0.78, 0.78, 1]  # darker, so that weights near zero are seen on white
    high = places[::-1]  # the smallest value on top, as it is counted first
    into = [[(0.06, 0.5), (0.5, place)] for place in high]
    out = [[(0.5, high[which]), (0.94, end)] for which, end in zip(code, ends, strict=True)]
    fan.add_collection(LineCollection(into, colors=GRAY, linewidths=0.7, zorder=1))
    fan.add_collection(LineCollection(out, colors=lines[code], linewidths=0.9, zorder=2))
    fan.scatter(np.full(len(values), 0.5), high, s=45, c=color, edgecolors=BLACK, linewidths=0.5, zorder=3)
    fan.scatter(np.full(outputs, 0.94), ends, s=9, c=color[code], edgecolors=BLACK, linewidths=0.3, zorder=3)
    if len(values) <= 16:
        for place, value in zip(high, values, strict=True):
            fan.text(0.47, place, f"{value:+.2f}", ha="right", va="center", fontsize=7, zorder=4,
                     bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.4})  # fmt: skip
    fan.plot(0.06, 0.5, "s", markersize=11, color=BLACK)
    plural = "s" * (len(values) > 1)
    heads = (0.02, f"input {column}", "left"), (0.5, f"{len(values)} product{plural}", "center"), (0.98, f"{outputs} outputs", "right")
    for x, label, side in heads:
        fan.text(x, 1.06, label, ha=side, va="center", fontsize=9)
    fan.set(xlim=(0, 1), ylim=(-0.03, 1.1))
    fan.set_axis_off()
    rows = len(np.unique(hashed, axis=0))
    text = (
        f"Input {column} is multiplied by {len(values)} distinct weight{plural} for {outputs} outputs. The layer needs {counts.sum()} "
        f"products of {hashed.size}, {1 - counts.sum() / hashed.size:.0%} are removed. Its {outputs} outputs have {rows} distinct rows, "
        f"so merging would remove {outputs - rows} of them."
    )
    spots = [Spot(0, i - 0.5, outputs - 0.5, i + 0.5, -0.5, f"input {i}: {count} products") for i, count in enumerate(counts)]
    return View(picture, text, spots)


@styled
def plot_tradeoff(
    curves: Mapping[str, Sequence[tuple[float, float]]], whole: float, *, marked: tuple[float, float], width: float = 9.6
) -> Picture:
    """Accuracy against the share of multiplications that is left, one line per way to save them, and the same near the ring.

    Args:
        curves: name -> (share left 0..1, accuracy in percent) for several strengths.
        whole: accuracy of the whole network, percent.
        marked: the setting that is compared, ringed.
        width: inches.
    """
    picture, grid = new_picture(width, 3.4, 1, 2, width_ratios=(3, 2))
    for axes in grid[0]:
        axes.axhline(whole, color=GRAY, linestyle=":", label="whole network")
        for index, (name, points) in enumerate(curves.items()):
            left, accuracy = np.transpose(sorted(points))
            color = (ORANGE, BLUE, *PALETTE[2:])[index]
            axes.plot(100 * left, accuracy, color=color, marker=MARKERS[index % len(MARKERS)], markersize=4, label=name)
        axes.plot(100 * marked[0], marked[1], "o", markersize=13, markerfacecolor="none", markeredgecolor=BLACK, markeredgewidth=1.3)
        axes.grid(axis="y")
        axes.set(xlabel="multiplications left, %")
    grid[0, 0].set(ylabel="right on new digits, %", xlim=(0, 100), ylim=(0, 102))
    place = 100 * marked[0]
    grid[0, 1].set(title="near the ring", xlim=(place - 30, place + 25), ylim=(whole - 9, whole + 2))
    grid[0, 1].legend(loc="center left", bbox_to_anchor=(1.01, 0.5))
    return picture


@styled
def plot_steps(
    places: Sequence, series: Mapping[str, Sequence[float]], *, place: str, label: str, logarithmic: bool = False, width: float = 7.0
) -> Picture:
    """Figures at a few places, such as layers or widths, one line of markers per name.

    Args:
        places: what stands below each.
        series: name -> a value per place.
        place: what they are, with its unit.
        label: of the vertical axis, with its unit.
        logarithmic: a logarithmic vertical axis.
        width: inches.
    """
    picture, grid = new_picture(width, 3.0)
    axes = grid[0, 0]
    for index, (name, values) in enumerate(series.items()):
        color = (ORANGE, BLUE, *PALETTE[2:])[index]
        axes.plot(range(len(places)), values, ("-", "--", ":")[index % 3], color=color, marker="os^D"[index % 4], markersize=6, label=name)
    axes.set_xticks(range(len(places)), list(map(str, places)))
    axes.set(xlabel=place, ylabel=label)
    if logarithmic:
        axes.set_yscale("log")
    axes.grid(axis="y")
    axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5))
    return picture


@styled
def plot_bars(places: Sequence, series: Mapping[str, Sequence[float]], *, place: str, label: str, width: float = 7.0) -> Picture:
    """Figures of things without an order, such as layers, one group of bars for each.

    Args:
        places: what stands below each group.
        series: name -> a value per place.
        place: what they are, with its unit.
        label: of the vertical axis, with its unit.
        width: inches.
    """
    picture, grid = new_picture(width, 3.0)
    axes, thick = grid[0, 0], 0.8 / len(series)
    for index, (name, values) in enumerate(series.items()):
        middle = np.arange(len(places)) + (index - (len(series) - 1) / 2) * thick
        axes.bar(middle, values, 0.9 * thick, color=(ORANGE, BLUE, *PALETTE[2:])[index], label=name)
    axes.set_xticks(range(len(places)), list(map(str, places)))
    axes.set(xlabel=place, ylabel=label)
    axes.grid(axis="y")
    axes.set_axisbelow(True)
    axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5))
    return picture

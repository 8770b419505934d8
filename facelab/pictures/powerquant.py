"""Grids of levels: where they lie over a layer's weights, what rounding to them loses, which functions keep products."""

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float, Int

from facelab.pictures.style import AMOUNT, BLUE, GRAY, ORANGE, PALETTE, PINK, Picture, new_picture, styled


@styled
def draw_grids(
    levels: Mapping[str, Sequence[float]], magnitudes: Float[np.ndarray, " n"], *, label: str = "weights", width: float = 7.0
) -> Picture:
    """A histogram of magnitudes and, below it on lines of their own, the levels of some grids.

    Args:
        levels: name -> levels, of magnitudes over their scale, 0 to 1.
        magnitudes: over their scale.
        label: of the histogram.
        width: inches.
    """
    picture, grid = new_picture(width, 1.3 + 0.35 * len(levels), 2, 1, sharex=True, height_ratios=[1.0, 0.3 * len(levels)])
    top, lines = grid[:, 0]
    top.hist(magnitudes, bins=60, range=(0, 1), color="#cccccc")
    top.set(ylabel=label, yticks=[])
    for row, (name, own) in enumerate(levels.items()):
        color = PALETTE[row % len(PALETTE)]
        lines.plot([0, 1], [-row, -row], color=GRAY, linewidth=0.7)
        lines.plot(own, [-row] * len(own), "|", color=color, markersize=12, markeredgewidth=2)
        lines.text(1.02, -row, name, color=color, va="center")
    lines.set(xlim=(-0.01, 1.18), ylim=(0.6 - len(levels), 0.6), yticks=[], xticks=[0, 0.25, 0.5, 0.75, 1])
    lines.set_xlabel("magnitude, of the largest")
    lines.spines["left"].set_visible(False)
    return picture


@styled
def plot_product_errors(errors: Mapping[str, Float[np.ndarray, "N N"]], ends: tuple[float, float], *, width: float = 8.0) -> Picture:
    """How far f(x) f(y) is from f(xy), a map for each function.

    Args:
        errors: name -> absolute differences, y along the first axis, ascending.
        ends: smallest and largest x and y.
        width: inches.
    """
    picture, grid = new_picture(width, 2.6, 1, len(errors))
    most = max(float(own.max()) for own in errors.values())
    for axes, (name, own) in zip(grid[0], errors.items(), strict=True):
        shown = axes.imshow(own, origin="lower", extent=(*ends, *ends), cmap=AMOUNT, vmin=0, vmax=most)
        axes.set(xlabel="x", ylabel="y")
        axes.set_title(f"{name}: at most {own.max():.2g}")
    picture.colorbar(shown, ax=grid[0, -1], label="|f(x) f(y) - f(xy)|", shrink=0.9)
    return picture


@styled
def plot_levels(
    counts: Int[np.ndarray, " bins"],
    edges: Float[np.ndarray, " bins+1"],
    levels: Float[np.ndarray, " L"],
    thresholds: Float[np.ndarray, " T"],
    lost: Mapping[str, Float[np.ndarray, " bins"]],
    *,
    exponents: Float[np.ndarray, " N"],
    curves: Mapping[str, Float[np.ndarray, " N"]],
    index: int,
) -> Picture:
    """A layer's weights with the levels of a power grid, what rounding loses where; beside it the error at every exponent.

    Args:
        counts, edges: histogram of the weights over their scale, -1 to 1.
        levels, thresholds: of the magnitudes.
        lost: name -> squared error of the weights in each bin; the first is that of these levels.
        exponents: increasing.
        curves: name -> error at each of them, percent of that at exponent 1.
        index: the exponent that is shown.
    """
    picture = Picture(figsize=(9.0, 3.9))  # fixed places: laying out anew would take half of the time
    top, below = picture.add_axes((0.07, 0.52, 0.52, 0.41)), picture.add_axes((0.07, 0.125, 0.52, 0.3))
    high = 1.05 * float(counts.max())
    every, fences = np.concatenate([-levels[:0:-1], levels]), np.concatenate([-thresholds[::-1], thresholds])
    top.stairs(counts, edges, fill=True, color="#d4d4d4")
    top.vlines(fences, 0, high, color=PINK, linewidth=0.8, alpha=0.9 if len(fences) < 40 else 0.4)
    top.vlines(every, 0, 0.55 * high, color=ORANGE, linewidth=min(2.2, 80 / len(every)))
    top.set(xlim=(-1.02, 1.02), ylim=(0, high), ylabel="weights")
    top.set_title(f"{len(every)} levels (orange) and the thresholds between them (pink)")
    middle = (edges[1:] + edges[:-1]) / 2
    for place, (name, own) in enumerate(lost.items()):
        color = (ORANGE, BLUE)[place]
        below.plot(middle, own, color=color, linewidth=1.3)
        below.text(-0.99, (0.95 - 0.16 * place) * max(float(part.max()) for part in lost.values()), name, color=color, va="top", fontsize=8)
    below.set(xlim=(-1.02, 1.02), xlabel="weight, of its scale", ylabel="squared error", yticks=[])
    right = picture.add_axes((0.675, 0.125, 0.315, 0.805))
    right.axvline(exponents[index], color="#e8d9b4", linewidth=5, zorder=0)
    right.axhline(100, color=GRAY, linewidth=0.8, linestyle=":")
    for place, (name, curve) in enumerate(curves.items()):
        color = PALETTE[(1, 2)[place]]
        right.plot(exponents, curve, color=color)
        right.plot(exponents[index], curve[index], "o", color=color, markeredgecolor="white", markersize=6)
        right.text(0.5, 0.93 - 0.07 * place, name, color=color, fontsize=8, ha="center", transform=right.transAxes)
    lowest = min(float(curve.min()) for curve in curves.values())
    right.set(xlabel="exponent", ylabel="error, % of that of even steps", ylim=(lowest - 8, 205))
    right.set_title("reconstruction error")
    for axes in (top, below, right):
        axes.set_xticks([] if axes is top else [0.5, 1.0, 1.5] if axes is right else [-1, 0, 1])  # ticks are half of the redraw
    top.locator_params(axis="y", nbins=3)
    right.set_yticks([50, 100, 150, 200])
    return picture

"""Ternary weights: three cells on a histogram, what each weight loses, errors by thresholds and by tails, accuracy by scenario."""

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float

from facelab.pictures.style import AMOUNT, BLACK, BLUE, GRAY, GREEN, ORANGE, PINK, RED, SKY, YELLOW, Picture, new_picture, styled

COLORS = {"naive": GRAY, "TQuant": BLUE, "MQuant": ORANGE, "MQuant, skewed": RED, "TWN": GREEN, "Lloyd": PINK}
MARKERS = {"naive": "X", "TQuant": "s", "MQuant": "o", "MQuant, skewed": "P", "TWN": "^", "Lloyd": "D"}
"""Of each operator, everywhere."""


@styled
def show_cells(
    weights: Float[np.ndarray, " n"], low: float, high: float, level: float, *, title: str = "", reach: float | None = None
) -> Picture:
    """One channel: its weights as a histogram, coloured by code, the three levels below; and how far each weight is moved.

    Args:
        weights: of the channel.
        low, high: thresholds; below the first the code is -1, above the second 1.
        level: what the outer codes stand for.
        title: of the histogram.
        reach: how far the axis goes; the largest weight if it is not given.
    """
    reach = 1.05 * (reach or max(float(np.abs(weights).max(initial=0.0)), level, 1e-9))
    picture = Picture(figsize=(9.6, 3.9))  # axes at fixed places, which is quicker to redraw
    histogram, moved = picture.add_axes((0.07, 0.14, 0.5, 0.74)), picture.add_axes((0.65, 0.14, 0.33, 0.74))
    step, cell = reach / 30, high - low
    step = cell / round(cell / step) if cell > step else step  # so that no bin lies on both sides of a threshold
    edges = low + step * np.arange(np.floor((-reach - low) / step), np.ceil((reach - low) / step) + 1)
    codes = (weights > high).astype(int) - (weights < low)
    top = max(1, np.histogram(weights, edges)[0].max())
    below: Float[np.ndarray, " bins"] = np.zeros(len(edges) - 1)
    for code, color in ((-1, ORANGE), (0, GRAY), (1, SKY)):
        own = below + np.histogram(weights[codes == code], edges)[0]
        histogram.stairs(own, edges, baseline=below, fill=True, color=color)
        words = f"code {code}: {(codes == code).mean():.0%}"  # beside each other at fixed places: a legend takes a tenth of the redraw
        histogram.text(0.5 + 0.3 * code, 0.97, words, color=color, ha="center", va="top", weight="bold", transform=histogram.transAxes)
        below = own
        histogram.plot([code * level], [-0.055 * top], "^", color=color if code else BLACK, ms=8, mec=BLACK, clip_on=False)
    for edge in (low, high):
        histogram.axvline(edge, 0, 0.88, color=BLACK, lw=1.0, ls="--")
    histogram.set(xlabel="weight (triangles: the three levels)", ylabel="number of weights")
    histogram.set(xlim=(-reach, reach), ylim=(-0.11 * top, 1.3 * top))
    histogram.set_title(title)
    places = np.linspace(-reach, reach, 401)
    at = level * ((places > high).astype(float) - (places < low))
    moved.plot(places, np.abs(places - at), color=BLACK, lw=1.0)
    off = np.abs(weights - level * codes)
    moved.plot(weights, off, ".", color=BLUE, ms=4, alpha=0.5)
    moved.set(xlabel="weight", ylabel="error", xlim=(-reach, reach), ylim=(0, 1.25 * max(reach / 2, off.max(initial=0.0))))
    moved.set_title("how far each weight is moved")
    for axes in (histogram, moved):
        axes.locator_params(nbins=4)  # ticks are half of the redraw
    moved.text(0.03, 0.97, "any weight (line)", color=BLACK, va="top", transform=moved.transAxes)
    moved.text(0.97, 0.97, "this channel's (dots)", color=BLUE, ha="right", va="top", transform=moved.transAxes)
    return picture


@styled
def plot_landscape(weights: Float[np.ndarray, " n"], points: Mapping[str, tuple[float, float]], *, width: float = 9.6) -> Picture:
    """The largest, mean and root mean square error for all pairs of a threshold and a level, as contours; the operators as points.

    Args:
        weights: of one channel.
        points: operator -> its threshold and level, in units of the weights.
        width: inches.
    """
    magnitudes, largest = np.abs(weights) / np.abs(weights).max(), float(np.abs(weights).max())
    thresholds, levels = np.linspace(0.02, 0.98, 49), np.linspace(0.1, 1.06, 49)
    off = np.abs(magnitudes - levels[:, None, None] * (magnitudes > thresholds[:, None]))  # levels x thresholds x weights
    errors = {"largest": off.max(axis=2), "mean": off.mean(axis=2), "RMS": np.sqrt(np.square(off).mean(axis=2))}
    picture, grid = new_picture(width, 3.4, 1, len(errors), sharey=True)
    for axes, (kind, values) in zip(grid[0], errors.items(), strict=True):
        axes.contourf(thresholds, levels, values, 14, cmap=AMOUNT)
        lowest = np.unravel_index(values.argmin(), values.shape)
        axes.plot(thresholds[lowest[1]], levels[lowest[0]], "*", color=YELLOW, mec=BLACK, ms=15, label="lowest", zorder=3)
        for name, (threshold, level) in points.items():
            axes.plot(threshold / largest, level / largest, MARKERS[name], color=COLORS[name], mec="white", ms=8, label=name, zorder=4)
        axes.set(xlabel="threshold / largest weight", title=f"{kind} error, {values.min():.2f} (dark) to {values.max():.2f}")
    grid[0, 0].set_ylabel("level / largest weight")
    grid[0, -1].legend(loc="upper left", bbox_to_anchor=(1.02, 1.0))
    return picture


@styled
def plot_tails(
    kurtosis: Float[np.ndarray, " K"], errors: Mapping[str, Mapping[str, Float[np.ndarray, " K"]]], *, width: float = 9.6
) -> Picture:
    """Each kind of error against the weight of the tails, a line for each operator.

    Args:
        kurtosis: of the weights, 1.8 for uniform ones, 3 for Gaussian ones.
        errors: kind -> operator -> error in the unit that the kind names.
        width: inches.
    """
    picture, grid = new_picture(width, 3.1, 1, len(errors))
    for axes, (kind, curves) in zip(grid[0], errors.items(), strict=True):
        for name, values in curves.items():
            axes.plot(kurtosis, values, marker=MARKERS[name], ms=4, color=COLORS[name], label=name)
        axes.set(xlabel="kurtosis", ylabel=kind, ylim=(0, None), xscale="log")
        axes.set_xticks([2, 3, 5, 8, 12], ["2", "3", "5", "8", "12"])
        axes.minorticks_off()
        axes.grid()
    grid[0, -1].legend(loc="upper left", bbox_to_anchor=(1.02, 1.0))
    return picture


@styled
def plot_scenarios(
    scores: Mapping[str, Mapping[str, Sequence[float]]],
    whole: float,
    *,
    label: str = "right, %",
    filled: int | None = None,
    kinds: str = "black: networks",
    width: float = 9.6,
) -> Picture:
    """A group for each scenario, in it a dot for each network and a bar for the mean of each operator.

    Args:
        scores: scenario -> operator -> score of each network.
        whole: mean score of the networks before rounding.
        label: what is measured, with its unit.
        filled: how many networks, from the first, have filled dots; all if it is not given.
        kinds: what the dots are, above the legend.
        width: inches.
    """
    picture, grid = new_picture(width, 3.6)
    axes, known = grid[0, 0], list(dict.fromkeys(name for own in scores.values() for name in own))
    for place, own in enumerate(scores.values()):
        for number, name in enumerate(own):
            x, values = place + 0.15 * (number - (len(known) - 1) / 2), np.asarray(own[name], dtype=float)
            axes.bar(x, values.mean(), 0.13, color=COLORS[name], alpha=0.75, label=name if place == 0 else None)
            dots, first = x + np.linspace(-0.035, 0.035, len(values)), len(values) if filled is None else filled
            axes.plot(dots[:first], values[:first], MARKERS[name], color=BLACK, ms=3)
            axes.plot(dots[first:], values[first:], MARKERS[name], color=BLACK, mfc="white", mew=0.6, ms=3.4)
            axes.text(x, 1.5, f"{values.mean():.0f}", ha="center", color=BLACK, fontsize=7)
    axes.axhline(whole, color=BLACK, lw=0.9, ls="--", label="numbers of 32 bits")
    axes.set_xticks(range(len(scores)), list(scores))
    axes.set(ylabel=label, ylim=(0, 104))
    axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1.0), title=kinds)
    return picture

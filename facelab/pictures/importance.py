"""What perturbing layers does, and which criterion foresees it: heat maps, scatter plots, rank lines, and a weight's eight bits."""

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from scipy.stats import rankdata, spearmanr

from facelab.pictures.style import (
    AMOUNT,
    BLACK,
    BLUE,
    GRAY,
    ORANGE,
    RED,
    SKY,
    Picture,
    as_array,
    bare,
    new_picture,
    styled,
)


@styled
def draw_assessment(
    falls: Sequence[float], predicted: Sequence[float], *, disturbed: int = 1, family: str = "noise", width: float = 9.0
) -> Picture:
    """How a criterion is judged: a layer of a chain is disturbed, the fall of the score is measured, and a guess has to foresee the order.

    Args:
        falls: (L,) what the score loses when each layer is disturbed.
        predicted: (L,) what a criterion says about them.
        disturbed: the layer that is marked, 0..L-1.
        family: of disturbances, written on the marked layer.
        width: inches.

    Raises:
        ValueError: the lists differ in length, or there is no such layer.
    """
    count = len(falls)
    if len(predicted) != count or not 0 <= disturbed < count:
        raise ValueError(f"{count} falls, {len(predicted)} predictions and layer {disturbed} do not fit; give one of each for every layer.")
    picture, grid = new_picture(width, 2.5, 1, 3, width_ratios=[1.2, 1, 1])
    chain = bare(grid[0, 0], "1. disturb one layer")
    chain.set(xlim=(-0.7, count - 0.3), ylim=(-0.9, 1.3))
    for layer in range(count):
        hit = layer == disturbed
        box = {"boxstyle": "round,pad=0.5", "facecolor": ORANGE if hit else "white", "edgecolor": BLACK}
        chain.text(layer, 0, f"$W_{{{layer + 1}}}$", ha="center", va="center", bbox=box, fontsize=9)
        if layer:
            chain.annotate("", (layer - 0.34, 0), (layer - 0.66, 0), arrowprops={"arrowstyle": "-|>", "color": GRAY})
    chain.annotate(family, (disturbed, 0.32), (disturbed, 1.0), ha="center", color=RED, arrowprops={"arrowstyle": "-|>", "color": RED})
    chain.text(disturbed, -0.6, "the others stay", ha="center", fontsize=8, color=GRAY)
    panels = (("2. measure the fall of the score", falls), ("3. predict it from gradients", predicted))
    for axes, (title, values) in zip(grid[0, 1:], panels, strict=True):
        colors = [ORANGE if layer == disturbed else BLUE for layer in range(count)]
        axes.bar(range(count), values, color=colors, width=0.6)
        for layer, rank in enumerate(rankdata(-as_array(values)).tolist()):
            axes.text(layer, values[layer], f"{rank:g}.", ha="center", va="bottom", fontsize=9)
        axes.set_xticks(range(count), [f"$W_{{{layer + 1}}}$" for layer in range(count)])
        axes.set(title=title, yticks=[], ylim=(0, 1.2 * max(values)))
    return picture


@styled
def plot_sensitivity(
    frame: pd.DataFrame, *, units: Mapping[str, str] | None = None, label: str = "drop of the score", width: float = 9.0
) -> Picture:
    """Heat maps of layers x levels, one per family of perturbations, all in one scale that spreads the small drops.

    Args:
        frame: columns layer, family, level, drop and, for the order of rows, depth; draws are averaged.
        units: family -> what its levels are, for the horizontal axis.
        label: what is coloured, with its unit.
        width: inches.

    Raises:
        ValueError: a column is missing, or the table is empty.
    """
    if missing := sorted({"layer", "family", "level", "drop", "depth"} - set(frame.columns)):
        raise ValueError(f"The table lacks the columns {missing}; give one of measured sensitivity.")
    if frame.empty:
        raise ValueError("The table of measured sensitivity is empty; there is nothing to draw: measure at least one layer.")
    families, layers = list(frame.family.unique()), _in_order(frame)
    means = frame.groupby(["family", "level", "layer"])["drop"].mean()
    bottom, top = min(0.0, float(means.min())), max(float(means.max()), 1e-12)
    scale = mpl.colors.AsinhNorm(linear_width=top / 50, vmin=bottom, vmax=top)  # else one large drop would leave the others alike
    picture, grid = new_picture(width, 0.25 * len(layers) + 1.0, 1, len(families), sharey=True)
    for axes, family in zip(grid.flat, families, strict=True):
        levels = sorted(means[family].index.unique("level"), reverse=family == "quantisation")
        figures = [{part: drop for text, drop in means[family, level].items() for part in text.split("+")} for level in levels]
        table = np.array([[column.get(layer, np.nan) for column in figures] for layer in layers])
        shown = axes.imshow(table, aspect="auto", cmap=AMOUNT, norm=scale)
        axes.set_xticks(range(len(levels)), [f"{level:g}".replace("0.", ".", 1) for level in levels])
        axes.set_yticks(range(len(layers)), layers)
        tied = any("+" in text for text in means[family].index.unique("layer"))
        axes.set(title=family, xlabel=(units or {}).get(family, "level") + ("\n(tied layers share a figure)" if tied else ""))
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)
        if len(layers) <= 16 and len(families) <= 4:
            for (i, j), value in np.ndenumerate(table):
                color = "black" if scale(value) > 0.5 else "white"
                text = f"{round(value, 2) + 0.0:.2f}".replace("0.", ".", 1) if np.isfinite(value) else ""
                axes.text(j, i, text, ha="center", va="center", fontsize=7, color=color)
    ticks = [0.0, 0.05 * top, 0.25 * top, top]
    bar = picture.colorbar(shown, ax=list(grid.flat), fraction=0.03, pad=0.01, label=label, ticks=ticks, format="%.2g")
    bar.ax.minorticks_off()
    bar.outline.set_visible(False)  # type: ignore[operator]
    return picture


@styled
def plot_agreement(
    criteria: Mapping[str, Any], truth: Any, names: Sequence[str], *, low: Any = None, high: Any = None, label: str = "measured mean drop",
    columns: int = 4, width: float = 9.0,
) -> Picture:  # fmt: skip
    """Each criterion against the truth, a point per layer: a rising line where it foresees it. Headed by Spearman's correlation.

    Args:
        criteria: name -> (L,) values.
        truth: (L,) measured drops, of the same layers.
        names: of the layers.
        low, high: (L,) intervals of the truth.
        label: what the truth is, with its unit.
        columns: panels beside each other.
        width: inches.

    Raises:
        ValueError: there is no criterion or no layer.
    """
    truth = as_array(truth).astype(float)
    _something(criteria, truth)
    columns = min(columns, len(criteria))
    rows = -(-len(criteria) // columns)
    picture, grid = new_picture(width, rows * (width / columns * 0.82 + 0.2) + 0.2, rows, columns, sharey=True)
    colors = _by_depth(len(names))
    for axes in grid.flat[len(criteria) :]:
        axes.set_axis_off()
    for panel, (axes, (criterion, values)) in enumerate(zip(grid.flat, criteria.items(), strict=False)):
        values = as_array(values).astype(float)
        if low is not None and high is not None:
            axes.vlines(values, as_array(low), as_array(high), color="#bbbbbb", linewidth=1.4, zorder=1)
        axes.scatter(values, truth, c=colors, s=26, edgecolors=BLACK, linewidths=0.4, zorder=2)
        if len(criteria) <= 4:
            _name_points(axes, values, truth, names)
        axes.set_title(f"{criterion}: {_spearman(values, truth):.2f}")
        axes.locator_params(nbins=4)
        axes.margins(0.14)
        axes.grid()
        axes.set_axisbelow(True)
        if panel % columns == 0:
            axes.set_ylabel(label)
    grid[-1, 0].set_xlabel("criterion; dark: first layers, bright: last")
    return picture


@styled
def plot_ranks(
    truth: Any, criteria: Mapping[str, Any], names: Sequence[str], *, truth_label: str = "measured", width: float = 9.0
) -> Picture:
    """Rank lines: each layer's place by the truth (left) and by each criterion; parallel lines agree. Ties share their mean rank.

    Args:
        truth: (L,) measured drops.
        criteria: name -> (L,) values, higher is more important.
        names: of the layers.
        truth_label: head of the left column.
        width: inches.

    Raises:
        ValueError: there is no criterion or no layer.
    """
    _something(criteria, as_array(truth))
    ranks = np.array([rankdata(-as_array(values)) for values in (truth, *criteria.values())])
    count = len(names)
    picture, grid = new_picture(width, 0.26 * count + 0.9)
    axes = grid[0, 0]
    for layer, color in enumerate(_by_depth(count)):
        axes.plot(range(len(ranks)), ranks[:, layer], "-", color=color, linewidth=2, solid_joinstyle="round", zorder=1)
        axes.plot(range(len(ranks)), ranks[:, layer], "o", color=color, markersize=7, markeredgecolor="white", zorder=2)
    for side, x, align in ((ranks[0], -0.08, "right"), (ranks[-1], len(ranks) - 0.92, "left")):
        for rank in np.unique(side):
            together = ", ".join(name for name, r in zip(names, side, strict=True) if r == rank)
            axes.text(x, rank, together if len(together) < 40 else together[:39] + "…", ha=align, va="center", fontsize=8)
    heads = [truth_label] + [f"{name}\n{_spearman(as_array(v), as_array(truth)):.2f}" for name, v in criteria.items()]
    axes.set_xticks(range(len(ranks)), heads)
    axes.xaxis.tick_top()
    axes.set(ylim=(count + 0.6, 0.4), yticks=[], xlim=(-0.08, len(ranks) - 0.92))
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    return picture


def _something(criteria: Mapping[str, Any], truth: np.ndarray) -> None:
    if not (len(criteria) and truth.size):
        raise ValueError(
            f"There are {len(criteria)} criteria for {truth.size} layers, so there is nothing to draw; give one of each at least."
        )


@styled
def draw_bit_flips(
    code: int, scale: float, *, flipped: int | None = None, effects: Mapping[str, Any] | None = None, width: float = 9.0
) -> Picture:
    """One weight as the eight bits of its int8 code (two's complement), and what flipping each of them would do.

    Args:
        code: -128..127; the weight is scale x code.
        scale: what one step of the code is worth.
        flipped: the bit (0 is the lowest, 7 the sign) that a fault has flipped, outlined.
        effects: what is measured after each flip -> (8,) values, bit 0 first; a row of bars each.
        width: inches.

    Raises:
        ValueError: a code that does not fit into 8 bits.
    """
    if not -128 <= code <= 127:
        raise ValueError(f"The code {code} does not fit into 8 bits; give one from -128 to 127.")
    bits = [(code & 0xFF) >> bit & 1 for bit in range(8)]
    steps = np.array([(1 - 2 * bits[bit]) * (1 << bit if bit < 7 else -128) for bit in range(8)])
    shown = {"change of the weight": steps * scale} | {name: as_array(values).astype(float) for name, values in (effects or {}).items()}
    picture, grid = new_picture(width, 1.25 + 0.95 * len(shown), 1 + len(shown), 1, height_ratios=[0.85] + [1] * len(shown), sharex=True)
    cells: Axes = bare(grid[0, 0])
    for bit in range(8):
        x = 7 - bit
        fault = bit == flipped
        value = bits[bit] ^ fault
        look = {"facecolor": SKY if value else "white", "edgecolor": RED if fault else GRAY, "linewidth": 2.8 if fault else 1.0}
        cells.bar(x, 1, width=0.86, **look)
        cells.text(x, 0.5, str(value), ha="center", va="center", fontsize=14, fontweight="bold")
        cells.text(x, 1.1, f"bit {bit}\nworth {'+' if bit < 7 else '−'}{1 << bit}", ha="center", va="bottom", fontsize=7.5)
    cells.set(ylim=(0, 1.75), xlim=(-0.6, 7.6))
    if flipped is None:
        cells.set_title(f"code {code}: the weight is {scale * code:.4g}")
    else:
        after = code + int(steps[flipped])
        cells.set_title(f"code {code}, weight {scale * code:.4g}; with bit {flipped} flipped: code {after}, weight {scale * after:.4g}")
    for axes, (name, values) in zip(grid[1:, 0], shown.items(), strict=True):
        colors = [RED if bit == flipped else ORANGE if name == "change of the weight" else BLUE for bit in range(8)]
        axes.bar(7 - np.arange(8), values, width=0.5, color=colors)
        reach = max(float(np.abs(values).max()), 1e-12)
        for bit, value in enumerate(values):
            axes.text(
                7 - bit,
                value + np.copysign(0.06 * reach, value),
                f"{value:.2g}",
                ha="center",
                va="bottom" if value >= 0 else "top",
                fontsize=7,
            )
        axes.axhline(0, color=GRAY, linewidth=0.8)
        axes.set(ylim=(min(float(values.min()), 0) - 0.4 * reach, max(float(values.max()), 0) + 0.4 * reach), xticks=[])
        axes.locator_params(axis="y", nbins=3)
        axes.set_title(name)
    return picture


def _in_order(frame: pd.DataFrame) -> list[str]:
    """Layers by depth; one that was only measured tied to others stands after the first of them."""
    depths: dict[str, float] = {}
    for text, depth in frame.groupby("layer", sort=False).depth.first().items():
        for place, part in enumerate(str(text).split("+")):
            depths[part] = max(depths.get(part, 0.0), float(depth) + place / 1000)
    return sorted(depths, key=lambda layer: depths[layer])


def _name_points(axes: Axes, x: np.ndarray, y: np.ndarray, names: Sequence[str]) -> None:
    """Names beside points, the highest first, as long as they do not run into another name."""
    places: list[tuple[float, float]] = []
    for i in np.argsort(-y, kind="stable"):
        at = (x[i] / max(np.ptp(x), 1e-300), y[i] / max(np.ptp(y), 1e-300))
        if all(abs(at[0] - other[0]) > 0.3 or abs(at[1] - other[1]) > 0.06 for other in places):
            axes.annotate(names[i], (x[i], y[i]), xytext=(4, 3), textcoords="offset points", fontsize=6.5, color="#555555")
            places.append(at)


def _by_depth(count: int) -> list:
    """Colours of layers, first to last."""
    return [mpl.colormaps[AMOUNT](i / max(count - 1, 1)) for i in range(count)]


def _spearman(first: np.ndarray, second: np.ndarray) -> float:
    """NaN where one of them does not vary."""
    if np.ptp(first) == 0 or np.ptp(second) == 0:
        return float("nan")
    return float(spearmanr(first, second).statistic)

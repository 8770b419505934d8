"""A network as a row of layers, figures per layer as bars, and its score under attack: one picture that keeps pace with a slider."""

from collections.abc import Sequence
from dataclasses import dataclass

import matplotlib as mpl
import numpy as np
from jaxtyping import Float, Int
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection, PolyCollection
from matplotlib.colors import to_hex
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from facelab.pictures.lettering import Lettering, fitted, outline
from facelab.pictures.style import AMOUNT, BLACK, ESTIMATE, GRAY, GREEN, PALETTE, TRUTH, Picture, styled

DIM, LIGHT, PICKED, INK = "#777777", "#dddddd", "#fff0d0", "#a06f00"
WIDTH, STRIP, NAMES, LEFT = 10.0, 1.3, 1.5, 6.15  # inches: all, height of the row of blocks, column of names, left part


ROWS = 20
"""Layers that have a row at once, so that the picture fits a small screen: those around the picked one."""


def rows_shown(order: Int[np.ndarray, " L"], picked: int) -> range:
    """Which rows are drawn: all, or `ROWS` around that of the picked layer."""
    first = int(np.clip(int(np.flatnonzero(order == picked)[0]) - ROWS // 2, 0, max(len(order) - ROWS, 0)))
    return range(first, min(first + ROWS, len(order)))


@dataclass(frozen=True)
class Column:
    """A figure per layer, to be drawn as bars.

    Attributes:
        label, note: what stands above: the name, and the unit.
        values: NaN where not known.
        low, high: intervals.
        marks: something to compare each bar with, as a small tick.
        texts: written after each bar.
        top: what a full bar stands for; by default the highest of all.
    """

    label: str
    note: str
    values: Float[np.ndarray, " L"]
    color: str = ESTIMATE
    low: Float[np.ndarray, " L"] | None = None
    high: Float[np.ndarray, " L"] | None = None
    marks: Float[np.ndarray, " L"] | None = None
    texts: Sequence[str] = ()
    top: float | None = None


@dataclass(frozen=True)
class Curves:
    """The drop of each layer (L,V) at the levels of a family, mildest first, and its intervals; NaN where not measured."""

    family: str
    levels: Sequence[str]
    unit: str
    drop: Float[np.ndarray, "L V"]
    low: Float[np.ndarray, "L V"]
    high: Float[np.ndarray, "L V"]


@dataclass(frozen=True)
class Outcome:
    """The score (G,) after budgets (G,) were spent in one way: measured, its interval, and what had been predicted (NaN: unknown)."""

    label: str
    budgets: Float[np.ndarray, " G"]
    measured: Float[np.ndarray, " G"]
    low: Float[np.ndarray, " G"]
    high: Float[np.ndarray, " G"]
    predicted: Float[np.ndarray, " G"]
    color: str


@styled
def plot_layers(
    names: Sequence[str],
    sizes: Float[np.ndarray, " L"],
    columns: Sequence[Column],
    curves: Sequence[Curves],
    *,
    order: Int[np.ndarray, " L"],
    picked: int,
    shades: Float[np.ndarray, " L"],
    size_label: str = "parameters",
    shade_label: str = "",
    drop_label: str = "drop",
    family: str = "",
    ties: Sequence[Sequence[int]] = (),
    outcomes: Sequence[Outcome] = (),
    budget: float = 0.0,
    budget_label: str = "budget",
    score_label: str = "score",
) -> Picture:
    """The explorer's picture: axes 0 the blocks, 1 the rows of bars, 2 the picked layer's curves, 3 (with outcomes) the budget.

    Data of axes 0: x is the layer's place in order of execution. Of axes 1: y is the row. Of axes 2: x counts levels, with one place
    empty between families. Of axes 3: x is the budget.

    Args:
        names: (L,) of layers, in order of execution.
        sizes: (L,) what the height of a block stands for, by its square root.
        columns: bars, left to right.
        curves: by family.
        order: which layer is in which row; of more than `ROWS`, those around the picked one are drawn.
        picked: the layer whose curves are shown.
        shades: (L,) what the colour of a block stands for; NaN is white.
        family: which family is set off.
        ties: layers whose channels can only go together.
        budget: marked in the last panel.
    """
    count = min(len(names), ROWS)
    row = float(np.clip(2.85 / count, 0.135, 0.32))
    body = max(count * row + 0.95, 3.8 if outcomes else 2.9)
    picture = Picture(figsize=(WIDTH, STRIP + body))

    def place(x: float, y: float, width: float, height: float) -> Axes:
        """Axes without ticks, in inches from the top left."""
        axes = picture.add_axes((x / WIDTH, 1 - (y + height) / (STRIP + body), width / WIDTH, height / (STRIP + body)))
        axes.set_axis_off()
        return axes

    strip, rows = place(0.1, 0.05, WIDTH - 0.2, STRIP - 0.1), place(0.1, STRIP, LEFT - 0.1, body)
    _blocks(strip, names, sizes, shades, picked, ties, f"height: √ {size_label}", shade_label)
    _rows(rows, names, columns, order, picked, row, body)
    right, wide = LEFT + 0.5, WIDTH - LEFT - 0.62
    high = (body - 1.35) * 0.55 if outcomes else min(body - 0.85, 2.6)
    _curves(place(right, STRIP + 0.36, wide, high), names[picked], curves, picked, family, drop_label)
    if outcomes:
        _outcomes(place(right, STRIP + high + 1.08, wide, body - high - 1.5), outcomes, budget, budget_label, score_label)
    return picture


def _boxes(axes: Axes, left, bottom, right, top, gid: str, **look) -> None:
    """Filled rectangles, all in one."""
    x0, y0, x1, y1 = (np.atleast_1d(side) for side in np.broadcast_arrays(left, bottom, right, top))
    corners = np.array([[x0, y0], [x0, y1], [x1, y1], [x1, y0]], dtype=float).transpose(2, 0, 1)
    axes.add_collection(PolyCollection(corners, gid=gid, **{"linewidths": 0, **look}), autolim=False)


def _strokes(axes: Axes, segments, gid: str = "lines", **look) -> None:
    """Straight lines, all in one."""
    axes.add_collection(LineCollection(list(segments), gid=gid, **{"capstyle": "butt", **look}), autolim=False)


def _spans(axes: Axes, x, low, high, **look) -> None:
    """Intervals, where both ends are known."""
    known = [[(at, lo), (at, hi)] for at, lo, hi in zip(x, low, high, strict=True) if np.isfinite(lo + hi)]
    _strokes(axes, known, "intervals", alpha=0.4, **look)


def _line(axes: Axes, x, y, gid: str, **look) -> None:
    """A line with markers, without what `plot` does for axes that find their own limits."""
    axes.add_artist(Line2D(x, y, gid=gid, markersize=4, **look))


def _blocks(axes: Axes, names, sizes, shades, picked, ties, size_label, shade_label) -> None:
    """The layers in order of execution, data flowing from left to right."""
    count = len(names)
    slots = max(count, 8)
    middle = (count - 1) / 2
    axes.set(xlim=(middle - slots / 2, middle + slots / 2), ylim=(-1.1, 1.15))
    letters = Lettering(axes)
    tall = 0.04 + 0.5 * np.sqrt(np.asarray(sizes, dtype=float) / max(float(np.max(sizes)), 1e-12))
    scale = max(float(np.nanmax(shades)) if np.isfinite(shades).any() else 0.0, 1e-12)
    table = mpl.colormaps[AMOUNT]
    colors = [to_hex(table(float(np.clip(s / scale, 0, 1)))) if np.isfinite(s) else "white" for s in shades]
    x = np.arange(count)
    _strokes(axes, [[(-0.75, 0), (count - 0.25, 0)]], colors=GRAY, linewidths=1.2, zorder=0)
    _boxes(axes, x - 0.36, -tall, x + 0.36, tall, "blocks", facecolors=colors, edgecolors=GRAY, linewidths=0.6, zorder=2)
    _boxes(axes, picked - 0.44, -tall[picked] - 0.05, picked + 0.44, tall[picked] + 0.05, "picked block",
           facecolors="none", edgecolors=ESTIMATE, linewidths=2.4, zorder=3)  # fmt: skip
    room = (WIDTH - 0.2) / slots
    for i, name in enumerate(names):
        letters.say(i, -0.68, str(i + 1) if room < 0.5 else name, 7, align="center", bold=i == picked, width=0.92 * room)
    for lane, members in _lanes(ties):
        y = -0.88 - 0.09 * lane
        line = [[(members[0], y), (members[-1], y)]] + [[(m, y), (m, y + 0.06)] for m in members]
        _strokes(axes, line, "ties", colors=GREEN, linewidths=1.6)
    left, right = axes.get_xlim()
    letters.say(left, 1.05, f"the network, input to output; {size_label}" + ("; green: tied channels" if ties else ""), 8.5)
    inch = (right - left) / (WIDTH - 0.2)
    edges = np.linspace(right - 1.5 * inch, right - 0.5 * inch, 25)
    _boxes(axes, edges[:-1], 0.98, edges[1:], 1.12, "scale", facecolors=table(np.linspace(0, 1, 24)), antialiaseds=False)
    letters.say(edges[0], 1.05, f"colour: {shade_label}  0", 8, align="right", shift=(-4, 0))
    letters.say(edges[-1], 1.05, f"{scale:.2g}" if np.isfinite(shades).any() else "–", 8, shift=(4, 0))
    letters.write()


def _lanes(ties: Sequence[Sequence[int]]) -> list[tuple[int, list[int]]]:
    """Each set of tied layers, and on which of several parallel lines it fits without crossing another."""
    ends: list[int] = []
    found = []
    for members in sorted(map(sorted, ties)):
        lane = next((i for i, end in enumerate(ends) if end < members[0]), len(ends))
        ends[lane:] = [members[-1]] + ends[lane + 1 :]
        found.append((lane, members))
    return found


def _rows(axes: Axes, names, columns, order, picked, row, body) -> None:
    """A row per layer: its name and its bars."""
    rows, width = rows_shown(order, picked), LEFT - 0.1
    y, order, top = np.array(rows), order[rows], rows[0] - 0.5
    axes.set(xlim=(0, width), ylim=(top + (body - 0.55) / row, top - 0.55 / row))
    letters = Lettering(axes)
    size = min(8.5, 72 * row * 0.7)
    here = int(y[order == picked][0])
    if len(rows) < len(names):
        letters.say(0.26, top, f"rows {rows[0] + 1} to {rows[-1] + 1} of {len(names)}", 7, DIM, shift=(0, 16))
    _boxes(axes, 0, here - 0.5, width, here + 0.5, "picked row", facecolors=PICKED, zorder=0)
    for i, layer in zip(rows, order, strict=True):
        letters.say(0.2, i, str(layer + 1), size, DIM, "right")
        letters.say(0.26, i, names[layer], size, bold=i == here, width=NAMES - 0.32)
    step = (width - NAMES) / len(columns)
    for k, column in enumerate(columns):
        left, wide = NAMES + k * step, step - 0.14
        bars = wide - (0.25 if column.texts else 0.05)
        values = column.values[order]
        ends = [v for v in (column.values, column.high, column.low) if v is not None]
        lowest = min(0.0, *(float(np.nanmin(v, initial=0.0)) for v in ends))
        highest = column.top if column.top is not None else max(float(np.nanmax(v, initial=0.0)) for v in ends)
        reach = max(highest - lowest, 1e-12)

        def at(v, left=left, lowest=lowest, reach=reach, bars=bars):
            return left + bars * (np.asarray(v) - lowest) / reach

        known = np.isfinite(values)
        _boxes(axes, at(0), y[known] - 0.31, at(values[known]), y[known] + 0.31, f"bars {k}", facecolors=column.color, zorder=2)
        _strokes(axes, [[(at(0), top), (at(0), y[-1] + 0.5)]], colors=GRAY, linewidths=0.8, zorder=3)
        stops = values
        if column.low is not None and column.high is not None:
            low, high = column.low[order], column.high[order]
            spans = [[(at(lo), i), (at(hi), i)] for i, lo, hi in zip(y, low, high, strict=True) if np.isfinite(lo + hi)]
            _strokes(axes, spans, f"intervals {k}", colors=BLACK, linewidths=1.3, zorder=4)
            stops = np.fmax(values, high)
        if column.marks is not None:
            marks = column.marks[order]
            ticks = [[(at(mark), i - 0.46), (at(mark), i + 0.46)] for i, mark in zip(y, marks, strict=True) if np.isfinite(mark)]
            _strokes(axes, ticks, f"marks {k}", colors=BLACK, linewidths=1.6, zorder=4)
        for i, layer, stop in zip(rows, order, np.where(known, np.fmax(stops, 0.0), 0.0), strict=True):
            if column.texts and column.marks is not None:  # clear of the marks
                letters.say(left + wide, i, column.texts[layer], size * 0.92, DIM, "right")
            elif column.texts:
                letters.say(float(at(stop)), i, column.texts[layer], size * 0.92, DIM, shift=(2.5, 0))
        letters.say(left, top, column.label, 7.6, bold=True, shift=(0, 28), width=step - 0.04)
        letters.say(left, top, column.note, 7, DIM, shift=(0, 16), width=step - 0.06)
        for value in dict.fromkeys((lowest, 0.0, highest)):
            end = "right" if value == highest and highest > 0 else "center" if value == 0 and lowest < -0.25 * reach else "left"
            if value != lowest or value == 0 or lowest < -0.25 * reach:
                letters.say(float(at(value)), top, f"{value:.3g}", 6.5, DIM, end, shift=(0, 6))
    letters.write()


def _frame(axes: Axes, letters: Lettering, low: float, high: float, label: str) -> None:
    """The vertical scale of a panel, drawn by hand: ticks of matplotlib cost ten times as much."""
    left, right = axes.get_xlim()
    ticks = [tick for tick in MaxNLocator(4).tick_values(low, high) if low - 1e-9 <= tick <= high + 1e-9]
    _strokes(axes, [[(left, t), (right, t)] for t in ticks], colors=["#888888" if abs(t) < 1e-12 else LIGHT for t in ticks],
             linewidths=0.7, zorder=0)  # fmt: skip
    for tick in ticks:
        letters.say(left, tick, f"{tick:.3g}", 7.5, DIM, "right", shift=(-4, 0))
    letters.say(left, (low + high) / 2, label, 7.5, DIM, "center", angle=90, shift=(-30, 0))


def _curves(axes: Axes, name, curves, picked, family, label) -> None:
    """The picked layer's drop at every level of every family, all others in grey behind it."""
    starts = np.cumsum([0] + [len(c.levels) + 1 for c in curves])
    lows = [np.nanmin(np.r_[c.drop.ravel(), c.low[picked], 0.0]) for c in curves]
    tops = [np.nanmax(np.r_[c.drop.ravel(), c.high[picked], 0.0]) for c in curves]
    low, high = float(min(lows)), float(max(*tops, 1e-12))
    pad = 0.04 * (high - low)
    axes.set(xlim=(-0.7, starts[-1] - 1.3), ylim=(low - pad, high + pad))
    letters = Lettering(axes)
    _frame(axes, letters, low - pad, high + pad, label)
    for index, (start, curve) in enumerate(zip(starts, curves, strict=False)):
        x = float(start) + np.arange(len(curve.levels))
        color = PALETTE[index % 7]
        if curve.family == family:
            _boxes(axes, x[0] - 0.6, low - pad, x[-1] + 0.6, high + pad, "picked family", facecolors="#f3f3f3", zorder=-1)
        _strokes(axes, [np.stack([x, other], -1) for i, other in enumerate(curve.drop) if i != picked], "others",
                 colors="#c9c9c9", linewidths=0.7, zorder=1)  # fmt: skip
        _spans(axes, x, curve.low[picked], curve.high[picked], colors=color, linewidths=4)
        _line(axes, x, curve.drop[picked], f"curve {curve.family}", marker="o", color=color, zorder=3)
        for at, level in zip(x, curve.levels, strict=True):
            letters.say(at, low - pad, level, 6.8, DIM, "center", shift=(0, -7))
        middle = float(x.mean())
        letters.say(middle, low - pad, curve.unit, 6.8, DIM, "center", shift=(0, -18))
        letters.say(middle, high + pad, curve.family, 7.8, to_hex(color), "center", bold=curve.family == family, shift=(0, 5))
    left, right = axes.get_xlim()
    named = fitted(name, 82, 8.5, True)
    after = float(outline(named, 8.5, True).vertices[:, 0].max(initial=0.0)) + 4
    letters.say(left, high + pad, named, 8.5, bold=True, shift=(0, 19))
    letters.say(left, high + pad, "under each perturbation", 8.5, shift=(after, 19))
    letters.say(right, high + pad, "grey: others", 7, DIM, "right", shift=(0, 19))
    letters.write()


def _outcomes(axes: Axes, outcomes, budget, budget_label, score_label) -> None:
    """The score against the budget, for each way to spend it."""
    budgets = np.unique(np.concatenate([o.budgets for o in outcomes]))
    scores = np.concatenate([np.r_[o.measured, o.low, o.high] for o in outcomes])  # a wild prediction may leave the panel
    low, high = (float(f(scores)) if np.isfinite(scores).any() else 0.0 for f in (np.nanmin, np.nanmax))
    pad = 0.06 * (high - low) or 0.5
    room = 0.06 * (np.ptp(budgets) or 1.0)
    axes.set(xlim=(budgets[0] - room, budgets[-1] + room), ylim=(low - pad, high + pad))
    letters = Lettering(axes)
    _frame(axes, letters, low - pad, high + pad, score_label)
    _strokes(axes, [[(budget, low - pad), (budget, high + pad)]], "budget", colors="#e8d9b4", linewidths=7, zorder=-1)
    for index, o in enumerate(outcomes):
        _spans(axes, o.budgets, o.low, o.high, colors=o.color, linewidths=3)
        _line(axes, o.budgets, o.measured, f"measured {o.label}", marker="os^"[index % 3], color=o.color, zorder=4)
        if np.isfinite(o.predicted).any():
            _line(axes, o.budgets, o.predicted, f"predicted {o.label}", linestyle="--", linewidth=1.1, color=o.color, zorder=3)
    for value in budgets[:: max(1, len(budgets) // 8)]:
        letters.say(value, low - pad, f"{value:.3g}", 6.8, DIM, "center", shift=(0, -7))
    letters.say(float(budgets.mean()), low - pad, budget_label, 7.5, DIM, "center", shift=(0, -18))
    left, right = axes.get_xlim()
    letters.say(left, high + pad, "score after spending a budget", 8.5, shift=(0, 19))
    for k, o in enumerate(outcomes):
        ink = {ESTIMATE: INK, TRUTH: "#2d7fae"}.get(o.color, o.color)
        key = f"{'●■▲'[k % 3]} {o.label}"
        letters.say(left + (right - left) * k / max(len(outcomes), 3), high + pad, key, 7.5, ink, shift=(0, 6), width=1.05)
    if any(np.isfinite(o.predicted).any() for o in outcomes):
        letters.say(right, high + pad, "dashed: predicted", 7, DIM, "right", shift=(0, 19))
    letters.write()

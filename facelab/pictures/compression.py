"""What compression takes and what it leaves: weights before and after, errors by layer, score against cost."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from jaxtyping import Float, Int

from facelab.pictures.interactive import new_figure
from facelab.pictures.style import BLACK, BLUE, GRAY, GREEN, ORANGE, PALETTE, PINK, RED, SKY, Picture, new_picture, styled

if TYPE_CHECKING:  # only the page of a report needs it
    from plotly.graph_objects import Figure

COSTS = {"bytes": "bytes stored, kB", "multiplies": "multiplies, thousands", "latency": "time over the original's"}
"""Columns of the bench's table that cost something, with their labels."""
SCALES = {"bytes": 1000, "multiplies": 1000, "latency": 1}
MARKS = {
    "original": (BLACK, "X"), "SInGE": (BLUE, "o"), "RED": (RED, "s"), "RED++": (ORANGE, "D"), "Archtree": (GREEN, "^"),
    "PowerQuant": ("#882255", "<"), "Ternary": ("#7F4F00", "p"), "JLCM": ("#44AA99", ">"),  # as the palette's eight colours are taken
    "L1": (GRAY, "v"), "FPGM": (PINK, "P"), "Taylor": (SKY, "h"),
}  # fmt: skip
"""Colour and marker of each method, everywhere."""
SYMBOLS = {
    "X": "x",
    "o": "circle",
    "s": "square",
    "D": "diamond",
    "^": "triangle-up",
    "v": "triangle-down",
    "P": "cross",
    "h": "hexagon",
    "p": "pentagon",
    "<": "triangle-left",
    ">": "triangle-right",
}


def mark(method: str) -> tuple[str, str]:
    """Colour and marker of a method; of anything else, black stars."""
    return MARKS.get(method, (BLACK, "*"))


@styled
def plot_compression(
    weights: Mapping[str, tuple[Float[np.ndarray, " edges"], Int[np.ndarray, " bins"]]],
    errors: Float[np.ndarray, " layers"],
    points: pd.DataFrame,
    cost: str = "bytes",
    *,
    chosen: int | None = None,
    title: str = "",
    unit: str = "",
) -> Picture:
    """One compressed network: its weights before and after, what each layer lost, and where it stands among all in score and cost.

    Args:
        weights: "before" and "after" -> edges and counts of a histogram.
        errors: of each layer, in order of execution, 0..1; NaN where it is not known.
        points: a row per network: `method`, `score`, `score_low`, `score_high`, the costs (`COSTS`), `latency_low`, `latency_high`.
        cost: which one is drawn.
        chosen: which row of `points` is drawn large.
        title: of the histogram.
        unit: of the score.
    """
    picture = Picture(figsize=(11.4, 5.0))  # axes at fixed places: a layout that is found anew takes longer than all the rest
    histogram, by_layer = picture.add_axes((0.06, 0.6, 0.4, 0.34)), picture.add_axes((0.06, 0.11, 0.4, 0.34))
    axes = picture.add_axes((0.52, 0.11, 0.36, 0.83))
    for (name, (edges, counts)), color in zip(weights.items(), (GRAY, ORANGE), strict=False):
        histogram.stairs(np.log10(1 + counts), edges, fill=True, color=color, alpha=0.6)
        histogram.text(0.99, 0.98 - 0.1 * (color == ORANGE), name, color=color, ha="right", va="top", transform=histogram.transAxes)
    highest = max(float(counts.max(initial=1)) for _, counts in weights.values())
    ticks = [0, *(10**power for power in range(int(np.log10(highest)), -1, -2))]  # every tick costs half a millisecond
    histogram.set_yticks(np.log10(1 + np.array(ticks)), [str(tick) for tick in ticks])
    histogram.set(xlabel="weight", ylabel="number of weights")
    histogram.set_title(title, y=1.02)  # a place that is found anew takes a sixth of the redraw
    reach = float(weights["before"][0][-1])
    histogram.set_xticks(np.linspace(-1, 1, 3) * float(f"{0.9 * reach:.1g}"))
    places = np.arange(1, len(errors) + 1)
    by_layer.vlines(places, 0, np.nan_to_num(errors), color=ORANGE, lw=min(24, 240 / max(1, len(places))))
    for place in places[np.isnan(errors)]:
        by_layer.text(place, 0.0, "?", ha="center", va="bottom", color=GRAY)
    by_layer.set_xticks(places[:: max(1, len(places) // 4)])
    top = max(0.02, 1.15 * float(np.nan_to_num(errors).max(initial=0.0)))
    by_layer.set(
        xlabel="layer, in order of execution",
        ylabel="share of variance lost",
        xlim=(0.4, len(places) + 0.6),
        ylim=(0, top),
    )
    by_layer.set_title("what each layer lost", y=1.02)
    by_layer.set_yticks(np.array([0, 1]) * float(f"{0.95 * top:.1g}"))
    scale = SCALES[cost]
    axes.vlines(points[cost] / scale, points.score_low, points.score_high, color=GRAY, lw=0.6)
    if cost == "latency":
        axes.hlines(points.score, points.latency_low, points.latency_high, color=GRAY, lw=0.6)
    methods, costs, scores = points.method.to_numpy(), points[cost].to_numpy() / scale, points.score.to_numpy()
    for place, method in enumerate(dict.fromkeys(methods)):
        color, marker = mark(str(method))
        axes.plot(costs[methods == method], scores[methods == method], marker, color=color, ms=7)
        # a legend that lays itself out takes a fifth of the redraw
        height = 0.98 - 0.045 * place
        axes.plot(1.04, height, marker, color=color, ms=7, transform=axes.transAxes, clip_on=False)
        axes.text(1.07, height, str(method), va="center", fontsize=8, transform=axes.transAxes)
    if chosen is not None:
        row = points.iloc[chosen]
        axes.plot(row[cost] / scale, row.score, "o", ms=17, mfc="none", mec=BLACK, mew=1.5)
    low, high = points.score_low.min(), points.score_high.max()
    right, room = float(points["latency_high" if cost == "latency" else cost].max()) / scale, 0.04 * (high - low) or 0.04
    axes.set(xlabel=COSTS[cost], xlim=(0, 1.05 * right), ylim=(low - room, high + room), ylabel=f"score, {unit}")
    axes.set_title("score against cost", y=1.01)
    axes.locator_params(nbins=4)
    axes.grid()
    return picture


@styled
def plot_tradeoffs(table: pd.DataFrame) -> Picture:
    """Score against each cost, side by side.

    Args:
        table: of `compression.bench.evaluate`; networks whose names share what stands before a comma share a colour.
    """
    picture, grid = new_picture(11.4, 3.6, 1, len(COSTS), sharey=True)
    families = list(dict.fromkeys(name.split(",")[0] for name in table.network))
    for axes, (cost, label) in zip(grid[0], COSTS.items(), strict=True):
        reach = float((table[cost] / SCALES[cost]).max())
        for number, row in enumerate(table.itertuples()):
            family, _, rest = row.network.partition(",")
            color, x = PALETTE[families.index(family) % len(PALETTE)], getattr(row, cost) / SCALES[cost]
            axes.vlines(x, row.score_low, row.score_high, color=GRAY, lw=0.8)
            face = color if rest or table.network.str.startswith(f"{family},").sum() == 0 else "none"  # one may lie under another
            axes.plot(x, row.score, "oDs^vPXh"[number % 8], color=color, mfc=face, ms=9, mew=1.4, label=row.network)
        if cost == "latency":
            axes.set_xscale("log")
            axes.set_xticks(ticks := [tick for tick in (0.25, 0.5, 1, 2, 4, 8, 16) if tick < 2 * reach], [f"{tick:g}" for tick in ticks])
            axes.minorticks_off()
        else:
            axes.set_xlim(0, 1.06 * reach)
        axes.set_xlabel(label)
        axes.grid()
    grid[0, 0].set_ylabel(f"score, {table.unit.iloc[0]}")
    grid[0, -1].legend(loc="upper left", bbox_to_anchor=(1.02, 1.0))
    return picture


def interactive_tradeoff(table: pd.DataFrame, cost: str) -> "Figure":
    """Score against a cost as a plotly figure; the pointer shows the architecture.

    Args:
        table: of `compression.bench.evaluate`; `method` names what has a colour, `network` if there is none.
        cost: one of `COSTS`.
    """
    unit, scale = str(table.unit.iloc[0]), SCALES[cost]
    figure = new_figure(420, 420, legend={"orientation": "h", "y": -0.2}, xaxis_title=COSTS[cost], yaxis_title=f"score, {unit}")
    figure.update_xaxes(rangemode="tozero")
    for name, rows in table.groupby("method" if "method" in table else "network", sort=False):
        color, marker = mark(str(name))
        across = {"array": rows.latency_high - rows.latency, "arrayminus": rows.latency - rows.latency_low} if cost == "latency" else None
        figure.add_scatter(
            x=rows[cost] / scale, y=rows.score, name=str(name), mode="markers",
            marker={"color": color, "size": 11, "symbol": SYMBOLS.get(marker, "star")}, error_x=across,
            error_y={"array": rows.score_high - rows.score, "arrayminus": rows.score - rows.score_low, "thickness": 1},
            customdata=rows[["network", "architecture"]],
            hovertemplate="%{customdata[0]}<br>score %{y:.4g}<br>" + COSTS[cost] + " %{x:.4g}<br>widths %{customdata[1]}<extra></extra>",
        )  # fmt: skip
    return figure


def interactive_bench(table: pd.DataFrame) -> "Figure":
    """Every method at its strengths on every network as one plotly figure with two menus, for the network and for the cost.

    Args:
        table: of `compression.sweep.sweep`; rows without a score are left out.
    """
    table = table[table.score.notna()]
    figure = new_figure(1000, 520, hovermode="closest", legend={"title": "method"}, yaxis_title="score")
    networks, of = list(table.base.unique()), []
    for (base, name), rows in table.sort_values("strength").groupby(["base", "method"], sort=False):
        color, marker = mark(str(name))
        figure.add_scatter(
            x=rows.bytes / 1000, y=rows.score, name=str(name), mode="lines+markers", visible=base == networks[0],
            line={"color": color, "width": 1}, marker={"color": color, "size": 10, "symbol": SYMBOLS.get(marker, "star")},
            error_y={"array": rows.score_high - rows.score, "arrayminus": rows.score - rows.score_low, "thickness": 1},
            text=[_said(row) for row in rows.itertuples()], hovertemplate="%{text}<extra></extra>",
        )  # fmt: skip
        of.append((base, rows))
    figure.update_xaxes(title=COSTS["bytes"], rangemode="tozero")
    choose = [
        {"label": base, "method": "restyle", "args": [{"visible": [own == base for own, _ in of]}]} for base in networks
    ]  # the two menus change different things, so each keeps what the other has chosen
    costs = []
    for cost, label in COSTS.items():
        places = {"x": [(rows[cost] / SCALES[cost]).tolist() for _, rows in of]}
        costs.append({"label": label, "method": "update", "args": [places, {"xaxis.title.text": label}]})
    place = {"y": 1.12, "yanchor": "top", "xanchor": "left", "showactive": True}
    figure.update_layout(margin={"t": 70}, updatemenus=[{"buttons": choose, "x": 0, **place}, {"buttons": costs, "x": 0.32, **place}])
    return figure


def _said(row) -> str:
    """A row of the bench's table in three lines."""
    return (
        f"{row.method} at {row.strength:g}: score {row.score:.3g} ({row.score_low:.3g} to {row.score_high:.3g})<br>"
        f"{row.bytes / 1000:.0f} kB, {row.multiplies / 1000:.0f} thousand multiplies, "
        f"{row.latency:.2f} of the time ({row.latency_low:.2f} to {row.latency_high:.2f})<br>widths {row.architecture}"
    )

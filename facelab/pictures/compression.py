"""What compression takes and what it leaves: weights before and after, errors by layer, score against cost."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from jaxtyping import Float

from facelab.pictures.style import BLACK, BLUE, GRAY, GREEN, ORANGE, PINK, RED, SKY, YELLOW, Picture, new_picture, styled

if TYPE_CHECKING:  # only the page of a report needs it
    from plotly.graph_objects import Figure

COSTS = {"bytes": "bytes stored, kB", "multiplies": "multiplies, thousands", "latency": "time over the original's"}
"""Columns of the bench's table that cost something, with their labels."""
SCALES = {"bytes": 1000, "multiplies": 1000, "latency": 1}
MARKS = {
    "original": (BLACK, "X"), "SInGE": (BLUE, "o"), "RED": (RED, "s"), "RED++": (ORANGE, "D"), "Archtree": (GREEN, "^"),
    "L1": (GRAY, "v"), "FPGM": (PINK, "P"), "Taylor": (SKY, "h"),
}  # fmt: skip
"""Colour and marker of each method, everywhere."""
SYMBOLS = {"X": "x", "o": "circle", "s": "square", "D": "diamond", "^": "triangle-up", "v": "triangle-down", "P": "cross", "h": "hexagon"}


def mark(method: str) -> tuple[str, str]:
    """Colour and marker of a method; of one that is not ours, yellow stars."""
    return MARKS.get(method, (YELLOW, "*"))


@styled
def plot_compression(
    weights: Mapping[str, tuple[Float[np.ndarray, " bins+1"], Float[np.ndarray, " bins"]]],
    layers: Sequence[str],
    errors: Float[np.ndarray, " layers"],
    points: pd.DataFrame,
    *,
    chosen: int | None = None,
    title: str = "",
    unit: str = "",
) -> Picture:
    """One compressed network: its weights before and after, what each layer lost, and where it stands among all in score and costs.

    Args:
        weights: "before" and "after" -> edges and counts of a histogram.
        layers: names, in order of execution.
        errors: of each layer, 0..1; NaN where it is not known.
        points: a row per network: `method`, `score`, `score_low`, `score_high`, the costs (`COSTS`), `latency_low`, `latency_high`.
        chosen: which row of `points` is drawn large.
        title: of the histogram.
        unit: of the score.
    """
    picture, grid = new_picture(11.4, 5.2, 2, 6)
    for axes in grid.flat[:]:
        axes.remove()
    spec = grid[0, 0].get_gridspec()
    histogram, by_layer = picture.add_subplot(spec[0, :3]), picture.add_subplot(spec[0, 3:])
    for (name, (edges, counts)), color in zip(weights.items(), (GRAY, ORANGE), strict=False):
        histogram.stairs(counts, edges, fill=True, color=color, alpha=0.6, label=name)
    histogram.set(xlabel="weight", ylabel="number of weights", title=title, yscale="symlog", ylim=(0, None))
    histogram.legend()
    places = np.arange(len(layers))
    by_layer.bar(places, np.nan_to_num(errors), color=ORANGE, width=0.7)
    for place in places[np.isnan(errors)]:
        by_layer.text(place, 0.01, "?", ha="center", color=GRAY)
    short = [name if len(name) < 9 else "…" + name[-8:] for name in layers]
    by_layer.set_xticks(places, short, rotation=45 if len(layers) > 6 else 0, ha="right" if len(layers) > 6 else "center")
    by_layer.set(
        ylabel="share lost", ylim=(0, max(0.02, 1.15 * float(np.nan_to_num(errors).max(initial=0.0)))), title="what each layer lost"
    )
    for number, (cost, label) in enumerate(COSTS.items()):
        axes = picture.add_subplot(spec[1, 2 * number : 2 * number + 2])
        for method, rows in points.groupby("method", sort=False):
            color, marker = mark(str(method))
            x, scale = rows[cost] / SCALES[cost], SCALES[cost]
            across = [(rows[cost] - rows.latency_low) / scale, (rows.latency_high - rows[cost]) / scale] if cost == "latency" else None
            up = [rows.score - rows.score_low, rows.score_high - rows.score]
            axes.errorbar(x, rows.score, up, across, fmt=marker, color=color, ms=5, elinewidth=0.7, label=method, alpha=0.9)
        if chosen is not None:
            row = points.iloc[chosen]
            axes.plot(row[cost] / SCALES[cost], row.score, "o", ms=15, mfc="none", mec=BLACK, mew=1.5)
        axes.set(xlabel=label, xlim=(0, None), ylabel=f"score, {unit}" if number == 0 else "")
        axes.grid()
        if number == 2:
            axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5))
    return picture


def interactive_tradeoff(table: pd.DataFrame, cost: str) -> "Figure":
    """Score against a cost as a plotly figure; the pointer shows the architecture.

    Args:
        table: of `compression.bench.evaluate`; `method` names what has a colour, `network` if there is none.
        cost: one of `COSTS`.
    """
    import plotly.graph_objects as graph

    figure, scale = graph.Figure(), SCALES[cost]
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
    unit = str(table.unit.iloc[0])
    figure.update_layout(
        template="simple_white", width=610, height=400, margin={"l": 60, "r": 10, "t": 20, "b": 50},
        font={"family": "DejaVu Sans, sans-serif", "size": 12}, xaxis={"title": COSTS[cost], "rangemode": "tozero"},
        yaxis={"title": f"score, {unit}"},
    )  # fmt: skip
    return figure

"""All settled claims in one plotly picture: pooled gain, interval, single runs, and on hover the statement with its figures."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from facelab.pictures.interactive import new_figure
from facelab.pictures.style import BLUE, GRAY, ORANGE, RED, SKY

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

COLOURS = {"holds": BLUE, "shown, held in every run": SKY, "open": GRAY, "not settled": ORANGE, "against": RED}
RUNS = {"size": 4, "color": GRAY, "opacity": 0.55}
MARGIN = {"symbol": "line-ns-open", "size": 11, "color": "#222222"}
ENDS = ("low", "high")
ROW, ABOVE, BETWEEN, BELOW = 19, 100, 70, 20
"""Pixels of a claim, above the first panel, between two, and below the last."""


def draw_scoreboard(points: Sequence[dict[str, Any]], width: int = 1100) -> "Figure":
    """A row for each claim, in one panel for each measure; colours are verdicts, small dots single runs, bars across what must be exceeded.

    Args:
        points: one dictionary per claim with the keys `label`, `measure` (of the horizontal axis, such as "percent of the baseline"),
            `gain`, `low`, `high`, `gains` (of the runs) and `margin`, all in that measure and None where there is none, `verdict`, and
            `hover` (lines of text).
        width: in pixels.

    Raises:
        ValueError: no claim, or a verdict that has no colour.
    """
    from plotly.subplots import make_subplots

    if not points:
        raise ValueError("There is no claim to draw; facelab settle makes settled figures.")
    for verdict in {point["verdict"] for point in points} - set(COLOURS):
        raise ValueError(f"The verdict {verdict!r} has no colour; there are {', '.join(COLOURS)}.")
    measures = {name: [point for point in points if point["measure"] == name] for name in dict.fromkeys(p["measure"] for p in points)}
    counts = [len(rows) for rows in measures.values()]
    inside = ROW * sum(counts) + BETWEEN * (len(counts) - 1)
    space = BETWEEN / inside if len(counts) > 1 else 0.0
    figure = make_subplots(rows=len(counts), cols=1, row_heights=counts, vertical_spacing=space, figure=new_figure())
    for row, (measure, rows) in enumerate(measures.items(), 1):
        low, high = _range(rows)
        _add_panel(figure, row, rows, high)
        figure.update_xaxes(
            title=measure, side="top", range=[low, high], zeroline=True, zerolinecolor="#999999", showgrid=True, gridcolor="#eeeeee",
            row=row, col=1,
        )  # fmt: skip
        figure.update_yaxes(
            range=[len(rows) - 0.4, -0.6], categoryorder="array", categoryarray=[point["label"] for point in rows], tickfont={"size": 11},
            ticks="", showline=False, row=row, col=1,
        )  # fmt: skip
    _add_legend(figure, {point["verdict"] for point in points})
    figure.update_layout(
        width=width, height=inside + ABOVE + BELOW, margin={"l": 330, "r": 20, "t": ABOVE, "b": BELOW}, hovermode="closest",
        legend={"orientation": "h", "x": 0, "xref": "container", "y": 1, "yref": "container", "yanchor": "top"},
    )  # fmt: skip
    return figure


def _add_panel(figure: "Figure", row: int, rows: list[dict[str, Any]], limit: float) -> None:
    """The runs, the margins and the pooled gains of one panel; a gain beyond `limit` stands there as an arrow."""
    place = {"row": row, "col": 1, "showlegend": False}
    runs = [(gain, point["label"]) for point in rows for gain in point["gains"] if gain is not None and gain < limit]
    x, y = [gain for gain, _ in runs], [label for _, label in runs]
    figure.add_scatter(x=x, y=y, mode="markers", marker=RUNS, hoverinfo="skip", legendgroup="single runs", **place)
    x, y = [point["margin"] for point in rows], [point["label"] for point in rows]
    figure.add_scatter(x=x, y=y, mode="markers", marker=MARGIN, hoverinfo="skip", legendgroup="must exceed", **place)
    for verdict, colour in COLOURS.items():
        known = [point for point in rows if point["verdict"] == verdict and point["gain"] is not None]
        shown = [min(point["gain"], limit) for point in known]
        ends = [
            [min(point[end], limit) if point[end] is not None else gain for point, gain in zip(known, shown, strict=True)] for end in ENDS
        ]
        bars = {
            "type": "data", "symmetric": False, "thickness": 2, "width": 0,
            "array": [high - gain for high, gain in zip(ends[1], shown, strict=True)],
            "arrayminus": [gain - low for low, gain in zip(ends[0], shown, strict=True)],
        }  # fmt: skip
        marker = {"size": 9, "color": colour, "symbol": ["triangle-right" if gain == limit else "circle" for gain in shown]}
        figure.add_scatter(
            x=shown, y=[point["label"] for point in known], mode="markers", marker=marker, error_x=bars, legendgroup=verdict,
            hovertext=["<br>".join(point["hover"]) for point in known], hoverinfo="text", cliponaxis=False, **place,
        )  # fmt: skip


def _add_legend(figure: "Figure", verdicts: set[str]) -> None:
    entries = {"single runs": RUNS, "must exceed": MARGIN} | {v: {"size": 9, "color": c} for v, c in COLOURS.items() if v in verdicts}
    for name, marker in entries.items():
        figure.add_scatter(x=[None], y=[None], mode="markers", marker=marker, name=name, legendgroup=name, row=1, col=1)


def _range(rows: list[dict[str, Any]]) -> tuple[float, float]:
    """From the lowest interval to nearly the highest: a gain several times above all others would push these together."""
    known = [row for row in rows if row["low"] is not None and row["high"] is not None]
    runs = [gain for row in rows for gain in row["gains"] if gain is not None]
    lows = [row["margin"] for row in rows] + [row["low"] for row in known] + runs + [0.0]
    highs = sorted([row["margin"] for row in rows] + [row["high"] for row in known] + [0.0])
    low, high = min(lows), max(highs[round(0.96 * (len(highs) - 1))], 0.0)
    pad = 0.04 * (high - low or 1.0)
    return low - pad, high + pad

"""The scoreboard as a plotly picture: a claim in its panel, its colour, its interval, and what it says when pointed at."""

import pytest

from facelab.pictures.scoreboard import COLOURS, draw_scoreboard


def point(label: str, gain: float | None, verdict: str = "holds", measure: str = "percent", wide: float = 1.0) -> dict:
    ends = {"low": None, "high": None} if gain is None else {"low": gain - wide, "high": gain + 2 * wide}
    return {
        "label": label,
        "measure": measure,
        "gain": gain,
        "gains": [gain],
        "margin": 5.0,
        "verdict": verdict,
        "hover": [label, "0"],
    } | ends


def pooled(figure) -> list:
    """The traces that hold pooled gains."""
    return [trace for trace in figure.data if trace.hovertext]


def test_intervals_and_colours_are_those_of_the_claims():
    figure = draw_scoreboard([point("a", 10.0), point("b", -3.0, "against"), point("c", 0.5, "open", "degrees", 0.1)])
    shown = {trace.y[0]: trace for trace in pooled(figure)}
    assert {label: trace.marker.color for label, trace in shown.items()} == {
        "a": COLOURS["holds"], "b": COLOURS["against"], "c": COLOURS["open"],
    }  # fmt: skip
    assert (shown["a"].x[0], shown["a"].error_x.array[0], shown["a"].error_x.arrayminus[0]) == (
        10.0,
        pytest.approx(2.0),
        pytest.approx(1.0),
    )
    assert shown["b"].hovertext[0] == "b<br>0"
    assert [figure.layout.xaxis.title.text, figure.layout.xaxis2.title.text] == ["percent", "degrees"]
    assert list(figure.layout.yaxis.categoryarray) == ["a", "b"]
    names = {trace.name for trace in figure.data if trace.name}
    assert names == {"single runs", "must exceed", "holds", "against", "open"}


def test_one_gain_far_beyond_the_others_is_an_arrow_at_the_edge():
    figure = draw_scoreboard([*(point(f"c{i}", 10.0 + i) for i in range(40)), point("far", 500.0)])
    low, high = figure.layout.xaxis.range
    (trace,) = pooled(figure)
    assert high < 100 and low < 0
    assert trace.x[-1] == high and trace.marker.symbol[-1] == "triangle-right" and set(trace.marker.symbol[:-1]) == {"circle"}
    assert trace.error_x.array[-1] == 0


def test_a_claim_without_a_gain_keeps_its_row():
    figure = draw_scoreboard([point("none", None, "open"), point("a", 10.0)])
    assert list(figure.layout.yaxis.categoryarray) == ["none", "a"]
    assert [trace.y[0] for trace in pooled(figure)] == ["a"]


def test_nothing_and_an_unknown_verdict_are_refused():
    with pytest.raises(ValueError, match="no claim to draw"):
        draw_scoreboard([])
    with pytest.raises(ValueError, match="The verdict 'great' has no colour"):
        draw_scoreboard([point("a", 1.0, "great")])

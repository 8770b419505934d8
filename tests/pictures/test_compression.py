"""Score against cost: the same marks everywhere, nothing lost, the page's figure carries the architecture."""

import numpy as np
import pandas as pd
import pytest

from facelab.compression.registry import METHODS
from facelab.pictures.compression import (
    COSTS,
    MARKS,
    SCALES,
    SYMBOLS,
    interactive_bench,
    interactive_tradeoff,
    mark,
    plot_compression,
    plot_tradeoffs,
)

POINTS = pd.DataFrame(
    [
        {
            "network": name,
            "method": name,
            "score": 0.9 - 0.1 * i,
            "score_low": 0.8 - 0.1 * i,
            "score_high": 0.95 - 0.1 * i,
            "bytes": 1000.0 * i,
        }
        | {
            "multiplies": 1e6 / i,
            "latency": 1 / i,
            "latency_low": 0.8 / i,
            "latency_high": 1.1 / i,
            "unit": "share",
            "architecture": "8 | 4",
        }
        for i, name in enumerate(("original", "RED", "of mine"), start=1)
    ]
)


def test_every_method_of_the_bench_has_a_mark_of_its_own():
    known = {"original", *(method.name for method in METHODS.values())}
    assert known == set(MARKS)
    assert (
        len(set(MARKS.values())) == len({color for color, _ in MARKS.values()}) == len({shape for _, shape in MARKS.values()}) == len(known)
    )
    assert {shape for _, shape in MARKS.values()} == set(SYMBOLS)
    assert mark("of mine") not in MARKS.values()


@pytest.mark.parametrize("cost", COSTS)
def test_points_lie_where_the_table_says(cost):
    edges = np.linspace(-1, 1, 11)
    weights = {"before": (edges, np.arange(10)), "after": (edges, np.zeros(10, dtype=int))}
    picture = plot_compression(weights, np.array([0.5, np.nan]), POINTS, cost, chosen=1, title="weights", unit="share")
    axes = picture.axes[2]
    assert axes.get_xlabel() == COSTS[cost]
    drawn = [line.get_xydata()[0] for line in axes.lines[:-1:2]]  # between them the marks of the key
    assert [text.get_text() for text in axes.texts] == list(POINTS.method)
    np.testing.assert_allclose(drawn, POINTS[[cost, "score"]] / [SCALES[cost], 1])
    np.testing.assert_allclose(axes.lines[-1].get_xydata()[0], [POINTS[cost][1] / SCALES[cost], POINTS.score[1]])  # the chosen one
    assert len(axes.collections) == 1 + (cost == "latency")
    assert [text.get_text() for text in picture.axes[1].texts] == ["?"]


@pytest.mark.parametrize("cost", COSTS)
def test_the_figure_of_the_page(cost):
    figure = interactive_tradeoff(POINTS, cost)
    assert [trace.name for trace in figure.data] == list(POINTS.method)
    assert [trace.x[0] for trace in figure.data] == pytest.approx(list(POINTS[cost] / SCALES[cost]))
    assert figure.data[1].customdata[0][1] == "8 | 4"
    assert (figure.data[1].error_x.array is not None) == (cost == "latency")


def test_the_figure_of_the_bench_has_a_menu_for_the_network_and_one_for_the_cost():
    table = pd.concat([POINTS.assign(base=base, strength=0.5, score=POINTS.score + shift) for base, shift in (("one", 0), ("two", 0.01))])
    figure = interactive_bench(pd.concat([table, table.iloc[:1].assign(method="L1", score=np.nan)]))
    assert [trace.name for trace in figure.data] == 2 * list(POINTS.method)
    assert [trace.visible for trace in figure.data] == [True] * 3 + [False] * 3
    networks, costs = figure.layout.updatemenus
    assert [button.label for button in networks.buttons] == ["one", "two"]
    assert networks.buttons[1].args[0]["visible"] == [False] * 3 + [True] * 3
    assert [button.label for button in costs.buttons] == list(COSTS.values())
    for button, cost in zip(costs.buttons, COSTS, strict=True):
        np.testing.assert_allclose(np.ravel(button.args[0]["x"]), 2 * list(POINTS[cost] / SCALES[cost]))
        assert button.args[1] == {"xaxis.title.text": COSTS[cost]}
    assert "8 | 4" in figure.data[0].text[0] and "RED at 0.5: score 0.7" in figure.data[1].text[0]


def test_all_costs_side_by_side():
    table = POINTS.assign(network=["original", "L1", "L1, tuned"])
    picture = plot_tradeoffs(table)
    assert [axes.get_xlabel() for axes in picture.axes] == list(COSTS.values())
    for axes, cost in zip(picture.axes, COSTS, strict=True):
        drawn = np.array([line.get_xydata()[0] for line in axes.lines])
        np.testing.assert_allclose(drawn, table[[cost, "score"]] / [SCALES[cost], 1])
    original, cut, tuned = picture.axes[0].lines
    assert cut.get_color() == tuned.get_color() != original.get_color()
    assert cut.get_markerfacecolor() == "none" != tuned.get_markerfacecolor()

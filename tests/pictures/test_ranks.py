"""The hover picture of ranks: what a point says, and what a button changes."""

import numpy as np
import pandas as pd
import pytest

from facelab.pictures.ranks import figure_of_ranks

LAYERS, SHAPES, NETWORKS = ["a", "b", "c", "a", "b"], ["2x1", "3x2", "4x3", "5x1", "6x5"], ["one"] * 3 + ["two"] * 2
MEASURED = np.array([0.9, 0.1, 0.5, 0.0, 0.2])
CRITERIA = {"good": MEASURED * 7, "even": np.ones(5)}


def test_points_lie_at_their_ranks_and_say_their_layer():
    figure = figure_of_ranks(CRITERIA, MEASURED, LAYERS, SHAPES, NETWORKS)
    one, two = figure.data[1:]
    assert (list(one.x), list(one.y)) == ([1, 3, 2], [1, 3, 2])
    assert (list(two.x), list(two.y)) == ([2, 1], [2, 1])
    assert list(map(list, two.customdata)) == [["a", "5x1"], ["b", "6x5"]]
    assert all(word in one.hovertemplate for word in ("customdata[0]", "customdata[1]", "{x}", "{y}"))
    assert (one.name, two.name) == ("one", "two")
    column = pd.Series(SHAPES, index=pd.MultiIndex.from_arrays([NETWORKS, LAYERS]))
    assert figure_of_ranks(CRITERIA, MEASURED, LAYERS, column, NETWORKS) == figure


def test_a_button_moves_the_points_of_every_network():
    figure = figure_of_ranks(CRITERIA, MEASURED, LAYERS, SHAPES, NETWORKS)
    good, even = figure.layout.updatemenus[0].buttons
    assert (good.label, even.label) == ("good", "even")
    (change, traces) = even.args
    assert [list(x) for x in change["x"]] == [[2, 2, 2], [1.5, 1.5]]
    assert list(traces) == [1, 2]
    assert len(figure.to_json()) < 30_000


def test_what_cannot_be_drawn_is_said():
    with pytest.raises(ValueError, match="0 criteria for 5 layers"):
        figure_of_ranks({}, MEASURED, LAYERS, SHAPES, NETWORKS)
    with pytest.raises(ValueError, match=r"shapes has 4 entries for 5 layers"):
        figure_of_ranks(CRITERIA, MEASURED, LAYERS, SHAPES[:4], NETWORKS)
    with pytest.raises(ValueError, match=r"criterion 'short' has 2 entries"):
        figure_of_ranks({"short": [1, 2]}, MEASURED, LAYERS, SHAPES, NETWORKS)

"""Pictures of ternary weights: every operator and every scenario stands in them."""

import numpy as np

from facelab.pictures.ternary import plot_landscape, plot_scenarios, plot_tails, show_cells


def words(axes):
    return {text.get_text() for text in axes.get_legend().get_texts()}


def test_cells_hold_all_weights():
    weights = np.linspace(-1, 1, 300)
    picture = show_cells(weights, -1 / 3, 1 / 3, 2 / 3, title="even")
    assert {"code -1: 33%", "code 0: 33%", "code 1: 33%"} == {text.get_text() for text in picture.axes[0].texts}
    assert picture.rgb().std() > 0
    assert show_cells(np.zeros(5), 0.0, 0.0, 0.0).rgb().std() > 0


def test_the_lowest_error_is_marked():
    weights = np.linspace(-3, 3, 301)
    picture = plot_landscape(weights, {"TQuant": (1.0, 2.0)})
    assert words(picture.axes[-1]) == {"lowest", "TQuant"}
    for axes in picture.axes:  # even weights have one optimum for all three
        lowest, operator = (line.get_xydata()[0] for line in axes.lines)
        assert np.abs(lowest - operator).max() < 0.05


def test_every_line_and_every_bar():
    curves = {"naive": np.array([0.5, 0.6]), "TQuant": np.array([0.3, 0.3])}
    assert words(plot_tails(np.array([1.8, 3.0]), {"largest": curves, "mean": curves}).axes[1]) == set(curves)
    picture = plot_scenarios({"without data": {"naive": [40.0, 50.0], "TQuant": [90.0, 92.0]}, "trained": {"naive": [80.0]}}, 97.0)
    assert [tick.get_text() for tick in picture.axes[0].get_xticklabels()] == ["without data", "trained"]
    assert len(picture.axes[0].patches) == 3

"""Pictures of ternary weights: every operator and every scenario stands in them."""

import numpy as np

from facelab.pictures.ternary import plot_landscape, plot_scenarios, plot_tails, show_cells


def words(axes):
    return {text.get_text() for text in axes.get_legend().get_texts()}


def test_cells_hold_all_weights():
    weights = np.linspace(-1, 1, 300)
    picture = show_cells(weights, -1 / 3, 1 / 3, 2 / 3, title="even")
    assert {"code -1: 33%", "code 0: 33%", "code 1: 33%"} == words(picture.axes[0])
    assert picture.rgb().std() > 0
    assert show_cells(np.zeros(5), 0.0, 0.0, 0.0).rgb().std() > 0


def test_the_lowest_error_is_marked():
    thresholds, levels = np.linspace(0, 1, 5), np.linspace(0.2, 1, 4)
    errors = {"largest": np.hypot(thresholds[None] - 0.25, levels[:, None] - 1)}
    picture = plot_landscape(thresholds, levels, errors, {"TQuant": (0.33, 0.67)})
    assert words(picture.axes[0]) == {"lowest", "TQuant"}
    assert picture.axes[0].lines[0].get_xydata().tolist() == [[0.25, 1.0]]


def test_every_line_and_every_bar():
    curves = {"naive": np.array([0.5, 0.6]), "TQuant": np.array([0.3, 0.3])}
    assert words(plot_tails(np.array([1.8, 3.0]), {"largest": curves, "mean": curves}).axes[1]) == set(curves)
    picture = plot_scenarios({"without data": {"naive": [40.0, 50.0], "TQuant": [90.0, 92.0]}, "trained": {"naive": [80.0]}}, 97.0)
    assert [tick.get_text() for tick in picture.axes[0].get_xticklabels()] == ["without data", "trained"]
    assert len(picture.axes[0].patches) == 3

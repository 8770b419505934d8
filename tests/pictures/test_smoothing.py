"""Pictures of label smoothing: every rival stands in them, with its figures."""

import numpy as np

from facelab.pictures.smoothing import (
    COLORS,
    MARKERS,
    plot_by_rate,
    plot_fork,
    plot_rates,
    plot_reliability,
    plot_two_thresholds,
    show_two_classes,
)

RATES = np.array([3.0, 10.0, 60.0])


def words(axes):
    return {text.get_text() for text in axes.get_legend().get_texts()}


def test_every_rival_has_a_colour_and_a_marker_of_its_own():
    assert len(set(COLORS.values())) == len(set(MARKERS.values())) == len(COLORS) and set(COLORS) == set(MARKERS)


def test_the_fork_marks_the_even_chance():
    alpha = np.linspace(0, 0.9, 19)
    axes = plot_fork(alpha, {"plain": 0 * alpha + 0.5, "inverse": alpha}, missed=0.3).axes[0]
    assert words(axes) == {"plain", "inverse", "true one half, 30% missed"}
    assert axes.lines[-1].get_ydata()[0] == 0.35


def test_rates_and_scores_of_every_unit():
    axes = plot_rates([26, 20, 1], RATES / 100, RATES / 200).axes[0]
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["AU 26", "AU 20", "AU 1"]
    assert [bar.get_height() for bar in axes.patches] == [3, 10, 60, 1.5, 5, 30]
    axes = plot_by_rate(RATES, {"none": RATES, "focal": RATES / 2}).axes[0]
    assert words(axes) == {"none", "focal"} and [tick.get_text() for tick in axes.get_xticklabels()] == ["3", "10", "60"]


def test_both_figures_of_a_rival_stand_outside_its_marks():
    axes = plot_two_thresholds({"none": 30.0, "Robin Hood": 54.0}, {"none": 57.0, "Robin Hood": 53.0}, {"none": 52.0}).axes[0]
    places = {text.get_text(): text.get_position()[0] for text in axes.texts}
    assert places["30.0"] < 30 and places["57.0"] > 57 and places["54.0"] > 54 and places["53.0"] < 53
    assert places["52.0"] == 52 and "cut at the closed-form q" in words(axes)


def test_reliability_and_two_classes_are_drawn():
    line = np.linspace(0, 1, 5)
    assert words(plot_reliability({"none": (line, line)}, {"none": (line, line)}).axes[0]) == {"none"}
    curves = {"true": line, "annotated": line / 2, "answer": line / 3}
    for decision, lines in ((0.5, 5), (np.inf, 4)):
        picture = show_two_classes(line, (line, line, line), curves, decision, line, {"plain": line}, ("plain", 0.5, 0.5), 0.9)
        assert len(picture.axes[0].lines) == lines and picture.rgb().std() > 0

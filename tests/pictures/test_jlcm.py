"""Pictures of codebooks: every group, every gradient and every network stands in them."""

import numpy as np

from facelab.pictures.jlcm import plot_jumps, plot_ladder, plot_pulls, plot_sizes, show_order


def words(axes):
    return {text.get_text() for text in axes.get_legend().get_texts()}


def test_groups_have_borders_and_codebooks():
    rows, group = np.random.default_rng(0).normal(size=(9, 20)), np.repeat([0, 1, 2], 3)
    picture = show_order(rows, rows[::-1], group, np.array([[-1.0, 1.0]] * 3))
    assert len(picture.axes[1].lines) == 2
    assert [text.get_text() for text in picture.axes[2].texts] == ["3 neurons"] * 3
    assert picture.rgb().std() > 0


def test_every_gradient_has_bars_and_a_path():
    codewords = np.array([-1.0, 0.0, 2.0])
    pulls = {"ordinary": np.array([-1.0, 0.0, 2.0]), "proximal": np.array([-0.3, 0.0, 0.1])}
    picture = plot_pulls(codewords, 0.2, 1, pulls, {name: np.array([1, 1, 2]) for name in pulls}, 1)
    assert [len(bars.get_segments()) for bars in picture.axes[0].collections] == [3, 3]
    assert words(picture.axes[1]) == set(pulls)


def test_jumps_are_shares():
    picture = plot_jumps({"ordinary": [1, 1, 1, 3], "proximal": [1]})
    assert [round(bar.get_height()) for bar in picture.axes[0].patches] == [75, 0, 25, 100, 0, 0]
    assert plot_jumps({"ordinary": [], "proximal": []}).rgb().std() > 0


def test_every_step_and_every_size():
    picture = plot_ladder({"one": [3.0, 4.0], "two": [1.0, 2.0]}, {"one": [50.0, 60.0], "two": [80.0, 90.0]})
    assert [bar.get_width() for bar in picture.axes[1].patches] == [55.0, 85.0]
    picture = plot_sizes({"JLCM": [(6.0, [90.0, 92.0]), (9.0, [97.0, 96.0])]}, 97.0)
    assert {"JLCM", "numbers of 32 bits"} == words(picture.axes[0])

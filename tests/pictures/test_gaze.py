"""The pictures of an ensemble that reads a gaze say what it says."""

import numpy as np
import pytest

from facelab.pictures import plot_lost_heads, plot_members
from facelab.pictures.gaze import gaze_view

EYES, TRUTH = np.zeros((2, 24, 24)), np.array([10.0, 5.0])
MAPS = [np.full((side, side), 1 / side**2) for side in (6, 8)]
GAZES = np.array([[0.0, 0.0], [20.0, 10.0]])


def test_the_caption_is_the_mean_of_the_heads_that_are_on():
    both = gaze_view(EYES, MAPS, GAZES, [True, True], TRUTH, 75.0)
    assert "2 of 2 heads: yaw +10.0°, pitch +5.0°, 0.0° from the truth" in both.text
    assert "1 of 2 heads: yaw +20.0°" in gaze_view(EYES, MAPS, GAZES, [False, True], TRUTH, 75.0).text


def test_somebody_has_to_answer():
    with pytest.raises(ValueError, match="All 2 heads are switched off"):
        gaze_view(EYES, MAPS, GAZES, [False, False], TRUTH, 75.0)


def test_lines_and_markers_stand_at_the_figures():
    axes = plot_lost_heads({"a": [3.0, 2.0, 1.0]}).axes[0]
    assert axes.lines[0].get_xydata().tolist() == [[1, 3], [2, 2], [3, 1]]
    axes = plot_members([9.0], [0.5], [8.0], ["a"]).axes[0]
    assert axes.lines[0].get_xydata().tolist() == [[9.0, 0.5]]
    assert axes.get_legend().get_texts()[0].get_text() == "a: 8.0°"

"""Pictures of shared products: what is counted, drawn and labelled."""

import numpy as np
import pytest

from facelab.pictures.redpp import plot_bars, plot_steps, plot_tradeoff, split_view


def test_the_view_counts_products_per_column_and_equal_rows():
    hashed = np.array([[1.0, 2.0], [1.0, 3.0], [1.0, 2.0]])
    shown = split_view(hashed, hashed, 0)
    assert "multiplied by 1 distinct weight for 3 outputs" in shown.text
    assert "needs 3 products of 6, 50% are removed" in shown.text
    assert "2 distinct rows, so merging would remove 1" in shown.text
    assert [spot.text for spot in shown.spots] == ["input 0: 1 products", "input 1: 2 products"]


def test_each_line_has_its_points_in_order():
    picture = plot_tradeoff({"ours": [(0.5, 90.0), (0.2, 40.0)], "other": [(0.9, 80.0)]}, 95.0, marked=(0.5, 90.0))
    lines = {line.get_label(): line.get_xydata().tolist() for line in picture.axes[0].lines}
    assert lines["ours"] == [[20, 40], [50, 90]] and lines["other"] == [[90, 80]]
    assert picture.axes[0].get_xlabel() == "multiplications left, %"
    assert picture.axes[1].get_xlim() == (20, 75)


def test_places_stand_below_the_values():
    picture = plot_steps([8, 16], {"a": [1.0, 2.0], "b": [3.0, 400.0]}, place="outputs", label="products, %", logarithmic=True)
    axes = picture.axes[0]
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["8", "16"]
    assert axes.get_yscale() == "log" and axes.lines[1].get_ydata().tolist() == [3, 400]


def test_bars_of_one_place_stand_side_by_side():
    axes = plot_bars(["first", "last"], {"a": [1.0, 2.0], "b": [3.0, 4.0]}, place="layer", label="products, %").axes[0]
    assert [bar.get_height() for bar in axes.patches] == [1, 2, 3, 4]
    assert [bar.get_x() + bar.get_width() / 2 for bar in axes.patches] == pytest.approx([-0.2, 0.8, 0.2, 1.2])

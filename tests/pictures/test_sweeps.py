"""What is drawn against a factor: means of its bins, and lines through them."""

import numpy as np

from facelab import pictures

YAW = np.array([-80.0, -70, -60, 10, 20, 30, 30, 200])


def test_a_line_goes_through_the_means_of_the_bins():
    errors = np.array([1.0, 2, 3, 10, 20, 30, 40, 999])
    picture = pictures.plot_against(YAW, {"one": errors, "seeds": np.stack([errors, 3 * errors])}, [-90, 0, 90])
    one, seeds = picture.axes[0].lines
    assert one.get_xydata().tolist() == [[-45, 2], [45, 25]]
    assert seeds.get_ydata().tolist() == [4, 50]


def test_a_bin_of_few_samples_is_left_out():
    picture = pictures.plot_against(YAW, {"one": YAW}, [-90, -65, 0, 90])
    assert picture.axes[0].lines[0].get_xdata().tolist() == [45]


def test_a_name_keeps_its_colour_and_bands_are_drawn_where_asked():
    scores = {"one": YAW, "two": 2 * YAW}
    picture = pictures.plot_against(YAW, scores, [-90, 0, 90], colors={"two": "#123456"}, bands=["one"])
    assert picture.axes[0].lines[1].get_color() == "#123456"
    assert len(picture.axes[0].collections) == 1


def test_means_of_bins():
    middles, means = pictures.binned_means(YAW, np.stack([YAW, 0 * YAW + 1], axis=1), [-90, -75, 0, 5, 90])
    assert middles.tolist() == [-82.5, -37.5, 47.5]
    assert means.tolist() == [[-80, 1], [-65, 1], [22.5, 1]]

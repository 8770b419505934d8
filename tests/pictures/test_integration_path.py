"""The path of integrated gradients, drawn."""

import pytest
import torch

from facelab.pictures.integration_path import draw_integration_path, plot_bends, plot_channels


def product(x):
    return x[:, 0] * x[:, 1] ** 2


@pytest.mark.parametrize(("start", "credits"), [((0, 0), ("0.333", "0.667")), ((0.5, 0), ("0.167", "0.833"))])
def test_the_legend_tells_the_credits(start, credits):
    picture = draw_integration_path(product, start, (1, 1))
    told = [text.get_text() for text in picture.axes[1].get_legend().get_texts()]
    assert [words.rsplit(" ", 1)[1] for words in told] == list(credits)


def test_bends_are_ticked_and_counted():
    def hinge(x):
        return 3 * torch.relu(x[:, 0] - 0.25)

    one = torch.ones(1, dtype=torch.float64)
    picture = plot_bends(hinge, one, 0 * one, torch.tensor([0, 0.25, 1], dtype=torch.float64))
    line, ticks = picture.axes[0].lines
    assert picture.axes[0].get_title(loc="left") == "1 breakpoints"
    assert ticks.get_xdata().tolist() == [0.25]
    assert line.get_ydata().max() == pytest.approx(2.25)


def test_the_strongest_channels_are_numbered():
    picture = plot_channels(torch.arange(5.0), torch.tensor([0.0, -9.0, 1.0, 8.0, 2.0]), "flow", "drop", named=2)
    assert sorted(text.get_text().strip() for text in picture.axes[0].texts) == ["1", "3"]

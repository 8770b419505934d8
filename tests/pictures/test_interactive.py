"""Plotly pictures: small, plain, and with words for those who cannot see them."""

import IPython.display
import numpy as np
import pytest

from facelab.pictures import interactive
from facelab.pictures.style import PALETTE


@pytest.fixture
def displayed(monkeypatch) -> list:
    bundles: list = []
    monkeypatch.setattr(IPython.display, "display", lambda bundle, raw: bundles.append(bundle) if raw else None)
    return bundles


def test_a_figure_has_the_colours_and_the_size_of_the_house():
    figure = interactive.new_figure(300, 200, xaxis_title="bytes")
    assert figure.layout.colorway == PALETTE
    assert (figure.layout.width, figure.layout.height, figure.layout.xaxis.title.text) == (300, 200, "bytes")


def test_a_notebook_gets_data_and_a_sentence_but_no_library(displayed):
    figure = interactive.new_figure()
    figure.add_scatter(x=[1, 2], y=[3, 4])
    interactive.show(figure, "Two points.")
    (bundle,) = displayed
    assert set(bundle) == {interactive.PLOTLY_TYPE, "text/plain"}
    assert bundle["text/plain"] == "Two points."
    assert list(bundle[interactive.PLOTLY_TYPE]["data"][0]["y"]) == [3, 4]
    assert len(str(bundle)) < 20_000


def test_a_figure_too_large_for_a_notebook_is_refused(displayed):
    figure = interactive.new_figure()
    figure.add_scatter(y=np.random.default_rng(0).normal(size=100_000))
    with pytest.raises(ValueError, match=r"bytes, at most 600,000 are allowed; give it fewer points"):
        interactive.show(figure, "Noise.")
    assert not displayed

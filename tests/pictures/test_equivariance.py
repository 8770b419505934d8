"""Arrows between two predictions, and the caption that measures them."""

import numpy as np
import pytest

from facelab.pictures.equivariance import equivariance_view, show_arrows

IMAGE = np.full((1, 20, 20), 0.5, dtype=np.float32)
TARGET = np.array([[5.0, 5.0], [10.0, 12.0]])


def test_the_caption_gives_the_mean_length_of_the_arrows():
    pairs = {"near": (TARGET, TARGET), "far": (TARGET + (3.0, 4.0), TARGET)}
    view = equivariance_view(np.full((4, 4), 1 / 16), (1.5, 1.5), IMAGE, pairs)
    assert "(1.5, 1.5) px" in view.text
    assert "0.00 px (near)" in view.text and "5.00 px (far)" in view.text
    assert len(view.picture.axes) == 3


def test_one_panel_for_each_pair_under_its_name():
    picture = show_arrows(np.stack([IMAGE, IMAGE]), {"before": (TARGET, TARGET), "after": (TARGET, TARGET)})
    assert [axes.get_title(loc="left") for axes in picture.axes] == ["before", "after"]


def test_one_image_for_each_pair_is_asked_for():
    with pytest.raises(ValueError):
        show_arrows(IMAGE[None], {"before": (TARGET, TARGET), "after": (TARGET, TARGET)})

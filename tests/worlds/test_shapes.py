"""Plain shapes: the truth against the pixels and against plain geometry."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.path import Path

from facelab.worlds import shapes

CLEAN = {"occlusion": 0, "noise": 0}


@pytest.mark.parametrize("shape", shapes.SHAPES)
def test_the_mask_is_the_polygon_of_the_corners(shape):
    batch = shapes.render(4, seed=5, size=64, shape=shape, **CLEAN)
    points = np.stack(np.meshgrid(np.arange(64), np.arange(64)), axis=-1).reshape(-1, 2)
    for mask, corners, centre, radius in zip(batch.mask, batch.corners, batch.centre, batch.factors["radius"], strict=True):
        if shape == "circle":
            expected = np.linalg.norm(points - centre, axis=1) < radius * 64
        else:
            expected = Path(corners[~np.isnan(corners[:, 0])]).contains_points(points)
        assert np.mean(mask.ravel() != expected) < 2e-3  # points on the very edge may fall either way


@pytest.mark.parametrize("shape", shapes.SHAPES)
def test_the_area_drawn_is_the_area_of_the_shape(shape):
    batch = shapes.render(3, size=96, shape=shape, x=0.5, y=0.5, radius=0.4, background=0, hue=0, **CLEAN)
    drawn = (batch.images[..., 0] / (0.95 * 255)).sum(axis=(1, 2))
    x, y = batch.corners[0][~np.isnan(batch.corners[0, :, 0])].T
    exact = np.pi * 38.4**2 if shape == "circle" else abs(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1))) / 2
    assert drawn == pytest.approx(exact, rel=0.01)


@settings(deadline=None, max_examples=10)
@given(seed=st.integers(0, 1000), start=st.integers(0, 100), item=st.integers(0, 5))
def test_an_item_does_not_depend_on_its_batch(seed, start, item):
    whole, alone = shapes.render(6, seed, start=start), shapes.render(1, seed, start=start + item)
    assert (whole.images[item] == alone.images[0]).all()
    assert np.array_equal(whole.corners[item], alone.corners[0], equal_nan=True)


def test_visible_corners_agree_with_the_card_and_the_frame():
    batch = shapes.render(200, seed=1, size=64, shape="star", occlusion=(0.1, 0.8))
    column, row = np.round(np.nan_to_num(batch.corners, nan=-9)).astype(int).transpose(2, 0, 1)
    inside = (column >= 0) & (column < 64) & (row >= 0) & (row < 64)
    faces = np.broadcast_to(np.arange(200)[:, None], row.shape)[inside]
    under_card = batch.occluder[faces, row[inside], column[inside]]
    assert np.isnan(batch.corners[:, 10:]).all() and not batch.visible[:, 10:].any()
    assert not batch.visible[~inside].any()
    assert np.mean(under_card == batch.visible[inside]) < 0.02  # but for corners less than a pixel from the card's edge
    assert 0.1 < batch.visible[:, :10].mean() < 0.9


@pytest.mark.parametrize("amount", [0.25, 0.5, 1.0])
def test_the_card_hides_as_much_as_asked(amount):
    batch = shapes.render(8, size=96, shape="circle", x=0.5, y=0.5, radius=0.25, occlusion=amount, noise=0)
    hidden = (batch.mask & batch.occluder).sum(axis=(1, 2)) / batch.mask.sum(axis=(1, 2))
    half_angle = np.arccos(1 - 2 * amount)
    assert hidden == pytest.approx((half_angle - np.sin(2 * half_angle) / 2) / np.pi, abs=0.03)


def test_one_factor_changes_one_thing():
    plain = shapes.render(6, seed=4, **CLEAN)
    other_hue = shapes.render(6, seed=4, **CLEAN, hue=120)
    assert (plain.mask == other_hue.mask).all() and (plain.images != other_hue.images).any()
    untouched = ~plain.mask & (plain.images == plain.images[:, :1, :1]).all(-1)
    assert (plain.images[untouched] == other_hue.images[untouched]).all()


def test_the_batch_has_the_habits_of_all_batches():
    batch = shapes.render(5)
    assert len(batch) == 5 and len(batch.take(slice(1, 3))) == 2
    assert batch.gray().shape == (5, 1, 32, 32) and batch.gray().dtype == np.float32
    assert batch.tensors("mask", colour=True)["images"].shape == (5, 3, 32, 32) and batch.groups is None


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"shape": "heart"}, "circle, triangle, square"),
        ({"radius": 0}, "0.05 to 0.6"),
        ({"colour": 1}, "shape, x, y"),
        ({"size": 4}, "size=4"),
    ],
)
def test_bad_arguments_are_refused(arguments, words):
    with pytest.raises(ValueError, match=words):
        shapes.render(2, **arguments)

"""What lies before a face, exactly: masks, shares of triangles, points behind them, and what may be known of those."""

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from facelab.blocks.face_features import FIRM
from facelab.blocks.occlusion import (
    PLACES,
    at_rest,
    box_masks,
    cover,
    fall_back,
    found_hidden,
    hidden_points,
    hidden_shares,
    occlude,
    occluding_boxes,
)


@pytest.fixture
def points():
    return np.random.default_rng(0).uniform(8, 24, (6, 12, 2))


@pytest.mark.parametrize("place", PLACES)
def test_boxes_hide_what_they_name_and_not_everything(points, place):
    boxes = occluding_boxes(points, place, 3, eyes=(0, 1, 2), mouth=(8, 9))
    hidden = hidden_points(points, box_masks(boxes, 32, 32))
    assert hidden.any(axis=1).all()
    if place in ("eyes", "mouth"):
        assert hidden[:, (0, 1, 2) if place == "eyes" else (8, 9)].mean() > 0.9, "all but rounding at the border"
    if place == "half":
        assert not hidden.all(axis=1).any()
    assert np.array_equal(boxes, occluding_boxes(points, place, 3, eyes=(0, 1, 2), mouth=(8, 9)))


def test_unknown_places_and_textures_are_refused(points):
    with pytest.raises(ValueError, match="'nose' is not known"):
        occluding_boxes(points, "nose", eyes=(0,), mouth=(1,))
    with pytest.raises(ValueError, match="'silk' is not known"):
        cover(torch.zeros(1, 1, 4, 4), np.ones((1, 4, 4), bool), "silk")


@pytest.mark.parametrize("texture", ["pattern", "plain"])
def test_only_the_mask_is_painted(texture):
    images, masks = torch.rand(3, 1, 16, 16, generator=torch.Generator().manual_seed(0)), np.zeros((3, 16, 16), bool)
    masks[:, 4:9, 2:12] = True
    painted = cover(images, masks, texture, seed=1)
    assert torch.equal(painted[:, 0][~torch.from_numpy(masks)], images[:, 0][~torch.from_numpy(masks)])
    inside = painted[:, 0][torch.from_numpy(masks)].reshape(3, -1)
    assert inside.min() >= 0 and inside.max() <= 1
    if texture == "plain":
        tone = images[:, 0][torch.from_numpy(masks)].reshape(3, -1).mean(dim=1)
        assert torch.allclose(inside.mean(dim=1), tone, atol=0.01) and inside.std(dim=1).max() < 0.02
    else:
        assert inside.std(dim=1).min() > 0.05


def test_the_share_of_a_triangle_under_a_straight_edge():
    corners, triangle = np.array([[[0.0, 0.0], [60.0, 0.0], [0.0, 60.0]]]), np.array([[0, 1, 2]])
    masks = np.zeros((1, 64, 64), bool)
    masks[:, :, :30] = True  # left of the middle lie three quarters of it
    assert abs(hidden_shares(corners, triangle, masks)[0, 0] - 0.75) < 0.1
    assert hidden_shares(corners, triangle, np.ones((1, 64, 64), bool)) == 1
    assert hidden_shares(corners, triangle, np.zeros((1, 64, 64), bool)) == 0


def test_points_outside_the_image_are_visible():
    assert hidden_points(np.array([[[-1.0, 2.0], [2.0, 2.0], [2.0, 40.0]]]), np.ones((1, 8, 8), bool)).tolist() == [[False, True, False]]


def test_hidden_points_fall_back_to_a_turned_mean_and_leak_nothing():
    rng = np.random.default_rng(0)
    mean = rng.normal(size=(7, 2))
    turn = 3 * np.array([[0.8, 0.6], [-0.6, 0.8]])
    placed = (mean @ turn + 5)[None]
    hidden = np.array([[True, True, False, False, False, False, True]])
    moved = np.where(hidden[..., None], 1000.0, placed)
    assert np.allclose(fall_back(moved, hidden, mean), placed), "the exact similarity, wherever the hidden points were"
    assert np.array_equal(fall_back(placed, np.zeros((1, 7), bool), mean), placed)
    assert np.isfinite(fall_back(placed, np.ones((1, 7), bool), mean)).all()


def test_found_hidden_is_the_area_of_scikit_learn():
    rng = np.random.default_rng(0)
    confidence, hidden = rng.integers(0, 5, (4, 20)) / 5, rng.random((4, 20)) < 0.4
    expected = [roc_auc_score(h, -c) for h, c in zip(hidden, confidence, strict=True)]
    assert np.allclose(found_hidden(confidence, hidden), expected)
    assert np.isnan(found_hidden(confidence[:1], np.zeros((1, 20), bool))).all()


def a_face():
    """51 points of which the lips are below everything else, and four copies of it turned, scaled and shifted."""
    mean = np.random.default_rng(0).uniform(10, 54, (51, 2))
    mean[31:, 1] = 40 + mean[31:, 1] / 4
    mean[:31, 1] = mean[:31, 1] / 2
    return mean, np.stack([scale * (mean - 32) + 32 + shift for scale, shift in ((1, 0), (0.9, 1), (0.8, -2), (1, 3))])


def test_boxes_do_not_tell_of_an_expression():
    mean, truth = a_face()
    smiling = truth.copy()
    smiling[:, ~np.isin(np.arange(51), FIRM)] += np.random.default_rng(1).normal(0, 3, (51 - len(FIRM), 2))
    assert np.allclose(at_rest(truth, mean), truth) and np.allclose(at_rest(smiling, mean), truth)
    for place in PLACES:
        assert np.allclose(occluding_boxes(at_rest(smiling, mean), place), occluding_boxes(truth, place))


def test_everything_together_hides_the_mouth_and_leaves_the_eyes():
    mean, truth = a_face()
    images = np.random.default_rng(0).random((4, 1, 64, 64), dtype=np.float32)
    found, triangles = truth + 0.1, np.array([[0, 10, 20], [31, 40, 50]])
    behind = occlude(images, truth, found, mean, triangles, "mouth")
    assert np.allclose(behind.shares, [0, 1]), "the lips are a rectangle's own points"
    assert np.array_equal(behind.points[:, :31], found[:, :31])
    moved = found.copy()
    moved[:, 31:] += 5
    assert np.allclose(occlude(images, truth, moved, mean, triangles, "mouth").points, behind.points), "nothing of the hidden is known"
    assert (behind.images != images).any(axis=(1, 2, 3)).all()

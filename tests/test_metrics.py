"""Metrics against figures computed by hand."""

import numpy as np
import pytest
import torch

from facelab.metrics import area_under_curve, cumulative_error, distances, failure_rate, nme, normalising_length


def square_face():
    """68 landmarks, outer eye corners 10 apart, bounding box 20 x 40."""
    landmarks = np.zeros((1, 68, 2))
    landmarks[0, :] = [5.0, 5.0]
    landmarks[0, 36], landmarks[0, 45] = [0.0, 0.0], [6.0, 8.0]
    landmarks[0, 0], landmarks[0, 8] = [-10.0, 0.0], [10.0, 40.0]
    return landmarks


def test_distances_by_hand():
    assert distances(np.array([[[3.0, 4.0], [0.0, 1.0]]]), np.zeros((1, 2, 2))).tolist() == [[5.0, 1.0]]


def test_nme_by_hand_and_for_tensors():
    true = square_face()
    predicted = true.copy()
    predicted[0, 10] += [3.0, 4.0]  # one landmark of 68 is 5 pixels off
    expected = 100 * 5 / 68 / 10
    assert nme(predicted, true) == pytest.approx([expected])
    assert nme(torch.as_tensor(predicted), torch.as_tensor(true)) == pytest.approx([expected])
    assert nme(predicted, true, outer_eyes=(0, 8)) == pytest.approx([100 * 5 / 68 / np.hypot(20, 40)])
    assert nme(predicted, true, normaliser=np.array([2.0])) == pytest.approx([100 * 5 / 68 / 2])


@pytest.mark.parametrize(
    ("kind", "length"), [("outer_eyes", 10.0), ("box", np.sqrt(20 * 40)), ("diagonal", np.hypot(20, 40)), ("pupils", np.hypot(1, 8 / 6))]
)
def test_normalisers_by_hand(kind, length):
    # Pupils: the mean of five points at (5, 5) and one at (0, 0), and of five at (5, 5) and one at (6, 8).
    assert normalising_length(square_face(), kind) == pytest.approx([length])
    predicted = square_face() + np.array([3.0, 4.0])
    assert nme(predicted, square_face(), normaliser=kind) == pytest.approx([100 * 5 / length])


def test_unknown_normalisers_are_refused():
    with pytest.raises(ValueError, match="outer_eyes"):
        nme(square_face(), square_face(), normaliser="nose")
    with pytest.raises(ValueError, match="68"):
        normalising_length(np.zeros((1, 5, 2)), "pupils")


def test_nme_does_not_depend_on_scale_or_place():
    rng = np.random.default_rng(0)
    true, predicted = rng.normal(size=(4, 68, 2)), rng.normal(size=(4, 68, 2))
    assert nme(3 * predicted + 7, 3 * true + 7) == pytest.approx(nme(predicted, true))


def test_curve_area_and_failures_by_hand():
    errors = np.array([2.0, 4.0, 10.0, 25.0])
    thresholds, share = cumulative_error(errors, limit=10.0, points=6)
    assert thresholds.tolist() == [0, 2, 4, 6, 8, 10]
    assert share.tolist() == [0, 0.25, 0.5, 0.5, 0.5, 0.75]
    assert area_under_curve(errors, limit=10.0) == pytest.approx((8 + 6 + 0 + 0) / 40)
    assert failure_rate(errors, limit=10.0) == 0.25


def test_area_agrees_with_the_curve():
    errors = torch.as_tensor(np.random.default_rng(0).gamma(4, 2, size=500))
    thresholds, share = cumulative_error(errors, limit=10.0, points=20_001)
    assert area_under_curve(errors, 10.0) == pytest.approx(np.trapezoid(share, thresholds) / 10, abs=1e-3)


@pytest.mark.parametrize("kind", [np.array, torch.tensor])
def test_a_face_without_a_prediction_fails_at_every_threshold(kind):
    errors = kind([5.0, np.nan])
    assert failure_rate(errors) == 0.5 == 1 - cumulative_error(errors)[1][-1]
    assert area_under_curve(errors) == 0.25 == area_under_curve(kind([5.0, np.inf]))
    assert failure_rate(kind([np.nan, np.nan])) == 1.0 and area_under_curve(kind([np.nan, np.nan])) == 0.0
    predicted = np.concatenate([square_face(), square_face()])
    predicted[1, 3] = np.nan
    error = nme(kind(predicted), kind(np.concatenate([square_face(), square_face()])))
    assert error[0] == 0 and np.isnan(error[1]) and failure_rate(error) == 0.5


def test_errors_that_cannot_be_measured_are_refused():
    true, hidden = square_face(), square_face()
    hidden[0, 3, 1] = np.nan
    for measure in (distances, nme, lambda _, truth: normalising_length(truth, "box")):
        with pytest.raises(ValueError, match="1 of 1 faces have true landmarks that are not finite; leave"):
            measure(true, hidden)
    with pytest.raises(ValueError, match=r"face 0 is 0.0; it must be above 0"):
        nme(true, true, outer_eyes=(3, 4))
    for length in ([np.nan], [0.0], [-1.0]):
        with pytest.raises(ValueError, match="normalising length of face 0"):
            nme(true, true, normaliser=np.array(length))
    for measure in (failure_rate, area_under_curve, cumulative_error):
        with pytest.raises(ValueError, match=r"errors has shape \(0,\)"):
            measure(np.array([]))
        with pytest.raises(ValueError, match=r"limit = 0\.0"):
            measure(np.array([1.0]), limit=0.0)


def test_landmarks_of_any_type_are_measured():
    true = square_face() + 10
    predicted = true + np.array([-300.0, 0.0]) * (np.arange(68) == 10)[None, :, None] + 300
    true = true + 300
    right = nme(predicted, true)
    assert right == pytest.approx([100 * 300 / 68 / 10])
    for kind in (np.uint16, np.int32, np.float16, np.float32):
        assert nme(predicted.astype(kind), true.astype(kind)) == pytest.approx(right)
    for kind in (torch.float16, torch.int16):
        assert nme(torch.tensor(predicted).to(kind), torch.tensor(true).to(kind)) == pytest.approx(right)
    assert nme(torch.tensor(predicted).bfloat16(), torch.tensor(true).bfloat16()) == pytest.approx(right, rel=0.3)
    assert failure_rate(torch.tensor([5, 11])) == 0.5

"""Metrics against figures computed by hand."""

import numpy as np
import pytest
import torch
from torchmetrics import functional

from facelab import metrics
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


# --- statistics of sets ---


def test_iou_by_hand():
    predicted, true = np.array([[0, 0, 1], [1, 1, 1]]), np.array([[0, 1, 1], [1, 1, 255]])
    parts = metrics.confusions(predicted, true, classes=3, ignore=255)
    assert parts.tolist() == [[[1, 2], [1, 2], [0, 0]], [[0, 0], [2, 2], [0, 0]]]
    assert metrics.mean_iou(parts) == pytest.approx((1 / 2 + 3 / 4) / 2)  # the third class is nowhere
    assert np.isnan(metrics.mean_iou(0 * parts))


def test_iou_is_that_of_torchmetrics_with_ignored_pixels_and_seeds():
    generator = torch.Generator().manual_seed(0)
    true = torch.randint(6, (9, 8, 7), generator=generator)
    predicted = torch.where(torch.rand((3, 9, 8, 7), generator=generator) < 0.6, true, torch.randint(6, (3, 9, 8, 7), generator=generator))
    parts = metrics.confusions(predicted, true, classes=6, ignore=5)
    assert parts.shape == (3, 9, 6, 2)
    of_counted = [functional.jaccard_index(p[true != 5], true[true != 5], "multiclass", num_classes=6, average="none") for p in predicted]
    assert metrics.mean_iou(parts) == pytest.approx([float(each.mean()) for each in of_counted])
    assert (parts[1] == metrics.confusions(predicted[1], true, 6, ignore=5)).all()


def test_f1_is_that_of_torchmetrics():
    generator = torch.Generator().manual_seed(1)
    predicted, true = torch.randint(2, (2, 40, 3), generator=generator)
    theirs = functional.f1_score(predicted, true, "multilabel", num_labels=3, average="macro")
    assert metrics.mean_f1(metrics.detections(predicted, true)) == pytest.approx(float(theirs))
    one = metrics.detections(predicted[:, 0].bool(), true[:, 0].bool())
    assert one.shape == (40, 1, 3)
    assert metrics.mean_f1(one) == pytest.approx(float(functional.f1_score(predicted[:, 0], true[:, 0], "binary")))
    absent = metrics.detections([[1, 0], [0, 0]], [[1, 0], [1, 0]])
    assert metrics.mean_f1(absent) == pytest.approx(2 / 3)  # of the first class; the second is nowhere


def test_correlations_are_those_of_torchmetrics():
    generator = torch.Generator().manual_seed(2)
    true = 1000 + torch.randn((50, 2), generator=generator, dtype=torch.float64)  # far from zero, where sums of squares lose digits
    predicted = 0.5 * (true - 999) + 1000 + 0.3 * torch.randn((50, 2), generator=generator, dtype=torch.float64)
    predicted[:10] = predicted[0]  # ranks are shared
    moments = metrics.moments(predicted, true)
    for ours, parts, theirs in (
        (metrics.pearson, moments, functional.pearson_corrcoef),
        (metrics.spearman, metrics.pairs(predicted, true), functional.spearman_corrcoef),
    ):
        assert ours(parts) == pytest.approx(float(theirs(predicted - 1000, true - 1000).mean()), rel=1e-6)
    # They divide variances by n - 1 beside a squared difference of means that is not so scaled; Lin's estimate divides by n.
    theirs = float(functional.concordance_corrcoef(predicted - 1000, true - 1000).mean())
    assert metrics.concordance(moments) == pytest.approx(theirs, rel=0.02)
    by_hand = [
        2 * np.cov(x, y, bias=True)[0, 1] / (x.var() + y.var() + (x.mean() - y.mean()) ** 2)
        for x, y in zip(predicted.numpy().T, true.numpy().T, strict=True)
    ]
    assert metrics.concordance(moments) == pytest.approx(np.mean(by_hand))


def test_a_correlation_with_what_does_not_vary_has_no_value():
    constant, varying = np.full(20, 0.1), np.arange(20) / 7
    for ours, parts in ((metrics.pearson, metrics.moments), (metrics.spearman, metrics.pairs)):
        assert np.isnan(ours(parts(constant, varying))) and np.isnan(ours(parts(varying, constant)))
    assert metrics.concordance(metrics.moments(constant, varying)) == pytest.approx(0)
    assert np.isnan(metrics.concordance(metrics.moments(constant, constant)))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: metrics.confusions(np.zeros((2, 3), int), np.zeros((2, 4), int), 2), r"shape \(2, 3\) and true \(2, 4\)"),
        (lambda: metrics.confusions(np.zeros((2, 3), int), np.full((2, 3), 2), 2), "true holds 2 to 2, int64; classes are .* 0 to 1"),
        (lambda: metrics.confusions(np.full((2, 3), -1), np.zeros((2, 3), int), 2), "predicted holds -1 to -1"),
        (lambda: metrics.confusions(np.zeros((2, 3)), np.zeros((2, 3), int), 2), "predicted holds .* float64; classes are whole numbers"),
        (lambda: metrics.detections([0.2, 1.0], [0, 1]), "predicted holds other numbers than 0 and 1; compare"),
        (lambda: metrics.moments(np.zeros(3), np.zeros(4)), r"predicted has shape \(3,\) and true \(4,\)"),
        (lambda: metrics.pairs(np.zeros((2, 2, 3)), np.zeros(3)), r"shape \(2, 2, 3\)"),
    ],
)  # fmt: skip
def test_parts_that_cannot_be_made_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_no_samples_are_no_samples_and_bfloat16_is_a_number():
    none = np.zeros((0, 4, 4), int)
    assert metrics.confusions(none, none, 3).shape == (0, 3, 2)
    x = torch.arange(8.0)
    np.testing.assert_array_equal(metrics.moments(x.bfloat16(), x), metrics.moments(x, x))

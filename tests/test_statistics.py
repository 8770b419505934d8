"""Intervals: how often they hold the true gain, by simulation; and that every way to the same number gives the same number."""

import math

import numpy as np
import pytest
from scipy.special import expit, ndtri, stdtrit

from facelab import metrics, statistics
from facelab.statistics import BaselineNearZero, gain_interval

CHANCE = 0.2
"""Of training, as a share of the scale on which quality is measured."""


def segmentations(rng, quality, seeds, truth):
    """Classes of which three are often absent; each training finds other classes hard, each sample is hard for all."""
    pixels, hard = truth
    level = quality + rng.normal(0, CHANCE, (seeds, 1, 5)) - hard[:, None] + rng.normal(0, 0.3, (seeds, *pixels.shape))
    others = pixels.sum(axis=1, keepdims=True) - pixels
    both = pixels * expit(level)
    return np.stack([both, pixels + 0.1 * others * expit(-level) * (pixels > 0)], axis=-1)


def units(rng, quality, seeds, truth):
    labels, hard = truth
    level = quality - hard[:, None] + rng.normal(0, CHANCE, (seeds, 1, 4)) + rng.normal(0, 0.3, (seeds, *labels.shape))
    return metrics.detections((2 * labels - 1) * level > rng.normal(0.5, 0.2, labels.shape), labels)


def regressions(parts):
    def made(rng, quality, seeds, truth):
        (true,) = truth
        slope, offset, noise = CHANCE * rng.normal(size=(3, seeds, 1))
        predicted = (quality + slope / 3) * true + offset + 0.5 * np.exp(2 * noise) * rng.normal(size=(seeds, len(true)))
        return parts(predicted, true)

    return made


def sets(kind, rng, count):
    """True parts of `count` samples, of any of the three kinds."""
    if kind == "segmentations":
        return (rng.random((count, 5)) < [1, 0.8, 0.5, 0.2, 0.1]) * rng.gamma(2, 50, (count, 5)), rng.normal(0, 0.7, count)
    if kind == "units":
        return (rng.random((count, 4)) < [0.5, 0.3, 0.2, 0.1]).astype(int), rng.normal(0, 0.7, count)
    return (rng.gamma(2, 0.5, count) + 0.7 * rng.standard_t(5, count),)


CASES = {
    "mean_iou": ("segmentations", segmentations, 1.5, 1.2, 100),
    "mean_f1": ("units", units, 1.8, 1.5, 200),
    "concordance": ("regressions", regressions(metrics.moments), 0.9, 0.7, 100),
    "pearson": ("regressions", regressions(metrics.moments), 0.9, 0.7, 100),
    "spearman": ("regressions", regressions(metrics.pairs), 0.9, 0.7, 40),
}


@pytest.mark.slow
@pytest.mark.parametrize("seeds", [3, 5, 7])
@pytest.mark.parametrize("name", CASES)
def test_intervals_of_sets_cover_the_true_gain(monkeypatch, name, seeds):
    """Relative and absolute gains of simulated claims in turn, against the effect in a large simulation."""
    kind, make, better, worse, samples = CASES[name]
    statistic, rng = getattr(metrics, name), np.random.default_rng(1)
    of_ranks = name == "spearman"  # which take longer
    rows, wide, trials, draws = (200, 500, 200, 200) if of_ranks else (100, 2000, 300, 300)
    monkeypatch.setattr(statistics, "SET_RESAMPLES", draws)
    truths = (sets(kind, rng, wide) for _ in range(8))
    large = [[statistic(make(rng, quality, rows, truth)).mean() for quality in (better, worse)] for truth in truths]
    ours, baseline = np.mean(large, axis=0)
    hits = 0
    for trial in range(trials):
        truth, absolute = sets(kind, rng, samples), trial % 2 == 0
        pair = [make(rng, quality, seeds, truth) for quality in (better, worse)]
        _, low, high = gain_interval(*pair, better="higher", statistic=statistic, absolute=absolute)
        hits += int(low <= (ours - baseline) / (1.0 if absolute else baseline) <= high)
    assert 0.9 <= hits / trials <= 0.99


def plain_mean_iou(parts):
    """Without the mark that lets sums be resampled."""
    return metrics.mean_iou(parts)


@pytest.fixture
def some_sets():
    rng = np.random.default_rng(0)
    truth = sets("segmentations", rng, 30)
    return [segmentations(rng, quality, 3, truth) for quality in (1.5, 1.2)]


@pytest.mark.parametrize("absolute", [True, False])
def test_sums_and_samples_and_chunks_give_the_same_interval(monkeypatch, some_sets, absolute):
    options = dict(better="higher", absolute=absolute)
    fast = gain_interval(*some_sets, statistic=metrics.mean_iou, **options)
    np.testing.assert_allclose(gain_interval(*some_sets, statistic=plain_mean_iou, **options), fast, rtol=1e-9)
    one_by_one = np.vectorize(lambda parts: plain_mean_iou(parts), signature="(n,i,p)->()")
    monkeypatch.setattr(statistics, "CHUNK", 10_000)  # a few draws at a time, and sums in several chunks
    np.testing.assert_allclose(gain_interval(*some_sets, statistic=one_by_one, **options), fast, rtol=1e-9)
    np.testing.assert_allclose(gain_interval(*some_sets, statistic=metrics.mean_iou, **options), fast, rtol=1e-9)
    assert fast[0] < fast[2] and fast[1] < fast[0]


def test_a_mean_as_a_statistic_has_the_interval_of_the_mean(monkeypatch):
    monkeypatch.setattr(statistics, "SET_RESAMPLES", statistics.RESAMPLES)
    ours, baseline = np.random.default_rng(2).gamma(4, 2, (2, 4, 40))
    parts = [scores[..., None, None] for scores in (ours, baseline)]
    made = gain_interval(*parts, better="lower", statistic=lambda sets: sets.mean(axis=(-3, -2, -1)))
    np.testing.assert_allclose(made, gain_interval(ours, baseline, better="lower"), rtol=1e-9)


def test_the_interval_of_means_is_the_one_that_settled_figures_have():
    """Written out with its draws: a change of one of them would move every figure that is settled."""
    ours, baseline = np.random.default_rng(3).gamma(4, 2, (2, 3, 20))
    gain = (baseline.mean() - ours.mean()) / baseline.mean()
    deviations = 0.0
    for axis, count in enumerate(ours.shape):
        draws = np.random.Generator(np.random.Philox(key=[0, axis])).integers(count, size=(10_000, count))
        mine, theirs = (scores.mean(axis=1 - axis)[draws].mean(axis=1) for scores in (ours, baseline))
        student = stdtrit(count - 1, 0.975) / ndtri(0.975) * math.sqrt(count / (count - 1))
        deviations += student * ((theirs - mine) / theirs - gain)
    expected = gain, *(gain + np.quantile(deviations, [0.025, 0.975]))
    np.testing.assert_allclose(gain_interval(ours, baseline, better="lower"), expected, rtol=1e-12)


def test_rows_of_one_seed_are_one_value(some_sets):
    """Copies of a seed's row add nothing to what seeds say."""
    options = dict(better="higher", statistic=metrics.mean_iou)
    once = gain_interval(*some_sets, **options)
    copied = [parts[[0, 0, 0, 1, 2]] for parts in some_sets]
    np.testing.assert_allclose(gain_interval(*copied, labels=[0, 0, 0, 1, 2], **options), once, rtol=1e-9)
    assert gain_interval(*copied, **options) != pytest.approx(once, rel=1e-3)
    single = gain_interval(*(parts[0] for parts in some_sets), **options)
    np.testing.assert_allclose(gain_interval(*(parts[[0, 0]] for parts in some_sets), labels=[5, 5], **options), single, rtol=1e-9)


def test_lower_is_better_turns_the_sign(some_sets):
    gain = gain_interval(*some_sets, better="higher", statistic=metrics.mean_iou)[0]
    np.testing.assert_allclose(gain_interval(*some_sets, better="lower", statistic=metrics.mean_iou)[0], -gain)
    absolute = gain_interval(*some_sets, better="higher", statistic=metrics.mean_iou, absolute=True)[0]
    ours, baseline = (metrics.mean_iou(parts).mean() for parts in some_sets)
    assert (gain, absolute) == (pytest.approx((ours - baseline) / baseline), pytest.approx(ours - baseline))


def test_an_absolute_gain_needs_no_baseline_off_zero():
    rng = np.random.default_rng(4)
    ours, baseline = rng.normal(2, 1, 200), rng.normal(0, 1, 200)
    with pytest.raises(BaselineNearZero, match=r"cannot be told from zero.*absolute gain"):
        gain_interval(ours, baseline, better="higher")
    gain, low, high = gain_interval(ours, baseline, better="higher", absolute=True)
    assert low < gain < high and gain == pytest.approx(ours.mean() - baseline.mean()) and high - low < 0.6


def test_a_statistic_of_another_shape_or_without_a_value_is_refused(some_sets):
    with pytest.raises(ValueError, match=r"returns shape \(2, 3, 30\) for sets of shape.*vectorize"):
        gain_interval(*some_sets, better="higher", statistic=lambda sets: sets.mean(axis=(-2, -1)))
    with pytest.raises(ValueError, match="mean_iou is NaN; every item may be absent"):
        gain_interval(*(0 * parts for parts in some_sets), better="higher", statistic=metrics.mean_iou)


def test_sets_with_an_infinite_value_have_none():
    """The reciprocal of a sum that is zero where no sample drawn is a one."""
    parts = (np.arange(50) < 6).astype(float)[:, None, None]
    with np.errstate(divide="ignore"):
        _, low, high = gain_interval(parts, 2 * parts, better="lower", absolute=True, statistic=lambda sets: 1 / sets.sum((-3, -2, -1)))
    assert np.isfinite([low, high]).all()


def test_no_values_have_no_interval():
    with pytest.raises(ValueError, match="no values"):
        statistics.bootstrap_interval(np.array([]))


def test_sets_without_a_value_are_left_out_if_they_are_few():
    """No sample that holds the unit is in (1 - held / n)^n of the resampled sets, about e^-held."""

    def interval(held):
        labels = (np.arange(50) < held).astype(int)
        found = labels * (np.arange(50) > 0)
        pair = (metrics.detections(predicted, labels) for predicted in (labels, found))
        return gain_interval(*pair, better="higher", statistic=metrics.mean_f1, absolute=True)

    gain, low, high = interval(6)
    assert gain == pytest.approx(1 / 11) and -0.01 < low < gain < high < 0.5
    with pytest.raises(ValueError, match=r"no value in [23]\d\d of 2000 resampled sets.*take more samples"):
        interval(2)

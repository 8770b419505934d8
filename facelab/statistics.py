"""The one interval of the package: the paired percentile bootstrap, of means and of whatever else is measured on a set.

Scores may vary for two reasons, the training seed and the test sample; each is resampled by itself and the two deviations are
added. Percentile intervals are too short when few values are resampled, so each deviation is widened by the ratio of Student's
to the normal quantile and by sqrt(n / (n - 1)): the same correction as for the mean of n normal values (Hesterberg, "What
teachers should know about the bootstrap", 2015, section 4.2). Two seeds therefore settle very little, three a little more.
Chance that each training adds to each sample by itself is in both deviations: where it prevails, intervals are too long, not too short.

mIoU, F1 or a correlation is no mean over samples. Each sample then gives what the statistic needs of it, an array (items, parts) such
as the intersection and the union of each class; a statistic maps (..., samples, items, parts) to (...), one number per set.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, Int
from scipy import special

RESAMPLES = 10_000
SET_RESAMPLES = 2_000
"""Of sets, whose statistic costs more than a mean; the ends of a 95 % interval then still rest on 50 draws each."""
CONFIDENCE = 0.95
CHUNK = 4_000_000
"""Numbers that are resampled at once: 32 MB."""

Statistic = Callable[[np.ndarray], np.ndarray]
Level = tuple[int, np.ndarray, np.ndarray]
"""One reason why scores vary: how many values were resampled, and the averages of ours and of the baseline in each draw."""


class BaselineNearZero(ValueError):
    """The average of a baseline cannot be told from zero, so there is no relative gain."""


def readable(values: Any) -> Any:
    """`values` so that numpy reads them: tensors of any device and precision, masked values as missing ones, and lists of either."""
    if isinstance(values, list | tuple):
        return [readable(value) for value in values]
    if hasattr(values, "detach"):
        values = values.detach().cpu()
        values = values.float() if str(values.dtype) == "torch.bfloat16" else values  # which numpy does not know
    return values.astype(object).filled(math.nan) if np.ma.is_masked(values) else values


def name_of(statistic: Statistic) -> str:
    """How messages and claims call it; what is no function goes by its kind, such as `partial`."""
    return getattr(statistic, "__name__", type(statistic).__name__)


def of_sums(statistic: Statistic) -> Statistic:
    """Marks a statistic that depends only on the sum over samples, such as mIoU: resampling is then a product of matrices."""
    statistic.of_sums = True  # type: ignore[attr-defined]
    return statistic


def is_of_sums(statistic: Statistic) -> bool:
    """Whether a set may be given to `statistic` as one sample, the sum of its samples."""
    return getattr(statistic, "of_sums", False)


def gain_interval(
    ours: Float[np.ndarray, "*shape"],
    baseline: Float[np.ndarray, "*shape"],
    *,
    better: str,
    absolute: bool = False,
    statistic: Statistic | None = None,
    labels: Sequence[int] | None = None,
    seed: int = 0,
) -> tuple[float, float, float]:
    """Gain of `ours` over `baseline` and its 95 % interval: (gain, low, high).

    gain = (average baseline - average ours) / |average baseline| where lower is better, the negative of it where higher is.

    Args:
        ours, baseline: paired scores, (samples,), (seeds,) or (seeds, samples); with a statistic (samples, items, parts) or
            (seeds, samples, items, parts). The averages are then those of the statistic over seeds.
        better: 'lower' or 'higher'.
        absolute: the difference itself, in the unit of the scores, and not as a share of the baseline.
        statistic: of a set, (..., samples, items, parts) -> (...).
        labels: with a statistic, the seed of each row; rows of one seed are averaged before seeds are resampled.
        seed: of the resampling.

    Raises:
        BaselineNearZero: a relative gain, and the average of the baseline cannot be told from zero.
        ValueError: the statistic returns another shape, or no finite number for the set, or for more than one resampled set in twenty.
    """
    sign = 1.0 if better == "lower" else -1.0
    if statistic is None:
        mine, theirs = ours.mean(), baseline.mean()
        levels, draws = _levels_of_means(ours, baseline, seed), RESAMPLES
    else:
        pair = np.stack([ours, baseline]).reshape(2, -1, *ours.shape[-3:])
        values = _by_label(value_of(statistic, pair), labels)
        mine, theirs = values.mean(axis=1)
        levels, draws = _levels_of_sets(statistic, pair, values, labels, seed), SET_RESAMPLES

    def gain_of(mine, theirs):
        with np.errstate(invalid="ignore"):  # a resampled set may have no value
            return sign * (theirs - mine) / (1.0 if absolute else np.abs(theirs))

    gain = gain_of(mine, theirs) if absolute or theirs else math.nan
    deviations = np.zeros(draws)
    for count, resampled_ours, resampled_baseline in levels:
        if not absolute and (not theirs or np.any(resampled_baseline * theirs <= 0)):
            message = f"The baseline's mean, {theirs:.4g}, cannot be told from zero, so a relative gain has no meaning"
            raise BaselineNearZero(f"{message}; use scores that are positive on average, or claim an absolute gain.")
        deviations += _widening(count) * (gain_of(resampled_ours, resampled_baseline) - gain)
    known = np.isfinite(deviations)
    missing = draws - np.count_nonzero(known)
    if missing > draws / 20:
        raise ValueError(
            f"The statistic has no value in {missing} of {draws} resampled sets, where a class or all variation is absent; "
            "take more samples or leave the rare items out."
        )
    # A few sets without a value say nothing, so the interval is that of the others.
    low, high = gain + np.quantile(deviations[known], [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return float(gain), float(low), float(high)


def value_of(statistic: Statistic, sets: Float[np.ndarray, "*sets samples items parts"]) -> Float[np.ndarray, "*sets"]:
    """The statistic of each set.

    Raises:
        ValueError: the statistic returns another shape than one number per set, or no finite number for a set.
    """
    values = _of_sets(statistic, sets)
    if not np.isfinite(values).all():
        what = "NaN" if np.isnan(values).any() else "infinite"
        raise ValueError(f"The statistic {name_of(statistic)} is {what}; every item may be absent from the set, or nothing varies in it.")
    return values


def bootstrap_interval(values: np.ndarray, draws: int = 2000, seed: int = 0) -> tuple[float, float]:
    """95 % interval of the mean of (n,) values by the percentile bootstrap; (value, value) if there is one.

    Raises:
        ValueError: no value.
    """
    values = np.asarray(values, dtype=float).ravel()
    if not values.size:
        raise ValueError("There are no values, so their mean has no interval; give at least one.")
    generator = np.random.default_rng(seed)
    means = values[generator.integers(len(values), size=(draws, len(values)))].mean(axis=1)
    low, high = np.percentile(means, [2.5, 97.5])
    return float(low), float(high)


def resampled_means(values: Float[np.ndarray, "samples columns"], draws: int = 1000, seed: int = 0) -> Float[np.ndarray, "draws columns"]:
    """Means of each column over samples drawn with replacement, the same samples for all columns; `draws` in hundreds."""
    count = len(values)
    generator, even = np.random.default_rng(seed), np.full(count, 1 / count)
    return np.concatenate([generator.multinomial(count, even, 100) @ values / count for _ in range(draws // 100)])


def _levels_of_means(ours: np.ndarray, baseline: np.ndarray, seed: int) -> Iterator[Level]:
    for axis in range(ours.ndim):
        others = tuple(i for i in range(ours.ndim) if i != axis)
        pair = np.stack([ours.mean(axis=others), baseline.mean(axis=others)])
        if pair.shape[1] > 1:  # one seed: the claim is about these very networks
            yield pair.shape[1], *_resampled_means(pair, RESAMPLES, _generator(seed, axis))


def _levels_of_sets(statistic: Statistic, pair: np.ndarray, values: np.ndarray, labels: Sequence[int] | None, seed: int) -> Iterator[Level]:
    """Seeds, whose statistics are resampled, then samples, which are drawn alike for every row and both sides."""
    seeds, samples = values.shape[1], pair.shape[2]
    if seeds > 1:
        yield seeds, *_resampled_means(values, SET_RESAMPLES, _generator(seed, 0))
    generator, drawn = _generator(seed, 1), []
    step = max(1, CHUNK // (samples if is_of_sums(statistic) else pair.size))
    for start in range(0, SET_RESAMPLES, step):
        index = generator.integers(samples, size=(min(step, SET_RESAMPLES - start), samples))
        drawn.append(_by_label(_of_resampled(statistic, pair, index), labels).mean(axis=1))
    yield samples, *np.concatenate(drawn, axis=1)


def _of_resampled(
    statistic: Statistic, pair: Float[np.ndarray, "2 rows samples items parts"], index: Int[np.ndarray, "draws samples"]
) -> Float[np.ndarray, "2 rows draws"]:
    """The statistic of every row with its samples drawn as `index` says."""
    if not is_of_sums(statistic):
        return _of_sets(statistic, pair[:, :, index])
    draws, samples = index.shape
    counts = np.bincount((index + samples * np.arange(draws)[:, None]).ravel(), minlength=index.size).reshape(draws, samples)
    sums = counts.astype(float) @ pair.reshape(*pair.shape[:3], -1)
    return _of_sets(statistic, sums.reshape(*sums.shape[:3], 1, *pair.shape[3:]))


def _of_sets(statistic: Statistic, sets: np.ndarray) -> np.ndarray:
    values = np.asarray(statistic(sets))
    if values.shape != sets.shape[:-3]:
        raise ValueError(
            f"The statistic returns shape {values.shape} for sets of shape {sets.shape}; it must reduce the last three axes (samples, "
            f"items, parts), to {sets.shape[:-3]}: np.vectorize(function, signature='(n,i,p)->()') makes one of a function of a single set."
        )
    return values


def _by_label(values: Float[np.ndarray, "2 rows *draws"], labels: Sequence[int] | None) -> Float[np.ndarray, "2 seeds *draws"]:
    """Averages the rows of each seed."""
    if labels is None:
        return values
    return np.stack([values[:, np.array(labels) == label].mean(axis=1) for label in dict.fromkeys(labels)], axis=1)


def _widening(count: int) -> float:
    """How much longer than its percentile bootstrap interval the interval of a mean of `count` values has to be."""
    tail = (1 + CONFIDENCE) / 2
    return float(special.stdtrit(count - 1, tail) / special.ndtri(tail) * math.sqrt(count / (count - 1)))


def _generator(seed: int, level: int) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(key=[seed, level]))


def _resampled_means(pair: Float[np.ndarray, "2 values"], draws: int, rng: np.random.Generator) -> Float[np.ndarray, "2 draws"]:
    """Means of both rows over the same draws with replacement, in chunks of bounded memory."""
    count = pair.shape[1]
    step = max(1, 1_000_000 // count)
    chunks = [pair[:, rng.integers(count, size=(min(step, draws - start), count))].mean(axis=2) for start in range(0, draws, step)]
    return np.concatenate(chunks, axis=1)

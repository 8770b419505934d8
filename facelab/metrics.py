"""Errors of landmarks (normalised mean error, its cumulative curve, the area under it, the failure rate) and statistics of sets.

A face without a prediction (NaN) has the error NaN, and counts as one whose error is above every threshold.
mIoU, F1, concordance and correlations are no means over samples: `confusions`, `detections`, `moments` and `pairs` say what each sample
gives, and `mean_iou`, `mean_f1`, `concordance`, `pearson` and `spearman` what a set of them has; claims resample between the two.

What is one number per image or per query comes from torchmetrics as it is, and a claim takes it without a statistic:

    from torchmetrics.functional.image import structural_similarity_index_measure
    from torchmetrics.functional.retrieval import retrieval_average_precision

    ours = structural_similarity_index_measure(painted, images, data_range=1.0, reduction="none")          # (B,C,H,W) each -> (B,)
    ours = [retrieval_average_precision(score, relevant) for score, relevant in zip(scores, same, strict=True)]   # one per query
    claim("Ours paints more alike", ours=ours, baseline=baseline, better="higher", name="ssim")
"""

import math

import numpy as np
import torch
from jaxtyping import Float, Num
from scipy.stats import rankdata

from facelab.markups import markup
from facelab.statistics import of_sums, readable

Points = Num[np.ndarray, "B K 2"] | Num[torch.Tensor, "B K 2"]
Errors = Num[np.ndarray, " B"] | Num[torch.Tensor, " B"]


def _array(values) -> np.ndarray:
    """In single or double precision: whole numbers without a sign cannot be subtracted, and squares of half precision overflow."""
    array = np.asarray(readable(values))
    return array if array.dtype in (np.float32, np.float64) else array.astype(np.float64)


def _truth(true: Points) -> np.ndarray:
    """True landmarks; where they are unknown, no error can be measured."""
    array = _array(true)
    unknown = np.count_nonzero(~np.isfinite(array).all(axis=(1, 2)))
    if unknown:
        raise ValueError(f"{unknown} of {len(array)} faces have true landmarks that are not finite; leave these faces out.")
    return array


def _errors(errors: Errors, limit: float) -> np.ndarray:
    array = _array(errors)
    if array.ndim != 1 or not array.size:
        raise ValueError(f"errors has shape {array.shape}; give one error per face, of one face at least.")
    if not 0 < limit < np.inf:
        raise ValueError(f"limit = {limit} is no threshold; give an error in percent above 0, such as 10.0.")
    return array


def distances(predicted: Points, true: Points) -> Float[np.ndarray, "B K"]:
    """Euclidean distance of each landmark from its true place, pixels; NaN where there is no prediction.

    Raises:
        ValueError: shapes that differ, or true landmarks that are not finite.
    """
    guess, truth = _array(predicted), _truth(true)
    if guess.shape != truth.shape:
        raise ValueError(f"predicted has shape {guess.shape} and true {truth.shape}; landmarks are compared one by one.")
    return np.linalg.norm(guess - truth, axis=-1)


def normalising_length(true: Points, kind: str = "outer_eyes") -> Float[np.ndarray, " B"]:
    """The length, in pixels, by which a face's errors are divided.

    Args:
        true: true landmarks, pixels.
        kind: "outer_eyes" distance of the outer eye corners (300-W's inter-ocular), "pupils" distance of the eye centres
            (mark-up of 68 only), "box" geometric mean of the sides of the landmarks' bounding box, "diagonal" its diagonal.

    Raises:
        ValueError: an unknown kind, "pupils" in another mark-up than 68, or true landmarks that are not finite.
    """
    true = _truth(true)
    if kind == "outer_eyes":
        right, left = markup(true.shape[1]).outer_eyes
        return np.linalg.norm(true[:, right] - true[:, left], axis=-1)
    if kind == "pupils":
        if true.shape[1] != 68:
            raise ValueError(f"kind = 'pupils' needs the mark-up of 68 landmarks; these faces have {true.shape[1]}.")
        return np.linalg.norm(true[:, 36:42].mean(axis=1) - true[:, 42:48].mean(axis=1), axis=-1)
    sides = np.ptp(true, axis=1)
    if kind == "box":
        return np.sqrt(sides.prod(axis=-1))
    if kind == "diagonal":
        return np.linalg.norm(sides, axis=-1)
    raise ValueError(f"kind = {kind!r} is unknown; choose 'outer_eyes', 'pupils', 'box' or 'diagonal'.")


def nme(
    predicted: Points, true: Points, *, outer_eyes: tuple[int, int] | None = None, normaliser: str | Errors = "outer_eyes"
) -> Float[np.ndarray, " B"]:
    """Normalised mean error of each face in percent: mean distance of its landmarks over the normaliser.

    Args:
        predicted, true: landmarks in pixels.
        outer_eyes: indices of the two landmarks whose distance normalises, where the mark-up is none of the known ones.
        normaliser: a kind of `normalising_length`, or one length in pixels per face.

    Returns:
        one error per face; NaN where a landmark was not predicted.

    Raises:
        ValueError: shapes that differ, true landmarks that are not finite, or lengths that are not above 0.
    """
    true = _truth(true)
    if outer_eyes is not None:
        length = np.linalg.norm(true[:, outer_eyes[0]] - true[:, outer_eyes[1]], axis=-1)
    elif isinstance(normaliser, str):
        length = normalising_length(true, normaliser)
    else:
        length = _array(normaliser)
    if length.shape != true.shape[:1]:
        raise ValueError(f"normaliser has shape {length.shape} for {len(true)} faces; give one length per face.")
    wrong = np.flatnonzero(~((length > 0) & np.isfinite(length)))
    if wrong.size:
        raise ValueError(f"The normalising length of face {wrong[0]} is {length[wrong[0]]}; it must be above 0: leave such faces out.")
    return 100 * distances(predicted, true).mean(axis=1) / length


def cumulative_error(errors: Errors, limit: float = 10.0, points: int = 201) -> tuple[Float[np.ndarray, " P"], Float[np.ndarray, " P"]]:
    """The cumulative error distribution: thresholds from 0 to `limit`, and the share of faces (0..1) not above each.

    Args:
        errors: one per face, percent.
        limit: largest threshold, percent.
        points: number of thresholds.

    Raises:
        ValueError: no error, more than one axis, or a limit that is not above 0.
    """
    thresholds = np.linspace(0, limit, points)
    return thresholds, np.searchsorted(np.sort(_errors(errors, limit)), thresholds, side="right") / len(errors)


def area_under_curve(errors: Errors, limit: float = 10.0) -> float:
    """Area under the cumulative error curve up to `limit`, as a share (0..1) of the best possible.

    Exact, without thresholds: a face of error e below the limit contributes (limit - e) / limit.

    Raises:
        ValueError: as `cumulative_error`.
    """
    return float(np.nan_to_num(np.clip(1 - _errors(errors, limit) / limit, 0, None), nan=0.0).mean())


def failure_rate(errors: Errors, limit: float = 10.0) -> float:
    """Share (0..1) of faces whose error is above `limit` percent, or that have none because there is no prediction.

    Raises:
        ValueError: as `cumulative_error`.
    """
    return float((~(_errors(errors, limit) <= limit)).mean())


# --- statistics of sets, for `claims.claim(statistic=...)`: what each sample gives, and the number that a set of them has ---


def _parts(predicted, true) -> tuple[np.ndarray, np.ndarray]:
    """Both as arrays of one shape; one truth serves every seed."""
    guess, truth = (np.asarray(readable(values)) for values in (predicted, true))
    if guess.shape[guess.ndim - truth.ndim :] != truth.shape or guess.ndim - truth.ndim not in (0, 1) or truth.ndim < 1:
        raise ValueError(
            f"predicted has shape {guess.shape} and true {truth.shape}; both must be alike, but for one axis of seeds before predicted."
        )
    return guess, np.broadcast_to(truth, guess.shape)


def _columns(predicted, true) -> tuple[np.ndarray, np.ndarray]:
    """As `_parts`, in double precision, with a last axis of items."""
    one_item = np.ndim(true) == 1
    guess, truth = (array.astype(np.float64) for array in _parts(predicted, true))
    return (guess[..., None], truth[..., None]) if one_item else (guess, truth)


def confusions(predicted, true, classes: int, ignore: int | None = None) -> Float[np.ndarray, "*samples classes 2"]:
    """Pixels in the intersection and in the union of each class, per sample: what `mean_iou` needs.

    Args:
        predicted: classes, whole numbers 0..classes-1, (samples, ...) or (seeds, samples, ...).
        true: true classes, (samples, ...).
        classes: how many there are.
        ignore: a true class whose pixels do not count, such as 255.

    Raises:
        ValueError: shapes that differ, or a class that is not in 0..classes-1.
    """
    pair = _parts(predicted, true)
    shape = pair[0].shape[: 1 + pair[0].ndim - np.ndim(true)]
    guess, truth = (array.reshape(math.prod(shape), math.prod(array.shape[len(shape) :])) for array in pair)
    counted = np.ones(truth.shape, bool) if ignore is None else truth != ignore
    for name, labels in (("predicted", guess[counted]), ("true", truth[counted])):
        if labels.size and (labels.dtype.kind not in "iub" or labels.min() < 0 or labels.max() >= classes):
            raise ValueError(
                f"{name} holds {labels.min()} to {labels.max()}, {labels.dtype}; classes are whole numbers 0 to {classes - 1}."
            )
    row = np.arange(len(truth))[:, None] * classes

    def count(labels, where):
        return np.bincount((row + labels)[where], minlength=len(truth) * classes).reshape(len(truth), classes)

    both = count(truth, counted & (guess == truth))
    union = count(guess, counted) + count(truth, counted) - both
    return np.stack([both, union], axis=-1).reshape(*shape, classes, 2).astype(np.float64)


@of_sums
def mean_iou(parts: Float[np.ndarray, "*sets samples classes 2"]) -> Float[np.ndarray, "*sets"] | float:
    """Mean intersection over union (0..1) of the classes that a set of `confusions` holds, in the truth or in the prediction."""
    both, union = np.moveaxis(parts.sum(axis=-3), -1, 0)
    return _mean_of_present(both, union)


def detections(predicted, true) -> Float[np.ndarray, "*samples classes 3"]:
    """True positives, false positives and false negatives of each class, per sample: what `mean_f1` needs.

    Args:
        predicted: 0 or 1, (samples,) or (samples, classes), or with an axis of seeds in front.
        true: 0 or 1, without seeds.

    Raises:
        ValueError: shapes that differ, or other numbers than 0 and 1.
    """
    guess, truth = _columns(predicted, true)
    for name, values in (("predicted", guess), ("true", truth)):
        if not np.isin(values, (0, 1)).all():
            raise ValueError(f"{name} holds other numbers than 0 and 1; compare its scores with a threshold first.")
    return np.stack([guess * truth, guess * (1 - truth), (1 - guess) * truth], axis=-1)


@of_sums
def mean_f1(parts: Float[np.ndarray, "*sets samples classes 3"]) -> Float[np.ndarray, "*sets"] | float:
    """Mean F1 (0..1) of the classes that a set of `detections` holds, in the truth or in the prediction."""
    hits, false_alarms, misses = np.moveaxis(parts.sum(axis=-3), -1, 0)
    return _mean_of_present(2 * hits, 2 * hits + false_alarms + misses)


def _mean_of_present(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """Mean of part / whole over the last axis, where there is a whole; NaN where there is none at all."""
    share = np.divide(part, whole, out=np.zeros_like(part), where=whole > 0)
    present = np.count_nonzero(whole > 0, axis=-1)
    return np.divide(share.sum(axis=-1), present, out=np.full(present.shape, np.nan), where=present > 0)


def moments(predicted, true) -> Float[np.ndarray, "*samples outputs 6"]:
    """1, x, y, x², y² and xy of each output, per sample, both from the mean of the truth: what `concordance` and `pearson` need.

    Args:
        predicted: x, (samples,) or (samples, outputs), or with an axis of seeds in front.
        true: y, without seeds.
    """
    x, y = _columns(predicted, true)
    # Neither correlation changes with the origin, and far from the data it would cost digits.
    origin = y.mean(axis=tuple(range(y.ndim - 1)))
    x, y = x - origin, y - origin
    return np.stack([np.ones_like(x), x, y, x * x, y * y, x * y], axis=-1)


def _covariances(parts: Float[np.ndarray, "*sets samples outputs 6"]) -> tuple[np.ndarray, ...]:
    """Means of x and y, their variances, and their covariance, (*sets, outputs) each."""
    count, *sums = np.moveaxis(parts.sum(axis=-3), -1, 0)
    x, y, xx, yy, xy = (total / count for total in sums)
    # What rounding leaves of the variance of a constant is none.
    variances = (np.where(square - mean**2 > 1e-12 * square, square - mean**2, 0.0) for mean, square in ((x, xx), (y, yy)))
    return x, y, *variances, xy - x * y


@of_sums
def concordance(parts: Float[np.ndarray, "*sets samples outputs 6"]) -> Float[np.ndarray, "*sets"] | float:
    """Concordance correlation coefficient (-1..1) of a set of `moments`, mean over outputs (Lin, Biometrics 1989).

    It is 2 cov(x, y) / (var x + var y + (mean x - mean y)²), with variances over n samples; NaN if both are one and the same constant.
    """
    x, y, variance_x, variance_y, covariance = _covariances(parts)
    with np.errstate(invalid="ignore"):
        return (2 * covariance / (variance_x + variance_y + (x - y) ** 2)).mean(axis=-1)


@of_sums
def pearson(parts: Float[np.ndarray, "*sets samples outputs 6"]) -> Float[np.ndarray, "*sets"] | float:
    """Pearson's correlation (-1..1) of a set of `moments`, mean over outputs; NaN where x or y does not vary."""
    _, _, variance_x, variance_y, covariance = _covariances(parts)
    product = variance_x * variance_y
    return np.divide(covariance, np.sqrt(product), out=np.full(product.shape, np.nan), where=product > 0).mean(axis=-1)


def pairs(predicted, true) -> Float[np.ndarray, "*samples outputs 2"]:
    """Prediction and truth of each output, per sample, shapes as for `moments`: what `spearman` needs."""
    return np.stack(_columns(predicted, true), axis=-1)


def spearman(parts: Float[np.ndarray, "*sets samples outputs 2"]) -> Float[np.ndarray, "*sets"] | float:
    """Spearman's rank correlation (-1..1) of a set of `pairs`, mean over outputs; equal values share their mean rank."""
    x, y = np.moveaxis(rankdata(parts, axis=-3) - (parts.shape[-3] + 1) / 2, -1, 0)
    products = (x * x).sum(axis=-2) * (y * y).sum(axis=-2)
    return np.divide((x * y).sum(axis=-2), np.sqrt(products), out=np.full(products.shape, np.nan), where=products > 0).mean(axis=-1)

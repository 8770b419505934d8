"""Errors of landmarks: normalised mean error, its cumulative curve, the area under it and the failure rate.

A face without a prediction (NaN) has the error NaN, and counts as one whose error is above every threshold.
"""

import numpy as np
import torch
from jaxtyping import Float, Num

from facelab.markups import markup

Points = Num[np.ndarray, "B K 2"] | Num[torch.Tensor, "B K 2"]
Errors = Num[np.ndarray, " B"] | Num[torch.Tensor, " B"]


def _array(values) -> np.ndarray:
    """In single or double precision: whole numbers without a sign cannot be subtracted, and squares of half precision overflow."""
    if isinstance(values, torch.Tensor):
        values = values.detach().cpu()
        values = values.float() if values.dtype == torch.bfloat16 else values  # which numpy does not know
    array = np.asarray(values)
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

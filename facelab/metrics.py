"""Errors of landmarks: normalised mean error, its cumulative curve, the area under it and the failure rate."""

import numpy as np
import torch
from jaxtyping import Float

from facelab.markups import markup

Points = Float[np.ndarray, "B K 2"] | Float[torch.Tensor, "B K 2"]
Errors = Float[np.ndarray, " B"] | Float[torch.Tensor, " B"]


def _array(values) -> np.ndarray:
    return values.detach().cpu().numpy() if isinstance(values, torch.Tensor) else np.asarray(values)


def distances(predicted: Points, true: Points) -> Float[np.ndarray, "B K"]:
    """Euclidean distance of each landmark from its true place, pixels."""
    return np.linalg.norm(_array(predicted) - _array(true), axis=-1)


def normalising_length(true: Points, kind: str = "outer_eyes") -> Float[np.ndarray, " B"]:
    """The length, in pixels, by which a face's errors are divided.

    Args:
        true: true landmarks, pixels.
        kind: "outer_eyes" distance of the outer eye corners (300-W's inter-ocular), "pupils" distance of the eye centres
            (mark-up of 68 only), "box" geometric mean of the sides of the landmarks' bounding box, "diagonal" its diagonal.

    Raises:
        ValueError: an unknown kind, or "pupils" in another mark-up than 68.
    """
    true = _array(true)
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
    """
    true = _array(true)
    if outer_eyes is not None:
        length = np.linalg.norm(true[:, outer_eyes[0]] - true[:, outer_eyes[1]], axis=-1)
    elif isinstance(normaliser, str):
        length = normalising_length(true, normaliser)
    else:
        length = _array(normaliser)
    return 100 * distances(predicted, true).mean(axis=1) / length


def cumulative_error(errors: Errors, limit: float = 10.0, points: int = 201) -> tuple[Float[np.ndarray, " P"], Float[np.ndarray, " P"]]:
    """The cumulative error distribution: thresholds from 0 to `limit`, and the share of faces (0..1) not above each.

    Args:
        errors: one per face, percent.
        limit: largest threshold, percent.
        points: number of thresholds.
    """
    thresholds = np.linspace(0, limit, points)
    return thresholds, np.searchsorted(np.sort(_array(errors)), thresholds, side="right") / len(errors)


def area_under_curve(errors: Errors, limit: float = 10.0) -> float:
    """Area under the cumulative error curve up to `limit`, as a share (0..1) of the best possible.

    Exact, without thresholds: a face of error e below the limit contributes (limit - e) / limit.
    """
    return float(np.clip(1 - _array(errors) / limit, 0, None).mean())


def failure_rate(errors: Errors, limit: float = 10.0) -> float:
    """Share (0..1) of faces whose error is above `limit` percent."""
    return float((_array(errors) > limit).mean())

"""How heads, poses and cameras are spread among the people of a data set, found from their landmarks alone.

    population = fit_population(landmarks)
    batch = render(100, seed=0, **population.draw(100, seed=0))

The world's own distribution of factors is a guess. Here each face of a data set gets the factors whose rendered landmarks lie closest
to its own, held back by a normal distribution of the factors, which is estimated along with them (a maximum a posteriori fit by
Gauss-Newton steps in turn with the mean and covariance of what they found, as expectation-maximisation has it). No image is looked at.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float

from facelab.worlds.faces.factors import AU_NAMES, FACTORS, SHAPE
from facelab.worlds.faces.head_pose import estimate_pose
from facelab.worlds.faces.world import from_factors, sample

_UNSEEN = ("ear_size", "ear_angle", "neck_width", "forehead_height", "head_depth")  # no landmark tells them
_SPREAD = {name: 1.0 for name in SHAPE if name not in _UNSEEN} | {"yaw": 20.0, "pitch": 9.0, "roll": 9.0, "camera_distance": 10.0}
_PASSING = dict.fromkeys(AU_NAMES, 0.25) | {"lid_right": 0.3, "lid_left": 0.3}  # fitted along; the world draws them by expression
_PLAIN = {"expression": "neutral", "intensity": 0.0, "talking": 0.0, "asymmetry": 0.0, "gaze_yaw": 0.0, "gaze_pitch": 0.0}
_PLAIN |= {"framing_scale": 1.0, "framing_x": 0.0, "framing_y": 0.0}
_SIZE = 64
_NOISE = 0.8  # pixels; the standard deviation of where people put a landmark and of what the factors cannot express
_STEP = 0.15  # of the spread, to differentiate by


@dataclass(frozen=True)
class Population:
    """A normal distribution of factors.

    Attributes:
        names: of the factors.
        mean: of each, in its own unit.
        covariance: of all of them.
    """

    names: tuple[str, ...]
    mean: Float[np.ndarray, " P"]
    covariance: Float[np.ndarray, "P P"]

    def draw(self, n: int, seed: int) -> dict[str, Float[np.ndarray, " n"]]:
        """Factors of n faces, for `render`; clipped to the ranges of `FACTORS`."""
        drawn = np.random.default_rng(seed).multivariate_normal(self.mean, self.covariance, n)
        return {name: np.clip(drawn[:, k], FACTORS[name].low, FACTORS[name].high) for k, name in enumerate(self.names)}

    def save(self, path: Path) -> None:
        """Writes the three attributes as arrays, without pickles."""
        np.savez_compressed(path, names=np.array(self.names), mean=self.mean, covariance=self.covariance)

    @classmethod
    def load(cls, path: Path) -> "Population":
        """What `save` wrote."""
        with np.load(path, allow_pickle=False) as kept:
            return cls(tuple(map(str, kept["names"])), kept["mean"], kept["covariance"])


def fit_population(landmarks: Float[np.ndarray, "B 68 2"], rounds: int = 4) -> Population:
    """The distribution of head shape, pose and camera distance among faces.

    Args:
        landmarks: (x, y) in pixels of crops of 64 x 64, framed as `facelab.datasets` does.
        rounds: Gauss-Newton steps; the distribution is estimated again after each but the first. Few of them, for directions that landmarks
            hardly tell go on drifting.
    """
    spread = _SPREAD | _PASSING
    names, unit = tuple(spread), np.array(list(spread.values()))
    low, high = (np.array([getattr(FACTORS[name], end) for name in names]) / unit for end in ("low", "high"))
    mean, covariance = np.array([FACTORS[name].default for name in names]) / unit, np.eye(len(names))
    found = np.tile(mean, (len(landmarks), 1))
    start = [names.index(name) for name in ("yaw", "pitch", "roll")]
    found[:, start] = estimate_pose(landmarks) / unit[start]
    for step in range(rounds):
        seen = _landmarks(names, np.clip(found, low, high) * unit)
        slopes = np.empty((*seen.shape, len(names)))
        for k in range(len(names)):
            aside = found.copy()
            move = np.where(found[:, k] + _STEP > high[k], -_STEP, _STEP)
            aside[:, k] += move
            slopes[..., k] = (_landmarks(names, np.clip(aside, low, high) * unit) - seen) / move[:, None, None]
        slopes = slopes.reshape(len(landmarks), -1, len(names)) / _NOISE
        residual = (landmarks - seen).reshape(len(landmarks), -1) / _NOISE
        precision = np.linalg.inv(covariance)
        curvature = np.einsum("nkp,nkq->npq", slopes, slopes) + precision
        gradient = np.einsum("nkp,nk->np", slopes, residual) - (found - mean) @ precision
        found = np.clip(found + np.clip(np.linalg.solve(curvature, gradient[..., None])[..., 0], -1.5, 1.5), low, high)
        if step:
            mean = found.mean(axis=0)
            whole = np.linalg.inv(curvature).mean(axis=0) + np.cov(found.T)
            covariance = 0.8 * whole + 0.2 * np.diag(np.diag(whole))  # shrunk, for there are not many more faces than factors
    kept = len(_SPREAD)
    return Population(names[:kept], (mean * unit)[:kept], (covariance * np.outer(unit, unit))[:kept, :kept])


def _landmarks(names: tuple[str, ...], factors: Float[np.ndarray, "B P"]) -> Float[np.ndarray, "B 68 2"]:
    """Of faces with these factors and otherwise plain, framed as data sets are; the image itself is drawn as small as can be."""
    values: Mapping[str, np.ndarray] = sample(
        len(factors), 0, **_PLAIN, **dict.fromkeys(_UNSEEN, 0.0), **dict(zip(names, factors.T, strict=True))
    )
    seen = from_factors(values, 8, 68, ()).known("landmarks").astype(float)
    return (seen + 0.5) * (_SIZE / 8) - 0.5

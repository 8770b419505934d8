"""Real handwritten digits, upsampled, turned, scaled and shifted by known amounts.

The digits are the 8x8 ones of scikit-learn (`load_digits`: 1797 scans of 43 writers, NIST/UCI), so the strokes are real and the
transformations exact.
"""

from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8
from scipy.ndimage import map_coordinates, zoom
from scipy.special import ndtri

from facelab.batch import Batch
from facelab.worlds.factors import Factor, between, check_count, normal, sample_factors, uniform

_EXAMPLES = 174  # the rarest digit has so many scans
_FINE = 4  # the 8x8 scans are upsampled so many times by cubic splines before they are turned

FACTORS: dict[str, Factor] = {
    factor.name: factor
    for factor in (
        Factor("digit", 0, 9, what="which digit", whole=True),
        Factor(
            "example", 0, _EXAMPLES - 1, what="which of the scans of this digit; give ranges to keep training and test apart", whole=True
        ),
        Factor("rotation", -180, 180, between(-30, 30), "degrees", "turn, positive clockwise"),
        Factor("scale", 0.3, 1.5, between(0.7, 1.0), "image sides", "side of the scan in the image"),
        Factor("shift_x", -0.5, 0.5, normal(0, 0.06, -0.2, 0.2), "image sides", "displacement to the right"),
        Factor("shift_y", -0.5, 0.5, normal(0, 0.06, -0.2, 0.2), "image sides", "displacement downwards"),
        Factor("noise", 0, 0.5, between(0, 0.1), "of full white", "standard deviation of the noise of each pixel"),
    )
}


@dataclass(frozen=True)
class DigitBatch(Batch):
    """Digits and how each was transformed: `B` images of `H` x `W` pixels."""

    images: UInt8[np.ndarray, "B H W"]
    """Gray, 0..255, ink bright on black."""
    labels: Int[np.ndarray, " B"]
    """The digit, 0..9."""
    example: Int[np.ndarray, " B"]
    """Which scan of that digit."""
    rotation: Float[np.ndarray, " B"]
    """Degrees, positive clockwise."""
    scale: Float[np.ndarray, " B"]
    """Side of the scan in image sides."""
    shift: Float[np.ndarray, "B 2"]
    """(x, y) of the scan's centre from the image's centre, pixels."""
    ink: Bool[np.ndarray, "B H W"]
    """True where the noiseless digit is brighter than half."""

    @property
    def groups(self) -> Int[np.ndarray, " B"]:
        """The scan: one writer's digit, however it is turned, is no independent evidence."""
        return self.labels * _EXAMPLES + self.example


@cache
def _scans() -> Float[np.ndarray, "digits examples fine fine"]:
    """All scans, 0..1, upsampled and with a dark margin, by digit and example."""
    from sklearn.datasets import load_digits

    data = load_digits()
    scans = np.stack([data.images[data.target == digit][:_EXAMPLES] for digit in range(10)]) / 16.0
    padded = np.pad(scans, ((0, 0), (0, 0), (1, 1), (1, 1)))
    return np.clip(zoom(padded, (1, 1, _FINE, _FINE), order=3, grid_mode=True, mode="grid-constant"), 0, 1).astype(np.float32)


def render(n: int, seed: int = 0, size: int = 32, *, start: int = 0, **factors: Any) -> DigitBatch:
    """Digits `start` ... `start + n - 1` of a seed.

    Args:
        n: number of digits.
        size: side of the images, pixels.
        factors: any of `FACTORS`: a number (fixed), (low, high) (sampled uniformly), or a list of length n (swept).

    Raises:
        ValueError: impossible count or size, unknown factor, or a value outside its range.
    """
    check_count(n, size, start)
    values = sample_factors(FACTORS, n, seed, start, **factors)
    shift = np.stack([values["shift_x"], values["shift_y"]], axis=-1) * size
    angle = np.radians(values["rotation"])[:, None, None]
    y, x = np.mgrid[:size, :size] - (size - 1) / 2
    x, y = x - shift[:, 0, None, None], y - shift[:, 1, None, None]
    # from the image back to the scan; y points down, so a positive angle turns clockwise
    step = 8 * _FINE / (size * values["scale"][:, None, None])
    scans = _scans()
    centre = (scans.shape[-1] - 1) / 2
    column = centre + step * (np.cos(angle) * x + np.sin(angle) * y)
    row = centre + step * (-np.sin(angle) * x + np.cos(angle) * y)
    digit, example = values["digit"].astype(np.int64), values["example"].astype(np.int64)
    which = np.broadcast_to(np.arange(n)[:, None, None], row.shape)
    clean = map_coordinates(scans[digit, example], [which, row, column], order=1, output=np.float64)
    pixel = (np.arange(start, start + n)[:, None] * size**2 + np.arange(size**2)).reshape(n, size, size)
    noisy = clean + values["noise"][:, None, None] * ndtri(uniform(seed, pixel, "noise of pixels"))
    return DigitBatch(
        images=np.round(255 * np.clip(noisy, 0, 1)).astype(np.uint8),
        labels=digit,
        example=example,
        rotation=values["rotation"],
        scale=values["scale"],
        shift=shift,
        ink=clean > 0.5,
        factors=values,
    )

"""Faces whose action units have known rates, annotated by somebody who misses some of them.

The faces are those of `facelab.worlds.faces`, without what would hide an action unit from a small network: seen from near, almost from
the front, well lit, uncovered, of people who differ less than by default.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
from jaxtyping import Float

from facelab.worlds.faces import ACTION_UNITS, FACTORS, render
from facelab.worlds.factors import uniform

RATES: Mapping[int, float] = MappingProxyType(
    {26: 0.03, 20: 0.04, 1: 0.05, 15: 0.06, 12: 0.08, 2: 0.10, 9: 0.15, 4: 0.20, 5: 0.25, 17: 0.35, 6: 0.45, 25: 0.60}
)
"""Action unit -> share of the faces that show it, from rare to frequent. The rates are ours, those of no data set."""

_UNCOVERED = {"glasses": 0, "mask": 0, "hand": 0, "patch": 0.0, "beard": 0.0, "moustache": 0.0, "fringe": 0.0}
_POSE = {"yaw": (-10.0, 10.0), "pitch": (-5.0, 5.0), "roll": (-4.0, 4.0), "gaze_yaw": (-10.0, 10.0), "gaze_pitch": 0.0, "mirrored": 0}
_LIGHT = {"light_azimuth": (-40.0, 40.0), "light_elevation": (10.0, 40.0), "light_strength": 0.7, "ambient": 0.6, "shine": 0.2}
_SENSOR = {"blur": 0.0, "noise": 0.01, "compression": 0.0, "exposure": 1.0, "gamma": 1.0, "contrast": 1.0}
_FRAMING = {"framing_scale": (1.23, 1.27), "framing_x": (-0.02, 0.02), "framing_y": (-0.02, 0.02)}
_LOOKS = {"skin_tone": (0.0, 0.5), "freckles": 0.0, "age": 0.0, "eye_makeup": 0.0, "brow_thickness": 1.1, "brow_darkness": 0.6}
_STILL = {"expression": "neutral", "talking": 0.0, "asymmetry": 0.0, "lid_right": 0.0, "lid_left": 0.0}
_SHAPE = {name: (-0.8, 0.8) for name, factor in FACTORS.items() if factor.group == "shape"}
PLAIN = MappingProxyType(_UNCOVERED | _POSE | _LIGHT | _SENSOR | _FRAMING | _LOOKS | _STILL | _SHAPE)
"""What is fixed or narrowed, as `faces.render` takes it."""


@dataclass(frozen=True)
class AnnotatedFaces:
    """Faces with the truth about their action units and what an annotator wrote down.

    Attributes:
        images: in grey, 0..1.
        present: 1.0 where a unit is truly shown, else 0.0.
        annotated: the same as the annotator has it.
        units: number of each unit in the facial action coding system, in the order of the columns.
    """

    images: Float[np.ndarray, "N 1 H W"]
    present: Float[np.ndarray, "N T"]
    annotated: Float[np.ndarray, "N T"]
    units: tuple[int, ...]


def annotated_faces(
    n: int, *, rates: Mapping[int, float] = RATES, missed: float = 0.0, invented: float = 0.0, seed: int = 0, start: int = 0, size: int = 48
) -> AnnotatedFaces:
    """Draws each unit by itself, at its rate and with an intensity of 0.5 to 1, renders the faces, and annotates them with errors.

        faces = annotated_faces(3000, missed=0.3, seed=0)
        faces.annotated.mean(axis=0)  # below the rates, for three in ten are missed

    A face is the same in any batch, and its errors come and go with `missed` and `invented` alone.

    Args:
        n: number of faces.
        rates: unit -> share of the faces that show it (0..1).
        missed: share of the units shown that the annotator writes down as absent.
        invented: share of the absent units that are written down as shown.
        seed, start: of the faces, and the number of the first.
        size: side of the images, pixels.

    Raises:
        ValueError: a unit that the faces do not have, or a share outside 0..1.
    """
    for unit, rate in rates.items():
        if unit not in ACTION_UNITS:
            raise ValueError(f"These faces have no action unit {unit}; choose among {', '.join(map(str, ACTION_UNITS))}.")
        if not 0 <= rate <= 1:
            raise ValueError(f"rates[{unit}] = {rate} is no share of the faces; give a number from 0 to 1.")
    for name, share in (("missed", missed), ("invented", invented)):
        if not 0 <= share <= 1:
            raise ValueError(f"{name} = {share} is no share of the labels; give a number from 0 to 1.")
    index = np.arange(start, start + n)

    def drawn(what: str) -> Float[np.ndarray, "n T"]:
        return np.stack([uniform(seed, index, f"{what} of unit {unit}") for unit in rates], axis=1)

    shown = drawn("presence") < np.array(list(rates.values()))
    intensities = shown * (0.5 + 0.5 * drawn("intensity"))
    factors = {f"au_{unit}": intensities[:, column] for column, unit in enumerate(rates)}
    faces = render(n, seed=seed, start=start, size=size, channels=(), **PLAIN, **factors)
    errors = drawn("annotation")
    annotated = np.where(shown, errors >= missed, errors < invented)
    return AnnotatedFaces(faces.gray(), shown.astype(np.float32), annotated.astype(np.float32), tuple(rates))

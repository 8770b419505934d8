"""Every factor of a rendered face: its range, unit, meaning and default distribution."""

import difflib
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.special import ndtri

ACTION_UNITS = (1, 2, 4, 5, 6, 7, 9, 10, 12, 14, 15, 17, 20, 23, 24, 25, 26)
EXPRESSIONS = ("neutral", "happiness", "sadness", "surprise", "fear", "disgust", "anger")

Draw = Callable[[np.ndarray, np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Factor:
    """One thing that can be fixed, sampled or swept.

    Attributes:
        low, high: allowed range (for a choice: first and last index).
        default: the value of the plain, neutral face, used by sliders as a starting point.
        draw: two independent uniform arrays -> values of the default distribution.
        choices: names of the values of a categorical factor, else ().
    """

    name: str
    low: float
    high: float
    default: float
    unit: str
    what: str
    group: str
    draw: Draw
    choices: tuple[str, ...] = ()


FACTORS: dict[str, Factor] = {}


def _normal(spread: float = 1.0, mean: float = 0.0) -> Draw:
    return lambda u, v: mean + spread * ndtri(u)


def _uniform(low: float, high: float) -> Draw:
    return lambda u, v: low + (high - low) * u


def _sometimes(chance: float, low: float, high: float) -> Draw:
    """Zero, but with `chance` uniform in low..high."""
    return lambda u, v: np.where(u < chance, low + (high - low) * v, 0.0)


def _weighted(*weights: float) -> Draw:
    edges = np.cumsum(weights) / np.sum(weights)
    return lambda u, v: np.searchsorted(edges[:-1], u, side="right").astype(float)


def _add(group: str, name: str, low: float, high: float, default: float, unit: str, what: str, draw: Draw, choices=()) -> None:
    FACTORS[name] = Factor(name, low, high, default, unit, what, group, draw, tuple(choices))


SHAPE = {
    "face_width": "width of the whole face",
    "face_length": "height of the face below the eyes",
    "forehead_height": "height of the forehead and skull",
    "head_depth": "distance from the ears to the face",
    "temple_width": "width at the temples",
    "cheekbone_width": "width at the cheekbones",
    "cheek_fullness": "fullness of the cheeks",
    "jaw_width": "width at the jaw angles",
    "jaw_height": "how high the jaw angles lie",
    "chin_length": "length of the chin",
    "chin_width": "width of the chin",
    "chin_prominence": "how far the chin stands out",
    "brow_ridge": "how far the brow ridge stands out",
    "brow_height": "height of the brows over the eyes",
    "brow_arch": "how much the brows are arched",
    "brow_tilt": "outer ends of the brows up",
    "brow_spacing": "distance between the brows",
    "eye_spacing": "distance between the eyes",
    "eye_width": "width of the eyes",
    "eye_opening": "height of the lid opening",
    "eye_tilt": "outer corners of the eyes up",
    "eye_height": "height of the eyes in the face",
    "eye_depth": "how deep the eyes lie",
    "nose_length": "length of the nose",
    "nose_width": "width of the nostrils",
    "nose_projection": "how far the tip of the nose stands out",
    "nose_bridge": "height of the bridge of the nose (hump)",
    "nose_bridge_width": "width of the bridge of the nose",
    "nose_tip_up": "tip of the nose turned up",
    "mouth_width": "width of the mouth",
    "mouth_height": "height of the mouth in the face",
    "upper_lip": "thickness of the upper lip",
    "lower_lip": "thickness of the lower lip",
    "lip_protrusion": "how far the lips stand out",
    "mouth_curve": "corners of the mouth up at rest",
    "ear_size": "size of the ears",
    "ear_angle": "how far the ears stand off",
    "neck_width": "width of the neck",
    "skew": "lower face shifted towards the subject's left",
}
for _name, _what in SHAPE.items():
    _add("shape", _name, -3, 3, 0, "standard deviations", _what, _normal())

_add("appearance", "skin_tone", 0, 1, 0.3, "", "0 pale, 1 very dark skin", lambda u, v: np.where(u < 0.65, 0.45 * v, 0.35 + 0.6 * v))
_add("appearance", "skin_red", -1, 1, 0, "", "skin olive (-1) to ruddy (1)", _normal(0.35))
_add("appearance", "freckles", 0, 1, 0, "", "density of freckles and spots", _sometimes(0.3, 0, 1))
_add("appearance", "age", 0, 1, 0.3, "", "wrinkles: folds beside nose and mouth, under the eyes, on the forehead", _uniform(0, 1))
_add("appearance", "lip_color", -1, 1, 0, "", "lips pale (-1) to painted red (1)", _normal(0.45))
_add("appearance", "brow_darkness", 0, 1, 0.6, "", "contrast of the brows", _uniform(0.25, 1))
_add("appearance", "brow_thickness", 0.5, 1.6, 1, "", "thickness of the brows", _uniform(0.6, 1.5))
_add("appearance", "eye_makeup", 0, 1, 0.15, "", "darkness of lashes and lid line", lambda u, v: 0.15 + 0.6 * u**2)
_add("appearance", "iris_hue", 0, 1, 0.2, "", "dark brown (0), hazel, green, blue, grey (1)", lambda u, v: u**1.5)
_add("appearance", "beard", 0, 1, 0, "", "beard: stubble to full", _sometimes(0.3, 0.1, 1))
_add("appearance", "moustache", 0, 1, 0, "", "moustache: stubble to full", _sometimes(0.3, 0.1, 1))
_add("appearance", "hair_tone", 0, 1, 0.3, "", "black (0), brown, blond, white (1)", lambda u, v: np.where(u < 0.7, 0.45 * v, v))
_add("appearance", "hair_red", 0, 1, 0.2, "", "reddish hair", lambda u, v: u**3)
HAIR_STYLES = ("bald", "short", "side", "medium", "long", "up")
_add("appearance", "hair_style", 0, 5, 1, "", "hair style", _weighted(0.1, 0.33, 0.12, 0.15, 0.22, 0.08), HAIR_STYLES)
_add("appearance", "hair_volume", 0, 1, 0.4, "", "thickness of the hair", _uniform(0, 1))
_add("appearance", "hairline", -1, 1, 0, "", "hairline low (-1) to receding (1)", _normal(0.4))
_add("appearance", "fringe", 0, 1, 0, "", "hair hanging over the forehead, 1 reaches the brows", _sometimes(0.3, 0.2, 1))
_add("appearance", "clothes_hue", 0, 1, 0.6, "", "hue of the clothes", _uniform(0, 1))
_add("appearance", "clothes_value", 0, 1, 0.3, "", "brightness of the clothes", _uniform(0.02, 0.9))

_add(
    "pose",
    "yaw",
    -90,
    90,
    0,
    "degrees",
    "positive: the subject turns to their own left (image right)",
    lambda u, v: np.where(v < 0.9, 21 * ndtri(u), 180 * u - 90),
)
_add("pose", "pitch", -45, 45, 0, "degrees", "positive: looks up", _normal(9, -1))
_add("pose", "roll", -60, 60, 0, "degrees", "positive: head tilts clockwise in the image", _normal(9))
_add("pose", "body_turn", -30, 30, 0, "degrees", "how far the shoulders turn beyond half of the head's yaw", _normal(8))
_add("gaze", "gaze_yaw", -45, 45, 0, "degrees", "line of sight relative to the head; positive to the subject's left", _normal(11))
_add("gaze", "gaze_pitch", -30, 30, 0, "degrees", "line of sight relative to the head; positive up", _normal(7))

_add(
    "expression",
    "expression",
    0,
    6,
    0,
    "",
    "prototype the action units are drawn from",
    _weighted(0.3, 0.25, 0.09, 0.12, 0.07, 0.08, 0.09),
    EXPRESSIONS,
)
_add("expression", "intensity", 0, 1, 0.8, "", "strength of the expression", lambda u, v: 0.3 + 0.7 * u)
_add("expression", "talking", 0, 1, 0, "", "mouth opened by speech, beside the expression", _sometimes(0.35, 0.1, 0.8))
_add("expression", "asymmetry", -1, 1, 0, "", "expression stronger on the subject's left (1) or right (-1)", _normal(0.25))
_add(
    "expression",
    "lid_right",
    0,
    1,
    0,
    "",
    "the subject's right eye closes (blink, wink)",
    lambda u, v: np.where(u < 0.06, v**0.5, 0.25 * v**2),
)
_add(
    "expression",
    "lid_left",
    0,
    1,
    0,
    "",
    "the subject's left eye closes (blink, wink)",
    lambda u, v: np.where(u < 0.06, v**0.5, 0.25 * v**2),
)
_NAMES = {1: "inner brow raiser", 2: "outer brow raiser", 4: "brow lowerer", 5: "upper lid raiser", 6: "cheek raiser"}
_NAMES |= {7: "lid tightener", 9: "nose wrinkler", 10: "upper lip raiser", 12: "lip corner puller", 14: "dimpler"}
_NAMES |= {15: "lip corner depressor", 17: "chin raiser", 20: "lip stretcher", 23: "lip tightener", 24: "lip pressor"}
_NAMES |= {25: "lips part", 26: "jaw drop"}
for _unit in ACTION_UNITS:
    _add("action units", f"au_{_unit}", 0, 1, 0, "intensity", _NAMES[_unit], lambda u, v: 0 * u)

_add(
    "light",
    "light_azimuth",
    -180,
    180,
    20,
    "degrees",
    "main light; 0 from the camera, positive from the image's right",
    lambda u, v: 55 * ndtri(u),
)
_add("light", "light_elevation", -60, 90, 35, "degrees", "main light, above the horizon", _normal(20, 32))
_add("light", "light_strength", 0, 2, 0.9, "", "main light", _uniform(0.25, 1.3))
_add("light", "ambient", 0.05, 1.2, 0.45, "", "light from everywhere", _uniform(0.15, 0.8))
_add("light", "light_warmth", -1, 1, 0, "", "light bluish (-1) to orange (1)", _normal(0.4))
_add("light", "shine", 0, 1, 0.3, "", "specular reflection of the skin", lambda u, v: u**1.5)
_add("light", "shadow", 0, 1, 0.7, "", "strength of cast shadows", _sometimes(0.6, 0.3, 1))

_add("camera", "camera_distance", 5, 60, 14, "half head widths", "camera to the middle of the head", lambda u, v: 7 * (40 / 7) ** u)

BACKGROUNDS = ("plain", "gradient", "noise", "stripes", "clutter", "room")
_add("background", "background", 0, 5, 1, "", "kind of background", _weighted(0.12, 0.2, 0.22, 0.1, 0.22, 0.14), BACKGROUNDS)
_add("background", "background_hue", 0, 1, 0.6, "", "hue of the background", _uniform(0, 1))
_add("background", "background_value", 0, 1, 0.5, "", "brightness of the background", _uniform(0, 1))
_add("background", "background_contrast", 0, 1, 0.5, "", "contrast of the background's pattern", _uniform(0, 1))
_add("background", "background_scale", 1, 16, 5, "per image", "number of the pattern's elements across the image", lambda u, v: 2 * 6**u)

GLASSES = ("none", "round", "square", "sunglasses")
_add("occluder", "glasses", 0, 3, 0, "", "glasses", _weighted(0.76, 0.08, 0.11, 0.05), GLASSES)
_add("occluder", "glasses_size", -1, 1, 0, "", "size of the glasses", _uniform(-1, 1))
_add("occluder", "glasses_tone", 0, 1, 0.1, "", "frame black (0) to metal (1)", lambda u, v: u**2)
MASKS = ("none", "surgical", "dark")
_add("occluder", "mask", 0, 2, 0, "", "face mask over nose and mouth", _weighted(0.95, 0.03, 0.02), MASKS)
HANDS = ("none", "right", "left")
_add(
    "occluder",
    "hand",
    0,
    2,
    0,
    "",
    "hand before the face, from the image's left (right hand) or right",
    _weighted(0.95, 0.025, 0.025),
    HANDS,
)
_add("occluder", "hand_x", -1, 1, 0.3, "", "where the fingertips reach: 0 middle of the face, 1 its edge", _uniform(-0.2, 1))
_add("occluder", "hand_y", -1.8, 1, -0.9, "half head widths", "height of the hand over the eyes", _uniform(-1.7, 0.3))
_add("occluder", "patch", 0, 1, 0, "of the face", "size of a flat object before the face, 0 none", _sometimes(0.1, 0.1, 0.45))
_add("occluder", "patch_x", -1, 1, 0.4, "", "place of the flat object across the face", _uniform(-1, 1))
_add("occluder", "patch_y", -1, 1, -0.4, "", "place of the flat object along the face", _uniform(-1, 1))
_add("occluder", "patch_tone", 0, 1, 0.5, "", "tone of the flat object", _uniform(0, 1))

_add(
    "sensor",
    "blur",
    0,
    0.06,
    0.004,
    "of the image side",
    "standard deviation of the blur",
    lambda u, v: np.where(u < 0.6, 0.004 + 0.009 * v, 0.004 + 0.022 * v**1.5),
)
_add("sensor", "noise", 0, 0.2, 0.01, "of white", "standard deviation of the pixel noise", lambda u, v: 0.045 * u**3)
_add("sensor", "compression", 0, 1, 0, "", "block artefacts", _sometimes(0.35, 0, 0.8))
_add("sensor", "gamma", 0.5, 2, 1, "", "exponent on the image", lambda u, v: np.exp(0.2 * ndtri(u)))
_add("sensor", "exposure", 0.4, 2, 1, "", "brightness of the image", lambda u, v: np.exp(0.22 * ndtri(u)))
_add("sensor", "contrast", 0.3, 1.3, 1, "", "contrast about mid grey", _uniform(0.75, 1.25))
_add("sensor", "saturation", 0, 1.5, 1, "", "colour; 0 is a grey image", lambda u, v: np.where(u < 0.1, 0.0, 0.5 + 0.8 * v))

_add(
    "framing",
    "framing_scale",
    0.5,
    2,
    1,
    "",
    "size of the face relative to the protocol (box of 68 landmarks x 1.3)",
    lambda u, v: np.exp(0.07 * ndtri(u)),
)
_add("framing", "framing_x", -0.5, 0.5, 0, "of the image side", "face shifted to the right", _normal(0.03))
_add("framing", "framing_y", -0.5, 0.5, 0, "of the image side", "face shifted down", _normal(0.03))
_add("framing", "mirrored", 0, 1, 0, "", "1: textures and noise run from right to left (see `mirror`)", lambda u, v: 0 * u)

PERSON = tuple(f.name for f in FACTORS.values() if f.group in ("shape", "appearance"))
AU_NAMES = tuple(f"au_{u}" for u in ACTION_UNITS)
RECORDED = ("seed", "index", "identity", "crop_scale", "crop_x", "crop_y")
"""Kept beside the factors in a batch: where the random numbers come from and the crop in units of the image side."""


def check_name(name: str) -> None:
    """Raises ValueError with the closest names if there is no such factor."""
    if name not in FACTORS and name not in RECORDED:
        close = difflib.get_close_matches(name, [*FACTORS, "identity"], n=3, cutoff=0.5)
        hint = f"did you mean {' or '.join(map(repr, close))}?" if close else "see facelab.worlds.faces.FACTORS."
        raise ValueError(f"There is no factor {name!r}; {hint}")

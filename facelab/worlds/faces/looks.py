"""From factors to the numbers the shading kernels take: colours in linear RGB, lights, sensor settings."""

import numpy as np
from jaxtyping import Float32

from facelab.worlds.faces.factors import HAIR_STYLES
from facelab.worlds.faces.randomness import hashed
from facelab.worlds.faces.sensor import SENSOR
from facelab.worlds.faces.shading import LOOK

# linear RGB along skin_tone, hair_tone and iris_hue
_SKIN = np.array(
    [[0.78, 0.52, 0.42], [0.68, 0.42, 0.31], [0.52, 0.30, 0.20], [0.33, 0.175, 0.11], [0.17, 0.085, 0.055], [0.085, 0.043, 0.03]]
)
_HAIR = np.array(
    [[0.010, 0.008, 0.007], [0.035, 0.022, 0.015], [0.10, 0.06, 0.035], [0.33, 0.21, 0.11], [0.42, 0.38, 0.33], [0.68, 0.67, 0.66]]
)
_IRIS = np.array([[0.05, 0.025, 0.015], [0.12, 0.06, 0.025], [0.12, 0.13, 0.05], [0.10, 0.19, 0.28], [0.24, 0.28, 0.31]])


def _along(palette: np.ndarray, t: np.ndarray) -> np.ndarray:
    place = np.clip(t, 0, 1) * (len(palette) - 1)
    k = np.minimum(place.astype(int), len(palette) - 2)
    return palette[k] + (place - k)[:, None] * (palette[k + 1] - palette[k])


def hsv(hue: np.ndarray, saturation: np.ndarray, value: np.ndarray) -> np.ndarray:
    """Linear RGB (n, 3) of hue, saturation and display brightness, all 0..1."""
    wave = np.clip(np.abs((hue[:, None] * 6 + np.array([0.0, 4.0, 2.0])) % 6 - 3) - 1, 0, 1)
    return (value[:, None] * (1 - saturation[:, None] * (1 - wave))) ** 2.2


def light_direction(values: dict[str, np.ndarray]) -> np.ndarray:
    """Unit vectors (n, 3) towards the main light, camera space."""
    a, e = np.radians(values["light_azimuth"]), np.radians(values["light_elevation"])
    return np.stack([np.sin(a) * np.cos(e), np.sin(e), np.cos(a) * np.cos(e)], 1)


def looks(values: dict[str, np.ndarray]) -> Float32[np.ndarray, "n L"]:
    """One row of `shading.LOOK` per face."""
    v, n = values, len(values["yaw"])
    skin = _along(_SKIN, v["skin_tone"]) * np.exp(np.stack([0.08 * v["skin_red"], -0.12 * v["skin_red"], -0.06 * v["skin_red"]], 1))
    paint = np.clip(v["lip_color"], 0, 1)[:, None]
    pale = np.clip(-v["lip_color"], 0, 1)[:, None]
    lip = skin * [0.80, 0.52, 0.55]
    lip = lip + pale * (skin * [0.92, 0.8, 0.8] - lip) + paint * (np.array([0.45, 0.05, 0.07]) - lip)
    hair = _along(_HAIR, v["hair_tone"])
    hair = hair * np.exp(v["hair_red"][:, None] * [0.5, -0.05, -0.5])
    light = v["light_direction"] if "light_direction" in v else light_direction(v)
    warm = np.exp(v["light_warmth"][:, None] * [0.22, 0.0, -0.3])
    strength = v["light_strength"][:, None] * warm
    cloth = hsv(v["clothes_hue"], np.full(n, 0.5), v["clothes_value"])
    contrast = v["background_contrast"]
    rest = hashed(v["seed"], v["index"], "background colours")
    back = hsv(v["background_hue"], 0.6 * rest, np.clip(v["background_value"] - 0.35 * contrast, 0.02, 1))
    other = hsv((v["background_hue"] + 0.3 * rest + 0.02) % 1, 0.5 * (1 - rest), np.clip(v["background_value"] + 0.5 * contrast, 0.02, 1))
    bald = (v["hair_style"] == HAIR_STYLES.index("bald")).astype(float)
    columns = {
        "distance": v["camera_distance"],
        "key": keys(v),
        "mirror": v["mirrored"],
        **{f"light_{axis}": light[:, k] for k, axis in enumerate("xyz")},
        **{f"light_{c}": strength[:, k] for k, c in enumerate("rgb")},
        **{f"skin_{c}": skin[:, k] for k, c in enumerate("rgb")},
        **{f"lip_{c}": lip[:, k] for k, c in enumerate("rgb")},
        **{f"hair_{c}": hair[:, k] for k, c in enumerate("rgb")},
        **{f"iris_{c}": _along(_IRIS, v["iris_hue"])[:, k] for k, c in enumerate("rgb")},
        **{f"cloth_{c}": cloth[:, k] for k, c in enumerate("rgb")},
        **{f"back_{c}": back[:, k] for k, c in enumerate("rgb")},
        **{f"other_{c}": other[:, k] for k, c in enumerate("rgb")},
        "brow": v["brow_darkness"],
        "makeup": v["eye_makeup"],
        "bald": bald,
        "frame": v["glasses_tone"],
        "patch": v["patch_tone"] ** 2.2,
        "back": v["background"],
        "back_scale": v["background_scale"],
        "back_angle": 2 * np.pi * hashed(v["seed"], v["index"], "background angle"),
    }
    for name in LOOK:
        if name not in columns:
            columns[name] = v[name]
    return np.stack([columns[name] for name in LOOK], 1).astype(np.float32)


def keys(values: dict[str, np.ndarray]) -> np.ndarray:
    """Key of each face's textures and pixel noise: an integer that float32 holds exactly."""
    return np.floor(hashed(values["seed"], values["index"], "texture") * 2**22)


def sensor_settings(values: dict[str, np.ndarray]) -> Float32[np.ndarray, "n S"]:
    """One row of `sensor.SENSOR` per face."""
    named = {**values, "key": keys(values) + 5, "mirror": values["mirrored"]}
    return np.stack([named[name] for name in SENSOR], 1).astype(np.float32)

"""Fields painted on the head, as one small texture over the directions from its centre.

The texture's coordinates are the azimuthal equidistant projection about the middle of the face: (0, 0) in front,
length 1 straight behind. Each channel is a closed formula of the mean head's surface, symmetric about the midline.
"""

from functools import cache

import numpy as np

from facelab.worlds.faces.template import CENTRE, _skin_radius

SIDE = 320
CHANNELS = ("red", "lines", "brow", "beard", "moustache", "scalp", "tone", "stubble", "spots")


def projected(points: np.ndarray) -> np.ndarray:
    """Texture coordinates (n, 2) of points of head space, each -1..1."""
    d = points - CENTRE
    d = d / np.maximum(np.linalg.norm(d, axis=1, keepdims=True), 1e-9)
    angle = np.arccos(np.clip(d[:, 2], -1, 1)) / np.pi
    across = np.maximum(np.hypot(d[:, 0], d[:, 1]), 1e-9)
    return d[:, :2] / across[:, None] * angle[:, None]


def _step(low: float, high: float, x: np.ndarray) -> np.ndarray:
    t = np.clip((x - low) / (high - low), 0, 1)
    return t * t * (3 - 2 * t)


def _noise(cells: float, rng: np.random.Generator) -> np.ndarray:
    """Smooth noise, 0..1, symmetric about the middle column."""
    n = int(SIDE / cells) + 3
    knots = rng.random((n, n))
    at = np.arange(SIDE) / cells
    k, f = at.astype(int), at - at.astype(int)
    f = f * f * (3 - 2 * f)
    rows = knots[k] * (1 - f)[:, None] + knots[k + 1] * f[:, None]
    image = rows[:, k] * (1 - f) + rows[:, k + 1] * f
    return np.concatenate([image[:, : SIDE // 2], image[:, : SIDE // 2][:, ::-1]], 1)


def brow_distance(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Distance from the middle line of the brow in half thicknesses; beyond 1 is skin."""
    t = (x - 0.235) / 0.565
    arc = 0.238 + t * (0.30 - 0.33 * t) - 0.5 * np.clip(t - 0.72, 0, None) ** 2
    half = 0.046 - 0.026 * np.clip(t, 0, 1) ** 1.5
    beyond = np.clip(-t / 0.1, 0, None) + np.clip((t - 0.93) / 0.09, 0, None)
    return np.hypot(np.abs(y - arc) / half, 1.2 * beyond)


@cache
def atlas() -> np.ndarray:
    """(SIDE, SIDE, channels) float32; rows run from top (t = 1) to bottom (t = -1), columns from s = -1 to 1."""
    s, t = np.meshgrid(np.linspace(-1, 1, SIDE), np.linspace(1, -1, SIDE))
    angle = np.hypot(s, t)
    sine = np.where(angle > 1e-9, np.sin(np.pi * angle) / np.maximum(angle, 1e-9), np.pi)
    d = np.stack([s * sine, t * sine, np.cos(np.pi * angle)], -1).reshape(-1, 3)
    p = (CENTRE + _skin_radius()(d)[:, None] * d).reshape(SIDE, SIDE, 3)
    x, y, z = np.abs(p[..., 0]), p[..., 1], p[..., 2]
    front = (z > 0.45) & (angle < 0.6)
    red = np.exp(-(((x - 0.55) / 0.25) ** 2) - ((y + 0.42) / 0.22) ** 2) + 0.7 * np.exp(-((x / 0.2) ** 2) - ((y + 0.52) / 0.15) ** 2)
    fold = (x - (0.24 + 0.27 * (-0.55 - y))) / 0.03
    lines = np.exp(-(fold**2)) * _step(-1.05, -0.85, y) * (1 - _step(-0.62, -0.5, y))
    bag = (y - (-0.15 + 0.9 * (x - 0.42) ** 2)) / 0.022
    lines = lines + 0.8 * np.exp(-(bag**2) - ((x - 0.42) / 0.17) ** 2)
    waves = np.clip(np.sin((y + 0.03 * np.sin(x * 5)) * 42), 0, 1) ** 3
    lines = lines + 0.55 * waves * np.exp(-(((y - 0.6) / 0.17) ** 2) - (x / 0.5) ** 2)
    feet = np.clip(np.sin(np.arctan2(y + 0.02, x - 0.55) * 14), 0, 1) ** 3
    lines = lines + 0.5 * feet * np.exp(-(((x - 0.73) / 0.07) ** 2) - ((y + 0.02) / 0.12) ** 2)
    edge = -0.8 - 0.25 * (x - 0.45) ** 2 + 1.5 * np.clip(x - 0.72, 0, None)
    beard = (1 - _step(-0.14, 0.1, y - edge)) * (1 - np.exp(-((x / 0.37) ** 4) - ((y + 0.93) / 0.2) ** 4)) * _step(-0.05, 0.15, z)
    moustache = np.exp(-((x / 0.36) ** 6)) * _step(-0.92, -0.85, y + 0.22 * x) * (1 - _step(-0.72, -0.66, y)) * _step(0.9, 1.1, z)
    azimuth, elevation = np.abs(np.arctan2(d[:, 0], d[:, 2])), np.arcsin(np.clip(d[:, 1], -1, 1))
    rim = np.interp(np.degrees(azimuth), [0, 25, 38, 50, 62, 74, 84, 100, 115, 135, 180], [50, 49, 44, 33, 22, 2, 8, 12, -15, -32, -36])
    scalp = (elevation - np.radians(rim)).reshape(SIDE, SIDE)
    rng = np.random.default_rng(7)
    tone = 0.10 * (_noise(16, rng) - 0.5) + 0.07 * (_noise(4, rng) - 0.5) + 0.04 * (_noise(1.6, rng) - 0.5)
    stubble = 0.75 + 0.5 * _noise(1.5, rng)
    spots = np.ones((SIDE, SIDE))  # freckles appear where their amount passes this threshold
    for cy, cx, threshold in rng.random((700, 3)):
        row, column = 0.3 + 0.45 * cy, 0.32 + 0.36 * cx
        i, j = int(row * SIDE), int(column * SIDE)
        spots[i, j] = threshold
    spots = np.minimum(spots, np.clip(spots + 0.0, 0, 1))
    brow = np.where(front, np.minimum(brow_distance(x, y), 4.0), 4.0)
    channels = {
        "red": red * front,
        "lines": np.clip(lines, 0, 1) * front,
        "brow": brow,
        "beard": beard,
        "moustache": moustache,
        "scalp": scalp,
        "tone": tone,
        "stubble": stubble,
        "spots": spots,
    }
    return np.stack([channels[name] for name in CHANNELS], -1).astype(np.float32)

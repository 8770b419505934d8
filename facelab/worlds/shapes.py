"""Plain shapes in the plane with everything known: class, mask, corners, and what an occluding card hides."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8
from matplotlib.colors import hsv_to_rgb
from scipy.special import ndtri

from facelab.batch import Batch
from facelab.worlds.factors import Factor, between, check_count, sample_factors, sometimes, uniform

CORNERS = 12
"""Every shape has so many rows of corners; those it does not have are NaN."""


def _regular(corners: int, inner: float = 0.0) -> Float[np.ndarray, "corners 2"]:
    """Corners on the unit circle, clockwise in the image, the first on top; between them, if asked, corners at `inner`."""
    count = 2 * corners if inner else corners
    turn = 2 * np.pi * np.arange(count) / count
    radius = np.where(np.arange(count) % 2, inner, 1.0) if inner else np.ones(count)
    return np.stack([radius * np.sin(turn), -radius * np.cos(turn)], axis=-1)


_a, _b = 0.3, np.sqrt(1 - 0.3**2)
_CROSS = np.array(
    [(-_a, -_b), (_a, -_b), (_a, -_a), (_b, -_a), (_b, _a), (_a, _a), (_a, _b), (-_a, _b), (-_a, _a), (-_b, _a), (-_b, -_a), (-_a, -_a)]
)
OUTLINES: dict[str, Float[np.ndarray, "corners 2"]] = {
    "circle": np.zeros((0, 2)),
    "triangle": _regular(3),
    "square": _regular(4) @ np.array([[1, -1], [1, 1]]) / np.sqrt(2),
    "pentagon": _regular(5),
    "star": _regular(5, inner=0.42),
    "cross": _CROSS,
}
"""Shape -> corners on or inside the unit circle (x right, y down); every shape is seen whole from its centre."""
SHAPES: tuple[str, ...] = tuple(OUTLINES)

FACTORS: dict[str, Factor] = {
    factor.name: factor
    for factor in (
        Factor("shape", 0, len(SHAPES) - 1, what="which shape", choices=SHAPES),
        Factor("x", 0, 1, between(0.3, 0.7), "image sides", "centre, from the left edge"),
        Factor("y", 0, 1, between(0.3, 0.7), "image sides", "centre, from the upper edge"),
        Factor("radius", 0.05, 0.6, between(0.15, 0.35), "image sides", "radius of the circle around the shape"),
        Factor("angle", -180, 180, None, "degrees", "turn, positive clockwise"),
        Factor("hue", 0, 360, None, "degrees", "colour of the shape"),
        Factor("background", 0, 0.6, between(0, 0.5), "of full white", "brightness of the background"),
        Factor("occlusion", 0, 1, sometimes(0.3, between(0.1, 0.6)), "diameters", "how far a gray card is pushed over the shape"),
        Factor("occlusion_from", -180, 180, None, "degrees", "side from which the card comes: 0 right, 90 below"),
        Factor("noise", 0, 0.3, between(0, 0.05), "of full white", "standard deviation of the noise of each pixel and colour"),
    )
}


@dataclass(frozen=True)
class ShapeBatch(Batch):
    """Shapes and their truth: `B` images of `H` x `W` pixels."""

    images: UInt8[np.ndarray, "B H W 3"]
    """sRGB, 0..255."""
    labels: Int[np.ndarray, " B"]
    """Index into `SHAPES`."""
    centre: Float[np.ndarray, "B 2"]
    """(x, y), pixels."""
    angle: Float[np.ndarray, " B"]
    """Degrees, positive clockwise."""
    corners: Float[np.ndarray, "B 12 2"]
    """(x, y), pixels, clockwise; NaN where the shape has no more corners."""
    visible: Bool[np.ndarray, "B 12"]
    """Inside the image and not under the card."""
    mask: Bool[np.ndarray, "B H W"]
    """The whole shape, also where the card hides it."""
    occluder: Bool[np.ndarray, "B H W"]
    """The card."""


def _depth_inside(outline: Float[np.ndarray, "corners 2"], points: Float[np.ndarray, "B H W 2"]) -> Float[np.ndarray, "B H W"]:
    """How far inside the outline's nearest edge line, in its sector, each point lies (negative outside), unit-circle units."""
    if not len(outline):
        return 1.0 - np.linalg.norm(points, axis=-1)
    bearing = np.arctan2(outline[:, 1], outline[:, 0])
    turned = np.mod(np.arctan2(points[..., 1], points[..., 0]) - bearing[0], 2 * np.pi)
    sector = np.searchsorted(np.mod(bearing - bearing[0], 2 * np.pi), turned, side="right") - 1
    edge = np.roll(outline, -1, axis=0) - outline
    inward = np.stack([-edge[:, 1], edge[:, 0]], axis=-1) / np.linalg.norm(edge, axis=-1, keepdims=True)
    return np.sum((points - outline[sector]) * inward[sector], axis=-1)


def _turn(points: Float[np.ndarray, "B *n 2"], angle: Float[np.ndarray, " B"]) -> Float[np.ndarray, "B *n 2"]:
    """Rotate clockwise in the image by radians."""
    angle = angle.reshape(-1, *(1,) * (points.ndim - 2))
    x, y = points[..., 0], points[..., 1]
    return np.stack([np.cos(angle) * x - np.sin(angle) * y, np.sin(angle) * x + np.cos(angle) * y], axis=-1)


def render(n: int, seed: int = 0, size: int = 32, *, start: int = 0, **factors: Any) -> ShapeBatch:
    """Shapes `start` ... `start + n - 1` of a seed.

    Args:
        n: number of shapes.
        size: side of the images, pixels.
        factors: any of `FACTORS`: a number or name (fixed), (low, high) (sampled uniformly), or a list of length n (swept).

    Raises:
        ValueError: impossible count or size, unknown factor, or a value outside its range.
    """
    check_count(n, size, start)
    values = sample_factors(FACTORS, n, seed, start, **factors)
    labels, angle = values["shape"].astype(np.int64), np.radians(values["angle"])
    centre = np.stack([values["x"], values["y"]], axis=-1) * size - 0.5
    radius = values["radius"] * size
    pixels = np.stack(np.meshgrid(np.arange(size), np.arange(size)), axis=-1)
    offset = (pixels - centre[:, None, None]) / radius[:, None, None, None]  # unit-circle units
    own = _turn(offset, -angle)
    inside = np.empty((n, size, size))
    corners = np.full((n, CORNERS, 2), np.nan)
    for label, outline in enumerate(OUTLINES.values()):
        mine = labels == label
        inside[mine] = _depth_inside(outline, own[mine])
        corners[mine, : len(outline)] = _turn(np.broadcast_to(outline, (mine.sum(), *outline.shape)), angle[mine])
    side = np.radians(values["occlusion_from"])
    edge = 1 - 2 * values["occlusion"]

    def hidden(points):
        """Under the card: a square card of 2.4 radii, its edge `occlusion` diameters into the shape."""
        from_side = _turn(points, -side)
        shape = (-1, *(1,) * (points.ndim - 2))
        reach = edge.reshape(shape)
        card = (from_side[..., 0] >= reach) & (from_side[..., 0] <= reach + 2.4) & (np.abs(from_side[..., 1]) <= 1.2)
        return card & (values["occlusion"] > 0).reshape(shape)

    occluder, corner_hidden = hidden(offset), hidden(corners)
    corners = centre[:, None] + radius[:, None, None] * corners
    visible = np.all((corners >= -0.5) & (corners < size - 0.5), axis=-1) & ~corner_hidden
    cover = np.clip(0.5 + inside * radius[:, None, None], 0, 1)[..., None]  # a pixel's share of the shape
    color = hsv_to_rgb(np.stack([values["hue"] / 360, np.full(n, 0.75), np.full(n, 0.95)], axis=-1))[:, None, None]
    picture = cover * color + (1 - cover) * values["background"][:, None, None, None]
    picture = np.where(occluder[..., None], 0.7, picture)
    value = (np.arange(start, start + n)[:, None] * 3 * size**2 + np.arange(3 * size**2)).reshape(n, size, size, 3)
    noisy = picture + values["noise"][:, None, None, None] * ndtri(uniform(seed, value, "noise of pixels"))
    return ShapeBatch(
        images=np.round(255 * np.clip(noisy, 0, 1)).astype(np.uint8),
        labels=labels,
        centre=centre,
        angle=values["angle"],
        corners=corners,
        visible=visible,
        mask=inside > 0,
        occluder=occluder,
        factors=values,
    )

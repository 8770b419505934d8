"""Faces in motion: matching surface points between two renderings, and short clips."""

import numpy as np
from jaxtyping import Bool, Float32

from facelab.batch import FaceBatch
from facelab.worlds.faces.factors import AU_NAMES, EXPRESSIONS, FACTORS
from facelab.worlds.faces.geometry import rig
from facelab.worlds.faces.rendering import FIRST_OCCLUDER
from facelab.worlds.faces.world import CROP, check_rendered, from_factors, render_arrays, sample


def correspondence(a: FaceBatch, b: FaceBatch) -> tuple[Float32[np.ndarray, "B H W 2"], Bool[np.ndarray, "B H W"]]:
    """Where each surface point seen in `a` lies in `b`: optical flow in pixels, and where it is known.

    Points are matched by triangle and barycentric coordinates, so pose, expression, identity and camera may all differ.
    Valid where `a` shows the head or body (no occluder, no background) and `b` shows the same point.

    Raises:
        ValueError: the batches differ in length or image size, or were not rendered by this world.
    """
    check_rendered(a)
    check_rendered(b)
    if a.images.shape != b.images.shape:
        raise ValueError(f"The batches have images of shapes {a.images.shape} and {b.images.shape}; render both alike.")
    size, world = a.images.shape[1], rig().world
    flow = np.zeros((len(a), size, size, 2), np.float32)
    valid = np.zeros((len(a), size, size), bool)
    for i in range(len(a)):
        one, two = (
            render_arrays({k: v[i : i + 1].copy() for k, v in batch.factors.items()}, size, truth=True, raw=True) for batch in (a, b)
        )
        number = one["number"][0]
        y, x = np.nonzero((number >= 0) & (world.object[number] < FIRST_OCCLUDER))
        corners = world.triangles[number[y, x]]
        weight = one["barycentric"][0, y, x]
        weight = np.column_stack([weight, 1 - weight.sum(1)])
        distance = a.factors["camera_distance"][i], b.factors["camera_distance"][i]
        weight = weight / (distance[0] - one["vertices"][0, corners, 2])  # screen to surface
        weight /= weight.sum(1, keepdims=True)
        point = np.einsum("pc,pcd->pd", weight, two["vertices"][0, corners])
        depth = distance[1] - point[:, 2]
        scale, place_x, place_y = (b.factors[name][i] for name in CROP)
        there = size * np.column_stack([place_x + scale * point[:, 0] / depth, place_y - scale * point[:, 1] / depth]) - 0.5
        flow[i, y, x] = there - np.column_stack([x, y])
        column, row = np.round(there).astype(int).T
        inside = (column >= 0) & (column < size) & (row >= 0) & (row < size)
        column, row = column.clip(0, size - 1), row.clip(0, size - 1)
        seen = np.abs(two["depth"][0, row, column] - depth) < 0.06 + 1.2 * distance[1] / (scale * size)
        shown = two["shown"][0, world.object[number[y, x]]]
        valid[i, y, x] = inside & seen & ~two["occluder"][0, row, column] & shown
    flow[~valid] = 0
    return flow, valid


def clip(
    frames: int = 16,
    seed: int = 0,
    size: int = 64,
    *,
    index: int = 0,
    expression: str = "happiness",
    channels="all",
    markup: int = 68,
    **factors: object,
) -> FaceBatch:
    """A short clip of one person: an expression rises, holds and falls while the head moves; one frame per face of the batch.

    The intensity follows a raised cosine up to the apex at 40 % of the clip, holds for 15 %, and falls to a quarter; the
    camera and the crop stand still. Texture, light and noise stay those of item `index` of the seed.

    Args:
        frames: number of frames, at least 2.
        seed, index: which item of the world gives the person and all that no factor sets.
        expression: which one rises and falls, by its action units; the label is the same for every frame.
        factors: as in `render`, fixed for the whole clip (an action unit, too) or one value per frame.

    Raises:
        ValueError: fewer than two frames, or as `render`.
    """
    if frames < 2:
        raise ValueError(f"frames = {frames}: a clip needs at least two.")
    if expression not in EXPRESSIONS:
        raise ValueError(f"expression = {expression!r} is not possible; give one of {list(EXPRESSIONS)}.")
    still = {k: v for k, v in factors.items() if not isinstance(v, (list, np.ndarray))}
    swept = {k: v for k, v in factors.items() if k not in still}
    person = sample(1, seed, index, **{"talking": 0, "intensity": 0.95, **still}, expression=expression)
    values = {name: np.repeat(value, frames) for name, value in person.items()}
    moving = sample(frames, seed, index, **swept) if swept else {}
    t = np.linspace(0, 1, frames)
    rise = 0.5 - 0.5 * np.cos(np.pi * np.clip(t / 0.4, 0, 1))
    fall = 0.625 + 0.375 * np.cos(np.pi * np.clip((t - 0.55) / 0.45, 0, 1))
    for name in AU_NAMES:
        if name not in factors:
            values[name] = values[name] * rise * fall
    phase = 2 * np.pi * (t + (index % 7) / 7)
    for name, amplitude, cycles in (("yaw", 9.0, 0.8), ("pitch", 4.0, 1.1), ("roll", 3.0, 0.7)):
        if name not in factors:
            centre = 0.4 * values[name] if name == "yaw" else values[name]
            values[name] = np.clip(centre + amplitude * np.sin(cycles * phase), FACTORS[name].low, FACTORS[name].high)
    values |= {name: moving[name] for name in swept}
    middle = {name: value[frames // 2 : frames // 2 + 1].copy() for name, value in values.items()}
    render_arrays(middle, 8, truth=False)  # only for its crop
    values |= {name: np.repeat(middle[name], frames) for name in CROP}
    return from_factors(values, size, markup, channels)

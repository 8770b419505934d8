"""What worlds need beside faces in a grid: mark-ups side by side, flow between two pictures, how sampled factors spread."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import Normalize

from facelab.batch import FaceBatch
from facelab.pictures.faces import PART_COLORS, draw_face, draw_landmarks, normal_colors, surface_colors
from facelab.pictures.style import (
    AMOUNT,
    BLUE,
    ESTIMATE,
    PALETTE,
    RED,
    Picture,
    as_array,
    as_rgb,
    bare,
    new_picture,
    opaque,
    styled,
)  # fmt: skip


@styled
def show_flow(first: Any, second: Any, flow: Any, valid: Any, *, step: int = 5, width: float = 9.0) -> Picture:
    """Two images of one face, and arrows from where a surface point is in the first to where it is in the second.

    Args:
        first, second: one image each, (H,W,3).
        flow: (H,W,2) motion (x, y) in pixels.
        valid: (H,W) where it is known.
        step: draw every so many pixels.
        width: inches.
    """
    images = as_rgb(np.stack([as_array(first), as_array(second)]))
    flow, valid = as_array(flow), as_array(valid)
    picture, grid = new_picture(width, width / 3 + 0.3, 1, 3)
    for axes, image, title in zip(grid[0], [*images, images[0]], ["first", "second", f"motion of every {step}th pixel"], strict=True):
        draw_face(axes, image if "motion" not in title else (image * 0.35 + 150).astype(np.uint8))
        axes.set_title(title)
    y, x = np.mgrid[step // 2 : valid.shape[0] : step, step // 2 : valid.shape[1] : step]
    kept = valid[y, x]
    x, y = x[kept], y[kept]
    motion = flow[y, x]
    grid[0, 2].plot(x, y, ".", color=BLUE, markersize=2)
    grid[0, 2].quiver(x, y, motion[:, 0], motion[:, 1], angles="xy", scale_units="xy", scale=1, color=ESTIMATE, width=0.006)
    return picture


@styled
def show_markups(image: Any, landmarks: Sequence[Any], *, width: float = 9.0) -> Picture:
    """One face in several mark-ups side by side.

    Args:
        image: (H,W,3).
        landmarks: one (K,2) array of pixels per mark-up.
        width: inches.
    """
    shown = as_rgb(as_array(image)[None])[0]
    picture, grid = new_picture(width, width / len(landmarks) + 0.3, 1, len(landmarks))
    for axes, points in zip(grid[0], landmarks, strict=True):
        draw_face(axes, (shown * 0.6 + 90).astype(np.uint8))
        draw_landmarks(axes, as_array(points), BLUE, size=2.6)
        axes.set_title(f"{len(points)} landmarks")
    return picture


@styled
def plot_spread(samples: Mapping[str, Any], label: str, *, bins: int = 40, width: float = 6.5) -> Picture:
    """How values spread: one outlined histogram per name, as shares.

    Args:
        samples: name -> values.
        label: what they are, with the unit.
        bins: number of bins.
        width: inches.
    """
    picture, grid = new_picture(width, 2.6)
    axes = grid[0, 0]
    values = {name: as_array(value).astype(float).ravel() for name, value in samples.items()}
    edges = np.histogram_bin_edges(np.concatenate(list(values.values())), bins)
    for index, (name, value) in enumerate(values.items()):
        share = np.histogram(value, edges)[0] / len(value) * 100
        axes.stairs(
            share, edges, color=PALETTE[index % len(PALETTE)], label=name, linestyle=("-", "--", "-.", ":")[index % 4], linewidth=1.6
        )
    axes.set(xlabel=label, ylabel="share, %")
    axes.grid(axis="y")
    if len(values) > 1:
        axes.legend()
    return picture


CHANNELS = {
    "what changed": (),
    "landmarks": (),
    "parts": ("parts",),
    "occluder": ("occluder",),
    "depth": ("depth",),
    "normals": ("normals",),
    "surface (u, v)": ("uv",),
}
"""What the right-hand picture may show, and the channels of the renderer it needs."""


def draw_channel(axes: Axes, face: FaceBatch, channel: str, part_names: Sequence[str], before: FaceBatch | None = None) -> str:
    """One channel of the truth of a batch of one; returns what to say about it.

    Args:
        channel: a key of `CHANNELS`.
        part_names: `facelab.worlds.faces.PARTS`.
        before: the face to compare with, for "what changed".
    """
    image = face.images[0]
    if channel in ("landmarks", "occluder", "depth"):  # those that it can be seen through
        draw_face(axes, (image * 0.4 + 140).astype(np.uint8))
    bare(axes, channel, y=1)
    if channel == "what changed" and before is not None:
        difference = np.abs(image.astype(float) - before.images[0]).mean(-1) / 255
        axes.imshow(colormaps[AMOUNT](difference / 0.5, bytes=True))
        return f"{np.mean(difference > 0):.0%} of the pixels differ from this face as sampled"
    if channel == "landmarks":
        points = face.known("landmarks")[0]
        seen = face.visible[0] if face.visible is not None else np.ones(len(points), dtype=bool)
        draw_landmarks(axes, points, "#555555", size=0)
        axes.plot(*points[seen].T, "o", markersize=3.5, color=BLUE, markeredgewidth=0)
        axes.plot(*points[~seen].T, "o", markersize=4, markerfacecolor="none", markeredgecolor=RED)
        return f"{int(seen.sum())} of {len(seen)} landmarks visible (open circles: hidden)"
    if channel == "parts" and face.parts is not None:
        axes.imshow(opaque(PART_COLORS[face.parts[0] % len(PART_COLORS)]))
        present = np.setdiff1d(face.parts[0], 0)
        beside = {"transform": axes.transAxes, "clip_on": False}  # plain texts draw in half the time of a legend
        heights = 0.96 - 0.053 * np.arange(len(present))
        axes.scatter(
            np.full(len(present), 1.045), heights, s=36, c=PART_COLORS[present % len(PART_COLORS)] / 255, marker="s", linewidths=0, **beside
        )
        for height, part in zip(heights, present, strict=True):
            axes.text(1.075, height - 0.013, part_names[part].replace("_", " "), fontsize=8, **beside)
        return f"{len(present)} parts in sight"
    if channel == "occluder" and face.occluder is not None:
        axes.imshow(face.occluder[0][..., None] * np.array([255, 128, 0, 204], dtype=np.uint8))
        return f"{face.occluder[0].mean():.0%} of the image is occluded"
    if channel == "depth" and face.depth is not None:
        depth = np.ma.masked_invalid(face.depth[0])
        axes.imshow(colormaps[AMOUNT + "_r"](Normalize()(depth), bytes=True))  # a colour bar would be slow; the caption says it
        return f"depth from {depth.min():.1f} (yellow) to {depth.max():.1f} (dark blue) half head widths"
    if channel == "normals" and face.normals is not None:
        axes.imshow(opaque(normal_colors(face.normals[0])))
        return "surface normals: x, y, z as red, green, blue"
    if channel == "surface (u, v)" and face.uv is not None:
        axes.imshow(opaque(surface_colors(face.uv[0])))
        return "surface coordinates: the same colour is the same point of every head"
    raise ValueError(f"There is no channel {channel!r}; choose one of {', '.join(CHANNELS)}.")

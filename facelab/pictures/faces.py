"""Faces in a grid with their landmarks, and everything a rendered face knows about itself."""

from collections.abc import Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from jaxtyping import Float, UInt8
from matplotlib.axes import Axes
from matplotlib.patches import Patch

from facelab.batch import FaceBatch
from facelab.markups import MARKUPS
from facelab.pictures.style import AMOUNT, BLACK, ESTIMATE, TRUTH, Picture, as_array, as_rgb, bare, new_picture, opaque, styled


def draw_face(axes: Axes, image: np.ndarray) -> None:
    """One image (H,W,3) with its pixel coordinates as axes, so that landmarks land where they belong."""
    height, width = image.shape[:2]
    axes.imshow(opaque(image), interpolation="bilinear" if height >= 96 else "nearest")
    axes.set_xlim(-0.5, width - 0.5)
    axes.set_ylim(height - 0.5, -0.5)
    bare(axes)


def draw_landmarks(axes: Axes, landmarks: np.ndarray, color: str = ESTIMATE, size: float = 2.0, lines: bool = True, **options) -> None:
    """Landmarks (K,2) as dots, joined along the lines of their mark-up if it is one of ours."""
    if lines and len(landmarks) in MARKUPS:
        gap = np.full((1, 2), np.nan)  # so that all lines are one to matplotlib, which draws faster
        joined = np.concatenate([part for line in MARKUPS[len(landmarks)].lines for part in (landmarks[line], gap)])
        axes.plot(*joined.T, color=color, linewidth=0.8, alpha=0.75)
    axes.plot(*landmarks.T, linestyle="none", marker="o", markersize=size, color=color, markeredgewidth=0, **options)


@styled
def show_faces(
    faces: Any,
    landmarks: Any = None,
    *,
    truth: Any = None,
    captions: Sequence[str] = (),
    rows: Sequence[str] = (),
    columns: int = 8,
    width: float = 9.0,
    lines: bool = True,
    title: str = "",
    frame: bool = False,
) -> Picture:
    """Faces in a grid.

    Args:
        faces: a `FaceBatch` (drawn with its landmarks unless others are given) or images as `as_rgb` takes them.
        landmarks: (B,K,2) pixels, or a list of (K,2) with its own K for each face, drawn in orange: the estimate; `()` draws none.
        truth: (B,K,2) pixels, drawn in light blue under the estimate.
        captions: one line per face, or none.
        rows: a name for each row of the grid, written on its left.
        columns: faces per row at most.
        width: inches.
        lines: join the landmarks along the lines of their mark-up.
        frame: a thin frame around each face, where white at its border would melt into the page.

    Raises:
        ValueError: landmarks or captions do not match the faces in number, or there is not one name per row.
    """
    if isinstance(faces, FaceBatch):
        landmarks = faces.landmarks if landmarks is None and truth is None else landmarks
        faces = faces.images
    images = as_rgb(faces)
    layers = [
        ([as_array(face) for face in points], color)
        for points, color in ((truth, TRUTH), (landmarks, ESTIMATE))
        if points is not None and len(points)
    ]
    for name, given in [("landmarks", points) for points, _ in layers] + [("captions", captions)]:
        if len(given) not in (0, len(images)):
            raise ValueError(f"There are {len(images)} faces but {name} for {len(given)}; give one per face.")
    columns = max(1, min(columns, len(images)))
    count = -(-len(images) // columns)
    if len(rows) not in (0, count):
        raise ValueError(f"There are {count} rows of faces but names for {len(rows)}; give one per row.")
    cell = width / columns
    caption = 0.22 * (1 + max(c.count("\n") for c in captions)) if len(captions) else 0
    height = count * (cell * images.shape[1] / images.shape[2] + caption)
    picture, grid = new_picture(width, height + (0.3 if title else 0), count, columns)
    for index, axes in enumerate(grid.flat):
        if index >= len(images):
            axes.set_axis_off()
            continue
        draw_face(axes, images[index])
        if frame:
            axes.spines[:].set(visible=True, color="#999999", linewidth=0.6)
        for points, color in layers:
            known = points[index][np.isfinite(points[index]).all(axis=1)]
            extent = float(np.ptp(known, axis=0).max()) if len(known) else 0.0
            reach = 72 * cell * extent / images.shape[2]  # size of the face on the page, points
            smallest = 6.0 if len(known) <= 10 and not lines else 1.2  # a handful of loose points must not vanish in the picture
            draw_landmarks(axes, points[index], color, size=float(np.clip(0.025 * reach, smallest, max(4.0, smallest))), lines=lines)
        if len(captions):
            axes.set_title(captions[index], fontsize=max(6.5, min(9.0, 6.5 * cell)), pad=2, loc="center")
        if len(rows) and index % columns == 0:
            axes.set_ylabel(rows[index // columns], fontsize=9)
    if title:
        picture.suptitle(title, x=0.01, ha="left", fontsize=10)
    picture.get_layout_engine().set(w_pad=0.02, h_pad=0.02, wspace=0.01, hspace=0.01)  # type: ignore[union-attr]
    return picture


PART_COLORS = np.array(
    [[225, 225, 225], [240, 200, 165], [0, 114, 178], [86, 180, 233], [0, 158, 115], [120, 200, 160], [230, 159, 0], [213, 94, 0],
     [204, 121, 167], [150, 60, 110], [240, 228, 66], [110, 90, 70], [60, 60, 60], [140, 140, 200], [170, 110, 60], [200, 200, 120]],
    dtype=np.uint8,
)  # fmt: skip
"""One colour per part; neighbours on a face differ in lightness as well as in hue."""


def normal_colors(normals: Float[np.ndarray, "H W 3"]) -> UInt8[np.ndarray, "H W 3"]:
    """Surface normals as colours: x, y, z as red, green, blue; white where there is no surface."""
    there = np.abs(normals).sum(-1, keepdims=True) > 0
    return (np.where(there, normals * 0.5 + 0.5, 1.0).clip(0, 1) * 255).astype(np.uint8)


def surface_colors(uv: Float[np.ndarray, "H W 2"]) -> UInt8[np.ndarray, "H W 3"]:
    """Surface coordinates as colours: u, v as red, green, in checks; white where they are NaN."""
    checks = (np.floor(np.nan_to_num(uv) * 16).sum(-1) % 2)[..., None] * 0.25
    color = np.concatenate([np.nan_to_num(uv), np.full_like(uv[..., :1], 0.5)], axis=-1) * 0.75 + checks
    return (np.where(np.isnan(uv[..., :1]), 1.0, color).clip(0, 1) * 255).astype(np.uint8)


@styled
def show_truth(faces: FaceBatch, index: int = 0, *, part_names: Sequence[str] = (), width: float = 9.0) -> Picture:
    """Everything a face knows about itself: image, landmarks, parts, depth, normals, surface coordinates, occluder.

    What the batch does not know (a photograph knows no channels, or not even landmarks) is left out.

    Args:
        faces: rendered faces, or any batch.
        index: which face.
        part_names: `facelab.worlds.faces.PARTS`, for the legend.
        width: inches.
    """
    image = faces.images[index]
    channels = [name for name in ("parts", "occluder", "depth", "normals", "uv") if getattr(faces, name) is not None]
    columns = 4
    rows = -(-(1 + (faces.landmarks is not None) + len(channels)) // columns)
    legends = 0.3 * ("depth" in channels) + 0.45 * ("parts" in channels)
    picture, grid = new_picture(width, rows * (width / columns + 0.3) + legends, rows, columns)
    for axes in grid.flat:
        axes.set_axis_off()
    panels = iter(grid.flat)

    def panel(title: str) -> Axes:
        axes = next(panels)
        axes.set_axis_on()
        return bare(axes, title)

    draw_face(panel("image"), image)
    if faces.landmarks is not None:
        points = faces.landmarks[index]
        seen = faces.visible[index] if faces.visible is not None else np.ones(len(points), dtype=bool)
        axes = panel(f"{len(points)} landmarks" + ("" if seen.all() else f", {int((~seen).sum())} hidden"))
        draw_face(axes, (image * 0.5 + 110).astype(np.uint8))
        draw_landmarks(axes, points, BLACK, size=0)
        axes.plot(*points[seen].T, "o", markersize=3, color="#0072B2", markeredgewidth=0)
        axes.plot(*points[~seen].T, "o", markersize=3.5, markerfacecolor="none", markeredgecolor="#D55E00", markeredgewidth=0.9)
    if "parts" in channels:
        parts = faces.parts[index]  # type: ignore[index]
        panel("parts").imshow(PART_COLORS[parts % len(PART_COLORS)])
        present = np.unique(parts)
        names = [part_names[i] if i < len(part_names) else f"part {i}" for i in present]
        fills = [PART_COLORS[i % len(PART_COLORS)] / 255 for i in present]
        handles = [Patch(color=fill, label=name.replace("_", " ")) for fill, name in zip(fills, names, strict=True)]
        picture.legend(handles=handles, loc="outside lower left", ncols=7, fontsize=7.5, handlelength=1, columnspacing=1.2)
    if "occluder" in channels:
        share = float(faces.occluder[index].mean())  # type: ignore[index]
        axes = panel(f"occluder: {share:.0%} of the image" if share else "occluder: none")
        draw_face(axes, (image * 0.4 + 140).astype(np.uint8))
        axes.imshow(np.ma.masked_equal(faces.occluder[index], False), cmap=mpl.colors.ListedColormap(["#D55E00"]), alpha=0.75)  # type: ignore[index]
    if "depth" in channels:
        depth = np.ma.masked_invalid(faces.depth[index])  # type: ignore[index]
        axes = panel("depth, half head widths")
        shown = axes.imshow(depth, cmap=AMOUNT + "_r")
        picture.colorbar(shown, ax=axes, location="bottom", fraction=0.06, pad=0.02)
    if "normals" in channels:
        panel("normals: x, y, z as r, g, b").imshow(normal_colors(faces.normals[index]))  # type: ignore[index]
    if "uv" in channels:
        panel("surface (u, v) as r, g, checked").imshow(surface_colors(faces.uv[index]))  # type: ignore[index]
    return picture

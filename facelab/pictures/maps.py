"""Attention maps over faces, score maps in a strip, and matrices between landmarks."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, UInt8
from matplotlib import colormaps
from matplotlib.axes import Axes
from PIL import Image

from facelab.markups import MARKUPS
from facelab.pictures.attributions import blended, outlines
from facelab.pictures.faces import draw_face
from facelab.pictures.style import ESTIMATE, HEAT, SIGNED, TRUTH, Picture, as_array, as_rgb, bare, new_picture, opaque, styled

_HEAT_COLORS = colormaps[HEAT](np.arange(256))[:, :3]


def expectation(map_: np.ndarray, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Mean (2,) and covariance (2,2) of a map (h,w) of weights, in pixels of the image (height, width) it covers.

    A map coarser than the image has its pixel centres at ((i + 0.5) * width / w - 0.5); negative weights count as none.
    """
    weights = np.maximum(map_.astype(np.float64), 0)
    weights /= max(weights.sum(), 1e-12)
    y, x = np.indices(map_.shape)
    at = np.stack([(x + 0.5) * width / map_.shape[1] - 0.5, (y + 0.5) * height / map_.shape[0] - 0.5], axis=-1)
    mean = np.einsum("hw,hwd->d", weights, at)
    off = at - mean
    return mean, np.einsum("hw,hwd,hwe->de", weights, off, off)


def entropy(map_: np.ndarray) -> float:
    """Entropy of a map of weights in bits: 0 if it is sure of one pixel, log2(h w) if it knows nothing."""
    weights = np.maximum(map_.astype(np.float64), 0).ravel()
    weights = weights[weights > 0] / max(weights.sum(), 1e-12)
    return float(max(0.0, -(weights * np.log2(weights)).sum()))


def draw_map(axes: Axes, image: np.ndarray, map_: np.ndarray, strength: float = 0.85) -> None:
    """A map (h,w), scaled to its own maximum, over a paled gray image (H,W,3) of the same place.

    Blended here, not by matplotlib: one image draws in half the time of two.
    """
    height, width = image.shape[:2]
    finer = max(1, 256 // max(height, width))
    gray = np.kron(image.mean(axis=-1) / 255 * 0.55 + 0.4, np.ones((finer, finer)))[..., None]
    heat = (np.maximum(map_, 0) / max(float(map_.max()), 1e-12)).astype(np.float32)
    heat = np.asarray(Image.fromarray(heat).resize((width * finer, height * finer), Image.Resampling.BILINEAR))
    opacity = strength * np.sqrt(heat)[..., None]
    blended = opacity * _HEAT_COLORS[(heat * 255).astype(np.uint8)] + (1 - opacity) * gray
    axes.imshow(opaque((blended * 255).astype(np.uint8)), extent=(-0.5, width - 0.5, height - 0.5, -0.5))
    axes.set_xlim(-0.5, width - 0.5)
    axes.set_ylim(height - 0.5, -0.5)


@styled
def show_maps(
    image: Any,
    maps: Any,
    *,
    landmarks: Sequence[int] | None = None,
    truth: Any = None,
    rows: Sequence[str] = (),
    columns: int = 6,
    width: float = 9.0,
) -> Picture:
    """Attention maps over one face: a row per stage (or network), a column per landmark.

    The cross marks the expectation of the map, the ring the true point; the number is the map's entropy in bits.

    Args:
        image: one image, as `as_rgb` takes a batch of one, or (H,W), (1,H,W) or (H,W,3).
        maps: (S,K,h,w), each map non-negative; or (K,h,w) for one row.
        landmarks: which landmarks to show; by default `columns` of them, spread over the mark-up.
        truth: (K,2) true landmarks, pixels of the image.
        rows: names of the rows; "stage 1", "stage 2", ... by default.
        width: inches.
    """
    maps = as_array(maps)
    maps = maps[None] if maps.ndim == 3 else maps
    face = _one_rgb(image)
    height = face.shape[0]
    count = maps.shape[1]
    if landmarks is None:
        landmarks = np.unique(np.linspace(0, count - 1, min(columns, count)).round().astype(int)).tolist()
    names = MARKUPS[count].names if count in MARKUPS else [f"landmark {i}" for i in range(count)]
    rows = rows or [f"stage {i + 1}" for i in range(len(maps))]
    cell = width / (len(landmarks) + 0.25)
    picture, grid = new_picture(width, len(maps) * cell + 0.35, len(maps), len(landmarks))
    for row, stage in enumerate(maps):
        for column, landmark in enumerate(landmarks):
            axes = bare(grid[row, column])
            draw_map(axes, face, stage[landmark])
            if truth is not None:
                axes.plot(*as_array(truth)[landmark], "o", markersize=8, markerfacecolor="none", markeredgecolor=TRUTH, markeredgewidth=1.4)
            mean, _ = expectation(stage[landmark], height, face.shape[1])
            axes.plot(*mean, "+", markersize=8, markeredgewidth=1.4, color=ESTIMATE)
            axes.text(0.97, 0.03, f"{entropy(stage[landmark]):.1f} bit", transform=axes.transAxes, fontsize=7, ha="right", va="bottom",
                      bbox={"facecolor": "white", "alpha": 0.75, "linewidth": 0, "pad": 1.2})  # fmt: skip
            if row == 0:
                name = f"{landmark} {names[landmark].replace('_', ' ')}"
                axes.set_title(name, fontsize=max(6.0, min(8.5, 5.2 * cell)), loc="center", pad=3)
            if column == 0:
                axes.set_ylabel(rows[row], fontsize=9)
    picture.get_layout_engine().set(w_pad=0.02, h_pad=0.02, wspace=0.01, hspace=0.01)  # type: ignore[union-attr]
    return picture


@styled
def show_map(
    image: UInt8[np.ndarray, "H W 3"],
    map_: Float[np.ndarray, "h w"],
    *,
    truth: Bool[np.ndarray, "H W"] | None = None,
    opacity: float = 0.85,
    heading: str = "image",
    name: str = "map",
    unit: str = "weight",
) -> Picture:
    """One image, and a map over it with its colour bar: heat from zero, or two colours around zero if some of it is negative.

    Args:
        image: what is looked at.
        map_: values, coarser or finer than the image they cover.
        truth: the region where the map should lie, outlined in light blue.
        opacity: of the map, 0..1.
        heading, name: titles of image and map.
        unit: of the map's values.
    """
    height, width = image.shape[:2]
    signed, reach = bool(map_.min() < 0), max(float(np.abs(map_).max()), 1e-12)
    picture = Picture(figsize=(8.2, 3.75))  # fixed places: laying out anew would take half of the time
    places = [(0.005, 0.02, 0.425, 0.9), (0.445, 0.02, 0.425, 0.9), (0.885, 0.06, 0.018, 0.82)]
    left, right, bar = (picture.add_axes(place) for place in places)
    draw_face(left, image)
    if signed:
        fine = np.asarray(Image.fromarray(map_.astype(np.float32)).resize((width, height), Image.Resampling.BILINEAR))
        draw_face(right, blended(image, fine, reach, opacity))
    else:
        draw_map(right, image, map_, opacity)
    bare(left, heading, y=1)
    bare(right, name, y=1)
    if truth is not None and truth.any():
        for axes in (left, right):
            axes.plot(*(outlines(np.pad(truth, 1)) - 1).T, color=TRUTH, linewidth=1.6)
    scale = np.linspace(-reach if signed else 0, reach, 256)
    colors = colormaps[SIGNED if signed else HEAT](np.arange(256), bytes=True)
    bar.imshow(colors[:, None], extent=(0, 1, scale[0], scale[-1]), aspect="auto", origin="lower")
    bar.set_xticks([])
    bar.set_ylabel(unit)
    bar.yaxis.set_label_position("right")
    bar.yaxis.tick_right()
    bar.locator_params(axis="y", nbins=5)
    return picture


def _one_rgb(image: Any) -> np.ndarray:
    array = as_array(image)
    if array.ndim == 4 or (array.ndim == 3 and array.shape[0] == 1):
        return as_rgb(array)[0]
    return as_rgb(array[None])[0]


@styled
def show_strip(
    panels: dict[str, Any],
    image: Any = None,
    *,
    signed: Sequence[str] = (),
    gray: Sequence[str] = (),
    truth: Any = None,
    outline: Any = None,
    limit: float | None = None,
    columns: int = 6,
    width: float = 9.0,
) -> Picture:
    """Maps (h,w) side by side under their names, each with its own colour bar.

    Args:
        panels: title -> (h,w) map; a map of probabilities is shown from zero (`magma`).
        image: shown first, if given.
        signed: titles of maps of scores, shown in two colours around zero (purple below, orange above).
        gray: titles of pictures among the panels, from black (0) to white (1).
        truth: (2,) the true point in pixels of the panels' finest map, ringed on each panel.
        outline: (h,w) the true region, as a mask of the panels' finest map, outlined on each panel.
        limit: one scale for all signed panels, so that their colours may be compared: from -limit to limit.
        width: inches.
    """
    count = len(panels) + (image is not None)
    columns = min(columns, count)
    rows = -(-count // columns)
    picture, grid = new_picture(width, rows * (width / columns + 0.55), rows, columns)
    places = list(grid.flat)
    for axes in places[count:]:
        axes.set_axis_off()
    finest = max(as_array(panel).shape[0] for panel in panels.values())
    if image is not None:
        axes = places.pop(0)
        draw_face(axes, _one_rgb(image))
        _frame(axes)  # white at the border of an image is not the page
        axes.set_title("image")
        _outline(axes, outline, 1.0)
        space = picture.colorbar(axes.images[0], ax=axes, location="bottom", fraction=0.05, pad=0.03)  # so that all panels align
        space.ax.tick_params(labelsize=6.5)
        space.ax.set_visible(False)
        if truth is not None:
            axes.plot(*as_array(truth), "o", markersize=9, markerfacecolor="none", markeredgecolor=TRUTH, markeredgewidth=1.5)
    for axes, (title, panel) in zip(places, panels.items(), strict=False):
        values = as_array(panel)
        reach = max(float(np.abs(values).max()) if limit is None else limit, 1e-12)
        options: dict[str, Any] = {"cmap": SIGNED, "vmin": -reach, "vmax": reach} if title in signed else {"cmap": HEAT, "vmin": 0}
        if title in gray:
            options = {"cmap": "gray", "vmin": 0, "vmax": 1}
        shown = axes.imshow(values, **options)
        bare(axes, title)
        if title in gray:
            _frame(axes)
        _outline(axes, outline, values.shape[0] / finest)
        if truth is not None:
            at = (as_array(truth) + 0.5) * values.shape[0] / finest - 0.5
            axes.plot(*at, "o", markersize=9, markerfacecolor="none", markeredgecolor=TRUTH, markeredgewidth=1.5)
        bar = picture.colorbar(shown, ax=axes, location="bottom", fraction=0.05, pad=0.03)
        bar.ax.tick_params(labelsize=6.5)
        bar.ax.locator_params(nbins=4)
        bar.outline.set_visible(False)  # type: ignore[operator]
        bar.ax.set_visible(title not in gray)
    return picture


def _frame(axes: Axes) -> None:
    axes.spines[:].set(visible=True, color="#999999", linewidth=0.6)


def _outline(axes: Axes, mask: Any, scale: float) -> None:
    """The border of a mask (h,w) over a map that is `scale` times as fine."""
    if mask is not None:
        height, width = as_array(mask).shape
        x, y = ((np.arange(side) + 0.5) * scale - 0.5 for side in (width, height))
        axes.contour(x, y, as_array(mask).astype(float), levels=[0.5], colors=[TRUTH], linewidths=0.9)


@styled
def plot_matrix(
    matrix: Any,
    *,
    rows: Sequence[str] | None = None,
    columns: Sequence[str] | None = None,
    title: str = "",
    row_label: str = "",
    column_label: str = "",
    value_label: str = "weight",
    signed: bool = True,
    numbers: bool | None = None,
    number_format: str = ".3g",
    lowest: float = 0.0,
    width: float = 9.0,
) -> Picture:
    """A matrix as colours, for instance the transfer layer from 68 landmarks to 5.

    Rows and columns that count as many as one of our mark-ups are labelled by landmark, or, where there are many, by face region.

    Args:
        matrix: (R,C).
        rows, columns: names, if they are not landmarks.
        value_label: what the colours mean, with its unit.
        signed: two colours around zero, else one from `lowest` up.
        numbers: write the values into the cells; by default if there are at most 80.
        number_format: how, for instance ".2f".
        lowest: where the colours begin if not signed; what is lower looks the same.
        width: inches.

    Raises:
        ValueError: there is nothing to draw, or no matrix.
    """
    values = as_array(matrix).astype(float)
    if values.ndim != 2 or not values.size:
        raise ValueError(f"A matrix of shape {values.shape} cannot be drawn; give (R,C) with at least one row and one column.")
    height, across = values.shape
    limit = max(float(np.abs(values[np.isfinite(values)]).max(initial=0.0)), 1e-12)
    options = {"cmap": SIGNED, "vmin": -limit, "vmax": limit} if signed else {"cmap": "cividis", "vmin": lowest}
    tall = float(np.clip(width * 0.8 * height / across, 0.24 * min(height, 30), 7.0)) + 1.2
    picture, grid = new_picture(width, tall)
    axes = grid[0, 0]
    shown = axes.imshow(values, aspect="auto", **options)
    _name_axis(axes, "x", across, columns)
    _name_axis(axes, "y", height, rows)
    axes.set(xlabel=column_label, ylabel=row_label)
    axes.set_title(title)
    axes.spines[:].set_visible(False)
    if numbers if numbers is not None else values.size <= 80:
        for (i, j), value in np.ndenumerate(values):
            dark = abs(value) > 0.65 * limit if signed else value < (lowest + limit) / 2
            axes.text(j, i, f"{value:{number_format}}", ha="center", va="center", fontsize=8, color="white" if dark else "black")
    picture.colorbar(shown, ax=axes, fraction=0.03, pad=0.01, label=value_label)
    return picture


SLANTED: dict[str, Any] = {"rotation": 45, "ha": "right", "rotation_mode": "anchor"}


def _name_axis(axes: Axes, which: str, count: int, names: Sequence[str] | None) -> None:
    """Ticks of one axis of a matrix: given names, landmark names, or regions with lines between them."""
    axis = axes.xaxis if which == "x" else axes.yaxis
    steep = {"rotation": 90, "ha": "center"} if count > 12 else SLANTED
    if names is not None or (count in MARKUPS and count <= 29):
        labels = list(names if names is not None else MARKUPS[count].names)
        axis.set_ticks(range(count), [label.replace("_", " ") for label in labels], fontsize=7.5, **(steep if which == "x" else {}))
    elif count in MARKUPS:
        regions = MARKUPS[count].regions
        middles = [float(np.mean(points)) for points in regions.values()]
        axis.set_ticks(middles, [name.replace("_", " ") for name in regions], fontsize=7.5, **(SLANTED if which == "x" else {}))
        for points in list(regions.values())[1:]:
            (axes.axvline if which == "x" else axes.axhline)(points[0] - 0.5, color="#bbbbbb", linewidth=0.6)
    axis.set_tick_params(length=0)

"""Faces under a mesh of triangles: how far each is trusted, what it says by itself, and what all say together."""

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from jaxtyping import Float, Int
from matplotlib.axes import Axes
from matplotlib.collections import PolyCollection

from facelab.pictures.faces import draw_face
from facelab.pictures.style import (
    AMOUNT,
    BLACK,
    BLUE,
    GRAY,
    GREEN,
    ORANGE,
    PINK,
    RED,
    SKY,
    Picture,
    as_rgb,
    bare,
    new_picture,
    styled,
)

EXPRESSION_COLORS = (GRAY, ORANGE, BLUE, SKY, PINK, GREEN, RED)
"""Of neutral, happiness, sadness, surprise, fear, disgust and anger."""


def draw_mesh(
    axes: Axes, points: Float[np.ndarray, "points 2"], triangles: Int[np.ndarray, "triangles 3"], *, colors: Any = None, **options: Any
) -> PolyCollection:
    """The triangles of a face, filled with one colour each, or by values if `array`, `cmap` and `clim` are among the options."""
    look = {"edgecolors": "white", "linewidths": 0.4, "alpha": 0.75} | ({} if colors is None else {"facecolors": colors}) | options
    return axes.add_collection(PolyCollection(list(points[triangles]), **look))


@styled
def show_meshes(
    images: Any,
    points: Float[np.ndarray, "faces points 2"],
    triangles: Int[np.ndarray, "triangles 3"],
    values: Float[np.ndarray, "faces triangles"],
    *,
    captions: Sequence[str] = (),
    label: str = "confidence",
    limits: tuple[float, float] = (0.0, 1.0),
    columns: int = 5,
    width: float = 9.6,
) -> Picture:
    """Faces in rows, their triangles coloured by a value each.

    Args:
        images: as `as_rgb` takes them.
        points: (x, y) of the landmarks in pixels.
        triangles: indices of three landmarks each.
        values: of the triangles.
        captions: above each face.
        label: of the colour bar, with the unit.
        limits: of the colours.
        columns: faces in a row.
        width: inches.
    """
    seen = as_rgb(images)
    rows = -(-len(seen) // columns)
    picture, grid = new_picture(width, rows * (0.86 * width / columns + 0.22), rows, columns)
    for number, axes in enumerate(grid.flat):
        if number >= len(seen):
            axes.set_axis_off()
            continue
        draw_face(axes, seen[number])
        filled = draw_mesh(axes, points[number], triangles, array=values[number], cmap=AMOUNT, clim=limits)
        if len(captions):
            axes.set_title(captions[number], loc="center", fontsize=8.5)
    picture.colorbar(filled, ax=grid, label=label, shrink=0.8, pad=0.01, alpha=1)
    return picture


@styled
def show_local_predictions(
    image: np.ndarray,
    points: Float[np.ndarray, "points 2"],
    triangles: Int[np.ndarray, "triangles 3"],
    confidence: Float[np.ndarray, " triangles"],
    predictions: Float[np.ndarray, "triangles classes"],
    votes: Mapping[str, Float[np.ndarray, " classes"]],
    classes: Sequence[str],
    truth: int,
    *,
    width: float = 10.4,
) -> Picture:
    """One face three times: how far each triangle is trusted, which expression it names, and what the forests answer.

    Args:
        image: (H,W,3) of uint8.
        points: (x, y) of the landmarks in pixels.
        triangles: indices of three landmarks each.
        confidence: in each triangle, 0..1.
        predictions: the local expression predictions.
        votes: name of a forest -> its answer.
        classes: names of the expressions, in the order of `EXPRESSION_COLORS`.
        truth: index of the true one.
        width: inches.
    """
    height = 3.6
    picture = Picture(figsize=(width, height))  # placed by hand: a layout engine would take longer than everything else
    side = 0.86 * height / width
    left, middle = (picture.add_axes((0.01 + k * (side + 0.02), 0.04, side, 0.86)) for k in range(2))
    draw_face(left, image)
    left.set_title("confidence in each triangle, dark 0, yellow 1")  # a bar of its colours takes a tenth of the time
    draw_mesh(left, points, triangles, array=confidence, cmap=AMOUNT, clim=(0, 1))
    draw_face(middle, image)
    middle.set_title("what each triangle says, faint: unsure")
    likeliest = predictions.argmax(axis=1)
    colors = mpl.colors.to_rgba_array([EXPRESSION_COLORS[c] for c in likeliest])
    colors[:, 3] = np.clip((predictions.max(axis=1) - 1 / len(classes)) / 0.5, 0.08, 0.9)
    draw_mesh(middle, points, triangles, colors=colors, alpha=None)
    right = picture.add_axes((2 * side + 0.145, 0.2, 0.96 - 2 * side - 0.145, 0.72))
    share = 0.8 / len(votes)
    for number, (name, probabilities) in enumerate(votes.items()):
        place = np.arange(len(classes)) + (number - (len(votes) - 1) / 2) * share
        color = ("#c4c4c4", GRAY, BLACK)[number % 3]  # no hue, since hues name expressions
        right.barh(place, probabilities, share, color=color)
        for text, ink in ((f"    {name}", BLACK), ("■", color)):
            picture.text(2 * side + 0.03 + 0.12 * number, 0.025, text, color=ink, fontsize=7)
    right.set_yticks(range(len(classes)), [f"{name} (true)" if k == truth else name for k, name in enumerate(classes)])
    for tick, color in zip(right.get_yticklabels(), EXPRESSION_COLORS, strict=False):
        tick.set_bbox({"facecolor": color, "alpha": 0.45, "edgecolor": "none", "pad": 1.2})
    right.invert_yaxis()
    right.set(xlim=(0, 1), xticks=(0, 0.5, 1), xlabel="probability")
    right.set_title("what the forests say")
    return picture


@styled
def show_patches(
    mean: Float[np.ndarray, "points 2"], triangles: Int[np.ndarray, "triangles 3"], patches: Sequence[np.ndarray], captions: Sequence[str]
) -> Picture:
    """The mean face with some of its triangles filled, patch by patch."""
    picture, grid = new_picture(9.6, 2.1, 1, len(patches))
    for axes, patch, caption in zip(grid[0], patches, captions, strict=True):
        colors = [ORANGE if inside else "#eeeeee" for inside in patch]
        draw_mesh(axes, mean, triangles, colors=colors, alpha=1, edgecolors="#999999")
        axes.set(xlim=(mean[:, 0].min() - 1, mean[:, 0].max() + 1), ylim=(mean[:, 1].max() + 1, mean[:, 1].min() - 1), aspect="equal")
        bare(axes, caption, fontsize=8.5)
    return picture

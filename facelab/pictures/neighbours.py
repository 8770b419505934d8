"""A query and its nearest neighbours in a space of features."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float, UInt8
from PIL import Image

from facelab.pictures.style import BLUE, ESTIMATE, GREEN, PINK, Picture, bare, opaque, styled

TILE, GAP, COLUMNS = 64, 8, 4
"""Pixels of a small image and between two; neighbours in a row."""
STEP = TILE + GAP + 14
"""From one row of small images to the next, pixels."""
ASIDE = 2 * TILE + 3 * GAP
"""Where the neighbours begin, pixels from the left: before them stands the query, twice as large."""


def neighbour_at(x: float, y: float) -> int | None:
    """Which neighbour's image lies at (x, y) of the data of the first axes of `show_neighbours`."""
    column, row = (x - ASIDE) // (TILE + GAP), y // STEP
    return int(row * COLUMNS + column) if 0 <= column < COLUMNS and 0 <= row < 2 else None


@styled
def show_neighbours(
    query: UInt8[np.ndarray, "H W 3"],
    neighbours: UInt8[np.ndarray, "k H W 3"],
    captions: Sequence[str],
    same: Bool[np.ndarray, " k"] | None,
    plane: Float[np.ndarray, "N 2"],
    places: Sequence[int],
    *,
    heading: str = "query",
    label: str = "principal component",
) -> Picture:
    """A query, up to eight neighbours under captions, and where they lie among all samples.

    Args:
        query, neighbours: images.
        captions: one per neighbour.
        same: whether each has the query's label: a green frame, else a pink, dashed one.
        plane: the samples' two coordinates.
        places: of the query and then its neighbours among the samples.
        heading: above the query.
        label: of the two coordinates, which are numbered.
    """
    picture = Picture(figsize=(9.0, 3.3))  # fixed places: laying out anew would take half of the time
    wide, tall = ASIDE + COLUMNS * (TILE + GAP), 2 * STEP
    sheet = np.full((tall, wide, 3), 255, dtype=np.uint8)
    axes = bare(picture.add_axes((0.005, 0.03, 0.615, 0.88), xlim=(-1, wide), ylim=(tall, -18)))
    corners = [(GAP, 0), *((ASIDE + i % COLUMNS * (TILE + GAP), i // COLUMNS * STEP) for i in range(len(neighbours)))]
    for (x, y), image, side in zip(corners, [query, *neighbours], [2 * TILE] + [TILE] * len(neighbours), strict=True):
        sheet[y : y + side, x : x + side] = np.asarray(Image.fromarray(image).resize((side, side), Image.Resampling.BILINEAR))
    axes.imshow(opaque(sheet), extent=(0, wide, tall, 0), aspect="auto")
    for i, ((x, y), caption) in enumerate(zip(corners, [heading, *captions], strict=True)):
        axes.text(x, y - 2, caption, fontsize=8, va="bottom")
        if i and same is not None:
            color, line = (GREEN, "-") if same[i - 1] else (PINK, "--")
            axes.plot(x + TILE * np.array([0, 1, 1, 0, 0]), y + TILE * np.array([0, 0, 1, 1, 0]), line, color=color, linewidth=2.2)
    cloud = picture.add_axes((0.675, 0.145, 0.315, 0.765), xlabel=f"{label} 1", ylabel=f"{label} 2")
    cloud.plot(*plane.T, ".", color="#c4c4c4", markersize=3)
    cloud.plot(*plane[list(places[1:])].T, "o", color=BLUE, markersize=4.5)
    cloud.plot(*plane[places[0]], "*", color=ESTIMATE, markersize=13, markeredgecolor="black", markeredgewidth=0.6)
    cloud.locator_params(nbins=4)
    cloud.set_title("star: the query; blue: its neighbours", y=1)
    return picture

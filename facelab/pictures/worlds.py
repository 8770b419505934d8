"""What worlds need beside faces in a grid: mark-ups side by side, flow between two pictures, how sampled factors spread."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from facelab.pictures.faces import draw_face, draw_landmarks
from facelab.pictures.style import BLUE, ESTIMATE, PALETTE, Picture, as_array, as_rgb, new_picture, styled


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

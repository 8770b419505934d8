"""A face and its shape after every stage of a cascade."""

from collections.abc import Mapping

import numpy as np
from jaxtyping import Float, UInt8

from facelab.pictures.faces import draw_face, draw_landmarks
from facelab.pictures.style import BLACK, ORANGE, PINK, TRUTH, Picture, new_picture, styled

KINDS = {"P": ("parametric", PINK), "E": ("explicit", ORANGE)}


@styled
def show_stages(
    image: UInt8[np.ndarray, "H W 3"],
    path: Float[np.ndarray, "stages K 2"],
    truth: Float[np.ndarray, "K 2"],
    plan: str,
    errors: Float[np.ndarray, " stages"],
    *,
    stage: int | None = None,
) -> Picture:
    """A strip: the start in white, then the shape after each stage in the colour of its kind, the truth in light blue under all.

    Args:
        image: the face.
        path: shapes, pixels; the start first.
        truth: pixels.
        plan: kind of each stage, "P" parametric (pink) or "E" explicit (orange).
        errors: of each shape, percent of the distance between the eyes.
        stage: framed, with arrows from where its points came; 0 is the start; none by default.
    """
    picture = Picture(figsize=(10.4, 10.4 / len(path) + 0.15))  # fixed places: laying out anew would take half of the time
    width = 1 / len(path)
    for index, shape in enumerate(path):
        name, color = KINDS[plan[index - 1]] if index else ("start", "white")
        axes = picture.add_axes((index * width + 0.004, 0.01, width - 0.008, 0.86))
        draw_face(axes, image)
        draw_landmarks(axes, truth, TRUTH, size=3.5, lines=False)
        draw_landmarks(axes, shape, color, size=3.0)
        axes.set_title(f"{index}: {name}, error {errors[index]:.1f} %", color=color if index else BLACK, y=1.0)
        if index == stage:
            axes.spines[:].set(visible=True, color="black", linewidth=2.5)
            if index:
                move = shape - path[index - 1]
                axes.quiver(*path[index - 1].T, *move.T, angles="xy", scale_units="xy", scale=1, color="white", width=0.006)
    return picture


@styled
def plot_decisions(decisions: Mapping[str, Float[np.ndarray, " N"]]) -> Picture:
    """How sure nodes are: the share of decisions in each twentieth from 0 (right) to 1 (left), one line a name."""
    picture, grid = new_picture(6.5, 2.8)
    axes = grid[0, 0]
    edges = np.linspace(0, 1, 21)
    for name, values in decisions.items():
        axes.stairs(100 * np.histogram(values, edges)[0] / len(values), edges, label=name, linewidth=1.8)
    axes.set(xlabel="node decision, probability to turn left", ylabel="share of decisions, %", xlim=(0, 1))
    axes.legend(loc="upper center")
    return picture

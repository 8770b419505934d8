"""A soft-argmax between two peaks, and predictions that should move with the image and do not quite."""

from collections.abc import Mapping

import matplotlib as mpl
import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes

from facelab.pictures.faces import draw_face
from facelab.pictures.style import BLUE, ESTIMATE, HEAT, Picture, as_rgb, bare, styled
from facelab.pictures.view import View

Pair = tuple[Float[np.ndarray, "K 2"], Float[np.ndarray, "K 2"]]


def _arrows(axes: Axes, moved: np.ndarray, target: np.ndarray) -> None:
    """From where the prediction should have moved to where it is; labels are in pixels of the image."""
    axes.plot(*target.T, "o", markersize=3.5, color=BLUE, markeredgewidth=0)
    options = {"angles": "xy", "scale_units": "xy", "scale": 1, "color": ESTIMATE, "width": 0.009, "headwidth": 4, "headlength": 4}
    axes.quiver(*target.T, *(moved - target).T, **options)
    axes.plot(*moved.T, "o", markersize=2.5, color=ESTIMATE, markeredgewidth=0)


def _key(picture: Picture) -> None:
    line = mpl.lines.Line2D
    handles = [line([], [], marker="o", linestyle="none", color=color, markersize=4) for color in (BLUE, ESTIMATE)]
    names = ["T f(I), the moved prediction", "f(T I), the prediction on the moved image"]
    picture.legend(handles, names, loc="outside lower center", ncols=2)


@styled
def show_arrows(images: Float[np.ndarray, "N 1 H W"], pairs: Mapping[str, Pair], *, width: float = 7.0) -> Picture:
    """Moved images with arrows from the moved predictions to the predictions on the moved images.

    Args:
        images: T I, one for each pair.
        pairs: name -> (f(T I), T f(I)) in pixels.
        width: inches.
    """
    picture = Picture(figsize=(width, width / len(pairs) + 0.5), layout="constrained")
    panels = picture.subplots(1, len(pairs), squeeze=False)[0]
    for axes, image, (name, (moved, target)) in zip(panels, as_rgb(images), pairs.items(), strict=True):
        draw_face(axes, image)
        _arrows(axes, moved, target)
        axes.set_title(name)
    _key(picture)
    return picture


@styled
def equivariance_view(
    probability: Float[np.ndarray, "h w"], estimate: tuple[float, float], image: Float[np.ndarray, "1 H W"], pairs: Mapping[str, Pair]
) -> View:
    """A map with the soft-argmax on it, beside one moved face with the arrows of several networks.

    Args:
        probability: the map after the softmax.
        estimate: its mean position (x, y) in pixels of the map.
        image: the moved face.
        pairs: name of a network -> (f(T I), T f(I)) in pixels.
    """
    picture = Picture(figsize=(3.1 * (1 + len(pairs)), 3.8), layout="constrained")
    panels = picture.subplots(1, 1 + len(pairs))
    panels[0].imshow(probability, cmap=HEAT, vmin=0)
    panels[0].plot(*estimate, "x", color=BLUE, markersize=13, markeredgewidth=5)
    panels[0].plot(*estimate, "x", color="white", markersize=11, markeredgewidth=2)
    bare(panels[0], "probability; cross: soft-argmax")
    means = {}
    for axes, (name, (moved, target)) in zip(panels[1:], pairs.items(), strict=True):
        draw_face(axes, as_rgb(image[None])[0])
        _arrows(axes, moved, target)
        means[name] = float(np.linalg.norm(moved - target, axis=-1).mean())
        axes.set_title(f"{name}: {means[name]:.2f} px")
    _key(picture)
    text = f"The soft-argmax lies at ({estimate[0]:.1f}, {estimate[1]:.1f}) px; f(T I) is off T f(I) by "
    return View(picture, text + ", ".join(f"{mean:.2f} px ({name})" for name, mean in means.items()) + " on average.")

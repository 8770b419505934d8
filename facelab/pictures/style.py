"""The house style: one palette, one font size, figures that show themselves in a notebook without pyplot.

Colours are those of Okabe and Ito (2008), told apart by people with any common colour blindness; maps use `magma` and `cividis`,
signed values `PuOr`, all of which read in grey too.
"""

from collections.abc import Callable
from functools import wraps
from io import BytesIO
from typing import Any, ParamSpec, TypeVar

import matplotlib as mpl
import numpy as np
from cycler import cycler
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

BLUE, ORANGE, GREEN, PINK, SKY, RED, YELLOW, BLACK = (
    "#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442", "#222222",
)  # fmt: skip
PALETTE = (BLUE, ORANGE, GREEN, PINK, SKY, RED, BLACK, YELLOW)
GRAY = "#8a8a8a"
ESTIMATE, TRUTH = ORANGE, SKY
"""Everywhere in the course: orange is what a network says, light blue is the truth."""

HEAT, SIGNED, AMOUNT = "magma", "PuOr_r", "cividis"

STYLE: dict[str, Any] = {
    "figure.dpi": 96,
    "figure.facecolor": "white",
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "axes.titlesize": 9.5,
    "axes.titlelocation": "left",
    "axes.labelsize": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#666666",
    "axes.prop_cycle": cycler(color=PALETTE),
    "axes.grid": False,
    "grid.color": "#dddddd",
    "grid.linewidth": 0.6,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "legend.frameon": False,
    "legend.fontsize": 8,
    "lines.linewidth": 1.6,
    "image.interpolation": "nearest",
    "svg.hashsalt": "facelab",
}


P = ParamSpec("P")
R = TypeVar("R")


class Picture(Figure):
    """A matplotlib figure outside pyplot: shown once by a notebook, twice as sharp as its size, and never left open."""

    def __init__(self, *arguments, **options):
        super().__init__(*arguments, **options)
        FigureCanvasAgg(self)

    def __repr__(self) -> str:
        titles = [axes.get_title(loc="left") for axes in self.axes]
        return f"<picture: {'; '.join(filter(None, titles)) or f'{len(self.axes)} axes'}>"

    def png(self, dpi: float = 96) -> bytes:
        """The picture as a PNG file of `dpi` pixels per inch."""
        with mpl.rc_context(STYLE):
            buffer = BytesIO()
            self.savefig(buffer, format="png", dpi=dpi, metadata={"Software": None})
        return buffer.getvalue()

    def rgb(self, dpi: float = 96) -> np.ndarray:
        """The picture as an array (height, width, 3) of uint8."""
        with mpl.rc_context(STYLE):
            self.set_dpi(dpi)
            self.canvas.draw()
            shown = self.canvas.buffer_rgba()  # type: ignore[attr-defined]
            return np.array(Image.frombuffer("RGBA", shown.shape[1::-1], shown, "raw", "RGBA", 0, 1).convert("RGB"))

    def _repr_png_(self):
        width, height = (self.get_size_inches() * 96).round().astype(int)
        return self.png(dpi=144), {"width": int(width), "height": int(height)}


def styled(function: Callable[P, R]) -> Callable[P, R]:
    """Decorator: the function draws in the house style, whatever the notebook has set."""

    @wraps(function)
    def wrapper(*arguments: P.args, **options: P.kwargs) -> R:
        with mpl.rc_context(STYLE):
            return function(*arguments, **options)

    return wrapper


def new_picture(width: float, height: float, rows: int = 1, columns: int = 1, **options) -> tuple[Picture, np.ndarray]:
    """A picture of `width` x `height` inches with a grid of axes, (rows, columns); `options` go to `Figure.subplots`."""
    picture = Picture(figsize=(width, height), layout="constrained")
    return picture, picture.subplots(rows, columns, squeeze=False, **options)


def bare(axes: Axes, title: str = "", **options) -> Axes:
    """Axes for an image: no ticks, no frame."""
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set_visible(False)
    if title:
        axes.set_title(title, **options)
    return axes


def opaque(image: np.ndarray) -> np.ndarray:
    """A uint8 image (H,W,3) with the alpha channel that matplotlib would add slowly: so it draws in half the time."""
    return np.dstack([image, np.full(image.shape[:2], 255, dtype=np.uint8)])


def as_array(values: Any) -> np.ndarray:
    """A numpy array from an array or a torch tensor on any device, gradient or not."""
    return np.asarray(values.detach().cpu() if hasattr(values, "detach") else values)


def as_rgb(images: Any) -> np.ndarray:
    """Images (B,H,W), (B,1,H,W), (B,3,H,W) in [0,1] or (B,H,W,3) in uint8, as uint8 (B,H,W,3).

    Raises:
        ValueError: the shape is none of these.
    """
    array = as_array(images)
    if array.ndim == 4 and array.shape[1] in (1, 3) and array.shape[-1] != 3:
        array = array.transpose(0, 2, 3, 1)
    if array.ndim == 3:
        array = array[..., None]
    if array.ndim != 4 or array.shape[-1] not in (1, 3):
        raise ValueError(f"Images of shape {as_array(images).shape} cannot be drawn; give (B,H,W), (B,1,H,W), (B,3,H,W) or (B,H,W,3).")
    if array.dtype != np.uint8:
        array = (np.clip(array.astype(np.float32), 0, 1) * 255).round().astype(np.uint8)
    return np.repeat(array, 3, axis=-1) if array.shape[-1] == 1 else array

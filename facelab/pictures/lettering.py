"""Many short texts drawn as outlines: tens of times as fast as matplotlib's own text, for pictures that must follow a slider."""

from functools import lru_cache

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import PathCollection
from matplotlib.font_manager import FontProperties
from matplotlib.patches import PathPatch
from matplotlib.path import Path
from matplotlib.textpath import TextPath
from matplotlib.transforms import Affine2D

SHARE = {"left": 0.0, "center": 0.5, "right": 1.0}


@lru_cache(maxsize=8192)
def outline(
    text: str, size: float, bold: bool = False, align: str = "left", angle: float = 0.0, shift: tuple[float, float] = (0.0, 0.0)
) -> Path:
    """The outlines of a text, in points around the place it is written at: half-way up its capitals.

    It turns by `angle` degrees about that place, and is then shifted.
    """
    path = TextPath((0, 0), text, size=size, prop=FontProperties(family="DejaVu Sans", weight="bold" if bold else "normal"))
    width = float(path.vertices[:, 0].max()) if len(path.vertices) else 0.0
    return Affine2D().translate(-SHARE[align] * width, -0.365 * size).rotate_deg(angle).translate(*shift).transform_path(path)


def write(
    axes: Axes,
    x: float,
    y: float,
    text: str,
    *,
    size: float = 8.5,
    color: str = "black",
    align: str = "left",
    weight: str = "normal",
    rotation: float = 0,
) -> None:
    """A line of text at once, on axes whose data are inches with y pointing down.

    Args:
        x, y: of its left end, middle or right end, as `align` says "left", "center" or "right"; the middle of its height.
        size: points.
        weight: "normal" or "bold".
        rotation: degrees, counter-clockwise.
    """
    if text.strip():
        path = outline(text, size, weight == "bold", align, rotation)
        line = Path(path.vertices * (1 / 72, -1 / 72) + (x, y), path.codes)
        # Not `add_patch`, which measures every curve.
        axes.add_artist(PathPatch(line, facecolor=color, linewidth=0, zorder=6, gid=text))


class Lettering:
    """Collects texts for axes; `write` draws them all at once."""

    def __init__(self, axes: Axes):
        self.axes = axes
        self.texts: list[str] = []
        self._paths: list[Path] = []
        self._places: list[tuple[float, float]] = []
        self._colors: list[str] = []

    def say(
        self, x: float, y: float, text: str, size: float = 7.5, color: str = "black", align: str = "left", *, bold: bool = False,
        angle: float = 0.0, shift: tuple[float, float] = (0.0, 0.0), width: float = 0.0,
    ) -> None:  # fmt: skip
        """Write at (x, y) of the axes' data, its middle in height; `shift` moves it by points, `align` is left, center or right.

        A text wider than `width` inches is shortened.
        """
        if not text:
            return
        text = fitted(text, 72 * width, size, bold) if width else text
        self._paths.append(outline(text, size, bold, align, angle, shift))
        self._places.append((x, y))
        self._colors.append(color)
        self.texts.append(text)

    def write(self) -> None:
        """Draw everything said so far."""
        letters = PathCollection(
            self._paths,
            offsets=np.array(self._places).reshape(-1, 2),
            offset_transform=self.axes.transData,
            facecolors=self._colors,
            linewidths=0,
            clip_on=False,
            snap=False,  # else a dash falls between two pixels and is gone
            gid="texts",
            label="\n".join(self.texts),
        )
        letters.set_transform(Affine2D().scale(1 / 72) + self.axes.figure.dpi_scale_trans)
        self.axes.add_collection(letters, autolim=False)


@lru_cache(maxsize=8192)
def fitted(text: str, width: float, size: float, bold: bool = False) -> str:
    """The text, its middle left out as far as it takes to be at most so many points wide."""
    kept = len(text)
    while kept > 1 and float(outline(text, size, bold).vertices[:, 0].max()) > width:
        kept -= 1
        text = text[: kept // 2] + "…" + text[len(text) - (kept - kept // 2) + 1 :]
    return text

"""Text for pictures that are redrawn under a slider."""

from functools import lru_cache

import numpy as np
from matplotlib.axes import Axes
from matplotlib.font_manager import FontProperties
from matplotlib.patches import PathPatch
from matplotlib.path import Path as Outline
from matplotlib.textpath import TextPath

from facelab.pictures.style import BLACK, STYLE


@lru_cache(maxsize=512)
def _glyph(letter: str, weight: str) -> tuple[Outline, float]:
    """Outline of a letter of size 1, and how far the next one stands off."""
    font = FontProperties(family=STYLE["font.family"], weight=weight)

    def wide(text: str) -> float:
        return TextPath((0, 0), text, size=1, prop=font).get_extents().width

    outline = Outline(np.empty((0, 2))) if letter.isspace() else TextPath((0, 0), letter, size=1, prop=font)
    return outline, wide(f"|{letter}|") - wide("||")


def write(
    axes: Axes,
    x: float,
    y: float,
    text: str,
    *,
    size: float = 8.5,
    color: str = BLACK,
    align: str = "left",
    weight: str = "normal",
    rotation: float = 0,
) -> None:
    """A line of text centred on its height, as outlines of letters: it draws many times faster than a matplotlib text.

    Args:
        axes: whose data are inches, y pointing down.
        x, y: of its left end, middle or right end, as `align` says "left", "center" or "right".
        size: points.
        weight: "normal" or "bold".
        rotation: degrees, counter-clockwise.
    """
    glyphs = [_glyph(letter, weight) for letter in text]
    ends = np.cumsum([0.0] + [step for _, step in glyphs])
    start = {"left": 0.0, "center": -ends[-1] / 2, "right": -ends[-1]}[align]
    drawn = [(outline, end) for (outline, _), end in zip(glyphs, ends, strict=False) if len(outline.vertices)]
    if not drawn:
        return
    corners = np.concatenate([outline.vertices + (start + end, -0.36) for outline, end in drawn]) * (size / 72, -size / 72)
    turn = np.radians(rotation)
    corners = corners @ [[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]]
    line = Outline(corners + (x, y), np.concatenate([outline.codes for outline, _ in drawn]))
    # Not `add_patch`, which measures every curve.
    axes.add_artist(PathPatch(line, facecolor=color, linewidth=0, zorder=6, gid=text))

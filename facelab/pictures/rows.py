"""A bar per row of a table, with its interval: for figures that have names and no picture of their own."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from facelab.pictures.style import GRAY, ORANGE, SKY, Picture, styled

LONGEST_NAME = 34


@styled
def plot_rows(
    names: Sequence[str],
    values: Float[np.ndarray, " rows"],
    *,
    low: Float[np.ndarray, " rows"] | None = None,
    high: Float[np.ndarray, " rows"] | None = None,
    label: str = "",
    title: str = "",
) -> Picture:
    """Horizontal bars, the first row on top; above zero in blue, below in orange.

    Args:
        names: of the rows.
        values: of the bars; NaN leaves a bar out.
        low, high: ends of the intervals; none are drawn where they are not given.
        label: of the values, with their unit.
        title: of the picture.
    """
    height = min(4.7, 0.9 + 0.21 * len(names))
    picture = Picture(figsize=(9.0, height))  # axes at a fixed place: a layout that is found anew takes longer than all the rest
    axes = picture.add_axes((0.27, 0.55 / height, 0.7, 1 - 0.85 / height))
    places = np.arange(len(names))
    shown = np.nan_to_num(np.asarray(values, dtype=float))
    axes.barh(places, shown, color=np.where(shown < 0, ORANGE, SKY), height=0.7)
    if low is not None and high is not None:
        axes.hlines(places, low, high, color=GRAY, lw=1.2)
    axes.axvline(0, color=GRAY, lw=0.8)
    short = [name if len(name) <= LONGEST_NAME else name[: LONGEST_NAME - 1] + "…" for name in names]
    axes.set_yticks(places, short, fontsize=7.5)
    axes.set(ylim=(len(names) - 0.4, -0.6), xlabel=label, title=title)
    axes.tick_params(axis="y", length=0)
    return picture

"""Signed attribution maps over an image, what each part of it adds up to, and how much of the output is left unexplained."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Integer, Shaped, UInt8
from matplotlib import colormaps
from matplotlib.axes import Axes

from facelab.pictures.lettering import Lettering
from facelab.pictures.style import BLACK, BLUE, GRAY, ORANGE, SIGNED, TRUTH, YELLOW, Picture, opaque, styled

COLORS, INKS = (BLUE, ORANGE), (BLUE, "#9a6a00")
"""Of the bars of the first and the second method, and of text about them."""
_SIDE, _ABOVE, _BELOW, _NAMES, _BARS = 2.35, 0.66, 0.66, 1.0, 1.85
"""Inches: places are fixed, as laying out anew with every redraw would take half of the time."""
_REACH = 1.25
"""How far the bars' axis goes on either side, in longest bars."""


@dataclass(frozen=True)
class Account:
    """How one method accounts for one output on one image."""

    name: str
    map: Float[np.ndarray, "H W"]
    """Signed attribution of every pixel."""
    sums: Float[np.ndarray, " P"]
    """Signed sum over each part."""
    unit: str = "output"
    """Of the sums; "output" if they are shares of the output itself."""
    difference: float | None = None
    """f(x) - f(x'), if the method shares that out."""
    residual: float | None = None
    """Sum of the map - difference: the completeness gap."""
    in_truth: float | None = None
    """Share of the absolute map within the true part, 0..1."""

    @property
    def norm(self) -> float:
        """Euclidean norm of the map."""
        return float(np.linalg.norm(self.map))

    @property
    def limit(self) -> float:
        """Where its own colour scale ends: only one pixel in 200 is stronger, so one outlier does not pale all others."""
        return max(float(np.quantile(np.abs(self.map), 0.995)), 1e-12)


def outlines(labels: Shaped[np.ndarray, "H W"]) -> Float[np.ndarray, "N 2"]:
    """Edges between pixels of different labels as one broken line (x, y), NaN between its pieces: one line draws at once."""
    pieces = []
    for along in ((0.0, 1.0), (1.0, 0.0)):  # edges that stand, edges that lie
        first, second = (labels[:, 1:], labels[:, :-1]) if along[1] else (labels[1:], labels[:-1])
        corner = np.argwhere(first != second)[:, ::-1] + np.array([0.5, -0.5] if along[1] else [-0.5, 0.5])
        pieces.append(np.stack([corner, corner + along, np.full_like(corner, np.nan)], axis=1).reshape(-1, 2))
    return np.concatenate(pieces)


def sheet_corner(column: int, height: int, width: int) -> tuple[float, float]:
    """Where (x, y) the top left pixel of the image in a column of `show_attribution` lies in the data of its first axes."""
    side = max(height, width)
    return column * (side + max(1, round(0.05 * side))) + (side - width) // 2, (side - height) // 2


def blended(image: UInt8[np.ndarray, "H W 3"], map_: Float[np.ndarray, "H W"], limit: float, opacity: float) -> UInt8[np.ndarray, "H W 3"]:
    """A signed map over the paled grey image: purple below zero, orange above; strong pixels cover it first, at opacity 1 all do."""
    gray = (image.mean(axis=-1, keepdims=True) / 255) * 0.75 + 0.2
    share = np.clip(map_ / limit, -1, 1)
    cover = opacity ** (1 - 0.8 * np.abs(share))[..., None] if opacity else 0.0
    return ((cover * colormaps[SIGNED](0.5 + 0.5 * share)[..., :3] + (1 - cover) * gray) * 255).astype(np.uint8)


@styled
def show_attribution(
    image: UInt8[np.ndarray, "H W 3"],
    accounts: Sequence[Account],
    parts: Integer[np.ndarray, "H W"],
    part_names: Sequence[str],
    *,
    truth: Bool[np.ndarray, "H W"] | None = None,
    baseline: UInt8[np.ndarray, "H W 3"] | None = None,
    chosen: int | None = None,
    actual: float | None = None,
    shared: bool = True,
    opacity: float = 0.7,
    heading: str = "image",
    says: str = "",
) -> Picture:
    """An image with its parts, one or two attribution maps over it, and their sums over the parts.

    Args:
        image: what the network saw (or sees, with the chosen part replaced).
        accounts: one or two methods'.
        parts: index of each pixel's part.
        part_names: of each index.
        truth: pixels that can cause the output, outlined in light blue.
        baseline: what the image is compared with; shown where a second map would be.
        chosen: a part, outlined in yellow.
        actual: f(x) - f(x with the chosen part replaced), beside the sums attributed to it.
        shared: one colour scale and one axis for both methods, else each to its own largest value.
        opacity: of the maps, 0..1.
        heading: above the image.
        says: what the network says, under the image.
    """
    height, across = parts.shape
    side = max(height, across)
    inch = side / _SIDE  # in pixels of the image: the unit of the first axes, in which all pictures lie, as one draws faster than three
    corners = np.array([sheet_corner(column, height, across) for column in range(3)])
    right = corners[2][0] - corners[0][0] + side
    wide = right / inch + 0.12
    picture = Picture(figsize=(wide + _NAMES + _BARS + 0.06, _ABOVE + _SIDE + _BELOW))
    size = picture.get_size_inches()
    axes = picture.add_axes((0.06 / size[0], 0, (wide - 0.12) / size[0], 1), label="images")
    axes.set_axis_off()

    limit = max(account.limit for account in accounts)
    limits = [limit if shared else account.limit for account in accounts]
    panels = [image, *(blended(image, a.map, end, opacity) for a, end in zip(accounts, limits, strict=True))]
    titles = [(heading, BLACK), *((f"■ {_short(a.name)}", ink) for a, ink in zip(accounts, INKS, strict=False))]
    if len(panels) == 2 and baseline is not None:
        panels.append(baseline)
        titles.append(("compared with: the baseline x′", GRAY))
    sheet = np.full((side, round(right), 3), 255, dtype=np.uint8)
    for (x, y), panel, (title, color) in zip(corners.astype(int), panels, titles, strict=False):
        sheet[y : y + height, x : x + across] = panel
        axes.text(x - 0.5, -0.5 - 0.47 * inch, title, fontsize=9, color=color)
    axes.imshow(opaque(sheet), aspect="auto")
    for (x, _), account in zip(corners[1:], accounts, strict=False):
        axes.text(x - 0.5, -0.5 - 0.08 * inch, "\n".join(_facts(account)), fontsize=8, color="#444444", linespacing=1.3)
    axes.text(-0.5, side - 0.5 + 0.1 * inch, says, fontsize=8.5, va="top", linespacing=1.35)
    _scales(axes, corners[1:], side, limits[:1] if shared else limits, len(accounts), inch)

    line = outlines(parts)
    axes.plot(*(line + corners[0]).T, color="white", linewidth=0.9, alpha=0.8)
    for mask, color in ((truth, TRUTH), (None if chosen is None else parts == chosen, YELLOW)):
        if mask is not None and mask.any():
            line = outlines(np.pad(mask, 1)) - 1
            all_ = np.concatenate([line + corner for corner in corners[: len(panels)]])
            for stroke, width in (("#333333", 2.3), (color, 1.3)):  # a dark edge: legible on every ground
                axes.plot(*all_.T, color=stroke, linewidth=width, solid_capstyle="projecting")
    axes.set(xlim=(-0.5, right - 0.5), ylim=(side + _BELOW * inch - 0.5, -_ABOVE * inch - 0.5))

    bars = picture.add_axes((wide / size[0], 0, (_NAMES + _BARS) / size[0], 1), label="bars")
    _bars(bars, accounts, np.unique(parts).tolist(), part_names, chosen, actual, shared)
    return picture


def _short(name: str, most: int = 32) -> str:
    """A name that fits above a map."""
    return name if len(name) <= most else f"{name[: most // 2]}…{name[-(most // 2) + 1 :]}"


def _facts(account: Account) -> tuple[str, str]:
    """The two lines above a map."""
    where = "" if account.in_truth is None else f", {account.in_truth:.0%} in true part"
    total = f"sum {_signed(account.sums.sum())}"
    if account.residual is not None:
        total += f", gap {_signed(account.residual)}"
    return f"norm {account.norm:.2g}{where}", total


def _signed(value: float) -> str:
    """Three digits and a true minus."""
    return f"{value:+#.3g}".replace("-", "−").rstrip(".") if abs(value) >= 5e-4 else "0"


def _scales(axes: Axes, corners: Shaped[np.ndarray, "_ 2"], side: int, limits: Sequence[float], count: int, inch: float) -> None:
    """One colour bar under all maps, or one under each."""
    colors = colormaps[SIGNED](np.arange(256), bytes=True)[None, :, :3]
    bottom = side - 0.5
    for index, limit in enumerate(limits):
        left = corners[index][0] - 0.5
        right = corners[count - 1 if len(limits) == 1 else index][0] + side - 0.5
        axes.imshow(opaque(colors), extent=(left, right, bottom + 0.2 * inch, bottom + 0.1 * inch), aspect="auto")
        middle = "0, for both" if count == 2 and len(limits) == 1 else "0"
        for x, align, text in ((left, "left", _signed(-limit)), ((left + right) / 2, "center", middle), (right, "right", _signed(limit))):
            axes.text(x, bottom + 0.23 * inch, text, ha=align, va="top", fontsize=8)


def _bars(
    axes: Axes,
    accounts: Sequence[Account],
    seen: Sequence[int],
    names: Sequence[str],
    chosen: int | None,
    actual: float | None,
    shared: bool,
) -> None:
    """Sums over the parts in sight; under a line their total, the difference it should be, and the gap between them."""
    closing = ["all parts", "f(x) − f(x′)", "gap"] if any(account.difference is not None for account in accounts) else ["all parts"]
    rows = np.arange(len(seen) + len(closing)) + np.r_[np.zeros(len(seen)), np.full(len(closing), 0.5)]
    tables = []
    for account in accounts:
        total = [float(account.sums.sum()), *(np.nan if v is None else v for v in (account.difference, account.residual))]
        tables.append(np.r_[account.sums[list(seen)], total[: len(closing)]])
    reaches = [max(float(np.nanmax(np.abs(table))), 1e-12) for table in tables]
    units = list(dict.fromkeys(account.unit for account in accounts))
    if shared:
        reaches = [max(reaches)] * len(tables)
    thickness = min(0.9, 15 / len(rows))  # more rows, thinner bars
    half = 0.36 / len(tables)
    for index, (table, reach, color) in enumerate(zip(tables, reaches, COLORS, strict=False)):
        y = rows + (2 * index + 1 - len(tables)) * half
        axes.hlines(y, 0, table / reach, color=color, linewidth=(5.2 if len(tables) == 2 else 9) * thickness)
    axes.set_axis_off()
    bottom = rows[-1] + 0.6
    axes.plot([0, 0], [-0.5, bottom], color="#666666", linewidth=0.8)
    axes.plot([-_REACH * 2, _REACH], [len(seen) - 0.25] * 2, color="#bbbbbb", linewidth=0.8)
    axes.plot([-1, -1, 1, 1], [bottom + 0.15, bottom, bottom, bottom + 0.15], color="#666666", linewidth=0.8)
    if chosen in seen and actual is not None and "output" in units:
        reach = reaches[[account.unit for account in accounts].index("output")]
        axes.plot(np.clip(actual / reach, -_REACH, _REACH), list(seen).index(chosen), "D", color=BLACK, markersize=5, clip_on=False)
    words = Lettering(axes)
    labels = [names[part].replace("_", " ") for part in seen] + closing
    for row, label in zip(rows, labels, strict=True):
        picked = chosen in seen and row == list(seen).index(chosen)
        words.say(-_REACH - 0.04, row, label, 8, align="right", bold=bool(picked))
    per_inch = (bottom + 0.6) / (_SIDE + 0.45)
    axes.set_xlim(-_REACH - 2 * _REACH * _NAMES / _BARS, _REACH)
    axes.set_ylim(bottom + 0.49 * per_inch, -0.6 - 0.38 * per_inch)
    words.say(0, -0.6 - 0.17 * per_inch, "sum over each part", 9.5, align="center")
    for x in (-1, 0, 1):
        number = _signed(x * reaches[0]) if shared else f"{x:+d}".replace("-", "−")
        words.say(x, bottom + 0.3 + 0.06 * per_inch, number, 8, align="center")
    label = "of each method's largest" if not shared else units[0] if len(units) == 1 else "units differ"
    words.say(0, bottom + 0.3 + 0.22 * per_inch, label, 8.5, align="center")
    words.write()

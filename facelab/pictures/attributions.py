"""Signed attribution maps over an image, what each part of it adds up to, and how much of the output is left unexplained."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Integer, Shaped, UInt8
from matplotlib import colormaps
from matplotlib.axes import Axes

from facelab.pictures.faces import draw_face
from facelab.pictures.style import BLACK, BLUE, GRAY, ORANGE, SIGNED, TRUTH, YELLOW, Picture, bare, opaque, styled

COLORS = (BLUE, ORANGE)
"""Of the bars of the first and the second method."""
_SIDE, _LEFT, _GAP, _BOTTOM, _NAMES, _BARS, _HEIGHT = 2.35, 0.06, 0.11, 0.68, 0.95, 1.8, 3.72
"""Inches: places are fixed, as laying out anew with every redraw would take half of the time."""


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


def outline(axes: Axes, mask: Bool[np.ndarray, "H W"], color: str, width: float = 1.5) -> None:
    """Outlines a mask, image borders included, in a colour with a dark edge, legible on every ground."""
    line = outlines(np.pad(mask, 1)) - 1
    axes.plot(*line.T, color="#333333", linewidth=width + 1.2, solid_capstyle="projecting")
    axes.plot(*line.T, color=color, linewidth=width, solid_capstyle="projecting")


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
    width = _LEFT + 3 * _SIDE + 2 * _GAP + _NAMES + _BARS + 0.3
    picture = Picture(figsize=(width, _HEIGHT))

    def panel(column: int, pixels: np.ndarray, title: str, color: str = "black") -> Axes:
        left = _LEFT + column * (_SIDE + _GAP)
        axes = picture.add_axes((left / width, _BOTTOM / _HEIGHT, _SIDE / width, _SIDE / _HEIGHT), xticks=[], yticks=[])
        draw_face(axes, pixels)
        picture.text(left / width, (_BOTTOM + _SIDE + 0.42) / _HEIGHT, title, fontsize=9.5, color=color, va="center")
        if truth is not None:
            outline(axes, truth, TRUTH)
        if chosen is not None and (parts == chosen).any():
            outline(axes, parts == chosen, YELLOW)
        return axes

    face = panel(0, image, heading)
    face.plot(*outlines(parts).T, color="white", linewidth=0.9, alpha=0.8, zorder=1.5)
    picture.text(_LEFT / width, (_BOTTOM - 0.14) / _HEIGHT, says, fontsize=8.5, va="top", linespacing=1.35)
    limit = max(account.limit for account in accounts)
    for column, (account, color) in enumerate(zip(accounts, COLORS, strict=False), start=1):
        own = limit if shared else account.limit
        panel(column, blended(image, account.map, own, opacity), f"■ {account.name}", color if color != ORANGE else "#a06f00")
        _say(picture, column, _facts(account), width)
        if not shared or column == 1:
            last = len(accounts) if shared else column
            _scale(picture, column, last, own, width, "for both: " if shared and len(accounts) > 1 else "")
    if len(accounts) == 1 and baseline is not None:
        panel(2, baseline, "compared with: the baseline x′", GRAY)
    left = width - _BARS - 0.12
    bars = picture.add_axes((left / width, 0.42 / _HEIGHT, _BARS / width, (_HEIGHT - 0.75) / _HEIGHT), yticks=[])
    _bars(bars, accounts, np.unique(parts).tolist(), part_names, chosen, actual, shared)
    return picture


def _facts(account: Account) -> str:
    """The line above a map."""
    facts = f"norm {account.norm:.2g}"
    if account.in_truth is not None:
        facts += f", {account.in_truth:.0%} in the true part"
    return facts


def _say(picture: Picture, column: int, text: str, width: float) -> None:
    place = _LEFT + column * (_SIDE + _GAP)
    picture.text(place / width, (_BOTTOM + _SIDE + 0.14) / _HEIGHT, text, fontsize=8.5, va="center", color="#555555")


def _scale(picture: Picture, first: int, last: int, limit: float, width: float, prefix: str) -> None:
    """A colour bar under the maps from column `first` to `last`."""
    left, across = _LEFT + first * (_SIDE + _GAP), (last - first + 1) * (_SIDE + _GAP) - _GAP
    axes = bare(picture.add_axes((left / width, (_BOTTOM - 0.2) / _HEIGHT, across / width, 0.1 / _HEIGHT), xticks=[], yticks=[]))
    axes.imshow(opaque(colormaps[SIGNED](np.arange(256), bytes=True)[None, :, :3]), aspect="auto")
    for x, align, text in ((0, "left", f"−{limit:.2g}"), (0.5, "center", f"{prefix}0"), (1, "right", f"+{limit:.2g}")):
        axes.text(x, -0.5, text, transform=axes.transAxes, ha=align, va="top", fontsize=8)


def _bars(
    axes: Axes, accounts: Sequence[Account], seen: Sequence[int], names: Sequence[str], chosen: int | None, actual: float | None, shared: bool
) -> None:
    """Sums over the parts in sight; under a line their total, the difference it should be, and the gap between them."""
    closing = ["all parts", "f(x) − f(x′)", "gap"] if any(account.difference is not None for account in accounts) else ["all parts"]
    rows = np.arange(len(seen) + len(closing)) + np.r_[np.zeros(len(seen)), np.full(len(closing), 0.5)]
    tables = []
    for account in accounts:
        nothing = np.nan if account.difference is None else account.difference
        total = [float(account.sums.sum()), nothing, np.nan if account.residual is None else account.residual]
        tables.append(np.r_[account.sums[list(seen)], total[: len(closing)]])
    reaches = [max(float(np.nanmax(np.abs(table))), 1e-12) for table in tables]
    reaches = [max(reaches)] * len(tables) if shared else reaches
    half = 0.36 / len(tables)
    for index, (table, reach, color) in enumerate(zip(tables, reaches, COLORS, strict=False)):
        y = rows + (2 * index + 1 - len(tables)) * half
        axes.hlines(y, 0, table / reach, color=color, linewidth=5.2 if len(tables) == 2 else 9)
    axes.axvline(0, color="#666666", linewidth=0.8)
    axes.axhline(len(seen) - 0.25, color="#bbbbbb", linewidth=0.8)
    if chosen is not None and chosen in seen and actual is not None and accounts[0].unit == "output":
        axes.plot(np.clip(actual / reaches[0], -1.2, 1.2), list(seen).index(chosen), "D", color=BLACK, markersize=5)
    labels = [names[part].replace("_", " ") for part in seen] + closing
    for row, label in zip(rows, labels, strict=True):
        picked = chosen is not None and label == names[chosen].replace("_", " ")
        axes.text(-1.28, row, label, fontsize=8, ha="right", va="center", clip_on=False, fontweight="bold" if picked else None)
    axes.set(xlim=(-1.25, 1.25), ylim=(rows[-1] + 0.6, -0.6))
    axes.spines["left"].set_visible(False)
    units = list(dict.fromkeys(account.unit for account in accounts))
    if shared:
        axes.set_xticks([-1, 0, 1], [f"−{reaches[0]:.2g}", "0", f"+{reaches[0]:.2g}"])
    else:
        axes.set_xticks([-1, 0, 1], ["−1", "0", "+1"])
    axes.set_title("signed sum over each part", y=1)
    axes.set_xlabel(units[0] if shared and len(units) == 1 else "each method by its own" if not shared else "units differ", labelpad=1)



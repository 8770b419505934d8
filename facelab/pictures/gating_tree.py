"""What the gating-tree explorer shows: one image's flow through a tree, the answers and favourites of leaves, and what a node asks."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, UInt8
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection

from facelab.pictures.lettering import write
from facelab.pictures.style import BLACK, ESTIMATE, GRAY, SIGNED, SKY, Picture, opaque, styled
from facelab.pictures.trees import Box, draw_leaf_bars, draw_routing, draw_tree, label_bars, node_places, on_sheet, place_colors
from facelab.pictures.view import View

WIDTH, HEIGHT = 9.6, 5.7
"""Of the picture, so that it fits a small screen with its controls; everything lies on a sheet of inches, y downwards."""
FACE: Box = (0.1, 0.36, 1.8, 1.8)
ASKED: Box = (0.1, 2.6, 1.8, 1.8)
TREE: Box = (2.72, 0.5, 6.72, 1.75)
BARS: Box = (2.72, 2.36, 6.72, 0.38)
CURVE: Box = (0.25, 4.71, 1.86, 0.72)
TILE, OWN, FAVOURITE, ENDS = 0.74, 3.11, 3.88, 4.92
"""Side of the small images, and tops of their three rows."""
SLOTS = 8
END_PLACES = TREE[0] + (np.arange(SLOTS) + 0.5) * TREE[2] / SLOTS
"""Middles of the small images in the lowest row, inches."""


@dataclass(frozen=True)
class Flow:
    """One gate's answer to many images: probability to reach every node, heap order, leaves included."""

    reach: Float[np.ndarray, "B all_nodes"]

    @property
    def leaves(self) -> Float[np.ndarray, "B leaves"]:
        return self.reach[:, self.reach.shape[1] // 2 :]

    def goes_left(self, node: int) -> Float[np.ndarray, " B"]:
        """Probability to go left of what reaches an inner node."""
        return self.reach[:, 2 * node - 1] / np.maximum(self.reach[:, node - 1], 1e-300)

    def favourites(self, node: int, count: int) -> list[int]:
        """The images most likely to reach a node, the likeliest first."""
        return np.argsort(-self.reach[:, node - 1], kind="stable")[:count].tolist()


def describe(node: int) -> str:
    """A node in words: how to come there from the root."""
    turns = "".join("→" if turn == "1" else "←" for turn in f"{node:b}"[1:])
    return f"node {node}" + (f" ({turns})" if turns else " (the root)")


def slots(weights: Float[np.ndarray, " leaves"], selected: int | None) -> tuple[list[int], Float[np.ndarray, " slots"]]:
    """The leaves that get small images, from left to right, and where: all of a small tree, else the likeliest and the selected one."""
    count = len(weights)
    if count <= SLOTS:
        return list(range(count)), TREE[0] + (np.arange(count) + 0.5) * TREE[2] / count
    chosen = np.argsort(-weights, kind="stable")[:SLOTS].tolist()
    if selected is not None and selected not in chosen:
        chosen[-1] = selected
    return sorted(chosen), END_PLACES


def end_images(usual: Flow, node: int) -> list[int]:
    """Images at both ends of a node's decision: those likeliest to reach its left child, and, from the right end, its right child.

    Of a leaf: its favourites.
    """
    count = min(SLOTS, len(usual.reach))
    if node > usual.reach.shape[1] // 2:
        return usual.favourites(node, count)
    return usual.favourites(2 * node, (count + 1) // 2) + usual.favourites(2 * node + 1, count // 2)[::-1]


def _place(sheet: Axes, image: UInt8[np.ndarray, "H W 3"], box: Box) -> None:
    """An image in a box of the sheet."""
    left, top, width, height = box
    sheet.imshow(opaque(image), extent=(left, left + width, top + height, top), aspect="auto", interpolation="nearest")


def _row(sheet: Axes, images: Sequence[UInt8[np.ndarray, "H W 3"]], across: Float[np.ndarray, " N"], top: float) -> None:
    """Small images in a row, their middles at `across`: drawn as one, which is faster."""
    high, wide = images[0].shape[:2]
    left, scale = TREE[0], wide / TILE
    strip = np.full((high, round(TREE[2] * scale), 3), 255, dtype=np.uint8)
    for image, middle in zip(images, across, strict=False):
        begin = int(np.clip(round((middle - left - TILE / 2) * scale), 0, strip.shape[1] - wide))
        strip[:, begin : begin + wide] = image
    sheet.imshow(
        opaque(strip), extent=(left, left + strip.shape[1] / scale, top + TILE, top), aspect="auto", interpolation="bilinear", zorder=1
    )


@styled
def gating_tree_view(
    image: UInt8[np.ndarray, "H W 3"],
    flow: Flow,
    index: int,
    node: int,
    collection: UInt8[np.ndarray, "N H W 3"],
    usual: Flow,
    attribution: Float[np.ndarray, "H W"],
    *,
    answer: Float[np.ndarray, "K 2"] | None = None,
    own: Float[np.ndarray, "slots K 2"] | None = None,
    sweep: tuple[str, Float[np.ndarray, " S"]] | None = None,
    title: str = "",
    gate: str = "",
) -> View:
    """The flow of one image through a tree, the answers and favourite images of its leaves, and what one node asks.

    Args:
        image: the one shown.
        flow: of the images it belongs to: the collection, or the sweep; `index` is its place there.
        node: heap number of the node looked at; leaves are nodes too.
        collection, usual: images to choose favourites from, and their flow.
        attribution: what each pixel adds to the node's decision (of a leaf, to the logarithm of its probability).
        answer: the model's landmarks, pixels.
        own: landmarks each leaf of `slots` would give alone.
        sweep: name and values of the factor, if the image is one of a sweep.
        title: what the image is called.
        gate: name of the gate, where there are several.
    """
    reach = flow.reach[index]
    inner = len(reach) // 2
    depth = inner.bit_length()
    leaf = node - inner - 1 if node > inner else None
    weights, usage = flow.leaves[index], usual.leaves.mean(axis=0)
    chosen, across = slots(weights, leaf)
    picture = Picture(figsize=(WIDTH, HEIGHT))
    sheet = picture.add_axes((0, 0, 1, 1), xlim=(0, WIDTH), ylim=(HEIGHT, 0), xticks=[], yticks=[])
    sheet.set_axis_off()

    def say(x: float, y: float, text: str, size: float = 8.5, color: str = BLACK, align: str = "left", weight: str = "normal") -> None:
        write(sheet, x, y, text, size=size, color=color, align=align, weight=weight)

    _place(sheet, image, FACE)
    say(FACE[0], 0.2, title if len(title) <= 28 else title[:27] + "…")
    gray = image.mean(axis=-1, keepdims=True) / 255 * 0.55 + 0.4
    strength = np.abs(attribution) / max(float(np.abs(attribution).max()), 1e-12)
    tint = colormaps[SIGNED](0.5 + 0.5 * np.sign(attribution))[..., :3]
    opacity = 0.9 * np.sqrt(strength)[..., None]
    _place(sheet, (255 * (opacity * tint + (1 - opacity) * gray)).astype(np.uint8), ASKED)
    name = describe(node) if leaf is None else f"leaf {leaf}"
    say(ASKED[0], ASKED[1] - 0.28, f"what {name} looks at")
    say(
        ASKED[0],
        ASKED[1] - 0.1,
        "orange speaks for left, purple for right" if leaf is None else "orange speaks for it, purple against",
        7,
        GRAY,
    )

    draw_tree(sheet, reach, TREE, selected=node)
    full = draw_leaf_bars(sheet, weights, BARS, usage)
    label_bars(sheet, BARS, full, len(weights), named=len(weights) > SLOTS)
    way = f"how this image flows through {gate}" if gate else "how this image flows from the root to the leaves"
    say(TREE[0] - 0.4, 0.2, f"{way}; bars: probability of each leaf, black: mean of the collection")

    colors = place_colors(depth)[inner:]
    low = BARS[1] + BARS[3] + (0.17 if len(weights) <= 16 else 0.04)
    ends = node_places(depth, TREE)[inner:][chosen, 0]
    if len(weights) > SLOTS:
        joins = np.stack([np.stack([ends, np.full(len(ends), low)], 1), np.stack([across, np.full(len(ends), OWN - 0.16)], 1)], axis=1)
        sheet.add_collection(LineCollection(joins, colors=colors[chosen], linewidths=1.1), autolim=False)
    for x, number in zip(across, chosen, strict=True):
        marked = "bold" if number == leaf else "normal"
        say(
            x,
            OWN - 0.08,
            f"leaf {number}: {weights[number]:.0%}" if weights[number] >= 0.005 else f"leaf {number}",
            7,
            align="center",
            weight=marked,
        )
    if own is not None:
        _row(sheet, [image] * len(chosen), across, OWN)
        write(sheet, TREE[0] - 0.12, OWN + TILE / 2, "its own answer", size=7.5, color=GRAY, align="center", rotation=90)
        scale = TILE / image.shape[0]
        corners = np.stack([across - TILE / 2, np.full(len(across), OWN)], axis=1)
        points = (corners[:, None] + (own + 0.5) * scale).clip(corners[:, None], corners[:, None] + TILE)
        sheet.plot(*points.reshape(-1, 2).T, "o", markersize=1.8, color=ESTIMATE, markeredgewidth=0)
    if answer is not None:
        at = np.array(FACE[:2]) + (answer + 0.5) * FACE[2] / image.shape[0]
        sheet.plot(*at.T, "o", markersize=2.6, color=ESTIMATE, markeredgecolor=BLACK, markeredgewidth=0.25)
    _row(sheet, [collection[usual.favourites(inner + 1 + number, 1)[0]] for number in chosen], across, FAVOURITE)
    write(sheet, TREE[0] - 0.12, FAVOURITE + TILE / 2, "its favourite", size=7.5, color=GRAY, align="center", rotation=90)

    _row(sheet, [collection[i] for i in end_images(usual, node)], END_PLACES, ENDS)
    if leaf is None:
        middle = TREE[0] + TREE[2] / 2
        sheet.plot([middle, middle], [ENDS, ENDS + TILE], color=BLACK, linewidth=1.2)
        say(
            TREE[0],
            ENDS - 0.2,
            f"What {name} asks: it sends these left …",
        )
        say(TREE[0] + TREE[2], ENDS - 0.2, "… and these right", align="right")
    else:
        say(TREE[0], ENDS - 0.2, f"favourite images of leaf {leaf}, the likeliest first")

    what = f"P(left) at node {node}" if leaf is None else f"P(leaf {leaf})"
    left, top, width, height = CURVE
    if sweep is not None:
        factor, steps = sweep
        draw_routing(sheet, steps, flow.leaves, CURVE)
        line = on_sheet(CURVE, steps, steps, flow.goes_left(node) if leaf is None else flow.leaves[:, leaf])
        sheet.plot(*line, color="white", linewidth=3, zorder=2)
        sheet.plot(*line, color=BLACK, linewidth=1.2, zorder=2)
        here = on_sheet(CURVE, steps, steps[index], 0)[0]
        ticks, heading, below = (f"{steps[0]:g}", f"{steps[-1]:g}"), f"all leaves; black: {what}", factor
        say(left - 0.06, top, "1", 7, GRAY, "right")
        say(left - 0.06, top + height, "0", 7, GRAY, "right")
    else:
        values = usual.goes_left(node) if leaf is None else usual.leaves[:, leaf]
        count, edges = np.histogram(values, bins=25, range=(0, 1), weights=usual.reach[:, node - 1] if leaf is None else None)
        sheet.stairs(
            top + height * (1 - count / max(float(count.max()), 1e-9)), left + width * edges, baseline=top + height, fill=True, color=SKY
        )
        here = left + width * float(flow.goes_left(node)[index] if leaf is None else weights[leaf])
        ticks, heading, below = ("0", "1"), "all images; orange: this one", what
    sheet.plot([here, here], [top, top + height], color=ESTIMATE, linewidth=2, zorder=3)
    sheet.plot([left, left + width], [top + height] * 2, color=GRAY, linewidth=0.8, zorder=3)
    say(0.1, top - 0.13, heading, 7.5)
    for x, tick, align in zip((left, left + width, left + width / 2), (*ticks, below), ("left", "right", "center"), strict=True):
        say(x, top + height + 0.12, tick, 7, GRAY, align)

    likeliest = int(weights.argmax())
    if leaf is None:
        said = f"{name} is reached with {reach[node - 1]:.1%} and sends {flow.goes_left(node)[index]:.1%} of that left"
    else:
        said = f"leaf {leaf} weighs {weights[leaf]:.1%} here, {usage[leaf]:.1%} on average"
    entropy = float(-(weights * np.log2(np.maximum(weights, 1e-300))).sum())
    title += f", {gate}" if gate else ""
    best = f"likeliest is leaf {likeliest} ({weights[likeliest]:.1%}); entropy over the leaves {entropy:.2f} of {depth} bit"
    return View(picture, f"{title}: {said}; {best}.")

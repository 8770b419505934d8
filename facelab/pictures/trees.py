"""Soft trees: what flows along their branches, where it ends, and how that changes with a factor.

A colour is a place: leaves are coloured from left to right, and a node by the middle of the leaves below it, in every picture of a
tree. Nodes count as in a heap, the root 1, the children of n are 2n (left) and 2n + 1 (right).
"""

from typing import Any

import numpy as np
from jaxtyping import Float
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection, PolyCollection
from matplotlib.patches import Rectangle

from facelab.pictures.lettering import write
from facelab.pictures.style import BLACK, GRAY, Picture, as_array, new_picture, opaque, styled

LEAVES = "viridis"
BRANCHES_TO = 5
"""Deepest tree drawn with branches; deeper ones are drawn as nested bands."""
_T = np.linspace(0, 1, 17)
_ACROSS, _DOWN = _T**2 * (3 - 2 * _T), 1.8 * _T * (1 - _T) ** 2 + 1.2 * _T**2 * (1 - _T) + _T**3
"""A branch as a cubic Bezier curve: how far it has come across and down; it leaves and arrives upright."""

Box = tuple[float, float, float, float]
"""Left, top, width and height, in the data of axes whose y points down."""


def place_colors(depth: int) -> Float[np.ndarray, "all_nodes 4"]:
    """The colour of every node in heap order, leaves last."""
    middles = np.concatenate([(np.arange(2**level) + 0.5) / 2**level for level in range(depth + 1)])
    return colormaps[LEAVES](0.04 + 0.88 * middles)


def node_places(depth: int, box: Box) -> Float[np.ndarray, "all_nodes 2"]:
    """Where each node lies in the box, heap order: leaves at equal distances on its lower edge, the root in the middle of the upper.

    Upper branches, which go further across, also go further down.
    """
    left, top, width, height = box
    lows = np.concatenate([[0.0], np.cumsum(0.75 ** np.arange(depth))])
    across = np.concatenate([(np.arange(2**level) + 0.5) / 2**level for level in range(depth + 1)])
    down = np.concatenate([np.full(2**level, lows[level] / lows[-1]) for level in range(depth + 1)])
    return np.stack([left + across * width, top + down * height], axis=1)


def nearest_node(depth: int, box: Box, x: float, y: float) -> int | None:
    """Heap number of the node that a click in the box means, None if it lies outside.

    With branches it is the node next to the click, with bands the band under it.
    """
    left, top, width, height = box
    if depth <= BRANCHES_TO:
        margin = min(width / 2**depth, 0.3 * height / depth)
        if not (left - margin <= x <= left + width + margin and top - margin <= y <= top + height + margin):
            return None
        return int(np.linalg.norm(node_places(depth, box) - (x, y), axis=1).argmin()) + 1
    if not (left <= x < left + width and top <= y < top + height):
        return None
    level = int((y - top) / height * (depth + 1))
    return 2**level + int((x - left) / width * 2**level)


def draw_branches(axes: Axes, reach: Float[np.ndarray, " all_nodes"], box: Box, *, root: float = 0.4, selected: int = 0) -> None:
    """A tree whose branches are as wide as what passes along them; legible down to depth 5.

    Args:
        axes: its data are inches, y pointing down.
        reach: probability to reach every node, heap order, leaves included.
        box: where to draw.
        root: width of the whole flow, inches.
        selected: heap number of the node to mark, 0 for none.
    """
    depth = (len(reach) + 1).bit_length() - 2
    places, colors = node_places(depth, box), place_colors(depth)
    child = np.arange(2, len(reach) + 1)
    parent, is_left = child // 2, child % 2 == 0
    start, end = places[parent - 1].copy(), places[child - 1]
    sideways = np.where(is_left, reach[child - 1] - reach[parent - 1], reach[parent - 1] - reach[child - 1]) / 2
    start[:, 0] += root * sideways  # the children share the parent's width
    curves = start[:, None] + (end - start)[:, None] * np.stack([_ACROSS, _DOWN], axis=-1)
    axes.add_collection(LineCollection(curves, colors="#d4d4d4", linewidths=0.8, zorder=1), autolim=False)
    wide = 72 * root * reach[1:]
    seen = wide > 0.05
    flow = LineCollection(
        curves[seen], colors=colors[1:][seen], linewidths=wide[seen], alpha=0.85, capstyle="butt", joinstyle="round", zorder=2
    )
    axes.add_collection(flow, autolim=False)
    roomy = depth <= 4
    size = 15.0 if depth <= 3 else 11.0 if roomy else 5.0
    inner = 2**depth - 1
    axes.scatter(*places[:inner].T, s=size**2, c="white", edgecolors=colors[:inner], linewidths=1.2, zorder=3)
    if roomy:
        for number, (x_, y_) in enumerate(places[:inner], start=1):
            write(axes, x_, y_, str(number), size=7.5 if depth <= 3 else 6, align="center")
    if selected:
        at = places[selected - 1]
        wide = (size if selected <= inner else 5) + 6
        axes.plot(*at, "o", markersize=wide, markerfacecolor="none", markeredgecolor=BLACK, markeredgewidth=1.8, zorder=5)


def draw_bands(axes: Axes, reach: Float[np.ndarray, " all_nodes"], box: Box, *, selected: int = 0) -> None:
    """A deep tree as nested bands: a row per level, under each node its two children, the stronger the likelier it is reached.

    The line follows the likelier child from the root down; a node's strength is the square root of its probability, so that one in
    a hundred still shows.

    Args:
        reach: probability to reach every node, heap order, leaves included.
        box: where to draw, in data of the axes.
        selected: heap number of the node to mark, 0 for none.
    """
    depth = (len(reach) + 1).bit_length() - 2
    left, top, width, height = box
    columns = 2**depth
    colors = place_colors(depth)[:, :3]
    sheet = np.ones((depth + 1, columns, 3))
    for level in range(depth + 1):
        nodes = slice(2**level - 1, 2 ** (level + 1) - 1)
        strength = np.sqrt(reach[nodes])[:, None]
        sheet[level] = np.repeat(0.955 + strength * (colors[nodes] - 0.955), columns >> level, axis=0)
    edges = (left, left + width, top + height, top)
    axes.imshow(opaque((sheet * 255).clip(0, 255).astype(np.uint8)), extent=edges, aspect="auto", interpolation="nearest", zorder=1)
    row = height / (depth + 1)
    lines = [np.array([[left, top + level * row], [left + width, top + level * row]]) for level in range(1, depth + 1)]
    for level in range(1, min(depth, 6) + 1):  # where bands are wide enough to be told apart
        for edge in np.arange(1, 2**level) / 2**level * width + left:
            lines.append(np.array([[edge, top + level * row], [edge, top + (level + 1) * row]]))
    axes.add_collection(LineCollection(lines, colors="white", linewidths=0.8, zorder=2), autolim=False)
    path = [1]
    while 2 * path[-1] < len(reach):
        path.append(2 * path[-1] + int(reach[2 * path[-1]] > reach[2 * path[-1] - 1]))
    corners = [_band(node, depth, box) for node in path]
    middles = np.array([[x + w / 2, y + h / 2] for x, y, w, h in corners])
    axes.plot(*middles.T, "-o", color="white", linewidth=3.2, markersize=5.5, zorder=3)
    axes.plot(*middles.T, "-o", color=BLACK, linewidth=1.3, markersize=3, zorder=3)
    if selected:
        x, y, w, h = _band(selected, depth, box)
        least = width / 150
        axes.add_patch(Rectangle((x - max(0, least - w) / 2, y), max(w, least), h, fill=False, edgecolor=BLACK, linewidth=1.8, zorder=5))


def _band(node: int, depth: int, box: Box) -> Box:
    """Where a node's band lies."""
    left, top, width, height = box
    level = node.bit_length() - 1
    wide, row = width / 2**level, height / (depth + 1)
    return left + (node - 2**level) * wide, top + level * row, wide, row


def draw_leaf_bars(axes: Axes, weights: Float[np.ndarray, " leaves"], box: Box, usage: Float[np.ndarray, " leaves"] | None = None) -> float:
    """Bars that hang from the leaves: coloured one sample's weights, black the mean of many; returns the probability at full length."""
    left, top, width, height = box
    depth = len(weights).bit_length() - 1
    colors = place_colors(depth)[-len(weights) :]
    full = float(max(weights.max(), usage.max() if usage is not None else 0, 1e-9))
    step = width / len(weights)
    wide = min(max(0.72 * step, width / 400), 0.06 * width)
    middle = left + (np.arange(len(weights)) + 0.5) * step
    long = weights / full * height

    def rectangles(wide: float, begin: np.ndarray | float, end: np.ndarray) -> np.ndarray:
        x0, x1, y0 = middle - wide / 2, middle + wide / 2, np.broadcast_to(begin, middle.shape)
        return np.stack([np.stack([x0, y0], 1), np.stack([x1, y0], 1), np.stack([x1, end], 1), np.stack([x0, end], 1)], axis=1)

    axes.plot([left, left + width], [top, top], color="#bbbbbb", linewidth=0.8, zorder=1)
    axes.add_collection(PolyCollection(rectangles(wide, top, top + long), facecolors=colors, edgecolors="none", zorder=2), autolim=False)
    if usage is not None:
        at = top + usage / full * height
        if len(weights) <= 64:
            ends = np.stack([np.stack([middle - 0.6 * wide, at], 1), np.stack([middle + 0.6 * wide, at], 1)], axis=1)
            axes.add_collection(LineCollection(ends, colors=BLACK, linewidths=1.6, zorder=3), autolim=False)
        else:
            axes.plot(middle, at, color=BLACK, linewidth=0.7, zorder=3)
    return full


def draw_tree(axes: Axes, reach: Float[np.ndarray, " all_nodes"], box: Box, *, selected: int = 0) -> None:
    """The tree in the form that suits its depth: branches, or nested bands below depth 5."""
    if len(reach) < 2 ** (BRANCHES_TO + 2) - 1:
        draw_branches(axes, reach, box, root=min(0.4, 1.3 * box[3] / (len(reach) + 1).bit_length() ** 1.5), selected=selected)
    else:
        draw_bands(axes, reach, box, selected=selected)


@styled
def plot_tree(reach: Any, *, usage: Any = None, title: str = "", width: float = 8.0) -> Picture:
    """A soft tree: how much of one sample, or of many on average, passes along each branch, and the probabilities of the leaves.

    Args:
        reach: probability to reach every node, leaves included, heap order: (all nodes,), or (B, all nodes) to show the mean.
        usage: (leaves,) mean probability of the leaves over many samples, black marks; `reach` is then one sample's.
        width: inches.

    Raises:
        ValueError: no tree has so many nodes, or there is not one usage per leaf.
    """
    values = as_array(reach).astype(float)
    values = values.mean(axis=0) if values.ndim == 2 else values
    leaves = (len(values) + 1) // 2
    if len(values) < 3 or len(values) & (len(values) + 1):
        raise ValueError(f"{len(values)} probabilities make no tree; give 2^(depth + 1) - 1 of them, inner nodes and leaves.")
    marks = None if usage is None else as_array(usage).astype(float)
    if marks is not None and marks.shape != (leaves,):
        raise ValueError(f"Give one usage per leaf, {leaves} of them; this has shape {marks.shape}.")
    tall = 0.45 * width
    picture = Picture(figsize=(width, tall))
    axes = picture.add_axes((0, 0, 1, 1), xlim=(0, width), ylim=(tall, 0))
    axes.set_axis_off()
    box = (0.45, 0.55, width - 0.6, 0.62 * tall - 0.2)
    draw_tree(axes, values, box)
    hang = (box[0], box[1] + box[3] + 0.12, box[2], tall - box[1] - box[3] - 0.45)
    full = draw_leaf_bars(axes, values[leaves - 1 :], hang, marks)
    label_bars(axes, hang, full, leaves)
    write(axes, 0.1, 0.2, title, size=9.5)
    return picture


def label_bars(axes: Axes, box: Box, full: float, leaves: int, named: bool = True) -> None:
    """The scale of `draw_leaf_bars`, and if `named` numbers of the leaves where there is room."""
    left, top, width, height = box
    write(axes, left - 0.05, top, "0", size=7, align="right", color=GRAY)
    write(axes, left - 0.05, top + height, f"{full:.0%}" if full >= 0.1 else f"{full:.1%}", size=7, align="right", color=GRAY)
    if named and leaves <= 16:
        for leaf in range(leaves):
            x = left + (leaf + 0.5) * width / leaves
            write(axes, x, top + height + 0.1, f"leaf {leaf}" if leaves <= 8 else str(leaf), size=7, align="center", color=GRAY)


def draw_routing(axes: Axes, values: Float[np.ndarray, " S"], probabilities: Float[np.ndarray, "S leaves"], box: Box | None = None) -> None:
    """Stacked probabilities of the leaves against a factor, the leftmost leaf at the bottom.

    So the lower edge of the right half of the leaves is the probability to go left at the root. Of a tree deeper than 5 the 32 nodes
    of that depth are drawn in place of the leaves.

    Args:
        box: where to draw on a sheet with y pointing down; by default in data, value and probability.
    """
    leaves = min(probabilities.shape[1], 2**BRANCHES_TO)
    probabilities = probabilities.reshape(len(values), leaves, -1).sum(axis=2)
    edges = np.concatenate([np.zeros((len(values), 1)), probabilities.cumsum(axis=1)], axis=1)
    across = np.broadcast_to(values[:, None], edges.shape)
    if box is not None:
        across, edges = on_sheet(box, values, across, edges)
    lines = np.stack([across, edges], axis=-1).swapaxes(0, 1)  # (leaves + 1, S, 2)
    areas = np.concatenate([lines[:-1], lines[1:, ::-1]], axis=1)
    colors = place_colors(leaves.bit_length() - 1)[-leaves:]
    axes.add_collection(PolyCollection(areas, facecolors=colors, edgecolors="white", linewidths=0.4, zorder=1), autolim=False)


def on_sheet(box: Box, values: Float[np.ndarray, " S"], x: Any, share: Any) -> tuple[Any, Any]:
    """Where values of a factor that goes through `values`, and shares of one, lie in a box of a sheet whose y points down."""
    left, top, width, height = box
    return left + (x - values[0]) / (values[-1] - values[0]) * width, top + (1 - share) * height


@styled
def plot_routing(values: Any, probabilities: Any, *, label: str = "factor", title: str = "", width: float = 6.0) -> Picture:
    """How the probabilities of all leaves change while a factor goes from end to end.

    Args:
        values: (S,) of the factor, increasing.
        probabilities: (S, leaves), each row sums to one.
        label: name and unit of the factor.
        width: inches.

    Raises:
        ValueError: values and probabilities differ in number.
    """
    values, shares = as_array(values).astype(float), as_array(probabilities).astype(float)
    if values.ndim != 1 or shares.ndim != 2 or len(values) != len(shares):
        raise ValueError(f"Give values (S,) and probabilities (S, leaves); these have shapes {values.shape} and {shares.shape}.")
    picture, grid = new_picture(width, 0.45 * width)
    axes = grid[0, 0]
    draw_routing(axes, values, shares)
    axes.set(xlim=(values.min(), values.max()), ylim=(0, 1), yticks=[0, 0.5, 1])
    axes.set(xlabel=label, ylabel="probability of the leaves")
    axes.set_title(title)
    for leaf in range(shares.shape[1]) if shares.shape[1] <= 16 else ():
        peak = int(shares[:, leaf].argmax())
        if shares[peak, leaf] > 0.12:
            height = shares[peak, :leaf].sum() + shares[peak, leaf] / 2
            light = leaf < shares.shape[1] / 2
            x = float(np.clip(values[peak], *np.quantile(values, [0.06, 0.94])))
            axes.text(x, height, f"leaf {leaf}", color="white" if light else "black", ha="center", va="center", fontsize=8)
    return picture

"""A search for narrower networks as a picture: every node at its latency and loss, and the widths of one of them."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.collections import LineCollection

from facelab.pictures.style import BLACK, BLUE, GRAY, GREEN, ORANGE, PINK, Picture, styled


def ancestry(nodes: pd.DataFrame, node: int) -> list[int]:
    """The nodes from the root to this one."""
    path = [node]
    while nodes.parent[path[-1]] >= 0:
        path.append(int(nodes.parent[path[-1]]))
    return path[::-1]


@styled
def plot_search_tree(
    nodes: pd.DataFrame, groups: Sequence[str], budget: float, *, node: int | None = None, depth: int | None = None
) -> Picture:
    """The tree on the left, each candidate at its latency and loss; on the right the channels of one candidate, group by group.

    Args:
        nodes: as `methods.archtree.Tree.nodes`.
        groups: names of the groups, in the order of the widths.
        budget: microseconds.
        node: the candidate whose widths and path are shown; the winner by default.
        depth: deeper nodes are left out; all are there by default.
    """
    chosen = int(nodes.index[nodes.chosen][0])
    node, deepest = chosen if node is None else node, int(nodes.depth.max()) if depth is None else depth
    picture = Picture(figsize=(9.2, 4.2))
    axes, bars = picture.add_axes((0.065, 0.115, 0.56, 0.81)), picture.add_axes((0.785, 0.115, 0.2, 0.6))  # fixed places are drawn faster
    seen = nodes[nodes.depth <= deepest]
    places = nodes[["latency", "score"]].to_numpy()
    children = seen.index[seen.parent >= 0]
    edges = np.stack([places[nodes.parent[children]], places[children]], axis=1) if len(children) else np.zeros((0, 2, 2))
    axes.add_collection(LineCollection(list(edges), colors="#cccccc", linewidths=0.7, zorder=1))
    axes.plot(*places[ancestry(nodes, node)].T, color=BLACK, linewidth=1.8, zorder=2)
    kinds = {
        "● cut further": (seen.kept, BLUE, {"marker": "o", "markersize": 5}),
        "× dropped": (~seen.kept & ~seen.fits, GRAY, {"marker": "x", "markersize": 4, "markeredgewidth": 0.9}),
        "▲ within the budget": (seen.fits, GREEN, {"marker": "^", "markersize": 5}),
        "★ winner": (seen.chosen, ORANGE, {"marker": "*", "markersize": 14, "markeredgecolor": BLACK, "markeredgewidth": 0.5}),
    }
    for order, (name, (which, color, look)) in enumerate(kinds.items()):
        axes.plot(*places[seen.index[which]].T, color=color, linestyle="none", zorder=3 + order, **look)
        axes.text(0.02, 0.97 - 0.055 * order, name, color=color, va="top", fontsize=9, transform=axes.transAxes)  # a legend takes longer
    axes.plot(*places[node], marker="o", markersize=11, markerfacecolor="none", markeredgecolor=BLACK, markeredgewidth=1.6, zorder=8)
    axes.axvline(budget, color=PINK, linestyle="--", linewidth=1.4, zorder=0)
    low, high = float(nodes.latency.min()), float(nodes.latency.max())
    room = 0.04 * max(high - low, 1e-3 * high)
    axes.set_xlim(high + room, min(low, budget) - room)  # time goes on to the right
    least, most = float(nodes.score.min()), float(nodes.score.max())
    axes.set_ylim(least - 0.05 * (most - least) - 1e-6, most + 0.06 * (most - least) + 1e-6)
    axes.set(xlabel="latency, microseconds; pink: the budget", ylabel="loss on the data for choosing")
    widths, whole = np.array(nodes.widths[node]), np.array(nodes.widths[0])
    bars.barh(range(len(groups)), whole, color="none", edgecolor=GRAY, height=0.62)
    bars.barh(range(len(groups)), widths, color=ORANGE if node == chosen else BLUE, height=0.62)
    for row, name in enumerate(groups):
        bars.text(-0.6, row, name.replace("+", "\n+ "), va="center", ha="right", fontsize=9)
        bars.text(0.6, row, f"{widths[row]} of {whole[row]}", va="center", fontsize=8, color=BLACK if node == chosen else "white")
    bars.set(xlim=(0, 1.01 * whole.max()), ylim=(len(groups) - 0.4, -0.6))
    bars.set_axis_off()  # ticks would take a quarter of the time
    picture.text(0.785, 0.76, "channels left in each group", fontsize=9.5)
    words = f"node {node}: {nodes.latency[node]:.4g} microseconds,\nloss {nodes.score[node]:.3f}, depth {nodes.depth[node]}"
    picture.text(0.985, 0.93, words, ha="right", va="top", fontsize=9)
    return picture

"""Walk through the trees of a search for narrower networks: what each node is, what it costs, and how one came to it."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from facelab.explorers.explorer import Explorer, View
from facelab.explorers.parts import control
from facelab.methods.archtree import Tree
from facelab.pictures.search_tree import ancestry, plot_search_tree
from facelab.pictures.view import Spot


class SearchTreeExplorer(Explorer):
    """Choose a search, let it grow depth by depth, and pick a node by a click; the pointer over a node tells what it is.

    Example:
        SearchTreeExplorer({f"beam {beam}": grow(candidates, ticks, budget, beam=beam) for beam in (1, 4)})
    """

    def __init__(self, trees: Mapping[str, Tree]) -> None:
        """Look at finished searches.

        Args:
            trees: what is searched how -> the tree.

        Raises:
            ValueError: there is no tree.
        """
        if not trees:
            raise ValueError("There is no search to look at; give at least one tree, as `methods.archtree.grow` makes it.")
        self._trees = dict(trees)

        def draw(search: str, depth: int, node: int) -> View:
            tree = self._trees[search]
            nodes = tree.nodes
            depth, node = min(depth, int(nodes.depth.max())), min(node, len(nodes) - 1)
            if nodes.depth[node] > depth:  # not grown yet: the node that it will come from
                node = ancestry(nodes, node)[depth]
            picture = plot_search_tree(nodes, tree.groups, tree.budget, node=node, depth=depth)
            cuts = [nodes.group[number] for number in ancestry(nodes, node)[1:]]
            path = " then ".join(cuts) or "nothing"
            grown = f"{int((nodes.depth <= depth).sum())} of {len(nodes)} nodes"
            text = f"{search}, {grown}, budget {tree.budget:.4g} µs. Node {node}: {self._said(tree, node)}; cut were {path}."
            axes = picture.axes[0]
            across, up = (np.ptp(limits) / 110 for limits in (axes.get_xlim(), axes.get_ylim()))
            seen = nodes[nodes.depth <= depth]
            spots = [
                Spot(0, x - across, y - 1.5 * up, x + across, y + 1.5 * up, f"node {number}: {self._said(tree, number)}")
                for number, x, y in zip(seen.index, seen.latency, seen.score, strict=True)
            ]
            return View(picture, text, spots)

        first = next(iter(self._trees.values()))
        deepest = max(int(tree.nodes.depth.max()) for tree in self._trees.values())
        controls = {
            "search": control(list(self._trees), description="search"),
            "depth": control((0, deepest), deepest, "depth"),
            "node": control((0, len(first.nodes) - 1), first.winner, "node"),
        }
        super().__init__(draw, controls, page={"search": list(self._trees), "depth": 5}, name="Search-tree explorer")

    @staticmethod
    def _said(tree: Tree, node: int) -> str:
        row: Any = tree.nodes.loc[node]
        fate = "chosen" if row.chosen else "fits" if row.fits else "cut further" if row.kept else "dropped"
        return f"widths {'-'.join(map(str, row.widths))}, {row.latency:.4g} µs, loss {row.score:.3f}, {fate}"

    def set(self, **values: Any) -> None:
        """As `Explorer.set`; the search comes first, since it decides how far the node's slider reaches."""
        if "search" in values:
            with self._hold():
                self.controls["search"].value = values["search"]
                self.settle()
        super().set(**values)

    def settle(self) -> None:
        """Keeps the node within the chosen search."""
        self.controls["node"].max = len(self._trees[self.values["search"]].nodes) - 1

    def click(self, axes: int, x: float, y: float) -> None:
        """Pick the node nearest to the pointer."""
        if axes != 0:
            return
        nodes = self._trees[self.values["search"]].nodes
        nodes = nodes[nodes.depth <= self.values["depth"]]
        shown = self.shown.picture.axes[0]
        across, up = np.ptp(shown.get_xlim()), np.ptp(shown.get_ylim())
        distance = np.hypot((nodes.latency - x) / across, (nodes.score - y) / up)
        self.set(node=int(distance.idxmin()))

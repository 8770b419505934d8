"""The explorer of search trees: a click picks the node under it, and a shorter search keeps the node within it."""

import pandas as pd
import pytest

from facelab.explorers import SearchTreeExplorer
from facelab.methods.archtree import Tree


def line(count: int) -> Tree:
    """A search that cut one channel after the other."""
    rows = [
        {"parent": n - 1, "depth": n, "group": "a" if n else "", "widths": (count - n,), "latency": float(count - n), "score": 0.1 * n}
        | {"fits": n == count - 1, "kept": n < count - 1, "chosen": n == count - 1}
        for n in range(count)
    ]
    return Tree(pd.DataFrame(rows).rename_axis("node"), tuple((tuple(range(n)),) for n in range(count)), ("a",), 1.0)


def test_a_click_picks_the_nearest_node_that_is_shown():
    explorer = SearchTreeExplorer({"long": line(6)})
    explorer.click(0, 4.1, 0.21)
    assert explorer.values["node"] == 2
    assert "widths 4, 4 µs, loss 0.200, cut further; cut were a then a." in explorer.shown.text
    explorer.set(depth=3)
    explorer.click(0, 1.0, 0.5)
    assert explorer.values["node"] == 3
    explorer.click(1, 0.0, 0.0)
    assert explorer.values["node"] == 3


def test_another_search_keeps_the_node_within_it():
    explorer = SearchTreeExplorer({"long": line(6), "short": line(3)})
    assert explorer.values["node"] == 5
    explorer.set(search="short")
    assert explorer.values["node"] == 2 and explorer.error is None


def test_the_pointer_finds_every_node_that_is_shown():
    explorer = SearchTreeExplorer({"long": line(6)})
    assert len(explorer.view(node=0, depth=2).hints()) == 3


def test_no_search_is_refused():
    with pytest.raises(ValueError, match="at least one tree"):
        SearchTreeExplorer({})

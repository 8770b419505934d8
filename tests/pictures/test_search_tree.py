"""The picture of a search tree: the path to a node, and what is left out."""

import numpy as np
import pandas as pd
from matplotlib.collections import LineCollection

from facelab.pictures.search_tree import ancestry, plot_search_tree

NODES = pd.DataFrame(
    {
        "parent": [-1, 0, 0, 1, 1],
        "depth": [0, 1, 1, 2, 2],
        "widths": [(8, 8), (4, 8), (8, 4), (2, 8), (4, 4)],
        "latency": [9.0, 7.0, 6.0, 4.0, 3.0],
        "score": [0.1, 0.2, 0.9, 0.6, 0.5],
        "fits": [False, False, False, True, True],
        "kept": [True, True, False, False, False],
        "chosen": [False, False, False, False, True],
    }
)


def test_the_path_to_a_node():
    assert ancestry(NODES, 4) == [0, 1, 4]
    assert ancestry(NODES, 0) == [0]


def test_every_edge_up_to_the_depth_is_drawn():
    for depth, edges in ((None, 4), (1, 2), (0, 0)):
        axes = plot_search_tree(NODES, ("a", "b"), 5.0, node=0, depth=depth).axes[0]
        (drawn,) = (part for part in axes.collections if isinstance(part, LineCollection))
        assert len(drawn.get_segments()) == edges
        if edges == 4:
            np.testing.assert_array_equal(drawn.get_segments()[2], [[7.0, 0.2], [4.0, 0.6]])


def test_the_widths_of_the_chosen_node():
    bars = plot_search_tree(NODES, ("a", "b"), 5.0).axes[1]
    assert [bar.get_width() for bar in bars.patches] == [8, 8, 4, 4]

"""One answer after the other of a forest, in compiled plain loops, so that walking and blending are timed on equal terms."""

import numpy as np
from numba import njit


@njit(cache=True)
def walk_forest(h, weight, bias, leaves):
    """The greedy answer, one path a tree, from the output of the dense layer.

    Args:
        h: (B, width).
        weight, bias: (T, nodes, width) and (T, nodes).
        leaves: (T, leaves, outputs).

    Returns:
        (B, outputs).
    """
    trees, nodes, width = weight.shape
    answer = np.zeros((len(h), leaves.shape[2]), leaves.dtype)
    for sample in range(len(h)):
        for tree in range(trees):
            node = 0  # the root; its children in the heap are 1 and 2
            while node < nodes:
                logit = bias[tree, node]
                for unit in range(width):
                    logit += weight[tree, node, unit] * h[sample, unit]
                node = 2 * node + (1 if logit >= 0 else 2)
            for output in range(leaves.shape[2]):
                answer[sample, output] += leaves[tree, node - nodes, output] / trees
    return answer


@njit(cache=True)
def blend_forest(h, weight, bias, leaves):
    """The soft answer in the same plain loops as `walk_forest`: all nodes, all leaves. Arguments and result as there."""
    trees, nodes, width = weight.shape
    answer = np.zeros((len(h), leaves.shape[2]), leaves.dtype)
    reach = np.ones(2 * nodes + 1, h.dtype)
    for sample in range(len(h)):
        for tree in range(trees):
            for node in range(nodes):
                logit = bias[tree, node]
                for unit in range(width):
                    logit += weight[tree, node, unit] * h[sample, unit]
                left = 1 / (1 + np.exp(-logit))
                reach[2 * node + 1], reach[2 * node + 2] = reach[node] * left, reach[node] * (1 - left)
            for leaf in range(nodes + 1):
                for output in range(leaves.shape[2]):
                    answer[sample, output] += reach[nodes + leaf] * leaves[tree, leaf, output] / trees
    return answer

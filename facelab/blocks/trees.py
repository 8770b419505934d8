"""A soft binary tree: node decisions in, probabilities of all leaves out; what many gates share.

Nodes are numbered as in a heap, the root 1, the children of n are 2n (left) and 2n + 1 (right). Column n - 1 of `logits` belongs
to node n, whose probability to go *left* is the sigmoid of the logit. Leaves are numbered from left to right. Logarithms of
probabilities are sums of logarithms, never the logarithm of a product: they stay exact at depth 10, where ten small factors vanish.

A level of the tree is computed at once, its nodes in the rows and the samples in the columns, so that the children of a row are two
rows and all is contiguous; results come back as (samples, leaves), which is a view: use `reshape`, not `view`, on them.

Source: Arnaud, Dapogny, Bailly, "Tree-gated Deep Regressor Ensemble For Face Alignment In The Wild", FG 2019, section on the gate.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

DEEPEST = 10
SURE = 1e4
"""A logit whose sigmoid is exactly one, and of its negative exactly zero."""


def tree_depth(nodes: int) -> int:
    """Depth of the tree with this many inner nodes.

    Raises:
        ValueError: not 2^depth - 1 of them, or a tree that is too deep.
    """
    depth = (nodes + 1).bit_length() - 1
    if nodes != 2**depth - 1 or not 1 <= depth <= DEEPEST:
        raise ValueError(f"{nodes} node decisions make no tree; give 2^depth - 1 of them, for a depth of 1 to {DEEPEST}.")
    return depth


def _levels(
    logits: Float[Tensor, "B nodes"],
    side: Callable[[Tensor], Tensor],
    join: Callable[[Tensor, Tensor], Tensor],
    root: float,
    last: bool,
) -> Float[Tensor, "B _"]:
    """Walks down from the root level by level: a child's value is its parent's, joined with the side it lies on.

    Args:
        side: logits -> what a turn to the left contributes; of the negated logits, a turn to the right.
        join: of a parent and a side; `root` is its neutral element.
        last: return the leaves only, else all nodes in heap order.
    """
    widths = [2**level for level in range(tree_depth(logits.shape[1]))]
    # On a processor 256 samples at a time: so few that all levels stay in its cache.
    blocks = []
    for block in logits.split(256) if logits.device.type == "cpu" else [logits]:
        rows = block.t().contiguous()
        levels = [rows.new_full((1, len(block)), root)]
        for sides in torch.stack([side(rows), side(-rows)], dim=1).split(widths):  # (nodes of the level, 2, samples)
            children = join(levels[-1][:, None], sides).flatten(0, 1)  # left child of the first node, its right child, ...
            levels = [children] if last else [*levels, children]
        blocks.append(levels[0] if last else torch.cat(levels))
    return torch.cat(blocks, dim=1).t()


def log_reach(logits: Float[Tensor, "B nodes"]) -> Float[Tensor, "B all_nodes"]:
    """Logarithm of the probability to reach every node, leaves included: 2^(depth + 1) - 1 columns in heap order.

    Raises:
        ValueError: the number of columns is no tree's.
    """
    return _levels(logits, F.logsigmoid, torch.add, 0.0, last=False)


def log_leaf_probabilities(logits: Float[Tensor, "B nodes"]) -> Float[Tensor, "B leaves"]:
    """log mu_l: for each leaf the sum over its path of log d_n where the path turns left and log(1 - d_n) where it turns right.

    Raises:
        ValueError: the number of columns is no tree's.
    """
    return _levels(logits, F.logsigmoid, torch.add, 0.0, last=True)


def leaf_probabilities(logits: Float[Tensor, "B nodes"], hard: bool = False) -> Float[Tensor, "B leaves"]:
    """mu_l, which sum to one; `hard` puts all on the leaf where a walk from the root ends that turns to the likelier side.

    Raises:
        ValueError: the number of columns is no tree's.
    """
    if not hard:  # as products: as exact as the exponential of the sums and faster; 1 - d_n is the sigmoid of the negated logit
        return _levels(logits, torch.sigmoid, torch.mul, 1.0, last=True)
    return F.one_hot(hard_leaf(logits), logits.shape[1] + 1).to(logits.dtype)


def straight_through_leaves(logits: Float[Tensor, "B nodes"]) -> Float[Tensor, "B leaves"]:
    """One at the leaf of the walk and zero elsewhere, as `leaf_probabilities` with `hard`, but with a gradient.

    The decision [d >= 1/2] is kept on the way forward; on the way back it counts as d. So a node on the path learns from the
    difference between the leaf that was reached and the one that a walk on its other side would have reached.

    Source: Bengio, Leonard, Courville, "Estimating or Propagating Gradients Through Stochastic Neurons", 2013, straight-through estimator.

    Raises:
        ValueError: the number of columns is no tree's.
    """
    decided = (
        logits + (logits == 0).to(logits) * torch.finfo(logits.dtype).tiny
    )  # a tie goes left, so that the other side sees a right that is refused

    def side(towards: Tensor) -> Tensor:
        probability = torch.sigmoid(towards)
        return (towards > 0).to(towards) + (probability - probability.detach())

    return _levels(decided, side, torch.mul, 1.0, last=True)


def hard_leaf(logits: Float[Tensor, "B nodes"]) -> Int[Tensor, " B"]:
    """Leaf at the end of the walk that turns to the likelier side at every node, left where both are equal.

    Not always the likeliest leaf: an undecided node on the way to it may be left on the other side.

    Raises:
        ValueError: the number of columns is no tree's.
    """
    node = torch.ones(len(logits), dtype=torch.long, device=logits.device)
    for _ in range(tree_depth(logits.shape[1])):
        decision = logits.gather(1, node[:, None] - 1)[:, 0]
        node = 2 * node + (decision < 0)
    return node - (logits.shape[1] + 1)


def leaf_path(leaf: int, depth: int) -> list[int]:
    """Nodes from the root to a leaf, the leaf's own number in the heap last.

    Raises:
        ValueError: no such leaf.
    """
    if not 0 <= leaf < 2**depth:
        raise ValueError(f"leaf = {leaf}: a tree of depth {depth} has the leaves 0 to {2**depth - 1}.")
    return [(leaf + 2**depth) >> step for step in range(depth, -1, -1)]


class TreeGate(nn.Module):
    """Decisions of all nodes from features: one linear layer and a batch norm, which keeps nodes from being decided at the start.

    Args:
        in_features: of the gating input z.
        depth: of the tree; it has 2^depth leaves.

    Raises:
        ValueError: the tree would be too deep.
    """

    def __init__(self, in_features: int, depth: int):
        super().__init__()
        self.depth = tree_depth(2**depth - 1)
        self.linear = nn.Linear(in_features, 2**depth - 1)
        self.norm = nn.BatchNorm1d(2**depth - 1)
        self._forced: Tensor | None = None

    def forward(self, gating: Float[Tensor, "B D"]) -> Float[Tensor, "B nodes"]:
        """Logit of going left, node by node in heap order; the functions of this module make leaves of it."""
        if self._forced is not None:
            if len(self._forced) not in (1, len(gating)):
                raise ValueError(
                    f"The gate got {len(gating)} samples but leaves for {len(self._forced)}; give one leaf, or one per sample."
                )
            return self._forced.to(gating).expand(len(gating), -1)
        return self.norm(self.linear(gating))

    @contextmanager
    def only(self, leaf: int | Int[Tensor, " B"]) -> Iterator[None]:
        """Within the `with` block every sample goes to this one leaf, so that the model answers with its expert alone.

        Args:
            leaf: for all samples, or one for each: a model given one image `leaves` times answers with all its experts.

        Raises:
            ValueError: no such leaf; in the block, if the gate gets another number of samples than there are leaves given.
        """
        leaves = torch.as_tensor(leaf).reshape(-1)
        before, forced = self._forced, torch.zeros(len(leaves), 2**self.depth - 1)
        for row, number in zip(forced, leaves.tolist(), strict=True):
            for node, child in pairwise(leaf_path(number, self.depth)):
                row[node - 1] = SURE if child == 2 * node else -SURE
        self._forced = forced
        try:
            yield
        finally:
            self._forced = before

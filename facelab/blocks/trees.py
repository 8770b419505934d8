"""A soft binary tree: node decisions in, probabilities of all leaves out; what many gates share.

Nodes are numbered as in a heap, the root 1, the children of n are 2n (left) and 2n + 1 (right). Column n - 1 of `logits` belongs
to node n, whose probability to go *left* is the sigmoid of the logit. Leaves are numbered from left to right. Nothing multiplies
probabilities: sums of their logarithms stay exact at depth 10, where a product of ten small numbers would be lost.

Source: Arnaud, Dapogny, Bailly, "Tree-gated Deep Regressor Ensemble For Face Alignment In The Wild", FG 2019, section on the gate.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

DEEPEST = 10


def tree_depth(nodes: int) -> int:
    """Depth of the tree with this many inner nodes.

    Raises:
        ValueError: not 2^depth - 1 of them, or a tree that is too deep.
    """
    depth = (nodes + 1).bit_length() - 1
    if nodes != 2**depth - 1 or not 1 <= depth <= DEEPEST:
        raise ValueError(f"{nodes} node decisions make no tree; give 2^depth - 1 of them, for a depth of 1 to {DEEPEST}.")
    return depth


def log_reach(logits: Float[Tensor, "B nodes"]) -> Float[Tensor, "B all_nodes"]:
    """Logarithm of the probability to reach every node, leaves included: 2^(depth + 1) - 1 columns in heap order.

    Raises:
        ValueError: the number of columns is no tree's.
    """
    left, right = F.logsigmoid(logits), F.logsigmoid(-logits)
    levels = [logits.new_zeros(len(logits), 1)]
    for level in range(tree_depth(logits.shape[1])):
        nodes = slice(2**level - 1, 2 ** (level + 1) - 1)
        children = torch.stack([levels[-1] + left[:, nodes], levels[-1] + right[:, nodes]], dim=2)
        levels.append(children.flatten(1))  # left child of the first node, its right child, left child of the second, ...
    return torch.cat(levels, dim=1)


def log_leaf_probabilities(logits: Float[Tensor, "B nodes"]) -> Float[Tensor, "B leaves"]:
    """log mu_l: for each leaf the sum over its path of log d_n where the path turns left and log(1 - d_n) where it turns right.

    Raises:
        ValueError: the number of columns is no tree's.
    """
    return log_reach(logits)[:, logits.shape[1] :]


def leaf_probabilities(logits: Float[Tensor, "B nodes"], hard: bool = False) -> Float[Tensor, "B leaves"]:
    """mu_l, which sum to one; `hard` puts all on the leaf where a walk from the root ends that turns to the likelier side.

    Raises:
        ValueError: the number of columns is no tree's.
    """
    if not hard:
        return log_leaf_probabilities(logits).exp()
    return F.one_hot(hard_leaf(logits), logits.shape[1] + 1).to(logits.dtype)


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


def likeliest_leaf(logits: Float[Tensor, "B nodes"]) -> Int[Tensor, " B"]:
    """Leaf with the highest probability.

    Raises:
        ValueError: the number of columns is no tree's.
    """
    return log_leaf_probabilities(logits).argmax(dim=1)


def leaf_path(leaf: int, depth: int) -> list[int]:
    """Nodes from the root to a leaf, the leaf's own number in the heap last.

    Raises:
        ValueError: no such leaf.
    """
    if not 0 <= leaf < 2**depth:
        raise ValueError(f"leaf = {leaf}: a tree of depth {depth} has the leaves 0 to {2**depth - 1}.")
    return [(leaf + 2**depth) >> step for step in range(depth, -1, -1)]


def usage(probabilities: Float[Tensor, "B leaves"]) -> Float[Tensor, " leaves"]:
    """Mean probability of each leaf over the samples; 1 / leaves each where all are used alike."""
    return probabilities.mean(dim=0)


def routing_information(logits: Float[Tensor, "B nodes"]) -> tuple[float, float, float]:
    """How a tree shares out samples, in bits: (entropy of the usage, mean entropy of a sample, their difference).

    The first is the depth if all leaves are used alike, the second 0 if every sample goes to one leaf. The difference is the mutual
    information between sample and leaf: what the gate knows.

    Raises:
        ValueError: the number of columns is no tree's.
    """
    log_probabilities = log_leaf_probabilities(logits.double())
    probabilities = log_probabilities.exp()
    mean = usage(probabilities)
    of_usage = -torch.special.xlogy(mean, mean).sum() / torch.log(torch.tensor(2.0))
    of_sample = -(probabilities * log_probabilities.clamp(min=-1e3)).sum(dim=1).mean() / torch.log(torch.tensor(2.0))
    return of_usage.item(), of_sample.item(), (of_usage - of_sample).item()


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

    def forward(self, gating: Float[Tensor, "B D"]) -> Float[Tensor, "B nodes"]:
        """Logit of going left, node by node in heap order; the functions of this module make leaves of it."""
        return self.norm(self.linear(gating))

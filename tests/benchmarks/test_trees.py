"""The soft tree at depth 10 for 4,096 samples beside loops over its nodes: the same numbers, in how much less processor time?

Two loops, both as plain soft-decision-tree code has them, in float32, on one thread, with batch columns of 4,096 numbers:

- `node_by_node` makes each node once, two children from each parent: it multiplies the parent's column by d and by 1 - d. This is
  the leanest loop there is.
- `leaf_by_leaf` is the formula as written: for each leaf the product of the decisions along its path, begun anew at the root.

`products` compares them on given logits, whose sigmoid all take. `gate` counts everything from the features on: there the loop has, as
codes with an object per node do, one linear unit, one batch norm and one sigmoid for each node, called in turn; ours is `TreeGate` and
`leaf_probabilities`. Loops take columns with `unbind`, since indexing would make their backward pass many times slower still.

The columns of `products` lie in the rows of a matrix, as a linear layer leaves them; loops over columns copied out beforehand take half
(`node_by_node`) to a third of the time, and only against `leaf_by_leaf` would ours still be several times faster.

The least times are compared, other work only adds. The floors are what holds on a busy machine; each row's `extra_info` has the ratio.
Against the leanest loop, products stay below ten times: both are bound by the memory they write.
"""

import time
from itertools import pairwise

import pytest
import torch
from torch import Tensor, nn

from facelab.blocks import TreeGate, leaf_probabilities, seeded
from facelab.blocks.trees import leaf_path

DEPTH, SAMPLES, FEATURES = 10, 4096, 64
NODES = 2**DEPTH - 1

pytestmark = [pytest.mark.benchmark(timer=time.process_time), pytest.mark.long]


def node_by_node(decisions) -> Tensor:
    """Leaves (B, leaves) from an iterable of decisions (B,) in heap order."""
    columns = list(decisions)
    reach = [columns[0], torch.ones_like(columns[0])]  # the first is nobody's: nodes count from 1
    for node, goes_left in enumerate(columns, start=1):
        reach += [reach[node] * goes_left, reach[node] * (1 - goes_left)]
    return torch.stack(reach[2**DEPTH :], dim=1)


def leaf_by_leaf(decisions) -> Tensor:
    """As `node_by_node`."""
    columns, leaves = list(decisions), []
    for leaf in range(2**DEPTH):
        probability = torch.ones_like(columns[0])
        for node, child in pairwise(leaf_path(leaf, DEPTH)):
            probability = probability * (columns[node - 1] if child == 2 * node else 1 - columns[node - 1])
        leaves.append(probability)
    return torch.stack(leaves, dim=1)


class Nodes(nn.Module):
    """A gate with a linear unit and a batch norm of its own at every node, with the same weights as a `TreeGate`."""

    def __init__(self, gate: TreeGate):
        super().__init__()
        self.linears = nn.ModuleList(nn.Linear(FEATURES, 1) for _ in range(NODES))
        self.norms = nn.ModuleList(nn.BatchNorm1d(1) for _ in range(NODES))
        for node, linear in enumerate(self.linears):
            linear.weight.data, linear.bias.data = gate.linear.weight.data[node : node + 1], gate.linear.bias.data[node : node + 1]

    def forward(self, features: Tensor):
        for linear, norm in zip(self.linears, self.norms, strict=True):
            yield norm(linear(features))[:, 0].sigmoid()


def contest(part: str, loop):
    """The tree and the loop as functions of one input: logits, or features."""
    with seeded(0):
        gate, features = TreeGate(FEATURES, DEPTH), torch.randn(SAMPLES, FEATURES)
        logits = 2 * torch.randn(SAMPLES, NODES)
    if part == "products":
        return logits, leaf_probabilities, lambda logits: loop(logits.sigmoid().unbind(1))
    nodes = Nodes(gate)
    return features, lambda features: leaf_probabilities(gate(features)), lambda features: loop(nodes(features))


def forward(function, values: Tensor) -> Tensor:
    with torch.no_grad():
        return function(values)


def backward(function, values: Tensor) -> Tensor:
    values = values.detach().requires_grad_()
    leaves = function(values)
    leaves.backward(torch.linspace(-1, 1, leaves.shape[1]).expand_as(leaves))
    return values.grad


# (part, loop, forward or with backward): at least so many times faster
FLOORS = {
    ("products", node_by_node, forward): 2.5,
    ("products", leaf_by_leaf, forward): 10,
    ("gate", node_by_node, forward): 4,
    ("gate", leaf_by_leaf, forward): 5,
    ("products", node_by_node, backward): 2.5,
    ("products", leaf_by_leaf, backward): 10,
    ("gate", node_by_node, backward): 4,
    ("gate", leaf_by_leaf, backward): 5,
}


@pytest.mark.parametrize(("part", "loop", "direction"), FLOORS, ids=lambda key: getattr(key, "__name__", key))
def test_all_leaves_at_once(benchmark, part, loop, direction):
    values, ours, theirs = contest(part, loop)
    torch.testing.assert_close(direction(ours, values), direction(theirs, values), rtol=1e-4, atol=1e-6)
    seconds = []
    for _ in range(3):
        began = time.process_time()
        direction(theirs, values)
        seconds.append(time.process_time() - began)
    benchmark.pedantic(lambda: direction(ours, values), rounds=7, warmup_rounds=1)
    faster = min(seconds) / benchmark.stats["min"]
    benchmark.extra_info |= {"loop, seconds": min(seconds), "times faster": faster}
    ours_ms, theirs_ms = 1e3 * min(seconds) / faster, 1e3 * min(seconds)
    print(f"{part}, {loop.__name__}, {direction.__name__}: {ours_ms:.1f} ms against {theirs_ms:.0f}: {faster:.1f} x")
    assert faster > FLOORS[part, loop, direction]

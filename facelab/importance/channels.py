"""Which channels of a traced network live and die together, and where in it each of them is found.

Every output channel of a layer gets a label, which follows it through whatever keeps channels apart (activations that keep zero,
pooling, normalisation by batch statistics, factors, flattening, concatenation). Adding two tensors ties the labels of both: if a
channel of the sum is to be zero, it must be zero in every summand.
"""

import operator
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from facelab.importance.networks import LAYERS, NORMS, channel_axis, outputs_of

# what maps a channel of zeros to a channel of zeros, and looks at no other channel
ELEMENTWISE: set = {
    *(nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.ELU, nn.GELU, nn.SiLU, nn.Mish, nn.Hardswish, nn.Tanh, nn.Identity),
    *(nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d),
    *(F.relu, torch.relu, F.relu6, F.leaky_relu, F.elu, F.gelu, F.silu, F.mish, F.hardswish, F.tanh, torch.tanh, F.dropout, F.dropout2d),
    *("relu", "tanh", "contiguous", "clone"),
}
SPATIAL: set = {
    *(nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d, nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d),
    *(nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool1d, nn.AdaptiveMaxPool2d, nn.Upsample, nn.UpsamplingNearest2d),
    *(F.max_pool1d, F.max_pool2d, F.avg_pool1d, F.avg_pool2d, F.adaptive_avg_pool1d, F.adaptive_avg_pool2d),
    *(F.adaptive_max_pool1d, F.adaptive_max_pool2d, F.interpolate),
}
ADD = {operator.add, torch.add, "add"}
MULTIPLY = {operator.mul, torch.mul, "mul"}
FLATTEN = {nn.Flatten, torch.flatten, "flatten"}
MEAN = {torch.mean, "mean"}


def operation(node: fx.Node, modules: Mapping[str, nn.Module]):
    """What a node does: the class of its module, its function, or the name of its method."""
    return type(modules[str(node.target)]) if node.op == "call_module" else node.target


@dataclass(frozen=True)
class Unit:
    """Channels that can only be removed together.

    Attributes:
        layers: names of the layers they are outputs of, in order of execution.
        channel: index of the channel in the first of these layers.
        members: name of each layer or batch norm that puts them out -> their indices there.
    """

    layers: tuple[str, ...]
    channel: int
    members: dict[str, tuple[int, ...]] = field(hash=False)

    @property
    def name(self) -> str:
        """The layers joined by "+"."""
        return "+".join(self.layers)


class Labels:
    """The label of every channel of every node: `of[node] = (axis, labels)`; nodes whose channels are mixed have none."""

    def __init__(self, graph: fx.Graph, modules: Mapping[str, nn.Module], values: Mapping[fx.Node, Tensor]):
        self.modules, self.values = modules, values
        self.of: dict[fx.Node, tuple[int, np.ndarray]] = {}
        self.parent: list[int] = []
        self.unclear: list[str] = []  # additions of channels that are known to others that are not
        self.first: dict[str, int] = {}  # layer -> label of its channel 0; a layer that is called twice has the same ones
        for node in graph.nodes:
            if isinstance(values.get(node), Tensor):
                found = self._label(node)
                if found is not None:
                    self.of[node] = found
        self.of = {node: (axis, np.array([self._root(label) for label in labels.tolist()])) for node, (axis, labels) in self.of.items()}

    def _root(self, label: int) -> int:
        while label >= 0 and self.parent[label] != label:
            label = self.parent[label]
        return label

    def _tie(self, ours: np.ndarray, theirs: np.ndarray) -> None:
        for a, b in zip(ours.tolist(), theirs.tolist(), strict=True):
            a, b = self._root(a), self._root(b)
            if min(a, b) >= 0:  # -1: a channel that no layer puts out
                self.parent[max(a, b)] = min(a, b)

    def _label(self, node: fx.Node) -> tuple[int, np.ndarray] | None:
        what, value = operation(node, self.modules) if node.op.startswith("call") else None, self.values[node]
        inputs = [argument for argument in node.all_input_nodes if isinstance(self.values.get(argument), Tensor)]
        source = self.of.get(inputs[0]) if inputs else None
        module = self.modules[str(node.target)] if node.op == "call_module" else None
        if isinstance(module, LAYERS):
            axis = value.ndim - 1 if isinstance(module, nn.Linear) else 1
            if node.target not in self.first:
                self.first[str(node.target)] = len(self.parent)
                self.parent += range(len(self.parent), len(self.parent) + value.shape[axis])
            first = self.first[str(node.target)]
            labels = np.arange(first, first + value.shape[axis])
            if source and is_depthwise(module):
                self._tie(labels, source[1])
            return axis, labels
        if what in ADD and len(inputs) == 2 and not node.kwargs:
            other = self.of.get(inputs[1])
            if source and other and source[0] == other[0] and self.values[inputs[0]].shape == self.values[inputs[1]].shape:
                self._tie(source[1], other[1])
                return source
            if (source or other) and value.ndim > 1 and not any(part.op == "get_attr" for part in inputs):
                self.unclear.append(node.name)
            return None
        if what in ADD and len(inputs) == 1 and 0 in node.args and not node.kwargs:  # where `sum` begins
            return source
        if what is F.pad and source and len(inputs) == 1:
            pad, behind = node.kwargs.get("pad", node.args[1] if len(node.args) > 1 else ()), 2 * (value.ndim - 1 - source[0])
            before, after = pad[behind : behind + 2] if len(pad) > behind else (0, 0)
            return source[0], np.concatenate([np.full(before, -1), source[1], np.full(after, -1)])
        if what is operator.getitem and source and len(inputs) == 1 and value.ndim == self.values[inputs[0]].ndim:
            index = node.args[1] if isinstance(node.args[1], tuple) else (node.args[1],)
            whole = all(isinstance(part, slice) for part in index) and (len(index) <= source[0] or index[source[0]] == slice(None))
            return source if whole else None
        if what in MULTIPLY and not node.kwargs and 1 <= len(inputs) <= 2:  # zero times anything is zero
            factors = [self.of[part] for part in inputs if part in self.of and self.values[part].ndim == value.ndim]
            factors = [(axis, labels) for axis, labels in factors if value.shape[axis] == len(labels)]
            if len(factors) == 2 and factors[0][0] == factors[1][0]:
                self._tie(factors[0][1], factors[1][1])
            return factors[0] if factors else None
        if what is torch.cat:
            axis = node.kwargs.get("dim", node.args[1] if len(node.args) > 1 else 0) % value.ndim
            parts = [self.of.get(part, (axis, np.full(self.values[part].shape[axis], -1))) for part in inputs]
            known = any(part in self.of for part in inputs)
            return (axis, np.concatenate([labels for _, labels in parts])) if known and all(a == axis for a, _ in parts) else None
        if source is None or len(inputs) != 1:
            return None
        axis, labels = source
        if what in ELEMENTWISE or (isinstance(module, NORMS) and axis == 1):
            return source
        if what in SPATIAL and axis == 1 and value.ndim > 2:
            return source
        if what in FLATTEN and axis == 1 and value.ndim == 2:
            return 1, np.repeat(labels, value.shape[1] // len(labels))
        if what in MEAN and axis == 1 and value.ndim >= 2 and value.shape[1] == len(labels):
            dims = node.kwargs.get("dim", node.args[1] if len(node.args) > 1 else None)
            spatial = isinstance(dims, tuple | list) and all(d % self.values[inputs[0]].ndim > 1 for d in dims)
            return source if spatial else None
        return None

    def units(self) -> list[Unit]:
        """All of them, in order of execution of their first layers."""
        members: dict[int, dict[str, tuple[int, ...]]] = {}
        for node, (_, labels) in self.of.items():
            if node.op == "call_module" and isinstance(self.modules[str(node.target)], LAYERS + NORMS):
                for label in np.unique(labels[labels >= 0]).tolist():
                    members.setdefault(label, {})[str(node.target)] = tuple(np.flatnonzero(labels == label).tolist())
        units = []
        for places in members.values():
            layers = tuple(name for name in places if isinstance(self.modules[name], LAYERS))
            units.append(Unit(layers, places[layers[0]][0], places))
        order = {name: i for i, name in enumerate(self.first)}
        return sorted(units, key=lambda unit: (order[unit.layers[0]], unit.channel))


@contextmanager
def replaced(modules: Mapping[str, nn.Module], weights: Mapping[str, Tensor], units: Sequence[Unit] = ()) -> Iterator[None]:
    """Layers with other weights for a while.

    Args:
        modules, weights: by name.
        units: if given, filters whose weights are all zero are gone: their biases are zero too, and so are the batch norms behind them.
    """
    gone: dict[str, set[int]] = {}
    for name, weight in weights.items() if units else ():
        filters = weight.movedim(channel_axis(modules[name]), 0).flatten(1)
        gone[name] = set(outputs_of((filters == 0).all(1).nonzero()[:, 0], modules[name]).tolist())
    for unit in units:
        if all(set(unit.members[layer]) <= gone.get(layer, set()) for layer in unit.layers):
            for name in unit.members.keys() - set(unit.layers):
                gone.setdefault(name, set()).update(unit.members[name])
    changes = {(name, "weight"): weight for name, weight in weights.items()}
    for name, positions in gone.items():
        for part in ("bias",) if name in weights else ("weight", "bias"):
            values = getattr(modules[name], part, None)
            if positions and values is not None:
                changes[name, part] = values.detach().index_fill(0, torch.tensor(sorted(positions), device=values.device), 0)
    kept = {place: getattr(modules[place[0]], place[1]) for place in changes}
    try:
        for (name, part), values in changes.items():
            setattr(modules[name], part, nn.Parameter(values, requires_grad=False))
        yield
    finally:
        for (name, part), values in kept.items():
            setattr(modules[name], part, values)


def is_depthwise(module: nn.Module) -> bool:
    """Whether each output channel of a convolution comes from the input channel of the same number."""
    return getattr(module, "groups", 1) == getattr(module, "in_channels", 0) == getattr(module, "out_channels", 0) and module.groups > 1

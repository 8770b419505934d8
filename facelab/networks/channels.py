"""Which channels of a traced network live and die together, and where in it each of them is found.

Every output channel of a layer gets a label, which follows it through whatever keeps channels apart (activations that keep zero,
pooling, normalisation by batch statistics, factors, flattening, concatenation). Adding two tensors ties the labels of both: if a
channel of the sum is to be zero, it must be zero in every summand.
"""

import inspect
import operator
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn
from torch.fx.node import map_arg
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_map_only

from facelab.networks.folding import NORMS
from facelab.networks.layers import LAYERS, channel_axis, outputs_of

# what maps a channel of zeros to a channel of zeros, and looks at no other channel
ELEMENTWISE: set = {
    *(nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.ELU, nn.GELU, nn.SiLU, nn.Mish, nn.Hardswish, nn.Tanh, nn.Identity),
    *(nn.PReLU, nn.RReLU, F.rrelu, nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d),
    *(F.relu, torch.relu, F.relu6, F.leaky_relu, F.elu, F.gelu, F.silu, F.mish, F.hardswish, F.tanh, torch.tanh, F.dropout, F.dropout2d),
    *("relu", "tanh", "contiguous", "clone", "detach", "float", "double", "half", "bfloat16", "to", "type"),
}
SPATIAL: set = {
    *(nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d, nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d),
    *(nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool1d, nn.AdaptiveMaxPool2d, nn.Upsample, nn.UpsamplingNearest2d),
    *(F.max_pool1d, F.max_pool2d, F.avg_pool1d, F.avg_pool2d, F.adaptive_avg_pool1d, F.adaptive_avg_pool2d),
    *(F.adaptive_max_pool1d, F.adaptive_max_pool2d, F.interpolate),
}
ADD = {operator.add, torch.add, "add"}
SUBTRACT = {operator.sub, torch.sub, "sub"}
DIVIDE = {operator.truediv, torch.div, "div", operator.neg, torch.neg, "neg"}
EXTREMES = {torch.maximum, torch.minimum, "maximum", "minimum"}
MULTIPLY = {operator.mul, torch.mul, "mul"}
FLATTEN = {nn.Flatten, torch.flatten, "flatten"}
MEAN = {torch.mean, "mean"}
# what looks at no other channel; whether zeros stay zeros is seen by trying
APART: set = {
    *(nn.Sigmoid, nn.LogSigmoid, nn.Hardsigmoid, nn.Softplus, nn.Softsign, nn.Hardtanh, nn.SELU, nn.CELU, nn.Threshold, nn.Tanhshrink),
    *(
        nn.Hardshrink,
        nn.Softshrink,
        torch.sigmoid,
        F.sigmoid,
        F.logsigmoid,
        F.hardsigmoid,
        F.softplus,
        F.softsign,
        F.hardtanh,
        F.selu,
        F.celu,
    ),
    *(F.threshold, torch.clamp, torch.exp, torch.log1p, torch.abs, torch.square, torch.sqrt, torch.sin, torch.cos, operator.pow, torch.pow),
    *("sigmoid", "pow", "clamp", "clip", "exp", "abs", "square", "sqrt", "sin", "cos"),
}
# what only moves entries
MOVES: set = FLATTEN | {
    *(nn.Unflatten, nn.PixelShuffle, nn.PixelUnshuffle, nn.ChannelShuffle, operator.getitem, F.pad, F.pixel_shuffle, F.pixel_unshuffle),
    *(
        torch.flip,
        torch.roll,
        torch.reshape,
        torch.transpose,
        torch.permute,
        torch.movedim,
        torch.unflatten,
        torch.squeeze,
        torch.unsqueeze,
    ),
    *(torch.chunk, torch.split, torch.unbind, torch.index_select, torch.channel_shuffle, torch.swapaxes),
    *("flip", "roll", "reshape", "view", "transpose", "permute", "movedim", "unflatten", "squeeze", "unsqueeze", "chunk", "split"),
    *("unbind", "index_select", "expand", "repeat", "swapaxes", torch.cat, torch.stack),  # of one node: halves in another order
}


METHODS: dict[str, Callable] = {"__getitem__": operator.getitem, "__rsub__": operator.sub, "__rdiv__": operator.truediv}


def operation(node: fx.Node, modules: Mapping[str, nn.Module]):
    """What a node does: the class of its module, its function, or the name of its method."""
    return type(modules[str(node.target)]) if node.op == "call_module" else node.target


def compute(node: fx.Node, values: Mapping[fx.Node, Any], modules: Mapping[str, nn.Module], root: nn.Module) -> Any:
    """What a node of a traced network gives, from what those before it gave."""

    def value(argument):
        return map_arg(argument, values.__getitem__)

    if node.op == "output":
        return value(node.args[0])
    if node.op == "get_attr":
        return operator.attrgetter(str(node.target))(root)
    args, kwargs = value(node.args), value(node.kwargs)
    if node.op == "call_module":
        return modules[str(node.target)](*args, **kwargs)
    if node.op == "call_method":
        return getattr(args[0], str(node.target))(*args[1:], **kwargs)
    return node.target(*args, **kwargs)  # type: ignore[operator]


def evaluated(graph: fx.Graph, inputs: Tensor, modules: Mapping[str, nn.Module], root: nn.Module) -> dict[fx.Node, Any]:
    """What every node gives."""
    values: dict[fx.Node, Any] = {}
    for node in graph.nodes:
        if node.op != "placeholder":
            values[node] = compute(node, values, modules, root)
        else:
            values[node] = (node.args[0] if node.args else None) if values else inputs
    return values


class Tracer(fx.Tracer):
    """Layers and batch norms of any class are one node each."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        """Whether a module is one node."""
        return isinstance(m, LAYERS + NORMS) or super().is_leaf_module(m, module_qualified_name)


class Recorder(TorchFunctionMode):
    """What a network does with an example, written down while it does it: any Python between two operations is fine.

    Layers, norms and other modules of torch without layers in them are one node each.

    Args:
        model: stays as it is.
        example: (B, ...) a batch.

    Attributes:
        graph: what was done; a number that came of a tensor on the way stands there as a constant.
        values: what each node gave.
    """

    def __init__(self, model: nn.Module, example: Tensor):
        super().__init__()
        self.graph, self.values, self._inside = fx.Graph(), {}, 0
        self._by_id: dict[int, fx.Node] = {}
        self._alive: list[Any] = []  # so that no two tensors have one id
        hooks: list[Any] = []
        for name, module in model.named_modules():
            torchs = type(module).__module__.startswith("torch.nn.") and not any(isinstance(part, LAYERS) for part in module.modules())
            if isinstance(module, LAYERS + NORMS) or (torchs and not isinstance(module, nn.Sequential)):
                hooks += [module.register_forward_pre_hook(self._enter), module.register_forward_hook(self._leave(name), with_kwargs=True)]
        try:
            with torch.no_grad(), self:
                self.output = model(example.clone())
        finally:
            for hook in hooks:
                hook.remove()

    def _enter(self, module: nn.Module, args: tuple) -> None:
        self._inside += 1

    def _leave(self, name: str) -> Callable:
        def leave(module: nn.Module, args: tuple, kwargs: dict, result: Any) -> None:
            self._inside -= 1
            self._write("call_module", name, args, kwargs, result)

        return leave

    def __torch_function__(self, func, types, args=(), kwargs=None):
        """Does an operation and writes it down."""
        result = func(*args, **(kwargs or {}))
        name = func.__name__
        if name == "__setitem__":
            self._write("call_function", operator.setitem, args, {}, args[0])
        elif getattr(Tensor, name, None) is not func:  # a function, perhaps one that works in place
            in_place = name.endswith("_") and not name.endswith("__")
            plain = getattr(torch, name[:-1], getattr(F, name[:-1], func)) if in_place else func
            self._write("call_function", plain, args, kwargs or {}, result)
        elif name in METHODS:
            self._write("call_function", METHODS[name], args[::-1] if name.startswith("__r") else args, kwargs or {}, result)
        else:
            self._write("call_method", name if name.startswith("__") else name.rstrip("_"), args, kwargs or {}, result)
        return result

    def _write(self, op: str, target: Any, args: tuple, kwargs: dict, result: Any) -> None:
        if self._inside or not isinstance(result, Tensor | tuple | list):
            return
        self._alive.append(result)
        node = self.graph.create_node(op, target, *tree_map_only(Tensor, self._node, (tuple(args), dict(kwargs))))
        self.values[node] = result
        parts = [(node, result)] if isinstance(result, Tensor) else []
        for i, part in enumerate(result if isinstance(result, tuple | list) else ()):
            if isinstance(part, Tensor):
                parts.append((self.graph.call_function(operator.getitem, (node, i)), part))
        for place, part in parts:
            self.values[place] = part
            self._by_id[id(part)] = place

    def _node(self, tensor: Tensor) -> fx.Node:
        if id(tensor) not in self._by_id:  # inputs, weights, and what came by other ways
            self._by_id[id(tensor)] = node = self.graph.create_node("get_attr", "constant")
            self.values[node] = tensor
            self._alive.append(tensor)
        return self._by_id[id(tensor)]


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
    """The label of every channel of every node: `of[node] = (axis, labels)`; nodes whose channels are mixed have none.

    Args:
        graph: of a traced network.
        modules: its modules.
        values: what its nodes give for some samples.
        root: the network.
    """

    def __init__(self, graph: fx.Graph, modules: Mapping[str, nn.Module], values: Mapping[fx.Node, Any], root: nn.Module):
        self.modules, self.values, self.root = modules, values, root
        self.of: dict[fx.Node, tuple[int, np.ndarray]] = {}
        self.behind: dict[fx.Node, tuple[int, np.ndarray]] = {}  # no zeros there (a sigmoid); a batch norm that follows is cut again
        self.moved: dict[fx.Node, tuple[Any, bool]] = {}  # labels entry by entry while axes are split and put together
        self.parent: list[int] = []
        self.unclear: list[str] = []  # additions of channels that are known to others that are not
        self.first: dict[str, int] = {}  # layer -> label of its channel 0; a layer that is called twice has the same ones
        for node in graph.nodes:
            if self._move(node) or not isinstance(values.get(node), Tensor):
                continue
            found = self._label(node)
            if found is not None:
                self.of[node] = found
            elif (followed := self._follow(node)) is not None:
                self.behind[node] = followed
        self.of = {node: (axis, np.array([self._root(label) for label in labels.tolist()])) for node, (axis, labels) in self.of.items()}

    def _move(self, node: fx.Node) -> bool:
        """Entries that are only moved take their labels along: the operation is done to these."""
        what = operation(node, self.modules) if node.op.startswith("call") else None
        inputs = [argument for argument in node.all_input_nodes if isinstance(self.values.get(argument), Tensor | tuple | list)]
        if what not in MOVES or len(inputs) != 1:
            return False
        source = inputs[0]
        known = self.of.get(source) or self.behind.get(source)
        if source in self.moved:
            entries, zero = self.moved[source]
        elif known is not None:
            axis, labels = known
            shape = [len(labels) if i == axis else 1 for i in range(self.values[source].ndim)]
            entries, zero = torch.as_tensor(labels).double().view(shape).expand(self.values[source].shape), source in self.of
        else:
            return False
        if what is F.pad:
            bound = inspect.signature(F.pad).bind(*node.args, **node.kwargs).arguments
            if bound.get("mode", "constant") == "constant":
                return False
        found = compute(node, {**self.values, source: entries}, self.modules, self.root)
        self.moved[node] = found, zero
        if isinstance(found, Tensor) and found.ndim > 1:
            axes = sorted(range(1, found.ndim), key=lambda axis: known is None or axis != known[0])
            for axis in axes:
                rows = found.movedim(axis, 0).flatten(1)
                if rows.numel() and (rows == rows[:, :1]).all():
                    (self.of if zero else self.behind)[node] = axis, rows[:, 0].long().numpy()
                    break
        return True

    def _follow(self, node: fx.Node) -> tuple[int, np.ndarray] | None:
        """Labels behind what keeps channels apart but gives no zeros for zeros."""
        what, value = operation(node, self.modules) if node.op.startswith("call") else None, self.values[node]
        if len(node.all_input_nodes) != 1:
            return None
        source = self.of.get(node.all_input_nodes[0]) or self.behind.get(node.all_input_nodes[0])
        same = source is not None and value.ndim > source[0] and value.shape[source[0]] == len(source[1])
        spatial = what in SPATIAL and source is not None and source[0] == 1
        known = what in ELEMENTWISE | APART | ADD | SUBTRACT | DIVIDE | {F.pad} or spatial
        return source if same and known else None

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
            if source and source[0] == 1 and is_depthwise(module):
                self._tie(labels, source[1])
            return axis, labels
        if what in ADD | SUBTRACT | EXTREMES and len(inputs) == 2 and not node.kwargs:
            other = self.of.get(inputs[1])
            if source and other and source[0] == other[0] and self.values[inputs[0]].shape == self.values[inputs[1]].shape:
                self._tie(source[1], other[1])
                return source
            if (source or other) and value.ndim > 1 and not any(part.op == "get_attr" for part in inputs):
                self.unclear.append(node.name)
            return None
        if (
            what in APART | ADD | SUBTRACT | DIVIDE
            and source
            and node.all_input_nodes == inputs[:1]
            and value.shape == self.values[inputs[0]].shape
        ):
            nothing = {**self.values, inputs[0]: torch.zeros_like(self.values[inputs[0]])}
            return source if not compute(node, nothing, self.modules, self.root).any() else None
        if what is F.pad and source and len(inputs) == 1:
            bound = inspect.signature(F.pad).bind(*node.args, **node.kwargs).arguments
            pad, behind = bound["pad"], 2 * (value.ndim - 1 - source[0])
            before, after = pad[behind : behind + 2] if len(pad) > behind else (0, 0)
            if bound.get("value") and any(amount for i, amount in enumerate(pad) if i // 2 != behind // 2):
                return None  # it puts something else than zeros beside the channel
            labels = np.concatenate([np.full(max(before, 0), -1), source[1], np.full(max(after, 0), -1)])
            return source[0], labels[max(-before, 0) : len(labels) - max(-after, 0)]
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
        if isinstance(module, NORMS) and inputs:
            behind = source or self.behind.get(inputs[0])
            return behind if behind is not None and behind[0] == 1 else None
        if what in (torch.prelu, F.prelu):
            return source
        if source is None or len(inputs) != 1:
            return None
        axis, labels = source
        if what in ELEMENTWISE:
            return source
        if what in SPATIAL and axis == 1 and value.ndim > 2:
            return source
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

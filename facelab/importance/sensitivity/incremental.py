"""A network evaluated again after a change at one layer, without what cannot have changed.

The network is traced (torch.fx), its batch norms are folded and every value of a batch is kept. A change then runs through the graph
from where it begins, and each node holds the cheapest description of what changed there:

- nothing: the kept value;
- `Cut`: channels that became zero; activations and pooling pass it on as it is;
- `Shift`: kept value + shift. A layer whose input is cut sees a change in these channels only, so its shift costs one channel's
  share of its multiplications; what is linear passes a shift on without looking at the kept value;
- `Dense`: a new value.

Samples in which all the channels of a cut are zero anyway do not change at all and are left out.
"""

import operator
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, fx, nn
from torch.fx.node import map_arg
from torch.nn.utils.fusion import fuse_conv_bn_weights

from facelab.networks.channels import ADD, FLATTEN, MEAN, Labels, Tracer, Unit, compute, evaluated, is_depthwise, operation, replaced
from facelab.networks.evaluation import copied, require_hooks, tensors_in
from facelab.networks.folding import NORMS, normalised
from facelab.networks.layers import LAYERS, is_plain, layers

CONVOLUTIONS: dict[type, Callable] = {nn.Conv1d: F.conv1d, nn.Conv2d: F.conv2d, nn.Conv3d: F.conv3d}
LINEAR: set = {nn.AvgPool1d, nn.AvgPool2d, nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.Identity, nn.Dropout, nn.Dropout2d}
LINEAR |= {F.avg_pool1d, F.avg_pool2d, F.adaptive_avg_pool1d, F.adaptive_avg_pool2d} | FLATTEN | MEAN
IN_PLACE = {operator.iadd: operator.add, operator.isub: operator.sub, operator.imul: operator.mul, F.relu_: F.relu, torch.relu_: torch.relu}
ROWS_BYTES = 1 << 21  # a value of the rows that run together: what fits into the cache of a core


class NotTraceable(Exception):
    """The network cannot be evaluated node by node; the plain loop can do it."""


@dataclass
class Cut:
    """Channels `positions` of the labelled axis became zero."""

    positions: Tensor


@dataclass
class Shift:
    """The kept value plus this."""

    value: Tensor


@dataclass
class Dense:
    """A new value."""

    value: Any


class Incremental:
    """A network and the values of one batch in all its nodes.

    Args:
        model: any module; a copy is used.
        example: inputs of at least two samples.

    Raises:
        NotTraceable: with the reason.
    """

    def __init__(self, model: nn.Module, example: Tensor):
        require_hooks(model)
        model = normalised(copied(model).eval())
        with torch.no_grad():
            expected = [part.clone() for part in tensors_in(model(example[:2].clone()))]  # before what works in place is switched off
        for module in model.modules():
            if hasattr(module, "inplace"):
                module.inplace = False  # kept values must stay
        self.layers = layers(model, example)
        try:
            self.graph = Tracer().trace(model)
        except Exception as error:  # whatever Python the user's forward holds meets a proxy instead of a tensor
            raise NotTraceable(f"torch.fx cannot trace it ({type(error).__name__}: {str(error).splitlines()[0]})") from error
        self.modules = dict(model.named_modules())
        self.originals = {layer.name: self.modules[layer.name].weight.detach() for layer in self.layers}
        self.root = model.requires_grad_(False)
        self._prepare()
        with torch.no_grad():
            self._check(example, expected)
            self.values = self._evaluate(example)
            labels = Labels(self.graph, self.modules, self.values, self.root)
            self.unclear = labels.unclear
            self.units = labels.units()
            self.labels = {node: (axis, torch.as_tensor(labels, device=example.device)) for node, (axis, labels) in labels.of.items()}
            self.bytes = {node: value.nbytes // len(example) for node, value in self.values.items() if isinstance(value, Tensor)}
            self._first = {str(node.target): labels.tolist() for node, (_, labels) in self.labels.items() if node.op == "call_module"}
            self.scale = self._fold()
            for module in self.modules.values():
                if isinstance(module, nn.Conv2d):  # as the values are kept, or every call would turn the weights round
                    module.weight.data = module.weight.data.contiguous(memory_format=torch.channels_last)
            self.values = {}
        self._plans: dict[tuple, _Plan] = {}

    @property
    def bytes_per_sample(self) -> int:
        """Memory of all kept values."""
        return sum(self.bytes.values())

    # --- preparation ---

    def _prepare(self) -> None:
        for node in self.graph.nodes:
            node.target = IN_PLACE.get(node.target, node.target) if node.op == "call_function" else node.target
            if node.kwargs.get("inplace"):
                node.kwargs = {**node.kwargs, "inplace": False}
            name = getattr(node.target, "__name__", str(node.target))
            if node.op == "get_attr" and str(node.target).rpartition(".")[0] in {layer.name for layer in self.layers}:
                raise NotTraceable(f"{node.target} is also used outside of its layer")
            if node.op == "call_module" or node.op == "get_attr":
                continue
            if name == "setitem" or (name.endswith("_") and not name.endswith("__")):
                raise NotTraceable(f"it changes tensors in place ({name})")
        placeholders = [node for node in self.graph.nodes if node.op == "placeholder"]
        self.input = placeholders[0]
        self.output = next(node for node in self.graph.nodes if node.op == "output")
        traced = {str(node.target) for node in self.graph.nodes if node.op == "call_module" and isinstance(self._module(node), LAYERS)}
        called = {layer.name for layer in self.layers}
        if traced != called:
            raise NotTraceable(f"layers {sorted(traced ^ called)} are used in a way that tracing does not see")

    def _module(self, node: fx.Node) -> nn.Module:
        return self.modules[str(node.target)]

    def is_mixing(self, node: fx.Node) -> bool:
        """Whether a node is a layer that makes each channel of all input channels."""
        return node.op == "call_module" and isinstance(self._module(node), LAYERS) and not is_depthwise(self._module(node))

    def _check(self, example: Tensor, expected: list[Tensor]) -> None:
        """Find out what has one entry per sample, and that samples do not see each other."""
        if len(example) < 2:
            raise NotTraceable("one sample is too few to tell samples from other axes")
        both, one = self._evaluate(example[:2]), self._evaluate(example[:1])
        self.per_sample, depends = set(), {self.input}
        for node, value in both.items():
            if isinstance(value, Tensor) and value.ndim and len(value) == 2 and len(one[node]) == 1:
                self.per_sample.add(node)
                depends.add(node)
                if not torch.allclose(value[:1], one[node], rtol=1e-3, atol=1e-5):
                    raise NotTraceable(f"the samples of a batch see each other in {node.name}")
            elif isinstance(value, Tensor) and depends.intersection(node.all_input_nodes):
                raise NotTraceable(f"{node.name} does not count the samples on its first axis")
        for got, want in zip(tensors_in(both[self.output]), expected, strict=True):
            if not torch.allclose(got, want, rtol=1e-3, atol=1e-5):
                raise NotTraceable("the traced network computes something else")

    def _fold(self) -> dict[str, Tensor]:
        """Put batch norms into the convolutions before them; layer -> factor of each output channel's weights."""
        scale: dict[str, Tensor] = {}
        calls = [str(node.target) for node in self.graph.nodes if node.op == "call_module"]
        for node in list(self.graph.nodes):
            before = node.args[0] if node.args else None
            if node.op != "call_module" or not is_plain(self._module(node), *NORMS) or not isinstance(before, fx.Node):
                continue
            if before.op != "call_module" or type(self._module(before)) not in CONVOLUTIONS or len(before.users) > 1:
                continue
            conv, norm = self._module(before), self._module(node)
            if calls.count(str(before.target)) > 1 or norm.running_var is None:
                continue
            factor = torch.rsqrt(norm.running_var + norm.eps) * (norm.weight if norm.affine else 1)
            scale[str(before.target)] = scale.get(str(before.target), 1) * factor  # one norm may follow another
            conv.weight, conv.bias = fuse_conv_bn_weights(
                conv.weight, conv.bias, norm.running_mean, norm.running_var, norm.eps, norm.weight, norm.bias
            )
            node.replace_all_uses_with(before)
            self.graph.erase_node(node)
        return scale

    # --- the kept values ---

    def _evaluate(self, inputs: Tensor) -> dict[fx.Node, Any]:
        return evaluated(self.graph, inputs, self.modules, self.root)

    def _compute(self, node: fx.Node, values: Mapping[fx.Node, Any]):
        return compute(node, values, self.modules, self.root)

    def keep(self, inputs: Tensor):
        """Evaluate a batch and keep all values; returns the outputs."""
        if inputs.ndim == 4:
            inputs = inputs.contiguous(memory_format=torch.channels_last)
        self.values = self._evaluate(inputs)
        self.samples = len(inputs)
        self._nonzero: dict[fx.Node, Tensor] = {}
        return self.values[self.output]

    def first_order(self, inputs: Tensor, targets: Tensor, score: Callable[[Tensor, Tensor], Tensor]) -> Float[Tensor, "B units"]:
        """How far the score of each sample would fall without each unit, if it were linear in the channels: channel x gradient.

        Raises:
            ValueError: the score cannot be differentiated.
        """
        with torch.enable_grad():
            self.root.requires_grad_(True)  # whole numbers have no gradient, the embedding behind them has
            try:
                values = self._evaluate(inputs.detach().clone().requires_grad_(inputs.is_floating_point()))
            finally:
                self.root.requires_grad_(False)
            total = score(values[self.output], targets).sum()
            if not total.requires_grad:
                raise ValueError(f"The score {getattr(score, '__name__', score)} has no gradient to screen with; use log_likelihood, say.")
            nodes = [node for node in self.labels if node.op == "call_module" and isinstance(self._module(node), LAYERS)]
            gradients = torch.autograd.grad(total, [values[node] for node in nodes], allow_unused=True)
        none = torch.zeros(len(inputs), dtype=torch.float64, device=inputs.device)
        falls: dict[int, Tensor] = {}
        for node, gradient in zip(nodes, gradients, strict=True):
            axis, labels = self.labels[node]
            if gradient is not None:
                products = (values[node].detach() * gradient).double().movedim(axis, 1)
                for label, product in zip(labels.tolist(), products.reshape(*products.shape[:2], -1).sum(2).T, strict=True):
                    falls[label] = falls.get(label, none) + product
        return torch.stack([falls.get(self.label(unit), none) for unit in self.units], dim=1)

    def label(self, unit: Unit) -> int:
        """The label of its channels."""
        return self._first[unit.layers[0]][unit.channel]

    # --- changes ---

    def multiplies(self, changed: Iterable[str]) -> int:
        """Multiplications per sample that an evaluation after a change of these layers makes, at most."""
        reached = {str(node.target) for node in self.plan(tuple(changed)).nodes if node.op == "call_module"}
        return sum(layer.multiplies for layer in self.layers if layer.name in reached)

    def plan(self, layers: tuple[str, ...]) -> "_Plan":
        """What lies after these layers."""
        if layers not in self._plans:
            self._plans[layers] = _Plan(self, layers)
        return self._plans[layers]

    def changed_samples(self, unit: Unit) -> Int[Tensor, " changed"]:
        """Indices of the samples in which one of the unit's channels is not zero where something looks at it."""
        alive = torch.zeros(self.samples, dtype=torch.bool, device=self.values[self.input].device)
        for node, positions in self.plan(unit.layers).seen(unit):
            alive |= self._alive(node)[:, positions].any(1)
        return alive.nonzero()[:, 0]

    def _alive(self, node: fx.Node) -> Bool[Tensor, "B channels"]:
        if node not in self._nonzero:
            value = self.values[node].movedim(self.labels[node][0], 1)
            self._nonzero[node] = (value != 0).flatten(2).any(2) if value.ndim > 2 else value != 0
        return self._nonzero[node]

    def without(self, unit: Unit) -> Iterator[tuple[Tensor, Any]]:
        """Outputs without the unit's channels: (indices of samples, their outputs) for all samples that change."""
        plan = self.plan(unit.layers)
        cuts = {node: Cut(positions) for node, positions in plan.cuts(unit).items()}
        changed = self.changed_samples(unit)
        for rows in changed.split(plan.rows) if len(changed) else ():
            yield rows, self._run(plan, rows, cuts)

    def reweighted(self, weights: Mapping[str, Tensor], prune: bool = False) -> Iterator[tuple[Tensor, Any]]:
        """Outputs with other weights in some layers: (indices of samples, their outputs) for all samples.

        With `prune`, filters whose weights are all zero are gone, biases and shifts of batch norms included.
        """
        plan = self.plan(tuple(weights))
        scaled = {
            name: weight * self.scale[name].view(-1, *[1] * (weight.ndim - 1)) if name in self.scale else weight
            for name, weight in weights.items()
        }
        with replaced(self.modules, scaled, self.units if prune else ()):
            for rows in torch.arange(self.samples, device=self.values[self.input].device).split(plan.rows):
                yield rows, self._run(plan, rows, {})

    def _run(self, plan: "_Plan", rows: Tensor, cuts: Mapping[fx.Node, Cut]):
        return _Run(self, plan, rows, cuts).outputs()


class _Plan:
    """The nodes that a change of some layers can reach, and where each is last used."""

    def __init__(self, network: Incremental, layers: tuple[str, ...]):
        self.network = network
        reached: set[fx.Node] = set()
        for node in network.graph.nodes:
            starts = node.op == "call_module" and node.target in layers
            if starts or any(argument in reached for argument in node.all_input_nodes):
                reached.add(node)
        self.nodes = [node for node in network.graph.nodes if node in reached]
        self.starts = {node for node in self.nodes if node.op == "call_module" and node.target in layers}
        position = {node: i for i, node in enumerate(self.nodes)}
        self._cuts: dict[Unit, dict[fx.Node, Tensor]] = {}
        self.last: dict[fx.Node, fx.Node] = {}
        for node in self.nodes:
            for argument in node.all_input_nodes:
                if argument in position:
                    self.last[argument] = node
        self.rows = max(8, ROWS_BYTES // max((network.bytes[node] for node in self.nodes if node in network.bytes), default=1))

    def cuts(self, unit: Unit) -> dict[fx.Node, Tensor]:
        """Where channels of the unit are found: node -> their positions in it."""
        if unit not in self._cuts:
            label = self.network.label(unit)
            found = {node: (labels == label).nonzero()[:, 0] for node, labels in self._labelled()}
            self._cuts = {unit: {node: positions for node, positions in found.items() if len(positions)}}  # of the last unit only
        return self._cuts[unit]

    def _labelled(self) -> list[tuple[fx.Node, Tensor]]:
        labels = self.network.labels
        return [(node, labels[node][1]) for node in self.nodes if node in labels]

    def seen(self, unit: Unit) -> list[tuple[fx.Node, Tensor]]:
        """Those of them that something looks at which does not just pass the channel on."""
        cuts = self.cuts(unit)
        passes = {node: {user for user in node.users if user in cuts and not self.network.is_mixing(user)} for node in cuts}
        return [(node, positions) for node, positions in cuts.items() if passes[node] != set(node.users)]


class _Run:
    """One change on its way through the network, for some samples."""

    def __init__(self, network: Incremental, plan: _Plan, rows: Tensor, cuts: Mapping[fx.Node, Cut]):
        self.network, self.plan, self.rows, self.cuts = network, plan, rows, cuts
        first, last = int(rows[0]), int(rows[-1])
        self.stretch = slice(first, last + 1) if last - first == len(rows) - 1 else None  # rows are in order
        self.states: dict[fx.Node, Cut | Shift | Dense] = {}
        self.gathered: dict[fx.Node, Any] = {}

    def outputs(self):
        for node in self.plan.nodes:
            if node.op == "output":
                return map_arg(node.args[0], self.value)
            state = self._next(node)
            if state is not None:
                self.states[node] = state
            for argument in node.all_input_nodes:
                if self.plan.last.get(argument) is node:
                    self.states.pop(argument, None)
        return map_arg(self.network.output.args[0], self.kept)  # the change does not reach it

    def kept(self, node: fx.Node):
        """The kept value for these samples."""
        network = self.network
        value = network.values[node]
        if node in network.per_sample:
            return self.take(value)
        if isinstance(value, Tensor) or node.op in ("get_attr", "placeholder"):
            return value
        if node not in self.gathered:  # sizes and the like: they may hold the number of samples
            self.gathered[node] = network._compute(node, {argument: self.value(argument) for argument in node.all_input_nodes})
        return self.gathered[node]

    def take(self, value: Tensor) -> Tensor:
        """These samples of a value; a view if they follow each other."""
        if self.stretch:
            return value[self.stretch]
        if value.ndim == 4 and not value.is_contiguous():  # channels last: whole samples, not pixel by pixel
            return value.permute(0, 2, 3, 1).index_select(0, self.rows).permute(0, 3, 1, 2)
        return value.index_select(0, self.rows)

    def value(self, node: fx.Node):
        """The new value for these samples."""
        state = self.states.get(node)
        if state is None:
            return self.kept(node)
        if isinstance(state, Dense):
            return state.value
        if isinstance(state, Shift):
            return self.kept(node) + state.value
        value = self.kept(node)
        value = value.clone() if self.stretch else value
        return value.index_fill_(self.network.labels[node][0], state.positions, 0)

    def _next(self, node: fx.Node):
        cut, state = self.cuts.get(node), self._pass(node)
        if cut is None:
            return state
        if state is None or isinstance(state, Cut):
            return cut
        if operation(node, self.network.modules) in LAYERS + NORMS:  # elsewhere zeros come of zeros
            value = state.value if isinstance(state, Dense) else self.kept(node) + state.value
            return Dense(value.index_fill_(self.network.labels[node][0], cut.positions, 0))
        return state

    def _pass(self, node: fx.Node):
        """What the changes of its inputs make of a node."""
        network = self.network
        inputs = [self.states.get(argument) for argument in node.all_input_nodes]
        if node in self.plan.starts and not self.cuts:  # the layer's weight changed
            return Dense(network._compute(node, {argument: self.value(argument) for argument in node.all_input_nodes}))
        if all(state is None for state in inputs):
            return None
        what = operation(node, network.modules)
        state = inputs[0]
        if isinstance(state, Cut) and len(inputs) == 1:
            if node in self.cuts and not network.is_mixing(node):
                return state
            if shift := self._shift(node, state):
                return shift
        if isinstance(state, Shift) and len(inputs) == 1 and what in LINEAR:
            return Shift(network._compute(node, {node.all_input_nodes[0]: state.value}))
        if what in ADD and len(inputs) == 2 and not node.kwargs:
            if all(isinstance(state, Cut) for state in inputs) and node in self.cuts:
                return inputs[0]
            shifts = [state.value for state in inputs if isinstance(state, Shift)]
            if len(shifts) == sum(state is not None for state in inputs) and self._same_shape(node):
                return Shift(sum(shifts[1:], shifts[0]))
        values = {argument: self.value(argument) for argument in node.all_input_nodes}
        return Dense(network._compute(node, values))

    def _same_shape(self, node: fx.Node) -> bool:
        values = self.network.values
        return all(
            argument in self.network.per_sample and values[argument].shape == values[node].shape for argument in node.all_input_nodes
        )

    def _shift(self, node: fx.Node, cut: Cut) -> Shift | None:
        """How the output of a layer moves when channels of its input become zero."""
        if node.op != "call_module":
            return None
        module, source = self.network._module(node), node.all_input_nodes[0]
        kept = self.network.values[source]
        if is_plain(module, nn.Linear) and self.network.labels[source][0] == kept.ndim - 1:
            return Shift(F.linear(self.take(kept[..., cut.positions]), -module.weight[:, cut.positions]))
        if type(module) in CONVOLUTIONS and module.groups == 1 and module.padding_mode == "zeros":
            part = self.take(kept[:, cut.positions])
            convolve = CONVOLUTIONS[type(module)]
            weight = -module.weight[:, cut.positions]
            return Shift(convolve(part, weight, None, module.stride, module.padding, module.dilation))
        return None

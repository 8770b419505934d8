"""SInGE: the importance of a neuron is the gradient gathered while its weights shrink to zero; pruning entwined with fine-tuning.

Yvinec, Dapogny, Cord, Bailly: SInGE: Sparsity via Integrated Gradients Estimation of Neuron Relevance. NeurIPS 2022,
https://arxiv.org/abs/2207.04089. The idea, the path to a neuron's removal and the entwined procedure are the paper's. The discrete
sum, which layers share a path, the share of steps that close the fine-tuning and all sizes are our reconstruction.
"""

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass

import pandas as pd
import torch
import torch_pruning
from jaxtyping import Float, Int
from torch import Tensor, fx, nn

from facelab.networks.evaluation import copied, same_answers, tensors_in
from facelab.networks.folding import folded
from facelab.networks.groups import Group, cut, groups, masked
from facelab.networks.layers import channel_axis
from facelab.networks.tuning import FineTuning, Loss

CRITERIA = ("random", "magnitude", "gradient", "gradient x magnitude", "Taylor", "layer path", "neuron path", "removal")


def geometric(attenuation: float, steps: int) -> Float[Tensor, " factors"]:
    """The factors 1, mu, mu^2, ..., mu^steps of the path: dense near zero and coarse near one.

    Raises:
        ValueError: the attenuation is not between 0 and 1, or there are fewer than zero steps.
    """
    if not 0 < attenuation < 1 or steps < 0:
        raise ValueError(f"A path needs an attenuation between 0 and 1 and steps from 0; these are {attenuation} and {steps}.")
    return attenuation ** torch.arange(steps + 1, dtype=torch.float64)


@dataclass(frozen=True)
class Path:
    """What was seen on the way of each neuron's weights W_j from the first factor to the last.

    Attributes:
        factors: alpha, of the weights.
        losses: at each factor.
        gradients: norms of the gradient by W_j, ||g_j(alpha)||.
        slopes: of the loss along the path, <W_j, g_j(alpha)>.
        norms: ||W_j||, bias included.
    """

    factors: Float[Tensor, " factors"]
    losses: Float[Tensor, "factors neurons"]
    gradients: Float[Tensor, "factors neurons"]
    slopes: Float[Tensor, "factors neurons"]
    norms: Float[Tensor, " neurons"]

    def score(self) -> Float[Tensor, " neurons"]:
        """SInGE's importance: the sum over the factors of ||alpha W_j|| ||g_j(alpha)||."""
        return (self.factors[:, None] * self.norms * self.gradients).sum(dim=0)

    def integral(self) -> Float[Tensor, " neurons"]:
        """The integral of the slope over alpha, by the trapezoid rule: what the loss at the last factor lacks to that at the first."""
        return -torch.trapezoid(self.slopes, self.factors, dim=0)


@dataclass(frozen=True)
class _Part:
    """A weight or a bias of one of the layers that make a group's channels."""

    parameter: nn.Parameter
    axis: int
    rows: Int[Tensor, " neurons"]

    def of(self, tensor: Tensor) -> Float[Tensor, "neurons weights"]:
        """What belongs to each neuron in a tensor like the parameter."""
        return tensor.movedim(self.axis, 0)[self.rows].flatten(1) if tensor.ndim > 1 else tensor[self.rows, None]

    def put(self, neurons: int | slice | list[int], values: Tensor | float) -> None:
        """Overwrite what belongs to these neurons."""
        self.parameter.data.movedim(self.axis, 0)[self.rows[neurons]] = values


def _parts(model: nn.Module, group: Group) -> list[_Part]:
    """All weights and biases that make the channels of a group."""
    found = []
    for layer, places in group.producers.items():
        module, rows = model.get_submodule(layer), torch.as_tensor(places[:, 0])
        found.append(_Part(module.weight, channel_axis(module), rows))  # type: ignore[arg-type]
        found += [] if module.bias is None else [_Part(module.bias, 0, rows)]  # type: ignore[arg-type]
    return found


class _Loss:
    """The loss of a network in which some layers change; what lies before them is computed once and kept.

    A network that cannot be traced is run as a whole each time, which gives the same and takes longer.
    """

    def __init__(self, model: nn.Module, inputs: Tensor, targets: Tensor, loss: Loss, layers: Collection[str]) -> None:
        self.model, self.inputs, self.targets, self.loss = model, inputs, targets, loss
        self.interpreter: fx.Interpreter | None = None
        try:
            traced = fx.symbolic_trace(model)
            interpreter = fx.Interpreter(traced, garbage_collect_values=False)
            with torch.no_grad():
                same = same_answers(list(tensors_in(interpreter.run(inputs))), list(tensors_in(model(inputs))))
        except Exception:  # whatever the network's code says about being traced
            return
        changed: set[fx.Node] = set()
        for node in traced.graph.nodes:
            if (node.op == "call_module" and node.target in layers) or any(argument in changed for argument in node.all_input_nodes):
                changed.add(node)
        if same and {node.target for node in changed} >= set(layers):
            self.kept = {node: value for node, value in interpreter.env.items() if node not in changed}
            self.interpreter = interpreter

    def __call__(self) -> Float[Tensor, ""]:
        if self.interpreter is None:
            return self.loss(self.model(self.inputs), self.targets)
        return self.loss(self.interpreter.run(self.inputs, initial_env=dict(self.kept)), self.targets)


class _Neurons:
    """The neurons of a group in a copy of its network, to be shrunk and restored."""

    def __init__(self, model: nn.Module, inputs: Tensor, targets: Tensor, loss: Loss, group: Group) -> None:
        self.model = copied(model).eval().requires_grad_(False)
        for module in self.model.modules():
            if getattr(module, "inplace", False) is True:
                module.inplace = False  # type: ignore[assignment]
        self.parts = _parts(self.model, group)
        self.parameters = [part.parameter.requires_grad_(True) for part in self.parts]
        self.whole = [part.parameter.detach().clone().movedim(part.axis, 0)[part.rows] for part in self.parts]
        self.filters = self.rows(self.parameters).detach()
        self.loss = _Loss(self.model, inputs, targets, loss, group.producers)

    def rows(self, tensors: Iterable[Tensor]) -> Float[Tensor, "neurons weights"]:
        """A row per neuron of the weights and biases, or of their gradients."""
        return torch.cat([part.of(tensor) for part, tensor in zip(self.parts, tensors, strict=True)], dim=1)

    def scale(self, factor: float, neurons: int | slice) -> None:
        """Set weights and biases of neurons to `factor` times what they were: from a copy, so that 1 restores every bit."""
        for part, whole in zip(self.parts, self.whole, strict=True):
            part.put(neurons, factor * whole[neurons])

    def look(self) -> tuple[Tensor, Float[Tensor, "neurons weights"]]:
        """The loss, and its gradient by each neuron's weights."""
        loss = self.loss()
        return loss.detach(), self.rows(torch.autograd.grad(loss, self.parameters))


def walk(
    model: nn.Module,
    inputs: Tensor,
    targets: Tensor,
    loss: Loss,
    group: Group,
    factors: Float[Tensor, " factors"],
    *,
    together: bool = False,
    neurons: Iterable[int] | None = None,
) -> Path:
    """Shrinks neurons to nothing and watches the loss and its gradient: one neuron at a time, or the whole layer at once.

        path = walk(model, images, labels, F.cross_entropy, groups(model, images)[0], geometric(0.75, 8))
        path.score()

    Args:
        model: whose batch norms are folded; it is left as it is.
        inputs, targets: the samples on which it is asked, the same at every factor.
        loss: (outputs, targets) -> mean loss.
        group: of `networks.groups.groups`: its channels are the neurons, made by several layers if these are tied.
        factors: alpha, in the order in which they are visited.
        together: scale all neurons of the group at once, and read the gradient of each: as many passes as factors, however many neurons.
        neurons: their numbers, for some of them only; all by default.
    """
    shrinking = _Neurons(model, inputs, targets, loss, group)
    chosen = list(range(len(shrinking.filters))) if neurons is None else list(neurons)
    losses, gradients, slopes = (torch.zeros(len(factors), len(chosen), dtype=torch.float64) for _ in range(3))
    for place, neuron in enumerate([slice(None)] if together else chosen):
        read, column = (chosen, slice(None)) if together else ([neuron], slice(place, place + 1))  # type: ignore[list-item]
        for step, factor in enumerate(factors.tolist()):
            shrinking.scale(factor, neuron)
            losses[step, column], gradient = shrinking.look()
            gradients[step, column] = gradient[read].norm(dim=1).double()
            slopes[step, column] = (gradient[read] * shrinking.filters[read]).sum(dim=1).double()
        shrinking.scale(1.0, neuron)
    return Path(factors, losses, gradients, slopes, shrinking.filters[chosen].norm(dim=1).double())


def removal(
    model: nn.Module, inputs: Tensor, targets: Tensor, loss: Loss, group: Group, neurons: Iterable[int] | None = None
) -> Float[Tensor, " neurons"]:
    """How far the loss rises without each neuron: ablation of one after the other, arguments as `walk` takes them."""
    shrinking = _Neurons(model, inputs, targets, loss, group)
    rises = []
    with torch.no_grad():
        whole = shrinking.loss()
        for neuron in range(len(shrinking.filters)) if neurons is None else neurons:
            shrinking.scale(0.0, neuron)
            rises.append(float(shrinking.loss() - whole))
            shrinking.scale(1.0, neuron)
    return torch.tensor(rises, dtype=torch.float64)


def importance(
    model: nn.Module,
    inputs: Tensor,
    targets: Tensor,
    loss: Loss,
    group: Group,
    criterion: str = "neuron path",
    *,
    attenuation: float = 0.75,
    steps: int = 8,
    neurons: Iterable[int] | None = None,
    seed: int = 0,
) -> Float[Tensor, " neurons"]:
    """One number per neuron of a group, higher for one that must stay.

    Args:
        model, inputs, targets, loss, group, neurons: as `walk` takes them.
        criterion: one of `CRITERIA`. "removal" is what the others try to foresee.
        attenuation, steps: mu and S of the two paths.
        seed: of the random criterion.

    Raises:
        ValueError: an unknown criterion, or a path as `geometric` refuses it.
    """
    if criterion not in CRITERIA:
        raise ValueError(f"There is no criterion {criterion!r}; take one of {', '.join(CRITERIA)}.")
    if criterion == "removal":
        return removal(model, inputs, targets, loss, group, neurons)
    on_path = criterion in ("layer path", "neuron path")
    factors = geometric(attenuation, steps if on_path else 0)
    path = walk(model, inputs, targets, loss, group, factors, together=criterion != "neuron path", neurons=neurons)
    match criterion:
        case "random":
            return torch.rand(len(path.norms), generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        case "magnitude":
            return path.norms
        case "gradient":
            return path.gradients[0]
        case "Taylor":
            return path.slopes[0].abs()
    return path.score()  # with the single factor 1 it is gradient x magnitude


class GivenImportance(torch_pruning.importance.Importance):
    """Scores measured beforehand, in the form in which a pruner of torch-pruning asks for them.

    given = GivenImportance(model, {"conv1": scores})
    torch_pruning.pruner.BasePruner(model, images[:1], given, pruning_ratio=0.75, ignored_layers=[model.head]).step()
    """

    def __init__(self, model: nn.Module, scores: Mapping[str, Float[Tensor, " neurons"]]) -> None:
        """`scores`: name of a layer of `model`, the first of its group -> one for each of its output channels."""
        self.scores = {model.get_submodule(layer): values for layer, values in scores.items()}

    def __call__(self, group: torch_pruning.Group) -> Float[Tensor, " channels"] | None:
        """The scores of the channels that torch-pruning asks about; None, which it passes over, where there are none."""
        for item in group:
            module, made = item.dep.target.module, item.dep.handler.__name__ == "prune_out_channels"
            if made and module in self.scores:  # a layer that only reads these channels has scores of others
                return self.scores[module][item.idxs]
        return None


def singe(
    model: nn.Module,
    inputs: Tensor,
    targets: Tensor,
    batches: Iterable[tuple[Tensor, Tensor]],
    loss: Loss,
    *,
    removed: float = 0.8,
    criterion: str = "neuron path",
    attenuation: float = 0.5,
    path_steps: int = 3,
    rounds: int = 3,
    steps: int = 150,
    closing: float = 0.75,
    learning_rate: float = 2e-3,
    seed: int = 0,
    watch: Callable[[nn.Module, int], None] | None = None,
) -> tuple[nn.Module, pd.DataFrame]:
    """A really smaller network: layer by layer and round by round the least important neurons go, and the rest is fine-tuned between.

        small, report = singe(model, images[:200], labels[:200], loader, F.cross_entropy, removed=0.75)

    Args:
        model: any network of convolutions and linear layers; it is left as it is.
        inputs, targets: samples on which neurons are scored, 100 to 500.
        batches: (inputs, targets) of the fine-tuning, walked through again and again.
        loss: (outputs, targets) -> mean loss.
        removed: share of the channels of each group of tied layers that goes.
        criterion: one of `CRITERIA`.
        attenuation, path_steps: mu and S of the paths, shorter than for `importance` as they are walked in every round.
        rounds: increments in which each group reaches its share; 0 removes all at once, before any fine-tuning.
        steps: of the fine-tuning, in all. Those between increments are dealt out by how many channels go.
        closing: share of the steps that follows the last removal.
        learning_rate: of Adam at first; it falls to zero over all steps, along half a cosine.
        seed: of the random criterion.
        watch: called with the network, its removed channels zero, and the number of steps made: at first, after each removal and step.

    Returns:
        The network, and a table with a row per group: its channels before and after, and the obstacle of a group that is kept whole.

    Raises:
        ValueError: no batch, shares outside of 0 to 1, channels that go on when their weights are zero, or a network as `folded` or
            `groups` refuse it.
    """
    if not 0 <= removed < 1 or not 0 <= closing <= 1 or rounds < 0:
        raise ValueError(f"removed {removed}, closing {closing}, rounds {rounds}: give shares from 0 to 1 and rounds from 0.")
    model = folded(model, inputs[:2])
    tied = groups(model, inputs[:2])
    free = [group for group in tied if not group.obstacle]
    for group in free:
        _require_silence(model, inputs, group)
    goals = {group: min(round(removed * group.width), group.width - 1) for group in free}
    whole = sum(goals.values())
    dead: dict[Group, list[int]] = {group: [] for group in free}

    def silence(model: nn.Module, step: int) -> None:
        for group, neurons in dead.items():
            for part in _parts(model, group):
                part.put(neurons, 0.0)  # after each step too: momentum would bring them back
        if watch is not None:
            watch(model, step)

    tuning = FineTuning(model, batches, loss, steps, learning_rate, silence)
    silence(model.eval(), 0)
    increments = [[(group, turn / rounds)] for turn in range(1, rounds + 1) for group in free] or [[(group, 1.0) for group in free]]
    for number, increment in enumerate(increments):
        fallen = {}
        for group, share in increment:
            alive = [neuron for neuron in range(group.width) if neuron not in dead[group]]
            options = dict(attenuation=attenuation, steps=path_steps, neurons=alive, seed=seed + number)
            scores = importance(model, inputs, targets, loss, group, criterion, **options)  # type: ignore[arg-type]
            count = round(share * goals[group]) - len(dead[group])
            fallen[group] = [alive[place] for place in scores.argsort(stable=True)[:count].tolist()]
        for group, _ in increment:
            dead[group] += fallen[group]
            silence(model.eval(), tuning.made)
        gone = sum(map(len, dead.values())) / max(1, whole)
        if gone < 1:
            tuning.run_to(round((1 - closing) * steps * gone))
    tuning.run_to(steps)
    small = cut(model.eval(), inputs[:2], {group.name: gone for group, gone in dead.items() if gone})
    rows = [(group.name, group.width, group.width - len(dead.get(group, ())), group.obstacle) for group in tied]
    return small, pd.DataFrame(rows, columns=["group", "before", "after", "obstacle"])


def _require_silence(model: nn.Module, inputs: Tensor, group: Group) -> None:
    """Refuse a group whose channels go on when all that makes them is zero.

    Raises:
        ValueError: with the group's name.
    """
    zero = copied(model)
    for part in _parts(zero, group):
        part.put([0], 0.0)
    with torch.no_grad():
        found, expected = (list(tensors_in(net(inputs[:8]))) for net in (zero, masked(model, {group: [0]})))
    if not same_answers(found, expected):
        advice = "give the network activations that keep zero, like ReLU"
        raise ValueError(f"The channels of {group.name} go on when their weights are zero (a sigmoid behind them, say); {advice}.")

"""Channels of any network that can only go or be merged together, found by torch-pruning's dependency graph, and the surgery on them.

Channels that a residual connection adds, that a depthwise convolution passes on or that a flattening spreads are one group.
"""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
import torch_pruning
from jaxtyping import Float, Int
from torch import Tensor, nn

from facelab.networks.channels import is_depthwise
from facelab.networks.evaluation import copied, require_batch, require_hooks, require_precision, same_answers, tensors_in
from facelab.networks.layers import LAYERS, TRANSPOSED, channel_axis


@dataclass(frozen=True)
class Group:
    """Channels that layers put out together and others read.

    Attributes:
        name: the layers that put them out, joined by "+".
        width: number of channels.
        producers: layer -> (width, k) indices of the rows of its weight that make each channel.
        consumers: layer -> (width, k) indices of the columns of its weight that read each channel; several behind a flattening.
        others: modules between them with a weight per channel, such as batch norms.
        obstacle: why its channels cannot be cut, a clause; empty if they can.
    """

    name: str
    width: int
    producers: dict[str, Int[np.ndarray, "width rows"]] = field(compare=False)
    consumers: dict[str, Int[np.ndarray, "width columns"]] = field(compare=False)
    others: tuple[str, ...]
    obstacle: str = ""

    @property
    def merge_obstacle(self) -> str:
        """Why its channels cannot become one where they are equal, a clause; empty if they can."""
        return self.obstacle or (f"{self.others[0]} has weights of its own for each" if self.others else "")


def groups(model: nn.Module, example: Tensor) -> list[Group]:
    """All groups of channels between layers of a network, in order; each has been cut once on a copy to see whether it can be.

        free = [group for group in groups(model, images[:2]) if not group.obstacle]
        smaller = cut(model, images[:2], {free[0].name: [3, 5]})  # without the channels 3 and 5 of its first group

    The outputs of a network are no such group. A group may be cut if the smaller network computes what the whole one does with the
    weights that read the channel set to zero.

    Args:
        example: (B, ...) a batch the model takes.

    Raises:
        TypeError: the example is no tensor, or the model takes other things than one.
        ValueError: the model hides its layers or is in half precision, or torch-pruning cannot follow it.
    """
    require_hooks(model)
    require_precision(model)
    require_batch(model, example)
    modules, found = dict(model.named_modules()), []
    for group in _described(*_traced(model, example)):
        if not group.consumers:
            continue  # the network's outputs
        obstacle = _obstacle(group, modules) or _tried(model, example, group)
        found.append(Group(group.name, group.width, group.producers, group.consumers, group.others, obstacle))
    return found


def incoming(model: nn.Module, group: Group) -> Float[Tensor, "width n"]:
    """What makes each channel: the weights and biases of all layers that put it out; channels with equal rows are equal channels.

    Only where no batch norm lies between (`networks.folding.folded`).
    """
    parts = []
    for name, rows in group.producers.items():
        module = model.get_submodule(name)
        weight = module.weight.data.movedim(channel_axis(module), 0).flatten(1)  # type: ignore[operator, union-attr]
        parts.append(weight[rows[:, 0]])
        if module.bias is not None:
            parts.append(module.bias.data[rows[:, 0], None])  # type: ignore[index, operator, union-attr]
    return torch.cat(parts, dim=1)


def masked(model: nn.Module, channels: Mapping[Group, Sequence[int]]) -> nn.Module:
    """A copy that computes what it would without some channels: the weights that read them are zero. Fast, for `cut` takes longer.

    Args:
        channels: group -> indices of the channels that are not read.
    """
    result = copied(model)
    for group, gone in channels.items():
        for name, columns in group.consumers.items():
            module = result.get_submodule(name)
            _columns(module)[columns[list(gone)].ravel()] = 0
    return result


def cut(model: nn.Module, example: Tensor, channels: Mapping[str, Sequence[int]]) -> nn.Module:
    """A copy of a network without some channels, really smaller; it computes the same as `masked`.

    Args:
        example: (B, ...) a batch the model takes.
        channels: name of a group -> indices of the channels that go.

    Raises:
        ValueError: no such group, a channel that is not there, all channels of a group, or a group that cannot be cut.
    """
    if not channels:
        return copied(model)
    free = _checked(model, example, channels)
    for name, gone in channels.items():
        width = free[name].width
        if not set(gone) <= set(range(width)) or len(set(gone)) == width:
            raise ValueError(
                f"Of the {width} channels of {name}, {sorted(set(gone))} shall go; name some from 0 to {width - 1} and leave one."
            )
    return _cut(model, example, {name: sorted(set(gone)) for name, gone in channels.items()})


def merged(model: nn.Module, example: Tensor, labels: Mapping[str, Int[np.ndarray, " width"]]) -> nn.Module:
    """A copy of a network in which channels of one label have become one: what makes them is averaged, what reads them is added up.

    If channels of one label are equal, it computes the same, whatever the activation; weights are added, so that the one channel
    sends on what several did before.

    Args:
        example: (B, ...) a batch the model takes; batch norms have been folded (`networks.folding.folded`).
        labels: name of a group -> label of each of its channels.

    Raises:
        ValueError: no such group, labels of another length, a group that cannot be cut, or a norm or scale among its channels.
    """
    free = _checked(model, example, labels)
    result, gone = copied(model), {}
    for name, given in labels.items():
        group, given = free[name], np.asarray(given)
        if len(given) != group.width:
            raise ValueError(f"There are {len(given)} labels for the {group.width} channels of {name}; give one to each.")
        if group.merge_obstacle:
            raise ValueError(f"The channels of {name} cannot be merged, as {group.merge_obstacle}; fold batch norms first.")
        _, first, label = np.unique(given, return_index=True, return_inverse=True)
        keeper = first[label]  # of each channel: the one that speaks for it
        for layer, rows in group.producers.items():
            module = result.get_submodule(layer)
            averaged = [module.weight.data.movedim(channel_axis(module), 0)]  # type: ignore[operator, union-attr]
            for values in averaged + ([] if module.bias is None else [module.bias.data]):  # type: ignore[union-attr, list-item]
                values[rows[first, 0]] = _pooled(values[rows[:, 0]], label) / _pooled(
                    torch.ones(len(rows), *[1] * (values.ndim - 1)), label
                )
        for layer, columns in group.consumers.items():
            values = _columns(result.get_submodule(layer))
            for place in columns.T:  # behind a flattening a channel has several
                values[place[first]] = _pooled(values[place], label)
        gone[name] = np.flatnonzero(keeper != np.arange(group.width)).tolist()
    return _cut(result, example, {name: channels for name, channels in gone.items() if channels})


def _pooled(values: Float[Tensor, "width ..."], label: Int[np.ndarray, " width"]) -> Float[Tensor, "labels ..."]:
    """Sums over the channels of each label."""
    sums = torch.zeros(int(label.max()) + 1, *values.shape[1:], dtype=values.dtype)
    return sums.index_add_(0, torch.as_tensor(label), values.expand(len(label), *values.shape[1:]).clone())


def _columns(module: nn.Module) -> Float[Tensor, "inputs ..."]:
    """A layer's weight with its inputs first: a view, so that what is written to it is written to the layer."""
    return module.weight.data.movedim(0 if isinstance(module, TRANSPOSED) else 1, 0)  # type: ignore[operator, union-attr]


def _traced(model: nn.Module, example: Tensor) -> tuple[nn.Module, torch_pruning.DependencyGraph]:
    """A copy of the model and its dependency graph."""
    copy = copied(model).eval()
    for parameter in copy.parameters():
        parameter.requires_grad_(parameter.is_floating_point())  # the graph is read from gradients
    given = example[:2].clone()
    try:
        with warnings.catch_warnings(), torch.enable_grad():
            warnings.simplefilter("ignore")  # of parameters outside layers, which are followed as well
            graph = torch_pruning.DependencyGraph().build_dependency(copy, example_inputs=given, verbose=False)
    except Exception as error:  # whatever it meets in somebody's forward
        raise ValueError(f"The channels of {type(model).__name__} cannot be followed by torch-pruning ({error}).") from error
    return copy, graph


def _described(copy: nn.Module, graph: torch_pruning.DependencyGraph) -> list[Group]:
    names = {module: name for name, module in copy.named_modules()}
    order = {name: place for place, name in enumerate(names.values())}
    found = []
    for raw in graph.get_all_groups(root_module_types=list(LAYERS)):
        producers: dict[str, np.ndarray] = {}
        consumers: dict[str, np.ndarray] = {}
        others, width = [], len(raw[0].idxs)
        for item in raw:
            module = item.dep.target.module
            if module not in names:
                if isinstance(module, nn.Parameter):
                    others.append(next(name for name, parameter in copy.named_parameters() if parameter is module))
                continue  # an operation without weights
            places = _by_channel(item.idxs, item.root_idxs, width)
            if not isinstance(module, LAYERS):
                others.append(names[module])
            elif is_depthwise(module) or graph.is_out_channel_pruning_fn(item.dep.handler):
                producers[names[module]] = places
            else:
                consumers[names[module]] = places
        name = "+".join(sorted(producers, key=lambda producer: order[producer]))
        found.append(Group(name, width, producers, consumers, tuple(dict.fromkeys(others))))
    return sorted(found, key=lambda group: order[group.name.split("+")[0]])


def _by_channel(places: Sequence[int], channels: Sequence[int], width: int) -> Int[np.ndarray, "width k"]:
    """Places of each channel, a row each; empty rows if channels have unlike numbers of them."""
    rows: list[list[int]] = [[] for _ in range(width)]
    for place, channel in zip(places, channels, strict=True):
        rows[channel].append(place)
    even = len({len(row) for row in rows}) == 1
    return np.array(rows if even else [[] for _ in rows], dtype=int).reshape(width, -1)


def _obstacle(group: Group, modules: Mapping[str, nn.Module]) -> str:
    """What is known before trying."""
    for name, places in (group.producers | group.consumers).items():
        module = modules[name]
        if getattr(module, "groups", 1) > 1 and not is_depthwise(module):
            return f"{name} is a grouped convolution, whose groups must stay of one size"
        if not places.shape[1] or (name in group.producers and places.shape[1] > 1):
            return f"{name} does not treat them alike"
    if "weight" not in modules[group.name.split("+")[0]]._parameters:
        return f"the weight of {group.name.split('+')[0]} is made of other tensors"
    return ""


def _tried(model: nn.Module, example: Tensor, group: Group) -> str:
    """Cut the last channel of a copy, and see."""
    if group.width < 2:
        return "it is the only one"
    try:
        with torch.no_grad():
            smaller = _cut(model, example, {group.name: [group.width - 1]})
            found = list(tensors_in(smaller(example[:4].clone())))
            expected = list(tensors_in(masked(model, {group: [group.width - 1]}).eval()(example[:4].clone())))
    except Exception:  # whatever the user's forward says about other sizes
        return f"the code of {type(model).__name__} counts on their number"
    return "" if same_answers(found, expected) else "something between (attention, a norm over channels) mixes them, or they are outputs"


def _checked(model: nn.Module, example: Tensor, asked: Mapping) -> dict[str, Group]:
    free = {group.name: group for group in groups(model, example)}
    for name in asked:
        if name not in free:
            raise ValueError(f"{type(model).__name__} has no group of channels {name!r}; choose some of {tuple(free)}.")
        if free[name].obstacle:
            raise ValueError(f"The channels of {name} cannot go: {free[name].obstacle}.")
    return free


def _cut(model: nn.Module, example: Tensor, channels: Mapping[str, Sequence[int]]) -> nn.Module:
    copy, graph = _traced(model, example)
    for name, gone in channels.items():
        root = copy.get_submodule(name.split("+")[0])
        graph.get_pruning_group(root, graph.get_pruner_of_module(root).prune_out_channels, list(gone)).prune()
    for (_, old), new in zip(model.named_modules(), copy.modules(), strict=True):
        new.training = old.training
    takes = {name: parameter.requires_grad for name, parameter in model.named_parameters()}
    for name, parameter in copy.named_parameters():
        parameter.requires_grad_(takes[name])
    return copy

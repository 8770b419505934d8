"""Channels that can only go together: the one source of ties of the package."""

import logging
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from facelab.networks.channels import ExampleTracer, Labels, Unit, evaluated
from facelab.networks.evaluation import copied, same_answers, tensors_in
from facelab.networks.folding import NORMS, normalised
from facelab.networks.layers import LAYERS, layers

log = logging.getLogger(__name__)


def groups(model: nn.Module, example: Tensor) -> dict[str, tuple[str, ...]]:
    """Layers whose output channels can only go together (summands of a residual addition), as channel ablation and pruning tie them.

    The last layer, whose channels are the outputs themselves, is a group too.

    Returns:
        name of the group (its layers joined by "+", in order of execution) -> its layers.
    """

    order = {layer.name: layer.depth for layer in layers(model, example)}
    found: list[set[str]] = []
    for names in {unit.layers for unit in tied_units(model, example)}:
        together = set(names).union(*(group for group in found if group & set(names)))
        found = [group for group in found if not group & together] + [together]
    members = sorted((tuple(sorted(group, key=order.__getitem__)) for group in found), key=lambda names: order[names[0]])
    return {"+".join(names): names for names in members}


def tied_units(model: nn.Module, example: Tensor) -> list[Unit]:
    """Channels that can only be removed together, by the way that an example takes; by gradients where it cannot be followed."""
    model = normalised(copied(model).eval())
    called = {layer.name: layer.channels for layer in layers(model, example)}
    try:
        graph = ExampleTracer(example).trace(model)
        modules = dict(model.named_modules())
        with torch.no_grad():
            values = evaluated(graph, example, modules, model)
            output = next(node for node in graph.nodes if node.op == "output")
            if same_answers(list(tensors_in(values[output])), list(tensors_in(model(example)))):
                units = Labels(graph, modules, values, model).units()
                if {name for unit in units for name in unit.layers} == set(called):
                    return units
    except Exception as error:  # whatever Python the user's forward holds meets a proxy instead of a tensor
        log.info("Channels of %s are tied by gradients: %s", type(model).__name__, error)
    return units_by_gradient(model, called, example)


def units_by_gradient(model: nn.Module, called: Mapping[str, int], example: Tensor) -> list[Unit]:
    """Channels that can only be removed together, from torch-pruning's dependency graph (built from gradients, not from the code)."""
    import torch_pruning

    model = copied(model)
    for parameter in model.parameters():
        parameter.requires_grad_(True)
    names = {module: name for name, module in model.named_modules()}
    graph = torch_pruning.DependencyGraph().build_dependency(model, example_inputs=example[:1])
    units: dict[tuple, Unit] = {}
    for name, channels in called.items():
        module = model.get_submodule(name)
        if module not in graph.module2node:  # nothing that is returned depends on it
            units |= {((name,), channel): Unit((name,), channel, {name: (channel,)}) for channel in range(channels)}
            continue
        prune = graph.get_pruner_of_module(module).prune_out_channels
        for channel in range(channels):
            members: dict[str, tuple[int, ...]] = {}
            for dependency, positions in graph.get_pruning_group(module, prune, idxs=[channel]):
                target = dependency.target.module
                if isinstance(target, LAYERS + NORMS) and dependency.handler == graph.get_pruner_of_module(target).prune_out_channels:
                    members[names[target]] = tuple(sorted({*members.get(names[target], ()), *map(int, positions)}))
            tied = tuple(layer for layer in called if layer in members)
            unit = Unit(tied, members[tied[0]][0], members)
            units.setdefault((tied, unit.channel), unit)
    order = {name: i for i, name in enumerate(called)}
    return sorted(units.values(), key=lambda unit: (order[unit.layers[0]], unit.channel))

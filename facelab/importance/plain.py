"""A network evaluated as a whole after each change: for networks that cannot be traced, and what the fast way is measured against."""

import logging
from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from facelab.importance.channels import ExampleTracer, Labels, Unit, evaluated, replaced
from facelab.importance.networks import LAYERS, NORMS, layers, normalised
from facelab.importance.scores import copied, same_answers, tensors_in

log = logging.getLogger(__name__)


class Plain:
    """The same interface as `Incremental`, by forward hooks and exchanged weights on a copy.

    Args:
        model: any module.
        example: inputs that the ties between layers are found with.
    """

    bytes_per_sample = 1 << 21  # nothing is kept; batches of ordinary size

    def __init__(self, model: nn.Module, example: Tensor):
        self.root, self.example = normalised(copied(model).eval().requires_grad_(False)), example
        self.modules = dict(self.root.named_modules())
        self.layers = layers(self.root, example)
        self.originals = {layer.name: self.modules[layer.name].weight.detach() for layer in self.layers}

    @cached_property
    def units(self) -> list[Unit]:
        """Channels that can only be removed together."""
        return tied_units(self.root, self.example)

    def multiplies(self, changed: Iterable[str]) -> int:
        """Multiplications per sample of one evaluation."""
        return sum(layer.multiplies for layer in self.layers)

    def keep(self, inputs: Tensor):
        """Remember a batch; returns the outputs."""
        self.inputs = inputs
        return self.root(inputs.clone())  # it may work in place

    def without(self, unit: Unit) -> Iterator[tuple[Tensor, Any]]:
        """Outputs without the unit's channels: (indices of samples, their outputs)."""

        def cut(module: nn.Module, inputs, output: Tensor):
            positions = torch.as_tensor(unit.members[names[module]], device=output.device)
            axis = output.ndim - 1 if isinstance(module, nn.Linear) else 1
            return output.index_fill(axis, positions, 0)

        names = {self.modules[name]: name for name in unit.members}
        hooks = [module.register_forward_hook(cut) for module in names]
        try:
            yield torch.arange(len(self.inputs), device=self.inputs.device), self.root(self.inputs.clone())
        finally:
            for hook in hooks:
                hook.remove()

    def reweighted(self, weights: Mapping[str, Float[Tensor, "..."]], prune: bool = False) -> Iterator[tuple[Tensor, Any]]:
        """Outputs with other weights in some layers: (indices of samples, their outputs); `prune` as in `Incremental`."""
        with replaced(self.modules, weights, self.units if prune else ()):
            yield torch.arange(len(self.inputs), device=self.inputs.device), self.root(self.inputs.clone())


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

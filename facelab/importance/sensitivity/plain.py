"""A network evaluated as a whole after each change: for networks that cannot be traced, and what the fast way is measured against."""

from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from facelab.networks.channels import Unit, replaced
from facelab.networks.evaluation import copied
from facelab.networks.folding import normalised
from facelab.networks.layers import layers
from facelab.networks.ties import tied_units


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

"""What a network is made of: layers in order of execution, their cost, and the channels that are tied together."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Int
from torch import Tensor, nn

from facelab.networks.evaluation import evaluating, require_batch, require_hooks

LAYERS = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d, nn.Linear)
TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)


@dataclass(frozen=True)
class Layer:
    """A module with a weight.

    Attributes:
        name: as in `model.named_modules()`.
        shape: of the weight.
        parameters: number of scalars, bias included.
        depth: 1 for the first layer executed, 2 for the next.
        multiplies: multiplications for one sample.
        channels: number of outputs.
        output: shape of what it gives for one sample.
    """

    name: str
    shape: tuple[int, ...]
    parameters: int
    depth: int
    multiplies: int
    channels: int
    output: tuple[int, ...]

    @property
    def shape_text(self) -> str:
        """The weight's shape as a table holds it: "16x3x3x3"."""
        return "x".join(map(str, self.shape))


def channel_axis(module: nn.Module) -> int:
    """Axis of the weight that counts the outputs: 1 for a transposed convolution, else 0."""
    return 1 if isinstance(module, TRANSPOSED) else 0


def outputs_of(rows: Int[Tensor, " rows"], module: nn.Module) -> Int[Tensor, " outputs"]:
    """The output channels that rows of the weight along `channel_axis` make: one each, or one per group if transposed."""
    if not isinstance(module, TRANSPOSED):
        return rows
    return torch.cat([rows + group * module.weight.shape[1] for group in range(module.groups)])


def layers(model: nn.Module, example: Tensor) -> list[Layer]:
    """The convolutions and linear layers that run, in order of execution; a layer used twice counts once, with both its costs.

    Args:
        example: (B, ...) a batch the model takes; it runs through once.

    Raises:
        ValueError: none of these layers runs, one shares its weight or is called by keyword, a weight is no
            parameter, or the model is compiled or scripted.
    """
    require_hooks(model)
    require_batch(model, example)
    outputs: dict[str, Tensor] = {}
    multiplies: dict[str, int] = {}

    def watch(name: str) -> Callable:
        def hook(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            outputs.setdefault(name, output)
            if not inputs:
                raise ValueError(f"The layer {name} is called by keyword; call it with its input as first argument.")
            multiplies[name] = multiplies.get(name, 0) + multiplies_of(module, inputs[0], output)

        return hook

    modules = {name: module for name, module in model.named_modules() if isinstance(module, LAYERS)}
    handles = [module.register_forward_hook(watch(name)) for name, module in modules.items()]
    try:
        with evaluating(model), torch.no_grad():
            model(example)
    finally:
        for handle in handles:
            handle.remove()
    for name in outputs:
        layer_of(model, name)
    if not outputs:
        raise ValueError(f"No convolution or linear layer runs in {type(model).__name__}; importance of layers needs at least one.")
    return [_describe(name, modules[name], depth, multiplies[name], outputs[name]) for depth, name in enumerate(outputs, start=1)]


def multiplies_of(module: nn.Module, given: Tensor, output: Tensor) -> int:
    """Multiplications for one sample in one call of a layer."""
    # every weight meets every place of the grid on its output side (input side if transposed) once
    grid = given if isinstance(module, TRANSPOSED) else output
    places = grid[0, 0].numel() if not isinstance(module, nn.Linear) else output[0].numel() // output.shape[-1]
    return module.weight.numel() * places  # type: ignore[operator, union-attr]


def layer_of(model: nn.Module, name: str) -> nn.Module:
    """A layer whose weight can be changed alone.

    Raises:
        ValueError: there is no such layer, its weight is no parameter, or another one has the same.
    """
    module = dict(model.named_modules()).get(name)
    if not isinstance(module, LAYERS):
        raise ValueError(f"{type(model).__name__} has no convolution or linear layer named {name!r}; networks.layers lists those it has.")
    if "weight" not in module._parameters:
        raise ValueError(f"The weight of {name} is made of other tensors; remove the parametrization (weight norm, pruning, ...) first.")
    if others := [other for other, part in model.named_modules() if part is not module and _shares(part, module.weight)]:
        shared = " and ".join(sorted([name, others[0] or "the model itself"]))
        raise ValueError(f"The layers {shared} share one weight, so neither can be changed alone; give them copies.")
    return module


def _shares(module: nn.Module, weight: Tensor) -> bool:
    """Whether a parameter of the module is the same memory, also seen transposed."""
    own = [parameter for parameter in module._parameters.values() if parameter is not None]
    return any(parameter.data_ptr() == weight.data_ptr() for parameter in own if parameter.numel())


def overlooked(model: nn.Module, found: list[Layer]) -> list[str]:
    """Weights (two axes or more) that belong to no layer found: of attention, embeddings, recurrent or self-made modules."""
    inside = {f"{layer.name}.weight".lstrip(".") for layer in found}
    return [name for name, parameter in model.named_parameters() if parameter.ndim > 1 and name not in inside]


def _describe(name: str, module: nn.Module, depth: int, multiplies: int, output: Tensor) -> Layer:
    weight, bias = module.weight, module.bias
    channels = output.shape[-1 if isinstance(module, nn.Linear) else 1]
    parameters = weight.numel() + (0 if bias is None else bias.numel())  # type: ignore[operator, union-attr]
    return Layer(name, tuple(weight.shape), parameters, depth, multiplies, channels, tuple(output.shape[1:]))  # type: ignore[arg-type]


def is_plain(module: nn.Module, *kinds: type[nn.Module]) -> bool:
    """Whether a module computes what one of the kinds does: a subclass may have a forward of its own."""
    return any(isinstance(module, kind) and type(module).forward is kind.forward for kind in kinds)

"""What is explained: the scalar that a network is asked for, and the state in which it answers."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from jaxtyping import Float
from torch import Tensor, nn

Target = int | Callable[[Tensor], Tensor]
Score = Callable[[Tensor], Tensor]


def scalar(model: nn.Module, target: Target) -> Score:
    """The function inputs -> (B,) that is explained."""

    def score(inputs: Tensor) -> Tensor:
        outputs = model(inputs)
        if callable(target):
            return target(outputs)
        if outputs.ndim != 2 or not -outputs.shape[1] <= target < outputs.shape[1]:
            advice = "give a column of the output, or a function outputs -> (B,)"
            raise ValueError(f"target={target} does not fit an output of shape {tuple(outputs.shape)}; {advice}.")
        return outputs[:, target]

    return score


def neuron(model: nn.Module, layer: nn.Module, unit: int | tuple[int, ...]) -> Score:
    """The function inputs -> (B,) that is one unit of a layer, or the mean of one of its channels."""
    index = (unit,) if isinstance(unit, int) else tuple(unit)

    def score(inputs: Tensor) -> Tensor:
        outputs = layer_output(model, layer, inputs)
        try:
            return outputs[(slice(None), *index)].reshape(len(outputs), -1).mean(dim=1)
        except IndexError:
            raise ValueError(f"unit={unit} does not fit a layer with outputs of shape {tuple(outputs.shape[1:])}.") from None

    return score


def layer_output(forward: Callable[[Tensor], Tensor], layer: nn.Module, inputs: Tensor) -> Tensor:
    """What `layer` puts out when `forward` runs."""
    with watched(layer) as seen:
        forward(inputs)
    return seen[0]


@contextmanager
def watched(layer: nn.Module) -> Iterator[list[Tensor]]:
    """Collects what `layer` puts out inside; the next layer gets a copy, as it may work in place."""
    seen: list[Tensor] = []

    def hook(module: nn.Module, arguments: tuple, output: Tensor) -> Tensor:
        seen.append(output)
        return output.clone()

    handle = layer.register_forward_hook(hook)
    try:
        yield seen
    finally:
        handle.remove()


def baseline_like(inputs: Float[Tensor, "B *shape"], baseline: Tensor | float | None) -> Float[Tensor, "B *shape"]:
    """The baseline as a tensor of the inputs' shape.

    Raises:
        ValueError: it does not broadcast to the inputs.
    """
    values = torch.as_tensor(0.0 if baseline is None else baseline, dtype=inputs.dtype, device=inputs.device)
    try:
        return values.detach().expand_as(inputs).clone()
    except RuntimeError:
        shapes = f"{tuple(values.shape)} does not fit inputs of shape {tuple(inputs.shape)}"
        raise ValueError(f"A baseline of shape {shapes}; give a number, one image, or one image for each input.") from None


def layer_name(model: nn.Module, layer: nn.Module | None, inputs: Tensor) -> str:
    """The layer's name in the model; refuses one that hooks would not see exactly once."""
    if layer is None:
        return ""
    names = [name for name, module in model.named_modules() if module is layer]
    if not names:
        raise ValueError(f"The layer {type(layer).__name__} is no part of the model; take it from model.named_modules().")
    calls: list[int] = []
    hook = layer.register_forward_hook(lambda *_: calls.append(1))
    try:
        with torch.no_grad():
            model(inputs[:1])
    finally:
        hook.remove()
    if len(calls) != 1:
        raise ValueError(
            f"The layer {names[0]!r} is called {len(calls)} times in a forward pass; layers are looked at in exactly one call."
        )
    return names[0]

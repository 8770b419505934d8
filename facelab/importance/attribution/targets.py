"""What is explained: the scalar that a network is asked for, and the state in which it answers."""

import operator
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from jaxtyping import Shaped
from torch import Tensor, nn

from facelab.importance.attribution.paths import Explained
from facelab.networks.evaluation import require_hooks

Target = int | Callable[[Tensor], Tensor]


def scalar(model: nn.Module, target: Target) -> Explained:
    """The function inputs -> (B,) that is explained.

    Raises:
        TypeError: a target that is neither a column nor a function.
    """
    if not callable(target):
        try:
            target = operator.index(target)
        except TypeError:
            advice = "give one column for all inputs, or a function outputs -> (B,), row by row"
            raise TypeError(f"target is a {type(target).__name__}; {advice}.") from None

    def score(inputs: Tensor) -> Tensor:
        outputs = model(inputs)
        if callable(target):
            return target(outputs)
        if not isinstance(outputs, Tensor):
            raise ValueError(f"The model gives a {type(outputs).__name__}; give a function outputs -> (B,) as target.")
        if outputs.ndim != 2 or not -outputs.shape[1] <= target < outputs.shape[1]:
            advice = "give a column of the output, or a function outputs -> (B,)"
            raise ValueError(f"target={target} does not fit an output of shape {tuple(outputs.shape)}; {advice}.")
        return outputs[:, target]

    return score


def neuron(model: nn.Module, layer: nn.Module, unit: int | tuple[int, ...], axis: int = 1) -> Explained:
    """The function inputs -> (B,) that is one unit of a layer, or the mean of one of its channels, which `axis` counts."""
    index = (unit,) if isinstance(unit, int) else tuple(unit)

    def score(inputs: Tensor) -> Tensor:
        outputs = layer_output(model, layer, inputs)
        outputs = outputs.movedim(axis, 1) if len(index) == 1 else outputs
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


def baseline_like(inputs: Shaped[Tensor, "B *shape"], baseline: Tensor | float | None) -> Shaped[Tensor, "B *shape"]:
    """The baseline as a tensor of the inputs' shape.

    Raises:
        ValueError: it does not broadcast to the inputs, or whole numbers cannot hold it.
    """
    given = torch.as_tensor(0.0 if baseline is None else baseline, device=inputs.device).detach()
    values = given.to(inputs.dtype)
    if not inputs.is_floating_point() and not torch.equal(values.double(), given.double()):
        raise ValueError(f"Inputs of {inputs.dtype} cannot hold the baseline {given.flatten()[0].item():g}; give one of their own values.")
    try:
        return spread(values, inputs).clone()
    except RuntimeError:
        shapes = f"{tuple(values.shape)} does not fit inputs of shape {tuple(inputs.shape)}"
        raise ValueError(f"A baseline of shape {shapes}; give a number, one image, or one image for each input.") from None


def spread(part: Shaped[Tensor, "..."], values: Shaped[Tensor, "B *shape"]) -> Shaped[Tensor, "B *shape"]:
    """`part` in the shape of the values.

    Raises:
        ValueError: one image for each input without an axis of channels, which would be taken for one image of channels.
        RuntimeError: it does not broadcast.
    """
    if 1 < part.ndim == values.ndim - 1 and len(part) == len(values) == values.shape[1] > 1:
        shapes = f"Shape {tuple(part.shape)} for {tuple(values.shape)}"
        raise ValueError(f"{shapes} may count inputs or channels; write [:, None] for one per input, [None] for one of all channels.")
    return part.expand_as(values)


def layer_name(model: nn.Module, layer: nn.Module | None, inputs: Tensor) -> str:
    """The layer's name in the model; refuses one that hooks would not see exactly once, or that does not count the inputs first."""
    if layer is None:
        return ""
    require_hooks(model)
    names = [name for name, module in model.named_modules() if module is layer]
    if not names:
        raise ValueError(f"The layer {type(layer).__name__} is no part of the model; take it from model.named_modules().")
    with torch.no_grad():
        calls = _calls(model, layer, inputs[:1])
    if len(calls) != 1:
        raise ValueError(
            f"The layer {names[0]!r} is called {len(calls)} times in a forward pass; layers are looked at in exactly one call."
        )
    if not isinstance(calls[0], Tensor):
        raise ValueError(f"The layer {names[0]!r} gives a {type(calls[0]).__name__}; take one that gives a tensor.")
    with torch.no_grad():
        for part in (inputs[:1], inputs):
            output = _calls(model, layer, part)[0]
            if output.ndim == 0 or len(output) != len(part):
                rows = f"gives shape {tuple(output.shape)} for {len(part)} inputs"
                raise ValueError(f"The layer {names[0]!r} {rows}; it must count the inputs on its first axis.")
    return names[0]


def _calls(model: nn.Module, layer: nn.Module, inputs: Tensor) -> list:
    """What a layer puts out, call by call."""
    outputs: list = []
    hook = layer.register_forward_hook(lambda module, arguments, output: outputs.append(output))
    try:
        model(inputs)
    finally:
        hook.remove()
    return outputs


CHANNELS_FIRST = (
    *(nn.modules.conv._ConvNd, nn.modules.batchnorm._NormBase, nn.GroupNorm, nn.modules.pooling._MaxPoolNd, nn.modules.pooling._AvgPoolNd),
    *(nn.modules.pooling._AdaptiveAvgPoolNd, nn.modules.pooling._AdaptiveMaxPoolNd),
)
CHANNELS_LAST = (nn.Linear, nn.Embedding, nn.Bilinear)
READ_LAST = (nn.Linear, nn.LayerNorm, nn.RNNBase, nn.MultiheadAttention, nn.TransformerEncoderLayer)


def channels_at(model: nn.Module, layer: nn.Module, inputs: Shaped[Tensor, "B *shape"]) -> int:
    """Axis that counts the channels of what a layer puts out: that of its kind, or of all layers around that have as many axes.

    Raises:
        ValueError: they disagree, or there are none.
    """
    seen: list[tuple[int, Tensor, Tensor]] = []

    def watch(module: nn.Module, arguments: tuple, output: object) -> None:
        axis = _own_axis(module, output)
        if axis is not None and arguments and isinstance(output, Tensor):
            seen.append((axis, arguments[0], output))

    hooks = [module.register_forward_hook(watch) for module in model.modules()]
    try:
        with torch.no_grad():
            output = layer_output(model, layer, inputs[:1])
    finally:
        for hook in hooks:
            hook.remove()
    own = 1 if output.ndim == 2 else _own_axis(layer, output)
    if own is not None:
        return own
    alike = [
        (axis, *(part.shape[axis] for part in parts if part.ndim == output.ndim)) for axis, *parts in seen if parts[1].ndim == output.ndim
    ]
    axes, sizes = {axis for axis, *_ in alike}, {size for _, *found in alike for size in found}
    if len(axes) == 1 and output.shape[axis := axes.pop()] in sizes:
        return axis
    advice = "take a convolution, linear layer or norm beside it"
    raise ValueError(
        f"Which axis of {tuple(output.shape[1:])} counts the channels of a {type(layer).__name__} cannot be told here; {advice}."
    )


def channels_of_inputs(model: nn.Module, inputs: Shaped[Tensor, "B *shape"]) -> int:
    """Axis that counts the channels of the inputs: that of the first layer that reads them; 1 for images where none can be found.

    Raises:
        ValueError: tokens and signals (B, ., .), of which no layer tells the one from the other.
    """
    inputs = inputs[:1]
    read: list[tuple[int, Tensor]] = []

    def watch(module: nn.Module, arguments: tuple) -> None:
        first = arguments[0] if arguments else None
        if isinstance(first, Tensor) and first.ndim == inputs.ndim and isinstance(module, CHANNELS_FIRST + READ_LAST):
            read.append((1 if isinstance(module, CHANNELS_FIRST) else first.ndim - 1, first))

    hooks = [module.register_forward_pre_hook(watch) for module in model.modules() if not isinstance(module, torch.jit.ScriptModule)]
    try:
        with torch.no_grad():
            model(inputs)
    finally:
        for hook in hooks:
            hook.remove()
    for axis, first in read[:1]:
        if first.data_ptr() == inputs.data_ptr():  # the inputs themselves, perhaps turned
            axes = [k for k in range(1, inputs.ndim) if (inputs.shape[k], inputs.stride(k)) == (first.shape[axis], first.stride(axis))]
        else:
            same = first.shape == inputs.shape
            axes = [axis] if same else [k for k in range(1, inputs.ndim) if inputs.shape[k] == first.shape[axis]]
        if len(axes) == 1:
            return axes[0]
    if inputs.ndim > 3:
        return 1
    advice = "take 'part ablation' with a mask"
    raise ValueError(f"Which axis of inputs {tuple(inputs.shape[1:])} counts channels, which places, cannot be told here; {advice}.")


def _own_axis(module: nn.Module, output: object) -> int | None:
    """The axis of channels that is sure for a kind of module."""
    if not isinstance(output, Tensor) or output.ndim < 2:
        return None
    if isinstance(module, CHANNELS_FIRST):
        return 1
    last = isinstance(module, CHANNELS_LAST) or (type(module) is nn.LayerNorm and len(module.normalized_shape) == 1)
    return output.ndim - 1 if last else None

"""What a network is made of: layers in order of execution, their cost, and the channels that are tied together."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Int
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval, fuse_conv_bn_weights, fuse_linear_bn_eval

from facelab.importance.scores import copied, evaluating, require_hooks, tensors_in

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
    outputs: dict[str, Tensor] = {}
    multiplies: dict[str, int] = {}

    def watch(name: str) -> Callable:
        def hook(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            outputs.setdefault(name, output)
            if not inputs:
                raise ValueError(f"The layer {name} is called by keyword; call it with its input as first argument.")
            # every weight meets every place of the grid on its output side (input side if transposed) once
            grid = inputs[0] if isinstance(module, TRANSPOSED) else output
            places = grid[0, 0].numel() if not isinstance(module, nn.Linear) else output[0].numel() // output.shape[-1]
            multiplies[name] = multiplies.get(name, 0) + module.weight.numel() * places  # type: ignore[operator, union-attr]

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
        module = modules[name]
        if "weight" not in module._parameters:
            raise ValueError(
                f"The weight of {name} is made of other tensors; remove the parametrization (weight norm, pruning, ...) first."
            )
        if others := [other for other, part in model.named_modules() if part is not module and _shares(part, module.weight)]:  # type: ignore[arg-type]
            shared = " and ".join(sorted([name, others[0] or "the model itself"]))
            raise ValueError(f"The layers {shared} share one weight, so neither can be changed alone; give them copies.")
    if not outputs:
        raise ValueError(f"No convolution or linear layer runs in {type(model).__name__}; importance of layers needs at least one.")
    return [_describe(name, modules[name], depth, multiplies[name], outputs[name]) for depth, name in enumerate(outputs, start=1)]


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


def groups(model: nn.Module, example: Tensor) -> dict[str, tuple[str, ...]]:
    """Layers whose output channels can only go together (summands of a residual addition), as channel ablation and pruning tie them.

    The last layer, whose channels are the outputs themselves, is a group too.

    Returns:
        name of the group (its layers joined by "+", in order of execution) -> its layers.
    """
    from facelab.importance.plain import tied_units

    order = {layer.name: layer.depth for layer in layers(model, example)}
    found: list[set[str]] = []
    for names in {unit.layers for unit in tied_units(model, example)}:
        together = set(names).union(*(group for group in found if group & set(names)))
        found = [group for group in found if not group & together] + [together]
    members = sorted((tuple(sorted(group, key=order.__getitem__)) for group in found), key=lambda names: order[names[0]])
    return {"+".join(names): names for names in members}


class PerChannel(nn.modules.batchnorm._BatchNorm):
    """A batch norm for inputs of any number of axes."""

    def _check_input_dim(self, input: Tensor) -> None:
        pass


NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm, PerChannel)


def is_plain(module: nn.Module, *kinds: type[nn.Module]) -> bool:
    """Whether a module computes what one of the kinds does: a subclass may have a forward of its own."""
    return any(isinstance(module, kind) and type(module).forward is kind.forward for kind in kinds)


def normalised(model: nn.Module) -> nn.Module:
    """The model itself, with modules that do what a batch norm does, a factor and a shift per channel (frozen ones), as batch norms."""
    for name, module in list(model.named_modules()):
        own = [*module.buffers(recurse=False), *module.parameters(recurse=False)]
        sizes = {tensor.numel() for tensor in own if tensor.numel() > 1}
        if not name or len(sizes) != 1 or any(True for _ in module.children()):
            continue
        if type(module).__module__.startswith("torch.nn.") and not isinstance(module, nn.modules.instancenorm._InstanceNorm):
            continue  # an instance norm with running statistics is one
        channels = sizes.pop()
        drawn = torch.randn(channels, 4, 5, generator=torch.Generator().manual_seed(0)).to(own[0])
        tried = torch.stack([torch.zeros_like(drawn), torch.ones_like(drawn), drawn])
        try:
            with torch.no_grad():
                shift, moved, found = module(tried)
        except Exception:  # it takes something else
            continue
        factor = moved - shift
        even = all(part.shape == drawn.shape and (part == part[:, :1, :1]).all() for part in (shift, moved))
        if even and torch.allclose(found, drawn * factor + shift, rtol=1e-5, atol=1e-6):
            norm = PerChannel(channels, eps=0.0).to(own[0]).eval()
            norm.weight.data, norm.bias.data = factor[:, 0, 0].clone(), shift[:, 0, 0].clone()
            model.set_submodule(name, norm.requires_grad_(False))
    return model


def folded(model: nn.Module, example: Tensor) -> nn.Module:
    """A copy in evaluation mode whose batch norms are part of the layers before them; it computes the same.

    A batch norm divides by the statistics of the layer before it. Unless it is folded, the same relative change of a weight
    means something else in each layer.

    Args:
        example: (B, ...) a batch the model takes.

    Raises:
        ValueError: the copy does not compute the same, because a layer's output is also used without its batch norm.
    """
    result = normalised(copied(model).eval())
    made_by: dict[int, str] = {}
    kept: list[Tensor] = []  # alive, so that no two of them have one id
    pairs: list[tuple[str, str]] = []

    def watch(name: str) -> Callable:
        def hook(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            if isinstance(module, NORMS) and id(inputs[0]) in made_by:
                pairs.append((made_by[id(inputs[0])], name))
            elif isinstance(module, LAYERS):
                made_by[id(output)] = name
                kept.append(output)

        return hook

    handles = [module.register_forward_hook(watch(name)) for name, module in result.named_modules() if isinstance(module, LAYERS + NORMS)]
    with torch.no_grad():
        expected = [part.clone() for part in tensors_in(result(example.clone()))]
    for handle in handles:
        handle.remove()
    norms = {norm: result.get_submodule(norm) for _, norm in pairs}
    for layer, norm in dict.fromkeys(pairs):  # an encoder may run twice
        if norms[norm].running_mean is not None:
            result.set_submodule(layer, _fused(result.get_submodule(layer), norms[norm]))
            result.set_submodule(norm, nn.Identity())
    with torch.no_grad():
        found = list(tensors_in(result(example.clone())))
    same = all(torch.allclose(a, b, rtol=1e-3, atol=1e-4 * float(b.abs().max())) for a, b in zip(found, expected, strict=True))
    if not same:
        raise ValueError(f"Batch norms of {type(model).__name__} cannot be folded: a layer's output is also used without its batch norm.")
    return result


def _fused(module: nn.Module, norm: nn.Module) -> nn.Module:
    """A layer with the batch norm behind it."""
    if isinstance(module, nn.Linear):
        return fuse_linear_bn_eval(module, norm)  # type: ignore[type-var]
    if not isinstance(module, TRANSPOSED) or module.groups == 1:
        return fuse_conv_bn_eval(module, norm, transpose=isinstance(module, TRANSPOSED))  # type: ignore[arg-type, type-var]
    result = copied(module)  # torch's fusion knows no groups here: one after the other, and put together
    parts = [part.chunk(module.groups) for part in (module.weight, *_statistics(norm))]
    bias = [None] * module.groups if module.bias is None else module.bias.chunk(module.groups)
    fused = [
        fuse_conv_bn_weights(weight, b, mean, variance, norm.eps, factor, shift, transpose=True)  # type: ignore[arg-type]
        for b, weight, mean, variance, factor, shift in zip(bias, *parts, strict=True)
    ]
    result.weight, result.bias = nn.Parameter(torch.cat([weight for weight, _ in fused])), nn.Parameter(torch.cat([b for _, b in fused]))
    return result


def _statistics(norm: nn.Module) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Mean, variance, factor and shift of a batch norm."""
    mean, variance = norm.running_mean, norm.running_var
    factor = torch.ones_like(mean) if norm.weight is None else norm.weight.data  # type: ignore[arg-type]
    return mean, variance, factor, torch.zeros_like(mean) if norm.bias is None else norm.bias.data  # type: ignore[arg-type, return-value]

"""Batch norms as part of the layers before them."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval, fuse_conv_bn_weights, fuse_linear_bn_eval

from facelab.networks.evaluation import answers, copied, in_evaluation_mode, require_hooks, require_precision, tensors_in
from facelab.networks.layers import LAYERS, TRANSPOSED


class PerChannel(nn.modules.batchnorm._BatchNorm):
    """A batch norm for inputs of any number of axes."""

    def _check_input_dim(self, input: Tensor) -> None:
        pass


NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm, PerChannel)


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
        TypeError: the example is no tensor, or the model takes other things than one.
        ValueError: the copy does not compute the same, because a layer's output is also used without its batch norm; or the model
            answers differently each time, hides its layers or is in half precision.
    """
    require_hooks(model)
    require_precision(model)
    with in_evaluation_mode(model):
        answers(model, example)
    result = normalised(copied(model).eval())
    made_by: dict[int, str] = {}
    kept: list[Tensor] = []  # alive, so that no two of them have one id
    pairs: list[tuple[str, str]] = []

    def watch(name: str) -> Callable:
        def hook(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            if isinstance(module, NORMS) and inputs and id(inputs[0]) in made_by:
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

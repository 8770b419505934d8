"""Second moments of what the weights of a layer are multiplied by: all that the square error of its outputs depends on."""

from collections.abc import Callable, Mapping

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from facelab.networks.evaluation import evaluating


def patches(module: nn.Linear | nn.Conv1d | nn.Conv2d, x: Float[Tensor, "B ..."]) -> Float[Tensor, "groups rows n"]:
    """What the weights of a layer are multiplied by: for each group of its channels a row for each place of an output.

    Args:
        module: a linear layer or a convolution that pads with zeros.
        x: what it is given.
    """
    if isinstance(module, nn.Linear):
        return x.flatten(0, -2)[None]
    if isinstance(module, nn.Conv1d):  # a convolution of images one pixel high
        x, kernel, dilation = x[:, :, None], (1, *module.kernel_size), (1, *module.dilation)
        padding, stride = (0, module.padding), (1, *module.stride)
    else:
        kernel, dilation, padding, stride = module.kernel_size, module.dilation, module.padding, module.stride  # type: ignore[assignment]
    if padding == "same" or "same" in padding:
        raise ValueError(f"{module} pads by itself; give its padding as numbers.")
    padding = tuple(one[0] if isinstance(one, tuple) else one for one in padding)  # type: ignore[assignment]
    columns = F.unfold(x, kernel, dilation, padding, stride)  # type: ignore[arg-type]
    return columns.unflatten(1, (module.groups, -1)).permute(1, 0, 3, 2).flatten(1, 2)


def inputs_of(model: nn.Module, x: Float[Tensor, "B ..."], layers: Mapping[str, nn.Module] | list[str]) -> dict[str, Tensor]:
    """What some layers are given in one pass; of a layer that is called twice, the last.

    Args:
        x: (B, ...) a batch the model takes.
        layers: their names; those that the pass does not reach are left out.
    """
    found: dict[str, Tensor] = {}

    def watch(name: str) -> Callable:
        def hook(module: nn.Module, given: tuple[Tensor, ...]) -> None:
            found[name] = given[0].detach().clone()  # what runs behind the layer may change it in place

        return hook

    handles = [model.get_submodule(name).register_forward_pre_hook(watch(name)) for name in layers]
    with evaluating(model), torch.no_grad():
        model(x)
    for handle in handles:
        handle.remove()
    return found

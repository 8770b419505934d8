"""Networks whose redundancy is known: neurons that were copied on purpose, the exact truth for whatever looks for duplicates."""

import torch
from torch import Tensor, nn

from facelab.networks.evaluation import copied
from facelab.networks.layers import is_plain


def duplicated(model: nn.Sequential, copies: int, noise: float = 0.0, seed: int = 0) -> tuple[nn.Sequential, dict[str, Tensor]]:
    """A wider network that computes the same: each hidden neuron several times, its outgoing weights shared out at random.

        wide, labels = duplicated(network, copies=4, noise=0.05)

    Args:
        model: linear layers, and what works on each neuron alone (a ReLU) between them; a flatten in front does no harm.
        copies: of each hidden neuron, 1 or more; the outgoing weights are split by random positive shares that sum to 1.
        noise: then added to all weights of hidden neurons, in standard deviations of their layer; at 0 the outputs are the same.
        seed: of the shares, of the order of the neurons and of the noise.

    Returns:
        The network; and for each hidden layer, by name, which neuron of `model` each of its own is, (width * copies,).

    Raises:
        ValueError: layers with weights that are not linear, a bias that is missing, or fewer than one copy.
    """
    if copies < 1:
        raise ValueError(f"copies={copies} leaves no neuron; give 1 or more.")
    weighted = [(name, module) for name, module in model.named_children() if any(True for _ in module.parameters())]
    if strange := [name for name, module in weighted if not is_plain(module, nn.Linear) or module.bias is None]:
        raise ValueError(f"The layer {strange[0]} is no linear layer with a bias; give a Sequential of those with activations between.")
    generator, result, labels = torch.Generator().manual_seed(seed), copied(model), {}
    linear = [result.get_submodule(name) for name, _ in weighted]
    with torch.no_grad():
        for (name, _), layer, following in zip(weighted[:-1], linear[:-1], linear[1:], strict=True):
            width = layer.out_features  # type: ignore[operator]
            order = torch.randperm(width * copies, generator=generator)
            shares = torch.rand(copies, width, generator=generator).add(0.1)
            shares = (shares / shares.sum(dim=0)).flatten()[order]
            labels[name] = origin = torch.arange(width).repeat(copies)[order]  # type: ignore[call-overload]
            weight, bias = layer.weight[origin], layer.bias[origin]  # type: ignore[index]
            weight = weight + noise * weight.std() * torch.randn(weight.shape, generator=generator)
            layer.weight, layer.bias = nn.Parameter(weight), nn.Parameter(bias)
            following.weight = nn.Parameter(following.weight[:, origin] * shares)  # type: ignore[index, operator]
            layer.out_features = following.in_features = width * copies  # type: ignore[assignment, operator]
    return result, labels

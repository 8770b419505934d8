"""Networks with filters cut out, weights rounded or bits flipped: copies, never the network itself."""

from collections.abc import Collection, Mapping
from functools import partial

import torch
from torch import Tensor, nn

from facelab.networks.evaluation import copied
from facelab.networks.folding import NORMS
from facelab.networks.layers import LAYERS, channel_axis, layers, outputs_of
from facelab.networks.perturbations import bit_swaps, generator_of, quantisation


def pruned(model: nn.Module, ratios: Mapping[str, float]) -> nn.Module:
    """A copy in which each layer's weakest filters (lowest norm) are zero, bias included: the same as without them.

    Tied layers (names joined by "+") lose the same channels, those of the lowest norm over all of them.

    Raises:
        ValueError: there are batch norms, whose shift would stay.
    """
    if wrong := {name: ratio for name, ratio in ratios.items() if not 0 <= ratio <= 1}:
        raise ValueError(f"The ratios {wrong} are no shares of filters; give numbers from 0 to 1.")
    if norms_left := [name for name, module in model.named_modules() if isinstance(module, NORMS)]:
        raise ValueError(
            f"Behind a filter that is cut, the batch norm {norms_left[0]} would go on; fold it first (networks.folding.folded)."
        )
    result = copied(model)
    for name, ratio in ratios.items():
        modules = [result.get_submodule(part) for part in name.split("+")]
        filters = [module.weight.data.movedim(channel_axis(module), 0) for module in modules]  # type: ignore[operator, union-attr]
        norms = torch.stack([weight.flatten(1).square().sum(dim=1) for weight in filters]).sum(dim=0)
        lowest = norms.argsort(stable=True)[: round(ratio * len(norms))]
        for module, weight in zip(modules, filters, strict=True):
            weight[lowest] = 0
            if module.bias is not None:
                module.bias.data[outputs_of(lowest, module)] = 0  # type: ignore[operator, index, union-attr]
    return result


def multiplies_left(model: nn.Module, example: Tensor) -> int:
    """Multiplications per sample once filters of zeros, and all that listened to them only, are gone; holds where `shrunk` does.

    A copy whose weights are 0 where they were and else positive, without biases, shows what anything can reach.
    """
    probe = copied(model).eval().double()
    found = {layer.name: layer.multiplies for layer in layers(model, example)}
    total = 0.0

    def count(name: str, module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        nonlocal total
        shares = []
        for value in (inputs[0], output):
            axis = value.ndim - 1 if isinstance(module, nn.Linear) else 1
            shares.append(float((value.movedim(axis, 0).flatten(1) != 0).any(dim=1).double().mean()))
        total += found[name] * (shares[1] if getattr(module, "groups", 1) > 1 else shares[0] * shares[1])

    for name in found:
        module = probe.get_submodule(name)
        weight = (module.weight.data != 0).double()  # type: ignore[operator]
        module.weight.data = weight / weight.numel() * len(weight)  # about means, so that nothing overflows
        if module.bias is not None:
            module.bias.data.zero_()  # type: ignore[operator, union-attr]
        module.register_forward_hook(partial(count, name))
    with torch.no_grad():
        probe(torch.ones_like(example[:1], dtype=torch.float64))
    return round(total)


def shrunk(model: nn.Module, ratios: Mapping[str, float], example: Tensor) -> nn.Module:
    """`pruned`, and then really smaller: channels that are zero are cut out of all layers by torch-pruning; it computes the same.

    Only for networks in which a channel of zeros stays zero until the next layer (ReLU, pooling, no batch norm).
    """
    from torch_pruning import DependencyGraph

    result = pruned(model, ratios).eval()
    for name in ratios:
        module = result.get_submodule(name.split("+")[0])
        axis = channel_axis(module)
        silent = module.weight.data.movedim(axis, 0).flatten(1).abs().sum(dim=1) == 0  # type: ignore[operator, union-attr]
        if silent.any() and not silent.all():
            graph = DependencyGraph().build_dependency(result, example_inputs=example)
            prune = graph.get_pruner_of_module(module).prune_out_channels
            graph.get_pruning_group(module, prune, idxs=silent.nonzero().flatten().tolist()).prune()
    return result


def quantised(model: nn.Module, chosen: Mapping[str, int]) -> nn.Module:
    """A copy in which the weights of each layer have the chosen number of bits (symmetric, one step per layer)."""
    result = copied(model)
    for name, b in chosen.items():
        module = result.get_submodule(name)
        module.weight.data = quantisation(module.weight.data, b)  # type: ignore[arg-type]
    return result


def struck(
    model: nn.Module, probability: float, safe: Collection[str] = (), *, scattered: float = 0.0, seed: int = 0, draw: int = 0
) -> nn.Module:
    """A copy whose weights have flipped bits (int8 codes), in all layers at once.

    Args:
        probability: of each bit.
        safe: layers that are protected.
        scattered: share of single weights, all over the other layers, that is protected.
        seed, draw: of the faults.
    """
    result = copied(model)
    for name, module in result.named_modules():
        if isinstance(module, LAYERS) and name not in safe:
            generator = generator_of(seed, name, "bit swaps", probability, draw)
            faulty = bit_swaps(module.weight.data, probability, generator)
            kept = torch.rand(faulty.shape, generator=generator) < scattered
            module.weight.data = torch.where(kept, module.weight.data, faulty)
    return result

"""Networks with filters cut out, weights rounded or bits flipped: copies, never the network itself."""

from collections.abc import Collection, Mapping

import numpy as np
import torch
from jaxtyping import Bool
from torch import Tensor, nn

from facelab.networks.channels import Labels, Recorder, is_depthwise
from facelab.networks.evaluation import copied, require_batch, require_hooks, require_precision, same_answers, tensors_in
from facelab.networks.folding import NORMS
from facelab.networks.layers import LAYERS, TRANSPOSED, channel_axis, layer_of, layers, multiplies_of, outputs_of
from facelab.networks.perturbations import bit_swaps, generator_of, quantisation


def _to_change(model: nn.Module) -> nn.Module:
    """A copy of a network whose layers can be seen and are exact enough to be changed."""
    require_hooks(model)
    require_precision(model)
    return copied(model)


def pruned(model: nn.Module, ratios: Mapping[str, float]) -> nn.Module:
    """A copy in which each layer's weakest filters (lowest norm) are zero, bias included: the same as without them.

    Tied layers (names joined by "+") lose the same channels, those of the lowest norm over all of them.

    Raises:
        ValueError: there are batch norms, whose shift would stay; tied layers that differ in channels; a layer that cannot be changed.
    """
    if wrong := {name: ratio for name, ratio in ratios.items() if not 0 <= ratio <= 1}:
        raise ValueError(f"The ratios {wrong} are no shares of filters; give numbers from 0 to 1.")
    if norms_left := [name for name, module in model.named_modules() if isinstance(module, NORMS)]:
        raise ValueError(
            f"Behind a filter that is cut, the batch norm {norms_left[0]} would go on; fold it first (networks.folding.folded)."
        )
    result = _to_change(model)
    for name, ratio in ratios.items():
        modules = [layer_of(result, part) for part in name.split("+")]
        filters = [module.weight.data.movedim(channel_axis(module), 0) for module in modules]  # type: ignore[operator, union-attr]
        if len({len(rows) for rows in filters}) > 1:
            raise ValueError(f"The layers {name} have {[len(rows) for rows in filters]} channels, which are not tied one to one; cut none.")
        norms = torch.stack([weight.flatten(1).square().sum(dim=1) for weight in filters]).sum(dim=0)
        lowest = norms.argsort(stable=True)[: round(ratio * len(norms))]
        for module, weight in zip(modules, filters, strict=True):
            weight[lowest] = 0
            if module.bias is not None:
                module.bias.data[outputs_of(lowest, module)] = 0  # type: ignore[operator, index, union-attr]
    return result


def multiplies_left(model: nn.Module, example: Tensor) -> int:
    """Multiplications per sample once filters of zeros, and all that listened to them only, are gone; holds where `shrunk` does.

    A copy whose weights are 0 where they were and else positive, without biases, shows what anything can reach. The image it sees is
    a ramp, and every layer takes absolute values, since a network that standardises its input would make zeros of a plain image.
    """
    probe = copied(model).eval().double()
    total = 0.0

    def positive(module: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return (inputs[0].abs(), *inputs[1:])

    def count(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        nonlocal total
        shares = []
        for value in (inputs[0], output):
            axis = value.ndim - 1 if isinstance(module, nn.Linear) else 1
            shares.append(float((value.movedim(axis, 0).flatten(1) != 0).any(dim=1).double().mean()))
        total += multiplies_of(module, inputs[0], output) * (shares[1] if getattr(module, "groups", 1) > 1 else shares[0] * shares[1])

    for layer in layers(model, example):
        module = probe.get_submodule(layer.name)
        weight = (module.weight.data != 0).double()  # type: ignore[operator]
        module.weight.data = weight / weight.numel() * len(weight)  # about means, so that nothing overflows
        if module.bias is not None:
            module.bias.data.zero_()  # type: ignore[operator, union-attr]
        module.register_forward_pre_hook(positive)
        module.register_forward_hook(count)
    shown = torch.ones_like(example[:1])
    if example.is_floating_point():
        shown = torch.linspace(0.5, 1.5, shown.numel(), dtype=torch.float64, device=example.device).view_as(shown)
    with torch.no_grad():
        probe(shown)
    return round(total)


def shrunk(model: nn.Module, ratios: Mapping[str, float], example: Tensor) -> nn.Module:
    """`pruned`, and then really smaller: channels that are zero are cut out of all layers; it computes the same.

    Only for networks in which a channel of zeros stays zero until the next layer (ReLU, pooling, no batch norm).

    Args:
        example: (B, ...) a batch the model takes.

    Raises:
        ValueError: as for `pruned`, or what is behind a channel (a norm, the output, a size written in the code) counts on it.
    """
    result = pruned(model, ratios).eval()
    require_batch(result, example)
    recorded = Recorder(result, example)
    found = Labels(recorded.graph, dict(result.named_modules()), recorded.values, result).of
    calls = [(str(node.target), node) for node in found if node.op == "call_module"]
    labels = {name: found[node][1] for name, node in calls if isinstance(result.get_submodule(name), LAYERS)}
    alive = {label for name in labels for label in labels[name][~_silent(result.get_submodule(name))]}
    asked = {name for group in ratios for name in group.split("+")}
    silent = {label for name in asked & set(labels) for label in labels[name][_silent(result.get_submodule(name))]}
    same, dead = asked <= set(labels) and not silent & alive, silent - alive
    for there in labels.values():
        dead -= set(there) if dead.issuperset(there) else set()  # a layer keeps its channels rather than none
    kept: dict[str, tuple] = {}
    for name, node in calls:
        if name in labels and name not in kept:
            module, before = result.get_submodule(name), found.get(node.all_input_nodes[0], (1, np.array([])))[1]
            wide = module.weight.shape[0 if isinstance(module, TRANSPOSED) else 1]  # type: ignore[union-attr, index]
            read = before if len(before) == wide else np.full(wide, -1)
            kept[name] = ~np.isin(labels[name], list(dead)), ~np.isin(read, list(dead))
    for name, (outputs, inputs) in kept.items():
        _cut(result.get_submodule(name), torch.as_tensor(outputs), torch.as_tensor(inputs))
    try:
        with torch.no_grad():
            same = same and same_answers(list(tensors_in(recorded.output)), list(tensors_in(result(example.clone()))))
    except Exception:  # whatever the user's forward says about other sizes
        same = False
    if not same:
        advice = "a norm, the output, groups or a size in its code count on them, or they are tied to others; take pruned"
        raise ValueError(f"Channels of {', '.join(ratios)} cannot be cut out of {type(model).__name__}: {advice}.")
    return result


def _silent(module: nn.Module) -> np.ndarray:
    """Which outputs of a layer are zero whatever comes in."""
    weight = module.weight.data.movedim(channel_axis(module), 0).flatten(1)  # type: ignore[operator, union-attr]
    rows = (weight == 0).all(dim=1).nonzero()[:, 0]
    channels = getattr(module, "out_channels", len(weight))
    silent = torch.zeros(channels, dtype=torch.bool).index_fill(0, outputs_of(rows.cpu(), module), True)
    return (silent & (module.bias.data.cpu() == 0) if module.bias is not None else silent).numpy()  # type: ignore[union-attr]


def _cut(module: nn.Module, outputs: Bool[Tensor, " outputs"], inputs: Bool[Tensor, " inputs"]) -> None:
    """Leave a layer these outputs and inputs."""
    sides = (inputs, outputs) if isinstance(module, TRANSPOSED) else (outputs, inputs)
    if is_depthwise(module):
        module.groups, inputs, sides = int(outputs.sum()), outputs, (outputs, torch.ones(1, dtype=torch.bool))  # type: ignore[assignment]
    elif getattr(module, "groups", 1) > 1:
        return  # its groups stay as they are
    module.weight = nn.Parameter(module.weight.data[sides[0]][:, sides[1]])  # type: ignore[index, operator]
    if module.bias is not None:
        module.bias = nn.Parameter(module.bias.data[outputs])  # type: ignore[index, operator]
    kind = "features" if isinstance(module, nn.Linear) else "channels"
    setattr(module, f"out_{kind}", int(outputs.sum()))
    setattr(module, f"in_{kind}", int(inputs.sum()))


def quantised(model: nn.Module, chosen: Mapping[str, int]) -> nn.Module:
    """A copy in which the weights of each layer have the chosen number of bits (symmetric, one step per layer)."""
    result = _to_change(model)
    for name, b in chosen.items():
        module = layer_of(result, name)
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
    result = _to_change(model)
    for name, module in result.named_modules():
        if isinstance(module, LAYERS) and name not in safe:
            layer_of(result, name)
            generator = generator_of(seed, name, "bit swaps", probability, draw)
            faulty = bit_swaps(module.weight.data, probability, generator)
            kept = torch.rand(faulty.shape, generator=generator) < scattered
            module.weight.data = torch.where(kept, module.weight.data, faulty)
    return result

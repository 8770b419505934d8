"""Channels that can only go together: the one source of ties of the package."""

from torch import Tensor, nn

from facelab.networks.channels import Labels, Recorder, Unit
from facelab.networks.evaluation import copied
from facelab.networks.folding import normalised
from facelab.networks.layers import layers


def groups(model: nn.Module, example: Tensor) -> dict[str, tuple[str, ...]]:
    """Layers whose output channels can only go together (summands of a residual addition), as channel ablation and pruning tie them.

    The last layer, whose channels are the outputs themselves, is a group too.

    Returns:
        name of the group (its layers joined by "+", in order of execution) -> its layers.
    """
    order = {layer.name: layer.depth for layer in layers(model, example)}
    found: list[set[str]] = []
    for names in {unit.layers for unit in tied_units(model, example)}:
        together = set(names).union(*(group for group in found if group & set(names)))
        found = [group for group in found if not group & together] + [together]
    members = sorted((tuple(sorted(group, key=order.__getitem__)) for group in found), key=lambda names: order[names[0]])
    return {"+".join(names): names for names in members}


def tied_units(model: nn.Module, example: Tensor) -> list[Unit]:
    """Channels that can only be removed together, by the way that an example takes."""
    model = normalised(copied(model).eval())
    called = layers(model, example)
    recorded = Recorder(model, example)
    units = Labels(recorded.graph, dict(model.named_modules()), recorded.values, model).units()
    seen = {name for unit in units for name in unit.layers}
    units += [Unit((l.name,), c, {l.name: (c,)}) for l in called if l.name not in seen for c in range(l.channels)]  # inside of another
    order = {layer.name: layer.depth for layer in called}
    return sorted(units, key=lambda unit: (order[unit.layers[0]], unit.channel))

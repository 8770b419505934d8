"""Channels in another order: what makes them and what reads them is permuted alike, so that the network computes the same."""

from collections.abc import Mapping

import torch
from jaxtyping import Int
from numpy import ndarray
from torch import Tensor, nn

from facelab.networks.evaluation import answers, copied, same_answers
from facelab.networks.groups import Group, groups

MOVED = (nn.Linear, nn.Conv1d, nn.Conv2d)
"""Layers whose rows or columns are put in another order."""


def free_groups(model: nn.Module, example: Tensor) -> list[Group]:
    """The groups of channels whose order is nobody's business; channels that a residual connection adds are one group.

        for group in free_groups(model, images[:2]): ...

    Args:
        model: in evaluation mode, with folded batch norms (`networks.folding.folded`): a norm would have to be permuted as well.
        example: (B, ...) a batch the model takes.

    Raises:
        ValueError: torch-pruning cannot follow the model.
    """
    found, expected = [], answers(model, example)
    for group in groups(model, example):
        layers = [model.get_submodule(name) for name in (*group.producers, *group.consumers)]
        if group.merge_obstacle or not all(isinstance(layer, MOVED) for layer in layers):
            continue
        backwards = torch.arange(group.width).flip(0).numpy()
        if same_answers(answers(reordered(model, {group: backwards}), example), expected):  # not where a forward counts on places
            found.append(group)
    return found


def reordered(model: nn.Module, orders: Mapping[Group, Int[ndarray, " width"]]) -> nn.Module:
    """A copy whose channels stand in another order.

        group = free_groups(model, images[:2])[0]
        same = reordered(model, {group: np.arange(group.width)[::-1]})

    Args:
        orders: group -> which of the old channels stands at each place.

    Raises:
        ValueError: an order that is no permutation of the channels.
    """
    result = copied(model)
    for group, order in orders.items():
        if sorted(order) != list(range(group.width)):
            raise ValueError(f"The order of {group.name} has to name each of its {group.width} channels once; it names {len(order)}.")
        for name, rows in group.producers.items():
            module = result.get_submodule(name)
            for values in (module.weight, module.bias):
                if values is not None:
                    values.data[rows[:, 0]] = values.data[rows[order, 0]]  # type: ignore[union-attr, operator, index]
        for name, columns in group.consumers.items():
            weight = result.get_submodule(name).weight.data  # type: ignore[union-attr]
            for place in columns.T:  # behind a flattening a channel has several
                weight[:, place] = weight[:, place[order]]  # type: ignore[index, operator]
    return result

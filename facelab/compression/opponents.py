"""Criteria of torch-pruning that a user would pick instead: L1, FPGM and Taylor.

Three traps of torch-pruning 1.6 are gone around. `GroupTaylorImportance` adds up |w dL/dw| weight by weight unless `multivariable=True`
asks for |sum w dL/dw|. Scores are divided by their group's mean, so that ranks across groups mean little: here each group loses the same
share. And its own pruner cuts what it finds, also where the code of a network counts on a number: here only groups that `groups` has tried.
"""

import pandas as pd
import torch_pruning
from torch import Tensor, nn

from facelab.networks.evaluation import copied
from facelab.networks.groups import cut, groups
from facelab.networks.tuning import Loss

CRITERIA = ("l1", "fpgm", "taylor")


def _importance(criterion: str) -> torch_pruning.importance.Importance:
    if criterion == "l1":
        return torch_pruning.importance.GroupMagnitudeImportance(p=1)
    if criterion == "fpgm":
        return torch_pruning.importance.FPGMImportance(p=1)
    if criterion == "taylor":
        return torch_pruning.importance.GroupTaylorImportance(multivariable=True)
    raise ValueError(f"torch-pruning has no criterion {criterion!r} here; choose one of {', '.join(CRITERIA)}.")


def pruned(
    model: nn.Module,
    example: Tensor,
    removed: float = 0.5,
    criterion: str = "l1",
    *,
    data: tuple[Tensor, Tensor] | None = None,
    loss: Loss | None = None,
) -> tuple[nn.Module, pd.DataFrame]:
    """A smaller network, without the channels of each group that a criterion of torch-pruning ranks lowest.

        smaller, report = pruned(model, images[:2], removed=0.5, criterion="taylor", data=(images, labels), loss=F.cross_entropy)

    Args:
        model: its batch norms stay, as they help the fine-tuning; it stays as it is.
        example: (B, ...) a batch the model takes.
        removed: share of the channels of each group, 0..1; one is always left.
        criterion: one of `CRITERIA`.
        data, loss: of Taylor, which needs a gradient.

    Returns:
        The network, not fine-tuned; and a row per group: `group`, channels `before` and `after`, and `obstacle`, why it was left alone.

    Raises:
        ValueError: another criterion, a share outside of 0..1, Taylor without data, or what `groups` refuses.
    """
    scorer = _importance(criterion)
    if not 0 <= removed < 1:
        raise ValueError(f"A share of {removed} channels cannot go; give one from 0 up to below 1.")
    if criterion == "taylor" and (data is None or loss is None):
        raise ValueError("Taylor's criterion needs a gradient; give data and a loss.")
    found = groups(model, example)
    traced = copied(model).eval().requires_grad_(True)
    graph = torch_pruning.DependencyGraph().build_dependency(traced, example_inputs=example[:2].clone(), verbose=False)
    if data is not None and loss is not None:
        traced.zero_grad()
        loss(traced(data[0]), data[1]).backward()
    gone, rows = {}, []
    for group in found:
        count = 0 if group.obstacle else min(round(removed * group.width), group.width - 1)
        if count:
            root = traced.get_submodule(group.name.split("+")[0])
            scores = scorer(graph.get_pruning_group(root, graph.get_pruner_of_module(root).prune_out_channels, list(range(group.width))))
            gone[group.name] = scores.argsort(stable=True)[:count].tolist()
        rows.append({"group": group.name, "before": group.width, "after": group.width - count, "obstacle": group.obstacle})
    return cut(model, example, gone), pd.DataFrame(rows, columns=["group", "before", "after", "obstacle"])

"""Channels pruned by a score of their incoming weights: what merging is compared with."""

from collections.abc import Callable

from jaxtyping import Float
from torch import Tensor, nn

from facelab.networks.groups import groups, incoming, masked


def thinned(model: nn.Module, example: Tensor, keep: float, score: Callable[[Tensor], Tensor]) -> nn.Module:
    """A copy of a network in whose groups only the channels with the highest scores are read; it computes what the cut one would.

        thinned(model, images[:2], 0.5, lambda rows: rows.abs().sum(dim=1))  # L1

    Args:
        example: (B, ...) a batch the model takes; batch norms have been folded (`networks.folding.folded`).
        keep: share of the channels that is left in every group, rounded up.
        score: incoming weights and biases of a group, (width, n) -> (width,) scores.

    Raises:
        ValueError: a share that is not above 0 and at most 1.
    """
    if not 0 < keep <= 1:
        raise ValueError(f"keep={keep} is not a share of the channels; give a number above 0 and at most 1.")
    gone = {}
    for group in groups(model, example):
        if not group.obstacle:
            count = int(round((1 - keep) * group.width, 9))
            gone[group] = score(incoming(model, group)).argsort(stable=True)[:count].tolist()
    return masked(model, gone)


def l1(rows: Float[Tensor, "width n"]) -> Float[Tensor, " width"]:
    """Sum of absolute incoming weights: the L1 norm of a filter, a bias counted as one of its weights.

    On a group of one layer without bias it agrees with the magnitude importance of torch-pruning if that is asked about this layer alone.
    """
    return rows.abs().sum(dim=1)


def distance_to_others(rows: Float[Tensor, "width n"]) -> Float[Tensor, " width"]:
    """Sum of the distances to all channels: small near their geometric median, where FPGM prunes.

    Source: He et al., Filter Pruning via Geometric Median, CVPR 2019, eq. 6.
    """
    return (rows[:, None] - rows[None]).norm(dim=-1).sum(dim=1)

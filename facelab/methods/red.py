"""RED: redundancies of a trained network, found and removed without data.

Hashing snaps the scalar weights of each layer to the modes of their density (`networks.hashing`), merging makes one neuron of those that
are alike, and uneven depthwise separation computes each distinct kernel of an input channel once.

Source: Yvinec, Dapogny, Cord, Bailly: RED: Looking for Redundancies for Data-Free Structured Compression of Deep Neural Networks,
NeurIPS 2021, https://arxiv.org/abs/2105.14797. The three stages and their order are the paper's. The rule of merging (complete linkage),
its level (a share or a diameter) and kernels that are alike up to a factor are our reconstruction.
"""

from collections.abc import Mapping
from math import ceil

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int
from scipy.cluster.hierarchy import cut_tree, fcluster, linkage
from scipy.spatial.distance import squareform
from torch import Tensor, nn

from facelab.networks.evaluation import copied
from facelab.networks.folding import folded
from facelab.networks.groups import groups, incoming, masked, merged
from facelab.networks.hashing import hashed
from facelab.networks.layers import is_plain


def clusters(
    neurons: Float[np.ndarray, "neurons weights"], keep: float | None = None, diameter: float | None = None
) -> Int[np.ndarray, " neurons"]:
    """Which neurons become one: the closest first, by complete linkage, so that no cluster is wider than it must be.

    Args:
        neurons: incoming weights and bias of each.
        keep: share of the neurons that is left, in (0, 1], rounded up; or
        diameter: the widest cluster that is allowed, as a share of the root mean square length of a neuron; 0 for identical neurons.

    Returns:
        The number of its cluster, from 0, for each neuron.

    Raises:
        ValueError: both or neither of `keep` and `diameter`, or one out of its range.
    """
    if (keep is None) == (diameter is None):
        raise ValueError(f"keep={keep} and diameter={diameter} were given; give one of them, the other follows from it.")
    if keep is not None and not 0 < keep <= 1:
        raise ValueError(f"keep={keep} is not a share of the neurons; give a number above 0 and at most 1.")
    if diameter is not None and not diameter >= 0:
        raise ValueError(f"diameter={diameter} is not a distance; give 0 for identical neurons, or more.")
    count = len(neurons)
    if count < 2:
        return np.zeros(count, dtype=int)
    tree = linkage(np.asarray(neurons, dtype=np.float64), "complete")
    if keep is not None:
        return cut_tree(tree, n_clusters=ceil(round(keep * count, 9)))[:, 0]
    return fcluster(tree, (diameter or 0.0) * _length(neurons), "distance") - 1


def merge(
    model: nn.Module, example: Tensor, keep: float | Mapping[str, float] | None = None, *, diameter: float | None = None
) -> tuple[nn.Module, pd.DataFrame]:
    """Makes one neuron of those that are alike: their mean, whose outgoing weights are the sum of theirs. No data are used.

        smaller, report = merge(model, torch.zeros(1, 1, 16, 16), keep=0.5)

    Merging is exact where the neurons of a cluster are identical. Channels that a residual addition ties are merged together, by all
    layers that make them. The outputs of the network are never merged.

    Args:
        model: batch norms are folded first, since equal rows under different batch norms are different neurons.
        example: (B, ...) a batch the model takes; only its shape counts.
        keep: share of the neurons that is left, in (0, 1], in every group or by name of the group; a group not named is left alone.
        diameter: instead, the widest cluster allowed in any group, relative, as `clusters` takes it.

    Returns:
        A smaller copy; and one row per group: group, before, after (neurons), diameter (of its widest cluster, relative), left (why
        the group was left alone; empty if it was not).

    Raises:
        ValueError: a `keep` or `diameter` out of range, a group that is unknown or cannot be merged, or batch norms that cannot be folded.
    """
    model = folded(model, example)
    found = {group.name: group for group in groups(model, example)}
    left = {name: group.merge_obstacle for name, group in found.items()}
    shares = keep if isinstance(keep, Mapping) else {name: keep for name in found if not left[name]}
    if refused := next((name for name in shares if left.get(name, "there is no such group")), None):
        why = left.get(refused, f"there is no such group, there are {', '.join(found)}")
        raise ValueError(f"The neurons of {refused} cannot be merged: {why}.")
    labels, rows = {}, []
    for name, group in found.items():
        neurons = incoming(model, group).double().numpy()
        own = labels[name] = clusters(neurons, shares[name], diameter) if name in shares else np.arange(group.width)
        widest = _widest(neurons, own) / _length(neurons)
        rows.append({"group": name, "before": group.width, "after": int(own.max()) + 1, "diameter": widest, "left": left[name]})
    smaller = merged(model, example, {name: labels[name] for name in shares})
    return smaller, pd.DataFrame(rows, columns=["group", "before", "after", "diameter", "left"])


def one_of_each(model: nn.Module, example: Tensor, keep: float) -> nn.Module:
    """A control that lacks the mean and the sum: of each cluster of `merge` the longest neuron stays, the others fall silent.

    Args:
        model: without batch norms (`networks.folding.folded`).
        example: (B, ...) a batch the model takes.
        keep: as `merge` takes it.
    """
    gone = {}
    for group in groups(model, example):
        if not group.obstacle:
            neurons = incoming(model, group).double().numpy()
            order = np.argsort(-np.linalg.norm(neurons, axis=1), kind="stable")
            first = np.unique(clusters(neurons, keep)[order], return_index=True)[1]
            gone[group] = np.setdiff1d(order, order[first]).tolist()
    return masked(model, gone)


def no_sum(model: nn.Module, example: Tensor, keep: float) -> nn.Module:
    """A control that lacks the sum alone: the mean rows of the clusters of `merge`, each with the outgoing weights of its longest neuron.

    Args:
        model: without batch norms (`networks.folding.folded`).
        example: (B, ...) a batch the model takes.
        keep: as `merge` takes it.
    """
    found = [group for group in groups(model, example) if not group.merge_obstacle]
    labels = {group.name: clusters(incoming(model, group).double().numpy(), keep) for group in found}
    return merged(one_of_each(model, example, keep), example, labels)


def random_clusters(model: nn.Module, example: Tensor, keep: float, seed: int = 0) -> nn.Module:
    """A control that lacks likeness: neurons merge properly, in clusters as large as those of `merge`, drawn by lot.

    Args:
        model: without batch norms (`networks.folding.folded`).
        example: (B, ...) a batch the model takes.
        keep: as `merge` takes it.
        seed: of the lot.
    """
    lot, labels = np.random.default_rng(seed), {}
    for group in groups(model, example):
        if not group.merge_obstacle:
            labels[group.name] = lot.permutation(clusters(incoming(model, group).double().numpy(), keep))
    return merged(model, example, labels)


def _length(neurons: np.ndarray) -> float:
    """Root mean square length of a neuron's weights; 1 where all are zero."""
    return float(np.sqrt((np.asarray(neurons, dtype=np.float64) ** 2).sum(axis=1).mean())) or 1.0


def _widest(neurons: np.ndarray, labels: np.ndarray) -> float:
    """Largest distance within a cluster."""
    members = [neurons[labels == label] for label in np.unique(labels)]
    return max(float(np.linalg.norm(own[:, None] - own[None], axis=-1).max()) for own in members)


class UnevenDepthwise(nn.Module):
    """A convolution in two steps: R kernels, as many for each input channel as it needs, then a 1x1 convolution that mixes them.

    A depthwise separable convolution has equally many kernels for each channel, this one any number.

    Args:
        like: the convolution that it replaces, whose sizes it takes.
        sources: the input channel of each kernel.
    """

    sources: Tensor

    def __init__(self, like: nn.Conv2d, sources: Int[Tensor, " R"]) -> None:
        super().__init__()
        count = len(sources)
        grid = {"stride": like.stride, "padding": like.padding, "dilation": like.dilation, "padding_mode": like.padding_mode}
        self.register_buffer("sources", sources)
        self.depthwise = nn.Conv2d(count, count, like.kernel_size, groups=count, bias=False, **grid)  # type: ignore[arg-type]
        self.mix = nn.Conv2d(count, like.out_channels, 1, bias=like.bias is not None)

    def forward(self, x: Float[Tensor, "B inputs H W"]) -> Float[Tensor, "B outputs h w"]:
        """As the convolution that it replaces."""
        return self.mix(self.depthwise(x[:, self.sources]))


def separated(convolution: nn.Conv2d, tolerance: float = 1e-5) -> UnevenDepthwise:
    """The two-step layer that computes what a convolution does, with one kernel for all those of an input channel that are alike.

    Kernels are alike if they differ by a factor: with unit kernels `B` (a sign apart is the same), W[j, i] = factor[j, i] B[i, s_i(j)].

    Args:
        convolution: with one group.
        tolerance: largest distance of unit kernels that count as one. What rounding leaves is below 1e-5; more saves more, and changes
            the outputs.
    """
    weight = convolution.weight.detach().double().movedim(1, 0).flatten(2).numpy()  # inputs, outputs, taps
    sources, kernels, factors = [], [], []
    for channel, rows in enumerate(weight):
        labels = _alike(rows, tolerance)
        for label in range(labels.max() + 1):
            members = labels == label
            kernel = np.linalg.svd(rows[members], full_matrices=False)[2][0]  # the best one for all of them
            sources.append(channel)
            kernels.append(kernel)
            factors.append(np.where(members, rows @ kernel, 0.0))
    result = UnevenDepthwise(convolution, torch.tensor(sources, dtype=torch.long)).to(convolution.weight)
    with torch.no_grad():
        result.depthwise.weight.copy_(torch.from_numpy(np.stack(kernels)).view_as(result.depthwise.weight))
        result.mix.weight.copy_(torch.from_numpy(np.stack(factors, axis=1)).view_as(result.mix.weight))
        if convolution.bias is not None:
            result.mix.bias.copy_(convolution.bias)  # type: ignore[union-attr]
    return result.train(convolution.training)


def _alike(kernels: np.ndarray, tolerance: float) -> np.ndarray:
    """The number, from 0, of the unit kernel that each follows; -1 for a kernel of zeros, except where all are."""
    length = np.linalg.norm(kernels, axis=1)
    there = length > 0
    labels = np.where(there, 0, -1)
    if there.sum() > 1:
        units = kernels[there] / length[there, None]
        apart = np.sqrt(np.maximum(2 - 2 * np.abs(units @ units.T), 0))
        np.fill_diagonal(apart, 0)
        labels[there] = fcluster(linkage(squareform(apart, checks=False), "complete"), tolerance, "distance") - 1
    return labels if there.any() else np.zeros(len(kernels), dtype=int)


def separate(model: nn.Module, tolerance: float = 1e-5) -> tuple[nn.Module, pd.DataFrame]:
    """Replaces each convolution by its two-step layer where that makes fewer multiplications.

        smaller, report = separate(model)

    Args:
        tolerance: as `separated` takes it.

    Returns:
        A copy; and one row per convolution of one group and more than one tap: layer, kernels, distinct (of them), multiplications per
        place of the output (of the convolution, `dense`; of the two steps where the mixing skips its zeros, `without_zeros`; and as
        `UnevenDepthwise` makes them, `made`), and separated (whether the layer was replaced).
    """
    result, rows = copied(model), []
    for name, module in model.named_modules():
        if not is_plain(module, nn.Conv2d) or module.groups > 1 or module.kernel_size == (1, 1):
            continue
        layer = separated(module, tolerance)  # type: ignore[arg-type]
        distinct, taps, mixed = len(layer.sources), layer.depthwise.weight[0].numel(), int((layer.mix.weight != 0).sum())
        made, dense = distinct * (taps + layer.mix.out_channels), module.weight.numel()  # type: ignore[operator, union-attr]
        if pays := made < dense and bool(name):
            result.set_submodule(name, layer)
        cost = {"dense": dense, "without_zeros": distinct * taps + mixed, "made": made}
        kernels = module.out_channels * module.in_channels  # type: ignore[operator]
        rows.append({"layer": name, "kernels": kernels, "distinct": distinct, **cost, "separated": pays})
    columns = ["layer", "kernels", "distinct", "dense", "without_zeros", "made", "separated"]
    return result, pd.DataFrame(rows, columns=columns)


def red(
    model: nn.Module, example: Tensor, scale: float = 0.25, keep: float | None = 0.5, *, diameter: float | None = None
) -> tuple[nn.Module, pd.DataFrame]:
    """All three stages: hash the weights, merge neurons, separate convolutions. Data-free.

        smaller, report = red(model, torch.zeros(1, 1, 16, 16), scale=0.25, keep=0.5)

    Args:
        model: any module of convolutions and linear layers; batch norms are folded.
        example: (B, ...) a batch the model takes.
        scale: bandwidth of the densities in units of Silverman's; 0 leaves the weights as they are.
        keep, diameter: as `merge` takes them.

    Returns:
        A smaller copy; and one row per stage and layer (or group): stage, name, what is counted, before, after.

    Raises:
        ValueError: as for `merge`.
    """
    model, rows = folded(model, example), []
    if scale:
        model, modes = hashed(model, scale)
        counts = {name: model.get_submodule(name).weight.numel() for name in modes}  # type: ignore[operator, union-attr]
        rows += [("hash", name, "values", counts[name], len(found.values)) for name, found in modes.items()]
    model, groups_left = merge(model, example, keep, diameter=diameter)
    rows += [("merge", row.group, "neurons", row.before, row.after) for row in groups_left.itertuples()]
    model, layers_left = separate(model)
    rows += [("separate", row.layer, "multiplications", row.dense, min(row.made, row.dense)) for row in layers_left.itertuples()]
    return model, pd.DataFrame(rows, columns=["stage", "name", "what", "before", "after"])

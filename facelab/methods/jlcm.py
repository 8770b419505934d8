"""JLCM: weights as indices into tiny codebooks, one for each group of alike neurons, learned together with the indices.

Source: Yvinec, Dapogny, Bailly: Network memory footprint compression through jointly learnable codebooks and mappings, ICLR 2024,
https://arxiv.org/abs/2309.17442. Groups of neurons, learned codebooks and indices, and a gradient that prefers near codewords are the
paper's. How neurons are grouped, the function of the distance, the square error without an activation and all steps and rates are our
reconstruction.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int
from sklearn.cluster import KMeans
from torch import Tensor, nn

from facelab.blocks.quantisation import QUANTISED
from facelab.networks.codebooks import k_means_values
from facelab.networks.folding import folded
from facelab.networks.moments import inputs_of, patches
from facelab.networks.reordering import free_groups, reordered

QUANTILES = 16
"""Of a row's weights: what two neurons are compared by."""


def quantiles(rows: Float[Tensor, "n m"]) -> Float[np.ndarray, "n 16"]:
    """How the weights of each neuron are distributed: equally spaced quantiles, from the smallest weight to the largest."""
    return rows.detach().double().quantile(torch.linspace(0, 1, QUANTILES, dtype=torch.float64), dim=1).T.numpy()


def alike(descriptors: Float[np.ndarray, "n d"], count: int, seed: int = 0) -> Int[np.ndarray, " n"]:
    """The group of each neuron, 0 to `count` - 1 at most, by k-means; the group of the narrowest neurons is the first.

    Args:
        descriptors: of each neuron, such as its `quantiles`.
        count: of groups; fewer where fewer neurons differ.
        seed: of the first centres.
    """
    count = min(count, len(np.unique(descriptors.round(9), axis=0)))
    found = KMeans(count, n_init=4, random_state=seed).fit(descriptors)
    places = np.argsort(np.square(found.cluster_centers_).sum(axis=1))
    return np.argsort(places)[found.labels_]


@dataclass(frozen=True)
class Mapping:
    """The weights of a layer as codewords.

    Attributes:
        codebooks: (G,K), rising.
        group: (n,) whose codebook each row reads.
        codes: (n,m) which of its codewords each weight is.
    """

    codebooks: Float[Tensor, "G K"]
    group: Int[Tensor, " n"]
    codes: Int[Tensor, "n m"]

    @property
    def weights(self) -> Float[Tensor, "n m"]:
        """What the codes stand for."""
        return self.codebooks[self.group].gather(1, self.codes)


def nearest(rows: Float[Tensor, "n m"], group: Int[Tensor, " n"], codewords: int, seed: int = 0) -> Mapping:
    """The mapping of each weight to the nearest codeword of its group, whose codebook is k-means on the group's weights.

    Args:
        rows: weights of each neuron.
        group: of each neuron, from 0.
        codewords: of each codebook; a group of fewer different weights repeats its largest.
        seed: of k-means.
    """
    found = [k_means_values(rows[group == number], codewords, seed) for number in range(int(group.max()) + 1)]
    padded = np.stack([np.pad(values, (0, codewords - len(values)), mode="edge") for values in found])
    codebooks = torch.as_tensor(padded, dtype=rows.dtype)
    codes = (rows[:, :, None] - codebooks[group][:, None]).abs().argmin(dim=2)
    return Mapping(codebooks, group, codes)


def ordinary(distance: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """How hard the straight-through gradient pulls towards a codeword: in proportion to its distance."""
    return distance


def proximal(distance: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """How hard the rewritten gradient pulls: the less, the further away the codeword is.

    Args:
        distance: in mean gaps between adjacent codewords, at least 0.
    """
    return torch.exp(-distance)


Pull = Callable[[Tensor], Tensor]


def pulls(delta: Float[Tensor, "..."], offsets: Float[Tensor, "... K"], pull: Pull = proximal) -> Float[Tensor, "... K"]:
    """The gradient of the logits of each codeword (our reading of the paper); that of the present codeword is 0.

        logits -= rate * pulls(delta, (codebook - weight) / gap)

    Args:
        delta: the gradient of the loss by the weight that the network computes with.
        offsets: from the present codeword to each, in mean gaps.
        pull: from distance to size.
    """
    return delta[..., None] * offsets.sign() * pull(offsets.abs())


@dataclass(frozen=True)
class Moments:
    """What the inputs of a layer are, as far as the square error of its outputs depends on them.

    Attributes:
        second: (g,m,m) mean product of two inputs of the compressed network, for each group of a grouped convolution.
        wanted: (n,m) mean product of an output of the whole layer, bias aside, and an input of the compressed network.
        power: mean square of an output of the whole layer, summed over outputs.
    """

    second: Float[Tensor, "g m m"]
    wanted: Float[Tensor, "n m"]
    power: float

    @classmethod
    def of(cls, rows: Float[Tensor, "n m"], whole: Float[Tensor, "g N m"], compressed: Float[Tensor, "g N m"]) -> "Moments":
        """Of a layer's weights before compression, and of the same inputs to both networks; in double precision."""
        met, count = compressed.double(), whole.shape[1]
        outputs = whole.double() @ rows.double().unflatten(0, (len(whole), -1)).transpose(1, 2)
        wanted = (outputs.transpose(1, 2) @ met / count).flatten(0, 1)
        return cls(met.transpose(1, 2) @ met / count, wanted, float(outputs.square().sum() / count))

    def gradient(self, found: Float[Tensor, "n m"]) -> Float[Tensor, "n m"]:
        """Of the mean square error of the outputs, not divided by their mean square, by each weight of a compressed layer."""
        made = (found.unflatten(0, (len(self.second), -1)) @ self.second).flatten(0, 1)
        return 2 * (made - self.wanted)

    def error(self, found: Float[Tensor, "n m"], gradient: Float[Tensor, "n m"] | None = None) -> float:
        """The mean square error of the outputs over their mean square; a gradient that is known saves half of the work."""
        gradient = self.gradient(found) if gradient is None else gradient
        lost = self.power + float((found * (gradient / 2 - self.wanted)).sum())
        return max(0.0, lost) / max(self.power, 1e-30)


def fitted(start: Mapping, moments: Moments) -> Mapping:
    """The codebooks of the smallest error while each index stays as it is, by least squares.

    Args:
        start: whose indices are kept.
        moments: of the inputs.
    """
    groups, words = start.codebooks.shape
    uses = nn.functional.one_hot(start.codes, words).double().transpose(1, 2)  # (n,K,m)
    made = (uses.flatten(0, 1).unflatten(0, (len(moments.second), -1)) @ moments.second).flatten(0, 1).view_as(uses)
    squares = torch.zeros(groups, words, words, dtype=torch.float64).index_add_(0, start.group, made @ uses.transpose(1, 2))
    wanted = torch.zeros(groups, words, dtype=torch.float64).index_add_(0, start.group, (uses @ moments.wanted[..., None])[..., 0])
    codebooks = (torch.linalg.pinv(squares, hermitian=True) @ wanted[..., None])[..., 0]
    return Mapping(codebooks, start.group, start.codes)


@dataclass
class Learning:
    """What happened while a mapping was learned.

    Attributes:
        errors: relative square error before each step.
        jumps: over how many codewords each index went whenever it changed.
    """

    errors: list[float] = field(default_factory=list)
    jumps: list[int] = field(default_factory=list)


def learned(
    rows: Float[Tensor, "n m"], start: Mapping, moments: Moments, pull: Pull = proximal, *, steps: int = 100,
    rate: float = 0.01, codebook_rate: float = 0.02, momentum: float = 0.9, power: int = 1,
) -> tuple[Mapping, Learning]:  # fmt: skip
    """Codebooks and indices that are learned together from what a layer is given; never worse than the start.

    Args:
        rows: weights of each neuron before compression.
        start: to begin with.
        moments: of the inputs.
        pull: of the indices, from distance to size, such as `proximal` or `ordinary`.
        steps: of gradient descent, whose rates fall to zero along half a cosine.
        rate: of the logits.
        codebook_rate: of the codebooks, in mean gaps.
        momentum: of the logits.
        power: of the distances that the logits begin with.

    Returns:
        The mapping of the smallest error that was met; and how it went.
    """
    rows = rows.double()
    groups, words = start.codebooks.shape
    codebooks = start.codebooks.double()
    gap = ((codebooks[:, -1] - codebooks[:, 0]) / max(1, words - 1)).clamp_min(1e-12)[:, None]
    row_gap = gap[start.group][..., None]
    logits = -(((rows[..., None] - codebooks[start.group][:, None]) / row_gap).abs() ** power)
    velocity, shift = torch.zeros_like(logits), torch.zeros_like(codebooks)
    mean, square = torch.zeros_like(shift), torch.zeros_like(shift)
    history, best, codes = Learning(), start, start.codes
    lowest = moments.error(start.weights.double())
    for step in range(steps + 1):
        now = codebooks + gap * shift
        chosen = logits.argmax(dim=2)
        if (changed := chosen != codes).any():
            ranks = now.argsort(dim=1).argsort(dim=1)[start.group]
            history.jumps += (ranks.gather(1, chosen) - ranks.gather(1, codes))[changed].abs().tolist()
        codes, mapping = chosen, Mapping(now, start.group, chosen)
        weights = mapping.weights
        delta = moments.gradient(weights)
        history.errors.append(moments.error(weights, delta))
        if history.errors[-1] < lowest:
            lowest, best = history.errors[-1], mapping
        delta = delta / delta.square().mean().sqrt().clamp_min(1e-30)  # so that rates mean the same in all layers
        falling = (1 + math.cos(math.pi * step / (steps + 1))) / 2
        cells = (start.group[:, None] * words + codes).flatten()
        slope = torch.zeros(groups * words, dtype=rows.dtype).index_add_(0, cells, delta.flatten()).view(groups, words)
        mean, square = mean.lerp(slope, 0.1), square.lerp(slope.square(), 0.001)  # Adam (Kingma, Ba 2015), without seconds of imports
        size = (square / (1 - 0.999 ** (step + 1))).sqrt() + 1e-8
        shift = shift - codebook_rate * falling * mean / (1 - 0.9 ** (step + 1)) / size
        between = (now[:, None] - now[..., None]) / gap[..., None]  # from each codeword of a group to each
        towards = pulls(torch.ones_like(now), between, pull)[start.group[:, None], codes]
        velocity.mul_(momentum).add_(delta[..., None] * towards)
        logits.sub_(velocity, alpha=rate * falling)
    return best, history


def grouped(
    model: nn.Module, example: Float[Tensor, "B ..."], groups: int | None = 4, *, by: str = "quantiles", seed: int = 0
) -> tuple[nn.Module, dict[str, Int[Tensor, " n"]]]:
    """A network that computes the same, with alike neurons side by side, and the group of each row of each layer.

        whole, group = grouped(model, images[:2], groups=4)

    Channels that a residual connection adds stand in one order in all layers that make them, so these layers are compared together.
    A layer whose order cannot be changed, such as the last, is one group.

    Args:
        model: stays as it is; its batch norms are folded first.
        example: (B, ...) a batch the model takes.
        groups: of a layer, at most; None makes each neuron a group of its own.
        by: "quantiles", or "chance", a control whose groups are as large and have nothing in common.
        seed: of k-means and of chance.

    Raises:
        ValueError: no such way to group, batch norms that cannot be folded, or a network that torch-pruning cannot follow.
    """
    if by not in ("quantiles", "chance"):
        raise ValueError(f"Neurons cannot be grouped by {by!r}; choose 'quantiles' or 'chance'.")
    whole = folded(model, example)
    rows = {name: module.weight.detach().flatten(1) for name, module in whole.named_modules() if isinstance(module, QUANTISED)}
    if groups is None:
        return whole, {name: torch.arange(len(own)) for name, own in rows.items()}
    found, orders = {name: torch.zeros(len(own), dtype=torch.long) for name, own in rows.items()}, {}
    if groups > 1:
        for free in free_groups(whole, example):
            described = [quantiles(rows[name][places[:, 0]]) for name, places in free.producers.items()]
            group = alike(np.concatenate([own / np.abs(own).max().clip(1e-30) for own in described], axis=1), groups, seed)
            if by == "chance":
                group = np.random.default_rng(seed).permutation(group)
            orders[free] = np.argsort(group, kind="stable")
            for name, places in free.producers.items():
                found[name][places[:, 0]] = torch.as_tensor(group[orders[free]])
    return reordered(whole, orders), found


def compress(
    model: nn.Module, inputs: Float[Tensor, "B ..."], codewords: int = 4, groups: int | None = 4, *, learn: str | Pull = "proximal",
    by: str = "quantiles", rate: float = 0.01, steps: int = 100, seed: int = 0,
) -> tuple[nn.Module, pd.DataFrame]:  # fmt: skip
    """Gives each layer codebooks and indices, layer by layer, and learns them from inputs without targets.

        small, report = compress(model, images[:200], codewords=4, groups=4)

    Args:
        model: stays as it is; its batch norms are folded first.
        inputs: (B, ...) a few hundred.
        codewords: of each codebook, 2 or more.
        groups: of neurons in a layer, at most, each with a codebook of its own; None gives each neuron one.
        learn: one of `LEARN`, or a pull of your own.
        by, seed: as `grouped` takes them.
        rate, steps: as `learned` takes them.

    Returns:
        A copy in evaluation mode, whose channels may stand in another order; and a row per layer: `layer`, `weights` (how many), `groups`,
        `weight_error` and `output_error` (square errors over mean squares, the second of the layer's outputs on the inputs), `jump` (mean
        number of codewords that an index went at a time; NaN if none did).

    Raises:
        ValueError: fewer than two codewords, no such way to learn, no layer to compress, or what `grouped` refuses.
    """
    whole, group = grouped(model, inputs[:2], groups, by=by, seed=seed)
    return coded(whole, group, inputs, codewords, learn=learn, rate=rate, steps=steps, seed=seed)


def coded(
    whole: nn.Module, group: dict[str, Int[Tensor, " n"]], inputs: Float[Tensor, "B ..."], codewords: int = 4, *,
    learn: str | Pull = "proximal", rate: float = 0.01, steps: int = 100, power: int = 1, seed: int = 0,
) -> tuple[nn.Module, pd.DataFrame]:  # fmt: skip
    """What `compress` does once neurons are in groups.

    Args:
        whole, group: as `grouped` gives them.
        inputs, codewords, learn, rate, steps, seed: as `compress` takes them.
        power: as `learned` takes it.

    Returns:
        As `compress` does.

    Raises:
        ValueError: fewer than two codewords, no such way to learn, or no layer to compress.
    """
    if isinstance(learn, str) and learn not in LEARN:
        raise ValueError(f"There is no way to learn {learn!r}; choose one of {', '.join(LEARN)}.")
    if codewords < 2:
        raise ValueError(f"A codebook of {codewords} codewords tells nothing apart; give 2 or more.")
    if not group:
        raise ValueError(f"{type(whole).__name__} has no linear layer or convolution to compress; give a network that has one.")
    result, table = reordered(whole, {}), []
    given = inputs_of(whole, inputs, list(group))
    for layer in given:
        module = result.get_submodule(layer)
        rows = module.weight.detach().flatten(1).double()
        met = patches(module, inputs_of(result, inputs, [layer])[layer])
        moments = Moments.of(rows, patches(module, given[layer]), met)
        mapping, history = nearest(rows, group[layer], codewords, seed), Learning()
        if learn == "codebooks":
            mapping = fitted(mapping, moments)
        elif learn != "nearest":
            pull = PULLS[learn] if isinstance(learn, str) else learn
            mapping, history = learned(rows, mapping, moments, pull, rate=rate, steps=steps, power=power)
        module.weight = nn.Parameter(mapping.weights.to(module.weight.dtype).reshape(module.weight.shape))
        found = module.weight.detach().flatten(1).double()
        lost = float((rows - found).square().sum() / rows.square().sum().clamp_min(1e-30))
        table.append(
            {"layer": layer, "weights": rows.numel(), "groups": len(mapping.codebooks), "weight_error": lost}
            | {"output_error": moments.error(found), "jump": float(np.mean(history.jumps)) if history.jumps else np.nan}
        )
    return result, pd.DataFrame(table)


def output_errors(whole: nn.Module, small: nn.Module, inputs: Float[Tensor, "B ..."]) -> dict[str, float]:
    """Of each layer: the mean square error of its outputs over their mean square, each network fed by its own layers before.

    Args:
        whole: as `grouped` gives it.
        small: what `coded` made of it.
        inputs: (B, ...) such as ones that nothing was learned from.
    """
    names = [name for name, module in whole.named_modules() if isinstance(module, QUANTISED)]
    wanted, met, found = inputs_of(whole, inputs, names), inputs_of(small, inputs, names), {}
    for name in wanted:
        old, new = whole.get_submodule(name), small.get_submodule(name)
        moments = Moments.of(old.weight.detach().flatten(1), patches(old, wanted[name]), patches(new, met[name]))
        found[name] = moments.error(new.weight.detach().flatten(1).double())
    return found


PULLS: dict[str, Pull] = {"ordinary": ordinary, "proximal": proximal}
LEARN = ("nearest", "codebooks", *PULLS)
"""What is learned: nothing, codebooks (`fitted`), or codebooks and indices by one of two gradients."""

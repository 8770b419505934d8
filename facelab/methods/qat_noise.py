"""Quantisation against label noise (Tallec, Yvinec, Dapogny, Bailly, ICIP 2023): in few bits wrong labels are harder to learn.

In every step weights and inputs of a layer are rounded to 2n + 1 even levels, n = 2^(b-1) - 1, and the gradient goes straight through to
the float weights behind them. The paper was known from a public summary; its number of bits was not, so bits are an argument here.
"""

import copy
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from facelab.blocks.quantisation import InputQuantisation, codes_of, quantisation_aware, scale_of, steps, uniform_grid

TINY = 1e-8
"""The least scale, for an output channel whose weights are all zero."""


@dataclass(frozen=True)
class NoisyLabels:
    """Labels of which some were drawn anew.

    Attributes:
        given: (B,) what training is told.
        wrong: (B,) whether that is another class than the true one.
    """

    given: Int[Tensor, " B"]
    wrong: Bool[Tensor, " B"]


def with_noise(labels: Int[Tensor, " B"], share: float, classes: int, seed: int = 0) -> NoisyLabels:
    """Replaces a share of the labels by a uniform draw over all classes, the true one included.

        noisy = with_noise(torch.arange(10), 0.4, classes=10)  # 36 % are expected to be wrong

    Args:
        share: of the labels that are drawn anew, 0 to 1.
        classes: how many there are.
        seed: of the draw. A larger share keeps what a smaller one has drawn, so that noise only grows.

    Raises:
        ValueError: a share outside 0 to 1.
    """
    if not 0 <= share <= 1:
        raise ValueError(f"A share of {share} of the labels cannot be drawn anew; give 0 to 1.")
    generator = np.random.default_rng([seed, 33])
    order, drawn = generator.permutation(len(labels)), generator.integers(classes, size=len(labels))
    chosen = torch.from_numpy(order < round(share * len(labels)))
    given = torch.where(chosen, torch.from_numpy(drawn).to(labels.dtype), labels)
    return NoisyLabels(given, given != labels)


def expected_wrong(share: float, classes: int) -> float:
    """The share of labels that are really wrong if so many are drawn anew: a draw hits the true class once in `classes`."""
    return share * (classes - 1) / classes


def rounded_weight(weight: Float[Tensor, "out *rest"], bits: int) -> Float[Tensor, "out *rest"]:
    """The weight on even levels, those of each output channel reaching as far as its largest weight: lambda/n round(n W / lambda).

        rounded_weight(layer.weight, bits=3)

    PyTorch's own rounding is ten times faster than `quantise`, which takes any grid; a half goes to the even level.

    Args:
        bits: with sign, 2 to 16.

    Returns:
        Values on the grid; the gradient goes through as if nothing had been rounded, none being clipped.

    Raises:
        ValueError: bits of which there is no grid.
    """
    n = steps(bits)
    unit = scale_of(weight, axis=0).flatten().clamp_min(TINY) / n
    return torch.fake_quantize_per_channel_affine(weight, unit, torch.zeros_like(unit, dtype=torch.int32), 0, -n, n)


def quantised(model: nn.Module, bits: int, *, inputs: bool = True) -> nn.Module:
    """A copy that computes and trains in few bits.

        student = quantised(model, bits=4)

    A weight is rounded with the scale of its output channel, anew in each step. The inputs of a layer have one scale, the largest of the
    batch in training and its running mean (a tenth of the newest) afterwards.

    Args:
        model: without batch norms, as the paper has it.
        bits: of weights and inputs, sign included.
        inputs: whether they are rounded, too.

    Raises:
        ValueError: bits of which there is no grid.
    """
    grid = uniform_grid(bits)
    return quantisation_aware(model, lambda weight: rounded_weight(weight, bits), (lambda: InputQuantisation(grid)) if inputs else None)


def integer_layer(layer: nn.Linear, rounding: InputQuantisation, x: Float[Tensor, "B in"], bits: int) -> Float[Tensor, "B out"]:
    """What an integer machine computes: products of codes, added up as integers, scaled once at the end.

    Args:
        layer: whose weights are already rounded to `bits`, or not: rounding a second time changes nothing.
        rounding: that of its inputs, with a scale that has been set.
        bits: of the weights, sign included.
    """
    levels, grid, scales = steps(bits), rounding.grid, scale_of(layer.weight, axis=0).clamp_min(TINY)
    weights = (levels * rounded_weight(layer.weight.detach(), bits) / scales).round().long()
    sums = codes_of(x, grid, rounding.scale) @ weights.T
    return sums * (scales.T * rounding.scale / (levels * (len(grid.levels) - 1))) + layer.bias


def learnt(model: nn.Module, images: Float[Tensor, "B ..."], noisy: NoisyLabels) -> dict[str, float]:
    """How many of the labels that were given a network says itself, percent, of the `right` ones and of the `wrong` ones.

    Args:
        model: in evaluation mode.
        images: of training.
        noisy: their labels. Where none is right, or none is wrong, the share is 0.
    """
    with torch.no_grad():
        same = (model(images).argmax(dim=1) == noisy.given).float()
    parts = {"right": same[~noisy.wrong], "wrong": same[noisy.wrong]}
    return {name: 100 * float(part.sum()) / max(1, len(part)) for name, part in parts.items()}


class EarlyStopped(nn.Module):
    """A network that answers with the weights that did best on data held out of training; `keep` is called after each step.

    Args:
        network: is trained.
        images, given: held out, with their noisy labels, for the true ones are not known.
        every: how many steps lie between two looks.
    """

    best: nn.Module

    def __init__(self, network: nn.Module, images: Float[Tensor, "B ..."], given: Int[Tensor, " B"], every: int = 20) -> None:
        super().__init__()
        self.network, self.best, self.every = network, copy.deepcopy(network).requires_grad_(False), every
        self.register_buffer("images", images)
        self.register_buffer("given", given)
        self.register_buffer("accuracy", torch.tensor(-1.0))

    def forward(self, x: Float[Tensor, "B ..."]) -> Float[Tensor, "B C"]:
        """The network's own answer while it trains, else that of the best weights."""
        return (self.network if self.training else self.best)(x)

    @staticmethod
    def loss(model: nn.Module, batch: dict[str, Tensor], generator: torch.Generator) -> Tensor:
        """Cross-entropy of what is not `held` out, for `training.fit`."""
        kept = ~batch["held"]
        return F.cross_entropy(model(batch["images"][kept]), batch["labels"][kept])

    @staticmethod
    def keep(model: "EarlyStopped", made: int) -> None:
        """Keeps the weights if they do better than any before them, for `fit(after_step=...)`."""
        if made % model.every:
            return
        model.network.eval()
        reached = (model.network(model.images).argmax(dim=1) == model.given).float().mean()
        model.network.train()
        if reached > model.accuracy:
            model.accuracy.copy_(reached)
            model.best.load_state_dict(model.network.state_dict())


def cross_entropy(smoothing: float = 0.0) -> Callable[[nn.Module, dict[str, Tensor], torch.Generator], Tensor]:
    """The loss on the labels that are given, for `training.fit`; batches have `images` and `labels`.

    Args:
        smoothing: share of each label that is spread over all classes.
    """
    return lambda model, batch, generator: F.cross_entropy(model(batch["images"]), batch["labels"], label_smoothing=smoothing)

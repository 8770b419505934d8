"""TQuant and MQuant: weights of three values, from cells of equal length or of equal mass.

Each output channel keeps one level and three codes, -1, 0 and 1. Where the cells of the codes begin is the operator, and nothing else
differs between rounding to nearest, TQuant, MQuant and the rivals.

Source: Yvinec, Dapogny, Bailly: Designing strong baselines for ternary neural network quantization through support and mass
equalization, ICIP 2023, https://arxiv.org/abs/2306.17442. That support or mass is equalised, and the three scenarios, are the paper's.
Thresholds and levels are our reconstruction: TQuant by the smallest largest error, MQuant by quantiles and the level of least squares.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor, nn

from facelab.blocks.quantisation import QUANTISED, quantisation_aware
from facelab.networks.evaluation import copied, evaluating
from facelab.networks.folding import folded
from facelab.networks.moments import patches


@dataclass(frozen=True)
class Cells:
    """Where the three codes of each channel begin and what they stand for.

    Attributes:
        low, high: (C,1) a weight below the first has the code -1, above the second 1, else 0.
        level: (C,1) the magnitude that the codes -1 and 1 stand for.
    """

    low: Float[Tensor, "C 1"]
    high: Float[Tensor, "C 1"]
    level: Float[Tensor, "C 1"]

    def codes(self, rows: Float[Tensor, "C n"]) -> Float[Tensor, "C n"]:
        """-1, 0 or 1 for each weight."""
        return (rows > self.high).to(rows.dtype) - (rows < self.low).to(rows.dtype)

    def rounded(self, rows: Float[Tensor, "C n"]) -> Float[Tensor, "C n"]:
        """Each weight as its level."""
        return self.level * self.codes(rows)


Operator = Callable[[Tensor], Cells]


def naive(rows: Float[Tensor, "C n"]) -> Cells:
    """Rounding to nearest after division by the largest magnitude: the cell of zero takes half of the support."""
    largest = rows.abs().amax(dim=1, keepdim=True)
    return Cells(-largest / 2, largest / 2, largest)


def tquant(rows: Float[Tensor, "C n"]) -> Cells:
    """Three cells of equal length, and their middles as levels: the smallest possible largest error, a third of the largest weight."""
    largest = rows.abs().amax(dim=1, keepdim=True)
    return Cells(-largest / 3, largest / 3, 2 * largest / 3)


def mquant(rows: Float[Tensor, "C n"]) -> Cells:
    """Three cells of equal mass: the third of smallest magnitudes becomes zero, and the others have their mean."""
    return _with_level(rows, rows.abs().quantile(1 / 3, dim=1, keepdim=True))


def mquant_skewed(rows: Float[Tensor, "C n"]) -> Cells:
    """Three cells of equal mass with their signs: each code has a third of the weights, even where they lean to one side."""
    low, high = rows.quantile(torch.tensor([1 / 3, 2 / 3], dtype=rows.dtype), dim=1).unsqueeze(-1)
    return _with_level(rows, high, low)


def twn(rows: Float[Tensor, "C n"]) -> Cells:
    """Ternary weight networks (Li, Zhang, Liu 2016): a threshold of 0.7 times the mean magnitude."""
    return _with_level(rows, 0.7 * rows.abs().mean(dim=1, keepdim=True))


def lloyd(rows: Float[Tensor, "C n"]) -> Cells:
    """The least mean square error: of the k largest magnitudes, whose sum is S, keep those for which S^2/k is largest."""
    ordered = rows.abs().sort(dim=1, descending=True).values
    counts = torch.arange(1, rows.shape[1] + 1, dtype=rows.dtype, device=rows.device)
    best = (ordered.cumsum(dim=1).square() / counts).argmax(dim=1, keepdim=True)
    level = ordered.cumsum(dim=1).gather(1, best) / (best + 1)
    return Cells(-level / 2, level / 2, level)  # the optimum is a fixed point of Lloyd's rounds, which cut at half a level


OPERATORS: dict[str, Operator] = {
    "naive": naive, "TQuant": tquant, "MQuant": mquant, "MQuant, skewed": mquant_skewed, "TWN": twn, "Lloyd": lloyd,
}  # fmt: skip


def _with_level(rows: Tensor, high: Tensor, low: Tensor | None = None) -> Cells:
    """Cells with the level that makes their square error smallest: the mean of what the outer codes stand for."""
    low = -high if low is None else low
    codes = Cells(low, high, high).codes(rows)
    return Cells(low, high, ((codes * rows).sum(dim=1, keepdim=True) / codes.abs().sum(dim=1, keepdim=True).clamp_min(1)).clamp_min(0))


def gain(weight: Float[Tensor, "C ..."], rounded: Float[Tensor, "C ..."]) -> Float[Tensor, " C"]:
    """How much of each channel is left in its rounded weights: their product over its square.

    Where inputs are alike and uncorrelated, the outputs are the true ones times the gain, and an error that is uncorrelated with them.
    A level of least squares has a gain below one wherever it has an error.
    """
    rows, found = weight.flatten(1), rounded.flatten(1)
    return (rows * found).sum(dim=1) / rows.square().sum(dim=1).clamp_min(torch.finfo(rows.dtype).tiny)


def with_gain(name: str | Operator) -> Operator:
    """An operator with the same cells and the level whose gain is one. This is ours, a step beside the paper.

    Args:
        name: of `OPERATORS`, or a function such as those.
    """

    def restored(rows: Tensor) -> Cells:
        cells = operator(name)(rows)
        now = gain(rows, cells.rounded(rows))[:, None]
        return Cells(cells.low, cells.high, torch.where(now > 0, cells.level / now, cells.level))

    return restored


def full_level(name: str | Operator) -> Operator:
    """A control that lacks the level: the cells of an operator, decoded with the largest magnitude.

    Args:
        name: of `OPERATORS`, or a function such as those.
    """

    def control(rows: Tensor) -> Cells:
        cells = operator(name)(rows)
        return Cells(cells.low, cells.high, rows.abs().amax(dim=1, keepdim=True))

    return control


def wide_zero(rows: Float[Tensor, "C n"]) -> Cells:
    """A control that lacks equal cells: the one of zero takes two thirds of the support, and levels are still middles."""
    largest = rows.abs().amax(dim=1, keepdim=True)
    return Cells(-2 * largest / 3, 2 * largest / 3, 5 * largest / 6)


def operator(name: str | Operator) -> Operator:
    """An operator by its name; a function that makes cells of rows is taken as it is.

    Raises:
        ValueError: there is none of that name.
    """
    if callable(name):
        return name
    if name not in OPERATORS:
        raise ValueError(f"There is no operator {name!r}; choose one of {', '.join(OPERATORS)}.")
    return OPERATORS[name]


class _StraightThrough(torch.autograd.Function):
    """The rounded weights, bit for bit, with the gradient of the identity: no weight exceeds the largest, so none is clipped."""

    @staticmethod
    def forward(context, weight: Tensor, rounded: Tensor) -> Tensor:
        return rounded

    @staticmethod
    def backward(context, gradient: Tensor) -> tuple[Tensor, None]:  # type: ignore[override]
        return gradient, None


def ternary(weight: Float[Tensor, "C ..."], name: str | Operator = "TQuant") -> Float[Tensor, "C ..."]:
    """A weight whose channels have three values each; gradients go straight through, thresholds and levels are constants.

        student = quantisation_aware(model, lambda weight: ternary(weight, "MQuant"))

    Args:
        weight: (C, ...) of a layer, output channels first; a channel of zeros stays zero.
        name: of `OPERATORS`, or a function such as those.

    Raises:
        ValueError: no such operator.
    """
    rows = weight.detach().flatten(1)
    return _StraightThrough.apply(weight, operator(name)(rows).rounded(rows).reshape(weight.shape))


def errors(weight: Float[Tensor, "C ..."], rounded: Float[Tensor, "C ..."]) -> dict[str, float]:
    """What rounding did to a weight, averaged over its channels.

    Returns:
        `largest`, `mean` and `rms` error in units of each channel's largest magnitude, the share of `zeros`, and the `bits` of entropy
        of a code, at most log2(3) = 1.585.
    """
    rows, found = weight.detach().flatten(1).double(), rounded.detach().flatten(1).double()
    off = (rows - found).abs() / rows.abs().amax(dim=1, keepdim=True).clamp_min(torch.finfo(torch.float32).tiny)
    shares = torch.stack([(found.sign() == code).double().mean(dim=1) for code in (-1, 0, 1)])
    bits = -torch.special.xlogy(shares, shares).sum(dim=0) / np.log(2)
    values = {"largest": off.amax(dim=1), "mean": off.mean(dim=1), "rms": off.square().mean(dim=1).sqrt(), "zeros": shares[1], "bits": bits}
    return {what: float(each.mean()) for what, each in values.items()}


def compress(
    model: nn.Module,
    example: Float[Tensor, "B ..."],
    name: str | Operator = "TQuant",
    share: float = 1.0,
    *,
    layers: Sequence[str] | None = None,
) -> tuple[nn.Module, pd.DataFrame]:
    """Makes layers ternary without any data.

        small, report = compress(model, torch.zeros(1, 1, 16, 16), "TQuant")

    Args:
        model: stays as it is; its batch norms are folded first.
        example: (B, ...) a batch the model takes; only its shape counts.
        name: of `OPERATORS`, or a function such as those.
        share: of the linear and convolution layers that become ternary, above 0 and at most 1; those with most weights first, so that
            small layers keep their numbers longest.
        layers: names of those that become ternary, of `chosen_layers`; those of the share if they are not given.

    Returns:
        A copy in evaluation mode; and a row per ternary layer: `layer`, `weights` (how many), and what `errors` gives.

    Raises:
        ValueError: no such operator, a share out of its range, no layer to round, or batch norms that cannot be folded.
    """
    result, rows = folded(model, example), []
    for layer in chosen_layers(result, share) if layers is None else layers:
        module = result.get_submodule(layer)
        before, after = module.weight.detach(), ternary(module.weight.detach(), name)  # type: ignore[union-attr, operator]
        module.weight = nn.Parameter(after)
        rows.append({"layer": layer, "weights": before.numel()} | errors(before, after))
    return result, pd.DataFrame(rows)


def chosen_layers(model: nn.Module, share: float = 1.0) -> list[str]:
    """The names of the layers that become ternary, as `compress` chooses them, in their order.

    Raises:
        ValueError: a share out of its range, or no layer to round.
    """
    if not 0 < share <= 1:
        raise ValueError(f"share={share} is not a share of the layers; give a number above 0 and at most 1.")
    sizes = {name: module.weight.numel() for name, module in model.named_modules() if isinstance(module, QUANTISED)}
    if not sizes:
        raise ValueError(f"{type(model).__name__} has no linear layer or convolution to round; give a network that has one.")
    kept = sorted(sizes, key=lambda name: -sizes[name])[: max(1, round(share * len(sizes)))]
    return [name for name in sizes if name in kept]


def calibrated(
    model: nn.Module, inputs: Float[Tensor, "B ..."], name: str | Operator = "TQuant", share: float = 1.0, rounds: int = 3
) -> nn.Module:
    """Makes layers ternary with the help of some inputs without targets: post-training quantisation.

    In each layer codes begin as the operator has them. Then each in turn takes the value, of three, that leaves least square error of the
    layer's outputs on the inputs, and the level follows by least squares. Biases keep the mean of the outputs.

    Args:
        model: stays as it is; its batch norms are folded first.
        inputs: (B, ...) a few hundred.
        name, share: as `compress` takes them.
        rounds: how often each code is looked at.

    Returns:
        A copy in evaluation mode.

    Raises:
        ValueError: what `compress` refuses.
    """
    whole = folded(model, inputs[:2])
    result = copied(whole)
    for layer, (mean, covariance) in _statistics(whole, inputs, chosen_layers(whole, share)).items():
        module = result.get_submodule(layer)
        rows = module.weight.detach().flatten(1)  # type: ignore[union-attr, operator]
        groups = rows.split(len(rows) // len(mean))
        found = torch.cat([refined(part, operator(name)(part), own, rounds) for part, own in zip(groups, covariance, strict=True)])
        moved = ((rows - found) * mean.repeat_interleave(len(rows) // len(mean), dim=0)).sum(dim=1)
        module.weight = nn.Parameter(found.reshape(module.weight.shape))  # type: ignore[union-attr, operator, arg-type]
        module.bias = nn.Parameter(moved if module.bias is None else module.bias.detach() + moved)  # type: ignore[union-attr, operator]
    return result


def refined(rows: Float[Tensor, "C n"], cells: Cells, covariance: Float[Tensor, "n n"], rounds: int = 3) -> Float[Tensor, "C n"]:
    """Ternary rows whose outputs have least square error, found one code at a time; never worse than the codes it begins with.

    Args:
        rows: weights of each output.
        cells: codes and levels to begin with.
        covariance: of the inputs.
        rounds: how often each code is looked at.
    """
    codes, level, choices = cells.codes(rows), cells.level, torch.tensor([-1.0, 0.0, 1.0], dtype=rows.dtype)
    for _ in range(rounds):
        pulled = (rows - level * codes) @ covariance
        for place in range(rows.shape[1]):
            steps = level * (codes[:, [place]] - choices)  # what each choice adds to the error of this weight
            change = 2 * steps * pulled[:, [place]] + steps.square() * covariance[place, place]
            best = change.argmin(dim=1, keepdim=True)
            pulled += steps.gather(1, best) * covariance[place]
            codes[:, place] = choices[best[:, 0]]
        spread = ((codes @ covariance) * codes).sum(dim=1, keepdim=True)
        best_level = ((codes @ covariance) * rows).sum(dim=1, keepdim=True) / spread.clamp_min(torch.finfo(rows.dtype).tiny)
        level = torch.where(spread > 0, best_level, level)
    return level * codes


def student(model: nn.Module, example: Float[Tensor, "B ..."], name: str | Operator = "TQuant") -> nn.Module:
    """A copy that computes with ternary weights in all its layers and trains the numbers behind them: quantisation-aware training.

        model = train({"TQuant": Rival(lambda: student(model, images[:2]), loss)}, data, steps=100).models["TQuant"][0]

    Args:
        model: stays as it is; its batch norms are folded first.
        example: (B, ...) a batch the model takes.
        name: as `ternary` takes it.
    """
    return quantisation_aware(folded(model, example), partial(ternary, name=name)).requires_grad_(True)


def _statistics(model: nn.Module, inputs: Tensor, layers: list[str]) -> dict[str, tuple[Tensor, Tensor]]:
    """For each layer the mean (groups, n) and the covariance (groups, n, n) of what its weights meet."""
    found: dict[str, tuple[Tensor, Tensor]] = {}

    def watch(name: str) -> Callable:
        def hook(module: nn.Module, given: tuple[Tensor, ...]) -> None:
            met = patches(module, given[0])  # type: ignore[arg-type]
            mean = met.mean(dim=1, keepdim=True)
            found[name] = mean[:, 0], (met - mean).transpose(1, 2) @ (met - mean) / met.shape[1]

        return hook

    handles = [model.get_submodule(name).register_forward_pre_hook(watch(name)) for name in layers]
    with evaluating(model), torch.no_grad():
        model(inputs)
    for handle in handles:
        handle.remove()
    return {name: found[name] for name in layers if name in found}

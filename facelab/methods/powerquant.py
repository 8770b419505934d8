"""PowerQuant (Yvinec, Dapogny, Cord, Bailly, ICLR 2023): even steps of a power of the weights, one exponent for a network, no data.

A quantiser that keeps products, Q(x) Q(y) = Q(xy), is a power on positive numbers. Its exponent is the one that changes the weights least.
Where the paper could not be read in full, this is a reconstruction: the range of each layer's inputs, and the first simplex of the search.
"""

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from scipy.optimize import minimize
from torch import Tensor, nn

from facelab.blocks.quantisation import QUANTISED, Grid, InputQuantisation, power_grid, quantise, scale_of, uniform_grid
from facelab.networks.evaluation import copied
from facelab.networks.folding import folded
from facelab.networks.layers import LAYERS, channel_axis

START, TOLERANCE = (1.0, 0.5), 1e-2
"""The two ends of the first simplex, so that the result is never worse than even steps; and the width at which the search ends."""
DEVIATIONS = 4.0
"""The range of a layer's inputs is their mean and so many standard deviations, unless none comes as far."""
LEAST, TINY = 0.01, 1e-30


def powered(values: Float[Tensor, "*shape"], exponent: float) -> Float[Tensor, "*shape"]:
    """The power of the magnitude, with the sign of the value."""
    return values.sign() * values.abs() ** exponent


def rounded(weight: Float[Tensor, "*shape"], exponent: float, bits: int, axis: int | None = 0) -> Float[Tensor, "*shape"]:
    """Weights that stand on a power grid, Q^-1(Q(w)): rounded where steps of their power are even.

        rounded(layer.weight, 0.5, bits=4)

    Args:
        exponent: above 0; 1 is uniform.
        bits: with sign, 2 to 16.
        axis: of the slices that get a scale each; None is one scale for all.

    Raises:
        ValueError: an exponent or bits of which there is no grid.
    """
    return quantise(weight, power_grid(bits, exponent), scale_of(weight, axis))


def reconstruction_error(weights: Iterable[Float[Tensor, "..."]], exponent: float, bits: int, axis: int | None = 0) -> float:
    """How far rounding moves the weights of a network: the sum of the Euclidean norms over its layers (the paper's objective, p = 2).

    Args:
        weights: of each layer.
        exponent, bits, axis: as `rounded` takes them.
    """
    return sum(float((rounded(own, exponent, bits, axis) - own).detach().norm()) for own in weights)


def find_exponent(weights: Iterable[Float[Tensor, "..."]], bits: int, axis: int | None = 0) -> float:
    """The exponent of least reconstruction error, by the simplex method of Nelder and Mead from 1 and 0.5.

        find_exponent([layer.weight for layer in layers], bits=4)

    Args:
        weights: of the layers that share it.
        bits, axis: as `rounded` takes them.

    Returns:
        At least 0.01. No error is larger than that of exponent 1, where the search begins.
    """
    kept = [own.detach() for own in weights]
    # scipy stops when both tolerances hold, and the error may jump: the width alone decides
    options = {"initial_simplex": [[start] for start in START], "xatol": TOLERANCE, "fatol": float("inf")}
    found = minimize(
        lambda simplex: reconstruction_error(kept, max(float(simplex[0]), LEAST), bits, axis),
        START[:1],
        method="Nelder-Mead",
        options=options,
    )
    return max(float(found.x[0]), LEAST)


def kept_weights(model: nn.Module) -> dict[str, Float[Tensor, "..."]]:
    """The weights that are rounded, by the name of their layer, output channels along the first axis."""
    layers = ((name, module) for name, module in model.named_modules() if isinstance(module, LAYERS))
    return {name: module.weight.detach().transpose(0, channel_axis(module)) for name, module in layers}  # type: ignore[operator]


def with_weights(model: nn.Module, rule: Callable[[Float[Tensor, "..."]], Float[Tensor, "..."]]) -> nn.Module:
    """A copy whose layers have rounded weights; biases stay as they are.

    Args:
        model: its batch norms are folded.
        rule: weight with output channels along its first axis -> rounded weight.
    """
    result = copied(model)
    for weight in kept_weights(result).values():
        weight.copy_(rule(weight.clone()))
    return result


@dataclass(frozen=True)
class Inputs:
    """What a layer is given when noise runs through the network.

    Attributes:
        scale: the largest magnitude that is expected.
        signed: whether there are negative values.
        sample: some values.
    """

    scale: float
    signed: bool
    sample: Float[Tensor, " n"]


def inputs_without_data(model: nn.Module, noise: Float[Tensor, "B ..."], most: int = 5_000) -> dict[str, Inputs]:
    """What each linear layer and convolution is given, known from the statistics that batch norms store.

    Noise runs through a copy whose batch norms divide by the noise's own statistics. What leaves them has the mean and the deviation of
    their parameters, as it had in training, so that sums and ReLUs behind them get what they got then, whatever came in.

    Args:
        model: its batch norms are not folded.
        noise: (B, ...) inputs that no camera took.
        most: values kept of each layer.
    """
    result, found = copied(model).eval(), {}
    for module in result.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.train()

    def watch(name: str) -> Callable:
        def hook(module: nn.Module, given: tuple[Tensor, ...]) -> None:
            values = given[0].detach()
            reach = float(values.mean().abs() + DEVIATIONS * values.std())
            every = values.flatten()
            found[name] = Inputs(min(reach, float(values.abs().max())), bool(values.min() < 0), every[:: max(1, len(every) // most)])

        return hook

    handles = [module.register_forward_pre_hook(watch(name)) for name, module in result.named_modules() if isinstance(module, QUANTISED)]
    with torch.no_grad():
        result(noise.clone())
    for handle in handles:
        handle.remove()
    return found


GridRule = Callable[[Float[np.ndarray, " n"], int, bool], Grid]
"""Magnitudes over their scale, bits, whether one of them is a sign -> grid."""


def power_rule(exponent: float) -> GridRule:
    """The same power for whatever is rounded."""
    return lambda magnitudes, bits, signed: power_grid(bits, exponent, signed=signed)


def quantised(
    model: nn.Module,
    rule: GridRule,
    bits: int,
    inputs: Mapping[str, Inputs] | None = None,
    axis: int | None = None,
    *,
    spared: Collection[str] = (),
) -> nn.Module:
    """A copy that computes with rounded weights and, if told what comes in, rounded inputs.

        quantised(folded(model, example), power_rule(0.6), 4, inputs_without_data(model, noise))

    Every product is of two decoded numbers, since sums of powers are no powers of sums.

    Args:
        model: its batch norms are folded.
        rule: gives each weight, and each layer's inputs, a grid.
        bits: of weights and inputs.
        inputs: of each layer, by name, as `inputs_without_data` found them; without them inputs stay as they are.
        axis: of the slices of a weight that get a scale each, 0 for output channels; None is one scale for all.
        spared: layers whose inputs get even steps of 8 bits instead.

    Raises:
        ValueError: bits of which there is no grid.
    """

    def on_grid(weight: Tensor) -> Tensor:
        scale = scale_of(weight, axis)
        return quantise(weight, rule((weight.abs() / scale.clamp_min(TINY)).flatten().numpy(), bits, True), scale)

    result = with_weights(model, on_grid)
    return result if inputs is None else with_rounded_inputs(result, rule, bits, inputs, spared)


def with_rounded_inputs(
    model: nn.Module, rule: GridRule, bits: int, inputs: Mapping[str, Inputs], spared: Collection[str] = ()
) -> nn.Module:
    """A copy in which a layer `f` whose inputs are known is `nn.Sequential(rounding, f)`; weights stay as they are.

    Args:
        model: its batch norms are folded.
        rule, bits, spared: as `quantised` takes them.
        inputs: of the layers that are meant.

    Raises:
        ValueError: bits of which there is no grid.
    """
    result = copied(model)
    for name, known in inputs.items():
        magnitudes = (known.sample.abs() / max(known.scale, TINY)).clamp(max=1).numpy()
        grid = uniform_grid(8, signed=known.signed) if name in spared else rule(magnitudes, bits, known.signed)
        rounding = InputQuantisation(grid, signed=known.signed)
        rounding.scale.fill_(known.scale)
        wrapped = nn.Sequential(rounding, result.get_submodule(name))
        if not name:
            return wrapped.eval()
        result.set_submodule(name, wrapped)
    return result.eval()


def powerquant(model: nn.Module, example: Float[Tensor, "B ..."], bits: int, axis: int | None = 0) -> tuple[nn.Module, pd.DataFrame]:
    """Weights on the power grid that changes them least; inputs stay as they are, and no data are needed.

        small, report = powerquant(model, images[:2], bits=4)

    Args:
        example: a batch the model takes, to fold batch norms with.
        bits: of a weight, sign included.
        axis: as `rounded` takes it.

    Returns:
        A copy with folded batch norms; and a row per layer: `layer`, `weights`, the common `exponent`, and the error of rounding over the
        norm of the layer's weights, `error` with this exponent and `uniform` with exponent 1.

    Raises:
        ValueError: bits of which there is no grid, or batch norms that cannot be folded.
    """
    flat = folded(model, example)
    weights = kept_weights(flat)
    exponent = find_exponent(weights.values(), bits, axis)
    report = pd.DataFrame(
        {
            "layer": name,
            "weights": own.numel(),
            "exponent": exponent,
            "error": reconstruction_error([own], exponent, bits, axis) / max(float(own.norm()), TINY),
            "uniform": reconstruction_error([own], 1.0, bits, axis) / max(float(own.norm()), TINY),
        }
        for name, own in weights.items()
    )
    return with_weights(flat, lambda weight: rounded(weight, exponent, bits, axis)), report

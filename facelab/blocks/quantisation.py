"""Few numbers in place of many: grids of levels, rounding to them with a straight-through gradient, networks that compute with them.

A grid lives on magnitudes between 0 and 1. A tensor is divided by its scale, each magnitude goes to the level between whose thresholds
it lies, and sign and scale come back. Uniform, power and logarithmic quantisers differ by their grids only.
"""

import copy
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.utils import parametrize

QUANTISED = (nn.Linear, nn.Conv1d, nn.Conv2d)
"""Layers whose weights and inputs `quantisation_aware` quantises."""


@dataclass(frozen=True)
class Grid:
    """Levels of magnitudes relative to a scale.

    Attributes:
        levels: rising, from 0 up to 1 as a rule.
        thresholds: one less; a magnitude above the k-th goes to level k + 1. One that lies on a threshold goes down.
    """

    levels: tuple[float, ...]
    thresholds: tuple[float, ...]

    def __post_init__(self) -> None:
        if len(self.thresholds) != len(self.levels) - 1 or list(self.levels) != sorted(self.levels):
            raise ValueError(f"A grid of {len(self.levels)} levels has {len(self.thresholds)} thresholds; give rising levels and one less.")


def steps(bits: int, *, signed: bool = True) -> int:
    """How many levels above zero `bits` bits have: 2^(bits-1) - 1 with a sign, 2^bits - 1 without.

    Raises:
        ValueError: fewer than 2 bits with a sign, fewer than 1 without, or more than 16.
    """
    if not 1 + signed <= bits <= 16:
        raise ValueError(f"There is no grid of {bits} bits; choose {1 + signed} to 16.")
    return 2 ** (bits - signed) - 1


def power_grid(bits: int, exponent: float, *, signed: bool = True) -> Grid:
    """Even steps of the magnitude to a power, so that levels crowd near zero if the exponent is below one.

        power_grid(3, 0.5).levels  # (0, 1/9, 4/9, 1): squares

    Args:
        exponent: above 0; 1 is uniform.
        signed: whether one bit is the sign.

    Raises:
        ValueError: an exponent that is not above zero, or bits that `steps` refuses.
    """
    if not exponent > 0:
        raise ValueError(f"A power of {exponent} does not rise; give an exponent above 0.")
    count = steps(bits, signed=signed)
    levels = (np.arange(count + 1) / count) ** (1 / exponent)
    return Grid(tuple(levels), tuple(((np.arange(count) + 0.5) / count) ** (1 / exponent)))


def uniform_grid(bits: int, *, signed: bool = True) -> Grid:
    """Even steps.

    Raises:
        ValueError: bits that `steps` refuses.
    """
    return power_grid(bits, 1.0, signed=signed)


def logarithmic_grid(bits: int, *, signed: bool = True) -> Grid:
    """Zero and powers of two: each level is twice the one below; thresholds are half-way in the logarithm.

    Raises:
        ValueError: bits that `steps` refuses.
    """
    count = steps(bits, signed=signed)
    levels = 2.0 ** np.arange(1 - count, 1)
    return Grid((0.0, *levels), tuple(levels / np.sqrt(2)))


def lloyd_grid(magnitudes: Float[np.ndarray, " n"], bits: int, *, signed: bool = True, rounds: int = 100) -> Grid:
    """The grid of least mean square error for given magnitudes (Lloyd 1982): levels are means of their cells, thresholds midpoints.

    Args:
        magnitudes: of a tensor over its scale, 0 to 1.
        rounds: at most; it begins with even steps, and ends sooner where nothing moves. Zero stays a level.

    Raises:
        ValueError: bits that `steps` refuses.
    """
    ordered = np.sort(np.asarray(magnitudes, dtype=np.float64))
    sums = np.concatenate([[0.0], ordered.cumsum()])
    levels = np.arange(steps(bits, signed=signed) + 1) / steps(bits, signed=signed)
    for _ in range(rounds):
        edges = np.concatenate([[0], np.searchsorted(ordered, (levels[1:] + levels[:-1]) / 2, side="right"), [len(ordered)]])
        counts = np.diff(edges)
        moved = np.where(counts > 0, np.diff(sums[edges]) / np.maximum(counts, 1), levels)
        moved[0] = 0.0
        if np.array_equal(moved, levels):
            break
        levels = np.maximum.accumulate(moved)
    return Grid(tuple(levels), tuple((levels[1:] + levels[:-1]) / 2))


def scale_of(values: Float[Tensor, "..."], axis: int | None = None) -> Float[Tensor, "..."]:
    """The largest magnitude, of the whole tensor or of each slice along an axis; with the dimensions of `values`, ready to divide by.

    Args:
        axis: 0 gives each output channel of a weight a scale of its own.
    """
    magnitudes = values.detach().abs()
    if axis is None:
        return magnitudes.amax().reshape([1] * values.ndim)
    return magnitudes.amax(dim=[other for other in range(values.ndim) if other != axis % values.ndim], keepdim=True)


def quantise(values: Float[Tensor, "*shape"], grid: Grid, scale: Float[Tensor, "..."] | float) -> Float[Tensor, "*shape"]:
    """Each value as sign, scale and a level of the grid; what exceeds the scale becomes the scale. Gradients go straight through.

        quantise(weight, uniform_grid(4), scale_of(weight, axis=0))

    Args:
        scale: what a level of one stands for, broadcast against the values; where it is zero, zeros come out.

    Returns:
        Values on the grid. The gradient is that of the identity, 0 where values were clipped (Bengio, Leonard, Courville 2013).
    """
    scale = torch.as_tensor(scale, dtype=values.dtype, device=values.device)
    levels = torch.tensor(grid.levels, dtype=values.dtype, device=values.device)
    thresholds = torch.tensor(grid.thresholds, dtype=torch.float64, device=values.device)
    with torch.no_grad():
        relative = (values.abs() / scale.clamp_min(torch.finfo(values.dtype).tiny)).contiguous()  # else torch warns
        found = scale * (values.sign() * levels[torch.bucketize(relative.double(), thresholds)])
    return _StraightThrough.apply(values, found, scale)


class _StraightThrough(torch.autograd.Function):
    """The rounded values, bit for bit, which `x + (rounded - x).detach()` would not give."""

    @staticmethod
    def forward(context, values: Tensor, found: Tensor, scale: Tensor) -> Tensor:
        context.save_for_backward(values.abs() <= scale)
        return found

    @staticmethod
    def backward(context, gradient: Tensor) -> tuple[Tensor, None, None]:  # type: ignore[override]
        return gradient * context.saved_tensors[0], None, None


def codes_of(values: Float[Tensor, "*shape"], grid: Grid, scale: Float[Tensor, "..."] | float) -> Int[Tensor, "*shape"]:
    """The number of each value's level, with its sign: what an integer machine stores.

    Args:
        scale: as `quantise` takes it.
    """
    thresholds = torch.tensor(grid.thresholds, dtype=torch.float64)
    relative = values.detach().abs() / torch.as_tensor(scale).clamp_min(torch.finfo(values.dtype).tiny)
    return values.detach().sign().long() * torch.bucketize(relative.double(), thresholds)


class WeightQuantisation(nn.Module):
    """A parametrisation (`torch.nn.utils.parametrize`) that shows a layer a rounded weight and trains the one behind it.

    Args:
        rule: weight -> rounded weight, with a gradient of its own.
    """

    def __init__(self, rule: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.rule = rule

    def forward(self, weight: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        """The rounded weight."""
        return self.rule(weight)


class InputQuantisation(nn.Module):
    """Rounds what it is given to a grid, with one scale: in training the batch's own, else its running mean.

    Args:
        grid: of the magnitudes.
        signed: whether there are negative values; else they become zero.
        momentum: share of the newest scale in the running mean.
    """

    scale: Tensor

    def __init__(self, grid: Grid, *, signed: bool = True, momentum: float = 0.1) -> None:
        super().__init__()
        self.grid, self.signed, self.momentum = grid, signed, momentum
        self.register_buffer("scale", torch.zeros(()))

    def forward(self, x: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        """Values on the grid; before any training the first batch sets the scale."""
        x = x if self.signed else x.clamp_min(0)
        if not self.training and self.scale > 0:
            return quantise(x, self.grid, self.scale)
        now = x.detach().abs().amax()
        if self.scale == 0:
            self.scale.copy_(now)
        elif self.training:
            self.scale.lerp_(now, self.momentum)
        return quantise(x, self.grid, now)


def quantisation_aware(
    model: nn.Module, rule: Callable[[Tensor], Tensor] | None = None, inputs: Callable[[], InputQuantisation] | None = None
) -> nn.Module:
    """A copy whose layers compute with rounded weights, inputs or both, and train the numbers behind them.

        rule = lambda weight: quantise(weight, uniform_grid(4), scale_of(weight, axis=0))
        student = quantisation_aware(model, rule, lambda: InputQuantisation(uniform_grid(4)))

    Args:
        model: its batch norms are folded, as rounding folded weights is what will be stored.
        rule: weight -> rounded weight; None leaves weights as they are.
        inputs: makes what rounds the inputs of a layer; None leaves inputs as they are.

    Returns:
        A copy in which a linear layer or convolution `f` with rounded inputs is `nn.Sequential(rounding, f)`.
    """
    result = copy.deepcopy(model)
    for name, module in list(result.named_modules()):
        if not isinstance(module, QUANTISED):
            continue
        if rule is not None:
            parametrize.register_parametrization(module, "weight", WeightQuantisation(rule))
        if inputs is not None:
            wrapped = nn.Sequential(inputs(), module).train(module.training)
            if not name:
                return wrapped
            result.set_submodule(name, wrapped)
    return result


def with_rounded_weights(model: nn.Module) -> nn.Module:
    """A copy in which the rounded weights stand in place of what made them, so that they can be stored."""
    result = copy.deepcopy(model)
    for module in list(result.modules()):
        if parametrize.is_parametrized(module, "weight"):
            weight = (
                module.weight.detach()
            )  # `remove_parametrizations` would take the weight from the original as well: copies share a class
            module.__class__ = parametrize.type_before_parametrizations(module)
            del module.parametrizations
            module.weight = nn.Parameter(weight)
    return result

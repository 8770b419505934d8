"""Families of weight perturbations: noise, structured pruning, quantisation, hardware faults.

Yvinec, Dapogny, Bailly, "SAfER: Layer-Level Sensitivity Assessment for Efficient and Robust Neural Network Inference", 2023
(arXiv 2308.04753) names pruning, quantisation and bit swaps; the exact definitions are ours.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float, Shaped
from torch import Tensor


def noise(weight: Float[Tensor, "out ..."], level: float, generator: torch.Generator) -> Float[Tensor, "out ..."]:
    """Add normal noise of `level` standard deviations of the weights."""
    _require(level >= 0, f"A noise level of {level} is impossible; choose 0 or more standard deviations.")
    drawn = torch.randn(weight.shape, generator=generator).to(weight)
    return weight + level * weight.std(correction=0) * drawn


def pruning(weight: Float[Tensor, "out ..."], level: float, generator: torch.Generator | None = None) -> Float[Tensor, "out ..."]:
    """Zero the fraction `level` of the output filters that has the lowest L2 norm."""
    _require(0 <= level <= 1, f"A pruned fraction of {level} is impossible; choose 0 to 1.")
    lowest = weight.flatten(1).norm(dim=1).argsort(stable=True)[: round(level * len(weight))]
    return weight.index_fill(0, lowest, 0)


def quantisation(
    weight: Float[Tensor, "out ..."], level: float, generator: torch.Generator | None = None, per_channel: bool = False
) -> Float[Tensor, "out ..."]:
    """Round to `level` bits: steps of s = max|W| / (2^(bits - 1) - 1), symmetric, one s per tensor or per output channel."""
    _require(level == int(level) and 2 <= level <= 24, f"Weights of {level} bits are impossible here; choose 2 to 24.")
    highest = 2 ** (int(level) - 1) - 1
    scale = _largest(weight, per_channel) / highest
    return scale * (weight / scale).round().clamp(-highest, highest)


def bit_swaps(weight: Float[Tensor, "out ..."], level: float, generator: torch.Generator) -> Float[Tensor, "out ..."]:
    """Flip each of the 8 bits of the weights' int8 codes with probability `level`.

    The fault is added to the weights, s (new code - code), so that weights whose bits all hold stay what they are.
    """
    _require(0 <= level <= 1, f"A probability of {level} is impossible; choose 0 to 1.")
    scale = _largest(weight, False) / 127
    code = (weight / scale).round().clamp(-127, 127).to(torch.int8)
    flips = torch.rand(8, *weight.shape, generator=generator).to(weight.device) < level
    mask = sum((flips[bit].to(torch.int16) << bit for bit in range(1, 8)), flips[0].to(torch.int16))
    fallen = (code.view(torch.uint8) ^ mask.to(torch.uint8)).view(torch.int8)
    return weight + scale * (fallen.to(torch.int16) - code.to(torch.int16))


def float_bit_swaps(weight: Float[Tensor, "out ..."], level: float, generator: torch.Generator) -> Float[Tensor, "out ..."]:
    """Flip each of the 32 bits of the weights with probability `level`: a far more violent fault, for the exponent is hit as well.

    What is no number afterwards, or infinite, becomes the largest float32.
    """
    _require(0 <= level <= 1, f"A probability of {level} is impossible; choose 0 to 1.")
    code = weight.float().contiguous().view(torch.int32)
    mask = torch.zeros_like(code)
    for bit in range(32):
        flip = (torch.rand(weight.shape, generator=generator) < level).to(code)
        mask |= flip * (1 << bit if bit < 31 else -(1 << 31))
    largest = torch.finfo(torch.float32).max
    return (code ^ mask).view(torch.float32).nan_to_num(largest, largest, -largest).to(weight.dtype)


def _largest(weight: Tensor, per_channel: bool) -> Tensor:
    """max|W|, over everything or per output channel; weights of zeros are divided by one."""
    largest = weight.abs().flatten(1).amax(1).view(-1, *[1] * (weight.ndim - 1)) if per_channel else weight.abs().max()
    return torch.where(largest > 0, largest, torch.ones_like(largest))


def _require(fine: bool, message: str) -> None:
    if not fine:
        raise ValueError(message)


@dataclass(frozen=True)
class Family:
    """A way to perturb weights.

    Attributes:
        change: (weight with output channels first, level, generator) -> weight.
        levels: those of the benchmark, mildest first.
        unit: of a level.
        random: whether draws differ.
    """

    change: Callable[..., Shaped[Tensor, "out ..."]]
    levels: tuple[float, ...]
    unit: str
    random: bool

    def __call__(self, weight: Tensor, level: float, generator: torch.Generator | None = None) -> Tensor:
        """The perturbed weight."""
        return self.change(weight, level, generator)


FAMILIES = {
    "noise": Family(noise, (0.25, 0.5, 1.0, 2.0), "standard deviations of the weights", True),
    "pruning": Family(pruning, (0.1, 0.25, 0.5, 0.75), "fraction of the filters", False),
    "quantisation": Family(quantisation, (5, 4, 3, 2), "bits", False),
    "bit swaps": Family(bit_swaps, (0.001, 0.005, 0.02, 0.05), "probability per bit", True),
    "float bit swaps": Family(float_bit_swaps, (1e-5, 1e-4, 1e-3, 1e-2), "probability per bit", True),
}
BENCHMARK = ("noise", "pruning", "quantisation", "bit swaps")  # those of the benchmark; the last of FAMILIES is a toggle


def generator_of(seed: int, layer: str, family: str, level: float, draw: int) -> torch.Generator:
    """The random numbers of one draw: the same wherever and whenever it is made."""
    key = hashlib.sha256(repr((seed, layer, family, float(level), draw)).encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(key[:8], "little") >> 1)

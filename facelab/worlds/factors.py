"""Factors of variation: what a caller may fix, sample or sweep, and random numbers that depend on seed, item and factor only.

Every factor of every item has a random number of its own, computed (not drawn in turn) from the seed, the item's index and the
factor's name. So an item is the same in any batch, and fixing one factor leaves all the others as they were.
"""

import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

import numpy as np
from jaxtyping import Float, Int
from scipy.special import ndtr, ndtri

Quantile = Callable[[Float[np.ndarray, " B"]], Float[np.ndarray, " B"]]
"""Turns uniform numbers in (0, 1) into values of a factor: its inverse cumulative distribution."""


def uniform(seed: int, index: Int[np.ndarray, "*B"], name: str) -> Float[np.ndarray, "*B"]:
    """Counter-based random numbers in (0, 1): a pure function of seed, index and name, independent across all three.

    Source: the SplitMix64 finaliser (Steele, Lea and Flood, 2014), chained over the three words.
    """
    state = np.full(np.shape(index), seed % 2**64, dtype=np.uint64)
    with np.errstate(over="ignore"):
        for word in (np.uint64(zlib.crc32(name.encode())), np.asarray(index).astype(np.uint64)):
            state = (state + np.uint64(0x9E3779B97F4A7C15)) ^ (word * np.uint64(0xD1342543DE82EF95))
            for _ in range(2):
                state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
                state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
                state ^= state >> np.uint64(31)
    return ((state >> np.uint64(12)).astype(np.float64) + 0.5) / 2.0**52


def between(low: float, high: float) -> Quantile:
    """Uniform on [low, high]."""
    return lambda u: low + (high - low) * u


def normal(mean: float, deviation: float, low: float = -np.inf, high: float = np.inf) -> Quantile:
    """Normal, truncated to [low, high]."""
    bottom, top = ndtr((low - mean) / deviation), ndtr((high - mean) / deviation)
    return lambda u: np.clip(mean + deviation * ndtri(bottom + (top - bottom) * u), low, high)


def sometimes(probability: float, quantile: Quantile, otherwise: float = 0.0) -> Quantile:
    """`otherwise`, but with `probability` a value of `quantile`."""
    return lambda u: np.where(u < probability, quantile(np.minimum(u / probability, 1 - 1e-12)), otherwise)


def weighted(*weights: float) -> Quantile:
    """0, 1, 2 ... with these relative weights: the default sampling of a factor with choices."""
    edges = np.cumsum(weights) / np.sum(weights)
    return lambda u: np.searchsorted(edges[:-1], u, side="right").astype(np.float64)


@dataclass(frozen=True)
class Factor:
    """One factor of variation.

    Attributes:
        name: keyword of the world's `render`.
        low, high: the least and the greatest allowed value; for a factor with choices 0 and their number - 1.
        quantile: default sampling; uniform on [low, high] (or over the choices) when None.
        unit: "degrees", "pixels", ...; empty for a plain number.
        what: one line for people.
        choices: names of the values of a categorical factor; its values are their indices.
        group: heading under which explorers show the factor.
        whole: only whole numbers are allowed.
    """

    name: str
    low: float
    high: float
    quantile: Quantile | None = None
    unit: str = ""
    what: str = ""
    choices: tuple[str, ...] = ()
    group: str = ""
    whole: bool = False

    def values(self, uniform: Float[np.ndarray, " B"]) -> Float[np.ndarray, " B"]:
        """Default sampling: one value per uniform number."""
        return self.quantile(uniform) if self.quantile else self.between(self.low, self.high, uniform)

    def between(self, low: float, high: float, uniform: Float[np.ndarray, " B"]) -> Float[np.ndarray, " B"]:
        """Values uniform on [low, high], whole where the factor is."""
        if self.choices or self.whole:
            return np.minimum(np.floor(low + (high - low + 1) * uniform), high)
        return low + (high - low) * uniform

    def number(self, value: Any) -> float:
        """A value given by a caller as a number inside the factor's range.

        Raises:
            ValueError: no such choice, not a number, or outside [low, high].
        """
        if isinstance(value, str):
            if value not in self.choices:
                allowed = f"one of {', '.join(self.choices)}" if self.choices else self._range
                raise ValueError(f"{self.name}={value!r} is not allowed: give {allowed}.")
            return float(self.choices.index(value))
        try:
            number = float(value)
        except (TypeError, ValueError):
            raise ValueError(
                f"{self.name}={value!r} is not allowed: give {self._range}, a (low, high) range or one value per item."
            ) from None
        if not self.low <= number <= self.high or ((self.whole or self.choices) and number != int(number)):
            raise ValueError(f"{self.name}={value!r} is not allowed: give {self._range}.")
        return number

    @property
    def _range(self) -> str:
        kind = "whole number" if self.whole or self.choices else "number"
        names = f" or one of {', '.join(self.choices)}" if self.choices else ""
        return f"a {kind} from {self.low:g} to {self.high:g}{f' {self.unit}' if self.unit else ''}{names}"


def check_count(n: Any, size: Any, start: Any = 0, smallest: int = 8, largest: int = 2048) -> None:
    """Reject impossible counts and image sizes in words.

    Raises:
        ValueError: n < 1, start < 0 or size outside [smallest, largest].
    """
    for name, value, low, high in (("n", n, 1, 2**31), ("size", size, smallest, largest), ("start", start, 0, 2**62)):
        if not isinstance(value, (int, np.integer)) or isinstance(value, bool) or not low <= value <= high:
            limit = f"at least {low}" if high > largest and name != "size" else f"from {low} to {high}"
            raise ValueError(f"{name}={value!r} is not allowed: give a whole number {limit}.")


def check_names(world: Mapping[str, Factor], given: Mapping[str, Any]) -> None:
    """Reject unknown factors in words.

    Raises:
        ValueError: names the nearest known factor and all allowed ones.
    """
    for name in given:
        if name not in world:
            near = get_close_matches(name, world, n=1)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            raise ValueError(f"There is no factor {name!r}.{hint} The factors are: {', '.join(world)}.")


def sample_factors(world: Mapping[str, Factor], n: int, seed: int, start: int = 0, **given: Any) -> dict[str, Float[np.ndarray, " B"]]:
    """The value of every factor of items start .. start + n - 1 of a seed.

    Args:
        given: factor name -> a number or choice (fixed), a (low, high) tuple (sampled uniformly; for choices: a tuple of names to pick
            from), or a list or array of length n (swept). Factors not given follow their own default sampling.

    Returns:
        Factor name -> (n,) values; indices of the choices for categorical factors.

    Raises:
        ValueError: unknown factor, value outside its range, low above high, or a sweep of another length than n.
    """
    check_names(world, given)
    index = np.arange(start, start + n)
    return {name: _values(factor, given.get(name), uniform(seed, index, name)) for name, factor in world.items()}


def _values(factor: Factor, value: Any, numbers: Float[np.ndarray, " B"]) -> Float[np.ndarray, " B"]:
    if value is None:
        return factor.values(numbers)
    if isinstance(value, tuple):
        if factor.choices and value and all(isinstance(v, str) for v in value):
            picks = np.array([factor.number(v) for v in value])
            return picks[np.minimum((numbers * len(picks)).astype(int), len(picks) - 1)]
        if len(value) != 2:
            raise ValueError(f"{factor.name}={value!r} is not a range: give (low, high), or a list of one value per item to sweep.")
        low, high = (factor.number(v) for v in value)
        if low > high:
            raise ValueError(f"{factor.name}={value!r} is an impossible range: the low end is above the high end.")
        return factor.between(low, high, numbers)
    if np.ndim(value) == 0:
        return np.full(len(numbers), factor.number(value.item() if isinstance(value, np.ndarray) else value))
    if np.ndim(value) != 1 or len(value) != len(numbers):
        raise ValueError(f"{factor.name}: a sweep needs one value per item, {len(numbers)} of them, but has shape {np.shape(value)}.")
    if isinstance(value, np.ndarray) and value.dtype.kind in "fiu":  # checked at once: a world may pass on every factor of many items
        outside = ~((factor.low <= value) & (value <= factor.high))
        if outside.any():
            factor.number(value[outside][0].item())
        if not (factor.whole or factor.choices):
            return value.astype(np.float64)
    return np.array([factor.number(v) for v in value])

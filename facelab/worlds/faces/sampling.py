"""How the factors of a face are drawn, or taken from the caller.

Random numbers are a hash of (seed, index, name of the factor): item i of a seed is the same whatever else is asked for.
Shape and appearance hash the identity instead of the index, so equal identities are the same person.
"""

from collections.abc import Mapping

import numpy as np
from jaxtyping import Int

from facelab.worlds.faces.expression import draw_action_units
from facelab.worlds.faces.factors import AU_NAMES, FACTORS, PERSON, Factor, check_name
from facelab.worlds.faces.randomness import hashed, hashed_table


def _code(factor: Factor, value) -> float:
    if isinstance(value, str):
        if value not in factor.choices:
            allowed = f"one of {list(factor.choices)}" if factor.choices else f"a number from {factor.low:g} to {factor.high:g}"
            raise ValueError(f"{factor.name} = {value!r} is not possible; give {allowed}.")
        return float(factor.choices.index(value))
    return float(value)


def _checked(factor: Factor, values: np.ndarray) -> np.ndarray:
    wrong = ~((values >= factor.low - 1e-9) & (values <= factor.high + 1e-9))
    if factor.choices:
        wrong |= values != np.round(values)
    if wrong.any():
        allowed = f"one of {list(factor.choices)}" if factor.choices else f"{factor.low:g} to {factor.high:g} {factor.unit}".strip()
        raise ValueError(f"{factor.name} = {values[wrong][0]:g} is out of range; allowed: {allowed}.")
    return values


def given_values(factor: Factor, given, n: int, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Values of one factor as the caller asked: fixed, (low, high) sampled, tuple of names sampled, or swept.

    Raises:
        ValueError: out of range, an unknown choice, or a sweep of the wrong length.
    """
    if isinstance(given, tuple):
        if all(isinstance(value, str) for value in given) and given:
            codes = np.array([_code(factor, value) for value in given])
            return codes[np.minimum((u * len(codes)).astype(int), len(codes) - 1)]
        if len(given) != 2 or not given[0] <= given[1]:
            raise ValueError(f"{factor.name} = {given} is no range; give (low, high) with low <= high.")
        ends = _checked(factor, np.array(given, dtype=float))
        if factor.choices:
            return np.floor(ends[0] + (ends[1] - ends[0] + 1) * u).clip(*ends)
        return ends[0] + (ends[1] - ends[0]) * u
    if isinstance(given, (list, np.ndarray)) and np.ndim(given) == 1:
        if len(given) != n:
            raise ValueError(f"{factor.name} was given {len(given)} values for {n} faces; a sweep needs one value per face.")
        return _checked(factor, np.array([_code(factor, value) for value in given], dtype=float))
    if not isinstance(given, (str, int, float, np.number, np.bool_)):
        raise ValueError(f"{factor.name} = {given!r}; give a number, a (low, high) tuple or an array of {n} values.")
    return _checked(factor, np.full(n, _code(factor, given)))


def _identities(given: object, seed: np.ndarray, index: np.ndarray) -> Int[np.ndarray, " n"]:
    """A number (one person), a (low, high) tuple (sampled) or one number per face, as whole numbers."""
    n = len(index)
    try:
        numbers = np.asarray(given, dtype=float)
    except (TypeError, ValueError):
        numbers = np.array(np.nan)
    if numbers.ndim > 1 or not np.all(np.isfinite(numbers)) or np.any(numbers != np.floor(numbers)) or np.any(numbers < 0):
        raise ValueError(f"identity = {given!r}; give a whole number from 0, a (low, high) tuple of them, or one per face.")
    if isinstance(given, tuple):
        if len(given) != 2 or given[0] > given[1]:
            raise ValueError(f"identity = {given} is no range; give (low, high) with low <= high.")
        low, high = numbers
        return np.floor(low + (high - low + 1) * hashed(seed, index, "identity")).astype(np.int64)
    if numbers.ndim == 1 and len(numbers) != n:
        raise ValueError(f"identity was given {len(numbers)} values for {n} faces; a sweep needs one value per face.")
    return np.broadcast_to(numbers, (n,)).astype(np.int64)


def draw(seed: np.ndarray, index: np.ndarray, asked: Mapping[str, object]) -> dict[str, np.ndarray]:
    """All factors of the items (seed, index), those in `asked` as asked, the others from their default distributions."""
    n = len(index)
    for name in asked:
        check_name(name)
    identity = _identities(asked.get("identity", index), seed, index)
    values: dict[str, np.ndarray] = {"seed": np.asarray(seed), "index": np.asarray(index), "identity": identity}
    person = np.array([name in PERSON for name in FACTORS])[:, None]
    uniform = hashed_table(seed, np.where(person, identity, index), list(FACTORS), 2)
    for (name, factor), u, v in zip(FACTORS.items(), *uniform, strict=True):
        if factor.group == "action units" and name not in asked:
            continue
        if name in asked:
            values[name] = given_values(factor, asked[name], n, u, v)
        else:
            values[name] = np.clip(factor.draw(u, v), factor.low, factor.high)
    units = draw_action_units(seed, index, values["expression"], values["intensity"], values["talking"])
    for name in AU_NAMES:
        values.setdefault(name, units[name])
    return values

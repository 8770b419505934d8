"""From importance to budgets: how much to prune, how many bits, what to protect, layer by layer.

The applications are those of Yvinec, Dapogny, Bailly, "SAfER", 2023 (arXiv 2308.04753); the rules are ours.
"""

import heapq
from collections.abc import Mapping

import numpy as np
import pandas as pd
from torch import Tensor, nn

from facelab.networks.layers import layers
from facelab.networks.surgery import multiplies_left, pruned

HIGHEST_RATIO = 0.9
BITS = (2, 8)


def pruning_ratios(
    importance: Mapping[str, float], costs: Mapping[str, float], budget: float, spread: float = 0.5, highest: float = HIGHEST_RATIO
) -> dict[str, float]:
    """Share of filters to prune from each layer: less where it is important, together `budget` of the costs.

    ratio = clip(level + spread (mean importance - importance) / range of importance), `level` found so that the costs match.

    Args:
        importance: layer (or tied layers, joined by "+") -> any number, higher is more important.
        costs: of the same layers, such as multiplies or parameters.
        budget: share of all costs to save, 0..1.
        spread: between the least and the most important layer before clipping; 0 is uniform.
        highest: no layer loses more than this share.

    Raises:
        ValueError: other layers in both, or a budget beyond what `highest` allows.
    """
    _same_layers(importance, costs)
    if not 0 <= budget <= highest:
        raise ValueError(f"A pruning budget of {budget} is impossible; choose 0 to {highest} (no layer may lose more).")
    values, weights = np.array([importance[name] for name in importance], float), np.array([costs[name] for name in importance], float)
    between = np.ptp(values)
    offset = spread * (values.mean() - values) / between if between > 0 else np.zeros_like(values)

    def ratios(level: float) -> np.ndarray:
        return np.clip(level + offset, 0, highest)

    low, high = -abs(spread), highest + abs(spread)
    for _ in range(60):  # bisection: costs grow with the level
        middle = (low + high) / 2
        low, high = (middle, high) if weights @ ratios(middle) < budget * weights.sum() else (low, middle)
    return dict(zip(importance, ratios(high).tolist(), strict=True))


def bits(
    importance: Mapping[str, float], model: nn.Module, average_bits: float, lowest: int = BITS[0], highest: int = BITS[1]
) -> dict[str, int]:
    """Bits for the weights of each layer: the cheapest bit is taken away until the average is met, and what that overshot is given back.

    A layer of b bits is rounded in steps of s = max|W| / (2^(b-1) - 1), which is noise of variance s^2 / 12; relative to var(W) and
    times the layer's importance, that is the loss it predicts. Taken is the bit with the least predicted loss per weight.

    Args:
        importance: layer -> effect of noise of the variance of its weights; negative counts as none.
        model: whose weights.
        average_bits: over all weights of these layers, not to be exceeded.
        lowest, highest: of a layer.

    Raises:
        ValueError: an average outside lowest..highest, or importances that are all negative.
    """
    if max(importance.values()) < 0:
        raise ValueError("Bits need a predicted loss, and all importances are negative; rank what has no scale of its own.")
    if not lowest <= average_bits <= highest:
        raise ValueError(f"An average of {average_bits} bits is impossible; choose {lowest} to {highest}.")
    weights = {name: model.get_submodule(name).weight.detach() for name in importance}
    sizes = {name: weight.numel() for name, weight in weights.items()}  # type: ignore[operator, union-attr]

    def cost(name: str, b: int) -> float:
        return max(float(importance[name]), 0.0) * _rounding_noise(weights[name], b)

    chosen = dict.fromkeys(importance, highest)
    spare = (highest - average_bits) * sum(sizes.values())
    queue = [((cost(name, highest - 1) - cost(name, highest)) / sizes[name], -sizes[name], name) for name in chosen if highest > lowest]
    heapq.heapify(queue)
    while queue and spare > 1e-9:
        _, _, name = heapq.heappop(queue)
        chosen[name] -= 1
        spare -= sizes[name]
        b = chosen[name]
        if b > lowest:
            heapq.heappush(queue, ((cost(name, b - 1) - cost(name, b)) / sizes[name], -sizes[name], name))
    while fitting := [name for name in chosen if chosen[name] < highest and sizes[name] <= -spare + 1e-9]:  # whole layers took too many
        name = max(fitting, key=lambda name: (cost(name, chosen[name]) - cost(name, chosen[name] + 1)) / sizes[name])
        chosen[name] += 1
        spare += sizes[name]
    return chosen


def _rounding_noise(weight: Tensor, b: int) -> float:
    """Variance of the rounding error of b bits over the variance of the weights."""
    variance = float(weight.var(correction=0))
    return float(weight.abs().max() / (2 ** (b - 1) - 1)) ** 2 / 12 / variance if variance > 0 else 0.0


def protected(importance: Mapping[str, float], sizes: Mapping[str, float], budget: float) -> list[str]:
    """Layers to protect from faults: most importance per weight first, as long as they fit into a share `budget` of all weights.

    Raises:
        ValueError: other layers in both, a negative importance, or a budget outside 0..1.
    """
    _same_layers(importance, sizes)
    if min(importance.values()) < 0:
        raise ValueError(f"Protection needs importances of at least 0 per weight; {min(importance.values())} is negative; rank them first.")
    if not 0 <= budget <= 1:
        raise ValueError(f"A protection budget of {budget} is impossible; choose a share from 0 to 1.")
    left, chosen = budget * sum(sizes.values()), []
    for name in sorted(importance, key=lambda name: -importance[name] / sizes[name]):
        if sizes[name] <= left * (1 + 1e-9):
            chosen.append(name)
            left -= sizes[name]
    return chosen


def predicted_drop(sensitivity: pd.DataFrame, family: str, levels: Mapping[str, float]) -> float:
    """The fall of the score if every layer is perturbed at once, as the sum of the measured falls of single layers.

    Args:
        sensitivity: as `measure_layers` gives it.
        family: of the perturbation.
        levels: layer -> level; between measured levels the fall is interpolated, beyond them it is that of the last one. A ratio of 0
            filters and 16 bits (everything kept) are taken to cost nothing.

    Raises:
        ValueError: a layer that was not measured in this family.
    """
    rows = sensitivity[sensitivity.family == family]
    neutral = 16.0 if family == "quantisation" else 0.0
    total = 0.0
    for name, level in levels.items():
        curve = rows[rows.layer == name].groupby("level")["drop"].mean()
        if curve.empty:
            raise ValueError(f"The layer {name!r} was not measured under {family!r}; measured are {sorted(set(rows.layer))}.")
        curve = pd.concat([curve, pd.Series({neutral: 0.0})]).sort_index()
        total += float(np.interp(level, curve.index, curve.to_numpy()))
    return total


def ratios_that_save(
    importance: Mapping[str, float], model: nn.Module, example: Tensor, budget: float, spread: float = 0.5
) -> dict[str, float]:
    """`pruning_ratios` by multiplies, raised until the smaller network really saves the budget.

    Ratios become whole filters, and a filter that is gone saves multiplies in the next layer as well: the same nominal budget, cut
    early or late, is not the same saving. So the nominal budget is searched for.

    Args:
        importance: layer (or tied layers, joined by "+") -> any number, higher is more important.
        model: without batch norms.
        example: (B, ...) a batch it takes.
        budget: share of all multiplies to save at least.
        spread: as for `pruning_ratios`.

    Raises:
        ValueError: a budget beyond what can be saved.
    """
    multiplies = {layer.name: layer.multiplies for layer in layers(model, example)}
    costs = {name: float(sum(multiplies[part] for part in name.split("+"))) for name in importance}
    whole = multiplies_left(model, example)

    def saves(nominal: float) -> bool:
        ratios = pruning_ratios(importance, costs, nominal, spread)
        return multiplies_left(pruned(model, ratios), example) <= (1 - budget + 1e-9) * whole

    low, high = 0.0, HIGHEST_RATIO
    if not (budget >= 0 and saves(high)):
        raise ValueError(f"A saving of {budget} of the multiplies is impossible; choose 0 or more and less than what pruning can reach.")
    for _ in range(7):  # ratios to within a hundredth
        middle = (low + high) / 2
        low, high = (low, middle) if saves(middle) else (middle, high)
    return pruning_ratios(importance, costs, 0.0 if saves(0.0) else high, spread)


def _same_layers(importance: Mapping[str, float], costs: Mapping[str, float]) -> None:
    if set(importance) != set(costs) or not importance:
        different = sorted(set(importance) ^ set(costs))
        raise ValueError(f"Importance and costs must be of the same layers; {different or 'there are none'} differ.")

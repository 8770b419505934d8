"""Budgets really spent: for each of several importances, what every layer gets and the score the network then has."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from torch import nn

from facelab.importance.budgets import bits, predicted_drop, pruned, pruning_ratios, quantised
from facelab.importance.scores import Loader, Score, evaluate

USES = ("pruning", "quantisation")
COLUMNS = ("use", "source", "budget", "unit", "layer", "amount", "predicted", "measured", "low", "high", "samples")
RESAMPLES = 1000


def spend(
    use: str,
    model: nn.Module,
    loader: Loader,
    score: Score,
    importances: Mapping[str, Mapping[str, float]],
    budgets: Sequence[float],
    *,
    costs: Mapping[str, float],
    cost: str = "multiplies",
    sensitivity: pd.DataFrame | None = None,
    seed: int = 0,
) -> pd.DataFrame:
    """Spend each budget by each importance, and evenly ("uniform"), and measure.

    Args:
        use: "pruning" or "quantisation".
        model: batch norms best folded before; stays as it is.
        loader: of the samples that the score is measured on.
        score: (outputs, targets) -> (B,), higher is better.
        importances: source (a criterion, "measured") -> layer (or tied layers, joined by "+") -> importance.
        budgets: pruning: share of the costs to save, 0..0.9; quantisation: average bits per weight, 2..8, spent evenly where whole.
        costs: of the layers that are pruned.
        cost: their name.
        sensitivity: as `measure_layers` gives it; with it, the score is predicted as if drops of single layers added up.
        seed: of the resampling for the intervals.

    Returns:
        A row per source, budget and layer: amount is the share of filters cut, or bits; predicted and measured score of the budget
        with its 95 % interval over resampled samples are repeated on each.

    Raises:
        ValueError: an unknown use, no budget, a source called "uniform", or a budget that is impossible.
    """
    if use not in USES or not len(budgets) or "uniform" in importances:
        raise ValueError(f"Cannot spend {list(budgets)} for {use!r}; give budgets, a use of {USES}, and importances not called 'uniform'.")
    before = float(evaluate(model, loader, score).mean())
    even = {"uniform": dict.fromkeys(next(iter(importances.values())) if importances else costs, 1.0)}
    generator = np.random.default_rng(seed)
    draws, rows = None, []
    for source, importance in (dict(importances) | even).items():
        for budget in budgets:
            if use == "pruning":
                amounts, unit = pruning_ratios(importance, costs, budget), f"share of {cost} saved"
                changed = pruned(model, amounts)
            elif source != "uniform" or budget == int(budget):
                amounts, unit = (
                    dict.fromkeys(importance, int(budget)) if source == "uniform" else bits(importance, model, budget),
                    "bits per weight",
                )
                changed = quantised(model, amounts)
            else:
                continue
            scores = evaluate(changed, loader, score).double().numpy()
            if draws is None:
                draws = generator.multinomial(len(scores), np.full(len(scores), 1 / len(scores)), RESAMPLES) / len(scores)
            low, high = np.percentile(draws @ scores, [2.5, 97.5])
            predicted = float("nan") if sensitivity is None else before - predicted_drop(sensitivity, use, amounts)
            about = (predicted, float(scores.mean()), float(low), float(high), len(scores))
            rows += [(use, source, float(budget), unit, layer, float(amount), *about) for layer, amount in amounts.items()]
    return pd.DataFrame(rows, columns=list(COLUMNS))

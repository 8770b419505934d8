"""Budgets really spent: for each of several importances, what every layer gets and the score the network then has."""

from collections.abc import Mapping, Sequence

import pandas as pd
from torch import nn

from facelab.importance.budgets import bits, predicted_drop, ratios_that_save
from facelab.importance.scores import Loader, Score, evaluate
from facelab.networks.surgery import pruned, quantised
from facelab.statistics import bootstrap_interval

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
    sensitivity: pd.DataFrame | None = None,
    seed: int = 0,
) -> pd.DataFrame:
    """Spend each budget by each importance, and evenly ("uniform"), and measure.

    Args:
        use: "pruning" or "quantisation".
        model: batch norms best folded before; stays as it is.
        loader: of the samples that the score is measured on.
        score: (outputs, targets) -> (B,), higher is better.
        importances: source (a criterion, "measured") -> layer (or tied layers, joined by "+") -> importance; at least one.
        budgets: pruning: share of the multiplies to save, really; quantisation: average bits per weight, 2..8, spent evenly where whole.
        sensitivity: as `measure_layers` gives it; with it, the score is predicted as if drops of single layers added up.
        seed: of the resampling for the intervals.

    Returns:
        A row per source, budget and layer: amount is the share of filters cut, or bits; predicted and measured score of the budget
        with its 95 % interval over resampled samples are repeated on each.

    Raises:
        ValueError: an unknown use, no budget, a source called "uniform", or a budget that is impossible.
    """
    if use not in USES or not len(budgets) or not importances or "uniform" in importances:
        raise ValueError(f"Cannot spend {list(budgets)} for {use!r}; give budgets, a use of {USES}, and importances not called 'uniform'.")
    example = next(iter(loader))[0][:2]
    before = float(evaluate(model, loader, score).mean())
    even = {"uniform": dict.fromkeys(next(iter(importances.values())), 1.0)}
    unit = "share of multiplies saved" if use == "pruning" else "bits per weight"
    rows: list[tuple] = []
    for source, importance in (dict(importances) | even).items():
        for budget in budgets:
            amounts: Mapping[str, float]
            if use == "pruning":
                amounts = ratios_that_save(importance, model, example, budget)
            elif source != "uniform":
                amounts = bits(importance, model, budget)
            elif budget == int(budget):
                amounts = dict.fromkeys(importance, int(budget))
            else:
                continue
            changed = pruned(model, amounts) if use == "pruning" else quantised(model, amounts)  # type: ignore[arg-type]
            scores = evaluate(changed, loader, score).double().numpy()
            low, high = bootstrap_interval(scores, RESAMPLES, seed)  # one seed: every network meets the same draws
            predicted = float("nan") if sensitivity is None else before - predicted_drop(sensitivity, use, amounts)
            about = (predicted, float(scores.mean()), low, high, len(scores))
            rows += [(use, source, float(budget), unit, layer, float(amount), *about) for layer, amount in amounts.items()]
    return pd.DataFrame(rows, columns=list(COLUMNS))

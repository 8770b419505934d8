"""How well criteria predict measured sensitivity: agreement of two orders of layers."""

import numpy as np
import pandas as pd
from jaxtyping import Float
from scipy.stats import kendalltau, spearmanr


def pairs_in_order(guess: Float[np.ndarray, " L"], truth: Float[np.ndarray, " L"]) -> float:
    """Share of pairs of layers, different in truth, that the guess puts in the same order; an even guess counts half. Chance is 0.5.

    Args:
        guess, truth: a number per layer, higher is more important.

    Raises:
        ValueError: no two layers differ in truth.
    """
    first, second = np.triu_indices(len(truth), 1)
    true = np.sign(truth[first] - truth[second])
    guessed = np.sign(guess[first] - guess[second])
    if not np.any(true):
        raise ValueError(f"No two of the {len(truth)} layers differ in truth; there is no order to predict.")
    return float((1 + (true * guessed)[true != 0].mean()) / 2)


def agreement(criteria: pd.DataFrame, sensitivity: pd.DataFrame, *, last_pruned: bool = False) -> pd.DataFrame:
    """How each criterion orders the layers of each network against each family of perturbations.

    Layers that a residual addition ties together are one item, with the mean of their figures.

    Args:
        criteria: rows of kind "layer", of any number of networks.
        sensitivity: of the same networks, as `measure_layers` gives it; a layer's sensitivity is its mean drop over levels and draws.
        last_pruned: count the last layer under "pruning" as well, where losing outputs means losing answers.

    Returns:
        a row per network, family and criterion: pairs (share in the same order, chance is 0.5), spearman and kendall (both NaN where
        not defined), layers (number of items).
    """
    rows = []
    guesses = criteria[criteria.kind == "layer"]
    for (network, family), measured in sensitivity.groupby(["network", "family"], sort=False):
        own = guesses[guesses.network == network]
        values = own.pivot_table(index="layer", columns="criterion", values="value", sort=False)
        truth = measured.groupby("layer", sort=False)["drop"].mean()
        if family == "pruning" and not last_pruned:
            last = own.loc[own.depth.idxmax(), "layer"]
            truth = truth[[last not in name.split("+") for name in truth.index]]
        if truth.nunique() < 2:
            continue  # nothing hurt, or all alike: no order to predict
        for criterion in values.columns:
            guess = np.array([values.loc[name.split("+"), criterion].mean() for name in truth.index])
            even = np.ptp(guess) == 0
            spearman, kendall = (np.nan if even else float(measure(guess, truth).statistic) for measure in (spearmanr, kendalltau))
            rows.append((network, family, criterion, pairs_in_order(guess, truth.to_numpy(float)), spearman, kendall, len(truth)))
    return pd.DataFrame(rows, columns=["network", "family", "criterion", "pairs", "spearman", "kendall", "layers"])

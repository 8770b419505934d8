"""Budgets that were spent: allocation, prediction and measurement belong to each other."""

import numpy as np
import pandas as pd
import pytest

from facelab.importance.budgets import bits, predicted_drop, ratios_that_save
from facelab.importance.planted import planted
from facelab.importance.scores import evaluate, log_likelihood
from facelab.importance.spending import spend
from facelab.networks.surgery import pruned, quantised

PLANTED = planted()
LAYERS = ("stem", "branches.twin_a", "branches.twin_b", "gate")
IMPORTANCE = {"mine": dict(zip(LAYERS, (4.0, 2.0, 2.0, 0.0), strict=True))}
LEVELS = {"pruning": (0.5, 0.9), "quantisation": (8.0, 2.0)}
CURVES = pd.DataFrame(
    [{"family": family, "layer": layer, "level": level, "drop": 0.1 * (i + 1)} for family, levels in LEVELS.items() for layer in LAYERS
     for i, level in enumerate(levels)]
)  # fmt: skip


def scores_after(model) -> np.ndarray:
    return evaluate(model, PLANTED.loader, log_likelihood).numpy().astype(float)


def run(use, budgets, **options):
    return spend(use, PLANTED.model, PLANTED.loader, log_likelihood, IMPORTANCE, budgets, **options)


def test_pruning_is_what_it_says():
    frame = run("pruning", (0.2, 0.5), sensitivity=CURVES)
    assert set(frame.source) == {"mine", "uniform"} and set(frame.unit) == {"share of multiplies saved"}
    before = scores_after(PLANTED.model).mean()
    for (source, budget), rows in frame.groupby(["source", "budget"]):
        importance = IMPORTANCE["mine"] if source == "mine" else dict.fromkeys(LAYERS, 1.0)
        ratios = ratios_that_save(importance, PLANTED.model, PLANTED.loader[0][0], budget)
        assert rows.set_index("layer").amount.to_dict() == pytest.approx(ratios)
        scores = scores_after(pruned(PLANTED.model, ratios))
        np.testing.assert_allclose(rows.measured, scores.mean(), rtol=1e-6)
        np.testing.assert_allclose(rows.predicted, before - predicted_drop(CURVES, "pruning", ratios), rtol=1e-6)
        error = 1.96 * scores.std() / np.sqrt(len(scores))  # by another way: the normal approximation
        np.testing.assert_allclose(rows.high - rows.low, 2 * error, rtol=0.2)
        assert (rows.low < rows.measured).all() and (rows.measured < rows.high).all()


def test_bits_are_what_they_say_and_uniform_only_where_whole():
    frame = run("quantisation", (2, 2.5, 6))
    assert sorted(frame[frame.source == "uniform"].budget.unique()) == [2, 6]
    for budget in (2, 2.5, 6):
        rows = frame[(frame.source == "mine") & (frame.budget == budget)]
        chosen = bits(IMPORTANCE["mine"], PLANTED.model, budget)
        assert rows.set_index("layer").amount.to_dict() == chosen
        np.testing.assert_allclose(rows.measured, scores_after(quantised(PLANTED.model, chosen)).mean(), rtol=1e-6)
    assert frame.predicted.isna().all()


def test_the_same_samples_are_resampled_for_all():
    frame = run("pruning", (0.0, 0.3))
    nothing = frame[frame.budget == 0]  # nothing is cut, whatever the importance: the same scores, and so the same interval
    assert nothing.low.nunique() == nothing.high.nunique() == 1 and (nothing.amount.abs() < 1e-9).all()
    pd.testing.assert_frame_equal(frame, run("pruning", (0.0, 0.3)))


@pytest.mark.parametrize(
    ("use", "budgets", "importances"), [("fault", (0.1,), {}), ("pruning", (), {}), ("pruning", (0.1,), {"uniform": IMPORTANCE["mine"]})]
)
def test_what_cannot_be_spent_is_refused(use, budgets, importances):
    with pytest.raises(ValueError, match="Cannot spend"):
        spend(use, PLANTED.model, PLANTED.loader, log_likelihood, importances, budgets)

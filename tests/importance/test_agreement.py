"""Agreement of orders, by hand and against Kendall's tau."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import kendalltau

from facelab.importance.agreement import agreement, pairs_in_order


def test_pairs_by_hand():
    truth = np.array([3.0, 2.0, 1.0])
    assert pairs_in_order(np.array([9.0, 5.0, 7.0]), truth) == pytest.approx(2 / 3)
    assert pairs_in_order(np.array([1.0, 1.0, 1.0]), truth) == 0.5
    assert pairs_in_order(np.array([3.0, 2.0, 1.0]), np.array([1.0, 1.0, 0.0])) == 1.0  # a pair that is even in truth does not count
    with pytest.raises(ValueError, match="no order to predict"):
        pairs_in_order(truth, np.ones(3))


@given(st.permutations(list(range(6))))
def test_without_ties_it_is_kendalls_tau_as_a_share(order):
    guess, truth = np.array(order, float), np.arange(6.0)
    assert pairs_in_order(guess, truth) == pytest.approx((1 + kendalltau(guess, truth).statistic) / 2)


def tables(drops):
    values = {"a": 3.0, "b": 1.0, "c": 2.0}
    rows = [("net", "layer", name, depth, "guess", value) for depth, (name, value) in enumerate(values.items(), 1)]
    rows += [("net", "layer", name, depth, "even", 1.0) for depth, name in enumerate(values, 1)]
    criteria = pd.DataFrame(rows, columns=["network", "kind", "layer", "depth", "criterion", "value"])
    measured = [("net", family, name, level, drop) for family, name, level, drop in drops]
    return criteria, pd.DataFrame(measured, columns=["network", "family", "layer", "level", "drop"])


def test_levels_are_averaged_and_tied_layers_are_one():
    drops = [("noise", "a", 1, 0.1), ("noise", "a", 2, 0.5), ("noise", "b", 1, 0.2), ("noise", "c", 1, 0.25)]
    drops += [("pruning", "a+b", 1, 0.1), ("pruning", "c", 1, 0.9)]
    frame = agreement(*tables(drops), last_pruned=True).set_index(["family", "criterion"])
    assert frame.loc[("noise", "guess"), "pairs"] == 1.0 and frame.loc[("noise", "guess"), "spearman"] == pytest.approx(1)
    assert frame.loc[("pruning", "guess"), "pairs"] == 0.5  # (3 + 1) / 2 against 2
    assert frame.loc[("noise", "even"), "pairs"] == 0.5 and np.isnan(frame.loc[("noise", "even"), "spearman"])
    assert frame.layers.tolist() == [3, 3, 2, 2]


def test_the_classifier_is_not_pruned_unless_asked():
    drops = [("pruning", "a", 1, 0.1), ("pruning", "b", 1, 0.2), ("pruning", "c", 1, 0.9)]
    assert agreement(*tables(drops)).layers.unique().tolist() == [2]
    assert agreement(*tables([("noise", "a", 1, 0.0), ("noise", "b", 1, 0.0), ("noise", "c", 1, 0.0)])).empty

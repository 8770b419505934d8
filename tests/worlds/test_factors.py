"""Random numbers that belong to an item, and errors that help."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import kstest

from facelab.worlds.factors import Factor, between, check_count, normal, sample_factors, sometimes, uniform, weighted

WORLD = {
    "yaw": Factor("yaw", -90, 90, normal(0, 28, -90, 90), "degrees"),
    "mood": Factor("mood", 0, 2, weighted(1, 2, 1), choices=("calm", "merry", "sad")),
    "count": Factor("count", 1, 6, whole=True),
    "scar": Factor("scar", 0, 1, sometimes(0.25, between(0.5, 1))),
}


def test_numbers_are_uniform_and_independent_across_seed_item_and_name():
    index = np.arange(50_000)
    rows = np.array([uniform(0, index, "a"), uniform(0, index, "b"), uniform(1, index, "a"), uniform(0, index + 1, "a")])
    assert all(kstest(row, "uniform").pvalue > 1e-4 for row in rows)
    assert np.abs(np.corrcoef(rows) - np.eye(4)).max() < 0.02
    assert rows.min() > 0 and rows.max() < 1


@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 2**40), start=st.integers(0, 10_000), n=st.integers(1, 20), cut=st.integers(0, 19))
def test_an_item_does_not_depend_on_its_batch(seed, start, n, cut):
    cut = min(cut, n - 1)
    whole = sample_factors(WORLD, n, seed, start)
    alone = sample_factors(WORLD, 1, seed, start + cut)
    assert all(whole[name][cut] == alone[name][0] for name in WORLD)


def test_fixing_one_factor_leaves_the_others():
    free, fixed = sample_factors(WORLD, 50, 3), sample_factors(WORLD, 50, 3, yaw=10)
    assert (fixed["yaw"] == 10).all()
    assert all((free[name] == fixed[name]).all() for name in WORLD if name != "yaw")


def test_default_sampling_follows_its_distribution():
    values = sample_factors(WORLD, 40_000, 0)
    assert values["yaw"].std() == pytest.approx(27.7, abs=0.4)
    assert np.bincount(values["mood"].astype(int)) / 40_000 == pytest.approx([0.25, 0.5, 0.25], abs=0.01)
    assert np.bincount(values["count"].astype(int))[1:] / 40_000 == pytest.approx([1 / 6] * 6, abs=0.01)
    assert np.mean(values["scar"] == 0) == pytest.approx(0.75, abs=0.01)
    assert values["scar"][values["scar"] > 0].min() >= 0.5


def test_a_value_may_be_fixed_ranged_or_swept():
    values = sample_factors(WORLD, 3, 0, yaw=(20, 30), mood=["sad", "calm", 1], count=(2, 2))
    assert ((values["yaw"] >= 20) & (values["yaw"] <= 30)).all() and len(set(values["yaw"])) == 3
    assert values["mood"].tolist() == [2, 0, 1]
    assert values["count"].tolist() == [2, 2, 2]
    picked = sample_factors(WORLD, 200, 0, mood=("calm", "sad"))["mood"]
    assert set(picked) == {0, 2}


@pytest.mark.parametrize(
    ("given_factors", "words"),
    [
        ({"yaaw": 0}, "Did you mean 'yaw'.*yaw, mood, count, scar"),
        ({"yaw": 91}, "from -90 to 90 degrees"),
        ({"yaw": float("nan")}, "from -90 to 90 degrees"),
        ({"yaw": (10, -10)}, "low end is above"),
        ({"yaw": (1, 2, 3)}, "give \\(low, high\\)"),
        ({"yaw": [1, 2]}, "one value per item, 3 of them"),
        ({"yaw": np.array([0.0, 100.0, 0.0])}, "yaw=100"),
        ({"yaw": "wide"}, "from -90 to 90"),
        ({"yaw": object()}, "from -90 to 90"),
        ({"mood": "angry"}, "calm, merry, sad"),
        ({"mood": 1.5}, "whole number from 0 to 2"),
        ({"count": 2.5}, "whole number from 1 to 6"),
    ],
)
def test_bad_values_are_refused_with_what_is_allowed(given_factors, words):
    with pytest.raises(ValueError, match=words):
        sample_factors(WORLD, 3, 0, **given_factors)


@pytest.mark.parametrize("bad", [(0, 64), (-1, 64), (1.5, 64), (True, 64), (1, 0), (1, 7), (1, 4096), (1, 64, -1)])
def test_impossible_counts_are_refused(bad):
    with pytest.raises(ValueError, match="is not allowed: give a whole number"):
        check_count(*bad)

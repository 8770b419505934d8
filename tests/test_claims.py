import json
import math
from functools import partial

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from facelab import claims, metrics, statistics
from facelab.claims import Claim, ClaimNotMet, claim, record, require


def make(ours, baseline, **options):
    return claim("Ours is better", **dict(ours=ours, baseline=baseline, better="lower", name="better") | options)


def test_gain_is_relative_to_the_baseline_and_knows_the_direction():
    scores = np.array([10.0, 20.0, 30.0])
    lower = make(scores * 0.8, scores)
    assert math.isclose(lower.gain, 0.2)
    assert math.isclose(make(scores * 1.2, scores, better="higher").gain, 0.2)
    assert math.isclose(make(scores * 1.2, scores).gain, -0.2)
    assert (lower.ours, lower.baseline, lower.seeds, lower.samples) == (16.0, 20.0, 1, 3)


def test_a_constant_gain_has_an_interval_without_length():
    scores = np.random.default_rng(0).gamma(4, 2, size=(3, 50))
    c = make(scores * 0.9, scores)
    np.testing.assert_allclose([c.low, c.gain, c.high], 0.1, atol=1e-12)
    assert (c.seeds, c.samples) == (3, 50)


def test_met_only_if_the_whole_interval_exceeds_the_margin():
    rng = np.random.default_rng(1)
    baseline = rng.gamma(4, 2, 400)
    ours = baseline * 0.8 + rng.normal(0, 1, 400)
    c = make(ours, baseline)
    assert c.low < c.gain < c.high
    assert make(ours, baseline, margin=c.low - 1e-6).met
    assert not make(ours, baseline, margin=c.low + 1e-6).met
    assert make(ours, baseline, margin=c.low + 1e-6).verdict == "not met"


@given(st.integers(2, 40), st.integers(0, 1000), st.floats(0.1, 100.0))
def test_unit_of_the_scores_does_not_matter(n, seed, factor):
    rng = np.random.default_rng(seed)
    ours, baseline = rng.gamma(4, 2, (2, n))
    a, b = (
        statistics.gain_interval(ours, baseline, better="lower"),
        statistics.gain_interval(ours * factor, baseline * factor, better="lower"),
    )
    np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12)
    assert a[1] <= a[0] <= a[2] or n < 5  # few values have skewed intervals, but they never miss their own estimate by much


def test_pairing_shortens_the_interval():
    rng = np.random.default_rng(2)
    baseline = rng.gamma(2, 3, 300)
    ours = baseline * 0.9 + rng.normal(0, 0.1, 300)
    paired, unpaired = make(ours, baseline), make(rng.permutation(ours), baseline)
    assert paired.high - paired.low < 0.2 * (unpaired.high - unpaired.low)


@pytest.mark.parametrize(("seeds", "samples"), [(1, 3), (1, 5), (1, 100), (3, 60), (5, 60)])
def test_interval_covers_the_true_gain_19_times_in_20(monkeypatch, seeds, samples):
    """By simulation: the true gain is 20 %; seeds, faces and noise vary. 300 trials: 95 % +- 4 % (three standard errors)."""
    monkeypatch.setattr(statistics, "RESAMPLES", 1000)
    rng = np.random.default_rng(3)
    hits, trials = 0, 300
    for _ in range(trials):
        face = rng.gamma(6, 1, samples)

        def scores(level, face=face):
            own = 1 + rng.normal(0, 0.1, samples)  # each method finds other faces hard
            chance = rng.normal(0, 0.05, (seeds, 1)) if seeds > 1 else 0.0  # a single seed tells nothing about seeds
            return level * face * own * (1 + chance) + rng.normal(0, 0.3, (seeds, samples))

        ours, baseline = scores(0.8), scores(1.0)
        _, low, high = statistics.gain_interval(
            ours.squeeze(0) if seeds == 1 else ours, baseline.squeeze(0) if seeds == 1 else baseline, better="lower"
        )
        hits += low <= 0.2 <= high
    assert 0.91 <= hits / trials <= 0.995


def test_repeated_samples_of_a_group_are_no_new_evidence():
    ours, baseline = np.random.default_rng(6).gamma(4, 2, (2, 3, 20))
    once = make(ours, baseline)
    groups = np.repeat([f"person {i:02}" for i in range(20)], 9)
    often = make(np.repeat(ours, 9, axis=1), np.repeat(baseline, 9, axis=1), groups=groups)
    np.testing.assert_allclose([often.low, often.gain, often.high], [once.low, once.gain, once.high], atol=1e-12)
    assert (often.seeds, often.samples) == (3, 20)
    careless = make(np.repeat(ours, 9, axis=1), np.repeat(baseline, 9, axis=1))
    assert careless.high - careless.low < once.high - once.low
    order = np.random.default_rng(7).permutation(len(groups))
    mixed = make(np.repeat(ours[0], 9)[order], np.repeat(baseline[0], 9)[order], groups=groups[order])
    assert mixed.low == pytest.approx(make(ours[0], baseline[0]).low)
    for bad in (groups[:5], np.zeros(len(groups))):
        with pytest.raises(ValueError, match="one label per sample"):
            make(np.repeat(ours, 9, axis=1), np.repeat(baseline, 9, axis=1), groups=bad)


def test_more_seeds_with_the_same_scatter_give_a_shorter_interval():
    rng = np.random.default_rng(4)

    def width(seeds):
        baseline = 5 + np.tile([-0.2, 0.2], seeds // 2)[:, None] + rng.normal(0, 0.1, (seeds, 200))
        c = make(4 + rng.normal(0, 0.1, (seeds, 200)), baseline)
        return c.high - c.low

    assert width(2) > 2 * width(4) > 2 * width(16)


def test_same_scores_same_interval():
    ours, baseline = np.random.default_rng(5).gamma(4, 2, (2, 30))
    assert make(ours, baseline) == make(ours, baseline)


@pytest.mark.parametrize(
    ("ours", "baseline", "message"),
    [
        ([], [], "empty"),
        ([1.0], [2.0], "single score"),
        ([1.0, 2.0], [1.0, 2.0, 3.0], r"shape \(2,\) and baseline \(3,\)"),
        ([1.0, float("nan")], [1.0, 2.0], "ours holds 1 values that are not finite"),
        ([1.0, 2.0], [float("inf"), 2.0], "baseline holds 1"),
        ([[[1.0, 2.0]]], [[[1.0, 2.0]]], "3 axes"),
        ([1.0, 2.0], [-1.0, 1.0], "cannot be told from zero"),
        ([1.0, 2.0], [0.0, 0.0], "cannot be told from zero"),
        (["a", "b"], [1.0, 2.0], "array of numbers"),
    ],
)
def test_scores_that_cannot_be_compared_are_refused(ours, baseline, message):
    with pytest.raises(ValueError, match=message):
        make(ours, baseline)


def test_other_bad_arguments_are_refused():
    scores = [1.0, 2.0]
    with pytest.raises(ValueError, match="use 'lower' or 'higher'"):
        make(scores, scores, better="smaller")
    with pytest.raises(ValueError, match="name"):
        make(scores, scores, name="")
    with pytest.raises(ValueError, match="margin"):
        make(scores, scores, margin=math.nan)
    with pytest.raises(ValueError, match="nothing to require"):
        require()
    with pytest.raises(ValueError, match="nothing to record"):
        record()
    with pytest.raises(ValueError, match="nme is nan"):
        record(nme=math.nan)


def test_tables_are_paired_by_their_labels():
    ours = pd.Series([1.0, 2.0, 3.0, 4.0], index=list("abcd"))
    baseline = pd.Series([5.0, 4.0, 3.0, 2.0], index=list("dcba"))
    people = pd.Series(["x", "x", "y", "z"], index=list("abcd"))
    by_hand = make(ours.to_numpy(), [2.0, 3.0, 4.0, 5.0])
    assert make(ours, baseline) == by_hand and by_hand.low > 0
    assert make(ours, baseline, groups=people[::-1]) == make(ours.to_numpy(), [2.0, 3.0, 4.0, 5.0], groups=["x", "x", "y", "z"])
    assert make(ours, baseline.to_numpy()).low < 0  # without labels, by position
    frames = [pd.DataFrame({"a": s, "b": s + 1, "c": s * 2}) for s in (ours, baseline)]
    assert make(frames[0], frames[1][["c", "a", "b"]]) == make(frames[0].to_numpy(), frames[1].loc[list("abcd")].to_numpy())
    assert make(frames[0], frames[1], groups=pd.Series([1, 1, 2], index=list("acb"))).samples == 2
    with pytest.raises(ValueError, match=r"'e' is in baseline only.*to_numpy"):
        make(ours, baseline.rename({"d": "e"}))
    with pytest.raises(ValueError, match="one label stands for several"):
        make(ours.rename({"b": "a"}), baseline.rename({"b": "a"}))
    with pytest.raises(ValueError, match=r"1 is in groups only|0 is in groups only"):
        make(ours, baseline, groups=pd.Series([1, 2, 3, 4]))
    with pytest.raises(ValueError, match=r"shape \(4,\) and baseline \(3,\)"):
        make(ours, baseline[:3])


@pytest.mark.parametrize(
    "groups",
    [[1.0, 2.0, np.nan, np.nan], ["x", "x", None, "y"], ["x", np.nan, "x", "y"], pd.Series(["x", pd.NA, pd.NA, "y"]), ["x", "", "x", "y"],
     np.ma.array([1, 2, 3, 4], mask=[0, 0, 1, 1]), [pd.Timestamp("2020"), pd.NaT, pd.NaT, pd.Timestamp("2021")]],
)  # fmt: skip
def test_samples_without_a_group_are_refused(groups):
    with pytest.raises(ValueError, match=r"[12] of 4 samples have no group; leave them out"):
        make([1.0, 2.0, 3.0, 4.0], [2.0, 3.0, 4.0, 5.0], groups=groups)


def test_labels_of_any_kind_are_groups():
    scores = [1.0, 2.0, 3.0, 5.0], [2.0, 3.0, 4.0, 5.0]
    plain = make(*scores, groups=["a", "a", "b", "c"])
    for groups in (torch.tensor([0, 0, 1, 2]), [0, 0, 1, "x"], pd.Categorical(["a", "a", "b", "c"]), pd.Index(["a", "a", "b", "c"])):
        assert make(*scores, groups=groups) == plain


def test_scores_of_any_kind_are_numbers_or_refused():
    right, baseline = [True, True, False, True], [True, False, False, True]
    plain = make([1.0, 1.0, 0.0, 1.0], [1.0, 0.0, 0.0, 1.0], better="higher", indicative=True)
    for kind in (np.array, torch.tensor, pd.Series, lambda v: pd.Series(v, dtype=object), lambda v: pd.Series(v, dtype="boolean")):
        made = make(kind(right), kind(baseline), better="higher", indicative=True)
        assert (made.ours, made.baseline) == (0.75, 0.5) == (plain.ours, plain.baseline)
    for bad in (
        pd.Series([1.0, None, 2.0], dtype=object),
        np.ma.array([1.0, 2.0, 3.0], mask=[0, 1, 0]),
        np.array([1 + 1j, 2, 3]),
        pd.to_datetime(["2020", "2021", "2022"]),
        pd.Series([True, pd.NA, True], dtype="boolean"),
    ):
        with pytest.raises(ValueError, match=r"ours (holds 1 values that are not finite|must be an array of numbers)"):
            make(bad, [1.0, 2.0, 3.0])


def test_a_claim_that_is_only_shown_survives_a_baseline_near_zero(monkeypatch):
    kept = []
    monkeypatch.setattr(claims, "_show", kept.append)
    scores = dict(ours=[60.0, 50.0, 70.0, 50.0], baseline=[20.0, 0.0, 10.0, 0.0], better="higher", unit="%")
    shown = make(**scores, indicative=True)
    assert math.isnan(shown.gain) and math.isnan(shown.low) and math.isnan(shown.high)
    assert not shown.met and shown.verdict == "indicative" and shown.sentence == ""
    for text in ("none; better by 50%", "cannot be told from zero", "57.5%", "7.5%"):
        assert text in str(shown) and text in shown._repr_html_()
    stored = json.loads(json.dumps(kept[0][claims.CLAIM_TYPE], allow_nan=False))
    assert stored["gain"] is stored["low"] is stored["high"] is None
    assert Claim.from_stored(stored).row() == shown.row()
    require(shown)
    with pytest.raises(ValueError, match="cannot be told from zero"):
        make(**scores)


def test_tensors_and_lists_are_scores_too():
    scores = torch.tensor([4.0, 5.0, 6.0], requires_grad=True)
    assert make(scores * 0.5, [4.0, 5.0, 6.0]).gain == pytest.approx(0.5)
    assert make(scores.bfloat16() * 0.5, scores.half()) == make(scores * 0.5, scores)


def test_require_raises_for_unmet_claims_only(capsys):
    scores = np.array([1.0, 2.0, 3.0])
    good = make(scores * 0.5, scores, name="good")
    bad = make(scores * 2, scores, name="bad")
    later = make(scores * 2, scores, name="later", indicative=True)
    require(good, later)
    assert "1 of 2 claims judged and met, 1 shown" in capsys.readouterr().out
    assert later.verdict == "against"
    with pytest.raises(ClaimNotMet, match=r"1 of 3 claims not met. bad: gain -100.0%"):
        require(good, bad, later)


def test_the_table_says_it_all_and_survives_json(capsys):
    scores = np.array([8.0, 9.0, 10.0])
    c = make(scores / 2, scores, unit="%", margin=0.05)
    printed = capsys.readouterr().out
    for text in ("Ours is better", "4.5%", "9%", "+50.0%", "3 pairs", "met"):
        assert text in printed
        assert text in c._repr_html_()
    stored = json.loads(json.dumps(claims.asdict(c) | {"met": c.met, "verdict": c.verdict}))
    assert Claim.from_stored(stored) == c


def test_html_is_escaped():
    scores = np.array([1.0, 2.0])
    assert "<script>" not in claim("a <script> b", ours=scores / 2, baseline=scores, better="lower", name="x")._repr_html_()


def test_figures_that_speak_against_a_claim_say_so_in_words():
    rng = np.random.default_rng(3)
    baseline = rng.gamma(4, 2, 200)
    worse = make(baseline * 1.2 + rng.normal(0, 0.1, 200), baseline, indicative=True)
    assert worse.verdict == "against"
    assert "the baseline is better, by 20.0% to 20.3%" in worse.sentence
    assert worse.sentence in worse._repr_html_() and worse.sentence in str(worse)
    assert make(baseline * 0.9, baseline).sentence == ""
    require(worse)  # shown, not judged
    with pytest.raises(ClaimNotMet):
        require(make(baseline * 1.2, baseline))


def test_not_worse_than_a_margin_is_no_verdict_against():
    baseline = np.random.default_rng(3).gamma(4, 2, 200)
    worse = baseline * 1.02 + np.linspace(-0.01, 0.01, 200)
    assert make(worse, baseline).verdict == "against"
    assert make(worse, baseline, margin=-0.05).verdict == "met"
    assert make(worse, baseline, margin=-0.05, indicative=True).verdict == "indicative"
    assert make(worse, baseline, margin=-0.01).verdict == "against"


def test_scores_are_kept_with_the_claim(monkeypatch):
    kept = []
    monkeypatch.setattr(claims, "_show", kept.append)
    ours, baseline = np.random.default_rng(4).gamma(4, 2, (2, 3, 50))
    make(ours, baseline, groups=np.arange(50) // 2)
    scores = json.loads(json.dumps(kept[0][claims.CLAIM_TYPE]))["scores"]
    np.testing.assert_allclose(claims.unpacked(scores["ours"]), ours.reshape(3, 25, 2).mean(axis=2), rtol=1e-6)  # as compared
    np.testing.assert_allclose(claims.unpacked(scores["baseline"]), baseline.reshape(3, 25, 2).mean(axis=2), rtol=1e-6)
    assert len(json.dumps(scores)) < 3 * 25 * 2 * 6 + 200


# --- statistics of sets, absolute gains ---


def label_maps(seed=0, samples=30):
    """(true, ours, plain): ours is right in four pixels of five, the other in three of five."""
    rng = np.random.default_rng(seed)
    true = rng.integers(4, size=(samples, 6, 6))
    ours, plain = (np.where(rng.random(true.shape) < share, true, rng.integers(4, size=true.shape)) for share in (0.8, 0.6))
    return true, ours, plain


def miou(seeds=None, **options):
    true, *predicted = label_maps()
    parts = [metrics.confusions(labels, true, 4) for labels in predicted]
    if seeds:
        parts = [
            np.stack([part, *[metrics.confusions(label_maps(s)[1 + i], label_maps(s)[0], 4) for s in range(1, seeds)]])
            for i, part in enumerate(parts)
        ]
    return make(*parts, **{"better": "higher", "statistic": metrics.mean_iou, "name": "miou"} | options), parts


def test_a_claim_of_a_statistic_of_sets(capsys):
    made, (ours, baseline) = miou()
    assert (made.ours, made.baseline) == (pytest.approx(metrics.mean_iou(ours)), pytest.approx(metrics.mean_iou(baseline)))
    assert made.gain == pytest.approx(made.ours / made.baseline - 1)
    assert (made.low, made.high) == statistics.gain_interval(ours, baseline, better="higher", statistic=metrics.mean_iou)[1:]
    assert made.met and (made.seeds, made.samples, made.statistic) == (1, 30, "facelab.metrics.mean_iou")
    assert "30 samples, by mean_iou" in capsys.readouterr().out
    several, parts = miou(seeds=3)
    assert (several.seeds, several.samples) == (3, 30) and several.row()["measured on"] == "3 seeds x 30 samples, by mean_iou"
    assert several.ours == pytest.approx(np.mean([metrics.mean_iou(part) for part in parts[0]]))
    assert miou()[0] == made


def test_groups_of_a_statistic_of_sums_are_resampled_whole():
    true, *predicted = label_maps()
    parts = [metrics.confusions(labels, true, 4) for labels in predicted]
    once = make(*parts, better="higher", statistic=metrics.mean_iou)
    order = np.random.default_rng(1).permutation(90)
    often = make(
        *(np.repeat(p, 3, axis=0)[order] for p in parts), better="higher", statistic=metrics.mean_iou, groups=np.repeat(range(30), 3)[order]
    )
    np.testing.assert_allclose([often.low, often.gain, often.high], [once.low, once.gain, once.high])
    assert often.samples == 30
    values = np.arange(30.0)
    with pytest.raises(ValueError, match="spearman is no statistic of sums, so its samples cannot be grouped"):
        make(*[metrics.pairs(values, values)] * 2, better="higher", statistic=metrics.spearman, groups=np.repeat(range(15), 2))


def test_an_absolute_gain_is_in_the_unit_of_the_scores(capsys):
    ours, baseline = np.array([60.0, 50.0, 70.0, 50.0]), np.array([20.0, 0.0, 10.0, 0.0])
    made = make(ours, baseline, better="higher", unit="%", gain="absolute", margin=20)
    assert made.gain == 50 and made.met and made.absolute
    row = made.row()
    assert (row["gain"], row["must exceed"]) == ("+50 points", "20 points")  # "+50 %" would read as half as much again
    assert row["95 % interval"] == f"{made.low:+.3g} points to {made.high:+.3g} points"
    assert Claim.from_stored(json.loads(json.dumps(made.stored()))) == made
    against = make(baseline, ours, better="higher", unit="mm", gain="absolute", name="worse")
    assert against.verdict == "against" and "the baseline is better, by" in against.sentence and "mm" in against.sentence
    assert "of its own value" not in against.sentence
    with pytest.raises(ClaimNotMet, match=r"worse: gain -50 mm, interval -.* mm to -.* mm, must exceed 0 mm"):
        require(against)


def test_a_claim_stored_before_there_were_statistics_is_read():
    stored = make([1.0, 2.0, 3.0], [2.0, 3.0, 4.0]).stored()
    assert Claim.from_stored({key: value for key, value in stored.items() if key not in ("absolute", "statistic")}).absolute is False


def test_parts_are_kept_with_the_claim(monkeypatch):
    kept = []
    monkeypatch.setattr(claims, "_show", kept.append)
    _, (ours, _) = miou()
    stored = json.loads(json.dumps(kept[0][claims.CLAIM_TYPE]))
    assert (claims.unpacked(stored["scores"]["ours"]) == ours).all() and stored["statistic"] == "facelab.metrics.mean_iou"


@pytest.mark.parametrize(
    ("ours", "baseline", "options", "message"),
    [
        (np.ones(5), np.ones(5), {}, r"ours has shape \(5,\); a statistic needs \(samples, items, parts\) or .*confusions"),
        (np.ones((5, 4, 2)), np.ones((5, 3, 2)), {}, r"ours has shape \(5, 4, 2\) and baseline \(5, 3, 2\)"),
        (np.ones((1, 4, 2)), np.ones((1, 4, 2)), {}, "ours has a single sample"),
        (np.zeros((5, 4, 2)), np.ones((5, 4, 2)), {}, "mean_iou is NaN; every item may be absent"),
        (np.ones((5, 4, 2)), np.ones((5, 4, 2)), {"statistic": lambda sets: sets.sum((-3, -2, -1)) * math.inf}, "<lambda> is infinite"),
        (np.ones((5, 4, 2)), np.ones((5, 4, 2)), {"statistic": np.mean}, r"returns shape \(\) for sets .*reduce the last three axes"),
        (np.ones((5, 4, 2)), np.ones((5, 4, 2)), {"statistic": None}, "3 axes; give .* or a statistic of sets"),
        (np.ones((5, 4, 2)), np.ones((5, 4, 2)), {"gain": "both"}, "gain='both' is not known; use 'relative' or 'absolute'"),
    ],
)  # fmt: skip
def test_parts_that_make_no_claim_are_refused(ours, baseline, options, message):
    with pytest.raises(ValueError, match=message):
        make(ours, baseline, **{"better": "higher", "statistic": metrics.mean_iou} | options)


@pytest.mark.parametrize("kind", [lambda row: torch.tensor(row, requires_grad=True), lambda row: torch.tensor(row).bfloat16(), list])
def test_one_row_per_seed_may_be_a_list_of_any_arrays(kind):
    rows = np.random.default_rng(0).integers(1, 99, (2, 2, 20)).astype(np.float32)
    expected = make(*rows, better="higher")
    assert make([kind(row) for row in rows[0]], tuple(kind(row) for row in rows[1]), better="higher") == expected


def test_a_masked_score_in_a_list_is_a_missing_one():
    row = np.ma.masked_equal(np.arange(1.0, 9), 3)
    with pytest.raises(ValueError, match="ours holds 2 values that are not finite"):
        make([row, row], np.ones((2, 8)))


def test_a_statistic_without_a_name_goes_by_its_kind():
    sets = np.random.default_rng(0).random((5, 4, 2))
    assert make(sets, sets + 1, statistic=partial(np.mean, axis=(-3, -2, -1))).statistic == "functools.partial"

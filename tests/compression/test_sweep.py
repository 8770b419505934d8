"""The sweep: a row for each network, method and strength; what refuses is told and not lost."""

import numpy as np
import own_networks
import pandas as pd
import pytest

from facelab.compression import sweep, zoo
from facelab.compression.registry import METHODS
from facelab.importance.scores import accuracy, log_likelihood


def test_three_tables_that_fit_together(monkeypatch):
    whole = sweep.compress

    def choosy(name, job):
        if name == "fpgm":
            raise ValueError("Not this one.")
        return whole(name, job)

    monkeypatch.setattr(sweep, "compress", choosy)
    training, test = own_networks.loaders()
    base = sweep.Base(own_networks.mobile(), training, test, accuracy, log_likelihood, "share")
    table, layers, weights = sweep.sweep({"mobile": base}, ["l1", "fpgm"], steps=2, rounds=2)
    keys = [("original", 0.0), *(("L1", strength) for strength in METHODS["l1"].strengths)]
    assert list(table[table.score.notna()][["method", "strength"]].itertuples(index=False, name=None)) == keys
    refused = table[table.score.isna()]
    assert (refused.method == "FPGM").all() and (refused.note == "Not this one.").all() and len(refused) == 3
    assert set(layers.method) == {"L1"} and set(zip(weights.method, weights.strength, strict=True)) == set(keys)
    largest = base.model.get_submodule(table.largest[0]).weight.numel()
    sums = weights.groupby(["method", "strength"])["count"].sum()
    assert sums["original", 0.0] == largest
    assert sums["L1", 0.75] < sums["L1", 0.25] < largest
    assert table.bytes.dropna().is_monotonic_decreasing


def test_a_method_that_is_not_there_is_refused():
    training, test = own_networks.loaders()
    base = sweep.Base(own_networks.mobile(), training, test, accuracy, log_likelihood, "share")
    with pytest.raises(ValueError, match="no method"):
        sweep.sweep({"mobile": base}, ["magic"])


def test_a_network_of_the_bench_comes_with_its_data():
    base = sweep.of_zoo("digits", "depthwise", 2)
    assert sum(len(targets) for _, targets in base.test) == 900
    outputs = base.model(base.test[0][0])
    assert float(base.score(outputs, base.test[0][1]).mean()) > 0.8
    assert base.differentiable(outputs, base.test[0][1]).requires_grad and base.unit == "share"


def test_the_best_of_each_method_within_given_bytes():
    rows = [("a", "original", 100, 0.9), ("a", "L1", 40, 0.8), ("a", "L1", 20, 0.7), ("a", "RED", 60, 0.85)]
    rows += [("b", "original", 50, -5.0), ("b", "L1", 25, -7.0), ("b", "RED", 10, -6.0)]
    table = pd.DataFrame(rows, columns=["base", "method", "bytes", "score"])
    found = sweep.within_bytes(table, 0.4)
    assert list(found.index) == ["a", "b"] and list(found.columns) == ["original", "L1", "RED"]
    np.testing.assert_allclose(found, [[0.9, 0.8, np.nan], [-5.0, np.nan, -6.0]])
    np.testing.assert_allclose(sweep.within_bytes(table, 0.2)["L1"], [0.7, np.nan])


def test_what_is_stored_covers_the_bench_and_can_be_found_again():
    table, layers, weights = sweep.stored()
    assert list(table.base.unique()) == [f"{task}, {architecture}" for task in zoo.TASKS for architecture in zoo.ARCHITECTURES]
    for base, rows in table.groupby("base"):
        found = set(zip(rows.method, rows.strength, strict=True))
        assert found == {("original", 0.0), *((method.name, strength) for method in METHODS.values() for strength in method.strengths)}
        assert (rows.score.notna() | (rows.note != "")).all() and set(layers[layers.base == base].method) <= set(rows.method)
        own, measured = weights[weights.base == base], rows[rows.score.notna()]
        assert set(zip(own.method, own.strength, strict=True)) == set(zip(measured.method, measured.strength, strict=True))
    fresh = sweep.sweep({"digits, plain": sweep.of_zoo("digits", "plain")}, ["redpp"], rounds=2)[0]
    old = table[(table.base == "digits, plain") & table.method.isin(["original", "RED++"])]
    np.testing.assert_allclose(old.score, fresh.score, atol=0.01)  # data-free: only the last digits of another machine
    np.testing.assert_allclose(old[["bytes", "multiplies"]], fresh[["bytes", "multiplies"]], rtol=0.02)

"""The sweep: a row for each network, method and strength; what refuses is told and not lost."""

import own_networks
import pytest

from facelab.compression import sweep
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

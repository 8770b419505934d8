"""Measured sensitivity: equal to doing it one by one, whatever executor, split or interruption."""

import copy
import os
import signal
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from nets import Hourglass, Plain, Residual, Stubborn, batches, lively
from torch import nn

from facelab.blocks import seeded
from facelab.importance.scores import accuracy, evaluate, log_likelihood
from facelab.importance.sensitivity import ablate_channels, measure_layers, measuring
from facelab.importance.tables import SENSITIVITY_COLUMNS, read_table, save_table
from facelab.networks.folding import folded
from facelab.networks.perturbations import FAMILIES, generator_of
from facelab.networks.surgery import pruned

pytestmark = pytest.mark.slow

LOADER = batches(24)
ablate = partial(ablate_channels, loader=LOADER, score=log_likelihood, progress=False)
measure = partial(measure_layers, loader=LOADER, score=log_likelihood, draws=2, progress=False)


@pytest.fixture(scope="module")
def model():
    with seeded(3):
        return lively(Residual())


@pytest.fixture
def small_tasks(monkeypatch):
    """Many tasks also for the smallest nets: chunks of 8 samples, the least work a task may have."""
    monkeypatch.setattr(measuring, "MOST_SAMPLES", 8)
    monkeypatch.setattr(measuring, "TASK_MULTIPLIES", 0)
    monkeypatch.setattr(measuring, "FORWARDS", 8)


def plain_drop(model, change):
    changed = copy.deepcopy(model)
    with torch.no_grad():
        change(changed)
    return float(evaluate(model, LOADER, log_likelihood).double().mean() - evaluate(changed, LOADER, log_likelihood).double().mean())


def norm_of(layer):
    """Name of the batch norm behind a layer of `Residual`."""
    norms = {"stem": "norm", "skip.0": "skip.1", "conv1": "norm1", "conv2": "norm2"}
    head, tail = next((layer.removesuffix(tail), tail) for tail in norms if layer.endswith(tail))
    return head + norms[tail]


@pytest.mark.slow
def test_layers_one_by_one(model):
    table = measure(model)
    assert list(table.columns[: len(SENSITIVITY_COLUMNS)]) == list(SENSITIVITY_COLUMNS)
    assert len(table) == 11 * (2 * 4 * 2 + 4) + 7 * 4  # noise and bit swaps twice, bits once; pruning of tied layers together
    for row in table.itertuples():

        def change(changed, row=row):
            layers = [changed.get_submodule(name) for name in row.layer.split("+")]
            weights = [layer.weight for layer in layers]
            if row.family == "pruning":
                norms = sum(weight.flatten(1).square().sum(1) for weight in weights)
                gone = norms.argsort()[: round(row.level * len(norms))]
                for name, layer in zip(row.layer.split("+"), layers, strict=True):
                    norm = changed.get_submodule(norm_of(name)) if name != "head" else layer
                    for parameter in (layer.weight, norm.weight, norm.bias):
                        parameter[gone] = 0
            else:
                generator = generator_of(0, row.layer, row.family, row.level, row.draw)
                weights[0].copy_(FAMILIES[row.family](weights[0], row.level, generator))

        assert row.drop == pytest.approx(plain_drop(model, change), rel=1e-5, abs=1e-6)
        assert row.low <= row.drop <= row.high


def test_ablations_one_by_one(model):
    table = ablate(model)
    assert len(table) == 2 * 4 + 4 + 2 * 8 + 8 + 4
    tied = table[table.layer.str.contains(r"\+")]
    assert len(tied) == 4 + 8 and (tied["drop"] != 0).all()
    for row in table[table.layer != "head"].itertuples():

        def change(changed, row=row):
            for name in row.layer.split("+"):
                norm = changed.get_submodule(norm_of(name))
                norm.weight[row.channel] = norm.bias[row.channel] = 0

        assert row.drop == pytest.approx(plain_drop(model, change), rel=1e-5, abs=1e-6)


def test_pruning_measured_is_pruning_applied(model):
    flat = folded(model, LOADER[0][0])
    table = measure(flat, families=("pruning",), levels={"pruning": (0.5,)})
    before = evaluate(flat, LOADER, log_likelihood).double().mean()
    for row in table.itertuples():
        after = evaluate(pruned(flat, {row.layer: 0.5}), LOADER, log_likelihood).double().mean()
        assert row.drop == pytest.approx(float(before - after), rel=1e-5, abs=1e-6)


def test_a_network_that_faults_have_broken_has_the_lowest_score(model, caplog):
    def fragile(outputs, targets):
        scores = log_likelihood(outputs, targets)
        return scores.where(scores > -3, torch.nan)

    with caplog.at_level("WARNING"):
        table = measure(model, score=fragile, families=("noise",), levels={"noise": (0.1, 20)})
    assert "no finite number" in caplog.text
    assert np.isfinite(table[["after", "drop", "low", "high", "rank"]]).all(axis=None)


def test_level_zero_drops_exactly_nothing(model):
    table = measure(model, families=("noise", "pruning", "bit swaps"), levels=dict.fromkeys(("noise", "pruning", "bit swaps"), (0,)))
    assert (table[["drop", "low", "high"]] == 0).all(axis=None) and (table.before == table.after).all()


def test_what_nobody_hears_has_no_sensitivity():
    """A layer whose successor ignores it."""
    with seeded(0):
        model = lively(Plain())
    with torch.no_grad():
        model[4].weight.zero_()  # the second convolution is deaf to the first
    table = measure(model, families=("noise",))
    assert (table[table.layer == "0"]["drop"] == 0).all() and (table[table.layer == "10"]["drop"] != 0).all()
    ablated = ablate(model)
    assert (ablated[ablated.layer == "0"]["drop"] == 0).all()


@pytest.mark.slow
def test_model_is_given_back_as_it_was(model):
    before, mode = copy.deepcopy(model.state_dict()), model.training

    calls = []

    def broken(outputs, targets):
        calls.append(outputs)
        if len(calls) > 7:
            raise ArithmeticError("a score that breaks")
        return log_likelihood(outputs, targets)

    measure(model)
    with pytest.raises(ArithmeticError, match="breaks"):
        measure(model, score=broken)
    assert model.training == mode and all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_a_net_that_cannot_be_traced_gives_the_same(caplog):
    with seeded(0):
        stubborn = lively(Stubborn())
    with caplog.at_level("WARNING"):
        whole = ablate(stubborn)
    assert whole.attrs["evaluation"] == "whole" and "slower" in caplog.text
    traced = ablate(stubborn.net)
    assert traced.attrs["evaluation"] == "incremental"
    assert list(whole.layer.str.replace("net.", "")) == list(traced.layer) and (whole.channel == traced.channel).all()
    np.testing.assert_allclose(whole["drop"], traced["drop"], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(measure(stubborn, families=("noise",), seed=1)["drop"].abs().max() > 0, True)


def test_screen_finds_the_most_sensitive(model):
    every = ablate(model).sort_values("drop", ascending=False)
    screened = ablate(model, screened=5)
    assert len(screened) == 5 and (screened["drop"].diff().dropna() <= 0).all()
    merged = screened.merge(every, on=["layer", "channel"], suffixes=("", "_all"))
    np.testing.assert_allclose(merged["drop"], merged["drop_all"], rtol=1e-6)
    with pytest.raises(ValueError, match="no gradient"):
        ablate(model, score=accuracy, screened=5)


def test_intervals_and_ranks(model):
    table = ablate(model)
    assert table["rank"].min() == 1
    assert (table["drop"].rank(ascending=False) == table["rank"]).all()
    assert ((table.rank_low <= table["rank"]) & (table["rank"] <= table.rank_high)).mean() > 0.9
    assert (table.low <= table["drop"]).all() and (table["drop"] <= table.high).all()
    drops = evaluate(model, LOADER, log_likelihood)
    layers = measure(model, families=("noise",))
    assert layers.groupby("layer")["sensitivity"].nunique().eq(1).all()
    np.testing.assert_allclose(layers.groupby("layer")["drop"].mean(), layers.groupby("layer").sensitivity.first())
    assert sorted(layers.groupby("layer")["rank"].first()) == list(range(1, 12)) and len(drops) == 24


def test_interval_is_that_of_a_mean():
    """For many samples, close to mean +- 1.96 standard errors."""
    loader = batches(400, 6, 100)
    with seeded(0):
        model = nn.Sequential(nn.Flatten(), nn.Linear(36, 4))
    row = ablate(model, loader=loader).iloc[1]
    with torch.no_grad():
        outputs, targets = model(torch.cat([x for x, _ in loader])), torch.cat([y for _, y in loader])
        drops = log_likelihood(outputs, targets) - log_likelihood(outputs.index_fill(1, torch.tensor([1]), 0), targets)
    width = 2 * 1.96 * float(drops.std()) / 400**0.5
    assert row.high - row.low == pytest.approx(width, rel=0.1) and row.low < row["drop"] < row.high


def test_tables_go_to_parquet_and_back(model, tmp_path):
    table = ablate(model)
    save_table(table, tmp_path / "table.parquet")
    back = read_table(tmp_path / "table.parquet")
    pd.testing.assert_frame_equal(back, table)
    assert back.attrs["score"] == "log_likelihood" and back.attrs["samples"] == 24


@pytest.mark.slow
def test_chunks_and_tasks_do_not_matter(model, request):
    whole = measure(model, families=("noise",), draws=1)
    request.getfixturevalue("small_tasks")
    parts = measure(model, families=("noise",), draws=1)
    np.testing.assert_allclose(parts["drop"], whole["drop"], rtol=1e-5, atol=1e-6)


@pytest.mark.slow
def test_processes_give_the_same(small_tasks):
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as executor:
        for net in (Residual, Hourglass, Stubborn):
            with seeded(0):
                model = lively(net())
            for sweep in (ablate, partial(measure, families=("noise", "pruning"), draws=1)):
                pd.testing.assert_frame_equal(sweep(model, executor=executor), sweep(model))


@pytest.mark.slow
def test_a_dask_cluster_gives_the_same(model, small_tasks, tmp_path):
    from distributed import Client, LocalCluster

    with (
        LocalCluster(n_workers=2, threads_per_worker=2, processes=True, dashboard_address=None, local_directory=str(tmp_path)) as cluster,
        Client(cluster) as client,
    ):
        executor = client.get_executor()
        pd.testing.assert_frame_equal(ablate(model, executor=executor), ablate(model))
        noisy = partial(measure, families=("noise",), draws=1)
        pd.testing.assert_frame_equal(noisy(model, executor=executor), noisy(model))


@pytest.mark.slow
def test_a_class_from_a_file_that_workers_cannot_import(tmp_path):
    """Such as a user's own network."""
    import importlib.util

    file = tmp_path / "stranger.py"
    file.write_text("from torch import nn\nclass Own(nn.Sequential):\n    pass\n")
    spec = importlib.util.spec_from_file_location("stranger", file)
    module = importlib.util.module_from_spec(spec)
    sys.modules["stranger"] = module
    spec.loader.exec_module(module)
    try:
        payload = measuring._pickled(module.Own(nn.Linear(2, 2)), None, log_likelihood)
    finally:
        del sys.modules["stranger"]
    (tmp_path / "payload").write_bytes(payload)
    code = "import pickle, sys; print(type(pickle.load(open(sys.argv[1], 'rb'))[0][0]).__name__)"
    run = [sys.executable, "-c", code, str(tmp_path / "payload")]
    environment = os.environ | {"PYTHONPATH": str(Path.cwd())}
    assert subprocess.run(run, capture_output=True, text=True, check=True, cwd=tmp_path, env=environment).stdout.strip() == "Own"


# --- checkpoints ---

SCRIPT = """
import os, signal, sys, torch
sys.path[:0] = [{support!r}]
from nets import Residual, batches, lively
from facelab.blocks import seeded
from facelab.importance.sensitivity import measuring
from facelab.importance.scores import log_likelihood
measuring.MOST_SAMPLES, measuring.TASK_MULTIPLIES, measuring.FORWARDS = 8, 0, 8
with seeded(3):
    model = lively(Residual())
work, calls = measuring._work, 0
def counted(*arguments):
    global calls
    calls += 1
    if calls == {kill}:
        os.kill(os.getpid(), signal.SIGKILL)
    print("task", flush=True)
    return work(*arguments)
measuring._work = counted
table = measuring.ablate_channels(model, batches(24), log_likelihood, checkpoint={folder!r}, progress=False)
table.to_parquet({folder!r} + "/table.parquet")
"""


def run_script(folder, kill):
    script = SCRIPT.format(support=str(Path(__file__).parents[1] / "support"), folder=str(folder), kill=kill)
    return subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=os.environ | {"PYTHONPATH": str(Path.cwd())})


@pytest.mark.slow
def test_a_killed_sweep_goes_on(model, tmp_path):
    killed = run_script(tmp_path, kill=4)
    assert killed.returncode == -signal.SIGKILL and killed.stdout.count("task") == 3
    assert len(list(tmp_path.glob("task-*.npz"))) == 3
    resumed = run_script(tmp_path, kill=-1)
    assert resumed.returncode == 0, resumed.stderr
    fresh = run_script(tmp_path / "fresh", kill=-1)
    assert resumed.stdout.count("task") == fresh.stdout.count("task") - 3 > 3  # none done twice
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "table.parquet"), pd.read_parquet(tmp_path / "fresh" / "table.parquet"))


def test_a_finished_sweep_is_read_not_repeated(model, tmp_path, monkeypatch):
    table = ablate(model, checkpoint=tmp_path)

    def work(*arguments):
        raise AssertionError("a task is done again")

    monkeypatch.setattr(measuring, "_work", work)
    pd.testing.assert_frame_equal(ablate(model, checkpoint=tmp_path), table)


def test_a_checkpoint_of_another_run_is_refused(model, tmp_path):
    ablate(model, checkpoint=tmp_path)
    other = copy.deepcopy(model)
    with torch.no_grad():
        other.stem.weight[0, 0, 0, 0] += 1e-3
    for changed in (
        lambda: ablate(other, checkpoint=tmp_path),
        lambda: ablate(model, loader=batches(23), checkpoint=tmp_path),
        lambda: ablate(model, score=accuracy, checkpoint=tmp_path),
        lambda: measure(model, checkpoint=tmp_path),
    ):
        with pytest.raises(ValueError, match=r"is of another run .*choose another folder or delete it"):
            changed()


# --- refusals ---


def test_refusals(model):
    with pytest.raises(ValueError, match="no family 'heat'"):
        measure(model, families=("heat",))
    with pytest.raises(ValueError, match="gives no batch"):
        ablate(model, loader=[])
    with pytest.raises(ValueError, match="one number per sample"):
        ablate(model, score=lambda outputs, targets: outputs.mean())
    with pytest.raises(ValueError, match="The score of sample 0 is nan before any change"):
        ablate(model, score=lambda outputs, targets: outputs[:, 0] * float("nan"))

    class Shuffled:
        def __iter__(self):
            images = torch.rand(8, 1, 12, 12)
            return iter([(images, torch.zeros(8, dtype=torch.int64))])

    with pytest.raises(ValueError, match="shuffle=False"):
        ablate(model, loader=Shuffled())


def test_progress_bar(model, capsys):
    ablate(model, progress=True)
    assert "channels: 100%" in capsys.readouterr().out
    ablate(model)
    assert capsys.readouterr().out == ""

"""One loop: it learns, repeats itself, resumes bit for bit, and runs several trainings alike however many workers."""

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from dataclasses import dataclass, field

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.utils import prune

from facelab import checkpoints
from facelab.blocks import seeded
from facelab.training import History, Resumable, _batch_index, batches, fit, fit_all, predict


class Interrupted(Exception):
    pass


def stopping_after(calls, loss=None):
    """A loss as `loss`, `noisy_loss` if it is not given, that works so many times and then interrupts the training."""
    left = iter(range(calls))

    def stopping(model, batch, generator):
        if next(left, None) is None:
            raise Interrupted
        return (loss or noisy_loss)(model, batch, generator)

    return stopping


def line_data(samples=64):
    x = torch.rand(samples, 3, generator=torch.Generator().manual_seed(0))
    return x, x @ torch.tensor([[1.0], [-2.0], [0.5]]) + 0.3


def small_model(seed=0):
    with seeded(seed):
        return nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Dropout(0.1), nn.Linear(8, 1))


def noisy_loss(model, batch, generator):
    """Draws from the generator, and dropout from the global one: both must survive a resume."""
    x, y = batch
    noise = 0.01 * torch.randn(x.shape, generator=generator, device=x.device)
    return (model(x + noise) - y).square().mean()


def train(steps=40, **options):
    model = small_model()
    history = fit(model, noisy_loss, line_data(), steps=steps, batch_size=16, learning_rate=1e-2, progress=False, **options)
    return model, history


def assert_same_weights(a, b):
    for (name, first), second in zip(a.state_dict().items(), b.state_dict().values(), strict=True):
        assert torch.equal(first, second), name


def test_it_learns_and_records():
    model, history = train(200, evaluate=lambda model: {"bias": model[-1].bias.item()}, every=50, name="line")
    assert np.mean(history.loss[-10:]) < 0.2 * np.mean(history.loss[:5])
    assert not model.training
    frame = history.frame()
    assert list(frame.columns) == ["step", "loss", "learning_rate", "seconds", "bias"]
    assert len(frame) == len(history) == 200
    assert frame["bias"].notna().to_numpy().nonzero()[0].tolist() == [49, 99, 149, 199]
    assert (np.diff(frame["seconds"]) >= 0).all()


def test_schedule_warms_up_and_ends_at_zero():
    rates = train(200)[1].learning_rate
    assert max(rates) == pytest.approx(1e-2, rel=0.01) and int(np.argmax(rates)) == 9
    assert rates[0] == pytest.approx(1e-3) and rates[-1] < 1e-5


def test_same_seed_same_weights_other_seed_others_and_no_trace_in_the_global_generator():
    state = torch.get_rng_state()
    first, history = train(seed=1)
    torch.rand(7)
    second, again = train(seed=1)
    assert_same_weights(first, second)
    assert history.loss == again.loss
    assert not torch.equal(train(seed=2)[0][0].weight, first[0].weight)
    torch.set_rng_state(state)
    train()
    assert torch.equal(torch.get_rng_state(), state)


def test_batches_walk_through_permutations():
    rows = torch.cat([_batch_index(10, 4, step, seed=0) for step in range(5)])
    assert sorted(rows[:10].tolist()) == sorted(rows[10:].tolist()) == list(range(10))
    assert rows[:10].tolist() != rows[10:].tolist()
    assert len(_batch_index(3, 8, 2, seed=0)) == 8


def test_the_model_ends_with_the_average_of_its_last_weights():
    seen = []

    def watched(model, batch, generator):
        seen.append([parameter.detach().clone() for parameter in model.parameters()])  # before the step
        return noisy_loss(model, batch, generator)

    def fitted(average, loss=noisy_loss):
        model = small_model()
        fit(model, loss, line_data(), steps=20, batch_size=16, learning_rate=1e-2, average=average, progress=False)
        return model

    last, averaged = fitted(0.0, watched), fitted(0.25)
    after = seen[16:] + [list(last.parameters())]  # after the steps 16 to 20
    for mean, parameter in zip(averaged.parameters(), zip(*after, strict=True), strict=True):
        torch.testing.assert_close(mean, torch.stack(parameter).mean(dim=0))


def test_the_average_holds_for_the_statistics_of_batch_norm_too():
    def fitted(average):
        with seeded(0):
            model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 1))
        fit(model, noisy_loss, line_data(), steps=20, batch_size=16, learning_rate=0.05, average=average, progress=False)
        return model

    assert not torch.equal(fitted(0.0)[1].running_mean, fitted(0.5)[1].running_mean)
    assert torch.isfinite(fitted(0.5)(line_data()[0])).all()


def test_a_network_that_kept_something_of_an_earlier_call_is_averaged():
    class Keeping(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.last = nn.Linear(3, 8), nn.Linear(8, 1)

        def forward(self, x):
            self.kept = torch.relu(self.first(x))
            return self.last(self.kept)

    def fitted(before, pruned):
        with seeded(0):
            model = Keeping()
        if pruned:
            prune.l1_unstructured(model.first, "weight", 0.5)
        before(model)
        fit(model, noisy_loss, line_data(), steps=8, batch_size=16, average=0.5, progress=False)
        return model

    for pruned in (False, True):
        called = fitted(lambda model: model(line_data()[0]).sum().backward(), pruned)
        assert_same_weights(called, fitted(lambda model: None, pruned))


def test_a_long_gradient_is_clipped():
    """Adam does not see the length of one gradient, but it sees one that is a thousand times longer than the others."""

    def spiked(model, batch, generator):
        calls.append(1)
        return noisy_loss(model, batch, generator) * (1e6 if len(calls) == 10 else 1)

    def moved(clip):
        calls.clear()
        model = small_model()
        fit(model, spiked, line_data(), steps=30, batch_size=16, learning_rate=1e-2, clip=clip, progress=False)
        return (model(line_data()[0]) - line_data()[1]).square().mean().item()

    calls: list[int] = []
    unspiked = train(30)[0]
    fine = (unspiked(line_data()[0]) - line_data()[1]).square().mean().item()
    assert abs(moved(1.0) - fine) < 0.5 * abs(moved(float("inf")) - fine)  # unclipped, the steps after it are tiny


@pytest.mark.parametrize(
    ("options", "message"),
    [({"clip": 0.0}, "clip = 0.0"), ({"average": 1.5}, "average = 1.5"), ({"checkpoint_every": 0}, "checkpoint_every = 0")],
)
def test_options_out_of_range_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        train(2, **options)


def test_shaken_weights_are_another_training_that_ends_nearly_alike(monkeypatch):
    plain, again = train()[0], train()[0]
    monkeypatch.setenv("FACELAB_SHAKE", "1")
    shaken, repeated = train()[0], train()[0]
    assert_same_weights(plain, again)
    assert_same_weights(shaken, repeated)
    assert not torch.equal(plain[0].weight, shaken[0].weight)
    torch.testing.assert_close(plain[0].weight, shaken[0].weight, rtol=1e-3, atol=1e-3)


def test_dictionaries_are_batched_alike():
    x, y = line_data()
    model = small_model()

    def loss(model, batch, generator):
        return noisy_loss(model, (batch["x"], batch["y"]), generator)

    fit(model, loss, {"x": x, "y": y}, steps=40, batch_size=16, learning_rate=1e-2, progress=False)
    assert_same_weights(model, train()[0])


@dataclass(frozen=True)
class Pairs:
    x: torch.Tensor
    y: torch.Tensor | None = None


def test_groups_of_data_are_drawn_in_orders_of_their_own():
    data = {"labelled": Pairs(torch.arange(10), torch.arange(10) + 100), "unlabelled": [torch.arange(7), {"same": torch.arange(7)}]}
    drawn = [batch for _, batch, _ in batches(data, 14, {"labelled": 5, "unlabelled": 4}, progress=False)]
    assert all(torch.equal(batch["labelled"].x + 100, batch["labelled"].y) for batch in drawn)
    assert all(torch.equal(batch["unlabelled"][0], batch["unlabelled"][1]["same"]) for batch in drawn)
    labelled, unlabelled = (torch.cat(rows) for rows in zip(*((b["labelled"].x, b["unlabelled"][0]) for b in drawn), strict=True))
    for row, samples in ((labelled, 10), (unlabelled, 7)):
        epochs = row.view(-1, samples)
        assert all(sorted(epoch.tolist()) == list(range(samples)) for epoch in epochs)  # without replacement
        assert len({tuple(epoch.tolist()) for epoch in epochs}) > 1
    twice = [batch for _, batch, _ in batches({"a": {"x": torch.arange(9)}, "b": {"x": torch.arange(9)}}, 3, 9, progress=False)]
    assert any(batch["a"]["x"].tolist() != batch["b"]["x"].tolist() for batch in twice)


def test_data_without_groups_are_drawn_together_as_fit_draws_them():
    seen = []

    def loss(model, batch, generator):
        seen.append((batch[0], torch.rand(3, generator=generator), torch.rand(3)))
        return noisy_loss(model, batch, torch.Generator())

    x, y = line_data()
    fit(small_model(), loss, (x, y), steps=6, batch_size=16, seed=4, device="cpu", progress=False)
    for (step, batch, generator), expected in zip(batches((x, y), 6, 16, seed=4, progress=False), seen, strict=True):
        assert all(map(torch.equal, (batch[0], torch.rand(3, generator=generator), torch.rand(3)), expected)), step
    nested = list(batches({"truth": {"y": y}, "x": x, "unknown": None}, 6, 16, seed=4, progress=False))
    assert all(torch.equal(batch["x"], expected[0]) for (_, batch, _), expected in zip(nested, seen, strict=True))
    assert nested[0][1]["unknown"] is None and len(nested[0][1]["truth"]["y"]) == 16


def test_a_step_is_the_same_whatever_happened_before_it():
    def drawn(start, disturb):
        for step, batch, generator in batches(torch.arange(50), 12, 8, seed=1, start=start, progress=False):
            yield step, batch.tolist(), torch.rand(2, generator=generator).tolist(), torch.rand(2).tolist()
            torch.rand(disturb * step, generator=generator), torch.rand(disturb)

    state = torch.get_rng_state()
    whole = list(drawn(0, 0))
    assert list(drawn(5, 3)) == whole[5:] and list(drawn(12, 0)) == []
    assert len({str(step[2]) for step in whole}) == 12
    next(iter(batches(torch.arange(50), 12, progress=False)))  # a loop that is left early
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize(
    ("data", "batch_size", "error", "message"),
    [
        ({"a": {"x": torch.ones(3), "y": torch.ones(4)}, "b": {"x": torch.ones(9)}}, 2, ValueError, r"data\[a\] .*\[3, 4\]"),
        ({"a": torch.ones(3), "b": torch.ones(4)}, 2, ValueError, r"\[3, 4\]"),
        ({"a": torch.ones(3), "b": torch.tensor(1.0)}, 2, ValueError, "not empty"),
        ({"a": torch.ones(3), "b": torch.ones(4)}, {"a": 2}, ValueError, r"names \['a'\], the groups of data are \['a', 'b'\]"),
        (torch.ones(3), 0, ValueError, "batch_size = 0"),
        ({}, 2, ValueError, "not empty"),
        ({"x": torch.ones(3), "names": ("a", "b", "c")}, 2, TypeError, "not 'a'"),
        ({"x": torch.ones(3), "names": np.array(["a", "b", "c"])}, 2, TypeError, "array of <U1, which is no kind of number"),
    ],
)
def test_data_that_cannot_be_drawn_are_refused_at_once(data, batch_size, error, message):
    with pytest.raises(error, match=message):
        batches(data, 1, batch_size)


def test_batches_show_a_bar_unless_unwanted(capsys):
    list(batches(torch.arange(9), 3, name="by hand"))
    assert "by hand: 100%" in capsys.readouterr().out
    list(batches(torch.arange(9), 3, progress=False))
    assert capsys.readouterr() == ("", "")


def test_data_may_be_larger_than_the_memory_of_the_device(monkeypatch):
    """Only batches are moved there, whatever the device."""
    moved, to = [], torch.Tensor.to

    def watched(tensor, *arguments, **options):
        moved.append(len(tensor) if tensor.ndim else 0)
        return to(tensor, *arguments, **options)

    monkeypatch.setattr(torch.Tensor, "to", watched)
    train(3)
    assert max(moved) == 16 and moved.count(16) == 2 * 3


def test_an_optimiser_of_ones_own_follows_the_schedule_from_its_own_rates():
    def fitted(optimizer, **options):
        model = small_model()
        history = fit(model, noisy_loss, line_data(), steps=20, batch_size=16, optimizer=optimizer, progress=False, **options)
        return model, history

    same, history = fitted(lambda parameters: torch.optim.Adam(parameters, lr=1e-2))
    assert_same_weights(same, train(20)[0])
    assert history.learning_rate == train(20)[1].learning_rate

    def two_rates(parameters):
        first, *others = parameters
        return torch.optim.SGD([{"params": [first], "lr": 0.0}, {"params": others}], lr=0.05, momentum=0.9)

    model, history = fitted(two_rates)
    assert torch.equal(model[0].weight, small_model()[0].weight) and not torch.equal(model[3].weight, small_model()[3].weight)
    assert history.learning_rate == [0.0] * 20
    with pytest.raises(ValueError, match=r"learning_rate = 0.01 is for Adam"):
        fitted(torch.optim.SGD, learning_rate=0.01)


@pytest.mark.parametrize(
    "optimizer",
    [
        lambda parameters: torch.optim.SGD(parameters, lr=0.05, momentum=0.9),
        lambda parameters: torch.optim.SGD(parameters, lr=0.05),  # keeps nothing
        lambda parameters: torch.optim.NAdam([{"params": [parameter], "betas": (0.8, 0.9)} for parameter in parameters]),
        torch.optim.Adafactor,
        lambda parameters: torch.optim.Adam(parameters, lr=torch.tensor(0.01)),
    ],
)
def test_every_optimiser_is_resumed_bit_for_bit(tmp_path, optimizer):
    def job(loss=noisy_loss, **options):
        model = small_model()
        fit(model, loss, line_data(), steps=12, batch_size=16, optimizer=optimizer, progress=False, **options)
        return model

    with pytest.raises(Interrupted):
        job(stopping_after(7), checkpoint=tmp_path, checkpoint_every=5)
    assert_same_weights(job(checkpoint=tmp_path), job())
    with pytest.raises(ValueError, match=r"optimizer = \w{16} there"):
        fit(small_model(), noisy_loss, line_data(), steps=12, batch_size=16, checkpoint=tmp_path, progress=False)


def test_the_history_holds_the_parts_of_the_loss():
    def parts(model, batch, generator):
        error = noisy_loss(model, batch, generator)
        return {"error": error, "weights": 0.1 * model[0].weight.square().sum()}

    def fitted(loss):
        model = small_model()
        history = fit(model, loss, line_data(), steps=25, batch_size=16, learning_rate=1e-2, progress=False)
        return model, history

    def late(model, batch, generator):
        calls.append(1)
        return noisy_loss(model, batch, generator), {"twice": 2.0 * len(calls)} if len(calls) > 22 else {}

    (model, history), (again, summed) = fitted(parts), fitted(lambda *arguments: torch.stack(list(parts(*arguments).values())).sum())
    assert_same_weights(model, again)
    assert history.loss == summed.loss and summed.parts == {}
    np.testing.assert_allclose(np.add(history.parts["error"], history.parts["weights"]), history.loss, rtol=1e-5)
    assert list(history.frame().columns) == ["step", "loss", "learning_rate", "seconds", "loss.error", "loss.weights"]
    calls: list[int] = []
    model, history = fitted(late)
    assert_same_weights(model, train(25)[0])  # parts beside the loss are only watched
    assert np.isnan(history.parts["twice"][:22]).all() and history.parts["twice"][22:] == [46.0, 48.0, 50.0]
    with pytest.raises(TypeError, match="returned None; it must be a scalar"):
        fitted(lambda model, batch, generator: None)


class Taught(nn.Module):
    """A student and a frozen teacher, both with batch norm and dropout."""

    def __init__(self):
        super().__init__()
        self.student, self.teacher = (nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Dropout(0.5), nn.Linear(4, 1)) for _ in range(2))
        self.teacher.eval().requires_grad_(False)


def taught_loss(model, batch, generator):
    assert model.student.training and model.student[1].training
    return (model.student(batch[0]) - model.teacher(batch[0])).square().mean()


def follow(model, step):
    for teacher, student in zip(model.teacher.parameters(), model.student.parameters(), strict=True):
        teacher.lerp_(student, 0.1)


def test_a_frozen_part_in_evaluation_mode_stays_in_it():
    with seeded(0):
        model, other = Taught(), Taught()
    before = {name: value.clone() for name, value in model.teacher.state_dict().items()}
    for _ in range(2):  # also when the whole model comes in evaluation mode from an earlier call
        fit(model, taught_loss, line_data(), steps=5, batch_size=16, evaluate=lambda model: {}, every=2, progress=False)
        assert all(torch.equal(before[name], value) for name, value in model.teacher.state_dict().items())
    assert model.student[1].num_batches_tracked == 10
    other.teacher.train()  # its statistics are wanted
    fit(other, taught_loss, line_data(), steps=5, batch_size=16, progress=False)
    assert other.teacher[1].num_batches_tracked == 5


def test_what_is_done_after_each_step_is_resumed_too(tmp_path):
    def job(after_step=follow, **options):
        with seeded(0):
            model = Taught()
        fit(model, taught_loss, line_data(), steps=12, batch_size=16, after_step=after_step, progress=False, **options)
        return model

    def failing(model, step):
        made.append(step)
        assert not torch.is_grad_enabled()
        if step == 8:
            raise Interrupted
        follow(model, step)

    made = []
    with pytest.raises(Interrupted):
        job(failing, checkpoint=tmp_path, checkpoint_every=5)
    assert made == list(range(1, 9))
    assert_same_weights(job(checkpoint=tmp_path), job())
    assert not torch.equal(job().teacher[0].weight, job(None).teacher[0].weight)


def two_players(folder=None, stop=20, identity=None, rate=0.05, start=0, schedule=1.0):
    """Two networks that pull at each other; returns them with what was recorded."""
    with seeded(start):
        players = {"up": nn.Linear(3, 2), "down": nn.Sequential(nn.Linear(2, 4), nn.Dropout(0.2), nn.Linear(4, 1))}
    optimizers = {
        "up_adam": torch.optim.Adam(players["up"].parameters(), lr=rate),
        "down_sgd": torch.optim.SGD(players["down"].parameters(), lr=0.01, momentum=0.9),
    }
    data = line_data()[:1]
    state = Resumable(folder, players | optimizers, identity or {"data": data, "steps": 20})
    for step, (x,), _ in batches(data, 20, 16, start=state.step, progress=False):
        if step == stop:
            break
        for sign, (name, optimizer) in zip((1, -1), optimizers.items(), strict=True):
            optimizer.zero_grad()
            value = sign * players["down"](players["up"](x)).square().mean()
            value.backward()
            optimizer.step()
            state.record.setdefault(name, []).append(value.item())
        optimizers["down_sgd"].param_groups[0]["lr"] *= schedule
        if step % 5 == 4:
            state.save(step)
    return nn.ModuleDict(players), state


@pytest.mark.parametrize("stop", [3, 5, 13])
def test_a_loop_with_two_players_is_resumed_bit_for_bit(tmp_path, stop):
    whole, kept = two_players(schedule=0.9)
    two_players(tmp_path, stop, schedule=0.9)
    resumed, state = two_players(tmp_path, schedule=0.9)  # also the learning rate that the loop itself changed
    assert_same_weights(resumed, whole)
    assert state.record == kept.record and state.step == kept.step == 20
    again, state = two_players(tmp_path, schedule=0.9)  # finished: loaded, not repeated
    assert_same_weights(again, whole)
    (folder,) = tmp_path.iterdir()
    parts = ["down", "down_sgd", "up", "up_adam"]
    assert sorted(path.name for path in folder.iterdir()) == sorted(["run.json", *(f"{name}.safetensors" for name in parts)])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rate": 0.1}, r"up_adam = \w{16} there, \w{16} here"),
        ({"start": 1}, r"first up = \w{16} there, \w{16} here, first down = "),
        ({"identity": {"data": line_data()[1], "steps": 20}}, r"data = \w{16} there, \w{16} here"),
        ({"identity": {"data": line_data()[:1], "steps": 30}}, "steps = 20 there, 30 here"),
        ({"identity": {"data": line_data()[:1], "steps": 20, "more": "x"}}, "more = None there, x here"),
        ({"identity": {"data": line_data()[:1]}}, "steps = 20 there, None here"),
    ],
)
def test_a_loop_with_two_players_does_not_go_on_with_another_run(tmp_path, change, message):
    two_players(tmp_path, 6)
    with pytest.raises(ValueError, match=f"is of another run .{message}"):
        two_players(tmp_path, **change)


def test_bad_data_is_refused():
    x, y = line_data()
    with pytest.raises(ValueError, match=r"\[63, 64\]"):
        fit(small_model(), noisy_loss, (x, y[1:]), steps=1, progress=False)
    with pytest.raises(ValueError, match="not empty"):
        fit(small_model(), noisy_loss, (x[:0], y[:0]), steps=1, progress=False)


def test_a_loss_that_explodes_stops_the_run():
    with pytest.raises(FloatingPointError, match="learning rate"):
        fit(small_model(), lambda model, batch, generator: model(batch[0]).mean() * torch.nan, line_data(), steps=5, progress=False)


def test_progress_is_shown_unless_unwanted(capsys):
    x, y = line_data()
    fit(small_model(), noisy_loss, (x, y), steps=3, name="a line")
    assert "a line" in capsys.readouterr().out
    train(3)
    captured = capsys.readouterr()
    assert captured.out == captured.err == ""


@pytest.mark.parametrize(("at", "average"), [(3, 0.0), (10, 0.0), (25, 0.0), (25, 0.5), (35, 0.25)])
def test_resume_after_an_interruption_is_bit_identical(tmp_path, at, average):
    uninterrupted, history = train(checkpoint_every=10, average=average)

    with pytest.raises(Interrupted):
        fit(
            small_model(),
            stopping_after(at),
            line_data(),
            steps=40,
            batch_size=16,
            learning_rate=1e-2,
            average=average,
            checkpoint=tmp_path,
            checkpoint_every=10,
            progress=False,
        )
    resumed, again = train(checkpoint=tmp_path, checkpoint_every=10, average=average)
    assert_same_weights(resumed, uninterrupted)
    assert again.loss == history.loss and again.learning_rate == history.learning_rate
    assert (np.diff(again.seconds) >= 0).all()


def test_resume_is_bit_identical_for_convolutions(tmp_path):
    """Their layout in memory is not that of the file."""

    def squared(model, batch, generator):
        return model(batch[0]).square().mean()

    def job(folder, loss=squared):
        with seeded(0):
            model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Conv2d(4, 5, 3), nn.Flatten(), nn.LazyLinear(1))
            model(images[:1])
        fit(model, loss, (images,), steps=12, batch_size=4, checkpoint=folder, checkpoint_every=5, progress=False)
        return model

    images = torch.rand(16, 1, 9, 9, generator=torch.Generator().manual_seed(0))
    whole = job(tmp_path / "whole")
    for stop in (5, 10):
        folder = tmp_path / f"stop{stop}"
        with pytest.raises(Interrupted):
            job(folder, stopping_after(stop + 1, squared))
        assert_same_weights(job(folder), whole)


def test_resume_restores_the_layout_of_every_moment_also_behind_a_parameter_without_gradient(tmp_path):
    """Such a parameter has no moments, so moments are numbered with a gap; the loss must find the right ones behind it."""

    class Spare(nn.Module):
        def __init__(self):
            super().__init__()
            self.spare, self.first, self.second = (nn.Conv2d(channels, 4, 3) for channels in (1, 1, 4))

        def forward(self, x):
            return self.second(self.first(x))

    def layouts(model, folder, steps=2):
        optimizer = torch.optim.Adam(model.to(memory_format=torch.channels_last).parameters())
        for _ in range(steps):
            model(images).square().mean().backward()
            optimizer.step()
            optimizer.zero_grad()
        checkpoints.write(folder, steps, {"weights": model, "optimizer": optimizer}, {}, {})
        fresh = torch.optim.Adam(model.parameters())
        checkpoints.restore(folder / f"step-{steps:06d}", {"weights": model, "optimizer": fresh})
        return [
            {key: (value.stride(), value) for key, value in moments.items()}
            for moments in (o.state[parameter] for o in (optimizer, fresh) for parameter in model.second.parameters())
        ]

    images = torch.rand(4, 1, 9, 9, generator=torch.Generator().manual_seed(0))
    with seeded(0):
        weight, bias, weight_again, bias_again = layouts(Spare(), tmp_path)
    for before, after in ((weight, weight_again), (bias, bias_again)):
        assert set(before) == set(after) == {"step", "exp_avg", "exp_avg_sq"}
        for key in before:
            assert before[key][0] == after[key][0] and torch.equal(before[key][1], after[key][1]), key


def test_checkpoint_is_safetensors_and_json_and_only_the_newest_is_kept(tmp_path):
    train(checkpoint=tmp_path, checkpoint_every=10)
    (folder,) = tmp_path.iterdir()
    assert folder.name == "step-000040"
    assert sorted(path.name for path in folder.iterdir()) == ["optimizer.safetensors", "run.json", "weights.safetensors"]
    assert json.loads((folder / "run.json").read_text())["run"]["steps"] == 40


def test_a_finished_run_is_loaded_not_repeated(tmp_path):
    finished, history = train(checkpoint=tmp_path)
    loaded, calls = small_model(), []

    def counted(model, batch, generator):
        calls.append(1)
        return noisy_loss(model, batch, generator)

    again = fit(
        loaded,
        counted,
        line_data(),
        steps=40,
        batch_size=16,
        learning_rate=1e-2,
        checkpoint=tmp_path,
        progress=False,
    )
    assert_same_weights(loaded, finished)
    assert again == history
    assert len(calls) == 1  # to see that the loss is the same


def test_checkpoint_of_another_run_is_refused(tmp_path):
    train(checkpoint=tmp_path)
    with pytest.raises(ValueError, match="steps = 40 there, 50 here"):
        train(50, checkpoint=tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("loss", r"loss of the first batch = [\d.]+ there, [\d.]+ here"),
        ("closure", r"loss of the first batch = [\d.]+ there, [\d.]+ here"),
        ("data", r"data = \w{16} there, \w{16} here"),
        ("targets", r"data = \w{16} there, \w{16} here"),
        ("weights", r"first weights = \w{16} there, \w{16} here"),
        ("layers", r"first weights = \w{16} there, \w{16} here"),
        ("shaken", r"first weights = \w{16} there, \w{16} here"),
    ],
)
@pytest.mark.parametrize("made", [10, 20])
def test_another_loss_other_data_or_other_first_weights_are_another_run(tmp_path, monkeypatch, change, message, made):
    """Of the same sizes and the same seed; whether the run was interrupted or had ended."""

    def scaled(by):
        return lambda model, batch, generator: by * noisy_loss(model, batch, generator)

    def start(loss, data, model):
        options = dict(steps=20, batch_size=16, checkpoint=tmp_path, checkpoint_every=10, progress=False)
        fit(model, loss, data, **options)

    try:
        start(stopping_after(made), line_data(), small_model())
    except Interrupted:
        assert made == 10
    x, y = line_data()
    model = small_model(seed=change == "weights")
    if change == "layers":
        model[2].p = 0.2
    if change == "shaken":
        monkeypatch.setenv("FACELAB_SHAKE", "1")
    losses = {"loss": lambda model, batch, generator: (model(batch[0]) - batch[1]).abs().mean(), "closure": scaled(2.0)}
    data = {"data": (x.roll(1, 0), y), "targets": (x, y + 1e-3)}
    with pytest.raises(ValueError, match=rf"is of another run \({message}\); choose another folder or delete it"):
        start(losses.get(change, scaled(1.0)), data.get(change, (x, y)), model)
    if change != "shaken":
        start(scaled(1.0), (x, y), small_model())  # another function of the same values is the same loss


class Tied(nn.Module):
    """A decoder with the weight of its encoder, and a buffer that is part of another."""

    def __init__(self):
        super().__init__()
        self.encoder, self.decoder, self.last = nn.Linear(3, 3), nn.Linear(3, 3), nn.Linear(3, 1)
        self.decoder.weight = self.encoder.weight
        self.register_buffer("scale", torch.ones(4))
        self.register_buffer("part", self.scale[:2])

    def forward(self, x):
        return self.last(self.decoder(torch.relu(self.encoder(x))))


@pytest.mark.parametrize("average", [0.0, 0.75])
def test_tied_weights_are_kept_and_resumed_bit_for_bit(tmp_path, average):
    def job(loss=noisy_loss, **options):
        with seeded(0):
            model = Tied()
        fit(model, loss, line_data(), steps=12, batch_size=16, average=average, progress=False, **options)
        return model

    with pytest.raises(Interrupted):
        job(stopping_after(7), checkpoint=tmp_path, checkpoint_every=5)
    resumed = job(checkpoint=tmp_path, checkpoint_every=5)
    assert_same_weights(resumed, job())
    assert resumed.decoder.weight is resumed.encoder.weight


@pytest.mark.parametrize(("convolution", "axes"), [(nn.Conv1d, 1), (nn.Conv2d, 2), (nn.Conv3d, 3)])
def test_convolutions_of_every_dimension_are_trained_and_resumed(tmp_path, convolution, axes):
    def job(steps, folder):
        with seeded(0):
            model = nn.Sequential(convolution(1, 4, 3), nn.ReLU(), convolution(4, 2, 3), nn.Flatten(), nn.Linear(2, 1))
        fit(model, noisy_loss, data, steps=8, batch_size=4, device="cpu", checkpoint=folder, checkpoint_every=steps, progress=False)
        return model

    generator = torch.Generator().manual_seed(0)
    data = torch.rand(12, 1, *[5] * axes, generator=generator), torch.rand(12, 1, generator=generator)
    model = job(4, tmp_path)
    assert model[2].weight.is_contiguous(memory_format=torch.channels_last) if axes == 2 else model[2].weight.is_contiguous()
    assert_same_weights(job(4, tmp_path), model)


def test_half_written_checkpoints_are_ignored(tmp_path):
    unfinished = tmp_path / ".unfinished-abc"
    unfinished.mkdir()
    (unfinished / "run.json").write_text("{")
    assert_same_weights(train(checkpoint=tmp_path)[0], train()[0])
    assert not unfinished.exists()


KILLED = textwrap.dedent(
    """
    import sys, time
    sys.path.insert(0, sys.argv[2])
    from tests.test_training import line_data, noisy_loss, small_model
    from facelab.training import fit

    def slow(model, batch, generator):
        time.sleep(0.004)
        return noisy_loss(model, batch, generator)

    options = {"steps": 400, "batch_size": 16, "learning_rate": 1e-2, "checkpoint_every": 1, "progress": False}
    fit(small_model(), slow, line_data(), checkpoint=sys.argv[1], **options)
    """
)


@pytest.mark.slow
def test_resume_after_kill_nine(tmp_path, request):
    """Killed at any moment, also while it writes: it writes at every step."""
    folder, script = tmp_path / "run", tmp_path / "killed.py"
    script.write_text(KILLED)
    process = subprocess.Popen([sys.executable, script, folder, request.config.rootpath])
    deadline = time.monotonic() + 300
    while not (folder.exists() and any(int(path.name[5:]) >= 20 for path in folder.glob("step-*"))):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    made = max(int(path.name[5:]) for path in folder.glob("step-*"))
    assert 20 <= made < 400
    resumed, history = train(400, checkpoint=folder, checkpoint_every=100)
    whole, reference = train(400)
    assert_same_weights(resumed, whole)
    assert history.loss == reference.loss


def test_two_devices_learn_the_same_as_one():
    """Two processes on the CPU, each with half of every batch; gradients are averaged."""

    def loss(model, batch, generator):
        return (model(batch[0]) - batch[1]).square().mean()

    def run(devices):
        with seeded(0):
            model = nn.Linear(3, 1)
        history = fit(model, loss, line_data(), steps=20, batch_size=16, device="cpu", devices=devices, progress=False)
        return model, history

    one, two = run(1)[0], run(2)[0]
    torch.testing.assert_close(one.weight, two.weight, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(one.bias, two.bias, atol=1e-5, rtol=1e-4)


@pytest.mark.slow
def test_fit_all_gives_the_same_whatever_the_workers():
    scale = 0.5  # a closure, as in a notebook cell

    def job(seed):
        def loss(model, batch, generator):
            return scale * noisy_loss(model, batch, generator)

        def run():
            model = small_model()
            history = fit(model, loss, line_data(), steps=30, batch_size=16, seed=seed, progress=True)
            return model, history, torch.rand(1)

        return run

    jobs = {f"seed {seed}": job(seed) for seed in (2, 0, 1)}
    here, there = fit_all(jobs, workers=1, progress=False), fit_all(jobs, workers=2, progress=False)
    assert list(here) == list(there) == list(jobs)
    for name in jobs:
        assert_same_weights(here[name][0], there[name][0])
        assert here[name][1].loss == there[name][1].loss
        assert torch.equal(here[name][2], there[name][2])
    assert not torch.equal(here["seed 0"][0][0].weight, here["seed 1"][0][0].weight)


def test_fit_all_shows_one_bar_and_hides_those_of_the_jobs(capsys):
    fit_all(
        {"a": lambda: train(2, name="inner"), "b": lambda: fit(small_model(), noisy_loss, line_data(), steps=2, name="inner")}, workers=1
    )
    out = capsys.readouterr().out
    assert "2/2" in out and "inner" not in out


@pytest.mark.slow
def test_a_failing_job_says_why():
    def bad():
        raise Interrupted("this one")

    with pytest.raises(Exception, match="this one"):
        fit_all({"a": bad, "b": bad}, workers=2, progress=False)


NOTEBOOK = [
    "import torch\nfrom torch import nn\nfrom facelab.training import fit, fit_all\nfrom facelab.blocks import seeded\nslope = 3.0",
    "class Line(nn.Module):\n"
    "    def __init__(self):\n        super().__init__()\n        self.layer = nn.Linear(1, 1)\n"
    "    def forward(self, x):\n        return self.layer(x)\n"
    "def loss(model, batch, generator):\n    return (model(batch[0]) - slope * batch[0]).square().mean()\n"
    "data = (torch.linspace(-1, 1, 32)[:, None],)",
    "def job(seed):\n"
    "    def run():\n        with seeded(seed):\n            model = Line()\n"
    "        history = fit(model, loss, data, steps=20, seed=seed)\n        return model, history\n"
    "    return run\n"
    "jobs = {seed: job(seed) for seed in range(3)}\n"
    "there = fit_all(jobs, workers=2)",
    "here = fit_all(jobs, workers=1)\n"
    "assert all(isinstance(there[seed][0], Line) for seed in jobs)\n"
    "assert all(torch.equal(here[seed][0].layer.weight, there[seed][0].layer.weight) for seed in jobs)\n"
    "assert [here[seed][1].loss for seed in jobs] == [there[seed][1].loss for seed in jobs]\n"
    "print('identical')",
]


@pytest.mark.slow
def test_fit_all_carries_what_notebook_cells_define():
    import nbclient
    import nbformat

    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in NOTEBOOK])
    nbclient.NotebookClient(notebook, timeout=600).execute()
    assert "identical" in "".join(output.get("text", "") for output in notebook.cells[-1].outputs)
    streams = {output.get("name") for cell in notebook.cells for output in cell.outputs}
    assert "stderr" not in streams, [output for cell in notebook.cells for output in cell.outputs]


def test_predict_in_batches_without_gradients():
    model = small_model().train()
    x, _ = line_data()
    whole = predict(model, x.numpy(), batch_size=1000)
    assert model.training and not whole.requires_grad
    torch.testing.assert_close(predict(model, x, batch_size=7), whole)
    torch.testing.assert_close(predict(model, x, read=lambda output: output * 2), 2 * whole)


def test_an_empty_history_has_an_empty_table():
    assert len(History()) == 0 and History().frame().empty


@dataclass
class Counted:
    x: np.ndarray
    count: int = field(init=False)

    def __post_init__(self):
        self.count = len(self.x)


@pytest.mark.parametrize("x", [np.arange(9.0)[::-1], np.arange(9, dtype=">f4"), np.arange(18.0)[::2]])
def test_arrays_that_torch_cannot_read_and_fields_that_a_class_computes(x):
    _, batch, _ = next(iter(batches(Counted(x), 1, 4, progress=False)))
    index = _batch_index(9, 4, 0, 0)
    assert batch.x.tolist() == x[index.numpy()].tolist() and batch.count == 4


def test_a_loss_of_one_number_is_a_scalar_and_of_several_is_refused():
    def shaped(shape):
        return lambda model, batch, generator: noisy_loss(model, batch, generator).expand(shape)

    def fitted(loss):
        return fit(small_model(), loss, line_data(), steps=3, batch_size=16, progress=False)

    assert fitted(shaped((1, 1))).loss == fitted(noisy_loss).loss
    part = fitted(lambda *arguments: (noisy_loss(*arguments), {"part": torch.ones(1)}))
    assert part.parts == {"part": [1.0] * 3}
    for wrong in (shaped((2,)), lambda *arguments: (noisy_loss(*arguments), {"part": torch.ones(3)})):
        with pytest.raises(TypeError, match=r"The loss returned .*it must be a scalar"):
            fitted(wrong)


def test_an_evaluated_loss_does_not_hide_that_of_the_batches():
    frame = train(4, evaluate=lambda model: {"loss": 7.0})[1].frame()
    assert frame["evaluated.loss"].tolist()[-1] == 7.0 and frame["loss"].notna().all()


def test_numbers_of_numpy_are_kept_like_others(tmp_path):
    state = Resumable(tmp_path / "loop", {"model": small_model()}, {"seed": np.int64(1)})
    state.record["losses"] = [np.float32(0.5), torch.tensor(2.0)]
    state.save(0)
    assert Resumable(tmp_path / "loop", {"model": small_model()}, {"seed": 1}).record == {"losses": [0.5, 2.0]}


def test_what_else_is_in_the_folder_of_a_checkpoint_stays(tmp_path):
    (tmp_path / "step-by-step").mkdir()
    (tmp_path / "step-000001").mkdir()  # somebody's own: no checkpoint is without its run.json
    train(4, checkpoint=tmp_path, checkpoint_every=2)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-000001", "step-000004", "step-by-step"]


def test_a_checkpoint_that_cannot_be_kept_is_refused_before_the_first_step(tmp_path, monkeypatch):
    def counted(*arguments):
        calls.append(1)
        return noisy_loss(*arguments)

    def start(folder):
        fit(small_model(), counted, line_data(), steps=4, batch_size=16, checkpoint=folder, progress=False)

    calls: list = []
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="file"):
        start(tmp_path / "file")
    monkeypatch.setattr(os, "access", lambda *arguments: False)
    with pytest.raises(PermissionError, match=r"Nothing can be written into the folder .*locked"):
        start(tmp_path / "locked")
    assert not calls


def test_predict_leaves_every_part_in_its_mode():
    model = small_model().train()
    model[0].eval()
    predict(model, line_data()[0].numpy()[::-1])
    assert [module.training for module in model] == [False] + [True] * (len(model) - 1) and model.training

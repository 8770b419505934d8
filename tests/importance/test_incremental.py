"""The incremental evaluation gives what evaluating the whole network gives."""

import copy

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from nets import NETS, Plain, Residual, Stubborn, batches, lively
from torch import nn

from facelab.blocks import seeded
from facelab.importance.sensitivity.incremental import Incremental, NotTraceable
from facelab.importance.sensitivity.plain import Plain as Whole
from facelab.networks.ties import groups

pytestmark = pytest.mark.slow

INPUTS = torch.cat([inputs for inputs, _ in batches()])


def zeroed(model, unit, inputs):
    """The outputs without a unit, straightforwardly: its members' channels are filled with zeros."""
    model = copy.deepcopy(model)

    def hook(positions, axis):
        return lambda module, arguments, output: output.index_fill(axis, torch.tensor(positions), 0)

    for name, positions in unit.members.items():
        module = model.get_submodule(name)
        module.register_forward_hook(hook(positions, -1 if isinstance(module, nn.Linear) else 1))
    with torch.no_grad():
        return model(inputs)


def filled(rows, before):
    after = before.clone()
    for index, outputs in rows:
        after[index] = outputs
    return after


def assert_same_ablations(model, inputs, network):
    with torch.no_grad():
        before = network.keep(inputs)
        torch.testing.assert_close(before, model(inputs), rtol=1e-5, atol=1e-6)
        for unit in network.units:
            after = filled(network.without(unit), before)
            torch.testing.assert_close(after, zeroed(model, unit, inputs), rtol=1e-5, atol=2e-6, msg=lambda m, u=unit: f"{u}: {m}")


@pytest.mark.parametrize("name", NETS)
def test_ablations_equal_the_whole_network(name):
    with seeded(0):
        model = lively(NETS[name]())
    assert_same_ablations(model, INPUTS, Incremental(model, INPUTS[:3]))


@pytest.mark.parametrize("name", NETS)
def test_other_weights_equal_the_whole_network(name):
    with seeded(0):
        model = lively(NETS[name]())
    network, generator = Incremental(model, INPUTS[:3]), torch.Generator().manual_seed(0)
    with torch.no_grad():
        before = network.keep(INPUTS)
        for layer in network.layers:
            weight = model.get_submodule(layer.name).weight
            other = weight + 0.3 * weight.std() * torch.randn(weight.shape, generator=generator)
            changed = copy.deepcopy(model)
            changed.get_submodule(layer.name).weight.copy_(other)
            torch.testing.assert_close(filled(network.reweighted({layer.name: other}), before), changed(INPUTS), rtol=1e-5, atol=2e-6)
        torch.testing.assert_close(network.keep(INPUTS), before, rtol=0, atol=0)  # weights are back


@given(st.lists(st.sampled_from([2, 3, 5]), min_size=1, max_size=3), st.integers(1, 2), st.sampled_from([5, 8]), st.integers(0, 10**6))
@settings(max_examples=15)
def test_ablations_of_random_residual_nets(widths, blocks, size, seed):
    with seeded(seed):
        model = lively(Residual(widths, blocks), seed)
    inputs = torch.cat([inputs for inputs, _ in batches(4, size, seed=seed)])
    assert_same_ablations(model, inputs, Incremental(model, inputs[:2]))


@pytest.mark.parametrize("name", ["Plain", "Residual", "Preactivated"])
def test_ties_are_those_of_the_dependency_graph(name):
    model = lively(NETS[name]())
    ours = {unit.name for unit in Incremental(model, INPUTS[:2]).units}
    assert ours == set(groups(model, INPUTS[:2]))
    by_gradient = {(unit.name, unit.channel): unit.members for unit in Whole(model, INPUTS[:2]).units}
    assert by_gradient == {(unit.name, unit.channel): unit.members for unit in Incremental(model, INPUTS[:2]).units}


def test_a_factor_does_not_untie_the_summands():
    network = Incremental(lively(NETS["Squeezing"]()), INPUTS[:2])
    assert {unit.name for unit in network.units} == {"stem+conv+last", "down", "up", "head"}


def test_a_sum_is_zero_without_its_channel():
    model = lively(Residual((4,), 2))
    network = Incremental(model, INPUTS[:2])
    unit = next(unit for unit in network.units if len(unit.layers) > 1)
    assert unit.layers == ("stem", "blocks.0.conv2", "blocks.1.conv2")
    changed = copy.deepcopy(model)
    with torch.no_grad():  # really removed: no weight, no shift
        for norm in ("norm", "blocks.0.norm2", "blocks.1.norm2"):
            for parameter in changed.get_submodule(norm).parameters():
                parameter[unit.channel] = 0
        sums = []
        for block in changed.blocks:
            block.register_forward_hook(lambda module, inputs, output: sums.append(output[:, unit.channel]))
        expected = changed(INPUTS)
        assert len(sums) == 2 and all(not values.any() for values in sums)
        before = network.keep(INPUTS)
        after = filled(network.without(unit), before)
    torch.testing.assert_close(after, expected, rtol=1e-5, atol=2e-6)
    assert (after - before).abs().max() > 1e-3


def test_samples_in_which_a_channel_is_silent_are_left_out():
    model = nn.Sequential(nn.Linear(2, 2, bias=False), nn.ReLU(), nn.Linear(2, 1))
    with torch.no_grad():
        model[0].weight.copy_(torch.eye(2))
    network, inputs = Incremental(model, torch.ones(2, 2)), torch.tensor([[1.0, -1], [-1, 1], [2, 2]])
    with torch.no_grad():
        network.keep(inputs)
        assert [network.changed_samples(unit).tolist() for unit in network.units[:2]] == [[0, 2], [1, 2]]


def test_model_is_not_touched():
    model = Plain().train()
    before = copy.deepcopy(model.state_dict())
    network = Incremental(model, INPUTS[:2])
    with torch.no_grad():
        network.keep(INPUTS)
        list(network.without(network.units[0]))
    assert model.training and model[2].inplace and all(parameter.requires_grad for parameter in model.parameters())
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


def test_weights_come_back_after_an_exception():
    network = Incremental(lively(Residual()), INPUTS[:2])
    kept = network.modules["stem"].weight
    with torch.no_grad():
        network.keep(INPUTS)
        with pytest.raises(RuntimeError):
            list(network.reweighted({"stem": torch.zeros(4, 7, 3, 3)}))
    assert network.modules["stem"].weight is kept


@pytest.mark.parametrize(
    ("model", "reason"),
    [(Stubborn(), "cannot trace"), (nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2, track_running_stats=False)), "see each other")],
)
def test_what_cannot_be_evaluated_node_by_node_is_refused(model, reason):
    with pytest.raises(NotTraceable, match=reason):
        Incremental(model.eval(), INPUTS[:2])


def test_screen_is_the_first_order_of_a_small_cut():
    """Against finite differences: channels made a little smaller by their layers' weights."""
    with seeded(0):
        model = Residual().double().eval()
    inputs, targets = INPUTS.double(), torch.cat([targets for _, targets in batches()])

    def score(outputs, targets):
        return -nn.functional.cross_entropy(outputs, targets, reduction="none")

    network = Incremental(model, inputs[:2])
    expected = network.first_order(inputs, targets, score)
    with torch.no_grad():
        for i in (0, 2, 5, len(network.units) - 1):
            unit, changed = network.units[i], copy.deepcopy(model)
            for name in unit.layers:
                module = changed.get_submodule(name)
                for parameter in module.parameters():
                    parameter[list(unit.members[name])] *= 1 - 1e-6
            difference = score(model(inputs), targets).sum() - score(changed(inputs), targets).sum()
            torch.testing.assert_close(expected[:, i].sum(), difference / 1e-6, rtol=1e-3, atol=1e-6)


# --- what a fast evaluation must not get wrong silently ---


class Video(nn.Module):
    """Frames folded into the batch."""

    def __init__(self):
        super().__init__()
        self.conv, self.head = nn.Conv2d(1, 4, 3), nn.Linear(4, 3)

    def forward(self, x):
        frames = F.relu(self.conv(x.flatten(0, 1))).mean((2, 3))
        return self.head(frames.reshape(x.shape[0], -1, 4).mean(1))


def test_frames_in_the_batch_are_left_to_the_plain_way():
    with pytest.raises(NotTraceable, match="first axis"):
        Incremental(Video(), torch.randn(4, 3, 1, 8, 8))


class Sum(nn.Module):
    """Branches added by `sum`, which begins with 0, and a shortcut padded with empty channels."""

    def __init__(self):
        super().__init__()
        self.stem, self.branches = nn.Conv2d(1, 3, 3, padding=1), nn.ModuleList(nn.Conv2d(3, 3, 3, padding=1) for _ in range(2))
        self.wide, self.head = nn.Conv2d(3, 5, 3, 2, 1), nn.Linear(5, 3)

    def forward(self, x):
        x = F.relu(self.stem(x))
        x = F.relu(sum(branch(x) for branch in self.branches))
        x = self.wide(x) + F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, 1, 1))
        return self.head(F.relu(x).mean((2, 3)))


def test_sums_and_padded_shortcuts_tie():
    units = Incremental(Sum().eval(), torch.randn(2, 1, 8, 8)).units
    members = [{name: places[0] for name, places in unit.members.items()} for unit in units if "wide" in unit.layers]
    assert {"branches.0": 0, "branches.1": 0, "wide": 1} in members
    assert {"wide": 0} in members
    assert len(units) == 3 + 3 + 2 + 3  # stem, the sums with three of wide, the other two of wide, head

"""Budgets keep what they promise, follow importance, and are applied exactly."""

from itertools import pairwise

import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from facelab.blocks import count_parameters, seeded, standardise
from facelab.importance.budgets import bits, predicted_drop, protected, pruning_ratios, ratios_that_save
from facelab.networks.layers import layers
from facelab.networks.surgery import multiplies_left, pruned, quantised, shrunk, struck
from facelab.networks.ties import groups

NUMBERS = st.lists(st.floats(-10, 10), min_size=1, max_size=6)


@given(NUMBERS, st.floats(0, 0.9), st.floats(0, 1), st.integers(0, 99))
def test_pruning_meets_its_budget(importance, budget, spread, seed):
    generator = torch.Generator().manual_seed(seed)
    costs = {str(i): float(c) for i, c in enumerate(torch.rand(len(importance), generator=generator) + 0.1)}
    ratios = pruning_ratios({str(i): value for i, value in enumerate(importance)}, costs, budget, spread)
    saved = sum(costs[name] * ratio for name, ratio in ratios.items())
    assert saved == pytest.approx(budget * sum(costs.values()), abs=1e-6)
    ordered = [ratios[str(i)] for i in sorted(range(len(importance)), key=lambda i: importance[i])]
    assert all(a >= b - 1e-9 for a, b in pairwise(ordered))
    assert min(ordered) >= 0 and max(ordered) <= 0.9


def test_without_spread_all_layers_are_pruned_alike():
    assert pruning_ratios({"a": 1.0, "b": 5.0}, {"a": 3.0, "b": 1.0}, 0.4, spread=0) == pytest.approx({"a": 0.4, "b": 0.4})


def two_layers():
    with seeded(0):
        return nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 8))


def test_bits_go_where_importance_is():
    model = two_layers()
    model[2].weight.data.copy_(model[0].weight)
    assert bits({"0": 1.0, "2": 1.0}, model, 4) == {"0": 4, "2": 4}
    # all ways to share out 8 bits, with the square of the step 1 / (2^(b-1) - 1) as the loss
    loss = {(a, 8 - a): 100 / (2 ** (a - 1) - 1) ** 2 + 1 / (2 ** (7 - a) - 1) ** 2 for a in range(2, 7)}
    assert tuple(bits({"0": 100.0, "2": 1.0}, model, 4).values()) == min(loss, key=loss.get)
    assert bits({"0": 1.0, "2": -3.0}, model, 5) == {"0": 8, "2": 2}


@given(st.lists(st.floats(0, 5), min_size=2, max_size=2), st.floats(2, 8))
def test_bits_never_exceed_their_average(importance, average):
    model = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 2))
    chosen = bits({"0": importance[0], "2": importance[1]}, model, average)
    assert (64 * chosen["0"] + 16 * chosen["2"]) / 80 <= average + 1e-9
    assert all(2 <= b <= 8 for b in chosen.values())


def test_protection_is_by_importance_per_weight():
    importance, sizes = {"large": 6.0, "small": 5.0, "tiny": 0.5}, {"large": 100.0, "small": 20.0, "tiny": 5.0}
    assert protected(importance, sizes, 0.2) == ["small", "tiny"]
    assert protected(importance, sizes, 1.0) == ["small", "tiny", "large"]
    assert protected(importance, sizes, 0.0) == []


def test_a_pruned_layer_lacks_its_weakest_filters():
    model = two_layers()
    norms = model[0].weight.norm(dim=1)
    after = pruned(model, {"0": 0.5})
    silent = after[0].weight.abs().sum(dim=1) == 0
    assert silent.sum() == 4 and norms[silent].max() < norms[~silent].min() and (after[0].bias[silent] == 0).all()
    assert (model[0].weight.abs().sum(dim=1) > 0).all()
    assert torch.equal(after[2].weight, model[2].weight)


class Residual(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem, self.inner, self.outer = nn.Conv2d(1, 8, 3, padding=1), nn.Conv2d(8, 6, 3, padding=1), nn.Conv2d(6, 8, 3, padding=1)
        self.head = nn.Linear(8, 3)

    def forward(self, x):
        x = self.stem(x).relu()
        return self.head((x + self.outer(self.inner(x).relu())).relu().mean(dim=(2, 3)))


def test_a_shrunk_network_is_smaller_and_computes_what_the_pruned_one_does():
    with seeded(1):
        model, images = Residual().eval(), torch.rand(4, 1, 6, 6)
    ratios = {"stem+outer": 0.25, "inner": 0.5}
    assert set(ratios) < set(groups(model, images))
    masked, small = pruned(model, ratios), shrunk(model, ratios, images)
    torch.testing.assert_close(small(images), masked(images), rtol=1e-4, atol=1e-6)
    assert [layer.channels for layer in layers(small, images)] == [6, 3, 6, 3]
    assert count_parameters(small) < count_parameters(model)


def test_a_layer_that_runs_twice_costs_each_run_once():
    class Twice(nn.Sequential):
        def forward(self, x):
            return super().forward(super().forward(x)[:, :, ::2])

    model, signals = Twice(nn.Conv1d(3, 3, 3, padding=1), nn.ReLU()).eval(), torch.rand(2, 3, 8)
    assert multiplies_left(model, signals) == sum(layer.multiplies for layer in layers(model, signals)) == 27 * (8 + 4)


def test_a_network_that_standardises_its_input_costs_as_much_as_one_that_does_not():
    class Standardised(nn.Sequential):
        def forward(self, x):
            return super().forward(standardise(x))

    with seeded(0):
        parts = nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 6, 3, padding=1), nn.Flatten(), nn.Linear(6 * 36, 3)
    images = torch.rand(2, 1, 6, 6)
    for ratios in ({}, {"0": 0.5}):
        plain, standardised = (multiplies_left(pruned(kind(*parts).eval(), ratios), images) for kind in (nn.Sequential, Standardised))
        assert standardised == plain > 0


def test_quantised_to_many_bits_changes_nothing_and_to_few_a_lot():
    model, inputs = two_layers(), torch.rand(5, 8)
    torch.testing.assert_close(quantised(model, {"0": 16, "2": 16})(inputs), model(inputs), rtol=1e-3, atol=1e-4)
    assert len(quantised(model, {"0": 2})[0].weight.unique()) == 3


def test_faults_spare_what_is_protected():
    model = two_layers()
    after = struck(model, 0.2, ["2"])
    assert torch.equal(after[2].weight, model[2].weight) and not torch.equal(after[0].weight, model[0].weight)
    kept = struck(model, 1.0, scattered=0.25)[0].weight == model[0].weight
    assert 0.1 < kept.float().mean() < 0.4
    assert torch.equal(struck(model, 0.0)[0].weight, model[0].weight)
    assert torch.equal(struck(model, 0.1, draw=1)[0].weight, struck(model, 0.1, draw=1)[0].weight)
    assert not torch.equal(struck(model, 0.1, draw=1)[0].weight, struck(model, 0.1, draw=2)[0].weight)


def test_predicted_drops_add_up_and_interpolate():
    rows = [("a", "pruning", 0.5, 0.2), ("a", "pruning", 0.5, 0.4), ("b", "pruning", 0.5, 0.1), ("a", "quantisation", 4.0, 0.6)]
    frame = pd.DataFrame(rows, columns=["layer", "family", "level", "drop"])
    assert predicted_drop(frame, "pruning", {"a": 0.5, "b": 0.25}) == pytest.approx(0.3 + 0.05)
    assert predicted_drop(frame, "pruning", {"a": 0.9}) == pytest.approx(0.3)
    assert predicted_drop(frame, "quantisation", {"a": 10}) == pytest.approx(0.3)
    with pytest.raises(ValueError, match="'c' was not measured"):
        predicted_drop(frame, "pruning", {"c": 0.5})


def test_errors_name_what_is_wrong():
    with pytest.raises(ValueError, match="pruning budget"):
        pruning_ratios({"a": 1.0}, {"a": 1.0}, 1.5)
    with pytest.raises(ValueError, match=r"\['b'\] differ"):
        pruning_ratios({"a": 1.0}, {"a": 1.0, "b": 1.0}, 0.5)
    with pytest.raises(ValueError, match="average of 1 bits"):
        bits({"0": 1.0}, two_layers(), 1)
    with pytest.raises(ValueError, match="protection budget of 2"):
        protected({"a": 1.0}, {"a": 1.0}, 2)


def test_importances_without_a_scale_are_refused():
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    with pytest.raises(ValueError, match="rank"):
        bits({"0": -1.0, "1": -2.0}, model, 4)
    with pytest.raises(ValueError, match="rank"):
        protected({"0": -1.0, "1": -2.0}, {"0": 16, "1": 16}, 0.5)


def test_norms_that_would_go_on_are_refused():
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4))
    with pytest.raises(ValueError, match="fold"):
        pruned(model, {"0": 0.5})


def test_pruning_a_grouped_transposed_convolution_takes_the_biases_of_all_groups():
    model = nn.Sequential(nn.ConvTranspose2d(4, 6, 3, groups=2))
    assert pruned(model, {"0": 0.9})(torch.randn(2, 4, 5, 5)).abs().amax((0, 2, 3)).count_nonzero() == 0


@pytest.mark.parametrize("first", [0.0, 1.0], ids=["late layers go", "early layers go"])
@pytest.mark.parametrize("budget", [0.0, 0.2, 0.6])
def test_a_pruning_budget_is_what_the_smaller_network_really_saves(first, budget):
    with seeded(0):
        model = nn.Sequential(
            *(nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 24, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
            *(nn.Conv2d(24, 32, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(32 * 16, 5)),
        ).eval()
    images = torch.randn(2, 1, 8, 8)
    whole = sum(layer.multiplies for layer in layers(model, images))
    assert multiplies_left(model, images) == whole
    ratios = ratios_that_save({"0": first, "2": 0.5, "5": 1 - first}, model, images, budget)
    small = shrunk(model, ratios, images)
    really = sum(layer.multiplies for layer in layers(small, images))
    assert multiplies_left(pruned(model, ratios), images) == really
    assert budget <= 1 - really / whole <= budget + 0.08  # whole filters

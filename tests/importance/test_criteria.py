"""Criteria against closed forms, brute force, completeness, invariance, and captum."""

import copy

import numpy as np
import pytest
import torch
from captum.attr import LayerConductance
from torch import nn

from facelab.blocks import seeded
from facelab.importance.criteria import CRITERIA, criteria, first_samples
from facelab.importance.criteria.evidence import Evidence
from facelab.importance.scores import accuracy, evaluate, log_likelihood, negative_squared_error
from facelab.importance.tables import CRITERIA_COLUMNS, KINDS, read_table, save_table

pytestmark = pytest.mark.slow


def small_network(seed=0):
    with seeded(seed):
        return nn.Sequential(
            nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(4, 6, 3, stride=2), nn.ReLU(inplace=True),
            nn.Flatten(), nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 3),
        )  # fmt: skip


@pytest.fixture(scope="module")
def data():
    with seeded(1):
        return torch.rand(40, 1, 6, 6), torch.randint(3, (40,))


@pytest.fixture(scope="module")
def evidence(data):
    return Evidence(small_network(), *data, log_likelihood, steps=64)


def values(frame, name, kind="layer"):
    return frame[(frame.criterion == name) & (frame.kind == kind)].set_index("layer").value


def one_by_one(model, inputs, targets):
    """Gradients of single samples, by as many backward passes."""
    weights = [module.weight for module in model if hasattr(module, "weight")]
    rows = [torch.autograd.grad(log_likelihood(model(x[None]), y[None])[0], weights) for x, y in zip(inputs, targets, strict=True)]
    return [torch.stack(column) for column in zip(*rows, strict=True)]


def test_gradients_and_fisher_are_those_of_single_samples(evidence, data):
    single = one_by_one(evidence.model, *data)
    for name, per_sample in zip(evidence.weights, single, strict=True):
        torch.testing.assert_close(evidence.gradients[name], per_sample.mean(dim=0), rtol=1e-4, atol=1e-6)
        torch.testing.assert_close(evidence.squared_gradients[name], per_sample.square().mean(dim=0), rtol=1e-4, atol=1e-7)
        # the trap of the card: the square of the batch's mean gradient is something else
        assert evidence.squared_gradients[name].sum() > 3 * evidence.gradients[name].square().sum()


@pytest.mark.parametrize(
    "module",
    [
        nn.Conv2d(2, 4, 3, groups=2), nn.Conv2d(2, 3, 3, padding="same"), nn.Conv2d(2, 3, (3, 2), stride=2, padding=1, dilation=(1, 2)),
        nn.ConvTranspose2d(2, 3, 2, stride=2), nn.Linear(5, 3), nn.Conv2d(2, 3, 3, padding=1, padding_mode="circular"),
    ],
    ids=["grouped", "same", "strided", "transposed", "linear over places", "circular"],
)  # fmt: skip
def test_fisher_of_every_kind_of_layer(module):
    inputs = torch.rand(5, 2, 6, 5)
    targets = module(inputs).detach() + torch.rand_like(module(inputs))
    evidence = Evidence(module, inputs, targets, negative_squared_error)
    ((name, weight),) = evidence.weights.items()
    single = [
        torch.autograd.grad(negative_squared_error(module(x[None]), y[None])[0], weight)[0] for x, y in zip(inputs, targets, strict=True)
    ]
    torch.testing.assert_close(evidence.squared_gradients[name], torch.stack(single).square().mean(dim=0), rtol=1e-4, atol=1e-7)


def test_a_layer_used_twice_adds_up_before_squaring():
    shared = nn.Linear(3, 3)
    model, inputs, targets = nn.Sequential(shared, nn.ReLU(), shared), torch.rand(6, 3), torch.tensor([0, 1, 2, 0, 1, 2])
    evidence = Evidence(model, inputs, targets, log_likelihood)
    single = [
        torch.autograd.grad(log_likelihood(model(x[None]), y[None])[0], shared.weight)[0] for x, y in zip(inputs, targets, strict=True)
    ]
    torch.testing.assert_close(evidence.squared_gradients["0"], torch.stack(single).square().mean(dim=0), rtol=1e-4, atol=1e-7)


def test_curvature_estimates_the_hessian():
    with seeded(3):
        model, inputs, targets = nn.Linear(3, 2), torch.rand(30, 3), torch.randint(2, (30,))
    evidence = Evidence(model, inputs, targets, log_likelihood)
    with torch.no_grad():
        p = model(inputs).softmax(dim=1)
    exact = ((p * (1 - p)).T @ inputs.square()) / len(inputs)  # softmax regression in closed form
    assert evidence.curvature[""].sum().item() == pytest.approx(exact.sum().item(), rel=0.5)
    estimates = [Evidence(model, inputs, targets, log_likelihood, seed=seed).curvature[""] for seed in range(40)]
    torch.testing.assert_close(torch.stack(estimates).mean(dim=0), exact, rtol=0.2, atol=5e-3)


def test_integrals_over_weights_add_up_to_the_effect_of_really_zeroing_the_layer(evidence, data):
    for name, (integral, _) in evidence.weight_paths.items():
        without = copy.deepcopy(evidence.model)
        without.get_submodule(name).weight.data.zero_()
        fall = evaluate(evidence.model, [data], log_likelihood).mean() - evaluate(without, [data], log_likelihood).mean()
        assert (integral * evidence.weights[name]).sum().item() == pytest.approx(fall.item(), abs=2e-3)


def test_parts_of_channels_add_up_to_the_effect_of_silencing_the_layer(evidence, data):
    for name, parts in evidence.gate_paths.items():
        silent = copy.deepcopy(evidence.model)
        silent.get_submodule(name).weight.data.zero_()
        silent.get_submodule(name).bias.data.zero_()
        fall = evaluate(evidence.model, [data], log_likelihood).mean() - evaluate(silent, [data], log_likelihood).mean()
        assert parts.sum().item() == pytest.approx(fall.item(), abs=2e-3)


def test_conductance_adds_up_to_the_same_total_in_every_layer(evidence, data):
    inputs, targets = data
    change = evaluate(evidence.model, [data], log_likelihood) - evaluate(evidence.model, [(inputs * 0, targets)], log_likelihood)
    for signed, absolute in evidence.conductance.values():
        assert signed.sum().item() == pytest.approx(change.mean().item(), abs=1e-3)
        assert (absolute >= signed.abs() - 1e-6).all()


def test_conductance_agrees_with_captum(data):
    inputs, targets = data
    model = small_network().eval()
    evidence = Evidence(model, inputs, targets, log_likelihood, steps=200)
    theirs = LayerConductance(lambda x, truth: log_likelihood(model(x), truth), model[0])
    expected = theirs.attribute(inputs, additional_forward_args=targets, n_steps=400, method="riemann_trapezoid")
    torch.testing.assert_close(evidence.conductance["0"][0], expected.mean(dim=0), rtol=0.02, atol=2e-4)


def test_neurons_and_channels_by_hand():
    model = nn.Linear(2, 2, bias=False)
    model.weight.data = torch.tensor([[1.0, 0.0], [0.0, 2.0]])
    inputs, targets = torch.tensor([[1.0, 1.0], [3.0, 0.0]]), torch.zeros(2, 2)
    frame = criteria(model, [(inputs, targets)], negative_squared_error, kinds=KINDS)
    # activations (1, 2) and (3, 0); the score is -(a0^2 + a1^2) / 2, its gradient -a; a gate's gradient -a^2
    assert values(frame, "activation", "neuron").tolist() == [2.0, 1.0]
    assert values(frame, "gradient", "neuron").tolist() == [2.0, 1.0]
    for kind in ("channel", "neuron"):
        assert values(frame, "taylor", kind).tolist() == [5.0, 2.0]
        assert values(frame, "fisher", kind).tolist() == [(1 + 81) / 4, 16 / 4]
        # a quadratic form on the way from 0 keeps half its gradient: each neuron conducts its own a^2 / 2
        assert values(frame, "conductance", kind).tolist() == pytest.approx([2.5, 1.0])
    assert values(frame, "integrated gradients", "channel").tolist() == pytest.approx([-2.5, -1.0])
    assert values(frame, "magnitude", "channel").tolist() == [1.0, 2.0]
    assert values(frame, "size", "channel").tolist() == [-2.0, -2.0] and values(frame, "depth").tolist() == [-1.0]


def test_rescaling_a_relu_network_changes_some_criteria_though_not_the_function(data):
    """Halve one layer's weights and bias and double the next one's weights: exercise 2 of the notebook."""
    model = small_network()
    scaled = copy.deepcopy(model)
    for parameter in scaled[0].parameters():
        parameter.data /= 2
    scaled[3].weight.data *= 2
    torch.testing.assert_close(scaled(data[0]), model(data[0]))
    before, after = (criteria(net, [data], kinds=("layer",)) for net in (model, scaled))
    assert CRITERIA.keys() == set(before.criterion)

    def changed(name):
        a, b = values(before, name), values(after, name)
        return not np.allclose(b[["0", "3"]], a[["0", "3"]], rtol=1e-3, atol=1e-7)

    changing = {name for name in CRITERIA if changed(name)}
    # weights scale up and gradients down; products of both stay, and so do the trivial ones
    assert changing == {"mean magnitude", "magnitude", "spectral norm", "mean gradient", "gradient", "activation"}


def test_dead_parts_have_no_importance_by_any_criterion_that_sees_the_score(data):
    model = small_network()
    model[6].weight.data.zero_()  # whatever the layers before say, the classifier hears a constant
    frame = criteria(model, [data])
    for name in ("gradient", "taylor", "fisher", "hessian diagonal", "integrated gradients", "conductance", "singe", "probe"):
        assert values(frame, name)[["0", "3"]].abs().max() == 0, name
    assert (values(frame, "magnitude")[["0", "3"]] > 0).all()


def test_a_table_of_everything(data, tmp_path):
    model = small_network().train()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    frame = criteria(model, [data], kinds=KINDS, samples=30, network="small", seed=4)
    assert tuple(frame.columns) == CRITERIA_COLUMNS
    assert model.training and all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())
    assert frame.value.notna().all() and set(frame.kind) == set(KINDS) and set(frame.samples) == {30}
    channels = frame[(frame.kind == "channel") & (frame.layer == "3")].groupby("criterion").channel.apply(list)
    assert (channels.map(lambda found: found == list(range(6)))).all()
    assert set(frame[frame.kind == "neuron"]["shape"]) == {"4x6x6", "6x1x1", "5", "3"}
    assert frame[frame.criterion == "fisher"].unit.unique().tolist() == ["nats^2"]
    save_table(frame, tmp_path / "criteria.parquet")
    assert read_table(tmp_path / "criteria.parquet").attrs == frame.attrs


def test_same_seed_same_table(data):
    first, again, other = (criteria(small_network(), [data], seed=seed, names=["probe", "hessian diagonal"]) for seed in (0, 0, 1))
    assert first.equals(again) and not first.equals(other)


def test_samples_are_the_first_ones():
    loader = [(torch.arange(3.0), torch.arange(3)), (torch.arange(3.0, 6), torch.arange(3, 6))]
    assert first_samples(loader, 4)[1].tolist() == [0, 1, 2, 3]
    assert first_samples(loader, 99)[1].tolist() == [0, 1, 2, 3, 4, 5]


def test_errors_name_what_is_wrong(data):
    model = small_network()
    with pytest.raises(ValueError, match="cannot be differentiated"):
        criteria(model, [data], accuracy, names=["gradient"])
    with pytest.raises(ValueError, match="no kind 'unit'"):
        criteria(model, [data], kinds=["unit"])
    with pytest.raises(ValueError, match="no criterion 'beauty'"):
        criteria(model, [data], names=["beauty"])
    with pytest.raises(ValueError, match="not empty"):
        criteria(model, [])
    model[0].weight.data[0] = torch.nan
    with pytest.raises(ValueError, match="not finite"):
        criteria(model, [data], names=["magnitude"])


def test_layers_that_see_more_rows_than_samples_are_refused():
    class Video(nn.Module):
        def __init__(self):
            super().__init__()
            self.frame, self.head = nn.Linear(5, 4), nn.Linear(4, 3)

        def forward(self, x):
            return self.head(self.frame(x.flatten(0, 1)).relu().unflatten(0, (len(x), -1)).mean(1))

    loader = [(torch.randn(6, 3, 5), torch.randint(3, (6,)))]
    with pytest.raises(ValueError, match="first axis"):
        criteria(Video(), loader, names=["fisher"], kinds=("layer",))


def test_a_head_that_the_score_does_not_use_counts_nothing():
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.body, self.used, self.unused = nn.Linear(5, 4), nn.Linear(4, 3), nn.Linear(4, 2)

        def forward(self, x):
            x = self.body(x).relu()
            return {"used": self.used(x), "unused": self.unused(x)}

    loader = [(torch.randn(6, 5), torch.randint(3, (6,)))]
    frame = criteria(Two(), loader, lambda outputs, targets: log_likelihood(outputs["used"], targets), kinds=("layer",), samples=6)
    values = frame[frame.layer == "unused"].set_index("criterion").value
    assert values[["fisher", "gradient", "conductance", "integrated gradients"]].abs().max() == 0
    assert frame[frame.layer == "used"].set_index("criterion").value["fisher"] > 0

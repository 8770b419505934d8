"""Where the truth is planted, criteria and measured sensitivity must find it, to the digit where they claim to be exact."""

import pytest
import torch

from facelab.importance.criteria import criteria
from facelab.importance.planted import ROLES, planted
from facelab.importance.scores import SCORES, accuracy, evaluate, log_likelihood
from facelab.importance.sensitivity import ablate_channels, measure_layers

pytestmark = pytest.mark.slow

CHANNELS = 6


@pytest.fixture(scope="module", params=range(3))
def truth(request):
    return planted(request.param)


def test_it_is_as_planted(truth):
    assert evaluate(truth.model, truth.loader, accuracy).mean() == 1
    assert truth.effect("stem", accuracy) > 0.2
    for twin in ("branches.twin_a", "branches.twin_b"):
        assert truth.effect(twin, accuracy) == 0  # half of everything: the highest class stays the highest
        assert truth.effect(twin, log_likelihood) > 0.01  # but it is less sure
    for score in (accuracy, log_likelihood):
        assert truth.effect("branches.unheard", score) == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("score", [accuracy, log_likelihood], ids=lambda score: score.__name__)
def test_pruning_a_whole_layer_measures_the_effect_of_really_taking_it_out(truth, score):
    frame = measure_layers(truth.model, truth.loader, score, ["pruning"], {"pruning": [1.0]}, progress=False)
    tied = "branches.twin_a+branches.twin_b+gate"  # the summands of one addition are cut together: nothing of the sum is left
    assert set(frame.layer) == {"stem", tied, "branches.unheard", "classifier"}
    drop = frame.set_index("layer")["drop"]
    for layer in ("stem", "branches.unheard"):
        assert drop[layer] == pytest.approx(truth.effect(layer, score), abs=1e-6)
    assert drop[tied] == pytest.approx(truth.effect("stem", score), abs=1e-6)  # either way the classifier hears nothing


def test_ablated_channels_equal_a_network_without_them(truth):
    frame = ablate_channels(truth.model, truth.loader, log_likelihood, progress=False)
    drops = frame.set_index(["layer", "channel"])["drop"]
    before = evaluate(truth.model, truth.loader, log_likelihood).mean()
    state = truth.model.state_dict()
    for channel in range(CHANNELS):
        rest = [c for c in range(CHANNELS) if c != channel]
        narrow = planted().model  # all layers without this channel of the stem, by slicing, not by masks
        for name, weight in state.items():
            narrow.get_submodule(name.removesuffix(".weight")).weight.data = weight
        narrow.stem.weight.data = state["stem.weight"][rest]
        for branch in narrow.branches:
            narrow.branches[branch].weight.data = state[f"branches.{branch}.weight"][:, rest]
        assert drops["stem", channel] == pytest.approx(float(before - evaluate(narrow, truth.loader, log_likelihood).mean()), abs=1e-6)
        assert drops["branches.unheard", channel] == pytest.approx(0, abs=1e-6)


def test_noise_quantisation_and_faults_of_the_dead_layer_cost_nothing(truth):
    frame = measure_layers(truth.model, truth.loader, log_likelihood, draws=2, progress=False)
    assert frame[frame.layer == "branches.unheard"]["drop"].abs().max() < 1e-6
    mean = frame[frame.family == "noise"].groupby("layer")["drop"].mean()
    assert min(mean["stem"], mean["branches.twin_a"], mean["branches.twin_b"]) > 0.01


def test_what_criteria_say_of_it(truth):
    frame = criteria(truth.model, truth.loader, kinds=("layer", "channel"), steps=6)
    layers = frame[frame.kind == "layer"].pivot(index="layer", columns="criterion", values="value")
    dead = layers.loc["branches.unheard"]
    for name in (
        "gradient",
        "mean gradient",
        "taylor",
        "fisher",
        "hessian diagonal",
        "integrated gradients",
        "singe",
        "conductance",
        "probe",
    ):
        assert abs(dead[name]) < 1e-9, name
        assert layers[name]["stem"] > abs(dead[name]), name
    # blind to what happens behind a layer: magnitude, activation, size and depth cannot know
    assert dead["magnitude"] > layers["magnitude"]["branches.twin_a"]
    twins = layers.loc[["branches.twin_a", "branches.twin_b"]]
    for name in ("gradient", "taylor", "fisher", "integrated gradients", "conductance"):
        assert twins[name].iloc[0] == pytest.approx(twins[name].iloc[1], rel=1e-4), name


def test_the_parts_of_channels_add_up_to_the_effect_of_really_taking_the_layer_out(truth):
    frame = criteria(truth.model, truth.loader, kinds=("channel",), names=["integrated gradients"], steps=12)
    parts = frame.groupby("layer").value.sum()
    for layer in ROLES:
        assert parts[layer] == pytest.approx(truth.effect(layer, log_likelihood), abs=2e-3), layer


def test_taking_out_really_takes_out(truth):
    assert not any("twin_a" in name for name, _ in truth.without("branches.twin_a").named_parameters())
    images = truth.loader[0][0]
    halves = truth.without("branches.twin_a")(images)
    torch.testing.assert_close(2 * halves, truth.model(images))
    with pytest.raises(ValueError, match="no planted truth"):
        truth.without("gate")
    assert set(SCORES) >= {"accuracy", "log_likelihood"}

"""Batched experts against one ordinary network each, gates against their definitions."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from facelab.blocks import ExpertLinear, ExpertMLP, Gate, PatchExperts, count_parameters, leaf_probabilities, mix, seeded


def noise(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_linear_experts_are_linear_layers():
    with seeded(0):
        experts = ExpertLinear(3, 4, 2)
    inputs = noise(3, 5, 4)
    for l in range(3):
        expected = inputs[l] @ experts.weight[l] + experts.bias[l]
        torch.testing.assert_close(experts(inputs)[l], expected)
    assert experts.weight.abs().max() <= 0.5  # 1 / sqrt(4), as torch.nn.Linear begins


@pytest.mark.parametrize("training", [True, False])
def test_an_expert_of_the_batch_is_an_ordinary_network(training):
    with seeded(0):
        experts = ExpertMLP(3, 6, 4, 2).train(training)
    inputs = noise(8, 6)
    together = experts(inputs)
    for l in range(3):
        part = slice(4 * l, 4 * (l + 1))
        alone = nn.Sequential(nn.Linear(6, 4, bias=False), nn.BatchNorm1d(4), nn.ReLU(), nn.Linear(4, 2)).train(training)
        with torch.no_grad():
            alone[0].weight.copy_(experts.first.weight[part])
            alone[3].weight.copy_(experts.last.weight[l].T)
            alone[3].bias.copy_(experts.last.bias[l, 0])
        torch.testing.assert_close(together[:, l], alone(inputs))


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("patch", [8, 12])
def test_a_patch_expert_is_an_ordinary_convolutional_network(patch, training):
    with seeded(0):
        experts = PatchExperts(3, patch, (4, 5), code=6).train(training)
    patches = noise(7, 1, patch, patch)
    together = experts(patches)
    assert together.shape == (7, 3, 6)
    for l in range(3):
        alone = PatchExperts(1, patch, (4, 5), code=6).train(training)
        first, _, _, second, _, _ = alone.convolutions
        assert first.groups == second.groups == 1
        with torch.no_grad():
            first.weight.copy_(experts.convolutions[0].weight[4 * l : 4 * l + 4])
            second.weight.copy_(experts.convolutions[3].weight[5 * l : 5 * l + 5])
            linear = nn.Linear(experts.last.weight.shape[1], 6)
            linear.weight.copy_(experts.last.weight[l].T)
            linear.bias.copy_(experts.last.bias[l, 0])
        ordinary = nn.Sequential(alone.convolutions, nn.Flatten(), linear, nn.BatchNorm1d(6).train(training), nn.ReLU())
        torch.testing.assert_close(together[:, l], ordinary(patches))


def test_too_small_a_patch():
    with pytest.raises(ValueError, match="patch = 6"):
        PatchExperts(2, 6, (4, 4), 3)


@pytest.mark.parametrize("kind", ["mean", "softmax", "tree"])
@given(seed=st.integers(0, 50))
def test_weights_sum_to_one(kind, seed):
    with seeded(seed):
        weights = Gate(kind, 5, 8)(noise(9, 5, seed=seed))
    assert weights.shape == (9, 8) and weights.min() >= 0
    torch.testing.assert_close(weights.sum(dim=1), torch.ones(9))


def test_gates_by_their_definitions():
    gating = noise(9, 5)
    with seeded(0):
        softmax, sigmoid, tree = (Gate(kind, 5, 4).eval() for kind in ("softmax", "sigmoid", "tree"))
    torch.testing.assert_close(softmax(gating), softmax.scores(gating).softmax(dim=1))
    torch.testing.assert_close(sigmoid(gating), sigmoid.scores(gating).sigmoid())
    torch.testing.assert_close(tree(gating), leaf_probabilities(tree.tree(gating)))
    assert torch.equal(Gate("mean", 5, 4)(gating), torch.full((9, 4), 0.25))
    assert sigmoid(gating).sum(dim=1).mean().item() == pytest.approx(2, abs=0.6)  # L / 2 at the start


def test_a_tree_needs_one_decision_less_than_a_softmax_has_scores():
    counts = {kind: count_parameters(Gate(kind, 5, 8)) for kind in ("mean", "softmax", "sigmoid", "tree")}
    assert counts == {"mean": 0, "softmax": 8 * 8, "sigmoid": 8 * 8, "tree": 7 * 8}  # 5 weights, bias, scale and shift each


def test_mixing_by_hand():
    weights = torch.tensor([[0.25, 0.75], [1.0, 0.0]])
    answers = torch.tensor([[[1.0, 2.0], [5.0, 6.0]], [[1.0, 2.0], [5.0, 6.0]]])
    assert mix(weights, answers).tolist() == [[4.0, 5.0], [1.0, 2.0]]


def test_where_experts_agree_the_gate_learns_nothing():
    with seeded(0):
        gate = Gate("tree", 5, 4)
    same = noise(9, 1, 3).expand(-1, 4, -1)
    mix(gate(noise(9, 5)), same).square().sum().backward()
    assert all(parameter.grad.abs().max() < 1e-5 for parameter in gate.parameters())


def test_impossible_gates_say_what_is_allowed():
    with pytest.raises(ValueError, match="tree"):
        Gate("forest", 5, 4)
    with pytest.raises(ValueError, match="not 6"):
        Gate("tree", 5, 6)

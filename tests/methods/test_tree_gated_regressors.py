"""Tree-gated regressors: the tree's arithmetic by hand, its limits, what its gradient is, and a cascade that learns."""

import pytest
import torch

from facelab.blocks import count_parameters, leaf_probabilities, seeded
from facelab.methods import tree_gated_regressors as method
from facelab.methods.tree_gated_regressors import RegressorEnsemble, ShuffledEnsemble, TreeGatedCascade


def ensemble(gate="tree", **options):
    with seeded(3):
        return RegressorEnsemble(12, 5, gate, **{"experts": 4, "hidden": 6, "trunk": (10,), **options}).eval()


features = torch.randn(7, 12, generator=torch.Generator().manual_seed(0))


def decided(model, logits):
    """The ensemble with these node decisions, the same for every face."""
    with torch.no_grad():
        model.gate.tree.linear.weight.zero_()
        model.gate.tree.linear.bias.copy_(torch.as_tensor(logits))
        model.gate.tree.norm.running_var.fill_(1 - model.gate.tree.norm.eps)
    return model


def test_children_hang_below_their_own_node():
    d = torch.tensor([0.9, 0.2, 0.7])
    said = decided(ensemble(), torch.logit(d))(features)
    assert torch.allclose(said.weights, torch.tensor([0.18, 0.72, 0.07, 0.03]).expand(7, -1), atol=1e-6)


def test_undecided_nodes_give_the_plain_average():
    said = decided(ensemble(), torch.zeros(3))(features)
    assert torch.allclose(said.step, said.of_experts.mean(dim=1), atol=1e-6)
    assert torch.allclose(ensemble("mean")(features).weights, torch.full((7, 4), 0.25))


def test_decided_nodes_walk_to_one_regressor():
    said = decided(ensemble(), torch.tensor([-1e4, 5e3, 1e4]))(features)  # right, then left
    assert torch.allclose(said.step, said.of_experts[:, 2], atol=1e-6)


def test_equal_regressors_do_not_ask_the_gate():
    model = ensemble()
    with torch.no_grad():
        for parameter in (model.experts.first.weight, model.experts.norm.weight, model.experts.norm.bias):
            parameter.copy_(parameter.unflatten(0, (4, -1))[:1].expand(4, *[-1] * parameter.dim()).flatten(0, 1))
        for parameter in model.experts.last.parameters():
            parameter.copy_(parameter[:1].expand_as(parameter))
    said = model(features)
    assert torch.allclose(said.step, said.of_experts[:, 0], atol=1e-5)
    said.step.square().sum().backward()
    assert model.gate.tree.linear.weight.grad.abs().max() < 1e-5


def test_a_tree_without_nodes_is_the_single_regressor():
    model = ensemble(experts=1)
    said = model(features)
    assert torch.equal(said.weights, torch.ones(7, 1)) and torch.allclose(said.step, said.of_experts[:, 0])


def test_the_gradient_of_a_decision_is_reach_times_the_contrast_of_its_sides():
    answers = torch.randn(4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    d = torch.tensor([[0.6, 0.3, 0.8]], dtype=torch.float64, requires_grad=True)
    (leaf_probabilities(torch.logit(d)) @ answers).sum().backward()
    left = 0.3 * answers[0] + 0.7 * answers[1]
    right = 0.8 * answers[2] + 0.2 * answers[3]
    by_hand = torch.stack([left - right, 0.6 * (answers[0] - answers[1]), 0.4 * (answers[2] - answers[3])])
    assert torch.allclose(d.grad[0], by_hand.detach())


def test_swapping_the_children_of_the_root_and_turning_its_gate_changes_nothing():
    model, twin = ensemble(), ensemble()
    order = [2, 3, 0, 1]
    with torch.no_grad():
        for layer in (twin.gate.tree.linear.weight, twin.gate.tree.linear.bias):
            layer.copy_(torch.stack([-layer[0], layer[2], layer[1]]))
        for parameter in (twin.experts.first.weight, twin.experts.norm.weight, twin.experts.norm.bias):
            parameter.copy_(parameter.unflatten(0, (4, -1))[order].flatten(0, 1))
        for parameter in twin.experts.last.parameters():
            parameter.copy_(parameter[order])
    assert torch.allclose(model(features).step, twin(features).step, atol=1e-6)


def test_the_control_looks_at_another_face():
    with seeded(3):
        control = ShuffledEnsemble(12, 5, experts=4, hidden=6, trunk=(10,)).eval()
    mine, theirs = ensemble()(features), control(features)
    assert torch.allclose(theirs.weights, mine.weights.roll(1, dims=0)) and torch.allclose(theirs.of_experts, mine.of_experts)
    assert count_parameters(control) == count_parameters(ensemble())


def shapes():
    return torch.tensor([[10.0, 12.0], [30.0, 12.0], [20.0, 22.0], [14.0, 30.0], [26.0, 30.0]])


def test_no_gradient_asks_where_patches_are_cut():
    with seeded(0):
        model = TreeGatedCascade(shapes(), experts=2, hidden=4, trunk=(8,))
    images = torch.rand(4, 1, 40, 40, generator=torch.Generator().manual_seed(2))
    outputs = model(images)
    step = outputs[1].landmarks - outputs[0].landmarks
    step.sum().backward()
    assert all(parameter.grad is None or parameter.grad.abs().max() < 1e-4 for parameter in model.ensembles[0].parameters())
    assert model.ensembles[1].experts.last.weight.grad.abs().max() > 0
    with pytest.raises(ValueError, match="spacings is empty"):
        TreeGatedCascade(shapes(), spacings=())


def test_errors_are_in_units_of_the_box():
    true = shapes()[None]
    assert method.box_size(true) == pytest.approx((20 * 18) ** 0.5)
    assert method.relative_error(true + torch.tensor([3.0, 4.0]), true) == pytest.approx(5 / (20 * 18) ** 0.5)


def test_a_cascade_learns_where_dots_are():
    from facelab.training import fit

    generator = torch.Generator().manual_seed(0)
    true = shapes() + 2 * torch.randn(48, 1, 2, generator=generator)
    images = torch.zeros(48, 1, 40, 40)
    for image, points in zip(images, true, strict=True):
        for x, y in points.round().long().tolist():
            image[0, y - 1 : y + 2, x - 1 : x + 2] = 1
    with seeded(0):
        model = TreeGatedCascade(shapes(), experts=2, hidden=8, trunk=(16,))

    def loss(model, batch, generator):
        return method.cascade_loss(model(batch["images"]), batch["true"])

    before = float(method.relative_error(shapes().expand(48, -1, -1), true).mean())
    fit(model, loss, {"images": images, "true": true}, steps=80, batch_size=24, learning_rate=1e-2, progress=False)
    with torch.no_grad():
        first, last = (float(method.relative_error(output.landmarks, true).mean()) for output in model(images))
    assert max(first, last) < 0.7 * before


def test_fixed_features_are_the_principal_components_of_patches():
    images = torch.rand(40, 1, 24, 24, generator=torch.Generator().manual_seed(5))
    describe = method.FixedFeatures(shapes() / 2, patch=4, spacing=1.0, components=6).fit(images)
    features = describe(images)
    assert features.shape == (40, 6) and torch.allclose(features.mean(dim=0), torch.zeros(6), atol=1e-4)
    spread = features.T @ features / 39
    assert torch.allclose(spread, torch.diag(spread.diagonal()), atol=1e-4), "components do not go together"
    assert spread.diagonal().mean() == pytest.approx(1, abs=1e-3)
    assert (spread.diagonal().diff() < 0).all(), "the first ones stay louder"
    variance = describe.patches(images).var(dim=0).sum()
    largest = torch.linalg.eigvalsh(describe.patches(images).T.cov())[-6:].flip(0)
    assert torch.allclose(spread.diagonal() ** 2 / spread.diagonal()[0] ** 2, largest / largest[0], rtol=0.1) and variance > 0

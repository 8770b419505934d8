"""The cascade against the equations of the card, and the traps it names."""

import pytest
import torch
from torch import nn

from facelab.blocks import Gate, count_parameters, cut_patches, leaf_probabilities, mix, seeded, standardise
from facelab.markups import markup
from facelab.methods.tree_moe import (
    POSE_UNIT,
    STEP_UNIT,
    Informed,
    PoseNetwork,
    Stage,
    StageOutput,
    TreeMoE,
    alignment_loss,
    mirrored,
    of_equal_size,
    pose_loss,
    tree_moe_loss,
)

SIZE, POINTS = 32, 5
MEAN = torch.tensor([[10.0, 12.0], [22.0, 12.0], [16.0, 18.0], [12.0, 24.0], [20.0, 24.0]])


def build(seed=0, **options):
    with seeded(seed):
        return TreeMoE(MEAN, SIZE, **{"patch": 8, "channels": (2, 3), "code": 4, "hidden": 5} | options)


def images(count=6, seed=0):
    return torch.rand(count, 1, SIZE, SIZE, generator=torch.Generator().manual_seed(seed))


def poses(count=6, seed=1):
    return 60 * torch.randn(count, 3, generator=torch.Generator().manual_seed(seed))


def truth(count=6, seed=2):
    return MEAN + torch.randn(count, POINTS, 2, generator=torch.Generator().manual_seed(seed))


def gradient(module):
    return sum(float(p.grad.abs().sum()) for p in module.parameters() if p.grad is not None)


def test_a_stage_is_what_the_pseudo_code_says():
    """Patch by patch and expert by expert, in plain loops."""
    model = build().eval()
    first, second = model(images(), poses())
    inputs, stage = standardise(images()), model.stages[1]
    weights = leaf_probabilities(stage.feature_gate.tree(poses() / POSE_UNIT))
    torch.testing.assert_close(second.feature_weights, weights)
    patches = cut_patches(inputs, first.landmarks, 8, spacing=1.5)
    features = torch.empty(6, POINTS, 4)
    for face in range(6):
        for point in range(POINTS):
            codes = stage.feature_experts(patches[face, point][None])[0]
            features[face, point] = sum(weights[face, l] * codes[l] for l in range(4))
    steps = stage.regression_experts(features.flatten(1))
    mu = leaf_probabilities(stage.regression_gate.tree(features.flatten(1)))
    step = sum(mu[:, l, None] * steps[:, l] for l in range(8)).view(6, POINTS, 2)
    torch.testing.assert_close(second.landmarks, first.landmarks + STEP_UNIT * SIZE * step, rtol=1e-4, atol=1e-4)


def test_the_mixture_of_the_experts_landmarks_are_the_landmarks():
    for output in build().eval()(images()):
        mixed = mix(output.regression_weights, output.expert_landmarks.flatten(2)).unflatten(1, (POINTS, 2))
        torch.testing.assert_close(output.landmarks, mixed, rtol=1e-4, atol=1e-4)


def test_one_hot_weights_are_a_single_expert():
    model = build(spacings=(2.0,)).eval()
    gate = model.stages[0].regression_gate.tree
    nn.init.zeros_(gate.norm.weight)
    with torch.no_grad():
        gate.norm.bias.copy_(torch.tensor([-60.0, 0, 60, 0, 0, 60, 0]))  # right, left, left: leaf 4
    (output,) = model(images())
    torch.testing.assert_close(output.landmarks, output.expert_landmarks[:, 4])


def test_swapping_two_subtrees_and_negating_their_gate_changes_nothing():
    """Leaf numbers therefore mean nothing from one training to the next."""
    model = build(spacings=(2.0,)).eval()
    before = model(images(), poses())[0].landmarks
    stage = model.stages[0]
    with torch.no_grad():
        tree = stage.feature_gate.tree
        tree.norm.weight[0] *= -1
        tree.norm.bias[0] *= -1
        swapped = [0, 2, 1]
        for parameter in (tree.linear.weight, tree.linear.bias, tree.norm.weight, tree.norm.bias):
            parameter.copy_(parameter[swapped])
        experts, (a, b) = stage.feature_experts, (2, 3)
        for parameter, width in ((experts.convolutions[0].weight, a), (experts.convolutions[3].weight, b)):
            parameter.copy_(parameter.unflatten(0, (4, width))[[2, 3, 0, 1]].flatten(0, 1))
        for parameter in (experts.last.weight, experts.last.bias):
            parameter.copy_(parameter[[2, 3, 0, 1]])
    torch.testing.assert_close(model(images(), poses())[0].landmarks, before, rtol=1e-4, atol=1e-4)


def test_the_weights_of_a_face_go_to_its_own_patches():
    stage = build().stages[0]
    weights = torch.rand(3, 4, generator=torch.Generator().manual_seed(0))
    assert torch.equal(stage.per_patch(weights).view(3, POINTS, 4), weights[:, None].expand(-1, POINTS, -1))


def test_a_face_does_not_depend_on_the_others_of_its_batch():
    model = build().eval()
    together = model(images())[-1].landmarks
    torch.testing.assert_close(model(images()[2:3])[-1].landmarks, together[2:3], rtol=1e-4, atol=1e-4)


def test_pose_reaches_the_features_alone_and_only_through_the_gate():
    model = build().eval()
    own = model(images(), poses())[0]
    other = model(images(), poses().flip(0))[0]
    assert not torch.equal(own.landmarks, other.landmarks)
    for stage in model.stages:
        nn.init.zeros_(stage.feature_gate.tree.norm.weight)
    torch.testing.assert_close(model(images(), poses())[0].landmarks, model(images(), poses().flip(0))[0].landmarks)


def test_landmarks_teach_the_pose_network_nothing_and_pose_labels_teach_nothing_else():
    model = build()
    tree_moe_loss(model(images()), truth()).backward()
    assert gradient(model.pose_network) == 0 < gradient(model.stages[1].feature_gate)
    model.zero_grad()
    tree_moe_loss(model(images()), truth(), poses(), pose_weight=1.0).backward()
    assert gradient(model.pose_network) > 0


def test_patches_are_cut_without_a_gradient_to_their_places():
    """The last stage's step is no reason for the first stage to move its patches."""
    model = build()
    outputs = model(images(), poses())
    (outputs[1].landmarks - outputs[0].landmarks).sum().backward()
    assert gradient(model.stages[0]) == 0 < gradient(model.stages[1])


def test_loss_by_hand():
    """Two stages off by (3, 4) and (0, 1) pixels everywhere, a box of 12 x 12, a pose off by 45 degrees in one angle of three."""
    true, empty = MEAN[None], torch.ones(1, 1)
    pose = torch.tensor([[45.0, 0.0, 0.0]])
    off = (torch.tensor([3.0, 4.0]), torch.tensor([0.0, 1.0]))
    outputs = [StageOutput(true + step, (true + step)[:, None], empty, empty, torch.zeros(1, 3)) for step in off]
    assert tree_moe_loss(outputs, true).item() == pytest.approx((25 + 1) / 144)
    assert tree_moe_loss(outputs, true, pose, pose_weight=0.3).item() == pytest.approx(26 / 144 + 0.3 / 3)


def test_one_expert_is_an_ordinary_layer_without_gate_or_pose():
    model = build(feature_experts=1, regression_experts=1)
    assert model.pose_network is None
    assert all(count_parameters(stage.feature_gate) == count_parameters(stage.regression_gate) == 0 for stage in model.stages)
    assert model(images())[-1].pose.abs().max() == 0


def test_a_mean_of_small_regressors_is_one_wide_regressor():
    """Exercise 3 of the notebook: concatenate the hidden layers, divide the last weights by their number."""
    many = build(feature_experts=1, regression_experts=4, regression_gate="mean").eval()
    wide = build(feature_experts=1, regression_experts=1, hidden=20).eval()
    state = many.state_dict()
    for k in range(2):
        name = f"stages.{k}.regression_experts.last."
        state[name + "weight"] = state[name + "weight"].flatten(0, 1)[None] / 4
        state[name + "bias"] = state[name + "bias"].mean(dim=0, keepdim=True)
    wide.load_state_dict(state)
    torch.testing.assert_close(wide(images())[-1].landmarks, many(images())[-1].landmarks, rtol=1e-4, atol=1e-4)


def test_training_lowers_the_loss():
    model = build()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    losses = []
    for _ in range(40):
        optimizer.zero_grad()
        losses.append(tree_moe_loss(model(images()), truth(), poses()))
        losses[-1].backward()
        optimizer.step()
    assert losses[-1] < 0.5 * losses[0]


def test_impossible_cascades_say_what_is_allowed():
    with pytest.raises(ValueError, match="at least one stage"):
        build(spacings=())
    with pytest.raises(ValueError, match="unknown"):
        build(regression_gate="forest")
    with pytest.raises(ValueError, match="not 6"):
        build(feature_experts=6)
    with pytest.raises(ValueError, match="no pose network"):
        build(feature_experts=1).estimate_pose(images())


def test_stages_and_gates_are_those_of_the_library():
    """The gating-tree explorer finds trees by their type."""
    trees = [module for module in build().modules() if isinstance(module, Gate) and module.kind == "tree"]
    assert len(trees) == 4 and all(isinstance(stage, Stage) for stage in build().stages)


def test_the_pose_as_plain_input_reaches_the_regressors_and_no_gate():
    model = build(feature_experts=1, pose_input=True).eval()
    own, other = model(images(), poses())[0], model(images(), poses().flip(0))[0]
    assert not torch.equal(own.landmarks, other.landmarks)
    assert torch.equal(own.regression_weights, other.regression_weights)
    assert model.estimate_pose(images()).shape == (6, 3)


def test_an_informed_cascade_is_told_what_its_source_says():
    cascade = build().eval()
    told = {"true": poses(), "another": poses().roll(1, dims=0), "none": 0 * poses(), "own": cascade.estimate_pose(images())}
    for source, pose in told.items():
        found = Informed(cascade, source)(images(), poses())[-1]
        torch.testing.assert_close(found.landmarks, cascade(images(), pose)[-1].landmarks)
    with pytest.raises(ValueError, match="'nobody' is unknown"):
        Informed(cascade, "nobody")


def test_an_informed_cascade_leaves_its_pose_network_as_it_is():
    model = Informed(build(), "own")
    tree_moe_loss(model(images(), poses()), truth()).backward()
    assert gradient(model.cascade.pose_network) == 0 < gradient(model.cascade.stages)


@pytest.mark.parametrize("options", [{}, {"pose_input": True}, {"regression_gate": "mean"}])
def test_cascades_of_equal_size_differ_by_at_most_two_percent(options):
    base = {"mean_shape": 8 * torch.rand(19, 2), "size": SIZE, "patch": 8, "code": 6}
    several = TreeMoE(**base, channels=(4, 6), hidden=16)
    target = count_parameters(several)
    one = TreeMoE(**of_equal_size(target, count_parameters(several.stages[0].feature_experts), **base, **options))
    assert one.stages[0].feature_experts.experts == 1
    assert count_parameters(one) == pytest.approx(target, rel=0.02)


def test_a_mirrored_face_has_its_points_and_pose_mirrored():
    flip = markup(19).flip
    faces, pose = torch.rand(40, 1, SIZE, SIZE), 30 * torch.randn(40, 3)
    points = SIZE * torch.rand(40, 19, 2)
    found, moved, turned = mirrored(faces, points, pose, flip, torch.Generator().manual_seed(0))
    same = (found == faces).flatten(1).all(dim=1)
    assert 0 < same.sum() < 40
    assert torch.equal(moved[same], points[same]) and torch.equal(turned[same], pose[same])
    assert torch.equal(found[~same], faces[~same].flip(-1))
    assert torch.equal(turned[~same], pose[~same] * torch.tensor([-1.0, 1.0, -1.0]))
    torch.testing.assert_close(moved[~same][..., 0], SIZE - 1 - points[~same][:, flip, 0])
    assert torch.equal(moved[~same][..., 1], points[~same][:, flip, 1])


def test_both_losses_are_finite_and_teach():
    batch, flip = {"images": images(), "landmarks": truth(), "pose": poses()}, [1, 0, 2, 4, 3]
    model, network = Informed(build(), "true"), PoseNetwork(SIZE)
    for module, loss in ((model, alignment_loss(flip)), (network, pose_loss(flip))):
        loss(module, batch, torch.Generator().manual_seed(0)).backward()
        assert 0 < gradient(module) < float("inf")

"""The cascade with two gates against its limiting cases, and pose from landmarks against rotations that are known."""

import pytest
import torch

from facelab.blocks import increasing_weights, merge_attention, seeded
from facelab.markups import conversion
from facelab.methods.acdc import (
    ACDC,
    FUSIONS,
    ChannelGate,
    GeometryTransfer,
    acdc_loss,
    doubly_conditional,
    pose_from_landmarks,
)
from facelab.methods.decafa import DeCaFA

SIZE = 24


def build(**options):
    with seeded(0):
        return ACDC(**{"landmarks": 29, "channels": (4, 8)} | options)


def images(count=3, seed=0):
    return torch.rand(count, 1, SIZE, SIZE, generator=torch.Generator().manual_seed(seed))


def poses(count=3, seed=1):
    return 60 * (2 * torch.rand(count, 3, generator=torch.Generator().manual_seed(seed)) - 1)


def open_gates(model):
    """Gates at one, whatever the pose."""
    for gate in model.gates:
        torch.nn.init.zeros_(gate.last.weight)
        torch.nn.init.constant_(gate.last.bias, 50.0)
    return model


def twin(fusion):
    """A DeCaFA with the weights of an AC-DC."""
    model = open_gates(build())
    with seeded(1):
        decafa = DeCaFA(markups=(29,), stages=2, channels=(4, 8), fusion=fusion, stride=2, standardised=True)
    decafa.unets.load_state_dict(model.unets.state_dict())
    decafa.transfers.load_state_dict(model.transfers.state_dict())
    return model, decafa


@pytest.mark.parametrize("fusion", FUSIONS)
@pytest.mark.parametrize("stages", [1, 2, 3])
def test_shapes_and_ranges(fusion, stages):
    outputs = build(fusion=fusion, stages=stages)(images())
    assert len(outputs) == stages
    for output in outputs:
        assert output.maps.shape == (3, 29, SIZE // 2, SIZE // 2) and output.pose.shape == (3, 3)
        torch.testing.assert_close(output.maps.sum(dim=(2, 3)), torch.ones(3, 29), atol=1e-5, rtol=0)
        assert output.gates.min() > 0 and output.gates.max() <= 1 and output.attention.max() == 1
    assert (outputs[0].gates == 1).all() == (stages == 1 or fusion in ("none", "attention"))
    assert (outputs[0].attention == 1).all() == (fusion in ("none", "gate"))


def test_gates_at_one_are_the_fusion_of_decafa():
    model, decafa = twin("deep")
    torch.testing.assert_close(model(images())[-1].landmarks, decafa(images())[-1].landmarks[29], atol=1e-4, rtol=0)


def test_gates_and_attention_at_one_are_a_plain_stack():
    model, decafa = twin("deep")
    plain = build(fusion="none")
    plain.load_state_dict(model.state_dict())
    attention = {0: torch.ones(3, 1, SIZE // 2, SIZE // 2)}
    torch.testing.assert_close(plain(images())[-1].landmarks, decafa(images(), attention)[-1].landmarks[29], atol=1e-4, rtol=0)


def test_fusion_by_hand():
    features, gates = torch.rand(2, 3, 4, 5), torch.rand(2, 3)
    attention = merge_attention(torch.rand(2, 6, 4, 5))
    fused = doubly_conditional(features, gates, attention)
    for face, channel in ((0, 0), (1, 2)):
        torch.testing.assert_close(fused[face, channel], gates[face, channel] * attention[face, 0] * features[face, channel])


@pytest.mark.parametrize("fusion", FUSIONS)
def test_a_landmark_error_of_the_second_stage_corrects_the_pose_of_the_first_only_through_the_gate(fusion):
    model = build(fusion=fusion)
    model(images())[1].landmarks.square().sum().backward()
    gradient = model.poses[0].layers[0].weight.grad
    assert (gradient is not None and gradient.abs().sum() > 0) == (fusion in ("gate", "both"))


def test_a_told_pose_reaches_the_gates_and_nothing_of_the_first_stage():
    model = build()
    own, told = model(images()), model(images(), poses())
    assert torch.equal(own[0].landmarks, told[0].landmarks) and torch.equal(own[0].pose, told[0].pose)
    torch.testing.assert_close(told[0].gates, model.gates[0](poses()))
    assert not torch.allclose(own[1].landmarks, told[1].landmarks)
    torch.testing.assert_close(model(images(), own[0].pose)[1].landmarks, own[1].landmarks)


def test_a_fresh_gate_is_more_open_than_closed_and_moves_with_the_pose():
    with seeded(0):
        gate = ChannelGate(64)
    gates = gate(torch.tensor([[-80.0, 0, 0], [0, 0, 0], [80.0, 0, 0]]))
    assert gates[1].mean() > 0.6
    assert gates.std(dim=0).mean() > 0.1
    assert sum(p.numel() for p in ChannelGate(16, 16).parameters()) == 336


def test_loss_by_hand_and_with_missing_labels():
    outputs = build()(images())
    true, pose, size = torch.rand(3, 29, 2) * SIZE, poses(), torch.full((3,), 20.0)
    expected = sum(
        weight * ((o.landmarks - true).abs().sum(dim=(1, 2)) / (29 * 20)).mean() + weight * (o.pose - pose).abs().mean() / 90
        for weight, o in zip(increasing_weights(2), outputs, strict=True)
    )
    torch.testing.assert_close(acdc_loss(outputs, true, pose, size), expected)
    nothing = torch.full_like(true, float("nan"))
    some = torch.cat([true[:1], nothing[1:]])
    one = [type(o)(*(value[:1] for value in o)) for o in outputs]
    labelled = acdc_loss(one, true[:1], pose[:1], size[:1], pose_weight=0.0)
    torch.testing.assert_close(acdc_loss(outputs, some, pose, size, pose_weight=0.0), labelled)
    assert acdc_loss(outputs, nothing, torch.full_like(pose, float("nan")), size) == 0
    assert acdc_loss(outputs, nothing, pose, size) > 0


def test_transfer_with_a_selection_gives_the_derived_mark_up_exactly():
    transfer, matrix = GeometryTransfer(68, 29), torch.as_tensor(conversion(68, 29)).float()
    with torch.no_grad():
        transfer.linear.weight.copy_(torch.kron(matrix, torch.eye(2)))
        transfer.linear.bias.zero_()
    landmarks = 40 * torch.rand(4, 68, 2)
    torch.testing.assert_close(transfer(landmarks), matrix @ landmarks, atol=1e-4, rtol=0)


def test_transfer_follows_shift_and_scale():
    with seeded(0):
        transfer = GeometryTransfer(5, 19)
    torch.nn.init.normal_(transfer.correction[-1].weight)
    landmarks = torch.rand(2, 5, 2)
    torch.testing.assert_close(transfer(30 * landmarks + 7), 30 * transfer(landmarks) + 7, atol=1e-3, rtol=0)


def rotation(yaw, pitch, roll):
    """First pitch, then yaw, then roll, as turns of the axes."""
    (cy, cp, cr), (sy, sp, sr) = (f(torch.deg2rad(torch.stack([yaw, pitch, roll]))) for f in (torch.cos, torch.sin))
    zero, one = torch.zeros_like(yaw), torch.ones_like(yaw)
    turn = torch.stack([cy, zero, sy, zero, one, zero, -sy, zero, cy]).view(3, 3)
    nod = torch.stack([one, zero, zero, zero, cp, sp, zero, -sp, cp]).view(3, 3)
    tilt = torch.stack([cr, sr, zero, -sr, cr, zero, zero, zero, one]).view(3, 3)
    return tilt @ turn @ nod


@pytest.mark.parametrize("angles", [(0, 0, 0), (40, 0, 0), (0, 20, 0), (0, 0, 15), (-70, 20, -15), (85, -25, 10)])
def test_closed_form_recovers_a_rotation_from_weak_perspective(angles):
    angles = torch.tensor(angles, dtype=torch.float64)
    shape = torch.randn(20, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    turned = shape @ rotation(*angles).T
    landmarks = 12 * turned[None, :, :2] * torch.tensor([1.0, -1.0]) + 24
    torch.testing.assert_close(pose_from_landmarks(landmarks, shape)[0], angles, atol=1e-4, rtol=0)


def test_what_cannot_be_is_refused():
    with pytest.raises(ValueError, match="fusion"):
        ACDC(fusion="pose")
    with pytest.raises(ValueError, match="stage"):
        ACDC(stages=0)
    flat = torch.rand(9, 3) * torch.tensor([1.0, 1.0, 0.0])
    with pytest.raises(ValueError, match="plane"):
        pose_from_landmarks(torch.rand(1, 9, 2), flat)

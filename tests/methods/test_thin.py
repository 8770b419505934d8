"""THIN: the mixture, its limits, what the dispelling loss is and where its gradient stops."""

import math

import pytest
import torch
from torch import nn

from facelab.blocks import count_parameters, seeded
from facelab.methods.thin import THIN, ExogenousNetwork, dispelling_loss, encoder, readings, thin_loss, training_loss
from facelab.training import fit

GATES = ("mean", "endogenous", "exogenous")


@pytest.fixture
def images():
    return torch.randn(12, 1, 14, 14, generator=torch.Generator().manual_seed(0))


def network(gate="exogenous", **options):
    with seeded(0):
        return THIN(14, 5, ExogenousNetwork(14, 8, code=6), gate, code=6, **({"experts": 4, "hidden": 3} | options))


@pytest.mark.parametrize("size", [8, 13, 14])
def test_encoder_of_any_side(size):
    assert encoder(size, (2, 3), code=5)(torch.randn(4, 1, size, size)).shape == (4, 5)


@pytest.mark.parametrize("gate", GATES)
def test_mixture_of_logits_by_hand(images, gate):
    model = network(gate).eval()
    output = model(images)
    by_hand = sum(output.weights[:, leaf, None] * output.expert_logits[:, leaf] for leaf in range(4))
    assert torch.allclose(output.logits, by_hand, atol=1e-5)
    assert torch.allclose(output.weights.sum(dim=1), torch.ones(12), atol=1e-5)
    assert torch.equal(output.exogenous, model.exogenous.encoder(images))


def test_mean_gate_is_the_mean_of_logits(images):
    output = network("mean").eval()(images)
    assert torch.allclose(output.logits, output.expert_logits.mean(dim=1), atol=1e-6)


def test_one_leaf_is_one_expert(images):
    model = network().eval()
    with model.gate.tree.only(2):
        output = model(images)
    assert torch.allclose(output.logits, output.expert_logits[:, 2], atol=1e-6)


def test_only_the_exogenous_gate_listens_to_another_code(images):
    for gate in GATES:
        model = network(gate).eval()
        own = model(images)
        swapped = model(images, own.exogenous.roll(1, dims=0))
        assert torch.allclose(own.logits, swapped.logits) == (gate != "exogenous")
        assert torch.allclose(own.expert_logits, swapped.expert_logits), "experts read z alone"
    model = network("mean", experts=1, concatenate=True).eval()
    own = model(images)
    assert not torch.allclose(own.logits, model(images, own.exogenous.roll(1, dims=0)).logits)


def test_the_task_leaves_the_exogenous_network_alone(images):
    model = network()
    sum(thin_loss(model(images), torch.arange(12) % 5, model.exogenous.head, 0.5).values()).backward()
    assert all(parameter.grad is None for parameter in model.exogenous.parameters())
    assert all(parameter.grad is not None for parameter in model.encoder.parameters())
    assert all(parameter.grad is not None for parameter in model.gate.parameters())


def test_gradient_of_dispelling_reaches_z_alone():
    """Even where head and v could learn."""
    head, z, v = nn.Linear(6, 8), torch.randn(5, 6, requires_grad=True), torch.randn(5, 6, requires_grad=True)
    dispelling_loss(head, z, v).backward()
    assert z.grad.abs().sum() > 0
    assert v.grad is None and head.weight.grad is None and head.bias.grad is None


@pytest.mark.parametrize("factor", [1.0, -3.0, 0.01])
def test_dependent_readings_cost_one(factor):
    """Of either sign and any length: a reading turned round still tells everything."""
    v = torch.randn(5, 8)
    v -= v.mean(dim=1, keepdim=True)
    assert dispelling_loss(nn.Identity(), factor * v, v) == pytest.approx(1, abs=1e-5)


def test_orthogonal_readings_cost_nothing_though_all_is_there():
    """A quarter turn of three centred logits: orthogonal to what it was, and a one-to-one function of it."""
    v = torch.randn(20, 3)
    v -= v.mean(dim=1, keepdim=True)
    turned = (torch.roll(v, 1, dims=1) - torch.roll(v, -1, dims=1)) / math.sqrt(3)
    assert dispelling_loss(nn.Identity(), turned, v) == pytest.approx(0, abs=1e-5)
    back = (torch.roll(turned, -1, dims=1) - torch.roll(turned, 1, dims=1)) / math.sqrt(3)
    assert torch.allclose(back, v, atol=1e-5)


def test_an_offset_of_all_logits_changes_nothing():
    z, v = torch.randn(5, 8), torch.randn(5, 8)
    assert dispelling_loss(nn.Identity(), z + 7, v - 3) == pytest.approx(dispelling_loss(nn.Identity(), z, v).item(), abs=1e-4)
    for reading in readings(nn.Linear(8, 4), z, v):
        assert torch.allclose(reading.mean(dim=1), torch.zeros(5), atol=1e-5)


def test_dispelling_finds_no_slope_at_zero_length():
    z = torch.zeros(3, 8, requires_grad=True)
    dispelling_loss(nn.Identity(), z, torch.randn(3, 8)).backward()
    assert torch.isfinite(z.grad).all()


def test_single_head_of_equal_size_is_the_mean(images):
    """The mean of the logits of L experts is one head that is L times as wide."""
    many, one = network("mean").eval(), network("mean", experts=1, hidden=12).eval()
    with torch.no_grad():
        one.encoder.load_state_dict(many.encoder.state_dict())
        one.experts.first.load_state_dict(many.experts.first.state_dict())
        one.experts.norm.load_state_dict(many.experts.norm.state_dict())
        one.experts.last.weight.copy_(many.experts.last.weight.reshape(1, 12, 5) / 4)
        one.experts.last.bias.copy_(many.experts.last.bias.mean(dim=0, keepdim=True))
    assert torch.allclose(one(images).logits, many(images).logits, atol=1e-5)


def test_training_lowers_the_loss_and_the_cosine(images):
    model = network()
    labels = torch.arange(12) % 5
    data = {"images": images, "labels": labels, "v": model.exogenous.encoder(images).detach()}
    before = dispelling_loss(model.exogenous.head, model.eval()(images).endogenous, data["v"])
    history = fit(model.train(), training_loss("v", 1.0), data, steps=80, batch_size=12, learning_rate=0.02, device="cpu", progress=False)
    after = dispelling_loss(model.exogenous.head, model(images).endogenous, data["v"])
    assert history.loss[-1] < 0.5 * history.loss[0]
    assert after < 0.6 * before


def test_refuses_what_it_does_not_know():
    with pytest.raises(ValueError, match="exogenous"):
        network("pose")
    with pytest.raises(ValueError, match="2, 4, 8"):
        network(experts=6)
    assert count_parameters(network()) < count_parameters(network(concatenate=True))

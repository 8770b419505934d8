"""The noise of labels, the levels of a weight, networks in few bits with residuals, groups and depth, integer layers, early stopping."""

import math

import own_networks
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from facelab.blocks import seeded
from facelab.blocks.quantisation import InputQuantisation, quantise, scale_of, uniform_grid
from facelab.methods.qat_noise import (
    EarlyStopped,
    NoisyLabels,
    cross_entropy,
    expected_wrong,
    integer_layer,
    learnt,
    quantised,
    rounded_weight,
    with_noise,
)
from facelab.networks.folding import folded
from facelab.training import fit


def net(seed=0, wide=16):
    with seeded(seed):
        return nn.Sequential(nn.Linear(6, wide), nn.ReLU(), nn.Linear(wide, 3))


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_a_share_of_the_labels_is_drawn_anew_and_the_true_class_may_be_drawn():
    labels = torch.arange(20_000) % 10
    for share in (0.0, 0.4, 1.0):
        noisy = with_noise(labels, share, classes=10)
        assert torch.equal(noisy.wrong, noisy.given != labels)
        assert float(noisy.wrong.float().mean()) == pytest.approx(expected_wrong(share, 10), abs=0.01)
    assert torch.equal(with_noise(labels, 0.4, 10, seed=3).given, with_noise(labels, 0.4, 10, seed=3).given)
    less, more = (with_noise(labels, share, 10) for share in (0.2, 0.6))
    assert torch.equal(more.given[less.wrong], less.given[less.wrong]), "noise only grows"
    with pytest.raises(ValueError, match=r"share of 1\.5"):
        with_noise(labels, 1.5, 10)


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
def test_a_weight_lies_on_the_even_grid_of_its_channel(bits):
    weight, n = normal(7, 5, 3, 3), 2 ** (bits - 1) - 1
    weight[3] = 0
    found = rounded_weight(weight, bits)
    largest = scale_of(weight, axis=0)
    codes = n * found / largest.clamp_min(1e-8)
    assert torch.allclose(codes, codes.round(), atol=1e-4)
    assert float(codes.abs().max()) == pytest.approx(n, rel=1e-5)
    assert torch.allclose(found, quantise(weight, uniform_grid(bits), largest), atol=1e-6), "the general rounding agrees"
    assert torch.allclose(rounded_weight(found, bits), found, atol=1e-6), "rounding again changes nothing"
    assert float((found - weight).abs().max()) <= float(largest.max()) / (2 * n) + 1e-6
    assert not found[3].any()


def test_no_grid_of_one_bit():
    with pytest.raises(ValueError, match="no grid of 1 bits"):
        rounded_weight(normal(2, 3), 1)


def test_the_gradient_is_that_of_the_float_layer_at_the_rounded_weight():
    layer = nn.Linear(5, 4)
    rough, x = quantised(layer, 3, inputs=False), normal(6, 5)
    rough(x).square().sum().backward()
    weight = rounded_weight(layer.weight.detach(), 3).requires_grad_()
    F.linear(x, weight, layer.bias.detach()).square().sum().backward()
    assert torch.allclose(rough.parametrizations.weight.original.grad, weight.grad, atol=1e-5)


def test_sixteen_bits_are_float_and_errors_of_inputs_are_uniform():
    model, x = net(), normal(40, 6)
    assert torch.allclose(quantised(model, 16)(x), model(x), atol=1e-3)
    values = torch.rand(20_000, generator=torch.Generator().manual_seed(0)) * 2 - 1
    error = InputQuantisation(uniform_grid(4))(values) - values
    assert float(error.std()) == pytest.approx(1 / (7 * math.sqrt(12)), rel=0.03)


@pytest.mark.parametrize("bits", [2, 4, 8])
def test_integers_give_what_rounded_numbers_give(bits):
    with seeded(1):
        layer = nn.Linear(12, 5)
    rounding, own = quantised(layer, bits)
    x = normal(30, 12)
    nn.Sequential(rounding, own).train()(x)
    rounding.eval()
    assert torch.allclose(integer_layer(layer, rounding, x, bits), own(rounding(x)), atol=1e-5)
    assert torch.allclose(integer_layer(own, rounding, x, bits), own(rounding(x)), atol=1e-5), "rounded before"


@pytest.mark.parametrize("bits", [2, 3, 4])
def test_integers_agree_where_a_weight_lies_on_a_step_or_inputs_have_bits_of_their_own(bits):
    layer, n = nn.Linear(5, 1), 2 ** (bits - 1) - 1
    layer.weight.data = torch.tensor([[1.0, 0.5 / n, 1.5 / n, -0.5 / n, 0.25]])
    own, rounding, x = quantised(layer, bits, inputs=False), InputQuantisation(uniform_grid(8)), normal(9, 5)
    rounding.train()(x)
    rounding.eval()
    for given in (layer, own):
        assert torch.allclose(integer_layer(given, rounding, x, bits), own(rounding(x)), atol=1e-5)


@pytest.mark.parametrize("inputs", [True, False])
def test_residuals_depth_and_batch_norms(inputs):
    model = own_networks.mobile() if inputs else own_networks.attentive()  # torch's encoder looks for the weights of its layers
    x = normal(4, 3, 16, 16, seed=1)
    flat = folded(model, x)
    assert torch.allclose(quantised(flat, 16, inputs=inputs)(x), flat(x), atol=1e-2)
    rough = quantised(flat, 3, inputs=inputs)(x)
    assert torch.isfinite(rough).all()
    assert not torch.allclose(rough, flat(x), atol=1e-3)


def test_the_loss_goes_down_in_two_bits_and_smoothing_lifts_its_floor():
    x = normal(60, 6)
    data = {"images": x, "labels": (x[:, 0] > 0).long()}
    model = quantised(net(), 2, inputs=False)
    history = fit(model, cross_entropy(), data, steps=80, learning_rate=1e-2, progress=False)
    assert sum(history.loss[-5:]) < 0.7 * sum(history.loss[:5])
    batch, sure = {"images": torch.zeros(1, 6), "labels": torch.tensor([0])}, lambda images: torch.tensor([[9.0, 0.0, 0.0]])
    assert cross_entropy(0.3)(sure, batch, None) > cross_entropy()(sure, batch, None)


def test_early_stopping_keeps_the_best_weights_and_answers_with_them():
    x = normal(40, 6)
    given = (x[:, 0] > 0).long()
    model = EarlyStopped(net(), x, given, every=1)
    with torch.no_grad():
        reached = []
        for step in range(1, 6):
            model.network[2].bias.copy_(normal(3, seed=step))
            EarlyStopped.keep(model, step)
            reached.append(float((model.network(x).argmax(dim=1) == given).float().mean()))
        assert float(model.accuracy) == pytest.approx(max(reached))
        assert float((model.eval()(x).argmax(dim=1) == given).float().mean()) == pytest.approx(max(reached))
        assert torch.equal(model.train()(x), model.network(x))


def test_early_stopping_trains_on_what_is_not_held_out():
    x = normal(10, 6)
    batch = {"images": x, "labels": torch.arange(10) % 3, "held": torch.arange(10) < 4}
    rest = {"images": x[4:], "labels": batch["labels"][4:]}
    assert torch.allclose(EarlyStopped.loss(net(), batch, torch.Generator()), cross_entropy()(net(), rest, None))


def test_what_was_learnt_is_counted_for_right_and_for_wrong_labels():
    noisy = NoisyLabels(torch.tensor([0, 1, 1, 0]), torch.tensor([False, False, True, False]))
    scores = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [1.0, 0.0]])
    found = learnt(nn.Identity(), scores, noisy)
    assert found["right"] == pytest.approx(200 / 3)
    assert found["wrong"] == 100
    assert learnt(nn.Identity(), scores, NoisyLabels(noisy.given, torch.zeros(4, dtype=torch.bool)))["wrong"] == 0

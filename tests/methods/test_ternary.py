"""Closed forms of the operators, their limiting cases, and networks made ternary in the three scenarios."""

import math

import own_networks
import pytest
import torch
from torch import nn

from facelab.blocks.quantisation import quantise, scale_of, uniform_grid, with_rounded_weights
from facelab.methods.ternary import (
    OPERATORS,
    Cells,
    calibrated,
    chosen_layers,
    compress,
    errors,
    full_level,
    gain,
    lloyd,
    mquant,
    operator,
    refined,
    student,
    ternary,
    wide_zero,
    with_gain,
)


def rows(channels=7, n=300, seed=0, power=1.0):
    drawn = torch.randn(channels, n, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return drawn.sign() * drawn.abs() ** power


def net(seed=0):
    torch.manual_seed(seed)
    layers = nn.Conv2d(1, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 3, groups=8), nn.ReLU()
    return nn.Sequential(*layers, nn.Conv2d(8, 8, 3, stride=2, groups=2), nn.Flatten(), nn.Linear(32, 4)).eval()


@pytest.mark.parametrize("name", OPERATORS)
def test_signs_and_scales_come_back(name):
    weight = rows()
    found = ternary(weight, name)
    assert torch.allclose(ternary(3 * weight, name), 3 * found)
    assert all(len(row.unique()) <= 3 for row in found)
    if name != "MQuant, skewed":
        assert torch.equal(ternary(-weight, name), -found)
    assert torch.equal(ternary(torch.zeros(2, 5), name), torch.zeros(2, 5))


def test_tquant_is_the_smallest_largest_error():
    weight = torch.linspace(-1, 1, 3001, dtype=torch.float64)[None]
    assert errors(weight, ternary(weight, "TQuant"))["largest"] == pytest.approx(1 / 3, abs=1e-3)
    assert errors(weight, ternary(weight, "naive"))["largest"] == pytest.approx(1 / 2, abs=1e-3)
    for threshold in (0.2, 0.3, 0.4, 0.5):
        for level in (0.5, 0.6, 0.7, 1.0):
            other = Cells(*(torch.tensor([[value]], dtype=torch.float64) for value in (-threshold, threshold, level)))
            assert errors(weight, other.rounded(weight))["largest"] >= 1 / 3 - 1e-3


def test_tquant_is_naive_rounding_with_two_thirds_of_the_scale():
    weight = rows().float()
    assert torch.allclose(ternary(weight, "TQuant"), quantise(weight, uniform_grid(2), 2 / 3 * scale_of(weight, axis=0)))
    assert torch.allclose(ternary(weight, "naive"), quantise(weight, uniform_grid(2), scale_of(weight, axis=0)))


def test_mquant_uses_all_codes_equally_often():
    weight = rows(n=300)
    codes = mquant(weight).codes(weight)
    assert ((codes == 0).sum(dim=1) - 100).abs().max() <= 1
    skewed = torch.rand(4, 300, generator=torch.Generator().manual_seed(1)) ** 3 - 0.1
    codes = OPERATORS["MQuant, skewed"](skewed).codes(skewed)
    assert all(((codes == code).sum(dim=1) - 100).abs().max() <= 1 for code in (-1, 0, 1))
    assert errors(weight, ternary(weight, "MQuant"))["bits"] == pytest.approx(math.log2(3), abs=0.02)


def test_gaussian_weights_have_the_constants_of_the_textbook():
    weight = rows(1, 200_000)
    cells = mquant(weight)
    assert float(cells.high) == pytest.approx(0.4307, abs=0.01) and float(cells.level) == pytest.approx(1.091, abs=0.01)
    assert float(lloyd(weight).high) == pytest.approx(0.6120, abs=0.01)  # half of 1.2240 (Max 1960)


def test_even_weights_make_three_operators_one():
    weight = torch.linspace(-1, 1, 6000, dtype=torch.float64)[None]
    for name in ("MQuant", "Lloyd"):
        cells, tquant = operator(name)(weight), operator("TQuant")(weight)
        assert torch.allclose(cells.high, tquant.high, atol=1e-3) and torch.allclose(cells.level, tquant.level, atol=1e-3)


@pytest.mark.parametrize("power", [0.3, 1.0, 2.5])
def test_nothing_has_less_square_error_than_lloyd(power):
    weight = rows(power=power)
    best = (weight - ternary(weight, "Lloyd")).square().sum(dim=1)
    for name in set(OPERATORS) - {"MQuant, skewed"}:
        assert ((weight - ternary(weight, name)).square().sum(dim=1) >= best - 1e-9).all()


def test_least_squares_shrink_and_the_gain_comes_back():
    weight = rows()
    lost = (weight - ternary(weight, "Lloyd")).square().sum(dim=1) / weight.square().sum(dim=1)
    assert torch.allclose(gain(weight, ternary(weight, "Lloyd")), 1 - lost)
    for name in ("naive", "MQuant"):
        restored = ternary(weight, with_gain(name))
        assert torch.allclose(gain(weight, restored), torch.ones(7, dtype=torch.float64))
        assert torch.equal(restored.sign(), ternary(weight, name).sign())
    assert torch.equal(ternary(torch.zeros(2, 4), with_gain("naive")), torch.zeros(2, 4))


def test_controls_lack_one_thing():
    weight = rows()
    assert torch.equal(ternary(weight, full_level("MQuant")).sign(), ternary(weight, "MQuant").sign())
    assert torch.allclose(ternary(weight, full_level("MQuant")).abs().amax(dim=1), weight.abs().amax(dim=1))
    assert errors(weight, ternary(weight, wide_zero))["largest"] > 0.6


def test_gradients_go_straight_through():
    weight = rows().requires_grad_()
    target = rows(seed=1)
    (ternary(weight, "MQuant") * target).sum().backward()
    assert torch.equal(weight.grad, target)


def test_one_outlier_moves_the_cells_of_tquant_only():
    weight = rows()
    hit = weight.clone()
    hit[:, 0] *= 20
    others = [float((ternary(hit, name)[:, 1:] == 0).double().mean() - (ternary(weight, name)[:, 1:] == 0).double().mean()) for name in
              ("TQuant", "MQuant")]  # fmt: skip
    assert others[0] > 0.2 and abs(others[1]) < 0.01


def test_a_network_without_data():
    model, x = net(), torch.rand(5, 1, 8, 8)
    small, report = compress(model, x, "TQuant")
    assert list(report.layer) == chosen_layers(small) and len(report) == 4
    assert small(x).shape == model(x).shape and not isinstance(small[1], nn.BatchNorm2d)
    for layer in report.layer:
        assert all(len(row.unique()) <= 3 for row in small.get_submodule(layer).weight.flatten(1))
    _, outer = compress(model, x, "TQuant", share=0.5)
    assert set(outer.layer) == {"5", "7"}  # those with most weights
    _, inner = compress(model, x, "TQuant", layers=chosen_layers(model)[1:-1])
    assert list(inner.layer) == chosen_layers(model)[1:-1] and len(inner) == 2


@pytest.mark.parametrize("model", [net(), own_networks.mobile(), own_networks.attentive()], ids=["groups", "mobile", "attentive"])
@pytest.mark.parametrize("name", ["naive", "MQuant"])
def test_data_never_make_an_output_worse(model, name):
    x = torch.rand(40, 1, 8, 8) if isinstance(model, nn.Sequential) else own_networks.loaders()[0][0][0]
    found = calibrated(model, x, name)
    assert found(x[:3]).shape == model(x[:3]).shape


def test_the_first_layer_is_nearer_with_data():
    torch.manual_seed(3)
    model, x = nn.Sequential(nn.Linear(20, 30)).eval(), torch.rand(200, 6) @ torch.rand(6, 20)
    off = {}
    for name, made in {"without": compress(model, x, "TQuant")[0], "with": calibrated(model, x, "TQuant")}.items():
        off[name] = float((made(x) - model(x)).detach().square().mean())
    assert off["with"] < 0.3 * off["without"]
    assert all(len(row.unique()) <= 3 for row in calibrated(model, x, "TQuant")[0].weight)
    assert torch.allclose(calibrated(model, x, "TQuant")(x).mean(dim=0), model(x).mean(dim=0), atol=1e-4)


def test_refinement_lowers_the_error_from_any_start():
    weight, drawn = rows(5, 30), rows(60, 30, seed=2)
    covariance = drawn.T @ drawn / len(drawn)
    for name in OPERATORS:
        start, found = (weight - ternary(weight, name)), weight - refined(weight, operator(name)(weight), covariance)
        assert (((found @ covariance) * found).sum(dim=1) <= ((start @ covariance) * start).sum(dim=1) + 1e-9).all()


def test_a_network_that_trains_behind_its_rounding():
    x = torch.rand(16, 1, 8, 8)
    learner = student(net(), x[:2], "MQuant")
    assert torch.allclose(learner.eval()(x), compress(net(), x[:2], "MQuant")[0](x), atol=1e-6)
    nn.functional.cross_entropy(learner(x), torch.arange(16) % 4).backward()
    assert all(parameter.grad is not None for parameter in learner.parameters())
    stored = with_rounded_weights(learner.eval())
    assert torch.allclose(stored(x), learner(x))


def test_what_is_refused():
    with pytest.raises(ValueError, match="choose one of naive"):
        ternary(torch.ones(2, 2), "best")
    with pytest.raises(ValueError, match="share=0"):
        compress(net(), torch.rand(2, 1, 8, 8), share=0)
    with pytest.raises(ValueError, match="no linear layer"):
        chosen_layers(nn.ReLU())

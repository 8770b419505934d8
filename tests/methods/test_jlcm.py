"""Closed forms of groups, codebooks and gradients, a planted truth, and networks that keep their function when neurons change places."""

import numpy as np
import own_networks
import pytest
import torch
from torch import nn

from facelab.compression.packing import encoded
from facelab.methods.jlcm import (
    Moments,
    alike,
    coded,
    compress,
    fitted,
    grouped,
    learned,
    nearest,
    ordinary,
    output_errors,
    proximal,
    pulls,
    quantiles,
)
from facelab.networks.evaluation import answers, same_answers
from facelab.networks.folding import folded

EXAMPLE = own_networks.loaders()[1][0][0]


def drawn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def moments(rows, seed=1):
    whole = drawn(1, 90, 6, seed=seed) @ drawn(6, rows.shape[1], seed=2)
    return Moments.of(rows, whole, whole + 0.1 * drawn(*whole.shape, seed=3)), whole


def one_group(rows):
    return torch.zeros(len(rows), dtype=torch.long)


def net():
    torch.manual_seed(0)
    layers = nn.Conv2d(1, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 3, groups=8), nn.ReLU()
    return nn.Sequential(*layers, nn.Conv2d(8, 12, 3, stride=2), nn.ReLU(), nn.Flatten(), nn.Linear(48, 4)).eval()


def test_a_planted_truth_is_found():
    books = torch.tensor([[-0.1, 0.0, 0.1], [-3.0, 1.0, 2.0]], dtype=torch.float64)
    truth = torch.as_tensor(np.random.default_rng(0).permutation(np.repeat([0, 1], 12)))
    rows = books[truth].gather(1, torch.randint(3, (24, 60), generator=torch.Generator().manual_seed(0)))
    group = alike(quantiles(rows), 2)
    np.testing.assert_array_equal(group, truth)
    torch.testing.assert_close(nearest(rows, torch.as_tensor(group), 3).weights, rows)
    assert (nearest(rows, one_group(rows), 3).weights - rows).abs().max() > 0.05


def test_more_codebooks_cannot_be_worse_and_enough_codewords_lose_nothing():
    rows = drawn(12, 20) * torch.linspace(0.1, 3, 12, dtype=torch.float64)[:, None]
    lost = [
        (rows - nearest(rows, group, 4).weights).square().sum() for group in (one_group(rows), torch.as_tensor(alike(quantiles(rows), 4)))
    ]
    assert lost[1] < lost[0]
    few = rows.sign()
    mapping = nearest(few, one_group(few), 5)
    torch.testing.assert_close(mapping.weights, few)
    assert mapping.codebooks.shape == (1, 5)


def test_the_rewritten_gradient_keeps_signs_and_falls_with_distance():
    delta, offsets = torch.tensor([2.0, -1.0]), torch.tensor([[-1.0, 0.0, 1.0, 2.5], [-1.0, 0.0, 1.0, 2.5]])
    old, new = pulls(delta, offsets, ordinary), pulls(delta, offsets, proximal)
    assert torch.equal(old, delta[:, None] * offsets)  # the straight-through gradient of delta * codeword, but for a shift
    assert torch.equal(old.sign(), new.sign()) and (new[:, 1] == 0).all()
    assert (new[:, 2].abs() > new[:, 3].abs()).all() and (old[:, 2].abs() < old[:, 3].abs()).all()


def test_the_moments_know_the_error_and_its_gradient():
    rows, found = drawn(4, 10), drawn(4, 10, seed=5).requires_grad_()
    known, whole = moments(rows)
    met = whole + 0.1 * drawn(*whole.shape, seed=3)
    lost = (whole[0] @ rows.T - met[0] @ found.T).square().sum() / 90
    lost.backward()
    lost = lost.detach()
    torch.testing.assert_close(known.gradient(found.detach()), found.grad)
    assert known.error(found.detach()) == pytest.approx(float(lost) / float((whole[0] @ rows.T).square().sum() / 90))


@pytest.mark.parametrize("parts", [1, 2])
def test_codebooks_alone_are_the_minimum(parts):
    rows, whole = drawn(6, 10), drawn(parts, 90, 10, seed=1)
    known = Moments.of(rows, whole, whole + 0.1 * drawn(*whole.shape, seed=3))  # of a convolution of so many groups
    start = nearest(rows, torch.tensor([0, 1, 1, 0, 0, 1]), 3)
    found = fitted(start, known)
    assert torch.equal(found.codes, start.codes)
    slope = torch.zeros(6, dtype=torch.float64).index_add_(
        0, (3 * found.group[:, None] + found.codes).flatten(), known.gradient(found.weights).flatten()
    )
    torch.testing.assert_close(slope, torch.zeros_like(slope), atol=1e-9, rtol=0)
    assert known.error(found.weights) < known.error(start.weights)


def test_a_codeword_that_nobody_uses_does_no_harm():
    rows = drawn(6, 10).sign()
    known, _ = moments(rows)
    assert fitted(nearest(rows, one_group(rows), 4), known).codebooks.isfinite().all()


@pytest.mark.parametrize("pull", [ordinary, proximal])
def test_learning_is_never_worse_than_its_start(pull):
    rows = drawn(8, 12)
    known, _ = moments(rows)
    start = nearest(rows, torch.arange(8) // 4, 8)
    found, history = learned(rows, start, known, pull, steps=60)
    assert known.error(found.weights) < known.error(start.weights) == pytest.approx(history.errors[0])
    assert history.jumps


def test_ordinary_gradients_jump_and_proximal_ones_step():
    rows = drawn(16, 24)
    known, _ = moments(rows)
    start = nearest(rows, one_group(rows), 16)
    jumps = {pull: np.mean(learned(rows, start, known, pull, rate=0.3)[1].jumps) for pull in (ordinary, proximal)}
    assert jumps[ordinary] > 1.3 > 1.05 > jumps[proximal]


@pytest.mark.parametrize("model", [net(), own_networks.mobile(), own_networks.attentive()], ids=["depthwise", "mobile", "attentive"])
def test_the_network_computes_the_same_in_another_order(model):
    x = torch.rand(4, 1, 8, 8) if isinstance(model, nn.Sequential) else EXAMPLE
    whole, group = grouped(model, x, 3)
    assert same_answers(answers(whole, x), answers(folded(model, x), x))
    assert max(int(own.max()) for own in group.values()) == 2
    for name, own in group.items():
        assert len(own) == len(whole.get_submodule(name).weight) and (own.diff() >= 0).all()  # groups are contiguous


@pytest.mark.parametrize("groups", [1, 3, None])
def test_a_compressed_network_has_few_values_in_each_group(groups):
    x = torch.rand(30, 1, 8, 8)
    small, report = compress(net(), x, 2, groups, steps=10)
    assert small(x).shape == (30, 4) and not isinstance(small[1], nn.BatchNorm2d)
    assert list(report.layer) == ["0", "3", "5", "8"] and (report.output_error < 1).all()
    for layer, count in zip(report.layer, report.groups, strict=True):
        weight = small.get_submodule(layer).weight.detach().numpy()
        assert len(np.unique(weight)) <= 2 * count
        assert encoded(weight.repeat(60, axis=1))[1]["bits"] == 1  # stored in as many bits, where there are enough weights


def test_learning_brings_outputs_nearer():
    torch.manual_seed(1)
    model, x = nn.Sequential(nn.Linear(20, 30)).eval(), torch.rand(200, 6) @ torch.rand(6, 20)
    off = [
        float((compress(model, x, 2, 1, learn=name)[0](x) - model(x)).detach().square().mean())
        for name in ("nearest", "codebooks", "proximal", proximal)
    ]
    assert off[3] == off[2] < off[1] < off[0]


def test_errors_of_outputs_are_those_of_the_report_on_the_same_inputs():
    x = torch.rand(30, 1, 8, 8)
    whole, group = grouped(net(), x, 2)
    small, report = coded(whole, group, x, 4, steps=5)
    assert output_errors(whole, small, x) == pytest.approx(dict(zip(report.layer, report.output_error, strict=True)), rel=1e-4)


def test_what_is_refused():
    x = torch.rand(2, 1, 8, 8)
    with pytest.raises(ValueError, match="choose one of nearest"):
        compress(net(), x, learn="magic")
    with pytest.raises(ValueError, match="codebook of 1 codewords"):
        compress(net(), x, 1)
    with pytest.raises(ValueError, match="by 'name'"):
        grouped(net(), x, by="name")
    with pytest.raises(ValueError, match="no linear layer"):
        compress(nn.ReLU(), x)

"""Layers, their cost, tied channels and folding, on networks counted by hand."""

from dataclasses import dataclass

import pytest
import torch
from torch import nn

from facelab.blocks import seeded
from facelab.networks.evaluation import answers
from facelab.networks.folding import folded
from facelab.networks.layers import layers, overlooked
from facelab.networks.surgery import pruned
from facelab.networks.ties import groups


class Residual(nn.Module):
    """Stem, one residual block, classifier; a batch norm after each convolution."""

    def __init__(self):
        super().__init__()
        self.unused = nn.Linear(2, 2)
        self.head = nn.Linear(6, 3)  # defined first, executed last
        self.stem, self.inner, self.outer = nn.Conv2d(1, 6, 3, padding=1), nn.Conv2d(6, 4, 3, padding=1), nn.Conv2d(4, 6, 3, padding=1)
        self.norms = nn.ModuleList([nn.BatchNorm2d(6), nn.BatchNorm2d(4), nn.BatchNorm2d(6)])

    def forward(self, x):
        x = self.norms[0](self.stem(x)).relu()
        x = x + self.norms[2](self.outer(self.norms[1](self.inner(x)).relu()))
        return self.head(x.relu().mean(dim=(2, 3)))


@pytest.fixture
def residual():
    with seeded(0):
        model = Residual()
        for norm in model.norms:  # statistics that folding must not lose
            norm.running_mean.uniform_(-1, 1)
            norm.running_var.uniform_(0.5, 2)
    return model


def test_layers_come_in_order_of_execution_with_their_cost(residual):
    found = layers(residual, torch.rand(2, 1, 8, 8))
    assert [layer.name for layer in found] == ["stem", "inner", "outer", "head"]
    assert [layer.depth for layer in found] == [1, 2, 3, 4]
    assert [layer.multiplies for layer in found] == [6 * 9 * 64, 4 * 6 * 9 * 64, 6 * 4 * 9 * 64, 18]
    assert [layer.parameters for layer in found] == [60, 220, 222, 21]
    assert found[0].shape_text == "6x1x3x3" and found[0].output == (6, 8, 8) and found[0].channels == 6
    assert residual.training


def test_transposed_convolution_and_a_layer_used_twice():
    up = nn.ConvTranspose2d(2, 5, 2, stride=2)
    (layer,) = layers(up, torch.rand(1, 2, 4, 4))
    assert (layer.channels, layer.multiplies, layer.output) == (5, 2 * 5 * 4 * 16, (5, 8, 8))
    twice = nn.Linear(3, 3)
    (layer,) = layers(nn.Sequential(twice, nn.ReLU(), twice), torch.rand(1, 3))
    assert layer.multiplies == 18


def test_layers_refuses_a_network_without_any():
    with pytest.raises(ValueError, match="at least one"):
        layers(nn.ReLU(), torch.rand(1, 3))


def test_summands_of_a_residual_addition_are_one_group(residual):
    assert groups(residual, torch.rand(2, 1, 8, 8)) == {"stem+outer": ("stem", "outer"), "inner": ("inner",), "head": ("head",)}
    assert residual.training and all(parameter.grad is None for parameter in residual.parameters())


def test_folding_keeps_what_is_computed_and_names_of_layers(residual):
    images = torch.rand(3, 1, 8, 8)
    fused = folded(residual, images)
    assert not [module for module in fused.modules() if isinstance(module, nn.BatchNorm2d)]
    torch.testing.assert_close(fused(images), residual.eval()(images), rtol=1e-4, atol=1e-5)
    assert [layer.name for layer in layers(fused, images)] == ["stem", "inner", "outer", "head"]
    assert isinstance(residual.norms[0], nn.BatchNorm2d)


def test_folding_refuses_an_output_that_is_also_used_without_its_norm():
    class Both(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer, self.norm = nn.Linear(3, 3), nn.BatchNorm1d(3)
            self.norm.running_mean.fill_(1.0)

        def forward(self, x):
            x = self.layer(x)
            return x + self.norm(x)

    with pytest.raises(ValueError, match="cannot be folded"):
        folded(Both(), torch.rand(4, 3))


def test_weights_that_cannot_be_changed_alone_are_refused():
    shared = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    shared[1].weight = shared[0].weight
    with pytest.raises(ValueError, match="0 and 1 share one weight"):
        layers(shared, torch.randn(2, 3))
    with pytest.raises(ValueError, match="parametrization"):
        layers(nn.utils.parametrizations.weight_norm(nn.Linear(3, 3)), torch.randn(2, 3))


def test_weights_outside_of_layers_are_named():
    model = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    rest = overlooked(model, layers(model, torch.randn(2, 3, 8)))
    assert {"self_attn.in_proj_weight", "self_attn.out_proj.weight"} <= set(rest)
    assert overlooked(nn.Linear(3, 3), layers(nn.Linear(3, 3), torch.randn(2, 3))) == []


def test_answers_may_lie_in_a_dataclass_and_a_norm_may_be_called_by_keyword():
    @dataclass
    class Answer:
        map: torch.Tensor

    class Named(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer, self.norm = nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2)

        def forward(self, x):
            return Answer(self.norm(input=self.layer(x)))

    x = torch.rand(2, 1, 3, 3)
    model = Named().eval()
    assert torch.equal(answers(model, x)[0], model(x).map)
    assert torch.allclose(folded(model, x)(x).map, model(x).map)


def test_a_different_number_of_answers_is_a_different_answer():
    class Growing(nn.Module):
        calls = 0

        def forward(self, x):
            self.calls += 1
            return [x] * self.calls

    with pytest.raises(ValueError, match="Growing answers the same inputs differently each time"):
        answers(Growing(), torch.ones(2, 1))


@pytest.mark.parametrize("ratio", [-0.1, 50, float("nan")])
def test_ratios_that_are_no_shares_are_refused(ratio):
    with pytest.raises(ValueError, match="are no shares of filters; give numbers from 0 to 1"):
        pruned(nn.Sequential(nn.Linear(3, 3)), {"0": ratio})

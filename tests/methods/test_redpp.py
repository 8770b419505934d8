"""RED++: what sharing saves, that it changes nothing, and how far hashing may move a network."""

from itertools import product

import numpy as np
import pytest
import torch
from nets import Hourglass, Plain, Residual
from safetensors.torch import load_file, save_file
from torch import nn

from facelab.blocks import seeded
from facelab.methods import redpp
from facelab.networks.folding import folded


class Separable(nn.Sequential):
    """Depthwise and 1x1 convolutions with batch norms."""

    def __init__(self):
        super().__init__(
            *(nn.Conv2d(1, 6, 3, padding=1, bias=False), nn.BatchNorm2d(6), nn.ReLU()),
            *(nn.Conv2d(6, 6, 3, padding=1, groups=6, bias=False), nn.BatchNorm2d(6), nn.ReLU()),
            *(nn.Conv2d(6, 16, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(2)),
            *(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 4)),
        )


class Grouped(nn.Sequential):
    """A convolution in two groups between two others, with batch norms."""

    def __init__(self):
        super().__init__(
            *(nn.Conv2d(1, 6, 3, padding=1, bias=False), nn.BatchNorm2d(6), nn.ReLU()),
            *(nn.Conv2d(6, 12, 3, padding=1, groups=2, bias=False), nn.BatchNorm2d(12), nn.ReLU(), nn.MaxPool2d(2)),
            *(nn.Conv2d(12, 5, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(5, 4)),
        )


class Attention(nn.Module):
    """An attention whose projections are no layers, between two linear ones."""

    def __init__(self):
        super().__init__()
        self.first, self.attention, self.last = nn.Linear(6, 16), nn.MultiheadAttention(16, 2, batch_first=True), nn.Linear(16, 4)

    def forward(self, x):
        x = torch.relu(self.first(x.flatten(2)[:, 0].unflatten(1, (-1, 6))))
        return self.last((x + self.attention(x, x, x)[0]).mean(1))


NETS = {"plain": Plain, "residual": Residual, "groups": Grouped, "separable": Separable, "branches": Hourglass, "attention": Attention}


def net(kind: str, size: int = 12) -> tuple[nn.Module, torch.Tensor]:
    """A network after some batches in training mode, so that its batch norms have something to fold, and a batch."""
    with seeded(3):
        model, images = NETS[kind](), torch.randn(4, 1, size, size)
        for _ in range(3):
            model(torch.randn(8, 1, size, size))
    return model.eval(), images


def rounded(layer: nn.Module, values: int = 4) -> nn.Module:
    """Weights that take few values."""
    layer.weight.data = (layer.weight.data * values / layer.weight.data.abs().max()).round() / values
    return layer


LAYERS = {
    "linear": lambda: nn.Linear(20, 30),
    "no bias": lambda: nn.Linear(20, 30, bias=False),
    "plain": lambda: nn.Conv2d(6, 8, 3, padding=1),
    "strided": lambda: nn.Conv2d(6, 8, (3, 2), stride=(2, 1), padding=(1, 0), dilation=(1, 2)),
    "grouped": lambda: nn.Conv2d(6, 8, 3, groups=2, padding="same"),
    "depthwise": lambda: nn.Conv2d(6, 12, 3, groups=6),
    "circular": lambda: nn.Conv2d(6, 8, 3, padding=1, padding_mode="circular"),
}


@pytest.mark.parametrize("kind", LAYERS)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-12)])
def test_a_split_layer_computes_what_the_layer_does(kind, dtype, tolerance):
    with seeded(0):
        layer = rounded(LAYERS[kind]()).to(dtype)
        x = torch.randn((5, 7, 20) if isinstance(layer, nn.Linear) else (5, 6, 9, 10), dtype=dtype)
    split = redpp.SplitLayer(layer)
    torch.testing.assert_close(split(x), layer(x), atol=tolerance, rtol=tolerance)
    assert split.values.numel() < layer.weight.numel() or kind == "depthwise"


@pytest.mark.parametrize("kind", NETS)
def test_merging_and_splitting_change_nothing(kind):
    model, images = net(kind)
    hashed, _ = redpp.hash_shared(folded(model, images))
    merged, _ = redpp.merge(hashed, images)
    split, report = redpp.split(merged, images)
    with torch.no_grad():
        torch.testing.assert_close(merged(images), hashed(images), atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(split(images), hashed(images), atol=1e-5, rtol=1e-5)
    assert (report.products <= report.kernelwise).all() and (report.kernelwise <= report.multiplies).all()


def test_equal_neurons_are_one_and_the_sums_that_read_them_are_shared():
    with seeded(0):
        model = nn.Sequential(nn.Linear(5, 6), nn.ReLU(), nn.Linear(6, 3))
    with torch.no_grad():
        for part in (model[0].weight, model[0].bias):
            part[[1, 4]] = part[[0, 0]].clone()
        model[2].weight[:] = model[2].weight[0].clone()
    small, report = redpp.merge(model, torch.randn(2, 5))
    assert (report.channels.item(), report.left.item()) == (6, 4)
    assert torch.unique(small[0].weight, dim=0).shape == (4, 5)
    assert redpp.products(small[2]) == 4, "one product for each channel that is left"
    x = torch.randn(9, 5)
    torch.testing.assert_close(small(x), model(x), atol=1e-6, rtol=1e-5)


def test_products_of_layers_whose_weights_are_known():
    layer = nn.Linear(3, 4)
    layer.weight.data = torch.tensor([[1.0, 2, 0], [1, 3, 0], [1, 2, 5], [1, 4, 0]])
    assert redpp.products(layer) == 1 + 3 + 1, "a product with zero costs nothing"
    layer.weight.data[:] = 7
    assert redpp.products(layer) == 3
    with seeded(0):
        assert redpp.products(nn.Linear(64, 10)) == 640
        assert redpp.products(nn.Conv2d(4, 6, 3, groups=2), "kernel") == redpp.products(nn.Conv2d(4, 6, 3, groups=2)) == 2 * 6 * 9


def test_sharing_single_products_needs_at_most_those_of_whole_kernels():
    layer = nn.Conv2d(1, 3, (1, 2))
    layer.weight.data = torch.tensor([[1.0, 2], [1, 3], [1, 2]]).reshape(3, 1, 1, 2)
    assert redpp.products(layer, "kernel") == 4
    assert redpp.products(layer) == 3
    with seeded(1):
        point = rounded(nn.Conv2d(8, 16, 1))
    assert redpp.products(point) == redpp.products(point, "kernel")


def test_expected_distinct_values_are_those_of_random_draws():
    probabilities, outputs, generator = np.array([0.5, 0.3, 0.15, 0.05]), 12, np.random.default_rng(0)
    drawn = generator.choice(4, size=(4000, outputs), p=probabilities)
    counts = np.array([len(set(row)) for row in drawn])
    assert abs(counts.mean() - redpp.expected_distinct(probabilities, outputs)) < 3 * counts.std() / 4000**0.5
    equal = (drawn[0::2, :2] == drawn[1::2, :2]).all(axis=1)
    assert abs(equal.mean() - redpp.merging_probability(probabilities, 2)) < 3 * equal.std() / 2000**0.5
    assert redpp.expected_distinct(np.full(16, 1 / 16), 64) == pytest.approx(15.74, abs=0.005)
    assert redpp.expected_distinct(np.full(16, 1 / 16), 8) == pytest.approx(6.45, abs=0.005)


@pytest.mark.parametrize("scale", [0.05, 0.5])
@pytest.mark.parametrize("kind", ["plain", "separable"])
def test_no_output_moves_further_than_the_worst_case(kind, scale):
    with seeded(2):
        stem = [nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)] if kind == "plain" else [*Separable()][:-1]
        model = nn.Sequential(*stem, nn.Flatten(), nn.Linear(128 if kind == "plain" else 16, 10)).eval()
        images = torch.rand(64, 1, 8, 8)
    model = nn.Sequential(*(module for module in folded(model, images)))
    changed, _ = redpp.hash_shared(model, scale)
    table, safe = redpp.error_bounds(model, changed, images)
    assert (table.measured <= table.worst_case * (1 + 1e-5)).all()
    kept = model(images).argmax(1) == changed(images).argmax(1)
    assert kept[safe].all(), "what is proven holds"


def test_the_prediction_is_that_of_independent_noise():
    with seeded(0):
        model = nn.Sequential(nn.Linear(30, 400))
        changed, x = nn.Sequential(nn.Linear(30, 400)), torch.randn(50, 30)
        changed[0].load_state_dict(model[0].state_dict())
        changed[0].weight.data += 0.1 * torch.randn(400, 30)
    table, _ = redpp.error_bounds(model, changed, x)
    assert table.predicted.item() == pytest.approx(table.measured.item(), rel=0.05)


def test_nothing_moves_where_nothing_changed():
    with seeded(0):
        model, x = nn.Sequential(nn.Linear(4, 3)), torch.randn(5, 4)
    table, safe = redpp.error_bounds(model, model, x)
    assert (table.drop(columns="layer") == 0).all(axis=None) and safe.all()


def test_a_network_is_saved_and_loaded(tmp_path):
    model, images = net("separable")
    small, _ = redpp.compress(model, images)
    save_file(small.state_dict(), tmp_path / "small.safetensors")
    other, _ = redpp.compress(model, images, 1.0)  # the same network with other numbers of values
    assert other[6].values.numel() != small[6].values.numel()
    other.load_state_dict(load_file(tmp_path / "small.safetensors"))
    torch.testing.assert_close(other(images), small(images), atol=0, rtol=0)


def test_compression_counts_what_is_left_and_leaves_the_network_alone():
    model, images = net("separable")
    before = model(images)
    small, report = redpp.compress(model, images)
    torch.testing.assert_close(model(images), before, atol=0, rtol=0)
    assert report.layer.tolist() == ["0", "3", "6", "12"]
    assert report.removed.iloc[1] == 0 and report.note.iloc[1] == "nothing to share"
    assert isinstance(small[6], redpp.SplitLayer) and isinstance(small[3], nn.Conv2d)
    first = report.iloc[2]
    assert first.products == 144 * small[6].values.numel()


def test_what_cannot_be_handled_is_named():
    with pytest.raises(ValueError, match="class ConvTranspose2d cannot be split; give a Linear or a Conv2d"):
        redpp.SplitLayer(nn.ConvTranspose2d(2, 2, 2))
    chain = nn.Sequential(nn.Linear(4, 3), nn.Sigmoid())
    with pytest.raises(ValueError, match="Bounds cannot pass 1, a Sigmoid; give a chain of Linear, Conv2d"):
        redpp.error_bounds(chain, chain, torch.zeros(2, 4))
    model, images = net("branches")
    _, report = redpp.split(folded(model, images), images)
    assert report.set_index("layer").note["third"] == "a ConvTranspose2d stays whole"


def test_the_tiny_example_of_the_definition():
    """Three inputs, two outputs: every sum of every assignment of two values, by loops."""
    layer = nn.Linear(3, 2, bias=False)
    for weights in product([0.5, 2.0], repeat=6):
        layer.weight.data = torch.tensor(weights).reshape(2, 3)
        split = redpp.SplitLayer(layer)
        pairs = np.array(weights).reshape(2, 3)
        assert split.values.numel() == sum(len(set(column)) for column in pairs.T)
        assert split(torch.tensor([1.0, 10, 100])).tolist() == (pairs @ [1, 10, 100]).tolist()


def test_a_split_layer_shows_its_weight_to_code_that_reads_it():
    convolution, linear = nn.Conv2d(4, 6, 3, groups=2), nn.Linear(4, 6)
    convolution.weight.data = (5 * convolution.weight.data).round() / 5
    assert torch.equal(redpp.SplitLayer(convolution).weight, convolution.weight)
    assert torch.equal(redpp.SplitLayer(linear).weight, linear.weight)


def test_the_encoder_layer_of_torch_runs_with_split_layers_on_its_fast_path_and_beside_it():
    torch.manual_seed(0)
    model = nn.TransformerEncoderLayer(16, 4, 32, dropout=0.0, batch_first=True).eval()
    tokens = torch.randn(4, 5, 16)
    hashed = redpp.hash_shared(model)[0]
    small, report = redpp.split(hashed, tokens[:2])
    assert (report.products < report.multiplies).all()
    with torch.no_grad():
        expected = hashed(tokens)
        torch.testing.assert_close(small(tokens), expected, atol=1e-5, rtol=0)
        torch.testing.assert_close(small.train()(tokens), expected, atol=1e-5, rtol=0)

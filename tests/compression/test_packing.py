"""Packed storage: bit for bit the same, as small as it can be, rebuilt in another process, never by pickle."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import own_networks
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as some
from hypothesis.extra import numpy as arrays
from safetensors.torch import load_file
from torch import nn

from facelab.blocks import seeded
from facelab.blocks.quantisation import logarithmic_grid, power_grid, quantise, scale_of, uniform_grid
from facelab.compression import zoo
from facelab.compression.packing import bytes_of, decoded, encoded, load_packed, packed, save_packed
from facelab.compression.registry import METHODS, Job, compress
from facelab.importance.scores import log_likelihood
from facelab.networks.folding import folded
from facelab.networks.groups import cut, groups

EXAMPLE = own_networks.loaders()[1][0][0]


@given(
    arrays.arrays(
        some.sampled_from([np.float32, np.int64, np.uint8]),
        arrays.array_shapes(min_dims=0, max_dims=4, max_side=6),
        elements=some.sampled_from([0, 1, 2, 5, 77]),
    )
)
def test_a_tensor_comes_back_bit_for_bit(values):
    again = decoded(*encoded(values))
    assert again.dtype == values.dtype
    np.testing.assert_array_equal(again, values)


def test_few_values_take_few_bits():
    few = np.random.default_rng(0).choice(np.float32([-1, 0.5, 2, 3]), (64, 64))
    parts, about = encoded(few)
    assert about["bits"] == 2
    assert sum(part.nbytes for part in parts.values()) == 64 * 64 // 4 + 4 * 4


@pytest.mark.parametrize("sizes", [(16, 16, 16, 16), (5, 30, 20, 9), (1,) * 64])
def test_a_codebook_for_each_group_of_rows_costs_only_itself(sizes):
    generator = np.random.default_rng(0)
    books = generator.normal(size=(len(sizes), 4)).astype(np.float32)
    rows = np.repeat(np.arange(len(sizes)), sizes)
    values = books[rows[:, None], generator.integers(0, 4, (64, 150))].reshape(64, 6, 5, 5)
    parts, about = encoded(values)
    assert about["bits"] == 2 and isinstance(about["groups"], int) == (len(set(sizes)) == 1)
    assert sum(part.nbytes for part in parts.values()) == 64 * 150 // 4 + 16 * len(sizes)
    np.testing.assert_array_equal(decoded(parts, about), values)


def test_zeros_are_cheap_and_dense_weights_stay_as_they_are():
    values = np.random.default_rng(0).normal(size=10_000).astype(np.float32)
    assert encoded(values)[1] == {}
    values[1000:] = 0
    parts, about = encoded(values)
    assert about["kept"] == 1000
    assert sum(part.nbytes for part in parts.values()) == 4 * 1000 + 10_000 // 8


@pytest.mark.parametrize("values", [np.zeros((3, 3), np.float32), np.zeros(0, np.float32), np.float32(3), np.full(9, np.nan, np.float32)])
def test_edges_come_back(values):
    np.testing.assert_array_equal(decoded(*encoded(np.asarray(values))), values)


def small_mobile():
    whole = folded(own_networks.mobile(), EXAMPLE)
    free = [group for group in groups(whole, EXAMPLE) if not group.obstacle]
    return cut(whole, EXAMPLE, {group.name: range(0, group.width, 2) for group in free})


def test_a_cut_network_is_rebuilt_from_the_whole_one(tmp_path):
    small = small_mobile().eval()
    size = save_packed(small, tmp_path / "small.safetensors")
    assert size == bytes_of(small) == (tmp_path / "small.safetensors").stat().st_size < bytes_of(own_networks.mobile()) / 1.5
    again = load_packed(tmp_path / "small.safetensors", own_networks.Mobile)
    with torch.no_grad():
        assert torch.equal(again(EXAMPLE), small(EXAMPLE))
    assert again.depthwise[0].groups == again.depthwise[0].out_channels == small.depthwise[0].out_channels
    assert isinstance(again.stem[1], nn.Identity)
    assert packed(again) == packed(small)  # and once more


def test_without_few_values_the_file_is_a_plain_state_dict(tmp_path):
    small = small_mobile()
    save_packed(small, tmp_path / "small.safetensors")
    read = load_file(tmp_path / "small.safetensors")
    assert all(torch.equal(read[name], value) for name, value in small.state_dict().items() if value.ndim > 1)


def cut_and_rounded():
    small = small_mobile()
    for module in small.modules():
        if isinstance(module, nn.Conv2d):
            module.weight.data = (module.weight.data * 4).round() / 4
    return small


@pytest.mark.parametrize("name", ["cut and rounded", "powerquant", "ternary", "jlcm"])
def test_in_another_process(tmp_path, name):
    """Small on disk, and there again without what made it: the same outputs to a millionth."""
    whole, training = own_networks.mobile(), own_networks.loaders()[0]
    if name in METHODS:
        small, _ = compress(name, Job(whole, training, log_likelihood, METHODS[name].strengths[-1]))
    else:
        small = cut_and_rounded()
    size = save_packed(small, tmp_path / "small.safetensors")
    assert size < bytes_of(whole)
    code = (
        "import sys, numpy, torch, own_networks; from facelab.compression.packing import load_packed;"
        "model = load_packed(sys.argv[1], own_networks.Mobile);"
        "print(*model(own_networks.loaders()[1][0][0][:2]).detach().flatten().double().tolist())"
    )
    support = Path(own_networks.__file__).parent
    told = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(support)!r}); {code}", tmp_path / "small.safetensors"],
        capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    with torch.no_grad():
        expected = small.eval()(EXAMPLE[:2]).flatten().double().numpy()
    np.testing.assert_allclose(np.array(told.split(), dtype=float), expected, atol=1e-6 * np.abs(expected).max())


def test_tied_weights_stay_tied(tmp_path):
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second = nn.Linear(8, 8), nn.Linear(8, 8)
            self.second.weight = self.first.weight

        def forward(self, x):
            return self.second(self.first(x))

    with seeded(0):
        model = Tied()
    save_packed(model, tmp_path / "tied.safetensors")
    again = load_packed(tmp_path / "tied.safetensors", Tied)
    assert again.second.weight is again.first.weight
    assert torch.equal(again.first.weight, model.first.weight)


def test_attention_of_torch_comes_back(tmp_path):
    model = own_networks.attentive()
    save_packed(model, tmp_path / "attentive.safetensors")
    with torch.no_grad():
        assert torch.equal(load_packed(tmp_path / "attentive.safetensors", own_networks.Attentive)(EXAMPLE), model(EXAMPLE))


@pytest.mark.parametrize("architecture", zoo.ARCHITECTURES)
def test_networks_of_the_bench(tmp_path, architecture):
    model, images = zoo.load("digits", architecture), torch.rand(3, 1, 16, 16)
    save_packed(model, tmp_path / "a.safetensors")
    with torch.no_grad():
        assert torch.equal(load_packed(tmp_path / "a.safetensors", lambda: zoo.build("digits", architecture))(images), model(images))


def test_layers_that_share_products_and_convolutions_in_two_steps(tmp_path):
    from facelab.methods.red import separated
    from facelab.methods.redpp import SplitLayer

    def build():
        with seeded(0):
            return nn.Sequential(
                nn.Conv2d(3, 6, 3, 2, 1), nn.ReLU(), nn.Conv2d(6, 6, 3, groups=2, bias=False), nn.Flatten(), nn.Linear(216, 5)
            )

    changed = build().eval()
    for place in (2, 4):
        changed[place].weight.data = (changed[place].weight.data * 20).round() / 20
        changed[place] = SplitLayer(changed[place])
    changed[0].weight.data[3:] = 2 * changed[0].weight.data[:3]
    changed[0] = separated(changed[0])
    save_packed(changed, tmp_path / "a.safetensors")
    again = load_packed(tmp_path / "a.safetensors", build)
    with torch.no_grad():
        torch.testing.assert_close(again(EXAMPLE), changed(EXAMPLE), rtol=0, atol=1e-6)
    assert [type(layer) for layer in again] == [type(layer) for layer in changed]
    assert bytes_of(changed) < bytes_of(build())


def test_what_is_no_packed_network_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="no file"):
        load_packed(tmp_path / "none.safetensors", own_networks.Mobile)
    (tmp_path / "junk.safetensors").write_bytes(b"junk of some length")
    with pytest.raises(ValueError, match="no safetensors file"):
        load_packed(tmp_path / "junk.safetensors", own_networks.Mobile)
    save_packed(own_networks.mobile(), tmp_path / "mobile.safetensors")
    with pytest.raises(ValueError, match="has no module"):
        load_packed(tmp_path / "mobile.safetensors", own_networks.Attentive)
    with pytest.raises(ValueError, match="bfloat16"):
        packed(own_networks.mobile().to(torch.bfloat16))


@pytest.mark.parametrize("grid", [uniform_grid(2), uniform_grid(4), power_grid(4, 0.55), logarithmic_grid(4)])
@pytest.mark.parametrize("axis", [None, 0])
def test_rounded_weights_take_their_bits_and_a_scale_for_each_row(grid, axis):
    weight = torch.randn(24, 16, 3, 3, generator=torch.Generator().manual_seed(1))
    weight[5] = 0
    rounded = quantise(weight, grid, scale_of(weight, axis)).numpy()
    parts, about = encoded(rounded)
    assert np.array_equal(decoded(parts, about), rounded)
    count = 2 * len(grid.levels) - 1
    bits = int(np.ceil(np.log2(count)))
    assert sum(part.nbytes for part in parts.values()) <= weight.numel() * bits / 8 + 4 * count + (0 if axis is None else 4 * 24)


def test_rows_without_a_common_grid_are_stored_another_way():
    weight = np.random.default_rng(0).normal(size=(8, 40)).astype(np.float32)
    parts, about = encoded(weight)
    assert not about and np.array_equal(parts[""], weight)

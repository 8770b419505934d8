"""RED: identical neurons merge exactly, separation computes the convolution, limiting cases leave a network as it is."""

from math import ceil

import numpy as np
import pandas as pd
import pytest
import torch
from nets import Plain, Residual
from safetensors.torch import load_file, save_file
from torch import nn

from facelab.blocks import seeded
from facelab.methods.red import UnevenDepthwise, clusters, merge, no_sum, one_of_each, random_clusters, red, separate, separated
from facelab.networks.duplicates import duplicated
from facelab.networks.folding import folded
from facelab.networks.groups import groups, incoming, merged
from facelab.networks.hashing import hashed


def mlp() -> nn.Sequential:
    with seeded(0):
        return nn.Sequential(nn.Flatten(), nn.Linear(36, 12), nn.ReLU(), nn.Linear(12, 10), nn.Sigmoid(), nn.Linear(10, 4))


def depthwise() -> nn.Sequential:
    with seeded(0):
        return nn.Sequential(
            nn.Conv2d(1, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU(), nn.Conv2d(6, 6, 3, padding=1, groups=6), nn.GELU(),
            nn.Conv2d(6, 8, 1), nn.ReLU(), nn.Conv2d(8, 8, 3, groups=2), nn.ReLU(), nn.Flatten(), nn.Linear(128, 4),
        )  # fmt: skip


def built(kind) -> nn.Module:
    with seeded(0):
        model = kind().eval()
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean.normal_()
                module.running_var.uniform_(0.5, 2.0)
                nn.init.uniform_(module.weight, 0.5, 2.0)
    return model


def images(count: int = 4, side: int = 6) -> torch.Tensor:
    return torch.randn(count, 1, side, side, generator=torch.Generator().manual_seed(3))


# --- merging ---------------------------------------------------------------------------------------------------------


def test_clusters_by_hand():
    neurons = np.array([[0.0, 0], [3, 0], [0, 0.1], [3, 0.4], [9, 0]])
    assert same(clusters(neurons, keep=0.6), [0, 1, 0, 1, 2])
    assert same(clusters(neurons, keep=0.8), [0, 1, 0, 2, 3]), "the closest pair first"
    length = np.sqrt((neurons**2).sum(axis=1).mean())
    assert same(clusters(neurons, diameter=0.3 / length), [0, 1, 0, 2, 3])
    assert same(clusters(neurons, keep=1.0), range(5)) and same(clusters(neurons, keep=0.01), [0] * 5)
    assert same(clusters(neurons[:1], keep=0.5), [0])


def same(labels, expected) -> bool:
    """Whether two labellings make the same clusters."""
    labels, expected = np.asarray(labels), np.asarray(list(expected))
    return np.array_equal(labels[:, None] == labels, expected[:, None] == expected)


@pytest.mark.parametrize("keep", [0.25, 0.3, 0.5, 1.0])
def test_the_share_that_is_left_is_rounded_up(keep):
    neurons = np.random.default_rng(0).normal(size=(20, 3))
    assert len(np.unique(clusters(neurons, keep=keep))) == ceil(keep * 20)


@pytest.mark.parametrize("wrong", [{}, {"keep": 0.5, "diameter": 0.1}, {"keep": 0.0}, {"keep": 1.2}, {"diameter": -1.0}])
def test_levels_that_are_none(wrong):
    with pytest.raises(ValueError, match=r"keep=|diameter="):
        clusters(np.eye(3), **wrong)


@pytest.mark.parametrize("kind", [mlp, depthwise, Plain, Residual])
def test_keeping_all_leaves_the_function_as_it_is(kind):
    model = built(kind)
    given = images(side=12 if kind is Plain else 6)
    smaller, report = merge(model, given, 1.0)
    assert torch.allclose(smaller(given), model(given), atol=1e-5)
    assert (report.before == report.after).all() and (report.diameter == 0).all()
    assert list(report.columns) == ["group", "before", "after", "diameter", "left"]


@pytest.mark.parametrize("kind", [mlp, depthwise, Plain, Residual])
def test_identical_neurons_merge_exactly(kind):
    """Every group's neurons are made equal in pairs, whatever ties them; half of them can go and nothing changes."""
    given = images(side=12 if kind is Plain else 6)
    model = folded(built(kind), given)
    expected = {}
    for group in groups(model, given):
        if group.obstacle:
            continue
        for name, rows in group.producers.items():
            module = model.get_submodule(name)
            for values in (module.weight.data, module.bias.data):
                values[rows[1::2, 0][: group.width // 2]] = values[rows[0::2, 0][: group.width // 2]]
        expected[group.name] = group.width - group.width // 2
    smaller, report = merge(model, given, diameter=0.0)
    assert torch.allclose(smaller(given), model(given), atol=1e-5)
    after = report[report.left == ""].set_index("group").after
    assert dict(after) == expected
    assert sum(p.numel() for p in smaller.parameters()) < sum(p.numel() for p in model.parameters())


def test_planted_duplicates_are_found_and_the_network_comes_back():
    given = images()
    small = mlp()
    wide, labels = duplicated(small, copies=4, seed=1)
    for level in ({"keep": 0.25}, {"diameter": 0.0}):
        found, report = merge(wide, given, **level)
        assert report.after.tolist() == [12, 10]
        assert torch.allclose(found(given), small(given), atol=1e-4)
    noisy, labels = duplicated(small, copies=4, noise=0.02, seed=1)
    for group in groups(noisy, given):
        assert same(clusters(incoming(noisy, group).numpy(), keep=0.25), labels[group.name])


def test_no_neuron_moves_further_than_its_cluster_is_wide():
    model, given = mlp(), images()
    report = merge(model, given, 0.5)[1].set_index("group")
    for group in groups(model, given):
        neurons = incoming(model, group)
        labels = clusters(neurons.numpy(), keep=0.5)
        means = torch.stack([neurons[labels == label].mean(dim=0) for label in range(labels.max() + 1)])
        moved = (means[labels] - neurons).norm(dim=1).max()
        assert 0 < moved <= report.diameter[group.name] * neurons.square().sum(dim=1).mean().sqrt() * (1 + 1e-5)


def test_a_group_that_cannot_be_merged_is_left_and_named():
    model, given = built(depthwise), images()
    smaller, report = merge(model, given, 0.5)
    report = report.set_index("group")
    assert "5 is a grouped" not in report.left["0+3"] and report.after["0+3"] == 3
    assert "7 is a grouped convolution" in report.left["5"] and report.after["5"] == 8
    assert smaller(given).shape == (4, 4)
    with pytest.raises(ValueError, match="neurons of 5 cannot be merged: 7 is a grouped"):
        merge(model, given, {"5": 0.5})
    with pytest.raises(ValueError, match=r"there is no such group, there are 0\+3, 5"):
        merge(model, given, {"nowhere": 0.5})


def test_the_model_itself_stays_as_it_is():
    model, given = built(Residual), images()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    red(model, given)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_controls_lack_one_ingredient():
    """One of each copy loses what the others said; clusters drawn by lot add up what does not belong together."""
    small, given = mlp(), images(20)
    wide = duplicated(small, copies=4, seed=1)[0]
    expected = small(given)
    error = {
        "merge": (merge(wide, given, 0.25)[0](given) - expected).abs().mean(),
        "one": (one_of_each(wide, given, 0.25)(given) - expected).abs().mean(),
        "no sum": (no_sum(wide, given, 0.25)(given) - expected).abs().mean(),
        "lot": (random_clusters(wide, given, 0.25)(given) - expected).abs().mean(),
    }
    assert error["merge"] < 1e-5 and min(error["one"], error["no sum"], error["lot"]) > 1e-2
    for control in (one_of_each, no_sum, random_clusters):
        assert torch.allclose(control(wide, given, 1.0)(given), expected, atol=1e-5)
    # of identical neurons the mean is each of them, hence the controls without the sum agree
    assert torch.allclose(no_sum(wide, given, 0.25)(given), one_of_each(wide, given, 0.25)(given), atol=1e-5)
    assert torch.equal(random_clusters(wide, given, 0.5)(given), random_clusters(wide, given, 0.5)(given))


# --- uneven depthwise separation -------------------------------------------------------------------------------------


def planted(counts, outputs: int = 12, **options) -> nn.Conv2d:
    """A convolution whose kernels of input channel i are scalings, some negative, of counts[i] prototypes."""
    generator = np.random.default_rng(5)
    layer = nn.Conv2d(len(counts), outputs, 3, **options)
    for channel, count in enumerate(counts):
        prototypes, factors = generator.normal(size=(count, 3, 3)), generator.normal(size=(outputs, 1, 1)) + 0.05
        chosen = generator.permutation(np.arange(outputs) % count) if count else None
        kernels = prototypes[chosen] * factors if count else np.zeros((outputs, 3, 3))
        layer.weight.data[:, channel] = torch.from_numpy(kernels).float()
    return layer


@pytest.mark.parametrize(
    "options", [{}, {"stride": 2, "padding": 1, "bias": False}, {"dilation": 2, "padding": 2, "padding_mode": "reflect"}]
)
def test_every_number_of_kernels_is_found_and_the_layer_computes_the_same(options):
    counts, inputs = (1, 2, 5, 12, 3), torch.randn(2, 5, 9, 9)
    layer = planted(counts, **options)
    two_steps = separated(layer)
    assert two_steps.sources.bincount(minlength=5).tolist() == list(counts)
    assert torch.allclose(two_steps(inputs), layer(inputs), atol=1e-5)
    assert int((two_steps.mix.weight != 0).sum()) == 12 * 5, "one factor for each pair of channels"


def test_a_channel_of_zeros_keeps_one_kernel():
    layer, inputs = planted((2, 0, 1)), torch.randn(2, 3, 7, 7)
    two_steps = separated(layer)
    assert two_steps.sources.tolist() == [0, 0, 1, 2]
    assert torch.allclose(two_steps(inputs), layer(inputs), atol=1e-5)


def test_an_ordinary_layer_has_no_kernels_in_common_and_stays():
    model = built(Plain)
    same_model, report = separate(model)
    assert (report.distinct == report.kernels).all() and not report.separated.any()
    assert (report.without_zeros > report.dense).all()
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), same_model.parameters(), strict=True))


def test_it_is_replaced_where_that_pays():
    model, inputs = nn.Sequential(planted((1, 2, 1)), nn.ReLU(), planted((9,) * 12)), torch.randn(2, 3, 8, 8)
    smaller, report = separate(model)
    report = report.set_index("layer")
    assert report.separated.to_dict() == {"0": True, "2": False}
    assert report.loc["0", ["kernels", "distinct", "dense", "without_zeros", "made"]].tolist() == [36, 4, 324, 36 + 36, 4 * (9 + 12)]
    assert torch.allclose(smaller(inputs), model(inputs), atol=1e-5)


def test_it_saves_and_loads(tmp_path):
    layer, inputs = planted((1, 4, 2), stride=2), torch.randn(1, 3, 9, 9)
    save_file(separated(layer).state_dict(), tmp_path / "layer.safetensors")
    state = load_file(tmp_path / "layer.safetensors")
    fresh = UnevenDepthwise(nn.Conv2d(3, 12, 3, stride=2), state["sources"])
    fresh.load_state_dict(state)
    assert torch.allclose(fresh(inputs), layer(inputs), atol=1e-5)


def test_a_wider_tolerance_has_fewer_kernels():
    layer = built(Plain)[4]
    counts = [len(separated(layer, tolerance).sources) for tolerance in (1e-5, 0.5, 1.0, 2.0)]
    assert counts[0] == 48 and counts == sorted(counts, reverse=True) and counts[-1] == 6, "one kernel for each channel at the least"


# --- all three stages ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [mlp, depthwise, Plain, Residual])
def test_red_makes_a_smaller_network_and_says_how(kind):
    model, given = built(kind), images(side=12 if kind is Plain else 6)
    smaller, report = red(model, given, scale=0.1, keep=0.5)
    assert smaller(given).shape == model(given).shape and smaller(given).isfinite().all()
    assert sum(p.numel() for p in smaller.parameters()) < 0.95 * sum(p.numel() for p in model.parameters())
    assert list(report.columns) == ["stage", "name", "what", "before", "after"] and (report.after <= report.before).all()
    assert isinstance(report, pd.DataFrame) and {"hash", "merge"} <= set(report.stage)


def test_red_that_changes_nothing():
    model, given = mlp(), images()
    same_model, report = red(model, given, scale=0.0, keep=1.0)
    assert torch.equal(same_model(given), model(given)) and set(report.stage) == {"merge"}


def test_merging_after_hashing_is_the_mean_of_hashed_rows():
    """Hashing then merging equals merging the hashed network by the same labels."""
    model, given = mlp(), images()
    both = red(model, given, scale=0.25, keep=0.5)[0]
    rounded = hashed(model, 0.25)[0]
    labels = {group.name: clusters(incoming(rounded, group).numpy(), keep=0.5) for group in groups(rounded, given)}
    assert torch.allclose(both(given), merged(rounded, given, labels)(given), atol=1e-6)

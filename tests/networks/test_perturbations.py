"""Each family does what its definition says."""

import pytest
import torch

from facelab.networks.perturbations import FAMILIES, generator_of, quantisation

WEIGHT = torch.randn(6, 3, 3, 3, generator=torch.Generator().manual_seed(1))


def drawn(family, level, draw=0):
    return FAMILIES[family](WEIGHT, level, generator_of(0, "conv", family, level, draw))


@pytest.mark.parametrize("family", ["noise", "pruning", "bit swaps", "float bit swaps"])
def test_level_zero_changes_nothing(family):
    assert torch.equal(drawn(family, 0), WEIGHT)


def test_noise_has_the_stated_deviation():
    weight = torch.randn(200, 500, generator=torch.Generator().manual_seed(2)) * 3
    change = FAMILIES["noise"](weight, 0.5, generator_of(0, "conv", "noise", 0.5, 0)) - weight
    assert change.std() == pytest.approx(1.5, rel=0.01) and change.mean().abs() < 0.02


@pytest.mark.parametrize(("level", "filters"), [(0.1, 1), (0.25, 2), (0.5, 3), (0.75, 4), (1, 6)])
def test_the_weakest_filters_are_pruned(level, filters):
    pruned, norms = drawn("pruning", level), WEIGHT.flatten(1).norm(dim=1)
    zero = (pruned.flatten(1) == 0).all(1)
    assert int(zero.sum()) == filters and torch.equal(pruned[~zero], WEIGHT[~zero])
    assert filters == 6 or norms[zero].max() < norms[~zero].min()


def test_quantisation_by_hand():
    weight = torch.tensor([[-3.0, -1.4, 0.2, 1.6, 3.0]])
    assert quantisation(weight, 3).tolist() == [[-3, -1, 0, 2, 3]]  # 7 values, steps of one
    assert quantisation(weight, 2).tolist() == [[-3, 0, 0, 3, 3]]
    assert torch.equal(quantisation(torch.zeros(2, 3), 4), torch.zeros(2, 3))


def test_quantisation_to_many_bits_changes_next_to_nothing():
    assert (quantisation(WEIGHT, 16) - WEIGHT).abs().max() <= 0.5001 * WEIGHT.abs().max() / (2**15 - 1)
    assert len(quantisation(WEIGHT, 4).unique()) <= 15


def test_steps_of_each_channel():
    weight = torch.tensor([[1.0, 0.4], [100.0, 40.0]])
    assert quantisation(weight, 3, per_channel=True)[0].tolist() == pytest.approx([1, 1 / 3])
    assert quantisation(weight, 3)[0].tolist() == [0, 0]


def test_swapped_bits_move_weights_by_powers_of_two():
    scale = WEIGHT.abs().max() / 127
    steps = ((drawn("bit swaps", 0.01) - WEIGHT) / scale).round().to(torch.int64)
    moved = steps[steps != 0].abs().tolist()
    assert 0.03 < len(moved) / WEIGHT.numel() < 0.16  # about 8 bits x 0.01
    assert all(bin(step).count("1") <= 2 for step in moved) and max(moved) <= 255
    every = ((drawn("bit swaps", 1) - WEIGHT) / scale).round()  # all bits flipped: code -> -1 - code
    assert torch.equal(every, -1 - 2 * (WEIGHT / scale).round())


def test_float_bits_are_more_violent_and_stay_finite():
    fallen = drawn("float bit swaps", 0.05)
    assert fallen.isfinite().all() and fallen.abs().max() > 1e6


def test_draws_depend_on_their_key_only():
    assert torch.equal(drawn("noise", 1.0), drawn("noise", 1.0))
    keys = [
        (0, "a", "noise", 1.0, 0),
        (1, "a", "noise", 1.0, 0),
        (0, "b", "noise", 1.0, 0),
        (0, "a", "noise", 2.0, 0),
        (0, "a", "noise", 1.0, 1),
    ]
    assert len({torch.rand(1, generator=generator_of(*key)).item() for key in keys}) == len(keys)


@pytest.mark.parametrize(
    ("family", "level"), [("noise", -1), ("pruning", 1.1), ("quantisation", 1), ("quantisation", 2.5), ("bit swaps", 2)]
)
def test_impossible_levels_are_refused(family, level):
    with pytest.raises(ValueError, match=r"impossible.*choose"):
        drawn(family, level)

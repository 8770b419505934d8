"""DeeSCo: the identity behind its loss by counting every subset, whose gradient reaches whom, what a map can say."""

from functools import partial
from itertools import product

import numpy as np
import pytest
import torch

from facelab.blocks import seeded
from facelab.methods import deesco
from facelab.methods.deesco import Design, GazeEnsemble, HeatmapHead, combinatory_loss, diversity_strength, subset_mean


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def answers(samples=5, heads=3, seed=0):
    """What heads might say, and the truth, in double precision."""
    g = generator(seed)
    return torch.randn(samples, heads, 2, generator=g, dtype=torch.float64), torch.randn(samples, 2, generator=g, dtype=torch.float64)


@pytest.mark.parametrize("heads", [2, 3, 4, 5])
def test_squared_errors_of_random_subsets_are_negative_correlation_learning(heads):
    gazes, true = answers(heads=heads)
    subsets = torch.tensor([chosen for chosen in product((False, True), repeat=heads) if any(chosen)])
    expected = torch.stack([(subset_mean(gazes, chosen.expand(len(gazes), -1)) - true).square().sum(dim=1) for chosen in subsets]).mean(
        dim=0
    )
    errors = (gazes - true[:, None]).square().sum(dim=2).mean(dim=1)
    spread = (gazes - gazes.mean(dim=1, keepdim=True)).square().sum(dim=2).mean(dim=1)
    assert torch.allclose(expected, errors - diversity_strength(heads) * spread, atol=1e-12)


@pytest.mark.parametrize(("heads", "strength"), [(2, 0.333), (3, 0.464), (4, 0.570), (5, 0.654), (8, 0.805), (10, 0.856)])
def test_strength_of_the_push_apart(heads, strength):
    assert diversity_strength(heads) == pytest.approx(strength, abs=6e-4)


def test_one_head_cannot_disagree():
    with pytest.raises(ValueError, match="1 heads cannot disagree; give at least 2"):
        diversity_strength(1)


def test_the_two_ends_are_the_individual_and_the_ensemble_only_loss():
    gazes, true = answers()
    everyone = deesco.all_heads(gazes.shape[:2], generator())
    assert combinatory_loss(gazes, true, everyone) == pytest.approx(float((gazes.mean(dim=1) - true).norm(dim=1).mean()))
    alone = torch.stack([combinatory_loss(gazes, true, torch.eye(3, dtype=torch.bool)[[n] * 5]) for n in range(3)]).mean()
    assert deesco.individual_loss(gazes, true) == pytest.approx(float(alone))


def test_subsets_hold_half_of_the_heads_and_are_never_empty():
    subsets = deesco.random_heads((20_000, 3), generator())
    assert subsets.any(dim=1).all()
    counts = torch.stack([(subsets == torch.tensor(chosen)).all(dim=1).sum() for chosen in list(product((False, True), repeat=3))[1:]])
    assert counts.sum() == 20_000
    assert (counts - 20_000 / 7).abs().max() < 5 * (20_000 / 7) ** 0.5  # each of the seven is as likely
    one = deesco.one_head((1000, 4), generator())
    assert (one.sum(dim=1) == 1).all() and one.sum(dim=0).min() > 180


def test_heads_that_were_not_drawn_get_no_gradient():
    gazes, true = answers()
    gazes.requires_grad_()
    subsets = torch.tensor([[True, False, True]] * 5)
    combinatory_loss(gazes, true, subsets).backward()
    assert (gazes.grad[:, 1] == 0).all() and (gazes.grad[:, [0, 2]] != 0).all()


def test_a_flat_map_says_the_middle_and_a_sharp_one_its_cell():
    head = HeatmapHead(4, 8, Design(cells=5))
    assert head.gaze(torch.full((1, 1, 5, 5), 1 / 25)).abs().max() < 1e-6
    sharp = torch.zeros(1, 1, 5, 5)
    sharp[0, 0, 0, 4] = 1  # first row, last column
    assert torch.allclose(head.gaze(sharp), torch.tensor([[1.5, -1.5]]))


def test_heads_of_an_ensemble_answer_from_their_maps():
    with seeded(0):
        model = GazeEnsemble()
    crops = torch.rand(3, 2, 24, 24, generator=generator())
    gazes, maps = model(crops), model.maps(crops)
    assert gazes.shape == (3, 4, 2) and [map_.shape[1] for map_ in maps] == [6, 8, 10, 8]
    for head, map_, gaze in zip(model.heads, maps, gazes.unbind(dim=1), strict=True):
        assert torch.allclose(map_.sum(dim=(1, 2)), torch.ones(3)) and torch.allclose(head.gaze(map_[:, None]), gaze)
    with pytest.raises(ValueError, match="give a multiple of 6"):
        GazeEnsemble(size=20)


def test_lines_of_sight_and_the_angle_between_them():
    straight, left, up = torch.tensor([0.0, 0.0]), torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0])
    assert torch.allclose(deesco.unit_vectors(torch.stack([straight, left, up]), 90.0), torch.eye(3)[[2, 0, 1]], atol=1e-6)
    assert float(deesco.angular_error(straight, left, 30.0)) == pytest.approx(30, abs=1e-4)
    high = torch.tensor([[0.0, 1.0], [1.0, 1.0]])  # 60 degrees up, the second also 60 degrees to the left
    assert float(deesco.angular_error(high[0], high[1], 60.0)) == pytest.approx(np.degrees(np.arccos(0.25 * 0.5 + 0.75)), abs=1e-4)


def test_losing_heads_averages_over_the_ways_to_lose_them():
    gazes, true = answers(heads=4)
    assert torch.allclose(deesco.error_without(gazes, true, 40, 4), deesco.angular_error(gazes.mean(dim=1), true, 40))
    assert torch.allclose(deesco.error_without(gazes, true, 40, 1), deesco.angular_error(gazes, true[:, None], 40).mean(dim=1))


def test_training_brings_the_loss_down():
    from facelab.training import fit

    g = generator()
    true = torch.rand(64, 2, generator=g) * 2 - 1
    crops = torch.zeros(64, 2, 24, 24)
    for crop, (x, y) in zip(crops, (12 + 8 * true).long().tolist(), strict=True):  # a dot where the gaze goes
        crop[:, y - 1 : y + 2, x - 1 : x + 2] = 1
    with seeded(0):
        model = GazeEnsemble()

    fit(
        model,
        partial(deesco.gaze_loss, draw=deesco.random_heads),
        {"crops": crops, "gaze": true},
        steps=150,
        batch_size=32,
        learning_rate=4e-3,
        progress=False,
    )
    with torch.no_grad():
        assert (model(crops).mean(dim=1) - true).norm(dim=1).mean() < 0.25 * true.norm(dim=1).mean()


def test_the_loss_of_a_batch_is_one_of_the_three():
    gazes, true = answers()
    batch = {"crops": gazes, "gaze": true}
    assert deesco.gaze_loss(torch.nn.Identity(), batch, generator()) == deesco.individual_loss(gazes, true)
    everyone = deesco.all_heads(gazes.shape[:2], generator())
    assert deesco.gaze_loss(torch.nn.Identity(), batch, generator(), deesco.all_heads) == combinatory_loss(gazes, true, everyone)
    drawn = deesco.random_heads(gazes.shape[:2], generator(4))
    assert deesco.gaze_loss(torch.nn.Identity(), batch, generator(4), deesco.random_heads) == combinatory_loss(gazes, true, drawn)

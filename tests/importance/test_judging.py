import pytest
import torch
from torch import nn

from facelab.blocks import seeded
from facelab.importance.attribution import attribute, judging


@pytest.fixture
def images():
    return torch.rand(4, 1, 10, 10, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def linear():
    with seeded(2):
        return nn.Sequential(nn.Flatten(), nn.Linear(100, 2))


@pytest.fixture
def bent():
    with seeded(2):
        return nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(256, 2))


@pytest.mark.parametrize("perturb", [judging.gaussian(0.1), judging.squares(4)])
def test_the_gradient_of_a_linear_model_predicts_everything(linear, images, perturb):
    slopes = attribute(linear, images, 1, "saliency").values
    assert judging.infidelity(linear, images, 1, slopes, perturb).max() < 1e-10
    shared = attribute(linear, images, 1, baseline=0.5).values
    assert judging.infidelity(linear, images, 1, judging.as_slopes(shared, images, 0.5), perturb).max() < 1e-8
    assert judging.infidelity(linear, images, 1, shared, perturb).min() > 1e-6  # the difference must be divided out


def test_infidelity_is_its_formula(bent, images):
    slopes = torch.randn(images.shape, generator=torch.Generator().manual_seed(0))
    kept = []

    def perturb(inputs):
        kept.append(judging.gaussian(0.3, seed=len(kept))(inputs))
        return kept[-1]

    measured = judging.infidelity(bent, images, 0, slopes, perturb, draws=3)
    noise = torch.cat([noise.unflatten(0, (-1, n)) for noise, n in [(k[0], len(k[0]) // 4) for k in kept]], dim=1)
    with torch.no_grad():
        change = bent(images)[:, 0, None] - bent((images[:, None] - noise).flatten(0, 1))[:, 0].view(4, 3)
    torch.testing.assert_close(measured, (((noise * slopes[:, None]).sum(dim=(2, 3, 4)) - change) ** 2).mean(dim=1), rtol=1e-4, atol=1e-6)


def test_the_wrong_sign_makes_the_gradient_worse_than_no_map(linear, images):
    slopes = attribute(linear, images, 0, "saliency").values

    def wrong(inputs):
        noise, _ = judging.gaussian(0.1)(inputs)
        return noise, inputs + noise

    nothing = judging.infidelity(linear, images, 0, slopes * 0, wrong)
    assert (judging.infidelity(linear, images, 0, slopes, wrong) > 3 * nothing).all()


def test_squares_lie_inside_and_take_the_baseline(images):
    removed, left = judging.squares(3, baseline=0.5)(images)
    assert torch.equal(images - removed, left)
    assert ((left - 0.5).abs() < 1e-6).flatten(1).sum(dim=1).tolist() == [9] * 4
    assert not torch.equal(*judging.gaussian(seed=0)(images)[:1], *judging.gaussian(seed=1)(images)[:1])


def test_sensitivity_of_a_constant_gradient_is_zero_and_of_the_input_is_not(linear, images):
    assert judging.max_sensitivity(lambda x: attribute(linear, x, 0, "saliency").values, images).max() == 0
    steady = judging.max_sensitivity(lambda x: x, images, radius=0.1, seed=3)
    assert (steady > 0.03).all() and (steady < 0.3).all()
    assert torch.equal(steady, judging.max_sensitivity(lambda x: x, images, radius=0.1, seed=3))


def test_weights_are_drawn_anew_from_the_output_down(bent):
    before = [parameter.clone() for parameter in bent.parameters()]
    top, all_ = judging.randomised(bent, seed=4, layers=1), judging.randomised(bent, seed=4)
    same = [torch.equal(a, b) for a, b in zip(before, top.parameters(), strict=True)]
    assert same == [True, True, False, False]
    assert not any(torch.equal(a, b) for a, b in zip(before, all_.parameters(), strict=True))
    assert all(torch.equal(a, b) for a, b in zip(before, bent.parameters(), strict=True))
    assert torch.equal(judging.randomised(bent, seed=4)[0].weight, all_[0].weight)

    class Own(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.zeros(2))

    with pytest.raises(ValueError, match=r"The module 'own' \(Own\) has no reset_parameters"):
        judging.randomised(nn.ModuleDict({"own": Own()}))


def test_ranks_agree_with_themselves_and_absolute_values_deceive():
    first, second = torch.randn(2, 3, 1, 20, 20, generator=torch.Generator().manual_seed(0))
    seen = torch.zeros(3, 1, 20, 20, dtype=torch.bool)
    seen[..., 5:15, 5:15] = True
    first, second = first * seen, second * seen  # the same background
    torch.testing.assert_close(judging.rank_agreement(first, 3 * first), torch.ones(3))
    torch.testing.assert_close(judging.rank_agreement(first, -first, seen), -torch.ones(3))
    assert judging.rank_agreement(first.abs(), second.abs()).min() > 0.6
    assert judging.rank_agreement(first, second, seen).abs().max() < 0.3


def test_shares_of_a_known_map():
    values = torch.zeros(2, 1, 4, 4)
    values[0, 0, 1, 1], values[0, 0, 3, 3], values[1, 0, 0, 0] = -3.0, 1.0, 2.0
    part = torch.zeros(2, 1, 4, 4, dtype=torch.bool)
    part[..., 1, 1] = True
    assert judging.mass_in_part(values, part).tolist() == [0.75, 0.0]
    assert judging.pointing_game(values, part).tolist() == [True, False]
    assert judging.area_share(part).tolist() == [1 / 16, 1 / 16]
    assert judging.mass_in_part(values * 0, part).isnan().all()


def test_changed_pixels_are_those_that_differ():
    images, others = torch.zeros(1, 3, 5, 5), torch.zeros(1, 3, 5, 5)
    others[0, 1, 2, 2], others[0, 0, 0, 0] = -0.5, 0.01
    assert judging.changed_pixels(images, others).nonzero().tolist() == [[0, 0, 2, 2]]
    assert judging.changed_pixels(images, others, dilation=1).sum() == 9


def test_deletion_starts_at_the_output_and_ends_at_the_baseline(linear, images):
    values = attribute(linear, images, 0, baseline=0.2).values
    curve = judging.deletion_curve(linear, images, 0, values, 0.2, steps=10)
    with torch.no_grad():
        ends = torch.stack([linear(images)[:, 0], linear(torch.full_like(images, 0.2))[:, 0]], dim=1)
    torch.testing.assert_close(curve[:, [0, -1]], ends)
    # Of a linear model, no order can fall faster than that of the true credit.
    order = torch.rand(images.shape, generator=torch.Generator().manual_seed(0))
    assert (curve <= judging.deletion_curve(linear, images, 0, order, 0.2, steps=10) + 1e-5).all()
    first = values.flatten(1).sort(dim=1, descending=True).values[:, :10].sum(dim=1)
    torch.testing.assert_close(curve[:, 0] - curve[:, 1], first, atol=1e-5, rtol=1e-4)


def test_one_mask_serves_all_channels():
    values = torch.zeros(2, 3, 4, 4)
    values[:, 2, 1, 1], values[:, 0, 3, 3] = 3.0, -1.0
    part = torch.zeros(2, 1, 4, 4, dtype=torch.bool)
    part[0, :, 1, 1] = part[1, :, 3, 3] = True
    assert judging.mass_in_part(values, part).tolist() == [0.75, 0.25]
    assert judging.pointing_game(values, part).tolist() == [True, False]
    for judge in (judging.mass_in_part, judging.pointing_game):
        with pytest.raises(ValueError, match="does not broadcast"):
            judge(values, part[..., :2])

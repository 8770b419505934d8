"""SumNet, RCN and the denoiser against the equations of the paper."""

import math

import pytest
import torch
import torch.nn.functional as F

from facelab.blocks import argmax_position, count_parameters, matched_width, pixel_index, seeded, spatial_softmax
from facelab.methods.recombinator import (
    RCN,
    Denoiser,
    SumNet,
    alter_levels,
    corrupt,
    denoiser_loss,
    interaction,
    recombinator_loss,
    recombine,
    weight_penalty,
)

MODELS = [SumNet, RCN]


def images(count=2, size=48, seed=0):
    return torch.rand(count, 1, size, size, generator=torch.Generator().manual_seed(seed))


def build(model, *args, **kwargs):
    with seeded(0):
        return model(*args, **kwargs).eval()


def copy_shared(source, target):
    """Weights of the same name and shape."""
    weights = source.state_dict()
    target.load_state_dict(
        {key: weights[key] if weights.get(key, value).shape == value.shape else value for key, value in target.state_dict().items()}
    )


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("mask", [None, (1, 0, 0, 0), (0, 0, 0, 1), (1, 0, 0, 1), (0, 1, 1, 0)])
def test_scores_have_the_image_size_and_softmax_sums_to_one(model, mask):
    logits = build(model, 5, mask=mask)(images())
    assert logits.shape == (2, 5, 48, 48)
    torch.testing.assert_close(spatial_softmax(logits).sum(dim=(2, 3)), torch.ones(2, 5), atol=1e-5, rtol=0)


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("mask", [(1, 1, 1), (0, 0, 0, 0), (1, 2, 1, 1)])
def test_bad_masks_are_refused(model, mask):
    with pytest.raises(ValueError, match="coarse to fine"):
        model(5, mask=mask)


@pytest.mark.parametrize("model", MODELS)
def test_sizes_that_cannot_be_halved_are_refused(model):
    with pytest.raises(ValueError, match="50 x 50 pixels cannot be halved 3 times; give multiples of 8"):
        build(model, 5)(images(size=50))


@pytest.mark.parametrize("model", MODELS)
def test_likelihood_before_training_is_that_of_chance(model):
    landmarks = torch.rand(4, 5, 2, generator=torch.Generator().manual_seed(0)) * 63
    loss = recombinator_loss(build(model, 5)(images(4, 64)), landmarks)
    assert loss.item() / 5 == pytest.approx(math.log(64**2), rel=0.03)  # 8.32


def test_sumnet_is_the_sum_of_its_branches_in_any_order():
    model = build(SumNet, 5)
    scores = model.branch_scores(images())
    assert list(scores) == [0, 1, 2, 3]
    torch.testing.assert_close(sum(scores[level] for level in (2, 0, 3, 1)), model(images()))


@pytest.mark.parametrize("level", range(4))
def test_sumnet_with_one_branch_is_that_branch_times_omega(level):
    """Also: masks are written coarse to fine, so that level 0, the finest, is the last entry."""
    full = build(SumNet, 5)
    mask = tuple(int(3 - position == level) for position in range(4))
    single = build(SumNet, 5, mask=mask)
    copy_shared(full, single)
    single.omega.data = full.omega.data[level : level + 1]
    features = full.encoder(images())[level]
    by_hand = F.interpolate(full.branches[str(level)](features), scale_factor=2**level) * full.omega[level][:, None, None]
    torch.testing.assert_close(single(images()), by_hand)
    torch.testing.assert_close(full.branch_scores(images())[level], by_hand)


def test_omega_begins_between_zero_and_one_and_scores_are_signed():
    model = build(SumNet, 68)
    assert model.omega.shape == (4, 68) and model.omega.min() >= 0 and model.omega.max() <= 1
    assert all(scores.min() < 0 < scores.max() for scores in model.branch_scores(images()).values())


@pytest.mark.parametrize("model", MODELS)
def test_masked_branches_are_not_built(model):
    """A coarse level that no branch needs has no encoder, so nothing of it is trained."""
    assert len(build(model, 5, mask=(0, 0, 1, 1)).encoder.levels) == 2
    assert len(build(model, 5, mask=(1, 0, 0, 0)).encoder.levels) == 4
    masked = build(model, 5, mask=(1, 0, 0, 1))
    recombinator_loss(masked(images()), torch.full((2, 5, 2), 20.0)).backward()
    assert all(parameter.grad is not None and parameter.grad.abs().sum() > 0 for parameter in masked.parameters())


def receptive_field(model):
    image = images(1).requires_grad_()
    model(image)[0, 0, 24, 24].backward()
    rows = image.grad[0, 0].abs().sum(dim=1).nonzero()
    return int(rows.max() - rows.min()) + 1


def test_fine_only_sumnet_sees_seven_pixels():
    model = build(SumNet, 5, channels=(64,) * 4, mask=(0, 0, 0, 1))
    assert receptive_field(model) == 7
    assert receptive_field(build(SumNet, 5)) > 40


def test_rcn_by_hand():
    model = build(RCN, 5, channels=(4, 6, 8))
    fine, middle, coarse = model.encoder(images())
    decoded = model.decoder["2"](coarse)
    decoded = model.decoder["1"](torch.cat([middle, F.interpolate(decoded, scale_factor=2)], dim=1))
    decoded = model.decoder["0"](torch.cat([fine, F.interpolate(decoded, scale_factor=2)], dim=1))
    torch.testing.assert_close(model(images()), model.output(decoded))


def test_rcn_without_the_coarse_half_of_its_last_decoder_is_fine_only():
    full, fine = build(RCN, 5), build(RCN, 5, mask=(0, 0, 0, 1))
    copy_shared(full, fine)
    kernel = full.decoder["0"][0].weight
    fine.decoder["0"][0].weight.data = kernel.data[:, :16].clone()
    silenced = full(images(), coarse=(0.0, 1.0, 1.0, 1.0))
    torch.testing.assert_close(silenced, fine(images()))
    kernel.data[:, 16:] = 0
    torch.testing.assert_close(full(images()), fine(images()))


def test_rcn_masked_level_passes_coarser_features_straight_through():
    model = build(RCN, 5, mask=(1, 0, 1, 0))
    features = model.encoder(images())
    decoded = F.interpolate(model.decoder["3"](features[3]), scale_factor=4)
    decoded = model.decoder["1"](torch.cat([features[1], decoded], dim=1))
    torch.testing.assert_close(model(images()), model.output(F.interpolate(decoded, scale_factor=2)))


def test_rcn_own_features_can_be_silenced():
    model = build(RCN, 5)
    torch.testing.assert_close(model(images(), own=(1.0,) * 4, coarse=(1.0,) * 4), model(images()))
    blind = model(images(), own=(0.0,) * 4)
    torch.testing.assert_close(blind, model(torch.rand(2, 1, 48, 48), own=(0.0,) * 4))


@pytest.mark.parametrize("model", MODELS)
def test_scores_from_features_are_those_of_the_images(model):
    network = build(model, 5, mask=(1, 0, 1, 1))
    torch.testing.assert_close(network.score(network.encoder(images())), network(images()))


def altered(hearing):
    return alter_levels(build(RCN, 5, channels=(4, 4, 4)), hearing)


def test_rcn_that_hears_nothing_is_its_finest_level():
    model, heard = altered("silent"), build(RCN, 5, channels=(4, 4, 4))
    torch.testing.assert_close(model(images()), heard(images(), coarse=(0.0, 0.0, 0.0)))


def test_rcn_that_hears_another_face_depends_on_the_batch():
    model, batch = altered("shuffled"), images(3)
    torch.testing.assert_close(model(batch[:1]), build(RCN, 5, channels=(4, 4, 4))(batch[:1]))  # the only face is its own neighbour
    assert not torch.allclose(model(batch)[:1], model(batch[:1]))


def test_an_unknown_hearing_is_refused():
    with pytest.raises(ValueError, match="'loud' is not known; use 'silent' or 'shuffled'"):
        altered("loud")


def test_fine_and_coarse_interact_in_rcn_and_in_no_sum():
    with torch.no_grad():
        assert interaction(build(SumNet, 5), images(6)) < 1e-4
        assert interaction(build(RCN, 5), images(6)) > 1e-3


def test_coarse_only_sumnet_answers_at_the_centre_of_a_coarse_cell():
    model = build(SumNet, 5, mask=(1, 0, 0, 0))
    position = argmax_position(model(images()))
    torch.testing.assert_close((position + 0.5) / 8 % 1, torch.full_like(position, 0.5))


def test_parameters_are_counted_by_hand_and_matched():
    """RCN's concatenations make it larger at the same width; a wider SumNet matches it."""
    assert count_parameters(SumNet(5)) == 160 + 3 * 2320 + 4 * (2320 + 725) + 20 == 19_320
    rcn = count_parameters(RCN(5))
    width = matched_width(lambda width: SumNet(5, channels=(width,) * 4), rcn)
    assert width > 16
    assert count_parameters(SumNet(5, channels=(width,) * 4)) == pytest.approx(rcn, rel=0.05)


def test_landmarks_outside_the_image_do_not_count():
    logits = build(RCN, 5)(images())
    landmarks = torch.rand(2, 5, 2) * 47
    outside = landmarks.clone()
    outside[0, 0], outside[1, 3] = torch.tensor([-3.0, 5.0]), torch.tensor([5.0, 60.0])
    index, inside = pixel_index(outside, 48)
    log_probability = logits.flatten(2).log_softmax(-1).gather(-1, index[..., None])[..., 0]
    torch.testing.assert_close(recombinator_loss(logits, outside), -5 * log_probability[inside].mean())


def test_corruption_replaces_as_many_as_told_at_random():
    index = torch.zeros(500, 19, dtype=torch.long)
    noisy, chosen = corrupt(index, 12, 8, torch.Generator().manual_seed(0))
    assert (chosen.sum(dim=1) == 8).all()
    assert (noisy[~chosen] == 0).all() and noisy.max() == 143
    torch.testing.assert_close(chosen.float().mean(dim=0), torch.full((19,), 8 / 19), atol=0.1, rtol=0)
    torch.testing.assert_close(noisy[chosen].float().mean(), torch.tensor(71.5), atol=3.0, rtol=0)


def test_denoiser_loss_counts_corrupted_landmarks_only():
    """A network that copies its input would be perfect on the rest; here it must be as bad as its copies are wrong."""

    def copying(one_hot):
        return 50.0 * one_hot

    landmarks = torch.rand(40, 19, 2, generator=torch.Generator().manual_seed(0)) * 11
    assert denoiser_loss(copying, landmarks, 12, 8, torch.Generator().manual_seed(0)) > 19 * 45
    assert denoiser_loss(copying, landmarks, 12, 0, torch.Generator().manual_seed(0)) == 0


def test_denoiser_learns_where_a_landmark_must_be_from_the_others():
    """A rigid constellation at random places: hiding any two of five, the other three tell where they are."""
    generator = torch.Generator().manual_seed(0)
    shape = torch.tensor([[2.0, 2.0], [6.0, 2.0], [4.0, 4.0], [2.0, 6.0], [6.0, 6.0]])
    landmarks = shape + torch.randint(0, 4, (256, 1, 2), generator=generator)
    with seeded(0):
        model = Denoiser(5, channels=16, kernel=9)
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    for step in range(60):
        optimizer.zero_grad()
        loss = denoiser_loss(model, landmarks[(step * 64) % 256 :][:64], 12, 2, generator)
        loss.backward()
        optimizer.step()
    assert loss.item() / 5 < 1.0 < math.log(144)


def test_recombine_adds_scores_of_the_denoiser_upsampled():
    logits = torch.randn(2, 5, 48, 48, generator=torch.Generator().manual_seed(0))
    denoiser = build(Denoiser, 5, channels=8, kernel=5)
    with torch.no_grad():
        difference = recombine(logits, denoiser, 12) - logits
    torch.testing.assert_close(recombine(logits, lambda one_hot: 3.0 * torch.ones_like(one_hot), 12), logits + 3.0)
    assert difference.std() > 0
    seen = []
    recombine(logits, lambda one_hot: seen.append(one_hot) or one_hot, 12)
    torch.testing.assert_close(argmax_position(seen[0]), ((argmax_position(logits) + 0.5) / 4).floor())
    with pytest.raises(ValueError, match="does not divide"):
        recombine(logits, denoiser, 10)


@pytest.mark.parametrize("model", MODELS)
def test_penalty_counts_weights_by_where_they_are_and_no_biases(model):
    net = build(model, 5, channels=(4, 4))
    with torch.no_grad():
        for name, parameter in net.named_parameters():
            parameter.fill_(100.0 if name.endswith("bias") else 2.0)
    encoder = 4 * sum(weight.numel() for name, weight in net.named_parameters() if name.startswith("encoder") and not name.endswith("bias"))
    rest = 4 * sum(
        weight.numel() for name, weight in net.named_parameters() if not name.startswith("encoder") and not name.endswith("bias")
    )
    assert weight_penalty(net, encoder=1.0, branches=0.0).item() == pytest.approx(encoder)
    assert weight_penalty(net, encoder=0.0, branches=0.5).item() == pytest.approx(0.5 * rest)

"""Conversion of landmarks, their loss, the plain CNN, and the helpers that seed and count."""

import numpy as np
import pytest
import torch

from facelab.blocks import (
    ConvRegressor,
    UNet,
    convert_landmarks,
    count_parameters,
    interocular_distance,
    landmark_loss,
    matched_width,
    seeded,
)
from facelab.markups import convert


def faces(count=3, size=64, seed=0):
    return torch.rand(count, 68, 2, generator=torch.Generator().manual_seed(seed)) * size


@pytest.mark.parametrize("target", [68, 29, 19, 5])
def test_conversion_agrees_with_the_arrays(target):
    np.testing.assert_allclose(convert_landmarks(faces(), target).numpy(), convert(faces().numpy(), target), rtol=1e-5)


def test_interocular_distance_by_hand():
    landmarks = torch.zeros(1, 68, 2)
    landmarks[0, 36], landmarks[0, 45] = torch.tensor([1.0, 2.0]), torch.tensor([4.0, 6.0])
    assert interocular_distance(landmarks).tolist() == [5.0]


def test_loss_by_hand():
    true = torch.tensor([[[0.0, 0.0], [4.0, 0.0], [0.0, 4.0], [1.0, 1.0], [2.0, 2.0]]])  # eye centres 4 apart
    predicted = true.clone()
    predicted[0, 2] += torch.tensor([3.0, -1.0])
    assert landmark_loss(predicted, true) == pytest.approx((3 + 1) / (5 * 4))
    assert landmark_loss(predicted, true, torch.tensor([8.0])) == pytest.approx((3 + 1) / (5 * 8))


def test_faces_without_annotation_add_nothing_and_no_gradient():
    true = faces()
    predicted = (true + 1).requires_grad_()
    only_first = torch.where(torch.arange(3)[:, None, None] == 0, true, torch.nan)
    loss = landmark_loss(predicted, only_first)
    torch.testing.assert_close(loss, landmark_loss(predicted[:1], true[:1]) / 3)
    loss.backward()
    assert predicted.grad.isfinite().all() and predicted.grad[0].abs().sum() > 0
    assert (predicted.grad[1:] == 0).all()


def test_regressor_begins_at_the_mean_shape_and_learns():
    images, true = torch.rand(4, 1, 32, 32, generator=torch.Generator().manual_seed(0)), faces(4, 32)
    with seeded(0):
        model = ConvRegressor(68, 32, mean_shape=true.mean(dim=0))
    torch.testing.assert_close(model(images), true.mean(dim=0).expand(4, -1, -1))
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    before = landmark_loss(model(images), true)
    for _ in range(40):
        optimizer.zero_grad()
        landmark_loss(model(images), true).backward()
        optimizer.step()
    assert landmark_loss(model(images), true) < 0.5 * before


def test_regressor_names_the_sizes_it_can_take():
    with pytest.raises(ValueError, match="multiple of 16"):
        ConvRegressor(68, 50)


@pytest.mark.parametrize("size", [(48, 48), (45, 51), (7, 9)])
def test_unet_keeps_the_size(size):
    assert UNet(3, (4, 8, 12))(torch.rand(2, 3, *size)).shape == (2, 4, *size)


def test_unet_sees_everything_at_its_lowest_level_and_does_not_mix_faces():
    with seeded(0):
        model = UNet(1, (4, 8, 8)).eval()
    images = torch.rand(2, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    changed = images.clone()
    changed[1, 0, 0, 0] += 1.0
    difference = (model(changed) - model(images)).abs()
    assert difference[1, :, 8, 8].sum() > 0 and difference[0].sum() == 0


def test_count_parameters_by_hand():
    assert count_parameters(torch.nn.Conv2d(3, 5, 3)) == 3 * 5 * 9 + 5
    frozen = torch.nn.Linear(2, 2).requires_grad_(False)
    assert count_parameters(frozen) == 0


def test_matched_width_finds_the_closest():
    def build(width):
        return torch.nn.Linear(10, width)

    assert matched_width(build, 11 * 7 + 3) == 7
    assert matched_width(build, 11 * 7 + 8) == 8


def test_seeded_fixes_weights_and_leaves_the_global_generator_alone():
    state = torch.get_rng_state()
    with seeded(3):
        first = torch.nn.Linear(4, 4).weight
    with seeded(3):
        second = torch.nn.Linear(4, 4).weight
    assert torch.equal(first, second) and torch.equal(torch.get_rng_state(), state)

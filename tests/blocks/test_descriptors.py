"""Histograms of gradients on images whose gradients are known."""

import pytest
import torch

from facelab.blocks.descriptors import gradient_histograms


def random_images(size=40):
    return torch.rand(2, 1, size, size, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(("turns", "direction"), [(0, 0), (1, 6), (2, 4), (3, 2)])
def test_a_ramp_fills_one_direction(turns, direction):
    ramp = torch.rot90(torch.arange(32.0).expand(1, 1, 32, 32), turns, (2, 3))
    found = gradient_histograms(ramp, torch.full((1, 3, 2), 15.5)).reshape(3, 4, 8)
    torch.testing.assert_close(found[..., direction], torch.full((3, 4), 0.5))
    assert found.sum() == pytest.approx(6, abs=1e-4)


def test_image_and_points_may_move_together():
    images, points = random_images(), torch.tensor([[[15.0, 20.0], [18.25, 16.5]]]).repeat(2, 1, 1)
    moved = gradient_histograms(images.roll((3, 2), (2, 3)), points + torch.tensor([2.0, 3.0]))
    torch.testing.assert_close(gradient_histograms(images, points), moved, atol=1e-5, rtol=0)


def test_a_flat_image_gives_zeros():
    assert not gradient_histograms(torch.full((1, 1, 20, 20), 0.3), torch.full((1, 4, 2), 5.0)).any()


def test_windows_have_length_one_wherever_they_lie():
    lengths = gradient_histograms(random_images(), torch.tensor([[[-5.0, 3.0], [39.0, 45.0], [20.0, 20.0]]]).repeat(2, 1, 1)).norm(dim=2)
    torch.testing.assert_close(lengths, torch.ones(2, 3))

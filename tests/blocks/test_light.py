"""Standardised images: free of brightness and contrast, and defined even where nothing is seen."""

import torch

from facelab.blocks import standardise


def test_each_image_alone_gets_mean_zero_and_deviation_near_one():
    images = torch.rand(3, 1, 32, 32, generator=torch.Generator().manual_seed(0))
    done = standardise(images, least=0.0)
    assert torch.allclose(done.mean(dim=(1, 2, 3)), torch.zeros(3), atol=1e-5)
    assert torch.allclose(done.std(dim=(1, 2, 3), unbiased=False), torch.ones(3), atol=1e-4)
    assert torch.equal(standardise(images)[1:2], standardise(images[1:2]))


def test_brightness_and_contrast_make_no_difference():
    images = torch.rand(2, 1, 32, 32, generator=torch.Generator().manual_seed(1))
    assert torch.allclose(standardise(0.5 * images + 0.2, least=0.0), standardise(images, least=0.0), atol=1e-4)


def test_a_plain_image_gives_zeros():
    assert torch.equal(standardise(torch.full((1, 1, 8, 8), 0.5)), torch.zeros(1, 1, 8, 8))

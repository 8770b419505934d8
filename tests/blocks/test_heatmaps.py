"""Soft-argmax, arg-max, pixel numbers and the likelihood of a pixel."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from facelab.blocks import argmax_position, expected_position, heatmap_nll, one_hot_maps, pixel_index, spatial_softmax

sizes = st.integers(2, 20)


@settings(deadline=None, max_examples=30)
@given(height=sizes, width=sizes, seed=st.integers(0, 999), constant=st.floats(-50, 50))
def test_softmax_sums_to_one_over_pixels_and_ignores_constants(height, width, seed, constant):
    logits = 5 * torch.randn(2, 3, height, width, generator=torch.Generator().manual_seed(seed))
    maps = spatial_softmax(logits)
    assert (maps >= 0).all()
    torch.testing.assert_close(maps.sum(dim=(2, 3)), torch.ones(2, 3))
    torch.testing.assert_close(spatial_softmax(logits + constant), maps, atol=1e-4, rtol=1e-3)


def test_softmax_of_a_product_of_experts_ignores_a_constant_added_to_either():
    first, second = torch.randn(2, 1, 4, 6, 6, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(spatial_softmax(first + (second + 7.0)), spatial_softmax(first + second))


@settings(deadline=None, max_examples=30)
@given(height=sizes, width=sizes, stride=st.integers(1, 4), data=st.data())
def test_expectation_of_a_one_hot_map_is_the_centre_of_its_pixel(height, width, stride, data):
    x, y = data.draw(st.integers(0, width - 1)), data.draw(st.integers(0, height - 1))
    maps = torch.zeros(1, 1, height, width)
    maps[0, 0, y, x] = 1.0
    expected = torch.tensor([[[(x + 0.5) * stride - 0.5, (y + 0.5) * stride - 0.5]]])
    torch.testing.assert_close(expected_position(maps, stride), expected)


def test_gradient_of_the_expectation_is_the_map_times_the_distance():
    logits = torch.randn(1, 1, 5, 7, generator=torch.Generator().manual_seed(0), requires_grad=True)
    maps = spatial_softmax(logits)
    position = expected_position(maps)
    position[0, 0, 0].backward()
    x = torch.arange(7.0)
    torch.testing.assert_close(logits.grad[0, 0], (maps * (x - position[0, 0, 0]))[0, 0].detach())


def test_argmax_takes_the_highest_pixel():
    logits = torch.zeros(1, 2, 6, 6)
    logits[0, 0, 2, 5], logits[0, 1, 4, 1] = 3.0, 0.1
    assert argmax_position(logits).tolist() == [[[5.0, 2.0], [1.0, 4.0]]]


@pytest.mark.parametrize("factor", [2, 4, 8])
def test_argmax_of_an_upsampled_map_is_the_centre_of_the_coarse_cell(factor):
    coarse = torch.randn(4, 3, 48 // factor, 48 // factor, generator=torch.Generator().manual_seed(1))
    fine = torch.nn.functional.interpolate(coarse, scale_factor=factor)
    torch.testing.assert_close(argmax_position(fine), (argmax_position(coarse) + 0.5) * factor - 0.5)


def test_coarse_cells_cost_what_the_card_computes():
    """Uniform truth in a cell of 8: mean distance 0.3826 x 8 from its centre, 0.7652 x 8 from its first corner."""
    truth = torch.rand(200_000, 2, generator=torch.Generator().manual_seed(0)) * 8
    assert (truth - 4).norm(dim=-1).mean() == pytest.approx(0.3826 * 8, rel=0.01)
    assert truth.norm(dim=-1).mean() == pytest.approx(0.7652 * 8, rel=0.01)


def test_pixel_index_rounds_clamps_and_says_what_is_outside():
    landmarks = torch.tensor([[[0.0, 0.0], [3.4, 1.6], [-0.6, 2.0], [-0.4, 2.0], [7.6, 9.0]]])
    index, inside = pixel_index(landmarks, 8)
    assert index.tolist() == [[0, 2 * 8 + 3, 16, 16, 63]]
    assert inside.tolist() == [[True, True, False, True, False]]
    one_hot = one_hot_maps(index, 8)
    torch.testing.assert_close(argmax_position(one_hot)[0, 1], torch.tensor([3.0, 2.0]))
    torch.testing.assert_close(one_hot.sum(dim=(2, 3)), torch.ones(1, 5))


def test_nll_of_flat_maps_is_k_log_pixels():
    index = torch.arange(10).view(2, 5)
    torch.testing.assert_close(heatmap_nll(torch.zeros(2, 5, 64, 64), index), torch.tensor(5 * math.log(64**2)))


def test_nll_agrees_with_cross_entropy_and_counts_the_mask_only():
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(3, 4, 5, 5, generator=generator)
    index = torch.randint(25, (3, 4), generator=generator)
    mask = torch.rand(3, 4, generator=generator) < 0.5
    reference = torch.nn.functional.cross_entropy(logits.flatten(2)[mask], index[mask])
    torch.testing.assert_close(heatmap_nll(logits, index, mask), 4 * reference)
    assert heatmap_nll(logits, index, torch.zeros_like(mask)) == 0


def test_nll_does_not_underflow():
    logits = torch.zeros(1, 1, 4, 4)
    logits[0, 0, 0, 0] = 1000.0
    assert heatmap_nll(logits, torch.tensor([[5]])) == 1000.0

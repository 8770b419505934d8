"""Augmentation moves pixels and landmarks alike, and only as told."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from facelab.blocks import argmax_position, augment, draw_warp, two_views
from facelab.markups import markup

NOTHING = {"rotation": 0.0, "scale": 0.0, "shift": 0.0, "flip": 0.0, "light": 0.0, "occlusion": 0.0, "noise": 0.0}


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def spots(seed, size=65, count=4):
    """Images with one smooth bright spot per channel, one channel per landmark of the mark-up of 5."""
    landmarks = size / 2 + (torch.rand(count, 5, 2, generator=generator(seed)) - 0.5) * size * 0.4
    y, x = torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij")
    squared = (x - landmarks[..., 0, None, None]) ** 2 + (y - landmarks[..., 1, None, None]) ** 2
    return (-squared / (2 * 2.0**2)).exp(), landmarks


def test_nothing_asked_nothing_changed():
    images, landmarks = spots(0)
    same, unmoved = augment(images, landmarks, markup(5), generator(), **NOTHING)
    torch.testing.assert_close(same, images, atol=1e-5, rtol=0)
    torch.testing.assert_close(unmoved, landmarks, atol=1e-4, rtol=0)


@settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 10_000))
def test_landmarks_stay_on_their_spots(seed):
    images, landmarks = spots(seed)
    moved, points = augment(images, landmarks, markup(5), generator(seed), rotation=40.0, scale=0.3, shift=0.1, light=0.0, occlusion=0.0)
    peaks = argmax_position(moved)
    flipped = (points - peaks).norm(dim=-1) > 1.5  # a mirrored face: the channels have not swapped, the landmarks have
    expected = torch.where(flipped.any(dim=1)[:, None, None], points[:, torch.as_tensor(markup(5).flip)], points)
    assert (expected - peaks).norm(dim=-1).max() < 1.0


def test_flip_mirrors_pixels_and_swaps_landmarks():
    images, landmarks = spots(1)
    flipped, points = augment(images, landmarks, markup(5), generator(), **(NOTHING | {"flip": 1.0}))
    torch.testing.assert_close(flipped, images.flip(-1), atol=1e-5, rtol=0)
    mirrored = landmarks * torch.tensor([-1.0, 1.0]) + torch.tensor([64.0, 0.0])
    torch.testing.assert_close(points, mirrored[:, torch.as_tensor(markup(5).flip)], atol=1e-4, rtol=0)


def test_oblong_images_are_turned_without_distortion():
    landmarks = torch.tensor([[[10.0, 20.0], [30.0, 20.0], [20.0, 30.0], [14.0, 36.0], [26.0, 36.0]]])
    images = torch.rand(1, 1, 60, 40, generator=generator())
    _, points = augment(images, landmarks, markup(5), generator(3), **(NOTHING | {"rotation": 45.0, "shift": 0.2}))
    torch.testing.assert_close(torch.pdist(points[0]), torch.pdist(landmarks[0]))
    assert (points - landmarks).abs().max() > 1


def test_same_generator_same_result_and_values_stay_in_range():
    images, landmarks = spots(2)
    first, points = augment(images, landmarks, markup(5), generator(5), light=0.8, noise=0.2, occlusion=1.0)
    second, again = augment(images, landmarks, markup(5), generator(5), light=0.8, noise=0.2, occlusion=1.0)
    assert torch.equal(first, second) and torch.equal(points, again)
    assert first.min() >= 0 and first.max() <= 1


def test_occlusion_covers_a_rectangle_of_one_grey_where_asked():
    images = torch.rand(200, 1, 32, 32, generator=generator())
    landmarks = torch.zeros(200, 5, 2)
    covered, _ = augment(images, landmarks, markup(5), generator(), **(NOTHING | {"occlusion": 0.5}))
    changed = (covered - images).abs() > 1e-4
    faces = changed.any(dim=(1, 2, 3))
    assert 70 < faces.sum() < 130
    for image, where in zip(covered[faces][:10, 0], changed[faces][:10, 0], strict=True):
        rows, columns = where.any(dim=1).nonzero(), where.any(dim=0).nonzero()
        box = image[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
        assert torch.unique(box).numel() == 1


@pytest.mark.parametrize("option", ["light", "noise"])
def test_light_and_noise_change_pixels_and_no_landmark(option):
    images, landmarks = spots(3)
    changed, points = augment(images, landmarks, markup(5), generator(), **(NOTHING | {option: 0.5}))
    torch.testing.assert_close(points, landmarks, atol=1e-4, rtol=0)
    assert (changed - images).abs().mean() > 0.01


def test_unknown_landmarks_stay_unknown():
    images, landmarks = spots(4)
    landmarks[1] = torch.nan
    _, points = augment(images, landmarks, markup(5), generator())
    assert points[1].isnan().all() and points[[0, 2, 3]].isfinite().all()


def test_images_move_alike_whatever_goes_along():
    images, landmarks = spots(5)
    masks = images > 0.5
    together, points, moved = augment(images, landmarks, markup(5), generator(6), masks=masks)
    alone = augment(images, generator=generator(6))
    with_masks, same = augment(images, generator=generator(6), masks=masks)
    assert torch.equal(alone, together) and torch.equal(alone, with_masks) and torch.equal(moved, same)
    assert torch.equal(points, augment(images, landmarks, markup(5), generator(6))[1])


@pytest.mark.parametrize("kind", [torch.bool, torch.int64, torch.uint8])
def test_masks_stay_masks_and_lie_where_the_image_shows_them(kind):
    images, _ = spots(6)
    masks = (images.argmax(dim=1) + 3).to(kind)  # one class each, here and there more than the highest index of an image
    shown = masks.float()[:, None]
    moved, along = augment(shown, generator=generator(8), masks=masks, rotation=40.0, flip=0.5, light=0.0, occlusion=0.0)
    assert along.dtype == kind and along.shape == masks.shape
    assert set(along.unique().tolist()) <= set(masks.unique().tolist())
    inside = (moved[:, 0] - moved[:, 0].round()).abs() < 1e-3  # no border runs through these pixels, unless classes happen to mix
    assert (along.float() == moved[:, 0].round())[inside].float().mean() > 0.98
    assert inside.float().mean() > 0.8


def test_light_and_covers_leave_masks_alone():
    masks = torch.randint(0, 9, (4, 2, 33, 40), generator=generator())
    images = torch.rand(4, 3, 33, 40, generator=generator())
    changed, same = augment(images, generator=generator(), masks=masks, **(NOTHING | {"light": 0.5, "occlusion": 1.0}))
    assert torch.equal(same, masks) and not torch.allclose(changed, images)


def test_points_without_a_markup_keep_their_places_in_the_list():
    images, landmarks = spots(7)
    _, points = augment(images, landmarks, None, generator(), **(NOTHING | {"flip": 1.0}))
    torch.testing.assert_close(points, landmarks * torch.tensor([-1.0, 1.0]) + torch.tensor([64.0, 0.0]), atol=1e-4, rtol=0)


def test_one_warp_moves_what_a_network_saw_and_what_it_says():
    images, landmarks = spots(8)
    warp = draw_warp(images, generator(9), rotation=30.0, flip=0.5)
    peaks = argmax_position(warp.images(images))
    assert (warp.landmarks(landmarks) - peaks).norm(dim=-1).max() < 1.0


def test_two_views_are_two_draws_of_one_image():
    images, _ = spots(9)
    first, second = two_views(images, generator(1), flip=0.0)
    assert first.shape == second.shape == images.shape and not torch.allclose(first, second, atol=0.05)
    assert torch.equal(first, augment(images, generator=generator(1), flip=0.0))
    assert torch.equal(two_views(images, generator(1), flip=0.0)[1], second)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_any_precision_is_moved_alike(dtype):
    images, landmarks = spots(0)
    expected, points = augment(images, landmarks, generator=generator(), noise=0.1)
    moved, exact = augment(images.to(dtype), landmarks.double(), generator=generator(), noise=0.1)
    assert moved.dtype == dtype and torch.allclose(moved.float(), expected, atol=0.03)
    assert exact.dtype == torch.float64 and torch.allclose(exact.float(), points, atol=1e-3)

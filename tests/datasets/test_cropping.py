import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from facelab.datasets import WIDEN, Crop, bounding_box, crop_face, cut, eye_crops, square_around

positions = st.floats(-200, 200)
crops = st.builds(Crop, x=positions, y=positions, side=st.floats(5, 400), size=st.integers(8, 96))


@given(crops, st.lists(st.tuples(positions, positions), min_size=1))
def test_points_go_into_the_crop_and_back(crop, points):
    points = np.array(points)
    assert crop.to_image(crop.to_crop(points)) == pytest.approx(points, abs=1e-6)


@given(crops)
def test_centre_and_corners_of_the_square(crop):
    """The square's corner is half a pixel outside the centre of the first pixel."""
    corner = np.array([[crop.x - crop.side / 2, crop.y - crop.side / 2], [crop.x + crop.side / 2, crop.y + crop.side / 2]])
    assert crop.to_crop(corner) == pytest.approx(np.array([[-0.5, -0.5], [crop.size - 0.5] * 2]), abs=1e-6)


def test_framing_is_the_landmarks_box_widened(face):
    crop = square_around(bounding_box(face), size=64)
    width, height = np.ptp(face, axis=0)
    assert crop.side == pytest.approx(WIDEN * max(width, height)) and crop.size == 64
    inside = crop.to_crop(face)
    assert np.ptp(inside, axis=0).max() == pytest.approx(64 / WIDEN)
    assert (inside.min(axis=0) + inside.max(axis=0)) / 2 == pytest.approx([31.5, 31.5])


def test_landmarks_and_their_box_give_the_same_crop(face):
    image = np.random.default_rng(1).integers(0, 256, (100, 100, 3), dtype=np.uint8)
    by_points, crop = crop_face(image, face, 48)
    by_box, same = crop_face(image, bounding_box(face), 48)
    assert crop == same and (by_points == by_box).all()


@given(st.floats(60, 190), st.floats(60, 190), st.floats(8, 100), st.integers(8, 64))  # enlarging up to eight times, shrinking up to twelve
def test_pixels_come_from_where_the_transform_says(x, y, side, size):
    """In an image whose red is x and whose green is y, every pixel tells where it was taken."""
    row = np.arange(250, dtype=np.uint8)
    image = np.stack(np.broadcast_arrays(row[None, :], row[:, None], np.uint8(7)), axis=-1)
    crop = Crop(x, y, side, size)
    pixels = cut(image, crop)
    columns, rows = np.meshgrid(np.arange(size), np.arange(size))
    origin = crop.to_image(np.stack([columns, rows], axis=-1).reshape(-1, 2)).reshape(size, size, 2)
    assert np.abs(pixels[..., :2] - origin).max() <= 1.01  # rounding in each of two passes
    assert (pixels[..., 2] == 7).all()


def test_shrinking_averages_instead_of_picking():
    checkerboard = (np.indices((128, 128)).sum(axis=0) % 2 * 255).astype(np.uint8)
    pixels = cut(np.repeat(checkerboard[..., None], 3, axis=-1), Crop(63.5, 63.5, 128, 16))
    assert np.abs(pixels.astype(int) - 127).max() <= 6


def test_outside_the_image_its_edge_is_repeated():
    image = np.zeros((20, 20, 3), np.uint8)
    image[:, -1] = 200
    pixels = cut(image, Crop(40.0, 10.0, 20.0, 10))
    assert (pixels == 200).all()
    assert cut(image, Crop(-500.0, 1000.0, 20.0, 10)).max() == 0


@given(st.floats(20, 80), st.floats(20, 80), st.floats(10, 60), st.integers(8, 64))
def test_mirrored_image_gives_the_mirrored_crop(x, y, side, size):
    image = np.random.default_rng(2).integers(0, 256, (90, 100, 3), dtype=np.uint8)
    pixels = cut(image, Crop(x, y, side, size))
    mirrored = cut(image[:, ::-1], Crop(99 - x, y, side, size))
    assert np.abs(mirrored[:, ::-1].astype(int) - pixels).max() <= 1


@pytest.mark.parametrize("box", [[5, 5, 5, 5], [9, 9, 1, 1], [0, 0, np.nan, 4], [0, 0, np.inf, 4]])
def test_an_empty_box_is_refused(box):
    with pytest.raises(ValueError, match="holds nothing"):
        square_around(np.array(box, dtype=float))


@pytest.mark.parametrize(("size", "widen"), [(0, 1.3), (64, 0.0), (-3, 1.3)])
def test_an_impossible_size_is_refused(size, widen, face):
    with pytest.raises(ValueError, match="size >= 1 pixel and widen > 0"):
        square_around(bounding_box(face), size, widen)


def test_eyes_are_cut_out_around_their_landmarks_both_in_one_size():
    from facelab.worlds.faces import render

    faces = render(3, size=96, channels=(), yaw=np.array([-40.0, 0.0, 40.0]), glasses="none", hand="none", mask="none", patch=0.0)
    crops = eye_crops(faces, 24)
    assert crops.shape == (3, 2, 24, 24) and crops.dtype == np.float32 and 0 <= crops.min() < crops.max() <= 1
    dots = np.zeros_like(faces.images)  # white where the corners of the right eye are
    for image, points in zip(dots, faces.landmarks, strict=True):
        for x, y in np.round(points[[36, 39]]).astype(int):
            image[y, x] = 255
    where = [np.argwhere(crop[0] > 0.5 * crop[0].max()).mean(axis=0) for crop in eye_crops(dataclasses.replace(faces, images=dots), 24)]
    assert np.abs(np.array(where) - 11.5).max() < 2, "the middle between the corners is the middle of the crop"


def test_eyes_need_the_landmarks_that_bound_them():
    from facelab.worlds.faces import render

    with pytest.raises(ValueError, match="68 landmarks; these faces have 5"):
        eye_crops(render(1, size=32, markup=5, channels=()))

"""The landmark mark-ups: names, flips, lines, conversion."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from facelab.markups import MARKUPS, conversion, convert, markup

SIZES = sorted(MARKUPS)
CONVERSIONS = [(98, 68), (98, 29), (98, 19), (98, 5), (68, 29), (68, 19), (68, 5)]


def test_the_five_markups_exist():
    assert SIZES == [5, 19, 29, 68, 98]


@pytest.mark.parametrize("size", SIZES)
def test_every_landmark_has_one_name_and_one_region(size):
    points = markup(size)
    assert points.size == len(points.names) == len(set(points.names)) == size
    assert sorted(i for region in points.regions.values() for i in region) == list(range(size))
    assert set(points.closed) <= set(points.regions)


@pytest.mark.parametrize("size", SIZES)
def test_flip_pairs_left_with_right_and_is_its_own_inverse(size):
    points = markup(size)
    assert (points.flip[points.flip] == np.arange(size)).all()
    for name, partner in zip(points.names, points.flip, strict=True):
        mirrored = points.names[partner]
        if "left" in name or "right" in name:
            assert mirrored != name and mirrored.replace("left", "right") == name.replace("left", "right")
        else:
            assert mirrored == name


@pytest.mark.parametrize("size", SIZES)
def test_outer_eyes_are_a_mirror_pair_right_first(size):
    right, left = markup(size).outer_eyes
    assert markup(size).flip[right] == left
    assert markup(size).names[right].startswith("right") and "eye" in markup(size).names[right]


def test_the_68_follow_the_300w_order():
    points = markup(68)
    assert points.names[8] == "chin" and points.names[0] == "right_jaw_0" and points.names[16] == "left_jaw_0"
    assert points.names[30] == "nose_tip" and points.names[33] == "nose_base"
    assert points.outer_eyes == (36, 45) and points.names[39] == "right_eye_inner" and points.names[42] == "left_eye_inner"
    assert points.names[48] == "right_mouth_corner" and points.names[54] == "left_mouth_corner"
    assert points.names[51] == "upper_lip_top" and points.names[57] == "lower_lip_bottom"
    assert points.names[62] == "upper_lip_bottom" and points.names[66] == "lower_lip_top"
    published = {0: 16, 7: 9, 17: 26, 21: 22, 31: 35, 36: 45, 37: 44, 40: 47, 41: 46, 48: 54, 49: 53, 59: 55, 60: 64, 61: 63, 67: 65}
    assert {i: points.flip[i] for i in published} == published


def test_the_98_follow_the_wflw_order():
    points = markup(98)
    assert points.names[16] == "chin" and points.outer_eyes == (60, 72)
    assert points.names[64] == "right_eye_inner" and points.names[68] == "left_eye_inner"
    assert points.names[54] == "nose_tip" and points.names[57] == "nose_base"
    assert points.names[76] == "right_mouth_corner" and points.names[82] == "left_mouth_corner"
    assert points.names[96:] == ("right_pupil", "left_pupil")
    published = {0: 32, 33: 46, 37: 42, 38: 50, 41: 47, 61: 71, 66: 74, 76: 82, 88: 92, 96: 97}
    assert {i: points.flip[i] for i in published} == published


@pytest.mark.parametrize("size", SIZES)
def test_closed_lines_return_to_their_start(size):
    points = markup(size)
    drawn = [name for name, region in points.regions.items() if len(region) > 1]
    for name, line in zip(drawn, points.lines, strict=True):
        assert (line[0] == line[-1]) == (name in points.closed)


@pytest.mark.parametrize(("source", "target"), CONVERSIONS)
def test_conversion_is_an_average_and_knows_left_from_right(source, target):
    matrix = conversion(source, target)
    assert matrix.shape == (target, source)
    assert np.allclose(matrix.sum(axis=1), 1) and matrix.min() >= 0
    # converting the mirrored face is mirroring the converted face
    assert np.allclose(matrix[markup(target).flip], matrix[:, markup(source).flip])


@settings(deadline=None, max_examples=25)
@given(pair=st.sampled_from(CONVERSIONS), seed=st.integers(0, 100), batch=st.sampled_from([(), (3,), (2, 3)]))
def test_conversion_commutes_with_moving_the_face(pair, seed, batch):
    source, target = pair
    rng = np.random.default_rng(seed)
    landmarks = rng.normal(size=(*batch, source, 2))
    affine, shift = rng.normal(size=(2, 2)), rng.normal(size=2)
    assert np.allclose(convert(landmarks @ affine + shift, target), convert(landmarks, target) @ affine + shift)


def test_shared_names_mean_the_same_point():
    landmarks = np.random.default_rng(0).normal(size=(98, 2))
    coarse = {size: dict(zip(markup(size).names, convert(landmarks, size), strict=True)) for size in (68, 29, 19, 5)}
    for name in ("nose_tip", "right_mouth_corner", "left_mouth_corner"):
        assert all(np.allclose(points[name], coarse[68][name]) for points in coarse.values())
    assert np.allclose(coarse[29]["left_eye_centre"], coarse[5]["left_eye_centre"])
    assert np.allclose(coarse[68]["chin"], landmarks[16])


def test_converting_in_two_steps_is_converting_in_one():
    landmarks = np.random.default_rng(1).normal(size=(98, 2)).astype(np.float32)
    assert np.allclose(convert(convert(landmarks, 68), 19), convert(landmarks, 19), atol=1e-6)
    assert convert(landmarks, 19).dtype == np.float32
    assert np.array_equal(convert(landmarks, 98), landmarks)


@pytest.mark.parametrize(("source", "target"), [(5, 68), (19, 5), (29, 19), (68, 98)])
def test_finer_from_coarser_is_refused(source, target):
    with pytest.raises(ValueError, match="only 98 -> 68 -> 29, 19 or 5"):
        conversion(source, target)


def test_an_unknown_markup_is_refused_with_the_known_ones():
    with pytest.raises(ValueError, match="no mark-up of 21 landmarks; choose one of \\[5, 19, 29, 68, 98\\]"):
        markup(21)

"""Real digits under known transformations."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.datasets import load_digits

from facelab.worlds import digits

pytestmark = pytest.mark.slow

PLAIN = {"rotation": 0, "scale": 1, "shift_x": 0, "shift_y": 0, "noise": 0}


@pytest.mark.slow
def test_they_are_the_real_scans():
    data = load_digits()
    batch = digits.render(20, seed=0, size=8, **PLAIN)
    for image, label, example in zip(batch.images, batch.labels, batch.example, strict=True):
        scan = data.images[data.target == label][example] / 16
        assert np.corrcoef(image.ravel(), scan.ravel())[0, 1] > 0.97


@settings(deadline=None, max_examples=10)
@given(seed=st.integers(0, 1000), start=st.integers(0, 100), item=st.integers(0, 5))
def test_an_item_does_not_depend_on_its_batch(seed, start, item):
    whole, alone = digits.render(6, seed, start=start), digits.render(1, seed, start=start + item)
    assert (whole.images[item] == alone.images[0]).all()
    assert whole.take(item).rotation == alone.rotation


def test_a_quarter_turn_is_clockwise_and_exact():
    upright = digits.render(5, size=32, **PLAIN)
    turned = digits.render(5, size=32, **PLAIN | {"rotation": 90})
    difference = np.rot90(upright.images, -1, axes=(1, 2)).astype(int) - turned.images
    assert np.abs(difference).max() <= 1


def test_a_shift_moves_the_ink_by_as_many_pixels():
    still = digits.render(5, size=40, **PLAIN | {"scale": 0.5})
    moved = digits.render(5, size=40, **PLAIN | {"scale": 0.5, "shift_x": 0.1, "shift_y": -0.05})
    assert (np.roll(still.images, (-2, 4), axis=(1, 2)) == moved.images).all()
    assert np.allclose(moved.shift, [4, -2])


def test_scale_changes_the_area_by_its_square():
    area = [digits.render(20, size=64, **PLAIN | {"scale": scale}).ink.sum() for scale in (0.4, 0.8)]
    assert area[1] / area[0] == pytest.approx(4, rel=0.03)


def test_noise_has_the_stated_deviation_and_is_new_for_every_item():
    clean, noisy = (digits.render(2, size=64, digit=3, example=0, **PLAIN | {"noise": noise, "scale": 0.3}) for noise in (0, 0.2))
    gray = ~clean.ink & (clean.images == 0)
    # below zero is cut off: the mean of the positive half of a normal variable is its deviation / sqrt(2 pi)
    assert noisy.gray()[:, 0][gray].mean() == pytest.approx(0.2 / np.sqrt(2 * np.pi), rel=0.05)
    assert (noisy.images[0] != noisy.images[1]).any()


def test_the_batch_has_the_habits_of_all_batches():
    batch = digits.render(4, seed=2)
    assert len(batch) == 4 and len(batch.take([3, 1])) == 2 and len(batch.take(0)) == 1
    assert batch.take([3, 1]).factors["digit"].tolist() == batch.labels[[3, 1]].tolist()
    assert batch.gray().shape == (4, 1, 32, 32) and batch.gray().max() <= 1
    assert batch.gray().dtype == np.float32
    assert batch.colour().shape == (4, 3, 32, 32) and batch.tensors("labels")["labels"].tolist() == batch.labels.tolist()


def test_turned_copies_of_one_scan_are_one_group():
    batch = digits.render(4, digit=[3, 3, 4, 3], example=[7, 7, 7, 8])
    assert batch.groups[0] == batch.groups[1] and len(set(batch.groups)) == 3


def test_ranges_of_examples_keep_training_and_test_apart():
    train, test = digits.render(200, example=(0, 119)), digits.render(200, example=(120, 173))
    assert train.example.max() < 120 <= test.example.min()


@pytest.mark.parametrize(
    ("arguments", "words"), [({"digit": 10}, "0 to 9"), ({"tilt": 3}, "digit, example, rotation"), ({"size": 0}, "size=0")]
)
def test_bad_arguments_are_refused(arguments, words):
    with pytest.raises(ValueError, match=words):
        digits.render(2, **arguments)

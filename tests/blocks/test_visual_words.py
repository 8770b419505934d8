"""Visual words: counts add up, know their quarter, and nothing but the words."""

import numpy as np

from facelab.blocks.visual_words import VisualWords


def images(n: int = 6, size: int = 20) -> np.ndarray:
    return np.random.default_rng(0).random((n, 1, size, size)).astype(np.float32)


def test_every_patch_is_counted_once():
    words = VisualWords.learnt(images(), words=8, side=5, stride=3, seed=0)
    counts = words.counts(images())
    assert counts.shape == (6, 4 * 8)
    np.testing.assert_array_equal(counts.sum(axis=1), 6 * 6)
    np.testing.assert_array_equal(counts.reshape(6, 4, 8).sum(axis=2), 9)


def test_a_change_in_one_quarter_leaves_the_others_alone():
    words, shown = VisualWords.learnt(images(), words=8, side=4, stride=4, seed=0), images()
    changed = shown.copy()
    changed[:, :, :8, 12:] = 1 - changed[:, :, :8, 12:] ** 2  # upper right
    before, after = (words.counts(x).reshape(6, 4, 8) for x in (shown, changed))
    assert (before[:, 1] != after[:, 1]).any()
    np.testing.assert_array_equal(before[:, [0, 2, 3]], after[:, [0, 2, 3]])


def test_brightness_and_contrast_do_not_count():
    words, shown = VisualWords.learnt(images(), words=8, seed=0), images()
    np.testing.assert_array_equal(words.counts(shown), words.counts(0.5 * shown + 0.25))


def test_more_patches_than_are_needed_are_thinned(monkeypatch):
    monkeypatch.setattr("facelab.blocks.visual_words.PATCHES", 50)
    assert len(VisualWords.learnt(images(), words=8, seed=0).clusters.cluster_centers_) == 8

"""Acquaintances and strangers have nobody in common, in no picture twice."""

import numpy as np
import pytest

from facelab import strangers
from facelab.datasets import catalogue
from facelab.worlds.faces import render


def test_groups_share_nobody_and_no_picture():
    known = strangers.acquaintances(3, 2, seed=1)
    groups = [known, *(side for pair in strangers.strangers(2, 3, 2, seed=1) for side in pair)]
    pictures = np.concatenate([group.images for group in groups])
    assert pictures.shape[1:] == (1, strangers.SIZE, strangers.SIZE)
    assert len(np.unique(pictures.reshape(len(pictures), -1), axis=0)) == len(pictures)
    assert all(group.people.tolist() == [0, 0, 1, 1, 2, 2] for group in groups)


def test_both_sides_of_a_set_show_the_same_people_and_other_sets_show_others(monkeypatch):
    asked = []

    def noted(*arguments, **options):
        asked.append(options["identity"].tolist())
        return render(*arguments, **options)

    monkeypatch.setattr(strangers, "render", noted)
    strangers.strangers(2, 2, 1)
    strangers.acquaintances(2, 1)
    assert asked[0] == asked[1] and asked[2] == asked[3]
    assert not set(asked[0]) & set(asked[2]) and not (set(asked[0]) | set(asked[2])) & set(asked[4])


def test_real_people_are_split_by_clip():
    try:
        catalogue.path("p1")
    except FileNotFoundError:
        pytest.skip("the photographs are not on this machine")
    known, sets = strangers.p1_acquaintances(), strangers.p1_strangers(2)
    assert len(known.images) == len(known.people) and known.people.max() + 1 == len(np.unique(known.people))
    for learn, test in sets:
        assert set(learn.people) == set(test.people) == set(range(test.people.max() + 1))
        assert len(learn.people) >= 2 * len(np.unique(learn.people))

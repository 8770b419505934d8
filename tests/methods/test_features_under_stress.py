"""The stresses: closed forms, limits, what is fitted on which side, and the paper's arithmetic of bits."""

import numpy as np
import pytest
import torch
from sklearn.model_selection import cross_val_score

from facelab.blocks import seeded
from facelab.methods import features_under_stress as stress


def vectors(n: int = 40, m: int = 12) -> np.ndarray:
    return np.abs(np.random.default_rng(1).normal(size=(n, m)))


def test_vectors_have_unit_length_and_zeros_stay():
    found = stress.unit(np.array([[3.0, 4.0], [0.0, 0.0]]))
    np.testing.assert_allclose(found, [[0.6, 0.8], [0, 0]])


def test_random_dimensions_are_nested_and_all_of_them_lose_nothing():
    x, keep = vectors(), stress.RandomDimensions.drawn(12, seed=3)
    for k in range(1, 12):
        np.testing.assert_array_equal(keep(x, k + 1)[:, :k], keep(x, k))
    np.testing.assert_array_equal(np.sort(keep.order), np.arange(12))
    assert (keep.order != stress.RandomDimensions.drawn(12, seed=4).order).any()


def test_components_are_orthonormal_and_their_variances_fall():
    x = vectors()
    found = stress.Components.fitted(x)
    np.testing.assert_allclose(found.basis.T @ found.basis, np.eye(12), atol=1e-10)
    assert (np.diff(found.variances) <= 0).all()
    np.testing.assert_allclose(found(x, 12).var(axis=0, ddof=1), found.variances, rtol=1e-8)
    np.testing.assert_allclose(np.linalg.norm(found(x, 12), axis=1), np.linalg.norm(x, axis=1))


def test_there_are_fewer_components_than_vectors():
    found = stress.Components.fitted(vectors(5, 12))
    assert found.basis.shape == (12, 4)
    with pytest.raises(ValueError, match="1 to 4"):
        found(vectors(5, 12), 5)


@pytest.mark.parametrize("k", [0, 13])
def test_a_number_of_dimensions_that_there_is_not(k):
    with pytest.raises(ValueError, match="1 to 12"):
        stress.RandomDimensions.drawn(12)(vectors(), k)


@pytest.mark.parametrize("per_dimension", [False, True])
@pytest.mark.parametrize("levels", [1, 2, 5, 27])
def test_levels_are_few_and_near(levels, per_dimension):
    x = vectors()
    dictionary = stress.Dictionary.fitted(x, levels, per_dimension=per_dimension)
    found = dictionary(x)
    columns = found.T if per_dimension else [found.ravel()]
    assert max(len(np.unique(column)) for column in columns) <= levels
    assert (np.abs(found - x) <= dictionary.step / 2 + 1e-12).all()
    np.testing.assert_allclose(dictionary(found), found)


def test_levels_are_middles_of_bins_and_values_outside_take_the_end_ones():
    dictionary = stress.Dictionary.fitted(np.array([[0.0], [1.0]]), 4)
    np.testing.assert_allclose(dictionary(np.array([[-9.0], [0.1], [0.6], [1.0], [9.0]]))[:, 0], [0.125, 0.125, 0.625, 0.875, 0.875])


def test_a_constant_dimension_stays_constant():
    x = np.column_stack([np.full(6, 0.3), np.arange(6.0)])
    np.testing.assert_array_equal(stress.Dictionary.fitted(x, 4, per_dimension=True)(x)[:, 0], 0.3)


def test_bits_are_those_of_the_abstract():
    assert stress.bits_of(409, 27) == 2045
    assert stress.compression_of(4096, 409, 27) == pytest.approx(0.9844, abs=5e-5)
    assert stress.compression_of(512, 512) == 0
    assert [stress.bits_of(1, n) for n in (1, 2, 3, 4, 5, 8, 9)] == [0, 1, 2, 2, 3, 3, 4]


def descriptor(kind=stress.Descriptor, m: int = 20) -> stress.Descriptor:
    rng = np.random.default_rng(2)
    middles, labels, truth = rng.normal(size=(5, m)), np.repeat(np.arange(5), 12), np.repeat(np.arange(5), 8)
    sides = (stress.unit(middles[who] + 0.3 * rng.normal(size=(len(who), m))) for who in (labels, truth))
    return kind(next(sides), labels, next(sides), truth)


def test_all_dimensions_keep_the_score():
    whole = descriptor()
    np.testing.assert_array_equal(whole.reduced(20, draw=1).right(), whole.right())
    np.testing.assert_array_equal(whole.reduced(20).right(), whole.right())
    assert whole.right().mean() > 0.9


def test_everything_is_fitted_on_training_vectors():
    whole = descriptor()
    other = stress.Descriptor(whole.training, whole.labels, 5 * whole.test[::-1], whole.truth)
    np.testing.assert_array_equal(whole.damaged(4, 8).training, other.damaged(4, 8).training)
    ends = whole.reduced(4).training
    assert (other.damaged(4, 8).test >= ends.min(axis=0)).all() and (other.damaged(4, 8).test <= ends.max(axis=0)).all()


def test_two_bases_spoil_components_and_leave_random_dimensions_alone():
    whole, faulty = descriptor(), descriptor(stress.TwoBases)
    np.testing.assert_array_equal(faulty.reduced(6, draw=0).test, whole.reduced(6, draw=0).test)
    np.testing.assert_array_equal(faulty.reduced(4).training, whole.reduced(4).training)
    assert faulty.reduced(4).right().mean() < whole.reduced(4).right().mean() - 0.2


def test_no_neighbour_of_the_chosen_penalty_is_better():
    whole = descriptor()
    training, _ = stress.rescaled(whole.training, whole.test)
    chosen = stress.chosen_penalty(whole.training, whole.labels)
    scores = [cross_val_score(stress.classifier(chosen * factor), training, whole.labels, cv=3).mean() for factor in (1, 0.1, 10)]
    assert scores[0] == max(scores)


def test_neither_scale_nor_offset_of_the_vectors_matters():
    whole = descriptor()
    moved = stress.Descriptor(0.01 * whole.training + 3, whole.labels, 0.01 * whole.test + 3, whole.truth)
    np.testing.assert_array_equal(moved.right(), whole.right())
    assert stress.rescaled(whole.training, whole.test)[0].var(axis=0).sum() == pytest.approx(1)
    assert (stress.rescaled(np.ones((3, 2)), np.ones((1, 2)))[1] == 0).all()


def test_features_are_unit_vectors_that_evaluation_mode_alone_decides():
    with seeded(0):
        network = stress.FeatureNetwork(classes=7, size=16, features=24, channels=(4, 4, 4))
        images = torch.rand(6, 1, 16, 16).numpy()
    assert network(torch.from_numpy(images)).shape == (6, 7)
    network.train()
    found = network.features(images)
    assert network.training and (found >= 0).all()
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1)
    np.testing.assert_allclose(network.features(images[:1]), found[:1], atol=1e-6)

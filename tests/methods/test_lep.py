"""Patches, forests on them, local predictions and confidence: closed forms and limiting cases."""

import numpy as np
import pytest
import torch
from scipy.sparse.csgraph import connected_components
from sklearn.base import clone
from sklearn.tree import DecisionTreeClassifier

from facelab.blocks import seeded
from facelab.methods.lep import (
    Calibration,
    LandmarkAutoencoder,
    LocalSubspaceForest,
    grow_subspace,
    neighbours,
    relative_areas,
    shrink,
    tree_confidence,
    triangle_confidence,
)

STRIP = np.array([[k, k + 1, k + 2] for k in range(6)])
"""Six triangles in a row on eight points, each sharing an edge with the next."""
PLACES = np.array([[k / 2, k % 2] for k in range(8)], dtype=float)


def forest(**options):
    """On features of one landmark each, three a landmark, with labels that landmarks 0 and 7 tell."""
    rng = np.random.default_rng(0)
    y, corners = rng.integers(0, 3, 90), np.repeat(np.eye(8, dtype=bool), 3, axis=0)
    X = rng.normal(size=(90, 24))
    X[:, 0] += 3 * y
    X[:, 21] -= 3 * y
    made = LocalSubspaceForest(STRIP, relative_areas(PLACES, STRIP), corners, **{"fraction": 0.3, "trees": 24} | options)
    return made.fit(X, y, groups=np.arange(90) // 5), X, y


def test_neighbours_share_an_edge_and_areas_add_to_one():
    assert np.array_equal(neighbours(STRIP), np.eye(6, k=1, dtype=bool) | np.eye(6, k=-1, dtype=bool))
    assert np.allclose(relative_areas(PLACES, STRIP), 1 / 6)
    assert np.allclose(relative_areas(np.array([[0, 0], [2, 0], [0, 2], [0, 6.0]]), np.array([[0, 1, 2], [0, 1, 3]])), [0.25, 0.75])


@pytest.mark.parametrize("fraction", [0.1, 0.3, 0.5, 1.0])
def test_patches_are_connected_and_as_large_as_asked(fraction):
    areas, adjacent = relative_areas(PLACES, STRIP), neighbours(STRIP)
    for seed in range(20):
        patch = grow_subspace(adjacent, areas, fraction, np.random.default_rng(seed))
        assert areas[patch].sum() >= fraction - 1e-9 and areas[patch].sum() < fraction + 1 / 6
        assert connected_components(adjacent[np.ix_(patch, patch)])[0] == 1


def test_a_mesh_in_two_pieces_stops_growing():
    apart = np.array([[0, 1, 2], [3, 4, 5]])
    assert grow_subspace(neighbours(apart), np.array([0.5, 0.5]), 1.0, np.random.default_rng(0)).sum() == 1


def test_patches_begin_in_large_triangles():
    areas = np.array([0.9, 0.1])
    first = [grow_subspace(np.zeros((2, 2), bool), areas, 0.05, np.random.default_rng(seed))[0] for seed in range(300)]
    assert abs(np.mean(first) - 0.9) < 0.06


def test_forests_of_every_patch_size_draw_the_same_people():
    assert np.array_equal(forest(fraction=0.3)[0].in_bag_, forest(fraction=1.0)[0].in_bag_)


def test_trees_ask_only_what_their_patch_holds_and_leave_people_out():
    grown, X, _ = forest()
    for number in range(grown.trees):
        held = np.unique(STRIP[grown.subspaces_[number]])
        asked = grown.feature_[number][grown.child_[number, :, 0] != np.arange(grown.child_.shape[1])]
        assert set(asked // 3) <= set(held)
        outside = X.copy()
        outside[:, ~np.isin(np.arange(24) // 3, held)] = 99
        assert np.array_equal(grown.trees_alone(outside)[:, number], grown.trees_alone(X)[:, number])
    by_person = grown.in_bag_.reshape(grown.trees, 18, 5)
    assert (by_person == by_person[:, :, :1]).all() and not by_person.all()


def test_the_stacked_walk_is_that_of_scikit_learn():
    grown, X, y = forest(trees=1, fraction=1.0)
    tree = DecisionTreeClassifier(max_depth=4, random_state=0).fit(X.astype(np.float32), y)
    grown._stack([(np.arange(24), tree)])
    fresh = np.random.default_rng(5).normal(size=(50, 24)).astype(np.float32)
    assert np.allclose(grown.trees_alone(fresh)[:, 0], tree.predict_proba(fresh))


def test_equal_confidence_is_the_plain_mean_and_a_global_forest_has_nothing_to_weigh():
    grown, X, _ = forest()
    assert np.allclose(grown.predict_proba(X, np.full((90, 6), 0.3)), grown.predict_proba(X))
    assert np.allclose(grown.predict_proba(X, np.zeros((90, 6))), grown.predict_proba(X)), "nobody trusted: everybody speaks"
    whole, X, _ = forest(fraction=1.0, trees=5)
    uneven = np.random.default_rng(1).random((90, 6))
    assert np.allclose(whole.predict_proba(X, uneven), whole.predict_proba(X))


def test_one_doubtful_triangle_changes_only_the_trees_that_hold_it():
    grown, *_ = forest()
    trust = np.ones((1, 6))
    trust[0, 2] = 0
    weights = tree_confidence(trust, grown.subspaces_, grown.areas)[0]
    assert np.array_equal(weights < 0.999, grown.subspaces_[:, 2])
    half = tree_confidence(np.array([[1.0, 0.0]]), np.array([[True, True], [True, False]]), np.array([0.25, 0.75]))
    assert np.allclose(half, [[0.25, 1.0]], atol=1e-5)


def test_local_predictions_are_means_of_the_trees_that_see_a_triangle():
    grown, X, _ = forest()
    local, alone = grown.local_predictions(X), grown.trees_alone(X)
    assert local.shape == (90, 6, 3) and np.allclose(local.sum(axis=2), 1)
    weight = grown.subspaces_[:, 4] / grown.subspaces_.sum(axis=1)
    assert np.allclose(local[:, 4], np.average(alone, axis=1, weights=weight))
    out = grown.local_predictions(X, out_of_bag=True)
    mine = weight * ~grown.in_bag_[:, 7]
    assert np.allclose(out[7, 4], np.average(alone[7], axis=0, weights=mine))


def test_a_triangle_without_trees_answers_uniformly():
    grown, X, _ = forest(trees=1, fraction=0.2)
    unseen = ~grown.subspaces_[0]
    assert np.allclose(grown.local_predictions(X)[:, unseen], 1 / 3)


def test_it_learns_and_keeps_scikit_learns_interface():
    grown, X, y = forest(trees=60)
    assert (grown.predict(X) == y).mean() > 0.8
    again = clone(grown).fit(X, y, groups=np.arange(90) // 5)
    assert np.array_equal(again.predict_proba(X), grown.predict_proba(X))
    with pytest.raises(ValueError, match="no share of a face"):
        forest(fraction=1.5)
    with pytest.raises(ValueError, match="give a row for each"):
        clone(grown).fit(X[:, :5], y)


def test_shrinking_ends_at_uniform():
    local = np.array([[[0.7, 0.2, 0.1], [0.0, 1.0, 0.0]]])
    assert np.allclose(shrink(local, np.ones((1, 2))), local)
    assert np.allclose(shrink(local, np.zeros((1, 2))), 1 / 3)
    assert np.allclose(shrink(local, np.full((1, 2), 0.5)).sum(axis=2), 1)


def test_calibration_gives_one_at_the_median_and_a_half_at_the_95th_percentile():
    errors = np.random.default_rng(0).gamma(2, size=(1001, 3)) * [1, 10, 100]
    trust = Calibration.of(errors)
    assert np.allclose(trust(np.quantile(errors, [0.5, 0.95], axis=0)), [[1] * 3, [0.5] * 3])
    assert (trust(np.zeros((1, 3))) == 1).all()
    assert np.isfinite(Calibration.of(np.ones((5, 2)))(np.ones((1, 2)))).all()
    assert np.allclose(triangle_confidence(np.array([[1.0, 0.5, 0.0, 1.0]]), np.array([[0, 1, 2], [1, 2, 3]])), 0.5)


def test_the_autoencoder_learns_and_couples_landmarks_within_a_region_alone():
    with seeded(0):
        model, data = LandmarkAutoencoder([[0, 2], [1]], features=8, code=4, region_code=2), torch.randn(40, 3, 8)
    data = torch.nn.functional.normalize(data[:, :, :2] @ torch.randn(2, 8, generator=torch.Generator().manual_seed(1)), dim=2)
    optimiser = torch.optim.Adam(model.parameters(), lr=0.02)
    losses = []
    for _ in range(60):
        losses.append(model.errors(data).mean())
        optimiser.zero_grad()
        losses[-1].backward()
        optimiser.step()
    assert losses[-1] < 0.5 * losses[0]
    with torch.no_grad():
        other = data.clone()
        other[:, 0] += 1
        moved = (model(other) - model(data)).abs().amax(dim=(0, 2))
        assert moved[0] > 1e-3 and moved[2] > 1e-4 and moved[1] < 1e-6
        assert torch.allclose(model.errors(data), ((model(data) - data) ** 2).sum(dim=2))

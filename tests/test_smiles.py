"""The world in which the cause of a smile is known."""

import numpy as np
import pytest
import torch

from facelab import smiles
from facelab.importance.attribution.judging import changed_pixels


@pytest.fixture(scope="module")
def faces():
    return smiles.draw_faces(40, seed=3)


@pytest.fixture(scope="module")
def pairs(faces):
    return smiles.visible_smiles(faces, count=6)


def test_units_are_on_in_about_half_of_the_faces_and_labels_say_in_which(faces):
    labels = smiles.labels_of(faces)
    assert labels.shape == (40, 3)
    assert 0.25 < labels.mean() < 0.75
    assert np.array_equal(labels[:, smiles.SMILE] > 0, faces.factors["au_12"] > 0)


def test_faces_of_other_indices_are_other_faces(faces):
    again, others = smiles.draw_faces(2, seed=3), smiles.draw_faces(2, seed=3, start=40)
    assert np.array_equal(again.factors["identity"], faces.factors["identity"][:2])
    assert not np.array_equal(others.images, again.images)


def test_only_smiles_that_can_be_seen_are_taken_and_only_the_smile_is_taken_away(pairs):
    assert 0 < len(pairs.images) <= 6
    assert (pairs.faces.factors["au_12"] > 0).all()
    moved = changed_pixels(pairs.images, pairs.no_smile, smiles.VISIBLE)
    assert (moved.sum(dim=(1, 2, 3)) >= smiles.FEWEST).all()
    assert moved.float().mean() < 0.3
    calm = smiles.without(pairs.faces)
    assert (calm.factors["au_12"] == 0).all()
    assert np.array_equal(calm.factors["au_26"], pairs.faces.factors["au_26"])


def test_the_region_holds_what_moved_and_two_pixels_around(pairs):
    moved = changed_pixels(pairs.images, pairs.no_smile, smiles.VISIBLE)
    assert (pairs.region | ~moved).all()
    assert pairs.region.sum() > moved.sum()


def test_other_light_changes_nearly_every_pixel(pairs):
    assert ((pairs.images - pairs.other_light).abs() > 0.01).float().mean() > 0.8


def test_the_square_is_stamped_where_it_is_wanted_and_nowhere_else():
    images = torch.full((3, 1, 48, 48), 0.25)
    found = smiles.stamped(images, torch.tensor([True, False, True]), side=4)
    assert (found[[0, 2], :, :4, :4] == 1).all()
    assert (found[1] == 0.25).all()
    assert (found[0, :, 4:] == 0.25).all() and (found[0, :, :, 4:] == 0.25).all()
    assert (images == 0.25).all()
    assert (smiles.stamped(images)[:, :, :6, :6] == 1).all()


def test_a_short_training_lowers_the_loss_and_gives_a_network_in_evaluation_mode(faces):
    network = smiles.train_network(40, 12, seed=3, device="cpu")
    assert not network.training
    images, labels = smiles.as_images(faces), smiles.labels_of(faces)
    with torch.no_grad():
        assert network(images).shape == (40, 3)
        assert smiles.cross_entropy(network, images, labels) < smiles.cross_entropy(smiles.build_network().eval(), images, labels)

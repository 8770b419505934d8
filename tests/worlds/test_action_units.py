"""Annotated faces: rates and errors as asked for, faces that depend on nothing else, and units that are in the rendered truth."""

import numpy as np
import pytest

from facelab.worlds.action_units import PLAIN, RATES, annotated_faces
from facelab.worlds.faces import ACTION_UNITS, render


def test_rates_and_errors_are_those_asked_for():
    faces = annotated_faces(2000, missed=0.3, invented=0.1, seed=1, size=8)
    rates = np.array(list(RATES.values()))
    assert np.all(np.abs(faces.present.mean(axis=0) - rates) < 4.5 * np.sqrt(rates * (1 - rates) / 2000))
    missed, invented = 1 - faces.annotated[faces.present == 1].mean(), faces.annotated[faces.present == 0].mean()
    assert abs(missed - 0.3) < 0.03 and abs(invented - 0.1) < 0.01
    assert np.abs(np.corrcoef(faces.present.T) - np.eye(len(RATES))).max() < 0.12


def test_a_face_is_the_same_in_any_batch_and_under_any_annotator():
    many, one = annotated_faces(6, seed=2, size=16), annotated_faces(2, missed=0.5, seed=2, start=3, size=16)
    assert np.array_equal(many.images[3:5], one.images) and np.array_equal(many.present[3:5], one.present)
    assert np.array_equal(many.annotated, many.present)
    assert np.all(one.annotated <= one.present)


def test_units_are_those_of_the_rendered_truth():
    faces = annotated_faces(3, rates={12: 1.0, 4: 0.0}, seed=3, size=16)
    assert faces.units == (12, 4) and faces.present.tolist() == [[1, 0]] * 3
    truth = render(3, seed=3, size=16, channels=(), **PLAIN, au_12=1.0, au_4=0.0).action_units
    assert truth is not None and truth[:, ACTION_UNITS.index(4)].max() == 0
    still = annotated_faces(3, rates={12: 0.0, 4: 0.0}, seed=3, size=16)
    assert np.abs(still.images - faces.images).max() > 0.05, "a smile is seen"


@pytest.mark.parametrize(
    ("options", "words"),
    [({"rates": {3: 0.5}}, "no action unit 3"), ({"rates": {4: 2.0}}, r"rates\[4\] = 2.0"), ({"missed": -0.1}, "missed = -0.1")],
)
def test_what_is_no_share_is_refused(options, words):
    with pytest.raises(ValueError, match=words):
        annotated_faces(1, **options)

"""The head to be turned: what is drawn is where the arrays say, named, and small enough for a notebook."""

import json

import numpy as np
import pytest

from facelab.pictures.heads import GAZE_LENGTH, LIFT, interactive_head
from facelab.pictures.interactive import LARGEST

VERTICES = np.array([[0.0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]])
TRIANGLES = np.array([[0, 2, 1], [0, 1, 3], [0, 3, 2], [1, 2, 3]])
GAZE = np.array([0.0, 0.6, 0.8])


@pytest.fixture(scope="module")
def figure():
    colors = np.array([[255, 0, 0], [0, 255, 0], [0, 0, 255], [1, 2, 3]], dtype=np.uint8)
    landmarks, pupils = np.array([[0.5, 0.5, 0.0], [0.0, 0.0, 1.0]]), np.array([[0.0, 0, 1], [1, 0, 1]])
    return interactive_head(
        VERTICES, TRIANGLES, colors, landmarks, ["chin", "nose_tip"], normals=np.eye(4, 3), pupils=pupils, gaze=GAZE, every=2
    )


def trace(figure, name):
    return next(trace for trace in figure.data if trace.name == name)


def test_the_surface_keeps_its_places_and_colours(figure):
    surface = trace(figure, "surface")
    np.testing.assert_allclose(np.stack([surface.x, surface.y, surface.z], axis=1), VERTICES)
    np.testing.assert_array_equal(np.stack([surface.i, surface.j, surface.k], axis=1), TRIANGLES)
    assert list(surface.vertexcolor) == ["#ff0000", "#00ff00", "#0000ff", "#010203"]


def test_a_landmark_says_its_number_name_and_true_place(figure):
    points = trace(figure, "landmarks")
    assert list(points.text) == ["0 chin", "1 nose tip"]
    np.testing.assert_allclose(points.customdata[1], [0, 0, 1])
    lifted = np.array([points.x[1], points.y[1], points.z[1]]) - [0, 0, 1]
    assert np.linalg.norm(lifted) == pytest.approx(LIFT, abs=2e-3)


def test_a_line_of_sight_begins_at_each_pupil(figure):
    lines = trace(figure, "gaze")
    points = np.stack([lines.x, lines.y, lines.z], axis=1).reshape(2, 3, 3)
    np.testing.assert_allclose(points[:, 0], [[0, 0, 1], [1, 0, 1]])
    np.testing.assert_allclose(points[:, 1] - points[:, 0], GAZE_LENGTH * np.stack([GAZE, GAZE]), atol=2e-3)
    assert np.isnan(points[:, 2]).all()


def test_normals_are_drawn_at_some_vertices_and_wait_to_be_asked_for(figure):
    lines = trace(figure, "normals")
    assert lines.visible == "legendonly"
    assert len(lines.x) == 3 * 2


def test_a_whole_head_is_small_enough_for_a_notebook():
    from facelab.markups import markup
    from facelab.worlds import faces
    from facelab.worlds.faces.mesh import head_mesh

    head = head_mesh(faces.render(1, seed=0, size=16, glasses="round"))
    parts = (head.vertices, head.triangles, head.colors, head.landmarks, markup(68).names)
    made = interactive_head(*parts, normals=head.normals, pupils=head.pupils, gaze=head.gaze)
    content = json.loads(made.to_json())
    assert len(json.dumps(content)) < 0.7 * LARGEST

"""The mesh of a head against what the renderer says of the same face."""

import numpy as np
import pytest
from scipy.spatial import cKDTree

from facelab import datasets
from facelab.worlds.faces import change, render
from facelab.worlds.faces.mesh import head_mesh

PLAIN = dict(glasses="none", mask="none", hand="none", patch=0, blur=0, noise=0, compression=0)


@pytest.fixture(scope="module")
def faces():
    return render(3, seed=4, size=96, yaw=[-40.0, 0.0, 25.0], **PLAIN)


def to_pixels(faces, index, points):
    f = {name: values[index] for name, values in faces.factors.items()}
    depth = f["camera_distance"] - points[:, 2]
    x, y = f["crop_x"] + f["crop_scale"] * points[:, 0] / depth, f["crop_y"] - f["crop_scale"] * points[:, 1] / depth
    return faces.images.shape[1] * np.stack([x, y], axis=1) - 0.5, depth


@pytest.mark.parametrize("index", range(3))
def test_landmarks_are_those_of_the_picture_and_lie_on_the_surface(faces, index):
    head = head_mesh(faces, index)
    np.testing.assert_allclose(to_pixels(faces, index, head.landmarks)[0], faces.landmarks[index], atol=0.02)
    assert cKDTree(head.vertices).query(head.landmarks)[0].max() < 0.1


@pytest.mark.parametrize("index", range(3))
def test_hardly_a_vertex_lies_before_the_depth_map_and_many_lie_on_it(faces, index):
    head = head_mesh(faces, index)
    pixels, depth = to_pixels(faces, index, head.vertices)
    column, row = np.round(pixels).astype(int).T
    inside = (column >= 0) & (column < 96) & (row >= 0) & (row < 96) & (head.normals[:, 2] > 0.5)
    seen = faces.depth[index][row[inside], column[inside]]
    before = seen - depth[inside]
    assert np.mean(before[np.isfinite(before)] > 0.1) < 0.03  # at an outline the pixel may show what lies behind
    assert np.mean(np.abs(before) < 0.03) > 0.6


@pytest.mark.parametrize("index", range(3))
def test_normals_and_colours_are_those_of_the_picture(faces, index):
    head = head_mesh(faces, index)
    assert np.abs(np.linalg.norm(head.normals, axis=1) - 1).max() < 1e-5
    pixels, depth = to_pixels(faces, index, head.vertices)
    column, row = np.round(pixels).astype(int).T
    inside = (column >= 0) & (column < 96) & (row >= 0) & (row < 96) & (head.normals[:, 2] > 0.5)
    seen = np.flatnonzero(inside)[np.abs(faces.depth[index][row[inside], column[inside]] - depth[inside]) < 0.03]
    cosine = (head.normals[seen] * faces.normals[index][row[seen], column[seen]]).sum(axis=1)
    assert np.median(cosine) > 0.99
    same = np.corrcoef(head.colors[seen].mean(axis=1), faces.images[index][row[seen], column[seen]].mean(axis=1))[0, 1]
    assert same > 0.6  # the picture has shadows, and a sensor


def test_the_line_of_sight_begins_at_the_pupils(faces):
    head = head_mesh(faces, 1)
    pupils = change(faces, markup=98).landmarks[1, 96:]
    np.testing.assert_allclose(to_pixels(faces, 1, head.pupils)[0], pupils, atol=0.02)
    np.testing.assert_allclose(head.gaze, faces.gaze[1], atol=1e-6)


def test_only_what_is_worn_has_a_surface(faces):
    bare, worn = (len(head_mesh(change(faces.take(1), glasses=kind)).triangles) for kind in ("none", "sunglasses"))
    assert worn > bare


def test_a_photograph_has_no_mesh():
    crops = datasets.lfw_crops()[0]
    from facelab.batch import FaceBatch

    with pytest.raises(ValueError, match="only rendered faces can be changed"):
        head_mesh(FaceBatch(crops[:1], np.zeros((1, 68, 2), np.float32)))

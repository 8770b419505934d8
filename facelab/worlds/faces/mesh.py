"""The head behind a rendered face as a mesh of triangles, for views that can be turned."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Float32, Int, UInt8

from facelab.batch import FaceBatch
from facelab.worlds.faces import geometry
from facelab.worlds.faces.anatomy import OBJECTS
from facelab.worlds.faces.looks import looks
from facelab.worlds.faces.rendering import PACKED, vertex_normals
from facelab.worlds.faces.shading import shade_pixel
from facelab.worlds.faces.world import check_rendered, render_arrays, static_arrays

LEFT_OUT = ("clothes", "hand", "patch")
"""Objects that do not belong to the head."""
FINE = (OBJECTS.index("skin"), OBJECTS.index("eyes"))
"""Objects painted more finely than their triangles, which are therefore cut in four."""
IRIS_REACH = 0.16
"""How far the renderer moves the iris, half head widths, for a unit of gaze."""


class HeadMesh(NamedTuple):
    """One head in camera space: x to the right, y up, z towards the camera, in half head widths, with the origin at the head's pivot.

    Attributes:
        vertices: (V, 3) places.
        normals: (V, 3) unit vectors that point out of the surface.
        colors: (V, 3) sRGB as the renderer shades the vertex, without shadows that are cast.
        triangles: (T, 3) indices of vertices.
        landmarks: (K, 3) places of the batch's landmarks.
        pupils: (2, 3) places of the right and the left pupil of the subject.
        gaze: (3,) unit vector of the line of sight.
    """

    vertices: Float[np.ndarray, "V 3"]
    normals: Float[np.ndarray, "V 3"]
    colors: UInt8[np.ndarray, "V 3"]
    triangles: Int[np.ndarray, "T 3"]
    landmarks: Float[np.ndarray, "K 3"]
    pupils: Float[np.ndarray, "2 3"]
    gaze: Float[np.ndarray, "3"]


def head_mesh(batch: FaceBatch, index: int = 0) -> HeadMesh:
    """The mesh of one face of a rendered batch, as the picture shows it: with its pose, expression, glasses and hair.

    Args:
        batch: faces that `render` or `change` made.
        index: which of them.

    Raises:
        ValueError: the batch was not rendered by this world.
    """
    check_rendered(batch)
    one, static = batch.take(index), static_arrays()
    values = dict(one.factors)
    out = render_arrays(values, 8, truth=False, raw=True)  # the pixels are not used, so that few are enough
    rotation = geometry.rotation(values["yaw"], values["pitch"], values["roll"])[0]
    shown, vertices = out["shown"][0].copy(), out["vertices"][0]
    shown[[OBJECTS.index(name) for name in LEFT_OUT]] = False
    surface = _surface(vertices, shown, rotation, out["gaze"][0])
    coarse = shown[static.object] & ~np.isin(static.object, FINE)
    fine = shown[static.object] & np.isin(static.object, FINE)
    surface, halves = _halved(surface, static.triangles[fine].astype(np.int64))
    triangles = np.concatenate([static.triangles[coarse].astype(np.int64), halves])
    owner = np.concatenate([np.flatnonzero(coarse), np.repeat(np.flatnonzero(fine), 4)])
    used, places = np.unique(triangles, return_inverse=True)
    surface, triangles = surface[used], places.reshape(-1, 3)
    normals = surface[:, 3:6] / np.linalg.norm(surface[:, 3:6], axis=1, keepdims=True)
    colors = _colors(surface, normals, triangles, owner, looks(values)[0])
    landmarks, pupils = one.known("landmarks_3d")[0], out["landmarks_3d"][0, 96:98]
    return HeadMesh(
        *(surface[:, :3], normals, colors, triangles, (landmarks - geometry.PIVOT) @ rotation.T),
        *((pupils - geometry.PIVOT) @ rotation.T, out["gaze"][0]),
    )


def _surface(vertices: np.ndarray, shown: np.ndarray, rotation: np.ndarray, gaze: np.ndarray) -> Float32[np.ndarray, "V 16"]:
    """What the shader wants to know of every vertex, in the order of `shading.shade_pixel`."""
    static, found = static_arrays(), np.zeros((len(vertices), PACKED), np.float32)
    normals = np.empty_like(vertices)
    vertex_normals(vertices, static.triangles, static.object, shown, normals)
    found[:, :3], found[:, 3:6], found[:, 6:9], found[:, 9], found[:, 10] = vertices, normals, static.rest, static.lip, static.shade
    found[:, 11], found[:, 12:14] = 1, static.place
    ahead = rotation.T @ gaze
    for eyeball, centre in zip(static.eyeballs, static.eye_centres, strict=True):
        local = (vertices[eyeball] - vertices[centre]) @ rotation
        found[eyeball, 6:8] = local[:, :2] - IRIS_REACH * ahead[:2]
        found[eyeball, 8] = local[:, 1]
    return found


def _halved(surface: np.ndarray, triangles: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Every triangle becomes four, by a new vertex in the middle of each of its edges."""
    edges = np.sort(triangles[:, [[0, 1], [1, 2], [2, 0]]].reshape(-1, 2), axis=1)
    unique, places = np.unique(edges, axis=0, return_inverse=True)
    middle = len(surface) + places.reshape(-1, 3)
    a, b, c = triangles.T
    ab, bc, ca = middle.T
    four = np.stack([a, ab, ca, ab, b, bc, ca, bc, c, ab, bc, ca], axis=1).reshape(-1, 3)
    return np.concatenate([surface, surface[unique].mean(axis=1, dtype=np.float32)]), four


def _colors(surface: np.ndarray, normals: np.ndarray, triangles: np.ndarray, owner: np.ndarray, look: np.ndarray) -> np.ndarray:
    """What the renderer's shader says of every vertex, in sRGB; `owner` is the rig's triangle that each triangle came from."""
    static, of_vertex = static_arrays(), np.empty(len(surface), int)
    of_vertex[triangles] = owner[:, None]
    linear = np.array(
        [
            shade_pixel(int(static.object[t]), int(static.part[t]), value, *normal, look, static.atlas)[1:]
            for t, value, normal in zip(of_vertex, surface, normals, strict=True)
        ]
    )
    return (255 * np.clip(linear, 0, 1) ** (1 / 2.2)).round().astype(np.uint8)

"""A head that can be turned: its surface, landmarks, normals and line of sight as a plotly figure."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float, Int, UInt8

from facelab.pictures.interactive import new_figure
from facelab.pictures.style import BLUE, ESTIMATE, RED

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

NORMAL_LENGTH, GAZE_LENGTH, LIFT = 0.16, 1.1, 0.02
"""Half head widths; landmarks are lifted off the surface, which would hide one half of each."""


def interactive_head(
    vertices: Float[np.ndarray, "V 3"],
    triangles: Int[np.ndarray, "T 3"],
    colors: UInt8[np.ndarray, "V 3"],
    landmarks: Float[np.ndarray, "K 3"],
    names: Sequence[str],
    *,
    normals: Float[np.ndarray, "V 3"],
    pupils: Float[np.ndarray, "2 3"],
    gaze: Float[np.ndarray, "3"],
    every: int = 23,
    size: int = 520,
) -> "Figure":
    """A head seen as its camera saw it, to be turned with the pointer; the pointer on a landmark shows its name and place.

    Places are in camera space: x to the right, y up, z towards the camera. A click on a name of the legend hides it.

    Args:
        vertices, triangles, colors: the surface; the colours are sRGB, one per vertex.
        landmarks, names: the places and names of the landmarks.
        normals: one unit vector per vertex.
        pupils: where the lines of sight begin.
        gaze: unit vector of the line of sight.
        every: a normal is drawn at one vertex of so many.
        size: pixels a side.
    """
    figure = new_figure(size, size, margin={"l": 0, "r": 0, "t": 0, "b": 0}, legend={"x": 0, "y": 1})
    x, y, z = np.round(vertices, 3).T.astype(np.float32)
    i, j, k = triangles.T.astype(np.int16 if len(vertices) < 2**15 else np.int32)
    figure.add_mesh3d(
        x=x, y=y, z=z, i=i, j=j, k=k, vertexcolor=[f"#{r:02x}{g:02x}{b:02x}" for r, g, b in colors], hoverinfo="skip",
        lighting={"ambient": 1, "diffuse": 0, "specular": 0, "fresnel": 0},  # the colours hold the light of the picture
        name="surface", showlegend=True,
    )  # fmt: skip
    outside = landmarks + LIFT * _unit(landmarks - vertices.mean(axis=0))
    x, y, z = np.round(outside, 3).T
    figure.add_scatter3d(
        x=x, y=y, z=z, mode="markers", marker={"size": 3, "color": BLUE, "line": {"color": "white", "width": 1}}, name="landmarks",
        text=[f"{number} {name.replace('_', ' ')}" for number, name in enumerate(names)], customdata=np.round(landmarks, 2),
        hovertemplate="%{text}<br>x %{customdata[0]}, y %{customdata[1]}, z %{customdata[2]}<extra></extra>",
    )  # fmt: skip
    starts = vertices[::every]
    figure.add_scatter3d(
        **_lines(starts, starts + NORMAL_LENGTH * normals[::every]), mode="lines", line={"color": RED, "width": 2}, hoverinfo="skip",
        name="normals", visible="legendonly",
    )  # fmt: skip
    ends = pupils + GAZE_LENGTH * gaze
    figure.add_scatter3d(
        **_lines(pupils, ends), mode="lines", line={"color": ESTIMATE, "width": 7}, hoverinfo="skip", name="gaze", legendgroup="gaze"
    )
    tips, along = dict(zip("xyz", ends.T, strict=True)), dict(zip("uvw", np.tile(gaze, (2, 1)).T, strict=True))
    figure.add_cone(
        **tips, **along, colorscale=[[0, ESTIMATE], [1, ESTIMATE]], showscale=False, sizemode="absolute", sizeref=0.25, hoverinfo="skip",
        legendgroup="gaze", anchor="tail",
    )  # fmt: skip
    hidden = {"visible": False}
    figure.update_layout(
        scene={
            "xaxis": hidden, "yaxis": hidden, "zaxis": hidden, "aspectmode": "data", "dragmode": "orbit",
            "camera": {"eye": {"x": 0, "y": 0, "z": 1.6}, "up": {"x": 0, "y": 1, "z": 0}},
        },
    )  # fmt: skip
    return figure


def _unit(vectors: Float[np.ndarray, "N 3"]) -> Float[np.ndarray, "N 3"]:
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def _lines(starts: Float[np.ndarray, "N 3"], ends: Float[np.ndarray, "N 3"]) -> dict[str, Float[np.ndarray, " M"]]:
    """Separate lines as one trace: a NaN stands between two of them."""
    points = np.round(np.stack([starts, ends, np.full_like(ends, np.nan)], axis=1), 3).reshape(-1, 3)
    return dict(zip("xyz", points.T.astype(np.float32), strict=True))

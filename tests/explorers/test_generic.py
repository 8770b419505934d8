"""The generic explorers say what their arrays hold, follow the pointer, and refuse what does not fit; controls come from abbreviations."""

import ipywidgets
import numpy as np
import pytest

from facelab.explorers import CurveExplorer, Explorer, MapExplorer, NeighbourExplorer, View
from facelab.explorers.neighbours import THUMBNAIL, plane_of
from facelab.explorers.parts import control
from facelab.pictures.neighbours import ASIDE, GAP, STEP, TILE
from facelab.pictures.style import new_picture

IMAGES = np.random.default_rng(0).random((12, 1, 16, 16)).astype(np.float32)
FLAT = np.zeros((12, 4, 4))
FEATURES = np.random.default_rng(1).normal(size=(12, 3))


def neighbours(**options) -> NeighbourExplorer:
    return NeighbourExplorer(**({"features": FEATURES, "images": IMAGES} | options))


@pytest.mark.parametrize(
    ("abbreviation", "kind", "value"),
    [
        ((0, 10), ipywidgets.IntSlider, 5),
        ((0.0, 1.0, 0.25), ipywidgets.FloatSlider, 0.5),
        (["a", "b"], ipywidgets.Dropdown, "a"),
        ([("first", 1), ("second", 2)], ipywidgets.Dropdown, 1),
        ({"first": 1, "second": 2}, ipywidgets.Dropdown, 1),
        (True, ipywidgets.Checkbox, True),
    ],
)
def test_an_abbreviation_makes_a_control(abbreviation, kind, value):
    made = control(abbreviation, description="depth", tooltip="of the tree")
    assert type(made) is kind and made.value == value and (made.description, made.tooltip) == ("depth", "of the tree")
    assert not made.disabled


def test_a_control_without_a_choice_is_greyed():
    assert control((3, 3)).disabled and control(["a"]).disabled


@pytest.mark.parametrize(("abbreviation", "value"), [((5, 1), None), (["a"], "b"), (3.5j, None)])
def test_what_makes_no_control_is_said(abbreviation, value):
    with pytest.raises(ValueError, match=r"makes no control .*; give \(low, high\)"):
        control(abbreviation, value)


def test_an_explorer_is_a_function_and_a_dictionary():
    def draw(outer_width=3, kind="b"):
        return View(new_picture(2, 1)[0], f"{outer_width} {kind}.")

    explorer = Explorer(draw, {"outer_width": (0, 9), "kind": ["a", "b"]})
    assert explorer.values == {"outer_width": 3, "kind": "b"} and explorer.shown.text == "3 b."
    assert explorer.controls["outer_width"].description == "outer width"


def test_maps_are_described_by_their_figures():
    maps = np.zeros((12, 4, 4))
    maps[2, 1, 3] = 0.5
    truth = np.zeros((12, 16, 16), dtype=bool)
    truth[:, 4:8, 12:] = True
    text = MapExplorer(IMAGES, {"one": maps}, truth=truth, unit="share").view(image=2).text
    assert text.startswith("image 2, one: 0 to 0.5 share, strongest at (13.5, 5.5) px, entropy 0.0 of 4.0 bit; 100% of it lies")
    assert "entropy" not in MapExplorer(IMAGES, {"one": maps - 0.1}).shown.text


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_neighbours_are_the_nearest(metric):
    from scipy.spatial.distance import cdist

    explorer = neighbours(labels=np.arange(12) % 2)
    expected = cdist(FEATURES[4:5], FEATURES, metric)[0]
    distances, nearest = explorer.neighbours(4, "features", metric)
    np.testing.assert_allclose(distances, expected, atol=1e-12)
    assert nearest == [i for i in np.argsort(expected) if i != 4][:8]
    same = sum(i % 2 == 0 for i in nearest)
    assert f"image {nearest[0]} at {expected[nearest[0]]:.3g}; {same} of 8 have its label 0." in explorer.view(query=4, metric=metric).text


def test_clicks_pick_a_neighbour_or_a_point():
    explorer = neighbours()
    nearest = explorer.neighbours(**explorer.values)[1]
    explorer.click(0, ASIDE + TILE + GAP + 5.0, STEP + 5.0)
    assert explorer.values["query"] == nearest[5]
    explorer.click(1, *plane_of(FEATURES)[9].tolist())
    assert explorer.values["query"] == 9
    explorer.click(0, 5.0, 5.0)  # on the query itself
    assert explorer.values["query"] == 9


def test_the_plane_keeps_most_of_the_spread():
    values = np.linalg.svd(FEATURES - FEATURES.mean(axis=0), compute_uv=False)
    np.testing.assert_allclose(np.linalg.norm(plane_of(FEATURES), axis=0), values[:2])
    assert plane_of(FEATURES[:, :1])[:, 1].tolist() == [0.0] * 12


def test_a_point_is_read_where_it_was_measured():
    x = np.array([1.0, 2.0, 8.0])
    explorer = CurveExplorer(x, lambda power: {"curve": x**power}, label="bits", value_label="error", controls={"power": (1, 3)})
    assert explorer.view(point=8.0, power=3).text == "bits 8: error curve 512."
    explorer.drag(0, (1.0, 0.0), (6.0, 0.0))
    assert explorer.values["point"] == 8.0
    explorer.click(0, 2.9, 0.0)
    assert explorer.values["point"] == 2.0 and explorer.shown.text == "bits 2: error curve 4."


BAD = {
    r"map 'm' must be \(12, h, w\)": lambda: MapExplorer(IMAGES, {"m": np.zeros((3, 4, 4))}),
    "There is no map": lambda: MapExplorer(IMAGES, {}),
    r"truth must have the images' shape \(12, 16, 16\)": lambda: MapExplorer(
        IMAGES, {"m": np.zeros((12, 4, 4))}, truth=np.zeros((12, 4, 4))
    ),
    "1 names for 12 images": lambda: neighbours(names=["a"]),
    r"space 'features' must be \(12, D\)": lambda: neighbours(features=FEATURES[:3]),
    "3 labels for 12 images": lambda: neighbours(labels=[1, 2, 3]),
    "at least two and increase": lambda: CurveExplorer([1, 1], {"a": [1, 2]}, label="x", value_label="y"),
    "curve 'a' has the shape": lambda: CurveExplorer([1, 2], {"a": [1]}, label="x", value_label="y"),
}


@pytest.mark.parametrize("message", BAD)
def test_what_does_not_fit_is_refused_in_one_sentence(message):
    with pytest.raises(ValueError, match=message) as refusal:
        BAD[message]()
    assert "\n" not in str(refusal.value) and str(refusal.value).endswith(".")


def test_the_pointer_on_a_point_finds_its_image():
    from io import BytesIO

    from PIL import Image

    explorer = neighbours(labels=np.arange(12) % 2)
    plane, axes = plane_of(FEATURES), explorer.shown.picture.axes[1]
    width, height = explorer.shown.picture.canvas.get_width_height()
    hints = explorer.canvas.hints
    assert [hint[5] for hint in hints] == list(range(12))
    for sample, (left, top, right, bottom, text, _) in enumerate(hints):
        across, up = axes.transData.transform(plane[sample]) / (width, height)
        assert left <= across <= right and top <= 1 - up <= bottom
        assert text == f"image {sample}: {sample % 2}"
    sheet = np.asarray(Image.open(BytesIO(explorer.canvas.thumbnails))).astype(float)
    assert sheet.shape == (12 * THUMBNAIL, THUMBNAIL, 3)
    means = sheet.reshape(12, -1).mean(axis=1) / 255
    np.testing.assert_allclose(means, IMAGES.mean(axis=(1, 2, 3)), atol=0.02)

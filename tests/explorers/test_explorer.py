"""The machinery under every explorer: values in, a view out, errors shown, pages written."""

import json
import re
from io import BytesIO
from pathlib import Path

import ipywidgets
import numpy as np
import pytest
from PIL import Image

from facelab import explorers, pages
from facelab.explorers import Explorer, View, stops
from facelab.pictures.style import new_picture

DRAWN: list[dict] = []


def draw(depth, kind, closed, share) -> View:
    DRAWN.append({"depth": depth, "kind": kind, "closed": closed, "share": share})
    if depth == 4:
        raise ValueError("depth 4 has no picture")
    picture, axes = new_picture(3, 2)
    axes[0, 0].plot([0, depth], [share, 0], "-" if closed else "--")
    return View(picture, f"depth {depth}, {kind}, {'closed' if closed else 'open'}, {share:.2f}")


@pytest.fixture
def explorer() -> Explorer:
    controls = {
        "depth": ipywidgets.IntSlider(1, 0, 4, description="depth"),
        "kind": ipywidgets.Dropdown(options=[("first kind", "a"), ("second kind", "b")], description="kind"),
        "closed": ipywidgets.Checkbox(False, description="closed"),
        "share": ipywidgets.FloatSlider(0.5, min=0, max=1, step=0.25, description="share"),
    }
    made = Explorer(draw, controls, name="Test")
    DRAWN.clear()
    return made


def test_every_explorer_is_exported():
    folder = Path(explorers.__path__[0])
    defined = {name for file in folder.glob("*.py") for name in re.findall(r"^class (\w*Explorer)\b", file.read_text(), re.MULTILINE)}
    assert {"Explorer", "WorldExplorer"} < defined <= set(explorers.__all__)
    assert all(hasattr(explorers, name) for name in explorers.__all__)


def test_a_change_draws_once_and_shows_it(explorer):
    before = explorer.canvas.png
    explorer.controls["depth"].value = 3
    assert len(DRAWN) == 1 and explorer.redraws == 2
    assert explorer.canvas.png != before and explorer.canvas.png.startswith(b"\x89PNG")
    assert explorer.canvas.text == "depth 3, a, open, 0.50"
    assert explorer.canvas.text in explorer.caption.value


def test_the_picture_arrives_in_the_browser_as_it_was_drawn(explorer):
    arrived = np.asarray(Image.open(BytesIO(explorer.canvas.png)))
    assert np.array_equal(arrived, explorer.static().rgb())


def test_several_changes_draw_once(explorer):
    explorer.set(depth=2, kind="b", closed=True, share=1.0)
    assert DRAWN == [{"depth": 2, "kind": "b", "closed": True, "share": 1.0}]


def test_the_static_twin_is_the_live_view(explorer):
    explorer.set(depth=2)
    assert np.array_equal(explorer.static().rgb(), explorer.shown.picture.rgb())
    assert not np.array_equal(explorer.static(depth=3).rgb(), explorer.static().rgb())
    assert explorer.values["depth"] == 2, "a static view moves no control"


def test_an_error_is_shown_beside_the_last_picture_and_goes_away(explorer):
    good = explorer.canvas.png
    explorer.set(depth=4)
    assert isinstance(explorer.error, ValueError)
    assert "depth 4 has no picture" in explorer.problem.value and 'role="alert"' in explorer.problem.value
    assert explorer.canvas.png == good
    explorer.set(depth=3)
    assert explorer.error is None and explorer.problem.value == ""


def test_an_error_says_no_html_of_its_own(explorer):
    explorer.draw = lambda **values: 1 / 0 if values["depth"] else View(new_picture(1, 1)[0], "<b>&")
    explorer.set(depth=0)
    assert "&lt;b&gt;&amp;" in explorer.caption.value


def test_unknown_controls_are_named(explorer):
    for act in (explorer.set, explorer.view, explorer.static):
        with pytest.raises(ValueError, match="no control 'width'; the controls are"):
            act(width=3)


def test_stops_visit_both_ends(explorer):
    controls = explorer.controls
    assert stops(controls["depth"]) == [0, 2, 4]
    assert stops(controls["kind"]) == ["a", "b"]
    assert stops(controls["closed"]) == [False, True]
    assert stops(controls["share"], 5) == [0.0, 0.25, 0.5, 0.75, 1.0]


def _page(path) -> dict:
    text = path.read_text(encoding="utf-8")
    assert not re.search(r"(src|href)=[\"']?(https?:)?//", text), "the page asks for something from outside"
    return json.loads(re.search(r"const page = (.*);\n", text)[1].replace("<\\/", "</"))


def test_a_page_holds_every_combination(explorer, tmp_path):
    page = _page(explorer.save_page(tmp_path / "folder" / "page.html", {"depth": [1, 3], "kind": ["a", "b"]}))
    assert set(page["frames"]) == {"0,0", "0,1", "1,0", "1,1"}
    assert page["frames"]["1,1"][1] == "depth 3, b, open, 0.50"
    assert page["sliders"][1] == {"label": "kind", "stops": ["first kind", "second kind"], "start": 0}


def test_a_page_moves_one_control_at_a_time_if_asked(explorer, tmp_path):
    page = _page(explorer.save_page(tmp_path / "page.html", {"depth": [0, 1, 2], "share": [0.0, 0.5, 1.0]}, together=False))
    assert set(page["frames"]) == {"0,1", "1,1", "2,1", "1,0", "1,2"}


def test_a_page_of_too_many_pictures_is_refused(explorer, tmp_path):
    with pytest.raises(ValueError, match="asks for 10201 pictures"):
        explorer.save_page(tmp_path / "page.html", {"depth": list(range(101)), "share": list(range(101))})


def test_a_notebook_holds_the_page_if_asked(explorer, monkeypatch):
    def data() -> dict:
        bundle = explorer._repr_mimebundle_()
        return bundle[0] if isinstance(bundle, tuple) else bundle

    explorer.page = {"depth": [0, 1], "kind": ["a", "b"]}
    assert pages.PAGE_TYPE not in data()
    monkeypatch.setenv(pages.WANTED, "1")
    page = data()[pages.PAGE_TYPE]
    assert page == explorer.drawn_page() and len(page["frames"]) == 4


def test_without_widgets_there_is_text(explorer):
    explorer.set(depth=2)
    assert "depth 2, a, open" in explorer._repr_mimebundle_()["text/plain"]


def test_a_place_on_the_picture_is_a_place_in_the_data(explorer):
    axes = explorer.shown.picture.axes[0]
    x, y = axes.transData.transform((0.5, 0.25))
    width, height = explorer.shown.picture.canvas.get_width_height()
    index, *at = explorer.shown.at(x / width, 1 - y / height)
    assert index == 0 and at == pytest.approx([0.5, 0.25])
    assert explorer.shown.at(0.001, 0.001) is None

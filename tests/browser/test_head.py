"""A head in a notebook is turned with the mouse, and a landmark under the pointer says its name."""

import nbformat
import pytest

pytestmark = pytest.mark.browser
CELL = """
from facelab.markups import markup
from facelab.pictures.heads import interactive_head
from facelab.pictures.interactive import show
from facelab.worlds import faces
from facelab.worlds.faces.mesh import head_mesh

head = head_mesh(faces.render(1, seed=0, size=16, start=7, yaw=0, pitch=0, roll=0, glasses="none"))
parts = (head.vertices, head.triangles, head.colors, head.landmarks, markup(68).names)
show(interactive_head(*parts, normals=head.normals, pupils=head.pupils, gaze=head.gaze), "A head.")
"""
EYE = "() => Object.values(document.querySelector('.js-plotly-plot')._fullLayout.scene.camera.eye)"
# Where a place lies on the screen: the scene is as large as the geometric mean of its ranges and seen through a lens of 45 degrees.
PLACE = """(name) => {
    const plot = document.querySelector(".js-plotly-plot"), scene = plot._fullLayout.scene;
    const box = plot.querySelector("canvas").getBoundingClientRect();
    const points = plot._fullData.find(trace => trace.name === "landmarks"), i = [...points.text].indexOf(name);
    const ranges = ["xaxis", "yaxis", "zaxis"].map(axis => scene[axis].range);
    const size = Math.cbrt(ranges.reduce((product, [low, high]) => product * (high - low), 1));
    const [x, y, z] = ["x", "y", "z"].map((axis, k) => (points[axis][i] - (ranges[k][0] + ranges[k][1]) / 2) / size);
    const focus = box.height / 2 / Math.tan(Math.PI / 8) / (scene.camera.eye.z - z);
    return [box.x + box.width / 2 + focus * x, box.y + box.height / 2 - focus * y];
}"""


def test_a_head_is_turned_and_says_its_landmarks(lab, server):
    from playwright.sync_api import expect

    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    nbformat.write(nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(CELL)], metadata=kernel), server.folder / "head.ipynb")
    lab.open("head.ipynb")
    lab.run_all()
    place = lab.scroll_to(0)
    canvas = place.locator(".gl-container canvas").first
    expect(canvas).to_be_visible()
    lab.page.wait_for_function("() => document.querySelector('.js-plotly-plot')._fullLayout.scene._scene?.glplot?.cameraParams")

    across, down = lab.page.evaluate(PLACE, "30 nose tip")
    hovered = place.locator(".hovertext")
    for shift in range(200):  # the library looks for what lies below the pointer once it moves over the drawn scene
        lab.page.mouse.move(across + shift % 2, down)
        if hovered.count():
            break
        lab.page.wait_for_function("() => new Promise(done => requestAnimationFrame(() => done(true)))")
    expect(hovered).to_contain_text("30 nose tip")
    lab.picture("head_hover")

    before = lab.page.evaluate(EYE)
    box = canvas.bounding_box()
    middle = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    lab.page.mouse.move(*middle)
    lab.page.mouse.down()
    lab.page.mouse.move(middle[0] + 60, middle[1] + 10, steps=6)
    lab.page.mouse.up()
    lab.page.wait_for_function(f"(before) => ({EYE})().some((value, axis) => Math.abs(value - before[axis]) > 0.1)", arg=before)
    lab.picture("head_turned")
    lab.assert_quiet()

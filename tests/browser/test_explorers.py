"""What a person does with an explorer: run the notebook, move a slider by keyboard, click and drag on the picture, keep a page."""

import re

import nbformat
import pytest
from small_cascade import Cascade, faces

from facelab.explorers import AttentionExplorer, LayerImportanceExplorer
from facelab.pictures.gating_tree import HEIGHT, OWN, TREE, WIDTH
from facelab.pictures.trees import node_places

pytestmark = pytest.mark.browser

CELLS = (
    "from small_cascade import Cascade, faces",
    "from facelab.explorers import AttentionExplorer\nimages, truth = faces()\n"
    "explorer = AttentionExplorer(images, Cascade(), truth=truth)\nexplorer",
    "explorer.static()",
)


def write_notebook(path, cells) -> None:
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    nbformat.write(nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells], metadata=kernel), path)


@pytest.fixture(scope="module")
def twin():
    """The same explorer in this process: what the page must say."""
    images, truth = faces()
    return AttentionExplorer(images, Cascade(), truth=truth)


def slider(place, description: str):
    return place.locator(".widget-slider", has=place.page.get_by_text(description, exact=True)).locator(".noUi-handle")


def test_attention_explorer_lives(lab, server, twin):
    from playwright.sync_api import expect

    write_notebook(server.folder / "small.ipynb", CELLS)
    lab.open("small.ipynb")
    lab.run_all()
    place = lab.scroll_to(1)
    picture, caption = place.locator("img.facelab-picture"), place.locator(".facelab-caption")
    expect(caption).to_have_text(twin.view().text)
    assert picture.get_attribute("alt") == twin.view().text
    first = picture.get_attribute("src")

    handle = slider(place, "stage")
    handle.focus()
    lab.page.keyboard.press("ArrowLeft")
    expect(caption).to_have_text(twin.view(stage=2).text)
    expect(picture).not_to_have_attribute("src", first)
    # A fast hand: the picture ends where the slider ends, and does not draw every place in between late.
    handle = slider(place, "square x")
    place.get_by_label("square is").select_option("a grey patch")
    expect(caption).to_contain_text("untouched")
    handle.focus()
    for _ in range(20):
        lab.page.keyboard.press("ArrowLeft")
    expect(caption).to_have_text(twin.view(stage=2, use=-1, x=4).text)
    lab.assert_fits(place)
    lab.picture("attention_explorer")

    # The mouse: a click picks the nearest landmark, a drag opens or moves the square.
    box = picture.bounding_box()
    shown = twin.view(stage=2, use=-1, x=4)
    shown.picture.rgb()
    left_eye = shown.picture.axes[0].transData.transform(twin._stages(0, None)[1][1].landmarks[5][1])
    width, height = shown.picture.canvas.get_width_height()
    at = [box["x"] + left_eye[0] / width * box["width"], box["y"] + (1 - left_eye[1] / height) * box["height"]]
    lab.page.mouse.click(*at)
    expect(caption).to_contain_text("1 left eye centre")
    lab.page.mouse.move(*at)
    lab.page.mouse.down()
    lab.page.mouse.move(at[0] + 20, at[1] + 20, steps=4)
    lab.page.mouse.move(at[0] + 40, at[1] + 40, steps=4)
    lab.page.mouse.up()
    side = round(40 / box["width"] * width / shown.picture.axes[0].bbox.width * 48)
    kernel = "next(o for o in gc.get_objects() if type(o).__name__ == 'AttentionExplorer')"
    size_shown = place.locator(".widget-slider", has=lab.page.get_by_text("square side", exact=True)).locator(".widget-readout")
    expect(size_shown).to_have_text(re.compile(f"^({side - 1}|{side}|{side + 1})$"))
    values = lab.ask_kernel(f"{kernel}.values")
    assert (values["stage"], values["landmark"], values["use"]) == (2, 1, -1)
    expect(caption).to_have_text(twin.view(**values).text)
    lab.picture("attention_explorer_dragged")
    print("redraw in the kernel:", lab.ask_kernel(f"[{kernel}.seconds, {kernel}.redraws]"))
    lab.assert_quiet()


def test_gating_tree_explorer_lives(lab, server):
    """Sliders, a click on a node and a click on a leaf's small image; the page says what this process says."""
    from playwright.sync_api import expect

    cells = (
        "import numpy as np\nfrom small_cascade import faces\nfrom small_mixture import Mixture\n"
        "from facelab.explorers import GatingTreeExplorer",
        "images, _ = faces(8, 32)\nsweep = np.arange(5), faces(5, 32)[0] * np.linspace(0.2, 1, 5, dtype=np.float32)[:, None, None, None]\n"
        "explorer = GatingTreeExplorer(Mixture(), images, sweeps={'light': sweep}, landmarks=lambda output: output)\nexplorer",
    )
    place: dict = {}
    exec("\n".join(cells).removesuffix("explorer"), place)
    here = place["explorer"]
    write_notebook(server.folder / "tree.ipynb", cells)
    lab.open("tree.ipynb")
    lab.run_all()
    place = lab.scroll_to(1)
    picture, caption = place.locator("img.facelab-picture"), place.locator(".facelab-caption")
    expect(caption).to_have_text(here.view().text)
    assert picture.get_attribute("alt") == here.view().text
    first = picture.get_attribute("src")

    place.get_by_label("images").select_option("light")
    handle = slider(place, "image")
    handle.focus()
    for _ in range(3):
        lab.page.keyboard.press("ArrowRight")
    expect(caption).to_have_text(here.view(source="light", image=3).text)
    expect(picture).not_to_have_attribute("src", first)

    def click(x: float, y: float) -> None:
        box = picture.bounding_box()
        lab.page.mouse.click(box["x"] + x / WIDTH * box["width"], box["y"] + y / HEIGHT * box["height"])

    click(*node_places(3, TREE)[5])
    expect(caption).to_have_text(here.view(source="light", image=3, node=6).text)
    lab.assert_fits(place)
    lab.picture("gating_tree_explorer")
    click(TREE[0] + 7.5 / 8 * TREE[2], OWN + 0.4)
    expect(caption).to_have_text(here.view(source="light", image=3, node=15).text)
    lab.picture("gating_tree_explorer_leaf")
    kernel = "next(o for o in gc.get_objects() if type(o).__name__ == 'GatingTreeExplorer')"
    assert lab.ask_kernel(f"{kernel}.values") == {"source": "light", "image": 3, "node": 15}
    print("redraw in the kernel:", lab.ask_kernel(f"[{kernel}.seconds, {kernel}.redraws]"))


def test_layer_importance_explorer_lives(lab, server):
    """Keyboard, pointer at rest, click: the caption is always that of the same explorer in this process."""
    from importance_tables import tables
    from playwright.sync_api import expect

    twin = LayerImportanceExplorer(*tables())
    cells = (
        "from importance_tables import tables\nfrom facelab.explorers import LayerImportanceExplorer",
        "LayerImportanceExplorer(*tables())",
    )
    write_notebook(server.folder / "importance.ipynb", cells)
    lab.open("importance.ipynb")
    lab.run_all()
    place = lab.scroll_to(1)
    picture, caption, hint = place.locator("img.facelab-picture"), place.locator(".facelab-caption"), place.locator(".facelab-hint")
    expect(caption).to_have_text(twin.view().text)
    lab.assert_fits(place)
    lab.picture("layer_importance_explorer")

    place.get_by_label("budget for").select_option("quantisation")
    expect(caption).to_contain_text("Score after quantisation")
    twin.set(use="quantisation")
    expect(caption).to_have_text(twin.shown.text)
    slider(place, "budget").focus()
    lab.page.keyboard.press("ArrowLeft")
    grid = [value for _, value in twin.controls["budget"]._options_full]
    twin.set(budget=grid[grid.index(twin.values["budget"]) - 1])
    expect(caption).to_have_text(twin.shown.text)
    place.get_by_label("sort rows by").select_option("measured truth")
    twin.set(sort="measured truth")
    place.get_by_label("perturbation").select_option("pruning")
    twin.set(family="pruning")
    expect(caption).to_have_text(twin.shown.text)

    width, height = twin.shown.picture.canvas.get_width_height()
    for axes, point, layer in ((1, (2.0, 4), int(twin._order("pruning", "fisher", "measured truth")[4])), (0, (2, 0.0), 2)):
        box = picture.bounding_box()
        across, up = twin.shown.picture.axes[axes].transData.transform(point) / (width, height)
        at = box["x"] + across * box["width"], box["y"] + (1 - up) * box["height"]
        lab.page.mouse.move(*at)
        expect(hint).to_be_visible()
        expect(hint).to_have_text(twin._say_layer(layer, "pruning", "fisher"))
        lab.picture(f"layer_importance_hint_{axes}")
        lab.page.mouse.click(*at)
        expect(caption).to_have_text(twin.view(layer=layer).text)
        expect(caption).to_contain_text(twin._say_layer(layer, "pruning", "fisher"))
    lab.page.mouse.move(5, 5)
    expect(hint).to_be_hidden()
    lab.assert_quiet()


def test_a_point_of_the_cloud_shows_its_image(lab, server):
    from playwright.sync_api import expect

    cells = (
        "import numpy as np\nfrom facelab.explorers import NeighbourExplorer\ngenerator = np.random.default_rng(0)\n"
        "images, features = generator.random((9, 1, 16, 16)), np.eye(9)[:, :2] * 9 + np.arange(9)[:, None]",
        "explorer = NeighbourExplorer(features, images, labels=np.arange(9) % 3)\nexplorer",
    )
    write_notebook(server.folder / "neighbours.ipynb", cells)
    lab.open("neighbours.ipynb")
    lab.run_all()
    place = lab.scroll_to(1)
    picture, hint = place.locator("img.facelab-picture"), place.locator(".facelab-hint")
    expect(picture).to_be_visible()
    box = picture.bounding_box()
    for sample in (0, 7):
        left, top, right, bottom, text, image = lab.ask_kernel(f"explorer.canvas.hints[{sample}]")
        lab.page.mouse.move(box["x"] + (left + right) / 2 * box["width"], box["y"] + (top + bottom) / 2 * box["height"])
        expect(hint).to_have_text(text)
        thumbnail = hint.locator(".facelab-thumbnail")
        expect(thumbnail).to_have_attribute("data-image", str(image))
        expect(thumbnail).to_have_css("background-image", re.compile("blob:"))
    lab.picture("neighbour_hint")
    lab.page.mouse.move(5, 5)
    expect(hint).to_be_hidden()
    lab.assert_quiet()


def test_an_error_is_shown_and_passes(lab, server):
    from playwright.sync_api import expect

    cells = (
        "import ipywidgets\nfrom facelab.explorers import Explorer, View\nfrom facelab.pictures.style import new_picture",
        "def draw(depth):\n    if depth == 2:\n        raise ValueError('depth 2 has a fault')\n"
        "    picture, axes = new_picture(3, 2)\n    axes[0, 0].plot([0, depth])\n    return View(picture, f'depth {depth}')",
        "Explorer(draw, {'depth': ipywidgets.IntSlider(1, 0, 3, description='depth')})",
    )
    write_notebook(server.folder / "fault.ipynb", cells)
    lab.open("fault.ipynb")
    lab.run_all()
    place = lab.scroll_to(2)
    expect(place.locator(".facelab-caption")).to_have_text("depth 1")
    handle = slider(place, "depth")
    handle.focus()
    lab.page.keyboard.press("ArrowRight")
    expect(place.get_by_role("alert")).to_contain_text("depth 2 has a fault")
    lab.page.keyboard.press("ArrowRight")
    expect(place.locator(".facelab-caption")).to_have_text("depth 3")
    expect(place.get_by_role("alert")).to_have_count(0)
    lab.assert_quiet()


def test_a_saved_page_moves_without_a_kernel(lab, twin, tmp_path):
    from playwright.sync_api import expect

    page = twin.save_page(tmp_path / "page.html", {"stage": [1, 2, 3], "landmark": [0, 2, 4]})
    lab.page.goto(page.as_uri())
    caption, picture = lab.page.locator(".facelab-caption"), lab.page.locator(".facelab-picture")
    expect(caption).to_have_text(twin.view(stage=3, landmark=2).text)
    first = picture.get_attribute("src")
    lab.page.get_by_role("slider").nth(1).focus()
    lab.page.keyboard.press("ArrowRight")
    expect(caption).to_have_text(twin.view(stage=3, landmark=4).text)
    assert picture.get_attribute("src") != first
    assert picture.evaluate("picture => picture.naturalWidth") > 600
    lab.picture("saved_page")
    lab.assert_quiet()


def test_an_uploaded_photograph(lab, server, tmp_path):
    """A photograph is taken, and another refused in words."""
    import numpy as np
    from PIL import Image
    from playwright.sync_api import expect
    from skimage.data import astronaut

    cells = (
        "from facelab.explorers.photo import PhotoExplorer\nfrom small_cascade import Cascade",
        "PhotoExplorer(Cascade())",
    )
    write_notebook(server.folder / "photo.ipynb", cells)
    Image.fromarray(astronaut()[:300, 80:380]).save(tmp_path / "mine.jpg")
    Image.fromarray(np.full((200, 200, 3), 90, dtype=np.uint8)).save(tmp_path / "wall.png")
    lab.open("photo.ipynb")
    lab.run_all()
    place = lab.scroll_to(1)
    caption, button = place.locator(".facelab-caption"), place.get_by_role("button", name="your own photograph")
    expect(caption).to_contain_text("512 × 512 pixels")
    with lab.page.expect_file_chooser() as chooser:
        button.click()
    chooser.value.set_files(tmp_path / "mine.jpg")
    expect(caption).to_contain_text("300 × 300 pixels")
    lab.assert_fits(place)
    lab.picture("photograph")
    with lab.page.expect_file_chooser() as chooser:
        button.click()
    chooser.value.set_files(tmp_path / "wall.png")
    expect(place.get_by_role("alert")).to_contain_text("No face was found")
    lab.picture("photograph_without_face")
    lab.assert_quiet()


def test_attribution_explorer_lives(lab, server):
    """Methods by their lists, steps by keyboard, a part by a click on the image and on its bar."""
    from playwright.sync_api import expect
    from small_attribution import explorer as build

    cells = ("from small_attribution import explorer as build", "explorer = build()\nexplorer", "explorer.static()")
    write_notebook(server.folder / "attribution.ipynb", cells)
    twin = build()
    lab.open("attribution.ipynb")
    lab.run_all()
    place = lab.scroll_to(1)
    picture, caption = place.locator("img.facelab-picture"), place.locator(".facelab-caption")
    expect(caption).to_have_text(twin.view().text)
    first = picture.get_attribute("src")
    place.get_by_label("beside it").select_option("grad-cam")
    expect(caption).to_have_text(twin.view(second="grad-cam").text)
    expect(picture).not_to_have_attribute("src", first)
    place.get_by_label("one scale for both").uncheck()
    expect(caption).to_have_text(twin.view(second="grad-cam", shared=False).text)
    handle = slider(place, "steps")
    handle.focus()
    lab.page.keyboard.press("ArrowRight")
    expect(caption).to_have_text(twin.view(second="grad-cam", shared=False, steps=50).text)

    shown = twin.view(second="grad-cam", shared=False, steps=50).picture
    shown.rgb()
    width, height = shown.canvas.get_width_height()

    def click(axes: int, x: float, y: float) -> None:
        box, at = picture.bounding_box(), shown.axes[axes].transData.transform((x, y))
        lab.page.mouse.click(box["x"] + at[0] / width * box["width"], box["y"] + (1 - at[1] / height) * box["height"])

    click(0, 5, 20)  # on the image: its lowest part
    expect(caption).to_have_text(twin.view(second="grad-cam", shared=False, steps=50, part=2).text)
    lab.assert_fits(place)
    lab.picture("attribution_explorer")
    click(1, -2, 0)  # the name of the first bar
    expect(caption).to_have_text(twin.view(second="grad-cam", shared=False, steps=50, part=0).text)
    kernel = "next(o for o in gc.get_objects() if type(o).__name__ == 'AttributionExplorer')"
    assert lab.ask_kernel(f"{kernel}.values")["part"] == 0
    print("redraw in the kernel:", lab.ask_kernel(f"[{kernel}.seconds, {kernel}.redraws]"))
    lab.assert_quiet()

import base64
import io

import nbformat
import numpy as np
import pytest
from nbformat.v4 import new_code_cell, new_notebook, new_output
from PIL import Image

from facelab.course import gallery, running

METADATA = dict(slug="toy", part=1, number="11", title="Toy", paper="", seconds=5, memory_mb=300, sabotages=[])


def png(pixels: np.ndarray) -> str:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    return base64.b64encode(stream.getvalue()).decode()


def executed(folder, *pictures: np.ndarray, tag: str = "result") -> running.Notebook:
    """A notebook and its executed copy, whose tagged cell shows these pictures."""
    outputs = [new_output("display_data", data={"image/png": png(pixels)}) for pixels in pictures]
    cells = [
        new_code_cell("first", outputs=[new_output("display_data", data={"image/png": png(np.zeros((9, 9, 3), np.uint8))})]),
        new_code_cell("result", metadata={"tags": [tag]}, outputs=outputs),
    ]
    for path in (folder / "notebooks" / "1_alignment" / "11_toy.ipynb", folder / "executed" / "1_alignment" / "11_toy.ipynb"):
        path.parent.mkdir(parents=True)
        nbformat.write(new_notebook(cells=cells, metadata={"facelab": METADATA}), path)
    return running.discover(folder / "notebooks")[0]


def test_the_last_picture_of_the_result_becomes_a_small_file(tmp_path):
    red = np.zeros((300, 1500, 3), np.uint8)
    red[..., 0] = 220
    notebook = executed(tmp_path, 255 - red, red)
    path = gallery.write_picture(notebook, tmp_path / "executed", tmp_path / "pictures")
    assert path == tmp_path / "pictures" / "toy.webp" and path.stat().st_size <= gallery.LARGEST
    picture = np.asarray(Image.open(path))
    assert picture.shape == (200, 1000, 3)
    assert np.abs(picture.mean(axis=(0, 1)) - [220, 0, 0]).max() < 8


def test_a_rich_picture_is_compressed_until_it_is_small_and_noise_is_refused(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (500, 1000, 3)).astype(np.uint8)
    with pytest.raises(ValueError, match="60000 are allowed; show fewer panels"):
        gallery.write_picture(executed(tmp_path / "noise", noise), tmp_path / "noise" / "executed", tmp_path)
    smooth = noise[:250, :500] // 4  # too large at the best quality, small enough below
    path = gallery.write_picture(executed(tmp_path / "smooth", smooth), tmp_path / "smooth" / "executed", tmp_path)
    best = io.BytesIO()
    Image.fromarray(smooth).save(best, "WEBP", quality=gallery.QUALITIES[0], method=6)
    assert path.stat().st_size <= gallery.LARGEST < best.tell()


def test_what_is_missing_is_said(tmp_path):
    notebook = executed(tmp_path, np.zeros((9, 9, 3), np.uint8), tag="other")
    with pytest.raises(ValueError, match="no cell tagged 'result' that shows a picture"):
        gallery.write_picture(notebook, tmp_path / "executed", tmp_path)
    with pytest.raises(ValueError, match="make it first: facelab run toy"):
        gallery.write_picture(notebook, tmp_path / "nowhere", tmp_path)


def test_the_readme_shows_the_pictures_there_are(tmp_path):
    notebook = executed(tmp_path, np.zeros((90, 90, 3), np.uint8))
    readme = tmp_path / "README.md"
    readme.write_text(f"# Before\n{gallery.MARKS[0]}\nold\n{gallery.MARKS[1]}\nafter\n")
    assert "toy" not in gallery.readme([notebook], tmp_path)
    gallery.write_picture(notebook, tmp_path / "executed", tmp_path / "docs" / "pictures")
    text = gallery.readme([notebook], tmp_path)
    assert "| [![Toy](docs/pictures/toy.webp)](notebooks/1_alignment/11_toy.ipynb)<br>Toy |  |  |\n" in text
    assert text.startswith("# Before\n<!--") and text.endswith("-->\nafter\n") and "old" not in text
    readme.write_text("# Before\n")
    with pytest.raises(ValueError, match="lacks the marks of the gallery"):
        gallery.readme([notebook], tmp_path)


def test_the_gallery_of_the_readme_is_that_of_the_pictures():
    readme = gallery.PICTURES.parents[1] / "README.md"
    assert gallery.readme(running.discover()) == readme.read_text(encoding="utf-8"), "run `facelab pictures --readme`"

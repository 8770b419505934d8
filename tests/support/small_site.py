"""Two executed notebooks, made without a kernel, that hold everything a page of the site has to show."""

import base64
import io
import json
from pathlib import Path

import nbformat
import numpy as np
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from PIL import Image

from facelab import pages
from facelab.course import running, settling

ABOUT = dict(paper="Nobody, nowhere", seconds=5, memory_mb=300, sabotages=[], part=1)
HOVERED = ["one", "four", "nine"]
PLOT = {
    "data": [{"type": "scatter", "mode": "markers", "x": [1, 2, 3], "y": [1, 4, 9], "hovertext": HOVERED, "hoverinfo": "text"}],
    "layout": {"width": 500, "height": 300},
}
TEXT = """# The first

A first sentence with $d_n$. And a second one.

![What comes out](../../docs/pictures/red.webp) ![What is not there](../../docs/nowhere.png)

**Glossary**
- *leaf* $\\pi_l$, an end of a tree
- *turn*, a decision at a node

## The problem
Redundancies are everywhere, see [the other notebook](12_second.ipynb#how-it-ends),
[the paper](https://arxiv.org/abs/1) and [a file](../../LICENSE).

$$\\hat y=\\frac{1}{T}\\sum_t \\mu_t$$"""
OTHER = """# The second

Its only sentence.

## How it ends
| word | meaning |
|---|---|
| $\\beta$, sharpness | how sharp a softmax is |

**Glossary**

| word | meaning |
|---|---|
| anchor $a$ | a fixed point |

It ends well, back to [the first](11_first.ipynb)."""


def png(shade: int) -> str:
    """A gray picture of 60 x 40 pixels, as a notebook holds it."""
    stream = io.BytesIO()
    Image.fromarray(np.full((40, 60, 3), shade, np.uint8)).save(stream, "PNG")
    return base64.b64encode(stream.getvalue()).decode()


def webp(shade: int) -> str:
    """The same as a page of an explorer holds it."""
    stream = io.BytesIO()
    Image.fromarray(np.full((40, 60, 3), shade, np.uint8)).save(stream, "WEBP")
    return base64.b64encode(stream.getvalue()).decode()


def explorer() -> dict:
    """The page of an explorer with one slider of three stops."""
    frames = {str(stop): [webp(80 * stop), f"shade {stop}"] for stop in range(3)}
    return {"name": "shades", "sliders": [{"label": "shade", "stops": ["0", "1", "2"], "start": 1}], "frames": frames, "together": True}


def shown(data: dict):
    return new_output("display_data", data=data)


def write(folder: Path) -> tuple[list[running.Notebook], Path, Path]:
    """The notebooks, the folder of their executed copies and that of their settled figures."""
    first = [
        new_markdown_cell(TEXT),
        new_code_cell("draw()", outputs=[shown({"image/png": png(128), "text/plain": "<picture: a gray one>"})]),
        new_code_cell("explorer", outputs=[shown({pages.PAGE_TYPE: explorer(), "text/plain": "shades"})]),
        new_code_cell("plot", outputs=[shown({"application/vnd.plotly.v1+json": PLOT, "text/plain": "Three points </script>"})]),
        new_code_cell("answer = 3", metadata={"tags": ["solution"], "jupyter": {"source_hidden": True}}),
        new_code_cell("long = 1", metadata={"jupyter": {"source_hidden": True}}),
    ]
    second = [new_markdown_cell(OTHER)]
    for name, cells in {"11_first": first, "12_second": second}.items():
        content = new_notebook(cells=cells, metadata={"facelab": ABOUT | dict(slug=name[3:], number=name[:2], title=f"The {name[3:]} one")})
        for place in ("notebooks", "executed"):
            path = folder / place / "1_alignment" / f"{name}.ipynb"
            path.parent.mkdir(parents=True, exist_ok=True)
            if place == "executed":
                content.metadata["facelab_run"] = {"parameters": {}, "error": "", "processor_seconds": 12.3, "pages": True}
            nbformat.write(content, path)
    (folder / "docs" / "pictures").mkdir(parents=True)
    (folder / "docs" / "pictures" / "red.webp").write_bytes(base64.b64decode(webp(200)))
    figures = json.loads((settling.FOLDER / "red.json").read_text(encoding="utf-8")) | {"slug": "first"}
    (folder / "settled").mkdir()
    (folder / "settled" / "first.json").write_text(json.dumps(figures), encoding="utf-8")
    return running.discover(folder / "notebooks"), folder / "executed", folder / "settled"

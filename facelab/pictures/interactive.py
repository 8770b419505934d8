"""Pictures to hover, zoom and turn, by plotly: the house style, and a way into a notebook that needs no network and no kernel."""

import json
from typing import TYPE_CHECKING

from facelab.pictures.style import PALETTE

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

PLOTLY_TYPE = "application/vnd.plotly.v1+json"
LARGEST = 600_000
"""Bytes that one picture may add to an executed notebook."""


def new_figure(width: int = 760, height: int = 440, **layout) -> "Figure":
    """An empty plotly figure in the house style.

    Args:
        width, height: in pixels.
        layout: what `Figure.update_layout` takes, such as `xaxis_title`.
    """
    import plotly.graph_objects as graph

    figure = graph.Figure()
    figure.update_layout(
        template="simple_white", colorway=PALETTE, width=width, height=height, margin={"l": 60, "r": 20, "t": 40, "b": 50},
        font={"family": "DejaVu Sans, sans-serif", "size": 12}, hoverlabel={"align": "left"},
    )  # fmt: skip
    return figure.update_layout(**layout)


def show(figure: "Figure", text: str) -> None:
    """Displays a plotly figure in a notebook: its data alone, which JupyterLab draws with the library that is installed with plotly.

    Args:
        figure: what to show; plain, not a `FigureWidget`, which would add megabytes to the notebook.
        text: what it shows, in a sentence, for readers without it (a code host, a screen reader).

    Raises:
        ValueError: the figure holds more than `LARGEST` bytes.
    """
    from IPython.display import display

    content = figure.to_json()
    if len(content) > LARGEST:
        raise ValueError(f"The figure holds {len(content):,} bytes, at most {LARGEST:,} are allowed; give it fewer points.")
    display({PLOTLY_TYPE: json.loads(content), "text/plain": text}, raw=True)

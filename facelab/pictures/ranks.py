"""The order of layers that a criterion foretells against the order that was measured, to hover."""

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.stats import rankdata

from facelab.pictures.interactive import new_figure
from facelab.pictures.style import GRAY, as_array

if TYPE_CHECKING:
    from plotly.graph_objects import Figure


def figure_of_ranks(
    criteria: Mapping[str, Any], measured: Any, layers: Iterable[str], shapes: Iterable[str], networks: Iterable[str]
) -> "Figure":
    """A plotly figure with a point for each layer, across its rank by a criterion and up its rank by the measured fall; 1 is the highest.

    The pointer over a point says its layer, its shape and both ranks. Buttons choose the criterion, and a click on a network hides it.
    Ranks are taken within a network, equal values share their mean rank, and points on the diagonal are foretold exactly.

    Args:
        criteria: name -> (L,) values of the layers of all networks, higher is more important; the first is shown at the start.
        measured: (L,) mean falls of the score of the same layers.
        layers: (L,) their names.
        shapes: (L,) the shapes of their weights, as text.
        networks: (L,) the network of each.

    Raises:
        ValueError: there is no criterion or no layer, or one of the lists has another length than `layers`.
    """
    values = {name: as_array(own).astype(float) for name, own in criteria.items()}
    truth = as_array(measured).astype(float)
    layers, shapes, networks = list(layers), list(shapes), list(networks)  # a column of a table is indexed by its own names
    if not values or not len(layers):
        raise ValueError(f"There are {len(values)} criteria for {len(layers)} layers; give one of each at least.")
    lengths = {"measured": truth, "shapes": shapes, "networks": networks} | {f"criterion {name!r}": own for name, own in values.items()}
    for name, own in lengths.items():
        if len(own) != len(layers):
            raise ValueError(f"{name} has {len(own)} entries for {len(layers)} layers; give one for each layer.")
    rows = {name: np.flatnonzero(np.array(networks) == name) for name in dict.fromkeys(networks)}
    across = {name: [rankdata(-own[each]).tolist() for each in rows.values()] for name, own in values.items()}
    first, most = next(iter(values)), max(map(len, rows.values()))
    figure = new_figure(760, 460, xaxis_title="rank by the criterion (1: most important)", yaxis_title="rank by the measured fall")
    figure.add_scatter(x=[1, most], y=[1, most], mode="lines", line={"color": GRAY, "dash": "dot"}, showlegend=False, hoverinfo="skip")
    for (name, each), x in zip(rows.items(), across[first], strict=True):
        figure.add_scatter(
            x=x, y=rankdata(-truth[each]).tolist(), mode="markers", name=name, marker={"size": 11, "opacity": 0.8},
            customdata=[[layers[i], shapes[i]] for i in each],
            hovertemplate="layer %{customdata[0]}<br>weights %{customdata[1]}<br>"
            "rank by the criterion %{x}<br>rank as measured %{y}<extra>%{fullData.name}</extra>",
        )  # fmt: skip
    points = list(range(1, 1 + len(rows)))
    buttons = [{"label": name, "method": "restyle", "args": [{"x": each}, points]} for name, each in across.items()]
    figure.update_layout(updatemenus=[{"type": "buttons", "direction": "right", "x": 0, "xanchor": "left", "y": 1.14, "buttons": buttons}])
    figure.update_xaxes(range=[most + 0.6, 0.4])
    figure.update_yaxes(range=[most + 0.6, 0.4])
    return figure

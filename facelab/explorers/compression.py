"""What goes from a network, and what that costs: weights before and after, errors by layer, score against bytes, multiplies and time."""

import ipywidgets
import numpy as np
import pandas as pd

from facelab.explorers.explorer import Explorer, View
from facelab.pictures.compression import COSTS, SCALES, plot_compression
from facelab.pictures.style import Picture
from facelab.pictures.view import Spot

LEVELS = {"mild": 0.0, "medium": 0.5, "strong": 1.0}


class CompressionExplorer(Explorer):
    """Choose a network, a method and how strongly it works; nothing is computed while it is shown.

    tables = compression.sweep.sweep(bases)
    CompressionExplorer(*tables)
    """

    def __init__(self, table: pd.DataFrame, layers: pd.DataFrame, weights: pd.DataFrame) -> None:
        """Show what `compression.sweep.sweep` found.

        Args:
            table: a row per base, method and strength with the columns of the bench's table; method "original" once per base.
            layers: a row per base, method, strength and layer, with `depth`, `before`, `after` and `unexplained`.
            weights: a row per base, method, strength and bin of the histogram: `left`, `right`, `count`.

        Raises:
            ValueError: a base without its original, or without any method.
        """
        self._parts = {}
        for base, rows in table.groupby("base", sort=False):
            rows = rows[rows.score.notna()]  # the others say why a method could not handle it
            methods = [name for name in rows.method.unique() if name != "original"]
            if not methods or len(methods) == rows.method.nunique():
                raise ValueError(f"The table of {base!r} has the methods {list(rows.method.unique())}; it needs 'original' and some other.")
            self._parts[base] = rows.reset_index(drop=True)
        methods = [name for name in table[table.score.notna()].method.unique() if name != "original"]
        layers_of = dict(iter(layers.groupby(["base", "method", "strength"])))
        weights_of = dict(iter(weights.groupby(["base", "method", "strength"])))

        def draw(network: str, method: str, strength: str, cost: str) -> View:
            rows = self._parts[network]
            own = rows[rows.method == method].sort_values("strength")
            if own.empty:
                own = rows[rows.method != "original"].sort_values("strength")
            row = own.iloc[round(LEVELS[strength] * (len(own) - 1))]
            key, origin = (network, row.method, row.strength), rows[rows.method == "original"].iloc[0]
            lost = layers_of.get(key, layers.iloc[:0]).sort_values("depth")
            bins = {"before": weights_of[network, "original", origin.strength], "after": weights_of[key]}
            histograms = {name: (np.append(part.left, part.right.iloc[-1]), part["count"].to_numpy()) for name, part in bins.items()}
            picture = plot_compression(
                histograms, lost.unexplained.to_numpy(), rows, cost, chosen=int(row.name), unit=str(row.unit),
                title=f"weights of {row.largest}, the largest layer",
            )  # fmt: skip
            shares = {cost: row[cost] / origin[cost] for cost in ("bytes", "multiplies")}
            text = (
                f"{network}, {row.method} at {row.strength:g}: score {row.score:.3g} (original {origin.score:.3g}) with "
                f"{shares['bytes']:.0%} of the bytes, {shares['multiplies']:.0%} of the multiplies and {row.latency:.2f} times the time "
                f"({row.latency_low:.2f} to {row.latency_high:.2f}); widths {row.architecture}."
            )
            return View(picture, text, self._spots(picture, rows, lost, cost))

        controls = {
            "network": ipywidgets.Dropdown(options=list(self._parts), description="network"),
            "method": ipywidgets.Dropdown(options=methods, description="method"),
            "strength": ipywidgets.SelectionSlider(options=list(LEVELS), value="medium", description="strength"),
            "cost": ipywidgets.Dropdown(options={label: name for name, label in COSTS.items()}, description="cost"),
        }
        super().__init__(draw, controls, page={"network": 4, "method": 8, "strength": 3, "cost": 3}, name="Compression explorer")
        if self.error is not None:
            raise self.error

    @staticmethod
    def _spots(picture: Picture, rows: pd.DataFrame, lost: pd.DataFrame, cost: str) -> list[Spot]:
        """The bars of the layers, and the points with their architecture."""
        spots = [
            Spot(
                1,
                place - 0.5,
                0,
                place + 0.5,
                1e9,
                f"{row.layer}: {row.unexplained:.1%} lost, {row.before} channels before, {row.after} now",
            )
            for place, row in enumerate(lost.itertuples(), start=1)
        ]
        axes = picture.axes[2]
        wide, high = (0.015 * np.ptp(limits) for limits in (axes.get_xlim(), axes.get_ylim()))
        for row in rows.itertuples():
            x, text = getattr(row, cost) / SCALES[cost], f"{row.method} at {row.strength:g}: score {row.score:.3g}, {row.architecture}"
            spots.append(Spot(2, x - wide, row.score - high, x + wide, row.score + high, text))
        return spots

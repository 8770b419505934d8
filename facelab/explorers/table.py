"""Bars of a table: whatever was measured row by row, a choice for each column that tells the rows apart."""

from collections.abc import Sequence
from typing import Any

import ipywidgets
import numpy as np
import pandas as pd

from facelab.explorers.explorer import Explorer, View
from facelab.pictures.rows import plot_rows
from facelab.pictures.view import Spot

MOST = 20
"""Bars that fit on a small screen together with the controls."""
ORDERS = ("as it stands", "largest first")


class TableExplorer(Explorer):
    """Choose rows of a table by their columns and see one figure of each as a bar.

    Where more rows are chosen than fit, those with the largest figures are shown.

    Example:
        TableExplorer(sensitivity, by=["family", "level"], bar="layer", value="drop", low="low", high="high", unit="nats")
    """

    def __init__(
        self, table: pd.DataFrame, by: Sequence[str], bar: str, value: str, *, low: str = "", high: str = "", note: str = "",
        unit: str = "", page: int = 12, name: str = "Table explorer",
    ) -> None:  # fmt: skip
        """Show a table.

        Args:
            table: a row per bar and choice.
            by: columns that are chosen; numbers by a slider.
            bar: column that names the bars.
            value: column of their lengths.
            low, high: columns of their intervals, if there are any.
            note: column of a sentence about the chosen rows, which ends the caption.
            unit: of the value.
            page: at most how many views a saved page holds, apart from the order.
            name: what the text twin of the explorer calls it.

        Raises:
            ValueError: the table has no row, or lacks a column.
        """
        missing = [column for column in (*by, bar, value, low, high, note) if column and column not in table.columns]
        if missing or table.empty:
            what = f"lacks the columns {missing}" if missing else "has no row"
            raise ValueError(f"The table {what}; give one with a row per bar and the columns that are named.")
        choices = {column: list(dict.fromkeys(table[column])) for column in by}
        label = f"{value}, {unit}" if unit else value

        def draw(order: str, **chosen: Any) -> View:
            rows, said = table, ", ".join(f"{column} {_say(value)}" for column, value in chosen.items())
            for column, wanted in chosen.items():
                rows = rows[rows[column] == wanted]
            if rows.empty:
                return View(plot_rows([], np.zeros(0), label=label, title=said), f"There is no row with {said}; choose another value.")
            if len(rows) > MOST or order == ORDERS[1]:
                largest = rows.reindex(rows[value].abs().sort_values(ascending=False, kind="stable").index).head(MOST)
                rows = largest if order == ORDERS[1] else largest.sort_index()
            names, values = [str(text) for text in rows[bar]], rows[value].to_numpy(float)
            ends = [rows[column].to_numpy(float) if column else None for column in (low, high)]
            picture = plot_rows(names, values, low=ends[0], high=ends[1], label=label, title=said)
            top = np.argsort(-np.abs(values), kind="stable")[:3]
            text = f"{said}: largest {', '.join(f'{names[i]} ({values[i]:.3g})' for i in top)}"
            if note:
                text += f". {rows[note].iloc[0]}"
            reach = 1e9
            spots = [
                Spot(0, -reach, i - 0.5, reach, i + 0.5, f"{names[i]}: {values[i]:.4g} {unit}{_interval(ends, i)}")
                for i in range(len(names))
            ]
            return View(picture, text, spots)

        controls = {column: _control(column, values) for column, values in choices.items()}
        controls["order"] = ipywidgets.Dropdown(options=list(ORDERS), description="order")
        super().__init__(draw, controls, page=_stops_within(page, choices), name=name)
        if self.error is not None:
            raise self.error


def _control(column: str, values: list) -> ipywidgets.Widget:
    """A slider for numbers, a list for words; greyed where there is nothing to choose."""
    kind = (
        ipywidgets.SelectionSlider if len(values) > 1 and all(isinstance(value, int | float) for value in values) else ipywidgets.Dropdown
    )
    return kind(options=[(_say(value), value) for value in values], description=column[:16], disabled=len(values) < 2)


def _stops_within(most: int, choices: dict[str, list]) -> dict[str, list]:
    """Values of each column for a saved page, the first ones, as many as together make `most` views."""
    kept, room = {}, most
    for column, values in choices.items():
        kept[column] = values[: max(1, min(len(values), room))]
        room //= len(kept[column])
    return kept


def _say(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _interval(ends: list, row: int) -> str:
    if ends[0] is None or ends[1] is None or not np.isfinite(ends[0][row] + ends[1][row]):
        return ""
    return f" (95 % {ends[0][row]:.3g} to {ends[1][row]:.3g})"

"""Which layer matters? Importance by criterion beside what was measured, and what a budget spent by it brings."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import ipywidgets
import numpy as np
import pandas as pd
from jaxtyping import Float
from scipy.stats import rankdata, spearmanr

from facelab.explorers.explorer import Explorer, View
from facelab.explorers.parts import control
from facelab.networks.layers import Layer
from facelab.pictures.layers import Column, Curves, Outcome, plot_layers, rows_shown
from facelab.pictures.style import BLUE, ESTIMATE, GRAY, TRUTH
from facelab.pictures.view import Spot

LEVELS = {
    "noise": (1, "sd of the weights"),
    "pruning": (100, "% of filters"),
    "quantisation": (1, "bits"),
    "bit swaps": (100, "% of bits flip"),
    "float bit swaps": (100, "% of bits flip"),
}
"""What a family's levels are multiplied with to read well, and their unit then."""
AMOUNTS = {"pruning": "filters cut", "quantisation": "bits per weight"}
"""What a budget of each use gives to a layer."""
CRITERIA_NEED = ("network", "kind", "layer", "criterion", "value", "unit")
SENSITIVITY_NEED = ("network", "kind", "layer", "family", "level", "draw", "drop", "low", "high", "unit", "samples")
BUDGETS_NEED = ("use", "source", "budget", "unit", "layer", "amount", "predicted", "measured", "low", "high")
UNIFORM = "uniform"


@dataclass(frozen=True)
class Truth:
    """What one family of perturbations did: curves, their mean over levels per layer (L,), and who is judged together.

    `units[i]` numbers the layer or set of tied layers that layer i was measured with, -1 if it was not.
    """

    curves: Curves
    mean: Float[np.ndarray, " L"]
    low: Float[np.ndarray, " L"]
    high: Float[np.ndarray, " L"]
    units: np.ndarray

    def ranks(self, values: Float[np.ndarray, " L"]) -> Float[np.ndarray, " L"]:
        """Rank of each layer's unit by the mean value of its layers, 1 is the highest; NaN where unknown."""
        together = self.together(values)
        known = np.isfinite(together)
        ranked = np.full(len(together), np.nan)
        ranked[known] = rankdata(-together[known])
        return np.where(self.units >= 0, ranked[self.units], np.nan)

    def together(self, values: Float[np.ndarray, " L"]) -> Float[np.ndarray, " U"]:
        """One value per unit: the mean over its layers."""
        return np.array([values[self.units == unit].mean() for unit in range(self.units.max() + 1)])

    def agreement(self, values: Float[np.ndarray, " L"]) -> tuple[float, int]:
        """Spearman's correlation of a criterion with the measured mean drop over units, and their number; NaN if it is not defined."""
        first, second = self.together(values), self.together(self.mean)
        known = np.isfinite(first + second)
        if known.sum() < 2 or np.ptp(first[known]) == 0 or np.ptp(second[known]) == 0:
            return float("nan"), int(known.sum())
        return float(spearmanr(first[known], second[known]).statistic), int(known.sum())


class LayerImportanceExplorer(Explorer):
    """Choose a family of perturbations and a criterion, sort, pick a layer to see its curves, and spend a budget.

    A click on a block or a row picks the layer, on the curves the family, on the scores the budget; the controls do the same. The
    pointer over a block, a row or a point says its figures. The budget stops where it was measured: nothing is interpolated.
    """

    def __init__(
        self,
        layers: Sequence[Layer],
        criteria: pd.DataFrame,
        sensitivity: pd.DataFrame,
        budgets: pd.DataFrame | None = None,
        *,
        title: str = "",
    ) -> None:
        """Show one network's tables.

        Args:
            layers: in order of execution, as `facelab.networks.layers.layers` gives them.
            criteria: the table of criteria (`importance.tables`); rows of kind "layer" are used.
            sensitivity: the measured table; layers tied by a residual addition are one row, their names joined by "+".
            budgets: a row per use ("pruning", "quantisation"), source (a criterion, "measured", "uniform"), budget (a number) and layer:
                unit (of the budget), amount (share of filters cut, or bits), and, the same for all layers of a budget, the score
                predicted and measured, and its 95 % interval low, high (NaN: unknown).
            title: begins the caption; the network's name by default.

        Raises:
            ValueError: a table lacks columns or layers, has unknown ones, holds several networks, or a figure twice.
        """
        if not layers:
            raise ValueError("There is no layer to show; give layers(model, example).")
        self.layers = tuple(layers)
        names = [layer.name for layer in layers]
        criteria = _rows_of_layers(criteria, "criteria", CRITERIA_NEED, names)
        sensitivity = _rows_of_layers(sensitivity, "sensitivity", SENSITIVITY_NEED, names)
        if (doubled := criteria.duplicated(["layer", "criterion"])).any():
            row = criteria[doubled].iloc[0]
            raise ValueError(f"The criteria table has {row.criterion!r} of layer {row.layer!r} twice; give one figure of each.")
        self._values = {name: _by_layer(rows.set_index("layer").value, names) for name, rows in criteria.groupby("criterion", sort=False)}
        units = criteria.groupby("criterion", sort=False).unit.first()
        self._truth = {family: _truth(rows, family, names) for family, rows in sensitivity.groupby("family", sort=False)}
        self._spent = _spent(budgets, names)
        self._budgets = {use: sorted({b for (u, _), s in self._spent.items() if u == use for b in s["budgets"]}) for use in self._uses}
        title = title or str(sensitivity.network.iloc[0])
        ties = sorted({tuple(i for i, name in enumerate(names) if name in text.split("+")) for text in sensitivity.layer if "+" in text})
        sizes = {what: np.array([float(getattr(layer, what)) for layer in layers]) for what in ("parameters", "multiplies")}
        self._ranks = {(f, c): truth.ranks(values) for f, truth in self._truth.items() for c, values in self._values.items()}
        self._true_ranks = {family: truth.ranks(truth.mean) for family, truth in self._truth.items()}
        score = str(sensitivity.unit.iloc[0])

        def draw(family: str, criterion: str, layer: int, sort: str, size: str, use: str = "", budget: float = 0.0) -> View:
            truth, values = self._truth[family], self._values[criterion]
            unit, ranks = str(units[criterion]).replace("^2", "²"), _say_ranks(self._true_ranks[family])
            columns = [
                _importance(criterion, values, unit, self._ranks[family, criterion]),
                Column(f"measured: {family}", f"mean drop, {score}", truth.mean, TRUTH, truth.low, truth.high, texts=ranks),
            ]
            outcomes, chosen, spent = [], 0.0, ""
            if use:
                source = criterion if (use, criterion) in self._spent else self._sources(use)[0]
                chosen = min(self._budgets[use], key=lambda b: abs(b - budget))
                columns.append(self._allocation(use, source, chosen))
                outcomes = self._outcomes(use, source)
                spent = self._say_budget(use, source, chosen, criterion)
            order = self._order(family, criterion, sort)
            picture = plot_layers(
                names, sizes[size], columns, [t.curves for t in self._truth.values()], order=order, picked=layer, shades=truth.mean,
                size_label=size, shade_label=f"mean drop, {family}", drop_label=f"drop, {score}", family=family, ties=ties,
                outcomes=outcomes, budget=chosen, budget_label=self._spent[use, source]["unit"] if use else "", score_label=score,
            )  # fmt: skip
            rho, count = truth.agreement(values)
            about = self._say_layer(layer, family, criterion)
            tied = ", tied layers counted once with the mean of their figures" if len(truth.mean) > truth.units.max() + 1 >= 1 else ""
            agreement = f"Spearman of {criterion} with the truth under {family}: {rho:.2f} over {count} layers{tied}."
            return View(picture, f"{title}: {about}. {agreement}{spent}", self._spots(order, family, criterion, layer, outcomes))

        controls = {
            "family": control(list(self._truth), description="perturbation"),
            "criterion": control(list(self._values), description="criterion"),
            "layer": control([(f"{i + 1} {name}", i) for i, name in enumerate(names)], description="layer"),
            "sort": control(list(SORTS), description="sort rows by"),
            "size": control(list(sizes), description="block height"),
        }
        if self._uses:
            controls["use"] = control(self._uses, description="budget for")
            first = self._budgets[self._uses[0]]
            controls["budget"] = ipywidgets.SelectionSlider(
                options=_stops(first), value=first[len(first) // 2], description="budget", continuous_update=True
            )
        page = {"family": list(self._truth), "criterion": list(self._values)[:8]}
        super().__init__(draw, controls, page=page, name="Layer-importance explorer")

    @property
    def _uses(self) -> list[str]:
        return list(dict.fromkeys(use for use, _ in self._spent))

    def _sources(self, use: str) -> list[str]:
        """Ways to spend a budget, derived ones first."""
        return sorted((source for u, source in self._spent if u == use), key=lambda source: (source == UNIFORM, source == "measured"))

    def settle(self) -> None:
        """Each use has its own grid of budgets; the slider keeps its relative place."""
        if "use" not in self.controls:
            return
        slider, grid = self.controls["budget"], self._budgets[self.controls["use"].value]
        before = [value for _, value in slider._options_full]
        if before != grid:
            share = before.index(slider.value) / max(len(before) - 1, 1)
            slider.options = _stops(grid)
            slider.value = grid[round(share * (len(grid) - 1))]

    def click(self, axes: int, x: float, y: float) -> None:
        """Pick a layer (blocks, rows), a family (curves) or a budget (scores)."""
        if axes == 0:
            self.set(layer=int(np.clip(round(x), 0, len(self.layers) - 1)))
        elif axes == 1:
            v = self.values
            order = self._order(v["family"], v["criterion"], v["sort"])
            if round(y) in rows_shown(order, v["layer"]):
                self.set(layer=int(order[round(y)]))
        elif axes == 2:
            middles = np.cumsum([0] + [len(t.curves.levels) + 1 for t in self._truth.values()])
            ends = dict(zip(self._truth, middles[1:] - 1, strict=True))
            self.set(family=min((f for f in ends if x < ends[f]), key=lambda f: ends[f], default=list(ends)[-1]))
        elif axes == 3:
            self.set(budget=min(self._budgets[self.values["use"]], key=lambda b: abs(b - x)))

    def _order(self, family: str, criterion: str, sort: str) -> np.ndarray:
        """Which layer is in which row; what is not known comes last, ties stay in order of execution."""
        keys = {"depth": np.zeros(len(self.layers)), "criterion": self._ranks[family, criterion], "measured": self._true_ranks[family]}
        return np.argsort(np.nan_to_num(keys[SORTS[sort]], nan=np.inf), kind="stable")

    def _allocation(self, use: str, source: str, budget: float) -> Column:
        spent, even = self._spent[use, source], self._spent.get((use, UNIFORM))
        amounts = _at(spent, "amounts", budget)
        marks = _at(even, "amounts", budget) if even is not None and source != UNIFORM else None
        every = np.concatenate([s["amounts"].ravel() for (u, _), s in self._spent.items() if u == use])
        texts = [f"{a:.2g}" if np.isfinite(a) else "–" for a in amounts]
        note = AMOUNTS.get(use, "amount") + ("; tick: uniform" if marks is not None else "")
        return Column(f"budget: {source}", note, amounts, "#cbb8e0", marks=marks, texts=texts, top=float(np.nanmax(every, initial=1e-12)))

    def _outcomes(self, use: str, source: str) -> list[Outcome]:
        """The source shown, uniform, and the truth."""
        shown = [s for s in dict.fromkeys((source, UNIFORM, "measured")) if (use, s) in self._spent]
        colors = {source: ESTIMATE, UNIFORM: GRAY, "measured": TRUTH} | ({source: BLUE} if source in (UNIFORM, "measured") else {})
        keys = ("budgets", "measured", "low", "high", "predicted")
        return [Outcome(_by(s), color=colors[s], **{key: self._spent[use, s][key] for key in keys}) for s in shown]

    def _say_budget(self, use: str, source: str, budget: float, criterion: str) -> str:
        parts = []
        for name in dict.fromkeys((source, UNIFORM, "measured")):
            if (use, name) in self._spent:
                spent = self._spent[use, name]
                measured, predicted = _at(spent, "measured", budget), _at(spent, "predicted", budget)
                if np.isfinite(measured):
                    guess = f" (predicted {predicted:.3g})" if np.isfinite(predicted) else ""
                    parts.append(f"{_by(name)} {measured:.3g}{guess}")
        instead = f" No budget was spent by {criterion}." if source != criterion else ""
        unit = self._spent[use, source]["unit"]
        return f"{instead} Score after {use} at {budget:.3g} {unit}: {', '.join(parts) or 'not measured'}."

    def _say_layer(self, layer: int, family: str, criterion: str) -> str:
        """A layer's figures, for the caption and for the pointer."""
        about, truth, values = self.layers[layer], self._truth[family], self._values[criterion]
        first, second = self._ranks[family, criterion][layer], self._true_ranks[family][layer]
        shape = "×".join(map(str, about.shape))
        told = f"{about.name} ({shape}, {about.parameters:,} parameters, {about.multiplies:,} multiplies): {criterion} "
        told += f"{values[layer]:.3g}, rank {first:g}" if np.isfinite(first) else "unknown"
        if not np.isfinite(second):
            return f"{told}; not measured under {family}"
        interval = f" (95 % {truth.low[layer]:.3g} to {truth.high[layer]:.3g})" if np.isfinite(truth.low[layer]) else ""
        return f"{told}; measured drop under {family} {truth.mean[layer]:.3g}{interval}, rank {second:g}"

    def _spots(self, order: np.ndarray, family: str, criterion: str, layer: int, outcomes: Sequence[Outcome]) -> list[Spot]:
        """What the pointer finds: layers as blocks and rows, points of curves and of scores."""
        said = [self._say_layer(i, family, criterion) for i in range(len(self.layers))]
        spots = [Spot(0, i - 0.5, -0.95, i + 0.5, 0.9, text) for i, text in enumerate(said)]
        spots += [Spot(1, 0, row - 0.5, 100, row + 0.5, said[order[row]]) for row in rows_shown(order, layer)]
        start = 0
        for name, truth in self._truth.items():
            curve = truth.curves
            for v, level in enumerate(curve.levels):
                drop, low, high = (array[layer, v] for array in (curve.drop, curve.low, curve.high))
                interval = f" (95 % {low:.3g} to {high:.3g})" if np.isfinite(low + high) else ""
                text = f"{name}, {level} {curve.unit}: " + (f"drop {drop:.3g}{interval}" if np.isfinite(drop) else "not measured")
                spots.append(Spot(2, start + v - 0.5, -1e9, start + v + 0.5, 1e9, text))
            start += len(curve.levels) + 1
        grid = sorted({b for o in outcomes for b in o.budgets})
        reach = 0.4 * min(np.diff(grid), default=1.0)
        for b in grid:
            scores = {o.label: o.measured[i] for o in outcomes for i in np.flatnonzero(o.budgets == b)}
            text = ", ".join(f"{label} {score:.3g}" for label, score in scores.items() if np.isfinite(score)) or "not measured"
            spots.append(Spot(3, b - reach, -1e9, b + reach, 1e9, f"{b:.3g}: {text}"))
        return spots


SORTS = {"order of execution": "depth", "criterion": "criterion", "measured truth": "measured"}


def _by(source: str) -> str:
    return source if source == UNIFORM else "by the truth" if source == "measured" else f"by {source}"


def _stops(grid: Sequence[float]) -> list[tuple[str, float]]:
    return [(f"{value:.3g}", value) for value in grid]


def _say_ranks(ranks: np.ndarray) -> list[str]:
    return [f"{rank:g}" if np.isfinite(rank) else "–" for rank in ranks]


def _importance(criterion: str, values: np.ndarray, unit: str, ranks: np.ndarray) -> Column:
    """Bars from 0 (or the lowest, if a criterion goes below) to the highest figure: criteria have no common unit."""
    lowest = min(0.0, float(np.nanmin(values, initial=0.0)))
    highest = float(np.nanmax(values, initial=-np.inf))
    shares = (values - lowest) / (highest - lowest) if highest > lowest else np.zeros_like(values)
    note = f"of {highest:.2g} {unit}" if lowest == 0 else f"{lowest:.2g} to {highest:.2g} {unit}"
    return Column(criterion, note, np.where(np.isfinite(values), shares, np.nan), ESTIMATE, texts=_say_ranks(ranks), top=1.0)


def _need(frame: pd.DataFrame, name: str, columns: Sequence[str]) -> None:
    missing = [column for column in columns if column not in frame.columns]
    if missing:
        raise ValueError(f"The {name} table lacks the columns {missing}; it needs {list(columns)}.")


def _rows_of_layers(frame: pd.DataFrame, name: str, columns: Sequence[str], names: Sequence[str]) -> pd.DataFrame:
    """Rows about whole layers, checked: one network, every layer in it, no other."""
    _need(frame, name, columns)
    rows = frame[frame.kind == "layer"]
    if not len(rows):
        raise ValueError(f"The {name} table has no row about a whole layer; give one whose kind is 'layer'.")
    networks = list(rows.network.unique())
    if len(networks) > 1:
        raise ValueError(f"The {name} table holds {len(networks)} networks ({', '.join(map(str, networks))}); give the rows of one.")
    _check_layers(rows.layer, name, names)
    return rows


def _check_layers(found: Any, name: str, names: Sequence[str]) -> None:
    seen = {part for text in found for part in str(text).split("+")}
    if unknown := sorted(seen - set(names)):
        raise ValueError(f"The {name} table has a layer {unknown[0]!r} that is none of the network's: {', '.join(names)}.")
    if name != "budgets" and (absent := [layer for layer in names if layer not in seen]):
        raise ValueError(f"The {name} table says nothing about layer {absent[0]!r}; compute it, or leave that layer out of `layers`.")


def _by_layer(column: pd.Series, names: Sequence[str]) -> np.ndarray:
    """Figures (L,) in order of execution; tied layers get the figure of their set, NaN where there is none."""
    figures = {part: value for text, value in column.items() for part in str(text).split("+")}
    return np.array([float(figures.get(name, np.nan)) for name in names])


def _truth(rows: pd.DataFrame, family: str, names: Sequence[str]) -> Truth:
    """One family of the sensitivity table.

    The interval of a mean over draws or levels is the mean of their intervals, unless the table brings its own: drops resampled with
    the same samples rise and fall together, so the mean is an upper bound of the width.
    """
    if (doubled := rows.duplicated(["layer", "level", "draw"])).any():
        row = rows[doubled].iloc[0]
        raise ValueError(f"The sensitivity table has {family} {row.level:g} of layer {row.layer!r} twice in one draw; give one of each.")
    levels = sorted(rows.level.unique(), reverse=family == "quantisation")  # mildest first
    tables = [rows.pivot_table(index="layer", columns="level", values=what, sort=False)[levels] for what in ("drop", "low", "high")]
    drop, low, high = (np.array([_by_layer(table[level], names) for level in levels]).T for table in tables)
    own = rows.groupby("layer", sort=False)[[c for c in ("sensitivity_low", "sensitivity_high") if c in rows.columns]].first()
    first, last = (_by_layer(own[c], names) for c in own.columns) if len(own.columns) == 2 else (low.mean(1), high.mean(1))
    groups = sorted(rows.layer.unique(), key=lambda text: names.index(text.split("+")[0]))
    number = {part: i for i, text in enumerate(groups) for part in text.split("+")}
    times, unit = LEVELS.get(family, (1, "level"))
    curves = Curves(family, [f"{times * v:.3g}".replace("0.", ".") for v in levels], unit, drop, low, high)
    return Truth(curves, drop.mean(1), first, last, np.array([number.get(name, -1) for name in names]))


def _spent(frame: pd.DataFrame | None, names: Sequence[str]) -> dict[tuple[str, str], dict[str, Any]]:
    """(use, source) -> budgets (G,), amounts (G,L), predicted, measured, low, high (G,), unit."""
    if frame is None or not len(frame):
        return {}
    _need(frame, "budgets", BUDGETS_NEED)
    _check_layers(frame.layer, "budgets", names)
    found = {}
    for (use, source), rows in frame.groupby(["use", "source"], sort=False):
        if (doubled := rows.duplicated(["budget", "layer"])).any():
            row = rows[doubled].iloc[0]
            raise ValueError(f"The budgets table gives layer {row.layer!r} two amounts at {use} {row.budget:g} by {source}; give one.")
        firsts = rows.groupby("budget").first()
        spent: dict[str, Any] = {key: firsts[key].to_numpy(dtype=float) for key in ("predicted", "measured", "low", "high")}
        amounts = np.array([_by_layer(part.set_index("layer").amount, names) for _, part in rows.groupby("budget")])
        found[use, source] = spent | {"budgets": firsts.index.to_numpy(dtype=float), "amounts": amounts, "unit": str(rows.unit.iloc[0])}
    return found


def _at(spent: dict[str, Any], what: str, budget: float) -> Any:
    """What was found at a budget; NaN where this source was not spent at it."""
    index = np.flatnonzero(spent["budgets"] == budget)
    return spent[what][index[0]] if len(index) else np.full(spent[what].shape[1:], np.nan)[()]

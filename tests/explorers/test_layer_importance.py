"""The layer-importance explorer shows what the tables say, for every value of every control."""

import re
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from importance_tables import GRIDS, LEVELS, tables
from scipy.stats import spearmanr

from facelab.explorers import LayerImportanceExplorer
from facelab.pictures.layers import ROWS

pytestmark = pytest.mark.slow

LAYERS, CRITERIA, SENSITIVITY, BUDGETS = tables()
NAMES = [layer.name for layer in LAYERS]
CONTROLS = ["family", "criterion", "layer", "sort", "size", "use", "budget"]


@pytest.fixture
def explorer() -> LayerImportanceExplorer:
    return LayerImportanceExplorer(LAYERS, CRITERIA, SENSITIVITY, BUDGETS)


def drawn(view, gid: str):
    """The artists of that name."""
    return [artist for axes in view.picture.axes for artist in axes.get_children() if artist.get_gid() == gid]


def bars(view, column: int) -> np.ndarray:
    """(rows, 2): left and right end of each bar, in inches."""
    return np.array([[path.vertices[:, 0].min(), path.vertices[:, 0].max()] for path in drawn(view, f"bars {column}")[0].get_paths()])


def rows_of(view, column: int) -> np.ndarray:
    """Which rows have a bar."""
    return np.array([path.vertices[:, 1].mean().round() for path in drawn(view, f"bars {column}")[0].get_paths()], dtype=int)


def measured(family: str) -> np.ndarray:
    """Mean drop of each layer, straight from the table."""
    rows = SENSITIVITY[SENSITIVITY.family == family]
    return np.array([rows[[name in text.split("+") for text in rows.layer]]["drop"].mean() for name in NAMES])


def test_both_uses_at_every_budget(explorer):
    for use, grid in GRIDS.items():
        explorer.set(use=use)
        assert [value for _, value in explorer.controls["budget"]._options_full] == list(grid)
        for budget in grid:
            explorer.set(budget=budget)
            assert explorer.error is None
            scores = BUDGETS[(BUDGETS.use == use) & (BUDGETS.budget == budget)].groupby("source").measured.first()
            assert f"by fisher {scores['fisher']:.3g} (predicted {scores['fisher'] - 0.01:.3g})" in explorer.shown.text
            assert ("uniform" in explorer.shown.text) == ("uniform" in scores)
            assert "uniform" not in scores or f"uniform {scores['uniform']:.3g}" in explorer.shown.text


def test_a_budget_between_those_measured_is_never_shown(explorer):
    assert explorer.view(use="quantisation", budget=2.7).text == explorer.view(use="quantisation", budget=2.5).text
    (band,) = drawn(explorer.view(use="quantisation", budget=2.7), "budget")
    assert band.get_segments()[0][0, 0] == 2.5


@pytest.mark.parametrize(
    "change",
    [{"family": "pruning"}, {"criterion": "depth"}, {"layer": 3}, {"use": "quantisation"}, {"budget": 0.7}],
)
def test_each_control_changes_picture_and_caption(explorer, change):
    before, after = explorer.view(), explorer.view(**change)
    assert before.text != after.text
    assert (before.picture.rgb() != after.picture.rgb()).any()


@pytest.mark.parametrize("change", [{"sort": "measured truth", "criterion": "fisher", "family": "bit swaps"}, {"size": "multiplies"}])
def test_sorting_and_sizes_change_the_picture(change):
    layers = [replace(layer, multiplies=1) if i == 2 else layer for i, layer in enumerate(LAYERS)]
    explorer = LayerImportanceExplorer(layers, CRITERIA, SENSITIVITY, BUDGETS)
    assert (explorer.view().picture.rgb() != explorer.view(**change).picture.rgb()).any()


@pytest.mark.parametrize("family", LEVELS)
def test_bars_and_intervals_are_those_of_the_table(explorer, family):
    view = explorer.view(family=family, criterion="fisher")
    drops, widths = measured(family), np.ptp(bars(view, 1), axis=1)
    np.testing.assert_allclose(widths / widths.max(), drops / drops.max(), rtol=1e-9)
    unit = widths.max() / drops.max()
    ends = np.array([segment[:, 0] for segment in drawn(view, "intervals 1")[0].get_segments()])
    zero = bars(view, 1)[0, 0]
    np.testing.assert_allclose((ends - zero) / unit, np.stack([drops - 0.03, drops + 0.02], 1), atol=1e-9)
    values = CRITERIA[CRITERIA.criterion == "fisher"].value.to_numpy()
    np.testing.assert_allclose(np.ptp(bars(view, 0), axis=1) / np.ptp(bars(view, 0), axis=1).max(), values / values.max(), rtol=1e-9)


def test_intervals_of_the_mean_that_the_table_brings_are_preferred():
    own = SENSITIVITY.assign(sensitivity_low=0.011, sensitivity_high=0.777)
    assert "(95 % 0.011 to 0.777)" in LayerImportanceExplorer(LAYERS, CRITERIA, own).view().text


@pytest.mark.parametrize("family", LEVELS)
@pytest.mark.parametrize("layer", range(len(LAYERS)))
def test_curves_are_those_of_the_table(explorer, family, layer):
    rows = SENSITIVITY[[NAMES[layer] in text.split("+") for text in SENSITIVITY.layer]]
    expected = rows[rows.family == family].groupby("level")["drop"].mean().loc[list(LEVELS[family])]
    (line,) = drawn(explorer.view(layer=layer), f"curve {family}")
    np.testing.assert_allclose(line.get_ydata(), expected.to_numpy())


def test_allocations_and_scores_are_those_of_the_table(explorer):
    explorer.set(use="pruning", budget=0.3)
    view = explorer.view(criterion="fisher")
    rows = BUDGETS[(BUDGETS.use == "pruning") & (BUDGETS.source == "fisher")]
    amounts = rows[rows.budget == 0.3].amount.to_numpy()
    widths = np.ptp(bars(view, 2), axis=1)
    np.testing.assert_allclose(widths / widths.max(), amounts / amounts.max(), rtol=1e-9)
    assert list(rows_of(view, 2)) == list(range(len(NAMES) - 1))  # the classifier has none
    marks = np.array([segment[0, 0] for segment in drawn(view, "marks 2")[0].get_segments()])
    even = BUDGETS[(BUDGETS.use == "pruning") & (BUDGETS.source == "uniform") & (BUDGETS.budget == 0.3)].amount.to_numpy()
    np.testing.assert_allclose((marks - bars(view, 2)[0, 0]) / widths.max(), even / amounts.max(), atol=1e-9)
    np.testing.assert_allclose(drawn(view, "measured by fisher")[0].get_ydata(), rows.groupby("budget").measured.first())
    np.testing.assert_allclose(drawn(view, "predicted by fisher")[0].get_ydata(), rows.groupby("budget").predicted.first())
    assert not drawn(view, "predicted uniform")


def test_spearman_of_tied_layers_counts_them_once(explorer):
    drops, values = measured("noise"), CRITERIA[CRITERIA.criterion == "fisher"].value.to_numpy()
    assert f"{spearmanr(drops, values).statistic:.2f} over 6 layers." in explorer.view(family="noise", criterion="fisher").text
    drops, values = measured("pruning"), values.copy()
    values[1] = values[[1, 3]].mean()
    kept = [0, 1, 2, 4, 5]
    text = explorer.view(family="pruning", criterion="fisher").text
    assert f"{spearmanr(drops[kept], values[kept]).statistic:.2f} over 5 layers, tied" in text
    assert drawn(explorer.view(), "ties")


@pytest.mark.parametrize("family", LEVELS)
def test_rows_are_sorted(explorer, family):
    view = explorer.view(family=family, sort="measured truth")
    widths = np.ptp(bars(view, 1), axis=1)
    assert (np.diff(widths) <= 1e-12).all() and np.ptp(widths) > 0
    view = explorer.view(family="noise", criterion="fisher", sort="criterion")
    assert (np.diff(np.ptp(bars(view, 0), axis=1)) <= 1e-12).all()
    assert (np.diff(np.ptp(bars(explorer.view(criterion="depth"), 0), axis=1)) < 0).all()


def test_clicks_pick_layers_families_and_budgets(explorer):
    explorer.set(sort="measured truth", family="noise")
    for place in range(len(NAMES)):
        explorer.click(1, 0.5, place + 0.3)
        assert explorer.values["layer"] == np.argsort(-measured("noise"), kind="stable")[place]
        explorer.click(0, place - 0.4, 0.0)
        assert explorer.values["layer"] == place
    explorer.click(1, 0.5, -2.0)  # the heads of the columns
    assert explorer.values["layer"] == len(NAMES) - 1
    start = 0
    for family, levels in LEVELS.items():
        for x in (start - 0.3, start + len(levels) - 0.7):
            explorer.click(2, x, 0.1)
            assert explorer.values["family"] == family
        start += len(levels) + 1
    explorer.click(3, 0.58, 0.5)
    assert explorer.values["budget"] == 0.5


def test_a_click_on_the_picture_reaches_the_block(explorer):
    explorer.shown.picture.rgb()
    width, height = explorer.shown.picture.canvas.get_width_height()
    x, y = explorer.shown.picture.axes[0].transData.transform((4, 0))
    explorer.canvas.pointer = {"kind": "click", "from": [x / width, 1 - y / height], "to": [x / width, 1 - y / height], "count": 1}
    assert explorer.values["layer"] == 4


def test_the_pointer_finds_what_is_under_it(explorer):
    explorer.set(sort="measured truth", family="noise", layer=0)
    assert [tuple(hint) for hint in explorer.canvas.hints] == explorer.shown.hints()
    width, height = explorer.shown.picture.canvas.get_width_height()

    def under(axes: int, x: float, y: float) -> str:
        across, down = explorer.shown.picture.axes[axes].transData.transform((x, y)) / (width, height)
        return next((text for a, t, c, b, text in explorer.canvas.hints if a <= across <= c and t <= 1 - down <= b), "")

    for place, layer in enumerate(np.argsort(-measured("noise"), kind="stable")):
        assert under(1, 2.0, place).startswith(NAMES[layer] + " (")
        assert under(0, place, 0).startswith(NAMES[place] + " (")
        assert f"measured drop under noise {measured('noise')[layer]:.3g}" in under(1, 2.0, place)
    assert under(2, 1, 0.1).startswith("noise, .5 sd of the weights: drop")
    assert under(3, 0.3, 0.9).startswith("0.3: by fisher")
    assert all(0 <= v <= 1 for hint in explorer.canvas.hints for v in hint[:4])


def test_without_budgets_there_is_none():
    explorer = LayerImportanceExplorer(LAYERS, CRITERIA, SENSITIVITY)
    assert "budget" not in explorer.controls and len(explorer.shown.picture.axes) == 3
    assert "Score after" not in explorer.shown.text


def test_a_criterion_that_was_not_spent_says_so(explorer):
    assert "No budget was spent by depth. Score after" in explorer.view(criterion="depth").text


def test_figures_that_are_missing_are_left_out():
    criteria = CRITERIA[~((CRITERIA.criterion == "fisher") & (CRITERIA.layer == "conv2"))]
    sensitivity = SENSITIVITY[~((SENSITIVITY.family == "noise") & (SENSITIVITY.layer == "conv3"))]
    explorer = LayerImportanceExplorer(LAYERS, criteria, sensitivity, BUDGETS)
    view = explorer.view(family="noise", criterion="fisher", sort="criterion", layer=2)
    assert "not measured under noise" in view.text and "over 4 layers" in view.text
    assert "fisher unknown" in explorer.view(layer=1).text
    assert list(rows_of(view, 0)) == [0, 1, 2, 3, 5]  # those without rank come last: conv2 has no bar, conv3 was not measured
    assert "drop" in explorer.view(family="pruning", layer=2).text


@pytest.mark.parametrize("count", [3, 12, 40])
def test_any_number_of_layers(count):
    explorer = LayerImportanceExplorer(*tables(count, ties=((0, 1),)))
    assert explorer.error is None
    for layer in (0, count // 2, count - 1):
        explorer.set(sort="order of execution", layer=layer)
        shown = rows_of(explorer.shown, 1)
        assert len(shown) == min(count, ROWS) and layer in shown and explorer.shown.picture.rgb().shape[0] <= 490
        rows = [spot for spot in explorer.shown.spots if spot.axes == 1]
        assert [(spot.bottom + spot.top) / 2 for spot in rows] == shown.tolist()
    explorer.click(1, 0.5, float(shown[0]))
    assert explorer.values["layer"] == shown[0]


BAD = {
    "lacks the columns ['value']": lambda l, c, s, b: (l, c.drop(columns="value"), s, b),
    "sensitivity table lacks the columns ['low']": lambda l, c, s, b: (l, c, s.drop(columns="low"), b),
    "budgets table lacks the columns ['source']": lambda l, c, s, b: (l, c, s, b.drop(columns="source")),
    "says nothing about layer 'conv2'": lambda l, c, s, b: (l, c[c.layer != "conv2"], s, b),
    "sensitivity table says nothing about layer 'classifier'": lambda l, c, s, b: (l, c, s[s.layer != "classifier"], b),
    "criteria table has a layer 'classifier' that is none": lambda l, c, s, b: (l[:-1], c, s, b),
    "budgets table has a layer 'stem' that is none": lambda l, c, s, b: (l, c, s, b.assign(layer="stem")),
    "holds 2 networks": lambda l, c, s, b: (l, c.assign(network=["a", "b"] * (len(c) // 2)), s, b),
    "'fisher' of layer 'conv1' twice": lambda l, c, s, b: (l, pd.concat([c, c.iloc[:1]]), s, b),
    "noise 0.25 of layer 'conv1' twice": lambda l, c, s, b: (l, c, pd.concat([s, s.iloc[:1]]), b),
    "two amounts at pruning 0.1": lambda l, c, s, b: (l, c, s, pd.concat([b, b.iloc[:1]])),
    "no layer to show": lambda l, c, s, b: ([], c, s, b),
    "no row about a whole layer": lambda l, c, s, b: (l, c, s.assign(kind="channel"), b),
}


@pytest.mark.parametrize("sentence", BAD)
def test_what_does_not_fit_is_said_in_one_sentence(sentence):
    with pytest.raises(ValueError, match=re.escape(sentence)) as caught:
        LayerImportanceExplorer(*BAD[sentence](*tables()))
    assert "\n" not in str(caught.value) and str(caught.value).endswith(".")

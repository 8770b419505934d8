"""The parts of a report after its check: attributions, layers, criteria, channels, budgets, compression."""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import pandas as pd
import torch

from facelab.compression.registry import OWN, method
from facelab.compression.sweep import Base, sweep
from facelab.explorers.attribution import AttributionExplorer
from facelab.explorers.compression import CompressionExplorer
from facelab.explorers.layer_importance import LayerImportanceExplorer
from facelab.explorers.table import TableExplorer
from facelab.importance.agreement import agreement
from facelab.importance.criteria import criteria as criteria_of
from facelab.importance.scores import unit_of
from facelab.importance.sensitivity import ablate_channels, measure_layers
from facelab.importance.spending import spend
from facelab.networks.perturbations import BENCHMARK, FAMILIES
from facelab.pictures.compression import interactive_tradeoff
from facelab.pictures.importance import plot_agreement, plot_sensitivity
from facelab.pictures.interactive import new_figure
from facelab.report.credits import chosen_samples, credits, outputs_of
from facelab.report.given import Given
from facelab.report.part import Part, cause, part

QUICK = ("noise", "pruning", "quantisation")
"""Ways to disturb a layer in a report that is not thorough, each at every second of its levels."""
CRITERIA = ("depth", "size", "magnitude", "gradient", "taylor", "fisher", "integrated gradients", "activation")
MANY = 400
"""Channels beyond which only those are measured that promise to matter."""
SCREENED = 40
IMPORTANCES = ("fisher", "magnitude")
"""Criteria that a budget is spent by, beside what was measured."""
SAVED, BITS = (0.1, 0.25, 0.5), (3.0, 4.0, 6.0)
"""Budgets: shares of the multiplies to save, and bits per weight."""
STEPS = 60
"""Of fine-tuning after compression."""


@part("attributions", "Attributions of chosen samples")
def attributions(given: Given) -> Part:
    """What the network looks at, in the samples that it does worst and best on; as maps where the inputs are images."""
    name, title = "attributions", "Attributions of chosen samples"
    table, refused = credits(given)
    best = table[table.method == table.method.iloc[0]]
    strongest = best.groupby("feature", sort=False).credit.apply(lambda credit: credit.abs().mean()).nlargest(3)
    said = (
        f"By {table.method.iloc[0]}, the largest credit goes to {', '.join(map(str, strongest.index))}, averaged over samples and outputs."
    )
    if strongest.max() == 0:
        said = "No feature gets any credit, because the answers are the same whatever the inputs are."
    sentences = [said, *refused]
    explorer = None
    if given.kind == "images":
        try:
            inputs, targets, names = chosen_samples(given)
            with torch.no_grad():
                outputs = outputs_of(given.model(inputs.clone()), targets)
            explorer = AttributionExplorer(given.model, inputs, outputs, names=names)
            explorer.page = {"image": min(4, len(names)), "output": min(3, len(outputs))}
        except Exception as error:
            sentences.append(f"There are no maps, bars instead. {cause(error)}")
    if explorer is None:
        by = ["sample", "output", "method"]
        bars = TableExplorer(table, by, "feature", "credit", note="note", unit="change of the output", name="Attribution explorer")
        return Part(name, title, tuple(sentences), table, explorer=bars)
    return Part(name, title, tuple(sentences), table, explorer=explorer)


@part("layers", "Layers, disturbed one at a time")
def layers(given: Given) -> Part:
    """How far the score falls when a layer is disturbed: measured, for each layer and way of disturbing it."""
    _need(given.layers, "No layer can be disturbed alone")
    families = BENCHMARK if given.thorough else QUICK
    levels = {family: FAMILIES[family].levels[:: 1 if given.thorough else 2] for family in families}
    draws = 3 if given.thorough else 1
    with _overheard() as warned:
        table = measure_layers(given.model, given.evaluation, given.differentiable, families, levels, draws, given.seed, progress=False)
    means = table.groupby(["family", "layer"], sort=False)["drop"].mean()
    worst = means["noise"].idxmax()
    said = [f"Noise hurts most in {worst}, where the score falls by {means['noise', worst]:.3g} {given.unit} on average."]
    if means["noise"].max() <= 0:
        said = ["Noise in a single layer never lowered the score on average."]
    if means.abs().max() == 0:
        said = ["Nothing that was done to any layer changed the score, so that there is no order of importance."]
    units = {family: FAMILIES[family].unit for family in families}
    picture = plot_sensitivity(table, units=units, label=f"drop, {given.unit}")
    explorer = TableExplorer(table, ["family", "level"], "layer", "drop", low="low", high="high", unit=given.unit, name="Layer explorer")
    return Part("layers", "Layers, disturbed one at a time", (*said, *warned), table, picture, explorer=explorer)


@part("criteria", "Criteria beside what was measured")
def criteria(given: Given, measured: Part) -> Part:
    """Which criterion, told from weights, gradients and activations alone, foresees the measured drops."""
    truth = _table_of(measured)
    table, refused = _criteria_table(given)
    found = agreement(table, truth)
    explorer = LayerImportanceExplorer(given.layers, table, truth, title=given.name)
    explorer.page = {"criterion": list(dict.fromkeys(table.criterion))[:4], "family": 3}
    if found.empty:
        said = "No criterion can be judged, because "
        said += "there is a single layer." if len(given.layers) < 2 else "no two layers differ in what was measured."
        return Part("criteria", "Criteria beside what was measured", (said, *refused), table, explorer=explorer)
    pairs = found.groupby("criterion", sort=False).pairs.mean().sort_values(ascending=False, kind="stable")
    said = f"The criterion {pairs.index[0]} puts {pairs.iloc[0]:.0%} of the pairs of layers in the measured order, {pairs.index[-1]} "
    said += f"{pairs.iloc[-1]:.0%}; chance would be 50 %."
    family = str(found.family.iloc[0])
    drops = truth[truth.family == family].groupby("layer", sort=False)["drop"].mean()
    values = table[table.kind == "layer"].pivot_table(index="layer", columns="criterion", values="value", sort=False)
    shown = {name: np.array([values.loc[text.split("+"), name].mean() for text in drops.index]) for name in pairs.index[:4]}
    picture = plot_agreement(shown, drops.to_numpy(), list(drops.index), label=f"drop by {family}, {given.unit}")
    figure = _hover(given, shown, drops, f"measured drop by {family}, {given.unit}")
    return Part("criteria", "Criteria beside what was measured", (said, *refused), table, picture, figure, explorer)


@part("channels", "Channels, removed one at a time")
def channels(given: Given) -> Part:
    """How far the score falls without each channel."""
    _need(given.layers, "There is no layer whose channels could go")
    count = sum(layer.channels for layer in given.layers)
    screened = SCREENED if count > MANY else None
    with _overheard():
        table = ablate_channels(given.model, given.evaluation, given.differentiable, screened=screened, progress=False)
    worst = table.loc[table["drop"].idxmax()]
    said = f"The dearest channel is number {worst.channel} of {worst.layer}, without which the score falls by {worst['drop']:.3g} "
    said += f"{given.unit}. Of {len(table)} measured, {int((table.low <= 0).sum())} can go without a certain loss."
    if screened is not None:
        said += f" There are {count} channels, so that those were measured which promised to matter."
    shown = table.assign(bar=[f"channel {channel}" for channel in table.channel])
    explorer = TableExplorer(shown, ["layer"], "bar", "drop", low="low", high="high", unit=given.unit, name="Channel explorer")
    return Part("channels", "Channels, removed one at a time", (said,), table, explorer=explorer)


@part("budgets", "Budgets, spent by importance")
def budgets(given: Given, measured: Part, foreseen: Part) -> Part:
    """What is left of the score when filters or bits are taken where layers matter least, and when they are taken evenly."""
    truth, guesses = _table_of(measured), _table_of(foreseen)
    refused, parts = [], []
    for use, amounts in (("pruning", SAVED), ("quantisation", BITS)):
        importances = _importances(given, truth, guesses, use)
        if not importances["measured"]:
            refused.append("Nothing can be pruned, because the outputs of the only layer are the answer.")
            continue
        failed: dict[str, list[str]] = {}
        for amount in amounts:
            try:
                parts.append(spend(use, given.model, given.evaluation, given.reported, importances, [amount], seed=given.seed))
            except Exception as error:
                failed.setdefault(cause(error), []).append(f"{amount:g}")
        refused += [f"For {use} the budget of {' or '.join(spent)} cannot be spent. {why}" for why, spent in failed.items()]
    if not parts:
        raise ValueError(" ".join(refused))
    table = pd.concat(parts, ignore_index=True)
    table["spent"] = [
        f"{budget:.0%} saved" if use == "pruning" else f"{budget:g} bits" for use, budget in table[["use", "budget"]].to_numpy()
    ]
    told = "The amount is the share of filters that goes, or the bits that stay. Score {measured:.4g} ({low:.4g} to {high:.4g})."
    table["note"] = [told.format(**row) for row in table[["measured", "low", "high"]].to_dict("records")]
    hardest = table[table.use == table.use.iloc[0]]
    hardest = hardest[hardest.budget == hardest.budget.max()].groupby("source", sort=False).measured.first()
    said = f"The largest budget for {table.use.iloc[0]} leaves a score of {hardest.max():.4g} {unit_of(given.reported)} "
    if hardest.max() == hardest.min():
        said += "however it is spent."
    else:
        best = "evenly" if hardest.idxmax() == "uniform" else f"by {_by(str(hardest.idxmax()))}"
        said += f"if it is spent {best}, and {hardest.min():.4g} in the worst way tried."
    explorer = TableExplorer(table, ["source", "spent"], "layer", "amount", note="note", page=24, name="Budget explorer")
    return Part("budgets", "Budgets, spent by importance", (said, *refused), table, explorer=explorer)


@part("compression", "Compression")
def compression(given: Given, methods: Sequence[str] = OWN, steps: int = STEPS) -> Part:
    """What is left of the network by the methods of the course, at three strengths each, and what that costs."""
    base = Base(given.model, given.training, given.evaluation, given.reported, given.differentiable, unit_of(given.reported))
    tables, refused = [], []
    for name in methods:
        try:
            found = sweep({given.name: base}, [name], steps=steps, seed=given.seed, rounds=5)
        except Exception as error:
            refused.append(f"{method(name).name} does not apply. {cause(error)}")
            continue
        notes = found[0].note.dropna()
        if said := notes[notes != ""].drop_duplicates().tolist():
            refused.append(f"{method(name).name}: {' '.join(said)}")
        if found[0].score.notna().sum() > 1:
            tables.append(found)
    if not tables:
        raise ValueError(" ".join(refused))
    keys = (["method", "strength"], ["method", "strength", "layer"], ["method", "strength", "left"])
    merged = [
        pd.concat(frames, ignore_index=True).drop_duplicates(key).reset_index(drop=True)
        for frames, key in zip(zip(*tables, strict=True), keys, strict=True)
    ]
    table = merged[0][merged[0].score.notna()].reset_index(drop=True)
    explorer = CompressionExplorer(table, *merged[1:])
    explorer.page = {"method": 4, "strength": 3}
    small = table[(table.method != "original") & (table.score >= table.score_low.iloc[0])]
    said = f"None of the smaller networks keeps the score of the original, {table.score.iloc[0]:.4g}, within its interval."
    if len(small):
        best = small.loc[small.bytes.idxmin()]
        share = best.bytes / table.bytes.iloc[0]
        said = f"{best.method} at {best.strength:g} takes {share:.0%} of the bytes with a score of {best.score:.4g} "
        said += f"(the original has {table.score.iloc[0]:.4g})."
    return Part("compression", "Compression", (said, *refused), table, None, interactive_tradeoff(table, "bytes"), explorer)


@contextmanager
def _overheard() -> Iterator[list[str]]:
    """Collects what the sweeps log, for it belongs into the report; what they leave out stands in its check already."""
    heard: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: heard.append(record.getMessage())  # type: ignore[method-assign]
    handler.addFilter(lambda record: not record.getMessage().startswith("Not looked at"))
    logger = logging.getLogger("facelab")
    propagate, logger.propagate = logger.propagate, False
    logger.addHandler(handler)
    try:
        yield heard
    finally:
        logger.removeHandler(handler)
        logger.propagate = propagate


def _by(source: str) -> str:
    return "what was measured" if source == "measured" else source


def _need(there, otherwise: str) -> None:
    if not there:
        raise ValueError(f"{otherwise}; the check says why.")


def _table_of(earlier: Part) -> pd.DataFrame:
    if earlier.table is None:
        raise ValueError(f"It builds on the part {earlier.name!r}, which does not apply.")
    return earlier.table


def _criteria_table(given: Given) -> tuple[pd.DataFrame, list[str]]:
    """All criteria at once, or, where one of them stops that, each alone and a sentence for those that do not apply."""
    options = {"kinds": ("layer",), "samples": sum(len(x) for x, _ in given.training), "seed": given.seed}
    try:
        return criteria_of(given.model, given.training, given.differentiable, names=CRITERIA, **options), []
    except Exception as error:
        first = error
    tables, refused = [], []
    for name in CRITERIA:
        try:
            tables.append(criteria_of(given.model, given.training, given.differentiable, names=[name], **options))
        except Exception as error:
            refused.append(f"The criterion {name} does not apply. {cause(error)}")
    if not tables:
        raise first
    return pd.concat(tables, ignore_index=True), refused


def _importances(given: Given, truth: pd.DataFrame, guesses: pd.DataFrame, use: str) -> dict[str, dict[str, float]]:
    """By the measured drops and by some criteria, for the layers, or sets of tied layers, that were measured in this way.

    The last layer keeps its filters, for they are the answer.
    Importances that bits are given by must not be negative; a layer whose disturbance helped counts as one that costs nothing.
    """
    family = use if use == "pruning" else "noise"
    drops = truth[truth.family == family].groupby("layer", sort=False)["drop"].mean()
    if use == "pruning":
        drops = drops[[given.layers[-1].name not in str(name).split("+") for name in drops.index]]
    values = guesses[guesses.kind == "layer"].pivot_table(index="layer", columns="criterion", values="value", sort=False)
    found = {"measured": {name: max(float(drop), 0.0) for name, drop in drops.items()}}
    for criterion in IMPORTANCES:
        if criterion in values:
            found[criterion] = {name: float(values.loc[str(name).split("+"), criterion].mean()) for name in drops.index}
    return found  # type: ignore[return-value]


def _hover(given: Given, shown: dict[str, np.ndarray], drops: pd.Series, label: str):
    """Each criterion's rank of the layers against the measured rank; the pointer says the layer, its shape and both figures.

    Where several criteria agree, their rings lie around each other.
    """
    shapes = {layer.name: layer.shape_text for layer in given.layers}
    measured = drops.rank(ascending=False)
    figure = new_figure(xaxis_title="rank by the criterion, 1 is the most important", yaxis_title=f"rank by the {label}")
    for place, (name, values) in enumerate(shown.items()):
        ranks = pd.Series(values).rank(ascending=False)
        about = [
            [text, shapes.get(str(text).split("+")[0], ""), drop, value] for (text, drop), value in zip(drops.items(), values, strict=True)
        ]
        ring = {"size": 9 + 6 * place, "symbol": "circle-open", "line": {"width": 2}}
        figure.add_scatter(
            x=ranks, y=measured.to_numpy(), name=name, mode="markers", marker=ring, customdata=about,
            hovertemplate="%{customdata[0]}, %{customdata[1]}<br>measured %{customdata[2]:.3g}, rank %{y}<br>"
            "criterion %{customdata[3]:.3g}, rank %{x}<extra>" + name + "</extra>",
        )  # fmt: skip
    return figure

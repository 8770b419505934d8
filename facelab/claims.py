"""A claim: the method against a baseline on the same data, with an interval and a verdict, kept in the executed notebook.

The interval is a paired bootstrap over training seeds and test samples (`facelab.statistics`), of means of scores or of a statistic of the
whole set, such as mIoU.
"""

import base64
import html
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal

import numpy as np
from jaxtyping import Float

from facelab.statistics import BaselineNearZero, gain_interval, is_of_sums, name_of, readable, value_of

CLAIM_TYPE = "application/vnd.facelab.claim+json"
METRICS_TYPE = "application/vnd.facelab.metrics+json"


class ClaimNotMet(AssertionError):
    """A claim of the notebook does not hold in this run."""


@dataclass(frozen=True)
class Claim:
    """One measured comparison. `gain`, `low`, `high` and `margin` are relative (0.05 is five percent better) or, if `absolute`, in `unit`.

    The first three are NaN where the baseline of a relative gain cannot be told from zero; the difference is shown instead.
    """

    name: str
    statement: str
    ours: float
    baseline: float
    better: str
    unit: str
    gain: float
    low: float
    high: float
    margin: float
    seeds: int
    samples: int
    indicative: bool
    absolute: bool = False
    statistic: str = ""
    """Module and name of the statistic of the set, such as "facelab.metrics.mean_iou"; empty for means."""

    @property
    def met(self) -> bool:
        """Whether the whole interval lies above the margin."""
        return self.low > self.margin

    @property
    def verdict(self) -> Literal["met", "not met", "indicative", "against"]:
        """In a word; an indicative claim gives its figures but is not judged, and one whose whole interval lies below zero is against,
        below its margin if that is negative (not worse by more than so much)."""
        if self.high < min(0.0, self.margin):
            return "against"
        if self.indicative:
            return "indicative"
        return "met" if self.met else "not met"

    @property
    def sentence(self) -> str:
        """What the figures say where they speak against the claim; empty elsewhere."""
        if self.verdict != "against":
            return ""
        low, high = (as_gain(-end, self.unit, self.absolute).lstrip("+") for end in (self.high, self.low))
        of_what = "" if self.absolute else " of its own value"
        return f"These figures speak against the claim: the baseline is better, by {low} to {high}{of_what}."

    @classmethod
    def from_stored(cls, stored: dict[str, Any]) -> "Claim":
        """The claim as an executed notebook holds it; its JSON knows no NaN, so a gain that there is not is null."""
        return cls(**{f.name: math.nan if stored[f.name] is None else stored[f.name] for f in fields(cls) if f.name in stored})

    def stored(self) -> dict[str, Any]:
        """The claim as JSON, which `from_stored` reads."""
        own = asdict(self) | {name: number_or_none(getattr(self, name)) for name in ("gain", "low", "high")}
        return own | {"met": self.met, "verdict": self.verdict}

    def row(self) -> dict[str, str]:
        """The claim as readable text, column by column."""
        unit = "" if not self.unit else self.unit if self.unit == "%" else f" {self.unit}"
        several = f"{self.seeds} seeds x {self.samples} samples"
        measured = several if self.seeds > 1 else f"{self.samples} {'samples' if self.statistic else 'pairs'}"
        if self.statistic:
            measured += f", by {self.statistic.rpartition('.')[2]}"
        gain, low, high = (as_gain(value, self.unit, self.absolute) for value in (self.gain, self.low, self.high))
        interval = f"{low} to {high}"
        if math.isnan(self.gain):
            difference = self.baseline - self.ours if self.better == "lower" else self.ours - self.baseline
            gain, interval = f"none; better by {difference:.4g}{unit}", "none; the baseline cannot be told from zero"
        return {
            "claim": self.statement,
            "ours": f"{self.ours:.4g}{unit}",
            "baseline": f"{self.baseline:.4g}{unit}",
            "gain": gain,
            "95 % interval": interval,
            "must exceed": as_margin(self.margin, self.unit, self.absolute),
            "measured on": measured,
            "verdict": self.verdict,
        }

    def __str__(self) -> str:
        lines = [f"{column:>13}  {text}" for column, text in self.row().items()]
        return "\n".join([*lines, self.sentence] if self.sentence else lines)

    def _repr_html_(self) -> str:
        colours = {"met": "#0072b2", "not met": "#d55e00", "indicative": "#777777", "against": "#d55e00"}
        row = {column: html.escape(text) for column, text in self.row().items()}
        row["verdict"] = f'<b style="color:{colours[self.verdict]}">{row["verdict"]}</b>'
        statement = row.pop("claim")
        heads = "".join(f"<th>{column}</th>" for column in row)
        cells = "".join(f"<td>{text}</td>" for text in row.values())
        caption = f'<caption style="text-align:left;caption-side:top"><b>Claim.</b> {statement}</caption>'
        sentence = f"<p>{self.sentence}</p>" if self.sentence else ""
        return f"<table>{caption}<thead><tr>{heads}</tr></thead><tbody><tr>{cells}</tr></tbody></table>{sentence}"


def claim(
    statement: str,
    *,
    ours,
    baseline,
    better: str,
    name: str,
    margin: float = 0.0,
    unit: str = "",
    indicative: bool = False,
    groups=None,
    statistic: Callable[[np.ndarray], np.ndarray] | None = None,
    gain: str = "relative",
) -> Claim:
    """Compares paired scores, shows the table and stores it in the notebook; never raises because the claim fails.

    For what is no mean of scores: `claim("Ours segments better", ours=confusions(ours, true, 8), baseline=confusions(plain, true, 8),
    better="higher", name="miou", statistic=mean_iou)`, with `confusions` and `mean_iou` of `facelab.metrics`.

    Args:
        statement: the claim in words.
        ours: scores of the method: (samples,), (seeds,) or (seeds, samples); numbers of any array type. With a statistic, what it needs
            of each sample: (samples, items, parts) or (seeds, samples, items, parts).
        baseline: scores of the baseline on the same samples and seeds, same shape. Two pandas tables are paired by their labels.
        better: 'lower' or 'higher': which scores are better.
        name: short name, unique in the notebook; tests and sabotages refer to it.
        margin: gain that the whole interval must exceed: relative, where 0.05 is five percent, or absolute, in the unit of the scores.
        unit: of the scores, or of the statistic, as printed.
        indicative: chance in training may decide the claim; it is shown but not judged, without a gain if the baseline may be zero.
        groups: one label per sample where samples are not independent, such as the person of each photograph. Each group's scores are
            averaged first, so that every group counts once and groups are resampled; else the interval is too short. With a statistic
            of sums the group's parts are added instead: the statistic stays that of all samples.
        statistic: of the resampled set, (..., samples, items, parts) -> (...), such as `facelab.metrics.mean_iou`; averaged over seeds.
            Without it, the mean of the scores. Only statistics of `facelab.metrics` can be settled.
        gain: 'relative' to the baseline, or 'absolute', the difference, for a baseline near zero.

    Raises:
        ValueError: empty, not finite, fewer than two values, shapes or labels that differ, a group without a name, a baseline whose
            mean is not clearly off zero under a relative gain that is judged, or a statistic that has no value for the set.
    """
    if better not in ("lower", "higher"):
        raise ValueError(f"better={better!r} is not known; use 'lower' or 'higher'.")
    if not name or not statement:
        raise ValueError("A claim needs a name and a statement in words.")
    if not math.isfinite(margin):
        raise ValueError(f"margin={margin} is not a number; give a gain such as 0.05.")
    if gain not in ("relative", "absolute"):
        raise ValueError(f"gain={gain!r} is not known; use 'relative' or 'absolute'.")
    if groups is not None and statistic is not None and not is_of_sums(statistic):
        raise ValueError(f"{name_of(statistic)} is no statistic of sums, so its samples cannot be grouped; give one sample of each group.")
    groups = _in_order(groups, ours, "groups", last=True)
    baseline = _in_order(baseline, ours, "baseline")
    ours, baseline = (_scores(values, which, statistic is not None) for values, which in ((ours, "ours"), (baseline, "baseline")))
    if ours.shape != baseline.shape:
        shapes = f"ours has shape {ours.shape} and baseline {baseline.shape}"
        raise ValueError(f"{shapes}; scores are compared pair by pair, so both must be alike.")
    if groups is not None:
        ours, baseline = _by_group(ours, groups, statistic is not None), _by_group(baseline, groups, statistic is not None)
    averages = [float((scores if statistic is None else value_of(statistic, scores)).mean()) for scores in (ours, baseline)]
    absolute = gain == "absolute"
    try:
        measured, low, high = gain_interval(ours, baseline, better=better, absolute=absolute, statistic=statistic)
    except BaselineNearZero:
        if not indicative:
            raise
        measured = low = high = math.nan
    seeds, samples = ours.shape[:2] if ours.ndim % 2 == 0 else (1, len(ours))
    result = Claim(
        name=name,
        statement=statement,
        ours=averages[0],
        baseline=averages[1],
        better=better,
        unit=unit,
        gain=measured,
        low=low,
        high=high,
        margin=float(margin),
        seeds=seeds,
        samples=samples,
        indicative=bool(indicative),
        absolute=absolute,
        statistic="" if statistic is None else f"{statistic.__module__}.{name_of(statistic)}",
    )
    scores = {"ours": _packed(ours), "baseline": _packed(baseline)}
    stored = result.stored() | {"scores": scores}
    _show({"text/plain": str(result), "text/html": result._repr_html_(), CLAIM_TYPE: stored})
    return result


def record(**metrics: float) -> None:
    """Shows named figures of the run and stores them in the notebook, to be compared with the recorded ones by the tests.

    Raises:
        ValueError: no metric, or one that is not a finite number.
    """
    if not metrics:
        raise ValueError("There is nothing to record: give at least one metric=value.")
    values = {name: float(value) for name, value in metrics.items()}
    for name, value in values.items():
        if not math.isfinite(value):
            raise ValueError(f"The metric {name} is {value}; only finite numbers are recorded.")
    text = "\n".join(f"{name} = {value:.6g}" for name, value in values.items())
    _show({"text/plain": text, METRICS_TYPE: values})


def require(*claims: Claim) -> None:
    """Fails if a claim is not met; indicative claims pass. The last cell of a notebook.

    Raises:
        ClaimNotMet: with every claim that does not hold.
        ValueError: no claim given.
    """
    if not claims:
        raise ValueError("There is nothing to require: give the notebook's claims.")
    failed = [c for c in claims if not (c.met or c.indicative)]
    if failed:
        lines = []
        for c in failed:
            measured, low, high = (as_gain(value, c.unit, c.absolute) for value in (c.gain, c.low, c.high))
            lines.append(f"{c.name}: gain {measured}, interval {low} to {high}, must exceed {as_margin(c.margin, c.unit, c.absolute)}")
        raise ClaimNotMet(f"{len(failed)} of {len(claims)} claims not met. " + "; ".join(lines))
    judged = sum(not c.indicative for c in claims)
    undecided = len(claims) - judged
    print(f"{judged} of {len(claims)} claims judged and met" + (f", {undecided} shown." if undecided else "."))


def _packed(scores: Float[np.ndarray, "..."]) -> dict[str, Any]:
    """An array as JSON: its shape, and its numbers in single precision, little-endian, in base 64."""
    return {"shape": list(scores.shape), "float32": base64.b64encode(scores.astype("<f4").tobytes()).decode("ascii")}


def unpacked(stored: dict[str, Any]) -> Float[np.ndarray, "..."]:
    """The scores of one side of a stored claim, `claim["scores"]["ours"]` or `["baseline"]`, as a float64 array."""
    return np.frombuffer(base64.b64decode(stored["float32"]), dtype="<f4").reshape(stored["shape"]).astype(np.float64)


def as_gain(gain: float | None, unit: str = "", absolute: bool = False) -> str:
    """A gain as text, in percent of the baseline or in the unit of the scores; "none" where there is none."""
    known = number_or_none(gain)
    if known is None:
        return "none"
    return f"{known:+.3g}{_unit_of_difference(unit)}" if absolute else f"{known:+.1%}"


def as_margin(margin: float, unit: str = "", absolute: bool = False) -> str:
    """The margin of a gain as text."""
    return f"{margin:.3g}{_unit_of_difference(unit)}" if absolute else f"{margin:.0%}"


def _unit_of_difference(unit: str) -> str:
    # "+2 %" of something measured in percent would read as relative.
    return " points" if unit == "%" else f" {unit}" if unit else ""


def number_or_none(value: float | None) -> float | None:
    """`value`, or None where it is NaN, which JSON does not know."""
    return None if value is None or math.isnan(value) else value


def _in_order(values: Any, like: Any, which: str, last: bool = False) -> Any:
    """A pandas table in the order of the labels of `like`, or of its last axis alone; whatever has no labels is paired by position."""
    if not (hasattr(values, "iloc") and hasattr(like, "iloc")):
        return values
    wanted = like.axes[-1:] if last else like.axes
    if [len(labels) for labels in values.axes] != [len(labels) for labels in wanted]:
        return values  # refused later, for its shape
    for axis, labels in enumerate(wanted):
        own = values.axes[axis]
        if own.equals(labels):
            continue
        if not (own.is_unique and labels.is_unique and own.isin(labels).all()):
            example = next((label for label in own if label not in labels), None)
            why = "one label stands for several of them" if example is None else f"{example!r} is in {which} only"
            raise ValueError(f"ours and {which} label their samples differently ({why}); label both alike, or give to_numpy() of both.")
        values = values.reindex(labels, axis=axis)
    return values


def _scores(values: Any, which: str, of_sets: bool) -> Float[np.ndarray, "..."]:
    """`values` as a float64 array: one or two axes, and two more (items, parts) for a statistic of sets."""
    values = readable(values)
    try:
        if np.asarray(values).dtype.kind in "cmM":
            raise TypeError(f"these are {np.asarray(values).dtype}")
        scores = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{which} must be an array of numbers; {error}.") from error
    if of_sets and scores.ndim not in (3, 4):
        wanted = "(samples, items, parts) or (seeds, samples, items, parts), as facelab.metrics.confusions makes it"
        raise ValueError(f"{which} has shape {scores.shape}; a statistic needs {wanted}.")
    if not of_sets and scores.ndim not in (1, 2):
        raise ValueError(f"{which} has {scores.ndim} axes; give (samples,), (seeds,) or (seeds, samples), or a statistic of sets.")
    if scores.size == 0:
        raise ValueError(f"{which} is empty (shape {scores.shape}); a claim needs at least two scores.")
    if of_sets and scores.shape[-3] < 2:
        raise ValueError(f"{which} has a single sample; the interval of a statistic needs at least two.")
    if scores.size < 2:
        raise ValueError(f"{which} has a single score; an interval needs at least two samples or seeds.")
    if not np.isfinite(scores).all():
        count = np.count_nonzero(~np.isfinite(scores))
        raise ValueError(f"{which} holds {count} values that are not finite; look for the cause before claiming.")
    return scores


def _by_group(scores: Float[np.ndarray, "*shape"], groups: Any, of_sets: bool) -> Float[np.ndarray, "..."]:
    """Mean over the samples (the last axis) of each group, or the sum of their parts (the last two axes)."""
    from pandas import factorize

    given = np.asarray(readable(groups), dtype=object)  # as they are: numpy would write a missing one among words as "nan"
    group, labels = factorize(given.ravel(), sort=True)
    samples = scores.shape[-3 if of_sets else -1]
    if given.shape != (samples,) or len(labels) < 2:
        message = f"groups has shape {given.shape} and {len(labels)} labels for {samples} samples"
        raise ValueError(f"{message}; give one label per sample, and at least two different ones.")
    unnamed = np.count_nonzero(np.isin(group, [-1, *(i for i, label in enumerate(labels) if str(label).strip() == "")]))
    if unnamed:
        raise ValueError(f"{unnamed} of {len(given)} samples have no group; leave them out, or give each of them a label of its own.")
    member = (group == np.arange(len(labels))[:, None]).astype(np.float64)
    if of_sets:
        return np.einsum("gs,...sip->...gip", member, scores)
    return scores @ (member / member.sum(axis=1, keepdims=True)).T


def _show(bundle: dict[str, Any]) -> None:
    """Displays a MIME bundle in a notebook, its text anywhere else."""
    from IPython.core.getipython import get_ipython

    if get_ipython() is None:
        print(bundle["text/plain"])
        return
    from IPython.display import display

    display(bundle, raw=True)

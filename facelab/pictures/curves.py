"""Curves, bars and intervals: training histories, error distributions, comparisons, masking tables."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from facelab.pictures.style import BLACK, PALETTE, Picture, as_array, new_picture, styled
from facelab.statistics import bootstrap_interval


@styled
def plot_history(
    histories: Any,
    columns: Mapping[str, str] | Sequence[str] | None = None,
    *,
    x: str = "step",
    logarithmic: bool = False,
    colors: Mapping[str, str] | None = None,
    logarithmic_x: bool = False,
    width: float = 9.0,
) -> Picture:
    """Training curves: one panel per quantity, one line per run.

    Args:
        histories: a `training.History` or a data frame with column `x` and one column per quantity (NaN where not measured), or
            {name of the run: one of these}.
        columns: quantities to show, or {column: label with unit}; all but learning rate and seconds by default.
        logarithmic: logarithmic vertical axes.
        colors: of the runs that shall not get theirs by their place.
        logarithmic_x: logarithmic horizontal axes.
        width: inches.

    Raises:
        ValueError: a column is in none of the frames.
    """
    runs = dict(histories) if isinstance(histories, Mapping) else {"": histories}
    runs = {run: history.frame() if callable(getattr(history, "frame", None)) else history for run, history in runs.items()}
    known = [name for name in dict.fromkeys(c for frame in runs.values() for c in frame.columns) if name != x]
    columns = [name for name in known if name not in ("learning_rate", "seconds")] if columns is None else columns
    labels = dict(columns) if isinstance(columns, Mapping) else {name: name.replace("_", " ") for name in columns}
    for name in labels:
        if name not in known:
            raise ValueError(f"No history has a column {name!r}; there are {known}.")
    picture, grid = new_picture(width, 2.7, 1, len(labels))
    for axes, (column, label) in zip(grid.flat, labels.items(), strict=True):
        for index, (run, frame) in enumerate(runs.items()):
            if column in frame.columns:
                kept = frame[[x, column]].dropna() if x in frame.columns else frame[[column]].dropna().rename_axis(x).reset_index()
                dots = "o" if len(kept) <= 12 else None
                color = (colors or {}).get(run, PALETTE[index % len(PALETTE)])
                axes.plot(kept[x], kept[column], color=color, label=run, marker=dots, markersize=3)
        axes.set(xlabel=x, ylabel=label)
        axes.grid(axis="y")
        if logarithmic:
            axes.set_yscale("log")
        if logarithmic_x:
            axes.set_xscale("log")
            values = sorted({float(value) for frame in runs.values() if x in frame.columns for value in frame[x]})
            if len(values) <= 8:
                axes.set_xticks(values, [f"{value:g}" for value in values])
                axes.minorticks_off()
    if len(runs) > 1:
        grid.flat[-1].legend()
    return picture


@styled
def plot_cumulative_error(errors: Mapping[str, Any], limit: float = 15.0, *, width: float = 6.5) -> Picture:
    """Cumulative error distribution: the share of faces whose error is at most so much. Further left is better.

    Args:
        errors: name -> errors per face, percent of the distance between the outer eye corners.
        limit: largest error shown, percent.
        width: inches.
    """
    picture, grid = new_picture(width, 3.2)
    axes = grid[0, 0]
    for index, (name, values) in enumerate(errors.items()):
        values = as_array(values).astype(float).ravel()
        ordered = np.sort(values[np.isfinite(values)])  # a face without a prediction is never reached
        share = np.arange(len(ordered) + 1) / len(values)
        style = ("-", "--", "-.", ":")[index % 4]
        axes.step(np.r_[0, ordered, max([limit, *ordered[-1:]])], np.r_[share, share[-1]] * 100, where="post", linestyle=style,
                  color=PALETTE[index % len(PALETTE)], label=f"{name} (mean {values.mean():.2f} %)")  # fmt: skip
    axes.set(xlim=(0, limit), ylim=(0, 101), xlabel="error, % of the distance between the outer eye corners", ylabel="faces, %")
    axes.grid()
    axes.legend(loc="lower right")
    return picture


@styled
def plot_bars(
    scores: Mapping[str, Any],
    label: str = "error, %",
    *,
    highlight: str = "",
    colors: Mapping[str, str] | None = None,
    width: float = 6.5,
) -> Picture:
    """One bar per method: the mean of its scores, with its 95 % bootstrap interval where there are several.

    Args:
        scores: name -> one score, scores per face or seed, or (seeds, faces): then the interval is over faces, of the seeds' mean.
        label: what is measured, with its unit.
        highlight: the name drawn in orange.
        colors: of the names that shall not be blue.
        width: inches.
    """
    picture, grid = new_picture(width, 0.36 * len(scores) + 0.75)
    axes = grid[0, 0]
    names = list(scores)
    arrays = [np.atleast_1d(as_array(scores[name]).astype(float)) for name in names]
    # The seeds' scores of one face are no independent faces: all resampled alike, the interval would be too short.
    values = [array.mean(axis=0) if array.ndim == 2 and array.shape[1] > 1 else array.ravel() for array in arrays]
    means = np.array([v.mean() for v in values])
    intervals = np.array([bootstrap_interval(v) if v.size > 1 else (v.mean(), v.mean()) for v in values])
    filled = [(colors or {}).get(name, PALETTE[1] if name == highlight else PALETTE[0]) for name in names]
    axes.barh(range(len(names)), means, color=filled, height=0.62)
    axes.hlines(range(len(names)), intervals[:, 0], intervals[:, 1], color=BLACK, linewidth=2.2)
    reach = max(float(intervals.max()), float(means.max()), 1e-12)
    for row, (mean, high) in enumerate(zip(means, intervals[:, 1], strict=True)):
        axes.text(max(mean, high, 0) + 0.015 * reach, row, f"{mean:.3g}", va="center", fontsize=8)
    axes.set_yticks(range(len(names)), names)
    axes.invert_yaxis()
    axes.set_xlim(min(0.0, float(intervals.min())), reach * 1.12)
    axes.set_xlabel(label + ("; black: 95 % interval of the mean" if any(v.size > 1 for v in values) else ""))
    return picture


@styled
def plot_point(
    x: Float[np.ndarray, " N"],
    curves: Mapping[str, Float[np.ndarray, " N"]],
    index: int,
    *,
    label: str,
    value_label: str,
    logarithmic: bool,
) -> Picture:
    """Curves over one parameter, each marked and read at one of its values; fast enough to follow a slider.

    Args:
        x: values of the parameter, increasing.
        curves: name -> its value at each; NaN where none is known.
        index: which value is marked.
        label, value_label: of the two axes, with their units.
        logarithmic: a logarithmic horizontal axis.
    """
    picture = Picture(figsize=(8.4, 3.4))
    axes = picture.add_axes((0.085, 0.145, 0.655, 0.81))  # fixed places: laying out anew would take half of the time
    if logarithmic:
        axes.set_xscale("log")
        axes.minorticks_off()  # they, and exponents in mathematical type, take as long as all the rest
        axes.xaxis.set_major_formatter("{x:g}")
    axes.axvline(x[index], color="#e8d9b4", linewidth=6, zorder=0)
    row = 0.93 / max(len(curves), 8)
    for place, (name, values) in enumerate(curves.items()):
        color, style = PALETTE[place % len(PALETTE)], ("-", "--", "-.", ":")[place // len(PALETTE) % 4]
        axes.plot(x, values, style, color=color)
        axes.plot(x[index], values[index], "o", color=color, markeredgecolor="white", markersize=7, zorder=4)
        picture.text(0.755, 0.955 - row * place, f"● {values[index]:.3g}  {name}", color=color, va="top", fontsize=9)
    axes.set(xlabel=label, ylabel=value_label)
    axes.margins(x=0.01)
    axes.grid(axis="y")
    return picture

"""Label smoothing under imbalance: where the decision falls, F1 by rate and by threshold, reliability, and two classes on a line."""

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float
from matplotlib.ticker import MaxNLocator

from facelab.pictures.style import BLACK, BLUE, GRAY, GREEN, ORANGE, PINK, RED, SKY, Picture, new_picture, styled

COLORS = {"none": GRAY, "plain": BLUE, "Robin Hood": ORANGE, "inverse": RED, "weighted": GREEN, "focal": PINK}
MARKERS = {"none": "X", "plain": "s", "Robin Hood": "o", "inverse": "v", "weighted": "^", "focal": "D"}
"""Of each rival, everywhere."""


@styled
def plot_fork(
    alpha: Float[np.ndarray, " A"], thresholds: Mapping[str, Float[np.ndarray, " A"]], missed: float, *, width: float = 6.5
) -> Picture:
    """Where the decision falls against the strength of smoothing, a line for each rule.

    Args:
        alpha: strengths.
        thresholds: rule -> the annotated probability above which the answer exceeds one half.
        missed: share of the positives that are annotated as negatives; the dotted line is the best threshold for the truth.
        width: inches.
    """
    picture, grid = new_picture(width, 3.0)
    axes = grid[0, 0]
    for rule, values in thresholds.items():
        axes.plot(alpha, values, color=COLORS[rule], label=rule, marker=MARKERS[rule], markevery=len(alpha) // 6, ms=5)
    axes.axhline((1 - missed) / 2, color=BLACK, ls=":", lw=1.2, label=f"true one half, {missed:.0%} missed")
    axes.set(xlabel="strength of smoothing α", ylabel="decision on the annotated\nprobability q", ylim=(0, 1), xlim=(alpha[0], alpha[-1]))
    axes.grid()
    axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1.0))
    return picture


@styled
def plot_rates(units: Sequence[int], true: Float[np.ndarray, " T"], annotated: Float[np.ndarray, " T"], *, width: float = 7.5) -> Picture:
    """How often each action unit is shown and how often the annotator says so, in percent of the faces."""
    picture, grid = new_picture(width, 2.6)
    axes, places = grid[0, 0], np.arange(len(units))
    axes.bar(places - 0.2, 100 * true, 0.38, color=SKY, label="shown")
    axes.bar(places + 0.2, 100 * annotated, 0.38, color=GRAY, label="annotated")
    axes.axhline(50, color=BLACK, lw=0.9, ls="--", label="one half")
    axes.set_xticks(places, [f"AU {unit}" for unit in units])
    axes.set(ylabel="faces, %", ylim=(0, 70))
    axes.legend(loc="upper left")
    return picture


@styled
def plot_by_rate(rates: Float[np.ndarray, " T"], scores: Mapping[str, Float[np.ndarray, " T"]], *, width: float = 7.5) -> Picture:
    """F1 of each action unit against its rate, a line for each rival; all in percent."""
    picture, grid = new_picture(width, 3.2)
    axes = grid[0, 0]
    for name, values in scores.items():
        axes.plot(rates, values, color=COLORS[name], marker=MARKERS[name], ms=6, lw=1.1, label=name)
    axes.set_xscale("log")
    axes.set_xticks(rates, [f"{rate:.0f}" for rate in rates])
    axes.minorticks_off()
    axes.set(xlabel="rate of the action unit, % of the faces", ylabel="F1 at one half, %", ylim=(-3, 103))
    axes.grid(axis="y")
    axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1.0))
    return picture


@styled
def plot_two_thresholds(half: Mapping[str, float], tuned: Mapping[str, float], cut: Mapping[str, float], *, width: float = 7.5) -> Picture:
    """Two marks for each rival, its mean F1 at one half and at thresholds tuned on other faces, and the way between them.

    Args:
        half: rival -> mean F1, percent, at one half.
        tuned: of the same rivals, at tuned thresholds.
        cut: of those that are also cut at the closed form's threshold q; a black mark.
        width: inches.
    """
    picture, grid = new_picture(width, 0.36 * len(half) + 0.9)
    axes = grid[0, 0]
    for row, name in enumerate(half):
        axes.plot([half[name], tuned[name]], [row, row], color=COLORS[name], lw=2.5, alpha=0.5, zorder=1)
        axes.plot(half[name], row, MARKERS[name], color=COLORS[name], ms=9, label="at one half" if row == 0 else None)
        axes.plot(
            tuned[name],
            row,
            MARKERS[name],
            color=COLORS[name],
            mfc="white",
            mew=1.6,
            ms=9,
            label="at tuned thresholds" if row == 0 else None,
        )
        for value, other in ((half[name], tuned[name]), (tuned[name], half[name])):
            side = -1 if value < other else 1
            axes.text(value + 1.2 * side, row, f"{value:.1f}", ha="right" if side < 0 else "left", va="center", fontsize=7.5)
    for number, (name, value) in enumerate(cut.items()):
        row = list(half).index(name)
        axes.plot(value, row, MARKERS[name], color=BLACK, ms=8, label="cut at the closed-form q" if number == 0 else None)
        axes.text(value, row + 0.42, f"{value:.1f}", ha="center", va="center", fontsize=7.5)
    axes.set_yticks(range(len(half)), list(half))
    axes.set(xlabel="mean F1 of the action units, %", ylim=(len(half) - 0.5, -0.6))
    axes.margins(x=0.1)
    axes.grid(axis="x")
    axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1.0), title="filled and open")
    return picture


@styled
def plot_reliability(
    curves: Mapping[str, tuple[Float[np.ndarray, " bins"], Float[np.ndarray, " bins"]]],
    expected: Mapping[str, tuple[Float[np.ndarray, " N"], Float[np.ndarray, " N"]]],
    *,
    width: float = 5.8,
) -> Picture:
    """How often the label is 1 where the network answers so much: dots as measured, lines as the closed form has them.

    Args:
        curves: rival -> mean answer and share of labels 1 in each bin, both 0..1.
        expected: rival -> answer and the probability of a label 1 that a perfect network would have there.
        width: inches.
    """
    picture, grid = new_picture(width, 3.6)
    axes = grid[0, 0]
    for name, (answer, probability) in expected.items():
        axes.plot(answer, probability, color=COLORS[name], lw=1.1)
    for name, (answer, share) in curves.items():
        axes.plot(answer, share, MARKERS[name], color=COLORS[name], ms=6, label=name)
    axes.axvline(0.5, color=BLACK, lw=0.9, ls="--")
    axes.set(xlabel="what the network answers", ylabel="share annotated 1", xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
    axes.grid()
    axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1.0), title="dots: measured\nlines: closed form")
    return picture


@styled
def show_two_classes(
    x: Float[np.ndarray, " N"],
    densities: tuple[Float[np.ndarray, " N"], Float[np.ndarray, " N"], Float[np.ndarray, " N"]],
    curves: Mapping[str, Float[np.ndarray, " N"]],
    decision: float,
    strengths: Float[np.ndarray, " A"],
    scores: Mapping[str, Float[np.ndarray, " A"]],
    chosen: tuple[str, float, float],
    best: float,
) -> Picture:
    """Two classes on a line: their densities, what a perfect network answers, and F1 against the strength of smoothing.

    Args:
        x: places.
        densities: of the negatives, of the positives annotated 1, and of those missed, each with its share.
        curves: "true", "annotated" and "answer", the probability of each at each place.
        decision: where the answer crosses one half; outside of `x`, or infinite, if it does nowhere.
        strengths: of smoothing.
        scores: rule -> F1 (0..1) of the decision for each of them.
        chosen: rule, strength and F1 that are shown.
        best: the F1 of the best possible threshold.
    """
    picture = Picture(figsize=(9.6, 3.6))  # axes at fixed places, which is quicker to redraw
    line, score = picture.add_axes((0.06, 0.14, 0.5, 0.77)), picture.add_axes((0.64, 0.14, 0.34, 0.77))
    negative, seen, missed = densities
    line.fill_between(x, negative, color=GRAY, alpha=0.5, lw=0, label="negatives")
    line.fill_between(x, seen, color=SKY, lw=0, label="positives, annotated")
    line.fill_between(x, seen, seen + missed, color=PINK, lw=0, label="positives, missed")
    styles = {"true": (BLACK, "--"), "annotated": (BLACK, ":"), "answer": (COLORS[chosen[0]], "-")}
    for name, values in curves.items():
        color, dashes = styles[name]
        line.plot(x, values, dashes, color=color, label=f"{name} probability", lw=2.4 if name == "answer" else 1.3)
    line.plot(x[[0, -1]], [0.5, 0.5], color=BLACK, lw=0.7)
    if x[0] <= decision <= x[-1]:
        line.plot([decision, decision], [0, 1], color=BLACK, lw=1.1)
    line.set(xlabel="evidence x", ylabel="probability (lines), density (areas)", ylim=(0, 1.36), xlim=(x[0], x[-1]))
    line.set_title("two classes, and what a perfect network answers")
    line.set_yticks(np.linspace(0, 1, 5))
    line.xaxis.set_major_locator(MaxNLocator(5))
    line.legend(loc="upper left", ncols=2, handlelength=1.6)
    for rule, values in scores.items():
        score.plot(strengths, values, color=COLORS[rule], label=rule)
    score.axhline(best, color=BLACK, lw=0.9, ls="--", label="best threshold")
    score.plot(chosen[1], chosen[2], "o", color=COLORS[chosen[0]], mec=BLACK, ms=9)
    score.set(
        xlabel="strength of smoothing α", ylabel="F1", ylim=(0, 1.32), xlim=(0, strengths[-1]), title="F1 of the decision at one half"
    )
    score.set_yticks(np.linspace(0, 1, 5))
    score.xaxis.set_major_locator(MaxNLocator(4))
    score.legend(loc="upper left", ncols=2, handlelength=1.4, columnspacing=1.0)
    return picture

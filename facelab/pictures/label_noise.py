"""What wrong labels do to a network: accuracy against what was memorised, and the regions around wrong points of a plane."""

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Bool, Float, Int
from matplotlib.colors import LinearSegmentedColormap

from facelab.pictures.style import BLACK, BLUE, GRAY, ORANGE, PALETTE, Picture, new_picture, styled
from facelab.pictures.sweeps import MARKERS

REGIONS = LinearSegmentedColormap.from_list("regions", [BLUE, "#ffffff", ORANGE])


@styled
def plot_walks(
    agreeing: Float[np.ndarray, "N T"], contradicting: Float[np.ndarray, "M T"], *, threshold: float = 0.5, width: float = 6.0
) -> Picture:
    """Master weights over steps, pushed by samples that agree and by samples that contradict each other; between the lines they round to 0.

    Args:
        agreeing, contradicting: master weights, one run a row.
        threshold: magnitude above which the rounded weight leaves zero.
        width: inches.
    """
    picture, grid = new_picture(width, 3.0)
    axes = grid[0, 0]
    for runs, color, thickness, label in (
        (contradicting, ORANGE, 0.9, "they contradict"),
        (agreeing, BLUE, 2.4, "they agree"),
    ):
        lines = axes.plot(np.arange(1, runs.shape[1] + 1), runs.T, color=color, linewidth=thickness)
        lines[0].set_label(label)
    for end in (-threshold, threshold):
        axes.axhline(end, color=BLACK, linewidth=1.2, linestyle="--", label="step of the staircase" if end > 0 else None)
    axes.set(xlabel="step", ylabel="master weight")
    axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5))
    return picture


@styled
def plot_memory(paths: Mapping[str, tuple[Sequence[float], Sequence[float]]], *, width: float = 7.5) -> Picture:
    """Each network's way through training, from few wrong labels learnt to many; a marker where it ends.

    Args:
        paths: name -> wrong labels learnt, percent, and accuracy on the test at the same moments, percent.
        width: inches.
    """
    picture, grid = new_picture(width, 3.6)
    axes = grid[0, 0]
    for place, (name, (learnt, accuracy)) in enumerate(paths.items()):
        color, marker = PALETTE[place % len(PALETTE)], MARKERS[place % len(MARKERS)]
        axes.plot(learnt, accuracy, color=color, linewidth=1.2, alpha=0.75)
        axes.plot(
            learnt[-1], accuracy[-1], marker, color=color, markersize=12, markeredgecolor="white", label=name, linestyle="none", zorder=3
        )
    axes.set(xlabel="wrong labels learnt, %", ylabel="accuracy on new digits, %", xlim=(-2, 103))
    axes.grid()
    axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), title="where each ends")
    return picture


@styled
def show_regions(
    regions: Float[np.ndarray, "H W"],
    extent: tuple[float, float, float, float],
    points: Float[np.ndarray, "N 2"],
    given: Int[np.ndarray, " N"],
    wrong: Bool[np.ndarray, " N"],
    *,
    steps: Sequence[int],
    learnt: Mapping[str, Sequence[float]],
    right: Sequence[float],
    name: str,
    index: int,
) -> Picture:
    """A plane coloured by the answer of a network, with the points it was trained on; beside it the labels learnt over time.

    Args:
        regions: probability of class 1, rows from below.
        extent: left, right, bottom and top of the plane.
        points, given, wrong: of training, with their labels, 0 or 1, and whether these are wrong.
        steps: at which networks were looked at.
        learnt: name -> wrong labels learnt at each, percent.
        right: right labels learnt at each by the one that is shown, percent.
        name, index: which of them is shown, and at which moment.
    """
    picture = Picture(figsize=(9.6, 4.0))  # axes at fixed places, which is quicker to redraw
    plane, over = picture.add_axes((0.02, 0.03, 0.55, 0.88)), picture.add_axes((0.65, 0.14, 0.33, 0.77))
    plane.imshow(regions, origin="lower", extent=extent, cmap=REGIONS, vmin=-0.25, vmax=1.25, aspect="auto", interpolation="bilinear")
    colors = np.array([BLUE, ORANGE])
    plane.scatter(*points[~wrong].T, c=colors[given[~wrong]], s=22, edgecolors="white", linewidths=0.7)
    plane.scatter(*points[wrong].T, c=colors[given[wrong]], s=75, edgecolors=BLACK, linewidths=1.8)
    plane.set(xticks=[], yticks=[], xlim=extent[:2], ylim=extent[2:])
    plane.set_title(f"{name}: colour of a point = its label, black ring = wrong label")
    for place, (other, values) in enumerate(learnt.items()):
        chosen = other == name
        over.plot(steps, values, color=PALETTE[place % len(PALETTE)], linewidth=2.4 if chosen else 1.1, alpha=1.0 if chosen else 0.7,
                  marker=MARKERS[place % len(MARKERS)], markersize=5, label=other)  # fmt: skip
    over.plot(steps, right, color=BLACK, linewidth=1.4, linestyle="--", label="right labels")
    over.axvline(steps[index], color=GRAY, linewidth=0.9, linestyle=":")
    over.set(xlabel="step", ylabel="labels learnt, %", ylim=(-4, 135), yticks=range(0, 101, 20))
    over.legend(loc="upper left", ncols=2, title="wrong labels")
    return picture

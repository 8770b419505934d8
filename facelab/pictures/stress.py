"""Features under stress: vectors as patterns, what is kept under each stress, dictionaries over values, where bits are best spent."""

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float

from facelab.pictures.style import AMOUNT, BLACK, BLUE, GRAY, GREEN, ORANGE, PINK, RED, Picture, bare, new_picture, styled

COLORS = {"deep": BLUE, "untrained": GRAY, "HOG": ORANGE, "words": GREEN, "pixels": PINK}
MARKERS = {"deep": "o", "untrained": "X", "HOG": "s", "words": "^", "pixels": "D"}
"""Of each kind of vector, everywhere."""


@styled
def show_vectors(images: Float[np.ndarray, "B H W"], vectors: Mapping[str, Float[np.ndarray, "B m"]], *, width: float = 9.6) -> Picture:
    """Some images, and beside each its vectors, each folded into a rectangle and bright where a value is large.

    Args:
        images: gray, 0 to 1.
        vectors: kind -> the vectors of these images.
        width: inches.
    """
    picture, grid = new_picture(width, 1.05 * len(images) + 0.3, len(images), 1 + len(vectors), width_ratios=[1, *[2.2] * len(vectors)])
    for row, image in enumerate(images):
        bare(grid[row, 0]).imshow(image, cmap="gray", vmin=0, vmax=1)
        for column, (name, own) in enumerate(vectors.items(), start=1):
            bare(grid[row, column]).imshow(_folded(own[row]), cmap=AMOUNT, vmin=0, vmax=float(own.max()), aspect="auto")
            if row == 0:
                grid[0, column].set_title(f"{name}, {np.mean(own == 0):.0%} zeros")
    return picture


@styled
def plot_kept(
    panels: Mapping[str, Mapping[str, Mapping[int, Float[np.ndarray, " r"]]]], label: str, *, score: str = "kept, %", width: float = 9.6
) -> Picture:
    """A panel for each stress: what each kind of vector keeps of its own score, over the strength of the stress.

    Args:
        panels: title -> kind -> strength -> what is kept in each repetition; a line through the means, a band between the extremes.
        label: of the strength.
        score: of the vertical axis, with its unit.
        width: inches.
    """
    picture, grid = new_picture(width, 3.4, 1, len(panels), sharey=True)
    for axes, (title, kinds) in zip(grid[0], panels.items(), strict=True):
        for name, own in kinds.items():
            strengths, values = list(own), [np.atleast_1d(found) for found in own.values()]
            axes.plot(strengths, [found.mean() for found in values], marker=MARKERS[name], ms=5, color=COLORS[name], label=name)
            ends = [found.min() for found in values], [found.max() for found in values]
            axes.fill_between(strengths, *ends, color=COLORS[name], alpha=0.18, lw=0)
        axes.axhline(100, color=BLACK, lw=0.8, ls="--")
        axes.set(xlabel=label, xscale="log", title=title, ylim=(0, 112))
        axes.set_xticks(strengths, [str(strength) for strength in strengths])
        axes.minorticks_off()
        axes.grid()
    grid[0, 0].set_ylabel(score)
    grid[0, -1].legend(loc="lower right")
    return picture


@styled
def plot_dictionary(
    values: Mapping[str, Float[np.ndarray, "n m"]], levels: Mapping[str, Float[np.ndarray, " levels"]], *, width: float = 9.6
) -> Picture:
    """The histogram of all values of each kind, and where the levels of its one dictionary lie.

    Args:
        values: kind -> vectors.
        levels: kind -> levels.
        width: inches.
    """
    picture, grid = new_picture(width, 2.9, 1, len(values))
    for axes, (name, own) in zip(grid[0], values.items(), strict=True):
        axes.hist(own.ravel(), bins=60, color=COLORS[name], alpha=0.8)
        edge = (levels[name][1:] + levels[name][:-1]) / 2
        for number, level in enumerate(levels[name]):
            axes.axvline(level, color=BLACK, lw=1.2, label="levels" if number == 0 else None)
        for number, place in enumerate(edge):
            axes.axvline(place, color=RED, lw=1.0, ls="--", label="edge of bins" if number == 0 else None)
        above = float((own > edge[-1]).mean())
        axes.set(xlabel="value", yscale="log", title=f"{name}: {above:.2%} in the highest bin")
    grid[0, 0].set_ylabel("number of values")
    grid[0, -1].legend(loc="upper right")
    return picture


@styled
def plot_rates(
    points: Mapping[str, Sequence[tuple[float, float]]],
    whole: Mapping[str, tuple[float, float]],
    *,
    mark: float | None = None,
    width: float = 7.6,
) -> Picture:
    """The score of each kind over the bits of a vector: what was measured as points, the best within so many bits as steps.

    Args:
        points: kind -> pairs of bits and score in percent, under stress.
        whole: kind -> bits and score before any stress.
        mark: bits that are marked.
        width: inches.
    """
    picture, grid = new_picture(width, 4.0)
    axes = grid[0, 0]
    for name, pairs in points.items():
        bits, scores = np.array(sorted([*pairs, whole[name]])).T
        axes.plot(bits, scores, MARKERS[name], ms=3.5, color=COLORS[name], alpha=0.45)
        axes.plot(
            bits, np.maximum.accumulate(scores), drawstyle="steps-post", color=COLORS[name], label=f"{name}, {whole[name][1]:.0f} % whole"
        )
        axes.plot(*whole[name], MARKERS[name], ms=8, color=COLORS[name], mec=BLACK)
    if mark:
        axes.axvline(mark, color=BLACK, lw=0.9, ls="--", label=f"{mark:g} bits")
    axes.set(xlabel="bits of a vector (large marks: before any stress)", ylabel="strangers recognised, %", xscale="log", ylim=(0, None))
    axes.grid()
    axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0))
    return picture


@styled
def draw_stress(
    before: Float[np.ndarray, " m"],
    after: Float[np.ndarray, " k"],
    kept: Float[np.ndarray, "K L"],
    place: tuple[int, int],
    dimensions: Sequence[int],
    levels: Sequence[int],
    *,
    title: str,
) -> Picture:
    """One vector before and after, and what is kept for all pairs of dimensions and levels, with one pair marked.

    Args:
        before, after: the vector.
        kept: percent, by dimensions and levels.
        place: of the marked pair.
        dimensions, levels: of the axes of `kept`.
        title: over the vector.
    """
    picture = Picture(figsize=(9.6, 4.0))
    top, bottom = picture.add_axes((0.03, 0.54, 0.34, 0.36)), picture.add_axes((0.03, 0.06, 0.34, 0.36))
    bare(top, title).imshow(_folded(before), cmap=AMOUNT, aspect="auto")
    bare(bottom, f"{len(after)} numbers of at most {levels[place[1]]} levels").imshow(_folded(after), cmap=AMOUNT, aspect="auto")
    axes = picture.add_axes((0.47, 0.14, 0.5, 0.76))
    axes.imshow(kept.T, cmap=AMOUNT, origin="lower", vmin=0, vmax=100, aspect="auto")
    cost = np.multiply.outer(dimensions, [int(number - 1).bit_length() for number in levels])
    for (row, column), value in np.ndenumerate(kept):
        words = f"{value:.0f} %\n{cost[row, column]} bits"
        axes.text(row, column, words, ha="center", va="center", color=BLACK if value > 55 else "white", fontsize=8)
    axes.plot(*place, "s", ms=40, mfc="none", mec=RED, mew=2.2)
    axes.set_xticks(range(len(dimensions)), [str(number) for number in dimensions])
    axes.set_yticks(range(len(levels)), [str(number) for number in levels])
    axes.set(xlabel="dimensions", ylabel="levels")
    axes.set_title("kept of the own score, and the bits it takes")
    return picture


def _folded(vector: Float[np.ndarray, " m"]) -> Float[np.ndarray, "r c"]:
    """A vector as rows of at most 32; what is missing in the last row is blank."""
    columns = min(32, len(vector))
    rows = -(-len(vector) // columns)
    return np.pad(vector.astype(float), (0, rows * columns - len(vector)), constant_values=np.nan).reshape(rows, columns)

"""Codebooks: neurons before and after they are grouped, the pull towards each codeword, where indices go, bytes against accuracy."""

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float, Int

from facelab.pictures.style import BLACK, BLUE, GRAY, GREEN, ORANGE, PALETTE, PINK, SIGNED, SKY, Picture, new_picture, styled

COLORS = {"ordinary": ORANGE, "proximal": BLUE}
FAMILIES = {"k-means per tensor": (GRAY, "s"), "learned per channel": (PINK, "^"), "learned per tensor": (GREEN, "D"), "JLCM": (BLUE, "o")}
"""Colour and marker of each way to choose codewords."""


@styled
def show_order(
    before: Float[np.ndarray, "n m"],
    after: Float[np.ndarray, "n m"],
    group: Int[np.ndarray, " n"],
    codebooks: Float[np.ndarray, "G K"],
    *,
    width: float = 9.6,
) -> Picture:
    """The weights of a layer as a map, a row for each neuron, in the old order and in the new one; and how each group is distributed.

    Args:
        before, after: weights; columns may be permuted as well.
        group: of each row of `after`, rising.
        codebooks: of each group.
        width: inches.
    """
    picture = Picture(figsize=(width, 3.7), layout="constrained")
    left, middle, right = picture.subplots(1, 3, width_ratios=(1, 1, 1.25))
    most = float(np.quantile(np.abs(before), 0.98))
    for axes, values, title in ((left, before, "as trained"), (middle, after, "alike neurons side by side")):
        shown = axes.imshow(values, cmap=SIGNED, vmin=-most, vmax=most, aspect="auto", interpolation="nearest")
        axes.set(xlabel="weight", ylabel="neuron")
        axes.set_title(title)
    picture.colorbar(shown, ax=middle, label="value", shrink=0.9)
    for edge in np.flatnonzero(np.diff(group)) + 0.5:
        middle.axhline(edge, color=BLACK, lw=1.4)
    edges = np.linspace(-1.25 * most, 1.25 * most, 49)
    for number, book in enumerate(codebooks):
        own, base, color = after[group == number], -1.4 * number, PALETTE[number % len(PALETTE)]
        height = np.histogram(own.clip(edges[0], edges[-1]), edges)[0]
        right.stairs(base + height / max(1, height.max()), edges, baseline=base, fill=True, color=color, alpha=0.45)
        right.plot(book.clip(edges[0], edges[-1]), np.full(len(book), base - 0.12), "^", color=color, mec=BLACK, ms=6)
        right.text(edges[0], base + 0.55, f"{len(own)} neuron{'s' * (len(own) > 1)}", color=BLACK, fontsize=8)
    right.set(xlabel="weight (triangles: codewords)", yticks=[], xlim=(edges[0], edges[-1]))
    right.set_title("each group and its codebook")
    right.spines["left"].set_visible(False)
    return picture


@styled
def plot_pulls(
    codewords: Float[np.ndarray, " K"],
    weight: float,
    present: int,
    pulls: Mapping[str, Float[np.ndarray, " K"]],
    paths: Mapping[str, Int[np.ndarray, " steps"]],
    step: int | None = None,
) -> Picture:
    """How hard each codeword is pulled up, over the largest pull, on the line of codewords; and which is chosen after each step.

    Args:
        codewords: rising.
        weight: where it was before compression.
        present: number of the codeword that stands for it.
        pulls: name of a gradient -> by how much the logit of each codeword rises.
        paths: name of a gradient -> number of the chosen codeword, before any step and after each.
        step: which is marked.
    """
    picture = Picture(figsize=(9.6, 3.7))  # axes at fixed places, which is quicker to redraw
    line, path = picture.add_axes((0.07, 0.15, 0.5, 0.73)), picture.add_axes((0.66, 0.15, 0.32, 0.73))
    span = float(codewords[-1] - codewords[0])
    gap = min(float(np.diff(codewords).min()), span / 4)
    for number, (name, own) in enumerate(pulls.items()):
        places, heights = codewords + 0.26 * gap * (number - 0.5), own / max(1e-9, float(np.abs(own).max()))
        thick = min(11, 75 * gap / span)  # lines draw faster than bars
        line.vlines(places, 0, heights, color=COLORS.get(name, GREEN), lw=thick, label=name)
    line.axhline(0, color=BLACK, lw=0.8)
    line.plot(codewords, np.zeros(len(codewords)), "|", color=BLACK, ms=12, mew=1.6)
    line.plot([codewords[present]], [0], "o", ms=11, mfc="none", mec=BLACK, mew=1.6, label="present codeword")
    line.plot([weight], [-1.22], "^", color=BLACK, ms=9, label="weight as trained")
    line.set(xlabel="value", ylabel="rise of the logit, of the largest", ylim=(-1.4, 1.75))
    line.set_yticks([-1, -0.5, 0, 0.5, 1])
    line.set_title("the pull on each codeword")
    line.legend(loc="upper left", ncols=2)
    for name, own in paths.items():
        path.step(np.arange(len(own)), codewords[own], where="post", color=COLORS.get(name, GREEN), lw=2.2, label=name)
    if step is not None:
        path.axvline(step, color=GRAY, lw=1.0, ls="--")
    path.hlines(codewords, 0, len(own) - 1, color="#dddddd", lw=0.6, zorder=0)
    path.set(xlabel="steps of a constant push", ylabel="chosen codeword", ylim=(codewords[0] - 0.08 * span, codewords[-1] + 0.25 * span))
    path.set_title("where the index goes")
    path.legend(loc="upper left", ncols=2)
    return picture


@styled
def plot_jumps(jumps: Mapping[str, Sequence[int]], *, width: float = 6.5) -> Picture:
    """Over how many codewords indices went at a time, as shares.

    Args:
        jumps: name of a gradient -> each change of an index.
        width: inches.
    """
    picture, grid = new_picture(width, 2.9)
    axes, most = grid[0, 0], max(2, *(max(own, default=1) for own in jumps.values()))
    for number, (name, own) in enumerate(jumps.items()):
        share = 100 * np.bincount(np.asarray(own, dtype=int), minlength=most + 1)[1:] / max(1, len(own))
        places = np.arange(1, most + 1) + 0.4 * (number - (len(jumps) - 1) / 2)
        axes.bar(places, share, 0.38, color=COLORS.get(name, GREEN), label=f"{name}, {len(own)} changes")
    axes.set(xlabel="codewords that an index went at a time", ylabel="share of the changes, %", yscale="symlog", ylim=(0, 130))
    axes.set_yticks([0, 1, 10, 100], ["0", "1", "10", "100"])
    axes.set_xticks(range(1, most + 1))
    axes.legend()
    return picture


@styled
def plot_ladder(errors: Mapping[str, Sequence[float]], scores: Mapping[str, Sequence[float]], *, width: float = 9.6) -> Picture:
    """Step by step: the error of the layers' outputs and the accuracy, a marker for each network, six at most, and a bar for their mean.

    Args:
        errors: name of a step -> relative square error of each network, percent.
        scores: name of a step -> accuracy of each network, percent.
        width: inches.
    """
    picture, grid = new_picture(width, 3.2, 1, 2, sharey=True)
    for axes, kind, label in zip(grid[0], (errors, scores), ("error of the outputs, % of their power", "right, %"), strict=True):
        for row, (_, values) in enumerate(kind.items()):
            axes.barh(-row, np.mean(values), color=SKY, height=0.62)
            for value, marker in zip(values, "osD^v*", strict=False):  # a marker for each network
                axes.plot(value, -row - 0.08, marker, color=BLACK, ms=4, mfc="none")
            axes.text(np.mean(values), -row + 0.36, f"{np.mean(values):.3g}", fontsize=8, va="bottom", ha="right")
        axes.set(xlabel=label, xlim=(0, None), ylim=(0.5 - len(kind), 0.75))
        axes.set_yticks(-np.arange(len(kind)), list(kind))
    grid[0, 0].set_title("reconstruction")
    grid[0, 1].set_title("accuracy on test digits")
    return picture


@styled
def plot_sizes(points: Mapping[str, Sequence[tuple[float, Sequence[float]]]], whole: float, *, width: float = 8.2) -> Picture:
    """Accuracy against bytes on disk: a line for each way to choose codewords, a small dot for each network.

    Args:
        points: one of `FAMILIES` -> size in kB and the accuracy of each network in percent, for rising sizes.
        whole: mean accuracy before compression, percent.
        width: inches.
    """
    picture, grid = new_picture(width, 3.7)
    axes = grid[0, 0]
    for name, own in points.items():
        color, marker = FAMILIES[name]
        axes.plot([size for size, _ in own], [np.mean(scores) for _, scores in own], marker=marker, color=color, ms=8, label=name)
        for size, scores in own:
            axes.plot(np.full(len(scores), size), scores, ".", color=color, ms=5, alpha=0.6)
    axes.axhline(whole, color=BLACK, lw=0.9, ls="--", label="numbers of 32 bits")
    axes.set(xlabel="bytes on disk, kB, mean of the networks", ylabel="right, %", ylim=(0, 104))
    axes.legend(loc="lower right", title="dots: networks")
    axes.grid()
    return picture

"""Maps over the gaze square: what each head of an ensemble says, what is left of them says together, and the ray on the eyes."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from facelab.pictures.style import AMOUNT, BLUE, ESTIMATE, GRAY, GREEN, TRUTH, Picture, styled
from facelab.pictures.view import View


@styled
def gaze_view(
    eyes: Float[np.ndarray, "2 S S"],
    maps: Sequence[Float[np.ndarray, "_ _"]],
    gazes: Float[np.ndarray, "heads 2"],
    used: Sequence[bool],
    truth: Float[np.ndarray, "2"],
    reach: float,
    *,
    title: str = "",
) -> View:
    """The two eyes with the line of sight on them, and the map of every head over the gaze square.

    Args:
        eyes: crops of the right and the left eye, any range.
        maps: of each head, rows from looking down to looking up; each sums to one.
        gazes: (yaw, pitch) that each head reads, degrees.
        used: whether each head takes part; at least one does.
        truth: true (yaw, pitch), degrees.
        reach: half the side of the gaze square, degrees.
        title: begins the caption.

    Raises:
        ValueError: no head takes part.
    """
    on = np.asarray(used, dtype=bool)
    if not on.any():
        raise ValueError(f"All {len(on)} heads are switched off; leave at least one on.")
    answer = gazes[on].mean(axis=0)
    columns = len(maps) + 1
    picture = Picture(figsize=(9.0, 9.0 / columns * 1.42))
    wide, tall = 0.86 / columns, 0.86 / columns * 9.0 / (9.0 / columns * 1.42)
    shown = picture.add_axes((0.005, 0.17, wide, tall))
    shown.imshow(np.concatenate(list(eyes), axis=1), cmap="gray", aspect="equal")
    shown.set_axis_off()
    shown.set_title("both eyes")
    size = eyes.shape[-1]
    for (yaw, pitch), color, line in ((truth, TRUTH, 5.0), (answer, ESTIMATE, 2.2)):
        for eye in range(2):
            start = np.array([eye * size + (size - 1) / 2, (size - 1) / 2])
            end = start + 0.55 * size * np.array([np.sin(np.radians(yaw)), -np.sin(np.radians(pitch))])
            shown.plot(*np.stack([start, end], axis=1), color=color, linewidth=line, solid_capstyle="round")
    for index, (map_, gaze, takes_part) in enumerate(zip(maps, gazes, on, strict=True)):
        axes = picture.add_axes((0.055 + (index + 1) * 0.945 / columns, 0.17, wide, tall))
        half = reach * len(map_) / (len(map_) - 1)  # the outermost cells have their centres at `reach`
        look = {"cmap": AMOUNT} if takes_part else {"cmap": "Greys", "alpha": 0.35}
        axes.imshow(map_, origin="lower", extent=(-half, half, -half, half), **look)
        axes.plot(*truth, "o", markersize=10, markerfacecolor="none", markeredgecolor=TRUTH, markeredgewidth=2)
        axes.plot(*gaze, "+", markersize=9, markeredgewidth=2, color=ESTIMATE if takes_part else GRAY)
        axes.set_title(f"head {index + 1}" if takes_part else f"head {index + 1}, off", color="black" if takes_part else GRAY)
        axes.set_xlabel("yaw, degrees")
        axes.set_xticks([-50, 0, 50])
        axes.set_yticks([-50, 0, 50] if index == 0 else [])
        if index == 0:
            axes.set_ylabel("pitch, degrees", labelpad=-4)
    error = float(np.hypot(*(answer - truth)))
    text = (
        f"{title + ', ' if title else ''}mean of {on.sum()} of {len(on)} heads: yaw {answer[0]:+.1f}°, pitch {answer[1]:+.1f}°, "
        f"{error:.1f}° from the truth on the gaze square. Blue: the truth; orange: the estimate."
    )
    return View(picture, text)


@styled
def show_gazes(
    eyes: Float[np.ndarray, "2 S S"],
    maps: Sequence[Float[np.ndarray, "_ _"]],
    gazes: Float[np.ndarray, "heads 2"],
    truth: Float[np.ndarray, "2"],
    reach: float,
) -> Picture:
    """The picture of `gaze_view` with all heads on."""
    return gaze_view(eyes, maps, gazes, [True] * len(maps), truth, reach).picture


@styled
def plot_members(
    alone: Sequence[float],
    correlations: Sequence[float],
    whole: Sequence[float],
    names: Sequence[str],
    *,
    width: float = 6.5,
) -> Picture:
    """Ensembles by the error of one head and the correlation between heads, with the error of the ensemble beside each.

    Args:
        alone: mean error of single heads, degrees.
        correlations: between the signed errors of two heads, -1 to 1.
        whole: error of the ensembles, degrees.
        names: of the ensembles.
        width: inches.
    """
    picture = Picture(figsize=(width, 3.2), layout="constrained")
    axes = picture.add_subplot()
    for index, (x, y, error, name) in enumerate(zip(alone, correlations, whole, names, strict=True)):
        axes.plot(x, y, "os^Dv"[index % 5], markersize=9, color=(ESTIMATE, BLUE, GREEN, GRAY)[index % 4], label=f"{name}: {error:.1f}°")
    axes.set_xlabel("error of one head, degrees")
    axes.set_ylabel("correlation of the heads' errors")
    axes.legend(title="error of the ensemble", loc="center", fontsize=8)
    return picture


@styled
def plot_lost_heads(errors: dict[str, Sequence[float]], *, width: float = 6.5) -> Picture:
    """Error of an ensemble against how many of its heads are left, one line per name.

    Args:
        errors: name -> error with 1, 2, ... heads left, degrees.
        width: inches.
    """
    picture = Picture(figsize=(width, 2.9), layout="constrained")
    axes = picture.add_subplot()
    for index, (name, values) in enumerate(errors.items()):
        axes.plot(range(1, len(values) + 1), values, "os^Dv"[index % 5] + "-", color=(ESTIMATE, BLUE, GREEN, GRAY)[index % 4], label=name)
    axes.set_xticks(range(1, max(map(len, errors.values())) + 1))
    axes.set_xlabel("heads left")
    axes.set_ylabel("angular error, degrees")
    axes.legend()
    return picture

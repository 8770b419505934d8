"""What each level of SumNet adds, and the probability maps and errors of up to three networks, for one landmark of one face."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import matplotlib as mpl
import matplotlib.patches
import numpy as np
from jaxtyping import Float

from facelab.markups import MARKUPS
from facelab.metrics import nme
from facelab.pictures.attention import Patch
from facelab.pictures.style import GRAY, GREEN, HEAT, ORANGE, PINK, SIGNED, TRUTH, Picture, opaque, styled
from facelab.pictures.view import View

MARKERS = ((PINK, "s"), (ORANGE, "+"), (GREEN, "x"))


@dataclass(frozen=True)
class Answer:
    """What one network says about one face: where it puts all landmarks, pixels, and its map (h,w) of the chosen one."""

    name: str
    landmarks: Float[np.ndarray, "K 2"]
    map: Float[np.ndarray, "h w"]


@styled
def recombinator_view(
    image: Float[np.ndarray, "S S"],
    votes: Mapping[str, Float[np.ndarray, "_ _"]],
    used: Sequence[bool],
    answers: Sequence[Answer],
    landmark: int,
    *,
    truth: Float[np.ndarray, "K 2"],
    occluder: Patch | None = None,
    note: str = "",
    title: str = "",
) -> View:
    """One landmark: what each level of SumNet adds, and the probability maps and errors of up to three networks.

    All panels lie in one axes, in pixels of the face, the face itself at the origin: that draws four times as fast as ten axes.

    Args:
        image: what the networks saw, 0..1, occluder included.
        votes: name of the level, coarse to fine -> what it adds to SumNet's scores.
        used: whether each level takes part.
        answers: of the networks, SumNet first.
        landmark: which landmark.
        truth: true landmarks, pixels.
        occluder: drawn as a dashed square.
        note: what else was taken away, for the caption.
        title: begins the caption.
    """
    name = MARKUPS[len(truth)].names[landmark].replace("_", " ") if len(truth) in MARKUPS else f"landmark {landmark}"
    size, columns = len(image), 1 + max(len(votes), len(answers))
    step_x, step_y = round(1.06 * size), round(1.22 * size)
    sheet = np.ones((step_y + size, step_x * (columns - 1) + size, 3))
    gray = np.repeat(image[..., None], 3, axis=-1)
    errors = [float(nme(answer.landmarks[None], truth[None])[0]) for answer in answers]

    tall = (sheet.shape[0] + 0.12 * size) / sheet.shape[1]
    wide = min(9.0, 4.6 / tall)  # few levels must not make it taller than a small screen
    picture = Picture(figsize=(wide, wide * tall))
    axes = picture.add_axes((0, 0, 1, 1))
    axes.set_axis_off()

    def panel(row: int, column: int, pixels: np.ndarray, heading: str, color: str = "black") -> np.ndarray:
        corner = np.array([column * step_x, row * step_y])
        sheet[corner[1] : corner[1] + size, corner[0] : corner[0] + size] = pixels
        axes.text(corner[0], corner[1] - 0.03 * size, heading, fontsize=9, va="bottom", color=color)
        if (row, column) != (1, 0):
            axes.plot(*(corner + truth[landmark]), "o", markersize=11, markerfacecolor="none", markeredgecolor=TRUTH, markeredgewidth=1.8)
        return corner

    panel(0, 0, gray, name)
    limit = max(max(float(np.abs(vote).max()) for vote in votes.values()), 1e-6)
    for column, ((level, vote), on) in enumerate(zip(votes.items(), used, strict=True), start=1):
        repeated = np.kron(vote, np.ones((size // len(vote), size // len(vote))))
        colors = mpl.colormaps[SIGNED](0.5 + 0.5 * repeated / limit)[..., :3] if on else np.full((size, size, 3), 0.95)
        panel(0, column, colors, f"{'= ' if column == 1 else '+ '}SumNet {level}" if on else f"without {level}", "black" if on else GRAY)
    panel(1, 0, np.ones((size, size, 3)), "error, % of the eye distance")
    reach = 0.95 * size / max(*errors, 20.0)
    for row, (answer, error, (color, marker)) in enumerate(zip(answers, errors, MARKERS, strict=False)):
        y = step_y + size * (0.16 + 0.3 * row)
        axes.text(0, y, f"{answer.name}: {error:.1f}", fontsize=8.5, va="bottom")
        axes.plot([0, error * reach], [y + 0.08 * size] * 2, color=color, linewidth=9, solid_capstyle="butt")
        look = {"marker": marker, "markersize": 8, "markeredgewidth": 1.9, "color": color, "linestyle": "none"}
        look |= {"markerfacecolor": "none"} if marker == "s" else {}
        heat = answer.map[..., None] / max(float(answer.map.max()), 1e-12)
        colors = mpl.colormaps[HEAT](heat[..., 0])[..., :3]
        corner = panel(
            1, row + 1, (gray * 0.55 + 0.4) * (1 - 0.85 * np.sqrt(heat)) + 0.85 * np.sqrt(heat) * colors, f"softmax, {answer.name}"
        )
        for origin in (corner, np.zeros(2)):
            axes.plot(*(origin + answer.landmarks[landmark]), **look)
    if occluder is not None:
        side = {"fill": False, "linestyle": "--", "linewidth": 1.3, "edgecolor": "white"}
        axes.add_patch(matplotlib.patches.Rectangle(occluder.corner, occluder.size, occluder.size, **side))
    axes.imshow(opaque((sheet * 255).clip(0, 255).astype(np.uint8)), aspect="auto", interpolation="nearest")
    axes.set_xlim(-0.5, sheet.shape[1] - 0.5)
    axes.set_ylim(sheet.shape[0] - 0.5, -0.12 * size - 0.5)

    distances = [np.linalg.norm(answer.landmarks[landmark] - truth[landmark]) for answer in answers]
    off = "; ".join(
        f"{answer.name} {distance:.1f} px off, probability {answer.map.max():.2f} at its peak"
        for answer, distance in zip(answers, distances, strict=True)
    )
    without = [level for level, on in zip(votes, used, strict=True) if not on]
    gone = (", without " + ", ".join(without) if without else "") + (f", {note}" if note else "")
    text = f"{title + ', ' if title else ''}{name}{gone}: {off}. Blue ring: the truth; purple votes against, orange votes for."
    return View(picture, text)

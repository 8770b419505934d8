"""One landmark's attention over a face, its drift from stage to stage, and the error of each stage."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib.patches
import numpy as np
from jaxtyping import Float

from facelab.markups import MARKUPS
from facelab.pictures.maps import draw_map, entropy, expectation
from facelab.pictures.style import BLUE, ESTIMATE, GRAY, TRUTH, Picture, bare, opaque, styled
from facelab.pictures.view import View


@dataclass(frozen=True)
class Stage:
    """What an attention explorer needs of one stage: by mark-up, maps that sum to one and landmarks in pixels of the image."""

    maps: dict[int, Any]
    landmarks: dict[int, Any]
    attention: Any = None
    """(B,1,h,w) in [0,1], where the next stage looks, if that can be changed."""


@dataclass(frozen=True)
class Patch:
    """A square on the face: grey on the image (`stage` None), or erased from the attention of a stage (0 is the first)."""

    x: float
    y: float
    size: float
    stage: int | None = None

    @property
    def corner(self) -> tuple[float, float]:
        """Top left, pixels."""
        return self.x - self.size / 2, self.y - self.size / 2

    def cover(self, face: Float[np.ndarray, "H W"]) -> Float[np.ndarray, "H W"]:
        """A copy of the face with the square in middle gray."""
        return np.where(self.mask(*face.shape, *face.shape[::-1]), face.dtype.type(0.5), face)

    def mask(self, height: int, width: int, across: int, down: int) -> np.ndarray:
        """(down, across) array, true inside, for a map of that size over an image (height, width)."""
        y = (np.arange(down) + 0.5) * height / down - 0.5
        x = (np.arange(across) + 0.5) * width / across - 0.5
        return (np.abs(y[:, None] - self.y) <= self.size / 2) & (np.abs(x[None] - self.x) <= self.size / 2)


@styled
def attention_view(
    image: Float[np.ndarray, "H W"],
    maps: Sequence[Float[np.ndarray, "h w"]],
    landmarks: Sequence[Float[np.ndarray, "K 2"]],
    stage: int,
    landmark: int,
    *,
    truth: Float[np.ndarray, "K 2"] | None = None,
    untouched: Sequence[Float[np.ndarray, "K 2"]] | None = None,
    patch: Patch | None = None,
    stage_names: Sequence[str] = (),
    title: str = "",
) -> View:
    """One landmark's attention in one stage, its drift over all stages, and the error of each stage.

    Args:
        image: what the network saw, 0..1, patch included.
        maps: this landmark's map in every stage.
        landmarks: all landmarks in every stage, pixels.
        stage: which stage is drawn over the face; 0 is the first.
        landmark: which landmark.
        truth: true landmarks, if known, pixels.
        untouched: landmarks in every stage without the patch.
        patch: drawn as a dashed square.
        stage_names: "stage 1", "stage 2", ... by default.
        title: begins the caption, for instance the face's name.
    """
    height, width = image.shape
    count = len(landmarks[0])
    name = MARKUPS[count].names[landmark].replace("_", " ") if count in MARKUPS else "landmark"
    stage_names = list(stage_names) or [f"stage {i + 1}" for i in range(len(maps))]
    path = np.array([points[landmark] for points in landmarks])
    clean = None if untouched is None else np.array([points[landmark] for points in untouched])
    mean, covariance = expectation(maps[stage], height, width)
    spread = float(np.sqrt(np.trace(covariance)))

    picture = Picture(figsize=(8.4, 3.4))
    face = bare(picture.add_axes((0.005, 0.03, 0.37, 0.88), xticks=[], yticks=[]))
    draw_map(face, np.repeat((image * 255)[..., None], 3, axis=-1), maps[stage])
    face.plot(*landmarks[stage].T, "o", markersize=2.2, color=ESTIMATE, markeredgecolor="black", markeredgewidth=0.25)
    _ellipse(face, mean, covariance)
    face.plot(*path[stage], "+", markersize=11, markeredgewidth=2, color=ESTIMATE)
    if truth is not None:
        face.plot(*truth[landmark], "o", markersize=11, markerfacecolor="none", markeredgecolor=TRUTH, markeredgewidth=1.8)
    if patch is not None:
        look = {"edgecolor": "white"} if patch.stage is None else {"edgecolor": BLUE, "hatch": "//"}
        square = matplotlib.patches.Rectangle(patch.corner, patch.size, patch.size, fill=False, linestyle="--", linewidth=1.4, **look)
        face.add_patch(square)
    face.set_title(f"{stage_names[stage]}: attention to {landmark} {name}", y=1)

    zoom = bare(picture.add_axes((0.41, 0.13, 0.26, 0.78), xticks=[], yticks=[]))
    points = np.concatenate([path] + [p for p in (clean, None if truth is None else truth[None, landmark]) if p is not None])
    middle = (points.min(0) + points.max(0)) / 2
    reach = max(float(np.ptp(points, axis=0).max()) / 2 * 1.3, 0.05 * width)
    zoom.imshow(opaque(np.repeat((image * 0.55 + 0.4)[..., None] * 255, 3, axis=-1).astype(np.uint8)))
    zoom.set(xlim=(middle[0] - reach, middle[0] + reach), ylim=(middle[1] + reach, middle[1] - reach))
    ruler = next(length for length in (64, 32, 16, 8, 4, 2, 1, 0.5) if length <= reach)
    zoom.plot([0.05, 0.05 + ruler / reach / 2], [-0.05, -0.05], color="black", linewidth=2, transform=zoom.transAxes, clip_on=False)
    zoom.text(0.08 + ruler / reach / 2, -0.05, f"{ruler:g} pixels of the image", transform=zoom.transAxes, va="center", fontsize=8)
    if clean is not None:
        zoom.plot(*clean.T, ".--", color=GRAY, linewidth=1, markersize=4)
    if truth is not None:
        zoom.plot(*truth[landmark], "o", markersize=11, markerfacecolor="none", markeredgecolor=TRUTH, markeredgewidth=1.8)
    zoom.plot(*path.T, "-", color=ESTIMATE)
    for i, point in enumerate(path):
        here = i == stage
        zoom.plot(*point, "o", markersize=13 if here else 10, color=ESTIMATE if here else "white", markeredgecolor=ESTIMATE)
        zoom.text(*point, str(i + 1), ha="center", va="center_baseline", fontsize=8, fontweight="bold" if here else None)
    zoom.set_title("drift of the estimate", y=1)

    curve = picture.add_axes((0.715, 0.13, 0.275, 0.78), xticks=[])
    number = np.arange(1, len(maps) + 1)
    if truth is not None:
        unit = _interocular(truth) / 100
        heading = "error by stage, % of eye distance"
        whole = np.array([np.linalg.norm(p - truth, axis=-1).mean() for p in landmarks]) / unit
        single = np.linalg.norm(path - truth[landmark], axis=-1) / unit
        before = None if untouched is None else np.array([np.linalg.norm(p - truth, axis=-1).mean() for p in untouched]) / unit
        keys = [("● all landmarks", "#a06f00"), ("■ this landmark", BLUE)]
        curve.plot(number, whole, "o-", color=ESTIMATE, markersize=4)
        curve.plot(number, single, "s--", color=BLUE, markersize=3.5)
        if before is not None:
            keys.append(("● all, untouched", "#666666"))
            curve.plot(number, before, ".--", color=GRAY, linewidth=1)
    else:
        keys = [("● this landmark", "#a06f00")]
        heading, whole, before = "entropy of the map by stage, bits", None, None
        curve.plot(number, [entropy(m) for m in maps], "o-", color=ESTIMATE, markersize=4)
    curve.set(xlim=(0.7, len(maps) + 0.3))
    curve.set_xticks(number, [n.removeprefix("stage ") for n in stage_names])
    curve.locator_params(axis="y", nbins=3)
    curve.set_ylim(bottom=0, top=curve.get_ylim()[1] * 1.28)
    for row, (line, color) in enumerate(keys):  # three short texts draw three times as fast as a legend
        curve.text(0.98, 0.97 - 0.075 * row, line, transform=curve.transAxes, color=color, fontsize=8, ha="right", va="top")
    curve.axvline(stage + 1, color="#dddddd", linewidth=6, zorder=0)
    curve.set_xlabel("stage")
    curve.set_title(heading, y=1)

    x, y = path[stage]
    text = (
        f"{title + ', ' if title else ''}{stage_names[stage]}, {landmark} {name}: expected at ({x:.1f}, {y:.1f}) px, "
        f"spread {spread:.1f} px, entropy {entropy(maps[stage]):.1f} bit"
    )
    if truth is not None:
        off = np.linalg.norm(path[stage] - truth[landmark])
        text += f"; {off:.1f} px from the truth (blue ring); error of the whole face {whole[stage]:.1f} %"
        if before is not None:
            text += f" (untouched {before[stage]:.1f} %)"
    elif clean is not None:
        text += f"; moved {np.linalg.norm(path[stage] - clean[stage]):.1f} px by the patch"
    return View(picture, text + ".")


def _ellipse(axes: Any, mean: np.ndarray, covariance: np.ndarray) -> None:
    """One standard deviation around the mean."""
    variances, directions = np.linalg.eigh(covariance)
    sizes = 2 * np.sqrt(np.maximum(variances, 1e-6))
    angle = np.degrees(np.arctan2(directions[1, 1], directions[0, 1]))
    axes.add_patch(matplotlib.patches.Ellipse(mean, sizes[1], sizes[0], angle=angle, fill=False, edgecolor=ESTIMATE, linewidth=1.2))


def _interocular(landmarks: np.ndarray) -> float:
    """Distance of the outer eye corners, or the height of the face where the mark-up is not one of ours."""
    if len(landmarks) in MARKUPS:
        first, second = MARKUPS[len(landmarks)].outer_eyes
        return max(float(np.linalg.norm(landmarks[first] - landmarks[second])), 1e-6)
    return max(float(np.ptp(landmarks[:, 1])), 1e-6)

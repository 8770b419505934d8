"""Where does a cascade look, and what happens if it may not look there?"""

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import ipywidgets
import matplotlib.patches
import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from facelab.batch import FaceBatch
from facelab.explorers.explorer import Explorer, View
from facelab.markups import MARKUPS, convert
from facelab.pictures.maps import draw_map, entropy, expectation
from facelab.pictures.style import BLUE, ESTIMATE, GRAY, TRUTH, Picture, as_array, bare, opaque, styled


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

    def mask(self, height: int, width: int, across: int, down: int) -> np.ndarray:
        """(down, across) array, true inside, for a map of that size over an image (height, width)."""
        y = (np.arange(down) + 0.5) * height / down - 0.5
        x = (np.arange(across) + 0.5) * width / across - 0.5
        return (np.abs(y[:, None] - self.y) <= self.size / 2) & (np.abs(x[None] - self.x) <= self.size / 2)


def stages_from_maps(
    maps_of: Callable[[Tensor], Sequence[Tensor]], read: Callable[[Tensor], Tensor] | None = None
) -> Callable[[Float[Tensor, "B 1 H W"]], list[Stage]]:
    """Lets networks without stages into the explorer: each of several sets of maps (branches, networks) counts as a stage.

    Args:
        maps_of: images (B,1,H,W) -> list of maps (B,K,h,w), each summing to one over its pixels.
        read: maps (B,K,h,w) -> landmarks (B,K,2) in pixels of the map; their expectation by default.
    """

    def predict(images: Float[Tensor, "B 1 H W"]) -> list[Stage]:
        height, width = images.shape[2:]
        stages = []
        for maps in maps_of(images):
            if read is None:
                points = np.array([[expectation(as_array(m), height, width)[0] for m in face] for face in maps])
            else:
                scale = np.array([width / maps.shape[3], height / maps.shape[2]])
                points = (as_array(read(maps)) + 0.5) * scale - 0.5
            stages.append(Stage({maps.shape[1]: maps}, {maps.shape[1]: points}))
        return stages

    return predict


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


class AttentionExplorer(Explorer):
    """Pick a face, a stage and a landmark; cover a part of the face, or of the attention, and watch all stages change.

    On the face a click picks the nearest landmark and dragging moves or opens the square; sliders do the same.
    """

    def __init__(
        self,
        images: Any,
        predict: Callable[..., Sequence[Any]],
        *,
        truth: Any = None,
        names: Sequence[str] = (),
        stage_names: Sequence[str] = (),
    ) -> None:
        """Look into `predict` on `images`.

        Args:
            images: a `FaceBatch` (its landmarks are the truth), or (B,1,H,W) in [0,1].
            predict: images (B,1,H,W) -> one object per stage with `maps[K]` (B,K,h,w) and `landmarks[K]` (B,K,2), as `DeCaFA` or
                `stages_from_maps` give. If it takes `attention={stage: (B,1,h,w)}`, attention can be erased.
            truth: (B,K,2) true landmarks in pixels, for plain images.
            names: one name per face.
            stage_names: what the stages are called.

        Raises:
            ValueError: images or truth do not have the shapes above.
        """
        if isinstance(images, FaceBatch):
            truth = images.landmarks if truth is None else truth
            names = names or images.names
            images = images.gray()
        pixels = as_array(images).astype(np.float32)
        if pixels.ndim != 4 or pixels.shape[1] != 1:
            raise ValueError(f"Images must be a FaceBatch or gray (B,1,H,W) in [0,1]; these have shape {pixels.shape}.")
        known = None if truth is None else as_array(truth).astype(np.float64)
        if known is not None and (known.ndim != 3 or len(known) != len(pixels) or known.shape[2] != 2):
            raise ValueError(f"The truth must be ({len(pixels)}, K, 2), one set of landmarks per image; it has shape {known.shape}.")
        names = [str(name) for name in names] or [f"face {i}" for i in range(len(pixels))]
        _, _, height, width = pixels.shape
        takes_attention = "attention" in inspect.signature(getattr(predict, "forward", predict)).parameters
        edits = takes_attention and getattr(predict, "fusion", "") != "none"

        @lru_cache(maxsize=8)
        def stages(index: int, patch: Patch | None) -> tuple[np.ndarray, list[Stage]]:
            face = pixels[index, 0].copy()
            if patch is not None and patch.stage is None:
                face[patch.mask(height, width, width, height)] = 0.5
            batch = torch.from_numpy(face[None, None])
            with torch.inference_mode():
                outputs = predict(batch)
                if patch is not None and patch.stage is not None:
                    attention = outputs[patch.stage].attention.clone()
                    attention[..., torch.from_numpy(patch.mask(height, width, attention.shape[3], attention.shape[2]))] = 0
                    outputs = predict(batch, attention={patch.stage: attention})
            kept = [
                Stage({k: as_array(m)[0] for k, m in o.maps.items()}, {k: as_array(p)[0] for k, p in o.landmarks.items()}) for o in outputs
            ]
            return face, kept

        first = stages(0, None)[1]
        stage_names = list(stage_names) or [f"stage {i + 1}" for i in range(len(first))]
        sizes = sorted(first[0].maps, reverse=True)
        truths: Mapping[int, np.ndarray] = {size: t for size in sizes if (t := _truth_in(known, size)) is not None}

        def draw(image: int, stage: int, markup: int, landmark: int, use: int, x: float, y: float, size: float) -> View:
            patch = None if use == NOTHING else Patch(x, y, size, None if use == PATCH else use)
            face, now = stages(image, patch)
            before = None if patch is None else [s.landmarks[markup] for s in stages(image, None)[1]]
            return attention_view(
                face, [s.maps[markup][landmark] for s in now], [s.landmarks[markup] for s in now], stage - 1, landmark,
                truth=truths[markup][image] if markup in truths else None, untouched=before, patch=patch, stage_names=stage_names,
                title=names[image],
            )  # fmt: skip

        uses = [("nothing", NOTHING), ("a grey patch", PATCH)]
        uses += [(f"hidden from {name}", i) for i, name in enumerate(stage_names[1:]) if edits]
        markup = known.shape[1] if known is not None and known.shape[1] in sizes else sizes[0]
        nose = MARKUPS[markup].names.index("nose_tip") if markup in MARKUPS else 0
        controls = {
            "image": ipywidgets.IntSlider(0, 0, max(len(pixels) - 1, 0), description="face", disabled=len(pixels) == 1),
            "stage": ipywidgets.IntSlider(len(first), 1, len(first), description="stage", disabled=len(first) == 1),
            "landmark": ipywidgets.IntSlider(nose, 0, markup - 1, description="landmark"),
            "markup": ipywidgets.Dropdown(options=[(f"{size} landmarks", size) for size in sizes], value=markup, description="mark-up"),
            "use": ipywidgets.Dropdown(options=uses, value=NOTHING, description="square is"),
            "x": ipywidgets.IntSlider(width // 2, 0, width - 1, description="square x", tooltip="its middle, pixels from the left"),
            "y": ipywidgets.IntSlider(height // 2, 0, height - 1, description="square y", tooltip="its middle, pixels from the top"),
            "size": ipywidgets.IntSlider(width // 4, 1, width, description="square side", tooltip="pixels"),
        }
        self._grip: tuple | None = None
        self._stages = stages
        super().__init__(draw, controls, page={"image": 3, "stage": len(first), "landmark": 18}, name="Attention explorer")

    def settle(self) -> None:
        """A coarser mark-up has fewer landmarks to choose from."""
        self.controls["landmark"].max = self.controls["markup"].value - 1

    def click(self, axes: int, x: float, y: float) -> None:
        """Pick the landmark nearest to a click on the face."""
        if axes == 0:
            v = self.values
            points = self._stages(v["image"], None)[1][v["stage"] - 1].landmarks[v["markup"]]
            self.set(landmark=int(np.linalg.norm(points - (x, y), axis=-1).argmin()))

    def drag(self, axes: int, start: tuple[float, float], end: tuple[float, float]) -> None:
        """Move the square if the drag began inside it, else open a new one from corner to corner."""
        if axes != 0:
            return
        v = self.values
        if self._grip is None or self._grip[0] != start:  # a new drag
            inside = v["use"] != NOTHING and max(abs(start[0] - v["x"]), abs(start[1] - v["y"])) <= v["size"] / 2
            self._grip = (start, (v["x"] - start[0], v["y"] - start[1]) if inside else None)
        offset = self._grip[1]
        if offset is not None:
            place = {"x": end[0] + offset[0], "y": end[1] + offset[1], "size": v["size"]}
        else:
            side = max(abs(end[0] - start[0]), abs(end[1] - start[1]), 2)
            place = {"x": (start[0] + end[0]) / 2, "y": (start[1] + end[1]) / 2, "size": side}
        bounded = {k: int(np.clip(round(p), self.controls[k].min, self.controls[k].max)) for k, p in place.items()}
        self.set(use=PATCH if v["use"] == NOTHING else v["use"], **bounded)


NOTHING, PATCH = -2, -1


def _truth_in(landmarks: np.ndarray | None, size: int) -> np.ndarray | None:
    """Landmarks in a mark-up, or None if they are not known or cannot be converted."""
    if landmarks is None or landmarks.shape[1] == size:
        return landmarks
    try:
        return convert(landmarks, size)
    except ValueError:
        return None

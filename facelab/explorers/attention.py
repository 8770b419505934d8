"""Where does a cascade look, and what happens if it may not look there?"""

import inspect
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from facelab.batch import FaceBatch
from facelab.explorers.explorer import Explorer, View
from facelab.explorers.parts import control, names_of, pixels_of
from facelab.markups import MARKUPS, convert
from facelab.pictures.attention import Patch, Stage, attention_view
from facelab.pictures.maps import expectation
from facelab.pictures.style import as_array


def first_face(outputs: Sequence[Any]) -> list[Stage]:
    """The stages of a batch, for its first face alone: maps (K,h,w) and landmarks (K,2) as arrays."""
    return [Stage({k: as_array(m)[0] for k, m in o.maps.items()}, {k: as_array(p)[0] for k, p in o.landmarks.items()}) for o in outputs]


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
        pixels = pixels_of(images)
        known = None if truth is None else as_array(truth).astype(np.float64)
        if known is not None and (known.ndim != 3 or len(known) != len(pixels) or known.shape[2] != 2):
            raise ValueError(f"The truth must be ({len(pixels)}, K, 2), one set of landmarks per image; it has shape {known.shape}.")
        names = names_of(names, len(pixels), "face")
        _, _, height, width = pixels.shape
        takes_attention = "attention" in inspect.signature(getattr(predict, "forward", predict)).parameters
        edits = takes_attention and getattr(predict, "fusion", "") != "none"

        @lru_cache(maxsize=8)
        def stages(index: int, patch: Patch | None) -> tuple[np.ndarray, list[Stage]]:
            face = pixels[index, 0]
            if patch is not None and patch.stage is None:
                face = patch.cover(face)
            batch = torch.from_numpy(face[None, None])
            with torch.inference_mode():
                outputs = predict(batch)
                if patch is not None and patch.stage is not None:
                    attention = outputs[patch.stage].attention.clone()
                    attention[..., torch.from_numpy(patch.mask(height, width, attention.shape[3], attention.shape[2]))] = 0
                    outputs = predict(batch, attention={patch.stage: attention})
            return face, first_face(outputs)

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
            "image": control((0, len(pixels) - 1), 0, "face"),
            "stage": control((1, len(first)), len(first), "stage"),
            "landmark": control((0, markup - 1), nose, "landmark"),
            "markup": control([(f"{size} landmarks", size) for size in sizes], markup, "mark-up"),
            "use": control(uses, NOTHING, "square is"),
            "x": control((0, width - 1), width // 2, "square x", "its middle, pixels from the left"),
            "y": control((0, height - 1), height // 2, "square y", "its middle, pixels from the top"),
            "size": control((1, width), width // 4, "square side", "pixels"),
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

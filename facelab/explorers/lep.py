"""Push something before a face and see which triangles are trusted, what each of them says, and how the forests vote."""

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np
import torch

from facelab.blocks.occlusion import TEXTURES, box_masks, cover, fall_back, hidden_points
from facelab.explorers.explorer import Explorer, View
from facelab.explorers.parts import control, displayable, pixels_of
from facelab.methods.lep import LocalSubspaceForest
from facelab.pictures.lep import show_local_predictions


class OcclusionExplorer(Explorer):
    """Move an occluder over the mesh with two sliders, or by dragging: the forests read the face anew at every step."""

    def __init__(
        self,
        images: Any,
        points: np.ndarray,
        mean: np.ndarray,
        local: LocalSubspaceForest,
        global_: LocalSubspaceForest,
        describe: Callable[[np.ndarray, np.ndarray], np.ndarray],
        trust: Callable[[np.ndarray], np.ndarray],
        classes: list[str],
        labels: np.ndarray,
    ) -> None:
        """Explore faces of which everything is visible.

        Args:
            images: gray (B,1,H,W) in [0,1].
            points: (B,K,2) their landmarks in pixels.
            mean: (K,2) the mean shape, where hidden landmarks are taken to be.
            local, global_: trained forests.
            describe: images, landmarks -> features (B,F).
            trust: features -> confidence in every triangle (B,T).
            classes: names of the expressions.
            labels: (B,) index of the true one.
        """
        pixels = torch.from_numpy(pixels_of(images))
        height, width = pixels.shape[2:]

        @lru_cache(maxsize=64)
        def read(face: int, across: int, down: int, size: int, texture: str) -> tuple:
            own = points[[face]].astype(float)
            low, extent = own[0].min(axis=0), np.ptp(own[0], axis=0)
            middle, reach = low + extent * (across / 100, down / 100), extent * size / 200
            masks = box_masks(np.concatenate([middle - reach, middle + reach])[None], height, width) & (size > 0)
            hidden = hidden_points(own, masks)
            shown, seen = cover(pixels[[face]], masks, texture), fall_back(own, hidden, mean)
            features = describe(shown.numpy(), seen)
            confidence = trust(features)
            votes = {
                "global forest": global_.predict_proba(features)[0],
                "patches, unweighted": local.predict_proba(features)[0],
                "patches, weighted": local.predict_proba(features, confidence)[0],
            }
            return displayable(shown)[0], seen[0], confidence[0], local.local_predictions(features)[0], votes, hidden.mean()

        def draw(face: int, across: int, down: int, size: int, texture: str) -> View:
            shown, seen, confidence, predictions, votes, hidden = read(face, across, down, size, texture)
            picture = show_local_predictions(shown, seen, local.triangles, confidence, predictions, votes, classes, int(labels[face]))
            answers = "; ".join(f"{name} {classes[int(vote.argmax())]} ({vote.max():.2f})" for name, vote in votes.items())
            begin = f"Face {face}, {classes[labels[face]]}, {hidden:.0%} of the landmarks hidden, mean confidence {confidence.mean():.2f}"
            return View(picture, f"{begin}: {answers}.")

        controls = {
            "across": control((0, 100, 5), 50, "across, %"),
            "down": control((0, 100, 5), 80, "down, %"),
            "size": control((0, 100, 10), 50, "size, %"),
            "face": control((0, len(pixels) - 1), 0, "face"),
            "texture": control(list(TEXTURES), TEXTURES[0], "occluder"),
        }
        super().__init__(draw, controls, name="Occlusion explorer")
        self.extents = points.min(axis=1), np.ptp(points, axis=1)

    def drag(self, axes: int, start: tuple[float, float], end: tuple[float, float]) -> None:
        """The occluder follows the pointer over either face."""
        if axes > 1:
            return
        low, extent = (bounds[self.values["face"]] for bounds in self.extents)
        across, down = np.clip(np.round(100 * (np.array(end) - low) / extent / 5) * 5, 0, 100)
        self.set(across=int(across), down=int(down))

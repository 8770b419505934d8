"""Lie to a cascade about the pose of a face, and watch gates, regions and landmarks follow."""

from functools import lru_cache
from typing import Any

import numpy as np
import torch
from jaxtyping import Float

from facelab.explorers.explorer import Explorer, View
from facelab.explorers.parts import control, displayable, names_of, pixels_of
from facelab.methods.acdc import ACDC, StageOutput, doubly_conditional
from facelab.pictures.pose_gate import show_pose_gate
from facelab.pictures.style import as_array


class PoseGateExplorer(Explorer):
    """Tell the gates of a trained AC-DC a pose of your own; the image stays as it is.

    Example:
        PoseGateExplorer(test["images"][:12], model, truth=test["landmarks"][:12])
    """

    def __init__(self, images: Any, model: ACDC, *, truth: Float[Any, "B K 2"]) -> None:
        """Look into `model` on `images`.

        Args:
            images: (B,1,H,W) in [0,1].
            model: with gates ("gate" or "both"), on the CPU.
            truth: true landmarks in pixels.

        Raises:
            ValueError: the model has no gates, or there is not one truth per image.
        """
        pixels, points = pixels_of(images), as_array(truth)
        if model.fusion not in ("gate", "both") or not len(model.gates):
            raise ValueError(f"fusion = {model.fusion!r} with {len(model.unets)} stages has no gate; take two stages and 'both'.")
        if len(points) != len(pixels):
            raise ValueError(f"There are {len(pixels)} images and {len(points)} true faces; give one for each image.")
        seen, names = displayable(images), names_of((), len(pixels), "face")

        @lru_cache(maxsize=64)
        def stages(index: int, told: tuple[float, float, float] | None) -> list[StageOutput]:
            pose = None if told is None else torch.tensor([told], dtype=torch.float32)
            with torch.inference_mode():
                return model(torch.from_numpy(pixels[[index]]), pose)

        def draw(image: int, yaw: int, pitch: int, roll: int) -> View:
            own, told = stages(image, None), stages(image, (yaw, pitch, roll))
            pair = {"own": own, "told": told}
            poses = {"own": own[0].pose[0].numpy(), "told": np.array([yaw, pitch, roll], dtype=np.float32)}
            gates = {name: outputs[0].gates[0].numpy() for name, outputs in pair.items()}
            landmarks = {name: outputs[-1].landmarks[0].numpy() for name, outputs in pair.items()}
            passed = doubly_conditional(told[0].features, told[0].gates, told[0].attention)[0].mean(dim=0).numpy()
            picture = show_pose_gate(seen[image], poses, gates, landmarks, passed, points[image], title=names[image])
            moved = np.linalg.norm(landmarks["told"] - landmarks["own"], axis=1)
            errors = {name: np.linalg.norm(found - points[image], axis=1).mean() for name, found in landmarks.items()}
            text = f"{names[image]}, told yaw {yaw}°, pitch {pitch}°, roll {roll}°: the gates move by {_change(gates):.2f} on average, "
            text += f"the landmarks of stage 2 by {moved.mean():.2f} px (at most {moved.max():.2f} px); "
            return View(picture, text + f"their error is {errors['told']:.2f} px, with the network's own pose {errors['own']:.2f} px.")

        controls = {
            "image": control((0, len(pixels) - 1), 0, "face"),
            "yaw": control((-90, 90, 5), 0, "told yaw, °"),
            "pitch": control((-40, 40, 5), 0, "told pitch, °"),
            "roll": control((-40, 40, 5), 0, "told roll, °"),
        }
        super().__init__(draw, controls, page={"image": min(4, len(pixels)), "yaw": 7}, name="Pose gate explorer")


def _change(gates: dict[str, np.ndarray]) -> float:
    return float(np.abs(gates["told"] - gates["own"]).mean())

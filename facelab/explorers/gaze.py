"""An ensemble that reads a gaze: switch its heads off and watch the line of sight."""

from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from facelab.explorers.explorer import Explorer, View
from facelab.explorers.parts import control, pixels_of
from facelab.methods.deesco import GazeEnsemble
from facelab.pictures.gaze import gaze_view
from facelab.pictures.style import as_array


class GazeExplorer(Explorer):
    """Choose a face and switch heads off; the line of sight of the heads that are left is drawn on the eyes."""

    def __init__(
        self, crops: Float[Tensor, "B 2 S S"], ensembles: dict[str, GazeEnsemble], *, truth: Float[Tensor, "B 2"], scale: float
    ) -> None:
        """Look into trained ensembles, whose answers are computed once.

        Args:
            crops: right and left eye, as the networks take them.
            ensembles: name -> ensemble; all have as many heads.
            truth: true gazes (yaw, pitch) in units of the gaze square.
            scale: degrees of one such unit.

        Raises:
            ValueError: there is no ensemble, or they have different numbers of heads, or truth and crops differ in number.
        """
        pixels, points = pixels_of(crops, (2,)), as_array(truth) * scale
        counts = {len(ensemble.heads) for ensemble in ensembles.values()}
        if len(counts) != 1 or len(points) != len(pixels):
            raise ValueError(
                f"The ensembles have {sorted(counts)} heads, for {len(pixels)} crops and {len(points)} gazes; "
                "give ensembles of one size and one gaze for each crop."
            )
        (heads,) = counts
        batch, answers = torch.from_numpy(pixels), {}
        with torch.inference_mode():
            for name, ensemble in ensembles.items():
                maps = ensemble.maps(batch)
                gazes = torch.stack([head.gaze(each[:, None]) for head, each in zip(ensemble.heads, maps, strict=True)], dim=1)
                answers[name] = [each.double().numpy() for each in maps], gazes.double().numpy() * scale
        reach = float(next(iter(ensembles.values())).heads[0].centres.max()) * scale  # type: ignore[union-attr, operator]

        def draw(ensemble: str, face: int, **head: bool) -> View:
            maps, gazes = answers[ensemble]
            on = [head[f"head_{index}"] for index in range(heads)]
            on = on if any(on) else [True, *on[1:]]  # somebody has to answer
            return gaze_view(
                pixels[face].astype(np.float64), [each[face] for each in maps], gazes[face], on, points[face].astype(np.float64), reach,
                title=f"{ensemble}, face {face}",
            )  # fmt: skip

        controls: dict[str, Any] = {
            "ensemble": control(list(answers), None, "ensemble"),
            "face": control((0, len(pixels) - 1), 0, "face"),
            **{f"head_{index}": control(True, True, f"head {index + 1}") for index in range(heads)},
        }
        page = {"ensemble": list(answers), "face": range(min(4, len(pixels)))}
        super().__init__(draw, controls, page=page, name="Gaze explorer")

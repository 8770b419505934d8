"""Which level says what: SumNet and RCN side by side, with levels taken away and an occluder over the face."""

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from facelab.blocks import argmax_position, spatial_softmax
from facelab.explorers.explorer import Explorer, View
from facelab.explorers.parts import control, names_of, pixels_of
from facelab.markups import MARKUPS
from facelab.methods.recombinator import RCN, SumNet
from facelab.pictures.attention import Patch
from facelab.pictures.recombinator import Answer, recombinator_view
from facelab.pictures.style import as_array

NO_CUT = -1


class RecombinatorExplorer(Explorer):
    """Take levels away from SumNet and RCN, cut RCN's coarse features, or push a grey square over the face.

    On the face a click picks the nearest true landmark and dragging moves the square; sliders do the same.
    """

    def __init__(
        self,
        images: Any,
        sumnet: SumNet,
        rcn: RCN,
        *,
        truth: Any,
        refine: Callable[[Float[Tensor, "B K S S"]], Float[Tensor, "B K S S"]] | None = None,
        names: Sequence[str] = (),
    ) -> None:
        """Look into two trained networks with all levels.

        Args:
            images: (B,1,S,S) in [0,1], or a `FaceBatch`.
            sumnet, rcn: on the CPU, with the same number of levels and no mask.
            truth: (B,K,2) true landmarks of the mark-up they were trained for, pixels.
            refine: scores of RCN -> better ones, such as `recombine` with a denoiser.
            names: one name per face.

        Raises:
            ValueError: images, truth or networks do not fit each other.
        """
        pixels, points = pixels_of(images), as_array(truth).astype(np.float64)
        if points.ndim != 3 or len(points) != len(pixels):
            raise ValueError(f"Give images (B,1,S,S) and truth (B,K,2); these have shapes {pixels.shape} and {points.shape}.")
        if not (all(sumnet.active) and sumnet.active == rcn.active):
            raise ValueError(f"Both networks need the same levels and no mask; SumNet has {sumnet.active}, RCN {rcn.active}.")
        networks: tuple[nn.Module, nn.Module] = (sumnet.eval(), rcn.eval())
        size, levels = pixels.shape[-1], len(sumnet.active)
        sides = [size >> level for level in range(levels)]
        names = names_of(names, len(pixels), "face")

        @lru_cache(maxsize=4)
        def votes_of(index: int, occluder: Patch | None) -> tuple[Tensor, dict[int, Tensor]]:
            """The image the networks see, and what each level adds in SumNet: cached, so that check-boxes only re-sum."""
            face = pixels[index, 0] if occluder is None else occluder.cover(pixels[index, 0])
            batch = torch.from_numpy(face[None, None])
            with torch.inference_mode():
                return batch, networks[0].branch_scores(batch)

        def draw(image: int, landmark: int, cut: int, side: int, x: int, y: int, **level: bool) -> View:
            occluder = Patch(x, y, side) if side else None
            batch, votes = votes_of(image, occluder)
            on = [level[f"level_{i}"] for i in range(levels)]
            coarse = [0.0 if i == cut else 1.0 for i in range(levels)]
            with torch.inference_mode():
                summed = torch.stack([votes[i] * on[i] for i in range(levels)]).sum(dim=0)
                scores = {"SumNet": summed, "RCN": rcn(batch, own=[float(value) for value in on], coarse=coarse)}
                if refine is not None:
                    scores["RCN + denoiser"] = refine(scores["RCN"])
                answers = [
                    Answer(name, argmax_position(z)[0].double().numpy(), spatial_softmax(z)[0, landmark].double().numpy())
                    for name, z in scores.items()
                ]
            shown = {
                f"{sides[i]}×{sides[i]}": votes[i][0, landmark, :: 1 << i, :: 1 << i].double().numpy() for i in reversed(range(levels))
            }
            note = f"no coarse features into {sides[cut]}×{sides[cut]}" if cut != NO_CUT else ""
            return recombinator_view(
                batch[0, 0].double().numpy(), shown, on[::-1], answers, landmark,
                truth=points[image], occluder=occluder, note=note, title=names[image],
            )  # fmt: skip

        marks = MARKUPS[points.shape[1]].names if points.shape[1] in MARKUPS else [str(i) for i in range(points.shape[1])]
        cuts = [("nothing", NO_CUT)] + [(f"into {sides[i]}×{sides[i]}", i) for i in reversed(range(levels - 1))]
        controls = {
            "image": control((0, len(pixels) - 1), 0, "face"),
            "landmark": control([(n.replace("_", " "), i) for i, n in enumerate(marks)], 0, "landmark"),
            **{f"level_{i}": control(True, True, f"level {sides[i]}×{sides[i]}") for i in reversed(range(levels))},
            "cut": control(cuts, NO_CUT, "cut RCN"),
            "side": control((0, size // 2), 0, "square side, px"),
            "x": control((0, size - 1), round(points[0, 0, 0]), "square x, px"),
            "y": control((0, size - 1), round(points[0, 0, 1]), "square y, px"),
        }
        self._points = points
        page = {"image": range(min(4, len(pixels))), "side": [0, size // 4, size // 3]}
        super().__init__(draw, controls, page=page, name="Recombinator explorer")

    def click(self, axes: int, x: float, y: float) -> None:
        """Pick the true landmark nearest to a click on the face."""
        if self._on_face(x, y):
            self.set(landmark=int(np.linalg.norm(self._points[self.values["image"]] - (x, y), axis=-1).argmin()))

    def drag(self, axes: int, start: tuple[float, float], end: tuple[float, float]) -> None:
        """Put the square's centre where the pointer is; a square of no size opens to a quarter of the image."""
        if self._on_face(*start):
            place = {key: int(np.clip(round(value), 0, self.controls[key].max)) for key, value in zip("xy", end, strict=True)}
            self.set(side=self.values["side"] or self.controls["side"].max // 2, **place)

    def _on_face(self, x: float, y: float) -> bool:
        return bool(max(x, y) <= self.controls["x"].max + 0.5 and min(x, y) >= -0.5)

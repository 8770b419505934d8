"""Which level says what: SumNet and RCN side by side, with levels taken away and an occluder over the face."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import ipywidgets
import matplotlib as mpl
import matplotlib.patches
import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from facelab.batch import FaceBatch
from facelab.blocks import argmax_position, spatial_softmax
from facelab.explorers.attention import Patch
from facelab.explorers.explorer import Explorer, View
from facelab.markups import MARKUPS
from facelab.methods.recombinator import RCN, SumNet
from facelab.metrics import nme
from facelab.pictures.style import GRAY, GREEN, HEAT, ORANGE, PINK, SIGNED, TRUTH, Picture, as_array, opaque, styled

NO_CUT = -1
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

    picture = Picture(figsize=(9.0, 9.0 * (sheet.shape[0] + 0.12 * size) / sheet.shape[1]))
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
        pixels = as_array(images.gray() if isinstance(images, FaceBatch) else images).astype(np.float32)
        points = as_array(truth).astype(np.float64)
        if pixels.ndim != 4 or pixels.shape[1] != 1 or points.ndim != 3 or len(points) != len(pixels):
            raise ValueError(f"Give images (B,1,S,S) and truth (B,K,2); these have shapes {pixels.shape} and {points.shape}.")
        if not (all(sumnet.active) and sumnet.active == rcn.active):
            raise ValueError(f"Both networks need the same levels and no mask; SumNet has {sumnet.active}, RCN {rcn.active}.")
        networks: tuple[nn.Module, nn.Module] = (sumnet.eval(), rcn.eval())
        size, levels = pixels.shape[-1], len(sumnet.active)
        sides = [size >> level for level in range(levels)]
        names = [str(name) for name in names] or [f"face {i}" for i in range(len(pixels))]

        @lru_cache(maxsize=4)
        def votes_of(index: int, occluder: Patch | None) -> tuple[Tensor, dict[int, Tensor]]:
            """The image the networks see, and what each level adds in SumNet: cached, so that check-boxes only re-sum."""
            face = pixels[index, 0].copy()
            if occluder is not None:
                face[occluder.mask(size, size, size, size)] = 0.5
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
        boxes = {f"level_{i}": ipywidgets.Checkbox(True, description=f"level {sides[i]}×{sides[i]}") for i in reversed(range(levels))}
        controls = {
            "image": ipywidgets.IntSlider(0, 0, max(len(pixels) - 1, 0), description="face", disabled=len(pixels) == 1),
            "landmark": ipywidgets.Dropdown(
                options=[(n.replace("_", " "), i) for i, n in enumerate(marks)], value=0, description="landmark"
            ),
            **boxes,
            "cut": ipywidgets.Dropdown(options=cuts, value=NO_CUT, description="cut RCN"),
            "side": ipywidgets.IntSlider(0, 0, size // 2, description="square side, px"),
            "x": ipywidgets.IntSlider(round(points[0, 0, 0]), 0, size - 1, description="square x, px"),
            "y": ipywidgets.IntSlider(round(points[0, 0, 1]), 0, size - 1, description="square y, px"),
        }
        self._points = points
        super().__init__(
            draw, controls, page={"image": range(min(4, len(pixels))), "side": [0, size // 4, size // 3]}, name="Recombinator explorer"
        )

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

"""Turn a digit, give its tree the code of another image, and watch who answers."""

from functools import lru_cache
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from facelab.blocks.trees import log_reach
from facelab.explorers.explorer import Explorer, View
from facelab.explorers.parts import control, displayable
from facelab.methods.thin import THIN
from facelab.pictures.style import as_array
from facelab.pictures.thin import show_routed_digit

OWN = "its own"


class SwapExplorer(Explorer):
    """The experts keep seeing the digit; the tree gets the exogenous code that you choose.

    Example:
        SwapExplorer(frames, np.arange(-180, 180, 15), labels, model)
    """

    def __init__(self, frames: Float[Tensor, "N A 1 S S"], turns: Any, labels: Int[Any, " N"], model: THIN) -> None:
        """Look into a trained THIN.

        Args:
            frames: N digits, each turned by A angles, standardised as the model wants them.
            turns: the angles, degrees, increasing by equal steps.
            labels: class of each digit.
            model: with a tree on the exogenous code, on the CPU.

        Raises:
            ValueError: the model has no such tree, or angles or labels do not fit the frames.
        """
        if model.reads != "exogenous" or model.gate.kind != "tree":
            raise ValueError(f"The gate reads {model.reads!r}; take a model whose tree reads the exogenous code.")
        angles, classes = as_array(turns).astype(int).tolist(), as_array(labels).astype(int).tolist()
        if frames.shape[:2] != (len(classes), len(angles)):
            raise ValueError(f"The frames are {tuple(frames.shape[:2])}; there are {len(classes)} labels and {len(angles)} angles.")
        seen = displayable(frames.flatten(0, 1)).reshape(*frames.shape[:2], *frames.shape[-2:], 3)
        with torch.inference_mode():
            codes = model.exogenous.encoder(frames.flatten(0, 1)).unflatten(0, frames.shape[:2])

        @lru_cache(maxsize=256)
        def answer(digit: int, place: int, other: int, where: int) -> tuple[np.ndarray, np.ndarray]:
            with torch.inference_mode():
                code = codes[other, where][None]
                logits = model(frames[digit, place][None], code).logits[0]
                return log_reach(model.gate.tree(code))[0].exp().numpy(), logits.softmax(dim=0).numpy()

        def draw(digit: int, turn: int, code: int, extra: int) -> View:
            other = digit if code < 0 else code
            place = int(np.abs(np.subtract(angles, turn)).argmin())
            where = (place + round(extra / (angles[1] - angles[0]))) % len(angles)
            reach, said = zip(answer(digit, place, digit, place), answer(digit, place, other, where), strict=True)
            titles = (
                f"experts see a {classes[digit]},\nturned by {angles[place]}°",
                f"the tree is told: a {classes[other]},\nturned by {angles[where]}°",
            )
            pair = [seen[digit, place], seen[other, where]]
            picture = show_routed_digit(pair, reach, said, titles, classes[digit])
            moved = np.abs(reach[0] - reach[1])[len(reach[0]) // 2 :].sum() / 2
            own, given = (f"{answered.argmax()} ({answered.max():.0%})" for answered in said)
            text = f"A {classes[digit]} turned by {angles[place]}°, its tree told of a {classes[other]} turned by {angles[where]}°: "
            return View(picture, text + f"{moved:.0%} of the weight changes its leaf; the answer is {given}, with its own code {own}.")

        step = angles[1] - angles[0]
        choices = {OWN: -1} | {f"digit {number} (a {label})": number for number, label in enumerate(classes)}
        controls = {
            "digit": control((0, len(classes) - 1), 0, "digit"),
            "turn": control((angles[0], angles[-1], step), angles[len(angles) // 2], "turned by, °"),
            "code": control(choices, -1, "code of"),
            "extra": control((0, 360 - step, step), 0, "code turned, °"),
        }
        super().__init__(draw, controls, page={"turn": 8, "extra": 4}, name="Swap explorer")

"""One weight on the line of codewords: how hard each pulls under the ordinary gradient and under the proximal one, and where it goes."""

from functools import lru_cache

import ipywidgets
import numpy as np
import torch
from scipy.stats import norm

from facelab.explorers.explorer import Explorer, View
from facelab.explorers.parts import control
from facelab.methods.jlcm import ordinary, pulls
from facelab.pictures.jlcm import plot_pulls

CODEWORDS = (2, 4, 8, 16)
RATE = 0.07
STEPS = 120


def proximal(distance: torch.Tensor, reach: float) -> torch.Tensor:
    """The pull of `methods.jlcm.proximal` for another decay.

    Args:
        distance: in mean gaps.
        reach: distance over which the pull falls by the factor e.
    """
    return torch.where(distance > 0, torch.exp(-distance / reach), 0.0)


@lru_cache(maxsize=512)
def walk(weight: float, count: int, reach: float, name: str, steps: int = STEPS) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """One weight under a constant push to the right.

    Args:
        weight: as trained, in standard deviations of the layer's weights.
        count: of codewords, at even quantiles of a normal density.
        reach: of the proximal pull.
        name: "ordinary" or "proximal".
        steps: how many.

    Returns:
        The codewords (count,), the chosen one before and after each step (steps + 1,), and the pulls at each of these (steps + 1, count).
    """
    codewords = norm.ppf((np.arange(count) + 0.5) / count)
    line, gap = torch.as_tensor(codewords), float(codewords[-1] - codewords[0]) / (count - 1)
    logits, chosen, pulled = -(weight - line).abs() / gap, [], []
    for _ in range(steps + 1):
        present = int(logits.argmax())
        offsets = (line - line[present]) / gap
        force = -pulls(torch.tensor(-1.0), offsets, ordinary if name == "ordinary" else lambda distance: proximal(distance, reach))
        chosen.append(present)
        pulled.append(force.numpy())
        logits = logits + RATE * force
    return codewords, np.array(chosen), np.array(pulled)


class CodewordExplorer(Explorer):
    """Push one weight to the right: which codeword does it take next, its neighbour or the last?

    Example:
        CodewordExplorer()
    """

    def __init__(self) -> None:
        """Everything it shows it draws itself."""

        def draw(step: int, weight: float, count: int, reach: float) -> View:
            paths, now = {}, {}
            for name in ("ordinary", "proximal"):
                codewords, paths[name], pulled = walk(weight, count, reach, name)
                now[name] = pulled[0]
            picture = plot_pulls(codewords, weight, int(paths["ordinary"][0]), now, paths, step)
            jumps = {name: int(np.abs(np.diff(own)).max()) for name, own in paths.items()}
            place = {name: f"codeword {own[step] + 1} of {count}" for name, own in paths.items()}
            text = (
                f"After {step} steps the ordinary gradient has chosen {place['ordinary']}, the proximal one {place['proximal']}. "
                f"Within {STEPS} steps the largest jump is over {jumps['ordinary']} and {jumps['proximal']}."
            )
            return View(picture, text)

        controls = {
            "step": control((0, STEPS, 4), 40, "step"),
            "weight": control((-2.0, 2.0, 0.1), -0.5, "weight"),
            "count": ipywidgets.SelectionSlider(options=CODEWORDS, value=8, description="codewords"),
            "reach": control((0.5, 4.0, 0.5), 1.0, "reach of pull"),
        }
        super().__init__(draw, controls, page={"step": 6, "count": 4}, name="Codeword explorer")
        if self.error is not None:
            raise self.error

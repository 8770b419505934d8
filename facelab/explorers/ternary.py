"""Three cells on the histogram of one channel: which operator, how heavy the tails, and one weight that stands out."""

from functools import lru_cache

import ipywidgets
import numpy as np
import torch
from scipy.stats import gennorm, kurtosis, skew

from facelab.explorers.explorer import Explorer, View
from facelab.explorers.parts import control
from facelab.methods import ternary
from facelab.pictures.ternary import show_cells

TAILS = {"uniform": 40.0, "light": 4.0, "Gaussian": 2.0, "Laplace": 1.0, "heavy": 0.7}
"""Exponents of the generalised normal density."""


@lru_cache(maxsize=64)
def channel(tail: str, lean: float = 0.0, outlier: float = 1.0, count: int = 576) -> np.ndarray:
    """The weights of a channel at even quantiles of a density, in units of their standard deviation before they lean.

    Args:
        tail: of `TAILS`.
        lean: 0 for symmetric weights; above it, positive ones grow and negative ones shrink by this share.
        outlier: factor of the largest weight.
        count: how many.
    """
    shape = TAILS[tail]
    weights = gennorm.ppf((np.arange(count) + 0.5) / count, shape) / gennorm.std(shape)
    weights = weights * np.where(weights > 0, 1 + lean, 1 - lean)
    weights[-1] *= outlier
    return weights


class TernaryExplorer(Explorer):
    """Choose an operator, fatten the tails, pull one weight out: which cells move, and which error pays?

    Example:
        TernaryExplorer()
    """

    def __init__(self) -> None:
        """Everything it shows it draws itself."""

        def draw(operator: str, tail: str, lean: float, outlier: float) -> View:
            weights = channel(tail, lean, outlier)
            rows = torch.from_numpy(weights)[None]
            cells = ternary.operator(operator)(rows)
            found = ternary.errors(rows, cells.rounded(rows))
            picture = show_cells(weights, float(cells.low), float(cells.high), float(cells.level), title=f"{operator}, {tail} tails")
            text = (
                f"{operator} on weights of kurtosis {kurtosis(weights, fisher=False):.1f} and skewness {skew(weights):.1f}: "
                f"largest error {found['largest']:.3f}, mean {found['mean']:.3f} and root mean square {found['rms']:.3f} of the largest "
                f"weight; {found['zeros']:.0%} zeros, {found['bits']:.2f} bits of entropy in a code."
            )
            return View(picture, text)

        controls = {
            "operator": control(list(ternary.OPERATORS), "TQuant", "operator"),
            "tail": ipywidgets.SelectionSlider(options=list(TAILS), value="Gaussian", description="tails"),
            "lean": control((0.0, 0.5, 0.1), 0.0, "lean"),
            "outlier": control((1.0, 3.0, 0.25), 1.0, "largest times"),
        }
        super().__init__(draw, controls, page={"operator": 6, "tail": 5}, name="Ternary explorer")
        if self.error is not None:
            raise self.error

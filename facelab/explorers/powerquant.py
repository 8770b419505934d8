"""The exponent of a power grid: where the levels go, what they lose where, and what that adds up to."""

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import ipywidgets
import numpy as np
import torch

from facelab.blocks.quantisation import power_grid, quantise, scale_of
from facelab.explorers.explorer import Explorer, View
from facelab.explorers.parts import control
from facelab.methods.powerquant import reconstruction_error
from facelab.pictures.powerquant import plot_levels
from facelab.pictures.style import as_array

BITS = (2, 3, 4, 5, 6, 8)
EXPONENTS = np.arange(4, 31) / 20
BINS = 80


class ExponentExplorer(Explorer):
    """Move the exponent: levels crowd near zero or spread, small weights gain, large ones lose, and the error has a valley.

    Example:
        ExponentExplorer({"first": model[0].weight, "second": model[2].weight})
    """

    def __init__(self, layers: Mapping[str, Any], bits: int = 4) -> None:
        """Look at the weights of some layers.

        Args:
            layers: name -> weights, output channels along the first axis.
            bits: with which it begins.

        Raises:
            ValueError: there is no layer, one has no weight that differs from zero, or the bits are none of `BITS`.
        """
        weights = {name: torch.as_tensor(as_array(values)).float() for name, values in layers.items()}
        if not weights or not all(bool(own.any()) for own in weights.values()):
            raise ValueError(f"The layers {list(weights)} hold none or only zeros; give at least one, each with weights that are not zero.")
        if bits not in BITS:
            raise ValueError(f"There is no view of {bits} bits; choose one of {BITS}.")

        @lru_cache(maxsize=256)
        def curve(layer: str, bits: int, axis: int | None) -> np.ndarray:
            errors = np.array([reconstruction_error([weights[layer]], a, bits, axis) for a in EXPONENTS])
            return 100 * errors / max(reconstruction_error([weights[layer]], 1.0, bits, axis), 1e-30)

        @lru_cache(maxsize=256)
        def histogram(layer: str, axis: int | None) -> tuple[np.ndarray, np.ndarray]:
            own = weights[layer] / scale_of(weights[layer], axis).clamp_min(1e-30)
            return np.histogram(own.numpy(), BINS, (-1, 1))

        @lru_cache(maxsize=256)
        def losses(layer: str, bits: int, axis: int | None, exponent: float) -> np.ndarray:
            own = weights[layer] / scale_of(weights[layer], axis).clamp_min(1e-30)
            error = (quantise(own, power_grid(bits, exponent), 1.0) - own).flatten().numpy()
            return np.histogram(own.flatten().numpy(), BINS, (-1, 1), weights=error.astype(float) ** 2)[0]

        def draw(exponent: float, layer: str, bits: int, channels: bool) -> View:
            axis = 0 if channels else None
            counts, edges = histogram(layer, axis)
            grid, index = power_grid(bits, exponent), int(np.abs(EXPONENTS - exponent).argmin())
            lost = {f"exponent {exponent:g}": losses(layer, bits, axis, exponent), "exponent 1": losses(layer, bits, axis, 1.0)}
            found = curve(layer, bits, axis)
            picture = plot_levels(
                counts, edges, np.array(grid.levels), np.array(grid.thresholds), lost,
                exponents=EXPONENTS, curves={f"layer {layer}": found}, index=index,
            )  # fmt: skip
            scales = "one scale for each channel" if channels else "one scale"
            text = (
                f"Layer {layer}, {bits} bits, {scales}, exponent {exponent:g}: the error is {found[index]:.0f} % of that of even steps; "
                f"least, {found.min():.0f} %, at {EXPONENTS[found.argmin()]:g}."
            )
            return View(picture, text)

        places = [(f"{value:g}", float(value)) for value in EXPONENTS]
        controls = {
            "exponent": ipywidgets.SelectionSlider(options=places, value=0.6, description="exponent"),
            "layer": control(list(weights), None, "layer"),
            "bits": ipywidgets.SelectionSlider(options=BITS, value=bits, description="bits"),
            "channels": control(False, False, "channel scales"),
        }
        super().__init__(draw, controls, page={"exponent": 9, "bits": 4}, name="Exponent explorer")
        if self.error is not None:
            raise self.error

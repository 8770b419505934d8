"""The bandwidth of a density of weights: too small finds nothing, too large is a cliff."""

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import ipywidgets
import numpy as np
import torch

from facelab.explorers.explorer import Explorer, View
from facelab.explorers.parts import control
from facelab.networks.hashing import Modes, bandwidth, find_modes
from facelab.pictures.red import plot_modes
from facelab.pictures.style import as_array


class BandwidthExplorer(Explorer):
    """Widen the kernel of a layer's density: its modes become fewer, weights move further, and the accuracy holds or falls.

    Example:
        BandwidthExplorer({"1": model[1].weight}, [0.1, 0.25, 0.5], {"density": [91.2, 91.0, 24.0]})
    """

    def __init__(self, layers: Mapping[str, Any], scales: Any, curves: Mapping[str, Any]) -> None:
        """Look at the weights of some layers.

        Args:
            layers: name -> weights, of any shape.
            scales: (N,) bandwidths in units of Silverman's, increasing.
            curves: name -> (N,) accuracy with all layers hashed at each bandwidth, percent; the first is that of the density's modes.

        Raises:
            ValueError: there is no layer or no curve, the bandwidths do not increase, or a curve has not one value for each.
        """
        steps = as_array(scales).astype(float)
        found = {name: as_array(curve).astype(float) for name, curve in curves.items()}
        if not layers or not found:
            raise ValueError(f"There are {len(layers)} layers and {len(found)} curves; give at least one of each.")
        if steps.ndim != 1 or len(steps) < 2 or not (np.diff(steps) > 0).all() or steps[0] <= 0:
            raise ValueError(f"The bandwidths are {steps.tolist()}; give at least two positive ones that increase.")
        if wrong := [name for name, curve in found.items() if curve.shape != steps.shape]:
            raise ValueError(f"The curve {wrong[0]!r} has the shape {found[wrong[0]].shape}; give one value for each of {len(steps)}.")
        weights = {name: torch.as_tensor(as_array(values)).double() for name, values in layers.items()}
        bars = {name: np.histogram(values.numpy(), bins=100, density=True) for name, values in weights.items()}

        @lru_cache(maxsize=256)
        def modes(layer: str, index: int) -> tuple[Modes, np.ndarray, float]:
            own = find_modes(weights[layer], float(steps[index]) * bandwidth(weights[layer]))
            taken = torch.bincount(own.indices(weights[layer]).flatten(), minlength=len(own.values)).numpy()
            return own, taken, own.displacement(weights[layer])

        def draw(layer: str, scale: float, logarithmic: bool) -> View:
            index = int(np.abs(steps - scale).argmin())
            own, taken, moved = modes(layer, index)
            shown = slice(None, None, max(1, len(own.grid) // 700))
            picture = plot_modes(
                *bars[layer], own.grid[shown], own.density[shown], own.values, own.fences,
                scales=steps, curves=found, index=index, logarithmic=logarithmic, weights=taken,
            )  # fmt: skip
            said = ", ".join(f"{name} {curve[index]:.1f} %" for name, curve in found.items())
            text = (
                f"Layer {layer} at {steps[index]:g} of Silverman's bandwidth: {len(own.values)} distinct values for {taken.sum()} weights, "
                f"the largest displacement {moved:.3g}; accuracy with all layers hashed: {said}."
            )
            return View(picture, text)

        places = [(f"{value:g}", float(value)) for value in steps]
        slider = ipywidgets.SelectionSlider(options=places, value=places[len(places) // 2][1], description="bandwidth")
        controls = {
            "scale": slider,
            "layer": control(list(layers), None, "layer"),
            "logarithmic": control(True, True, "log density"),
        }
        super().__init__(draw, controls, page={"scale": 7}, name="Bandwidth explorer")
        if self.error is not None:
            raise self.error

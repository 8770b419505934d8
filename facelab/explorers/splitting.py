"""A layer whose outputs share products: choose an input and a bandwidth, and see which products are left."""

from collections.abc import Sequence

import ipywidgets
import numpy as np
from jaxtyping import Float
from torch import Tensor

from facelab.explorers.explorer import Explorer, View
from facelab.explorers.parts import control
from facelab.networks.hashing import bandwidth, find_modes
from facelab.pictures.redpp import split_view


class SplitExplorer(Explorer):
    """Choose an input, by slider or click: outputs whose weights became equal share a product. A second control sets the bandwidth."""

    def __init__(
        self, weights: Float[Tensor, "outputs inputs"], scales: Sequence[float] = (0.02, 0.05, 0.1, 0.15, 0.2, 0.25, 0.35, 0.5, 1.0)
    ) -> None:
        """Hash one layer at every bandwidth.

        Args:
            weights: of a linear layer, or of one tap of a convolution.
            scales: bandwidths in units of Silverman's; "none" comes before them.

        Raises:
            ValueError: a bandwidth that the density refuses, or weights that are all equal.
        """
        silverman = bandwidth(weights)
        layers = {"none": weights.double().numpy()}
        layers |= {f"{scale:g}": find_modes(weights, scale * silverman).hash(weights).double().numpy() for scale in scales}

        def draw(column: int, scale: str) -> View:
            return split_view(layers["none"], layers[scale], column)

        names = list(layers)
        slider = ipywidgets.SelectionSlider(options=names, value=names[len(names) // 2], description="bandwidth")
        controls = {"column": control((0, weights.shape[1] - 1), 0, "input"), "scale": slider}
        super().__init__(draw, controls, page={"column": min(4, weights.shape[1]), "scale": names}, name="Split explorer")

    def click(self, axes: int, x: float, y: float) -> None:
        """Choose the input whose column is under the pointer."""
        if axes == 0:
            self.set(column=int(np.clip(round(x), 0, self.controls["column"].max)))

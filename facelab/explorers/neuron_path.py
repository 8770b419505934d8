"""A neuron of a trained network that shrinks to nothing: what the loss does, and what the importance adds up."""

from collections.abc import Mapping

import numpy as np

from facelab.explorers.explorer import Explorer, View
from facelab.methods.singe import Path, geometric
from facelab.pictures.paths import path_view
from facelab.pictures.style import as_array


class NeuronPathExplorer(Explorer):
    """Shrink a neuron by a slider, and choose where on its path the sum of SInGE looks.

    Example:
        NeuronPathExplorer({"neuron 3": walk(model, images, labels, loss, group, torch.linspace(1, 0.001, 41), neurons=[3])})
    """

    def __init__(self, paths: Mapping[str, Path], *, name: str = "Neuron path explorer") -> None:
        """Show paths that have been walked.

        Args:
            paths: name -> the path of one neuron, from factor 1 to one of at most 0.01.
            name: what the text twin of the explorer calls it.

        Raises:
            ValueError: there is no path, or one is of several neurons or does not fall from 1 to almost 0.
        """
        curves = {}
        for neuron, path in paths.items():
            factors = as_array(path.factors)
            if len(path.norms) != 1 or factors[0] != 1 or not 0 <= factors[-1] <= 0.01 or (np.diff(factors) >= 0).any():
                raise ValueError(f"The path {neuron!r} must be of one neuron and fall from 1 to 0.01 or less; walk one such.")
            products = path.norms * path.gradients
            curves[neuron] = (factors, *(as_array(values)[:, 0] for values in (path.losses, products, path.slopes)))
        if not curves:
            raise ValueError("There is no path to show; give one at least.")

        def draw(neuron: str, alpha: float = 1.0, attenuation: float = 0.75, steps: int = 8) -> View:
            return path_view(*curves[neuron], as_array(geometric(attenuation, steps)), alpha, title=neuron)

        controls = {"neuron": list(curves), "alpha": (0.0, 1.0, 0.02), "attenuation": (0.3, 0.95, 0.05), "steps": (1, 20)}
        super().__init__(draw, controls, page={"neuron": len(curves), "alpha": 6}, name=name)

"""A soft-argmax that slides between two peaks, and a face that is moved while networks predict on it."""

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import nn

from facelab.blocks import Warp, expected_position, spatial_softmax
from facelab.explorers.explorer import Explorer, View
from facelab.explorers.parts import control, pixels_of
from facelab.pictures.equivariance import equivariance_view


def two_peaks(second: float, height: int = 24, width: int = 33) -> torch.Tensor:
    """A map of scores with a peak of 1 on the left and one of `second` on the right, (1,1,height,width)."""
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    left, right = (torch.exp(-((x - at) ** 2 + (y - height // 2) ** 2) / 8.0) for at in (8, width - 9))
    return torch.maximum(left, second * right)[None, None]


class EquivarianceExplorer(Explorer):
    """Turn, scale and shift a face and see whether predictions go along; beside it the soft-argmax of a map with two peaks."""

    def __init__(self, images: Any, networks: Mapping[str, nn.Module]) -> None:
        """Look at networks that predict landmarks.

        Args:
            images: (B,1,S,S) in [0,1], or a `FaceBatch`.
            networks: name -> network on the CPU, from images to (B,K,2) in pixels.

        Raises:
            ValueError: the images have another shape, or there is no network.
        """
        pixels = torch.from_numpy(pixels_of(images))
        if not networks:
            raise ValueError("There is no network to explore; give a dictionary name -> network.")
        chosen = {name: network.eval() for name, network in networks.items()}
        size = pixels.shape[-1]

        @lru_cache(maxsize=64)
        def answers(index: int, angle: float, scale: float, across: float) -> tuple[np.ndarray, dict]:
            image = pixels[index : index + 1]
            turn = torch.deg2rad(torch.tensor(float(angle)))
            rotation = torch.stack([turn.cos(), -turn.sin(), turn.sin(), turn.cos()]).view(1, 2, 2)
            centre = torch.full((2,), (size - 1) / 2)
            warp = Warp(scale * rotation, torch.tensor([[float(across), 0.0]]), torch.zeros(1, dtype=torch.bool), centre)
            moved = warp.images(image)
            with torch.inference_mode():
                pairs = {name: (f(moved)[0].numpy(), warp.landmarks(f(image))[0].numpy()) for name, f in chosen.items()}
            return moved[0].numpy(), pairs

        def draw(beta: float, second: float, image: int, angle: float, scale: float, across: float) -> View:
            probability = spatial_softmax(10**beta * two_peaks(second))
            x, y = expected_position(probability)[0, 0].tolist()
            return equivariance_view(probability[0, 0].numpy(), (x, y), *answers(image, angle, scale, across))

        controls = {
            "beta": control((-1.0, 3.0, 0.1), 1.2, "log10 of beta"),
            "second": control((0.5, 1.0, 0.01), 0.95, "second peak"),
            "image": control((0, len(pixels) - 1), 0, "face"),
            "angle": control((-40.0, 40.0, 1.0), 20.0, "rotation, °"),
            "scale": control((0.7, 1.3, 0.02), 1.0, "scale"),
            "across": control((-8.0, 8.0, 0.5), 2.0, "shift, px"),
        }
        super().__init__(draw, controls, page={"beta": 5, "angle": 5}, name="Equivariance explorer")

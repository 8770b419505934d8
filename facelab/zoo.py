"""The zoo: small trained networks in `data/zoo`, each with a card that says how it was trained and how well it does.

`facelab.recipes` makes and measures them.
"""

import json
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from safetensors.torch import load_file
from torch import Tensor, nn

from facelab import metrics, training
from facelab.batch import FaceBatch
from facelab.blocks import ConvRegressor
from facelab.markups import markup
from facelab.methods.decafa import DeCaFA

FOLDER = Path(__file__).parent.parent / "data" / "zoo"
SIZE = 64


def names() -> tuple[str, ...]:
    """Names of the networks that can be loaded."""
    return tuple(sorted(path.stem for path in FOLDER.glob("*.safetensors")))


def card(name: str) -> dict:
    """What is known about a network: architecture, training command, data, seed, time and scores.

    Raises:
        ValueError: no such network.
    """
    if name not in names():
        raise ValueError(f"The zoo has no {name!r}; choose one of {names()}, or train it: python -m facelab.recipes train NAME.")
    return json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))


def load(name: str) -> nn.Module:
    """The trained network, in evaluation mode; takes gray images of 64 x 64 pixels, 0..1, cropped as `facelab.datasets` does.

    Raises:
        ValueError: no such network.
    """
    about = card(name)
    model = build(about["model"], about["arguments"])
    model.load_state_dict(load_file(FOLDER / f"{name}.safetensors"))
    return model.eval()


def build(model: str, arguments: dict) -> nn.Module:
    """A network with fresh weights: `model` is "decafa" or "cnn", `arguments` those of its class."""
    return {"decafa": DeCaFA, "cnn": ConvRegressor}[model](**arguments)


def predict(model: nn.Module, images: Float[Tensor, "B 1 H W"]) -> Float[Tensor, "B 68 2"]:
    """The 68 landmarks, pixels: of the last stage of a cascade, or of a plain regressor; the mean of what the network says about each
    image and about its mirror image, which it has learnt alike."""

    def read(output: Tensor | list) -> Tensor:
        return output[-1].landmarks[68] if isinstance(output, list) else output

    mirrored = training.predict(model, images.flip(-1), read)[:, torch.as_tensor(markup(68).flip)]
    mirrored = torch.stack([images.shape[-1] - 1 - mirrored[..., 0], mirrored[..., 1]], dim=-1)
    return (training.predict(model, images, read) + mirrored) / 2


def errors(model: nn.Module, batch: FaceBatch) -> Float[np.ndarray, " B"]:
    """Error of each face: mean landmark distance in percent of the distance of the outer eye corners.

    Raises:
        ValueError: the landmarks of the faces are not known.
    """
    predicted = predict(model, torch.as_tensor(batch.gray()))
    return np.asarray(metrics.nme(predicted, torch.as_tensor(batch.known("landmarks"), dtype=torch.float32)))

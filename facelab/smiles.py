"""Faces whose smile can be taken away: a world in which the true cause of an answer is known, and a small network that learns it.

Three action units of the Facial Action Coding System (Ekman, Friesen 1978) are switched on and off independently of each other and of
everything else, so that only the pixels that a unit moves can tell of it.
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from facelab.batch import FaceBatch
from facelab.importance.attribution.judging import changed_pixels
from facelab.trials import Rival, train
from facelab.worlds.faces import change, render

UNITS = {4: "brow lowerer", 12: "smile", 26: "jaw drop"}
"""Number of each action unit and its name, in the order of the network's outputs."""
SMILE = list(UNITS).index(12)
SIZE = 48
VISIBLE = 0.04  # of white: a smaller change of a pixel is lost in dark pictures
FEWEST = 20  # pixels that must change for a smile to count as seen
CALM = {"expression": "neutral", "talking": 0, "asymmetry": 0.0, "glasses": 0, "mask": 0, "hand": 0, "patch": 0}
CLEAN = {"noise": 0.0, "compression": 0.0}
VIEWS = {"yaw": (-15.0, 15.0), "pitch": (-8.0, 8.0), "roll": (-6.0, 6.0)}


def draw_faces(count: int, *, seed: int = 0, start: int = 0) -> FaceBatch:
    """Renders calm faces of 48 x 48 pixels, in each of which every action unit is on with a chance of one half.

    Args:
        count: number of faces.
        seed: of the world.
        start: index of the first face; ranges that do not overlap hold different faces.

    Returns:
        The faces with their parts.
    """
    chance = np.random.default_rng([seed, start])
    units = {f"au_{unit}": np.where(chance.random(count) < 0.5, chance.uniform(0.7, 1, count), 0.0) for unit in UNITS}
    return render(count, seed=seed, start=start, size=SIZE, channels=("parts",), **VIEWS, **CALM, **CLEAN, **units)


def as_images(faces: FaceBatch) -> Float[Tensor, "B 1 H W"]:
    """Gray images as the network takes them, from 0 (black) to 1 (white)."""
    return torch.from_numpy(faces.gray())


def labels_of(faces: FaceBatch) -> Float[Tensor, "B 3"]:
    """Whether each action unit is on, 0 or 1, a column for each of UNITS."""
    return torch.from_numpy(np.stack([faces.factors[f"au_{unit}"] > 0 for unit in UNITS], axis=1)).float()


def without(faces: FaceBatch, unit: int = 12, **factors: object) -> FaceBatch:
    """The same faces with one action unit taken away, and with other factors changed if they are given."""
    return change(faces, **{f"au_{unit}": 0.0}, **factors)


def other_light(faces: FaceBatch) -> dict[str, np.ndarray]:
    """Factors that change nearly every pixel: light from the other side, an inverted background and another exposure."""
    factors = faces.factors
    exposure = np.minimum(1.1 * factors["exposure"], 2.0)  # the brightest that the world allows
    return {"light_azimuth": -factors["light_azimuth"], "background_value": 1 - factors["background_value"], "exposure": exposure}


@dataclass(frozen=True)
class Smiles:
    """Smiling faces beside their counterfactuals.

    Attributes:
        faces: as they were rendered.
        images: the same in gray.
        no_smile: the same faces with only the smile taken away.
        other_light: without the smile and in other light, so that nearly every pixel differs from `images`.
        region: the pixels that the smile changes, widened by two pixels.
    """

    faces: FaceBatch
    images: Float[Tensor, "B 1 H W"]
    no_smile: Float[Tensor, "B 1 H W"]
    other_light: Float[Tensor, "B 1 H W"]
    region: Bool[Tensor, "B 1 H W"]


def visible_smiles(faces: FaceBatch, count: int = 40) -> Smiles:
    """The first smiling faces whose smile can be seen: taking it away changes at least 20 pixels by 4 % of white.

    Args:
        faces: as `draw_faces` renders them.
        count: number of faces that are wanted; there may be fewer.
    """
    smiling = faces.take(faces.factors["au_12"] > 0)
    seen = changed_pixels(as_images(smiling), as_images(without(smiling)), VISIBLE).sum(dim=(1, 2, 3)) >= FEWEST
    smiling = smiling.take(np.flatnonzero(seen)[:count])
    images, no_smile = as_images(smiling), as_images(without(smiling))
    region = changed_pixels(images, no_smile, VISIBLE, dilation=2)
    return Smiles(smiling, images, no_smile, as_images(without(smiling, **other_light(smiling))), region)


def build_network() -> nn.Sequential:
    """Three convolutions and one logit for each action unit; piecewise linear in evaluation mode."""
    layers = [nn.Conv2d(1, 8, 5, stride=2, padding=2), nn.BatchNorm2d(8), nn.ReLU()]
    for inputs, outputs in ((8, 16), (16, 32)):
        layers += [nn.Conv2d(inputs, outputs, 3, padding=1), nn.BatchNorm2d(outputs), nn.ReLU(), nn.MaxPool2d(2)]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(32 * (SIZE // 8) ** 2, len(UNITS)))


def stamped(images: Float[Tensor, "B 1 H W"], where: Bool[Tensor, " B"] | None = None, side: int = 6) -> Float[Tensor, "B 1 H W"]:
    """The images with a white square in the upper left corner.

    Args:
        where: the images that get it; all by default.
        side: of the square, pixels.
    """
    found = images.clone()
    chosen = slice(None) if where is None else where
    found[chosen, :, :side, :side] = 1.0
    return found


def cross_entropy(network: nn.Module, images: Float[Tensor, "B 1 H W"], labels: Float[Tensor, "B 3"]) -> Float[Tensor, ""]:
    """The binary cross-entropy of the logits, a mean over images and action units."""
    return nn.functional.binary_cross_entropy_with_logits(network(images), labels)


def train_network(count: int, steps: int, *, seed: int = 0, device: str = "auto") -> nn.Module:
    """Trains `build_network` on drawn faces, as briefly as `count` and `steps` say.

    Args:
        count: number of faces, from index 0.
        steps: batches of 32 faces.
        seed: of the world, of the weights and of the order of the faces.
        device: as `training.fit` takes it.

    Returns:
        The network in evaluation mode.
    """
    faces = draw_faces(count, seed=seed)
    rival = Rival(build_network, lambda network, batch, generator: cross_entropy(network, *batch))
    options = {"batch_size": 32, "learning_rate": 3e-3, "device": device, "progress": False, "workers": 1}
    return train({"smiles": rival}, (as_images(faces), labels_of(faces)), seeds=[seed], steps=steps, **options).models["smiles"][0]

"""Networks in which it is known what matters: one layer critical, two twins of which either can go, one whose output nobody hears.

The truth is never declared: it is the score of the network that really lacks the part.
"""

import functools
import operator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from facelab.blocks import seeded
from facelab.importance.scores import Score, evaluate

ROLES = {
    "stem": "critical: everything passes through it",
    "branches.twin_a": "redundant: its twin does the same, each at half strength",
    "branches.twin_b": "redundant: its twin does the same, each at half strength",
    "branches.unheard": "dead: the layer after it multiplies it by zero",
}


class PlantedNetwork(nn.Module):
    """Stem, three branches side by side whose sum goes on, and a classifier; no bias anywhere.

    Without biases and with ReLU, half a sum of two twins gives half of every class's output, so either twin can go without changing
    which class is highest.
    """

    def __init__(self, channels: int = 6, classes: int = 4):
        super().__init__()
        self.stem = nn.Conv2d(1, channels, 3, padding=1, bias=False)
        names = ("twin_a", "twin_b", "unheard")
        self.branches = nn.ModuleDict({name: nn.Conv2d(channels, channels, 3, padding=1, bias=False) for name in names})
        self.gate = nn.Conv2d(channels, channels, 1, bias=False)
        self.classifier = nn.Linear(channels, classes, bias=False)
        with torch.no_grad():
            self.branches["twin_a"].weight.mul_(0.5)
            self.branches["twin_b"].weight.copy_(self.branches["twin_a"].weight)
            self.gate.weight.zero_()

    # no shapes in the signatures: they would be checked while torch.fx traces, where they are unknown
    def features(self, images):
        """What the classifier hears: (B, channels) of images (B, 1, H, W)."""
        if self.stem is None:  # really taken out: nothing passes
            return images.new_zeros(len(images), self.gate.in_channels)
        stem = self.stem(images).relu()
        outputs = {name: branch(stem).relu() for name, branch in self.branches.items()}
        parts = [self.gate(output) if name == "unheard" else output for name, output in outputs.items()]
        return functools.reduce(operator.add, parts).mean(dim=(2, 3))

    def forward(self, images):
        """One number per class: (B, classes) of images (B, 1, H, W)."""
        return self.classifier(self.features(images))


@dataclass(frozen=True)
class Planted:
    """A network with known truth and the data it is right about.

    Attributes:
        model: classifies all of `loader` correctly, for the labels are its own answers.
        loader: pairs (images, labels).
    """

    model: PlantedNetwork
    loader: list[tuple[Tensor, Tensor]]

    def without(self, layer: str) -> PlantedNetwork:
        """The network that really lacks the layer: built without it, not masked.

        Raises:
            ValueError: not one of `ROLES`.
        """
        if layer not in ROLES:
            raise ValueError(f"There is no planted truth for {layer!r}; choose one of {tuple(ROLES)}.")
        smaller = PlantedNetwork(self.model.gate.in_channels, self.model.classifier.out_features)
        if layer == "stem":
            smaller.stem = None  # type: ignore[assignment]
        else:
            del smaller.branches[layer.removeprefix("branches.")]
        state = {key: value for key, value in self.model.state_dict().items() if not key.startswith(layer + ".")}
        smaller.load_state_dict(state)
        return smaller.eval()

    def effect(self, layer: str, score: Score) -> float:
        """By how much the mean score really falls without the layer."""
        return float(evaluate(self.model, self.loader, score).mean() - evaluate(self.without(layer), self.loader, score).mean())


def planted(seed: int = 0, samples: int = 64, size: int = 8) -> Planted:
    """A network with a critical layer, redundant twins and a dead layer, and images of noise that it classifies.

    Args:
        seed: of the weights and of the images.
        samples: number of images.
        size: their side, pixels.
    """
    with seeded(seed):
        model = PlantedNetwork().eval()
        images = torch.rand(samples, 1, size, size)
        images = images * torch.linspace(0.2, 1, samples)[:, None, None, None] - 0.3 * torch.rand(samples, 1, 1, 1)
    with torch.no_grad():
        mean = model.features(images).mean(dim=0)
        weight = model.classifier.weight
        weight -= torch.outer(weight @ mean, mean) / mean.square().sum()  # on average all classes are even, so that none wins always
        weight *= 3 / model(images).std()
        labels = model(images).argmax(dim=1)
    return Planted(model, list(zip(images.split(32), labels.split(32), strict=True)))

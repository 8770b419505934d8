"""The networks of the bench: four architectures on three tasks, three seeds each, in `data/zoo/bench`, and the data they are measured on.

    model = load("digits", "residual", seed=0)
    images, labels = data("digits", "test")

`facelab.compression.recipes` trains them again. Loading needs no data.
"""

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Shaped
from safetensors import safe_open
from torch import Tensor, nn

from facelab import datasets
from facelab.blocks import standardise
from facelab.importance.scores import Score, accuracy
from facelab.worlds import digits

FOLDER = Path(__file__).parent.parent.parent / "data" / "zoo" / "bench"
EXPRESSIONS = ("neutral", "happiness", "surprise")
SPLITS = ("train", "validation", "test")
SEEDS = (0, 1, 2)
HIDDEN = 24
EYES = 36, 45
"""The outer corners of the eyes among the 68 landmarks."""


@dataclass(frozen=True)
class Task:
    """What a network of the bench is asked.

    Attributes:
        what: one phrase.
        size: side of the gray images, pixels.
        outputs: how many numbers a network gives.
        score: higher is better.
        unit: of the score.
    """

    what: str
    size: int
    outputs: int
    score: Score
    unit: str


def negative_landmark_error(outputs: Float[Tensor, "B D"], targets: Float[Tensor, "B D"]) -> Float[Tensor, " B"]:
    """Minus the mean distance of the 68 landmarks from the true ones, in percent of the distance of the outer eye corners.

    Args:
        outputs, targets: x and y of each landmark, one after the other.
    """
    found, true = outputs.unflatten(1, (-1, 2)), targets.unflatten(1, (-1, 2))
    return -100 * (found - true).norm(dim=-1).mean(dim=1) / (true[:, EYES[0]] - true[:, EYES[1]]).norm(dim=-1)


TASKS = {
    "digits": Task("real handwritten digits, turned and moved", 16, 10, accuracy, "share"),
    "expressions": Task(f"rendered faces: {', '.join(EXPRESSIONS)}", 32, len(EXPRESSIONS), accuracy, "share"),
    "landmarks": Task("68 landmarks of real faces", 32, 2 * 68, negative_landmark_error, "% of the eye distance"),
}


class Standardised(nn.Module):
    """Takes the light out of an image, which has nothing to learn."""

    def forward(self, images: Float[Tensor, "B 1 S S"]) -> Float[Tensor, "B 1 S S"]:
        return standardise(images)


def _normed(inputs: int, outputs: int, kernel: int = 3, stride: int = 1, groups: int = 1) -> nn.Sequential:
    """A convolution that keeps the size (but for its stride) and its batch norm."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(outputs),
    )


def _head(channels: int, outputs: int) -> nn.Sequential:
    """From maps of 4 x 4 to the outputs; where a feature lies counts, so nothing is averaged."""
    return nn.Sequential(nn.Flatten(), nn.Linear(16 * channels, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, outputs))


def plain(outputs: int, size: int) -> nn.Module:
    """Four convolutions and two linear layers."""
    widths, strides = (1, 16, 24, 32, 24), (size // 16, 2, 1, 2)
    convolutions = [
        layer
        for before, width, stride in zip(widths, widths[1:], strides, strict=False)
        for layer in (_normed(before, width, stride=stride), nn.ReLU())
    ]
    return nn.Sequential(Standardised(), *convolutions, *_head(widths[-1], outputs))


class Block(nn.Module):
    """Two convolutions beside a shortcut, whose sum ties their channels."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.first, self.second = _normed(inputs, outputs, stride=stride), _normed(outputs, outputs)
        self.shortcut = nn.Identity() if inputs == outputs and stride == 1 else _normed(inputs, outputs, 1, stride)

    def forward(self, maps: Float[Tensor, "B C H W"]) -> Float[Tensor, "B D h w"]:
        return F.relu(self.second(F.relu(self.first(maps))) + self.shortcut(maps))


def residual(outputs: int, size: int) -> nn.Module:
    """A stem and three residual blocks."""
    blocks = [Block(16, 16, 1), Block(16, 20, 2), Block(20, 20, 1)]
    return nn.Sequential(Standardised(), _normed(1, 16, 3, 2 * size // 16), nn.ReLU(), *blocks, *_head(20, outputs))


def depthwise(outputs: int, size: int) -> nn.Module:
    """A stem and three pairs of a depthwise and a 1 x 1 convolution."""
    layers: list[nn.Module] = [Standardised(), _normed(1, 16, 3, 2 * size // 16), nn.ReLU()]
    for before, width, stride in ((16, 32, 1), (32, 64, 2), (64, 64, 1)):
        layers += [_normed(before, before, 3, stride, groups=before), nn.ReLU(), _normed(before, width, 1), nn.ReLU()]
    return nn.Sequential(*layers, _normed(64, 24, 1), nn.ReLU(), *_head(24, outputs))


class Attention(nn.Module):
    """Self-attention of several heads."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query, self.key, self.value, self.mix = (nn.Linear(width, width) for _ in range(4))

    def forward(self, tokens: Float[Tensor, "B N D"]) -> Float[Tensor, "B N D"]:
        query, key, value = (layer(tokens).unflatten(-1, (self.heads, -1)).transpose(1, 2) for layer in (self.query, self.key, self.value))
        return self.mix(F.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2))


class TransformerLayer(nn.Module):
    """Attention and two linear layers, each added to the tokens."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.attention, self.norm_1, self.norm_2 = Attention(width, heads), nn.LayerNorm(width), nn.LayerNorm(width)
        self.first, self.second = nn.Linear(width, 2 * width), nn.Linear(2 * width, width)

    def forward(self, tokens: Float[Tensor, "B N D"]) -> Float[Tensor, "B N D"]:
        tokens = tokens + self.attention(self.norm_1(tokens))
        return tokens + self.second(F.gelu(self.first(self.norm_2(tokens))))


class Transformer(nn.Module):
    """Sixteen patches as tokens, two layers of attention, the mean of the tokens."""

    def __init__(self, outputs: int, size: int, width: int = 32, heads: int = 4) -> None:
        super().__init__()
        self.standardised = Standardised()
        self.embed = nn.Conv2d(1, width, size // 4, size // 4)
        self.place = nn.Parameter(0.1 * torch.randn(1, 16, width))
        self.layers = nn.Sequential(*(TransformerLayer(width, heads) for _ in range(2)))
        self.norm, self.out = nn.LayerNorm(width), nn.Linear(width, outputs)

    def forward(self, images: Float[Tensor, "B 1 S S"]) -> Float[Tensor, "B outputs"]:
        tokens = self.embed(self.standardised(images)).flatten(2).transpose(1, 2) + self.place
        return self.out(self.norm(self.layers(tokens)).mean(dim=1))


ARCHITECTURES = {"plain": plain, "residual": residual, "depthwise": depthwise, "transformer": Transformer}


def build(task: str, architecture: str) -> nn.Module:
    """A network with fresh weights; it takes gray images (B,1,S,S), 0..1.

    Raises:
        ValueError: no such task or architecture.
    """
    _known("task", task, TASKS)
    _known("architecture", architecture, ARCHITECTURES)
    return ARCHITECTURES[architecture](TASKS[task].outputs, TASKS[task].size)


def load(task: str, architecture: str, seed: int = 0) -> nn.Module:
    """A trained network, in evaluation mode; needs no data.

    Args:
        task: of `TASKS`.
        architecture: of `ARCHITECTURES`.
        seed: of its training, one of `SEEDS`.

    Raises:
        ValueError: no such network.
    """
    model = build(task, architecture)
    if seed not in SEEDS:
        raise ValueError(f"There is no network of seed {seed!r}; choose one of {SEEDS}.")
    with safe_open(FOLDER / f"{task}_{architecture}.safetensors", framework="pt") as stored:
        model.load_state_dict({key: stored.get_tensor(f"{seed}/{key}") for key in model.state_dict()})
    return model.eval()


def card(task: str, architecture: str) -> dict:
    """How the networks of one task and architecture were trained, and their scores, by seed.

    Raises:
        ValueError: no such network.
    """
    _known("task", task, TASKS)
    _known("architecture", architecture, ARCHITECTURES)
    return json.loads((FOLDER / f"{task}_{architecture}.json").read_text(encoding="utf-8"))


@cache
def data(task: str, split: str) -> tuple[Float[Tensor, "B 1 S S"], Shaped[Tensor, "B ..."]]:
    """Images 0..1 and targets: classes (B,), or landmarks (B,136) in pixels, x and y by turns.

    No scan of a digit, no rendered person and no real person is in two splits.

    Args:
        task: of `TASKS`.
        split: "train", "validation" or "test".

    Raises:
        ValueError: no such task or split.
        FileNotFoundError: the real faces are not on this machine.
    """
    _known("task", task, TASKS)
    _known("split", split, SPLITS)
    size = TASKS[task].size
    number = SPLITS.index(split)
    count = (4500, 450, 900)[number]
    if task == "digits":
        scans = ((0, 119), (120, 134), (135, 173))[number]
        batch = digits.render(count, seed=number, size=size, example=scans, rotation=(-10, 10))
        images, targets = batch.images, torch.as_tensor(batch.labels)
    elif task == "expressions":
        from facelab.worlds import faces  # two seconds of imports

        rendered = faces.render(
            count, seed=number, size=size, channels=(), yaw=(-15, 15), pitch=(-8, 8), roll=(-8, 8), mask=0, hand=0, patch=0,
            expression=[EXPRESSIONS[i % len(EXPRESSIONS)] for i in range(count)], intensity=(0.9, 1.0), talking=0,
        )  # fmt: skip
        images, targets = (rendered.gray() * 255).round().astype(np.uint8), torch.arange(count) % len(EXPRESSIONS)
    else:
        real = datasets.p1(split, size)
        images = (real.gray() * 255).round().astype(np.uint8)
        targets = torch.as_tensor(real.known("landmarks"), dtype=torch.float32).flatten(1)
    return torch.as_tensor(images).reshape(-1, 1, size, size).float() / 255, targets


def _known(what: str, value: str, allowed) -> None:
    if value not in allowed:
        raise ValueError(f"There is no {what} {value!r}; choose one of {', '.join(allowed)}.")

"""Seeding the weights of a model, shaking and counting them, and finding the width at which two models have equally many."""

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import nn


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Inside, torch draws from `seed`; afterwards its global generator is as it was.

    Layers draw their first weights from the global generator: `with seeded(0): model = UNet(1)` fixes them.
    """
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        yield


@torch.no_grad()
def shake(model: nn.Module, size: float = 1e-7) -> None:
    """Changes every weight by about its last digit: the cheapest stand-in for another processor, which adds in another order.

    The environment variable `FACELAB_SHAKE`, a whole number that is its seed, asks for it; without it nothing happens. Every training
    calls it before its first step; what does not survive it is chance.
    """
    if not os.environ.get("FACELAB_SHAKE"):
        return
    generator = torch.Generator().manual_seed(int(os.environ["FACELAB_SHAKE"]))
    for parameter in model.parameters():
        parameter.mul_(1 + size * torch.randn(parameter.shape, generator=generator).to(parameter))


def count_parameters(model: nn.Module) -> int:
    """Number of trainable scalars."""
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)


def matched_width(build: Callable[[int], nn.Module], target: int, widths: Iterable[int] = range(1, 129)) -> int:
    """The width at which `build(width)` comes closest to `target` parameters, for comparisons at equal size.

    Args:
        build: makes the model of a given width (on the meta device: nothing is allocated).
        target: number of parameters to match.
        widths: candidates.
    """
    with torch.device("meta"):
        return min(widths, key=lambda width: abs(count_parameters(build(width)) - target))

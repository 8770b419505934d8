"""How well a network does on each sample, higher is better: what importance is measured in.

A score is any function `(outputs, targets) -> (B,)`; the score of a network is its mean over all samples. Criteria with gradients
need one that can be differentiated; `accuracy` cannot.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

Score = Callable[[Tensor, Tensor], Tensor]
Loader = Iterable[tuple[Tensor, Tensor]]


def accuracy(outputs: Float[Tensor, "B classes"], targets: Int[Tensor, " B"]) -> Float[Tensor, " B"]:
    """1 where the highest output is the true class, else 0."""
    return (outputs.argmax(dim=1) == targets).to(outputs.dtype)


def log_likelihood(outputs: Float[Tensor, "B classes"], targets: Int[Tensor, " B"]) -> Float[Tensor, " B"]:
    """Logarithm of the probability of the true class, nats; minus the cross entropy."""
    return -F.cross_entropy(outputs, targets, reduction="none")


def negative_squared_error(outputs: Float[Tensor, "B *shape"], targets: Float[Tensor, "B *shape"]) -> Float[Tensor, " B"]:
    """Minus the squared error, averaged over the outputs of a sample; in squared units of the targets."""
    return -(outputs - targets).square().flatten(1).mean(dim=1)


def negative_distance(outputs: Float[Tensor, "B K d"], targets: Float[Tensor, "B K d"]) -> Float[Tensor, " B"]:
    """Minus the mean distance of the predicted points from the true ones, in the unit of the targets (pixels)."""
    return -(outputs - targets).norm(dim=-1).mean(dim=-1)


SCORES: dict[str, Score] = {f.__name__: f for f in (accuracy, log_likelihood, negative_squared_error, negative_distance)}
UNITS = {
    "accuracy": "share",
    "log_likelihood": "nats",
    "negative_squared_error": "squared target units",
    "negative_distance": "target units",
}


def unit_of(score: Score) -> str:
    """Unit of a score, "score" for one that is not ours."""
    return UNITS.get(getattr(score, "__name__", ""), "score")


@contextmanager
def evaluating(model: nn.Module) -> Iterator[nn.Module]:
    """Inside, the model is in evaluation mode and no module works in place, as hooks would see overwritten values.

    Afterwards each module is as it was, and so is which parameters take gradients.
    """
    modes = [(module, module.training) for module in model.modules()]
    in_place = [module for module in model.modules() if getattr(module, "inplace", False) is True]
    takes = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
    model.eval()
    for module in in_place:
        module.inplace = False  # type: ignore[assignment]
    try:
        yield model
    finally:
        for module, mode in modes:
            module.training = mode
        for module in in_place:
            module.inplace = True  # type: ignore[assignment]
        for parameter, wanted in takes:
            parameter.requires_grad_(wanted)


def evaluate(model: nn.Module, loader: Loader, score: Score) -> Float[Tensor, " N"]:
    """The score of every sample of the loader, without gradients.

    Raises:
        ValueError: an empty loader, or a score that is not one number per sample.
    """
    with evaluating(model), torch.no_grad():
        parts = [one_per_sample(score(model(inputs), targets), inputs) for inputs, targets in loader]
    if not parts:
        raise ValueError("The loader gives no batch; importance needs at least one (a generator can be walked through only once).")
    return torch.cat(parts)


def one_per_sample(values: Tensor, inputs: Tensor) -> Float[Tensor, " B"]:
    """`values`, if they are one number per sample.

    Raises:
        ValueError: another shape.
    """
    if values.shape != (len(inputs),):
        shape = tuple(values.shape)
        raise ValueError(f"The score has shape {shape} for {len(inputs)} samples; it must be one number per sample, ({len(inputs)},).")
    return values

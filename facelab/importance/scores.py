"""How well a network does on each sample, higher is better: what importance is measured in.

A score is any function `(outputs, targets) -> (B,)`; the score of a network is its mean over all samples. Criteria with gradients
need one that can be differentiated; `accuracy` cannot.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from facelab.networks.evaluation import answers, in_evaluation_mode, same_answers

Score = Callable[[Tensor, Tensor], Tensor]
Loader = Iterable[tuple[Tensor, Tensor]]


def accuracy(outputs: Float[Tensor, "B ..."], targets: Shaped[Tensor, "B ..."]) -> Float[Tensor, " B"]:
    """1 where the highest output is the true class, else 0.

    Raises:
        ValueError: outputs that are not a column per class, or other than one class per sample.
    """
    _require_classes(outputs)
    if targets.shape != outputs.argmax(dim=1).shape:
        raise ValueError(f"Targets of shape {tuple(targets.shape)} for outputs of {tuple(outputs.shape)}; give one class for each sample.")
    return (outputs.argmax(dim=1) == targets).to(outputs.dtype)


def log_likelihood(outputs: Float[Tensor, "B ..."], targets: Shaped[Tensor, "B ..."]) -> Float[Tensor, " B"]:
    """Logarithm of the probability of the true class, nats; minus the cross entropy.

    Raises:
        ValueError: outputs that are not a column per class.
    """
    _require_classes(outputs)
    return -F.cross_entropy(outputs, targets, reduction="none")


def negative_squared_error(outputs: Float[Tensor, "B ..."], targets: Float[Tensor, "B ..."]) -> Float[Tensor, " B"]:
    """Minus the squared error, averaged over the outputs of a sample; in squared units of the targets.

    Raises:
        ValueError: outputs and targets of different shapes.
    """
    _require_same_shape(outputs, targets)
    return -(outputs - targets).square().reshape(len(outputs), -1).mean(dim=1)


def negative_distance(outputs: Float[Tensor, "B K d"], targets: Float[Tensor, "B ..."]) -> Float[Tensor, " B"]:
    """Minus the mean distance of the predicted points from the true ones, in the unit of the targets (pixels).

    Raises:
        ValueError: outputs and targets of different shapes.
    """
    _require_same_shape(outputs, targets)
    return -(outputs - targets).norm(dim=-1).mean(dim=-1)


def _require_classes(outputs: Tensor) -> None:
    if outputs.ndim < 2 or outputs.shape[1] < 2:
        advice = "a network with one logit z needs [0, z] or a score of its own"
        raise ValueError(f"Outputs of shape {tuple(outputs.shape)} are no classes; they must be (samples, at least 2 classes): {advice}.")


def _require_same_shape(outputs: Tensor, targets: Tensor) -> None:
    if outputs.shape != targets.shape:
        shapes = f"Outputs of shape {tuple(outputs.shape)} and targets of {tuple(targets.shape)}"
        raise ValueError(f"{shapes} differ, and broadcasting would compare samples with each other; reshape one of them.")


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


def evaluate(model: nn.Module, loader: Loader, score: Score) -> Float[Tensor, " N"]:
    """The score of every sample of the loader, without gradients.

    Raises:
        ValueError: an empty loader, a model that answers differently each time, or a score that is not one number per sample.
    """
    parts = []
    with in_evaluation_mode(model), torch.no_grad():
        for number, (inputs, targets) in enumerate(pairs(loader)):
            if number == 0:
                answers(model, inputs)
            parts.append(scored(score, model(inputs.clone()), targets, inputs))  # which may work in place
    if not parts:
        raise ValueError("The loader gives no batch; importance needs at least one (a generator can be walked through only once).")
    return torch.cat(parts)


def pairs(loader: Loader) -> Iterator[tuple[Tensor, Tensor]]:
    """The batches of a loader.

    Raises:
        TypeError: one that is no pair of tensors.
    """
    for batch in loader:
        if not isinstance(batch, tuple | list) or len(batch) != 2 or not all(isinstance(part, Tensor) for part in batch):
            what = f"{len(batch)} things" if isinstance(batch, tuple | list) and len(batch) != 2 else type(batch).__name__
            raise TypeError(f"The loader gives batches that are no pair of tensors ({what}); give (inputs, targets).")
        yield batch[0], batch[1]


def scored(score: Score, outputs: Any, targets: Tensor, inputs: Tensor) -> Float[Tensor, " B"]:
    """The score of every sample, if it is one number for each and looks at that sample only.

    Raises:
        ValueError: another shape, or other numbers when some samples are scored alone; no tensor for a score of this module.
    """
    if score in SCORES.values() and not isinstance(outputs, Tensor):
        raise ValueError(f"The model gives a {type(outputs).__name__}; give a score of your own, which takes from it what it needs.")
    values = one_per_sample(score(outputs, targets), inputs)
    few = min(2, len(inputs) - 1)
    if few and isinstance(outputs, Tensor) and len(outputs) == len(targets) == len(inputs):
        alone = score(outputs[:few].detach(), targets[:few])
        if alone.shape != (few,) or not same_answers([values[:few].detach()], [alone]):
            shapes = f"outputs {tuple(outputs.shape)}, targets {tuple(targets.shape)}"
            name = getattr(score, "__name__", type(score).__name__)
            raise ValueError(f"The score {name} mixes samples ({shapes}); it must look at each sample alone, without broadcasting.")
    return values


def one_per_sample(values: Tensor, inputs: Tensor) -> Float[Tensor, " B"]:
    """`values`, if they are one number per sample.

    Raises:
        ValueError: another shape.
    """
    if values.shape != (len(inputs),):
        shape = tuple(values.shape)
        raise ValueError(f"The score has shape {shape} for {len(inputs)} samples; it must be one number per sample, ({len(inputs)},).")
    return values

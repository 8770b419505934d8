"""Who is owed an answer, for inputs of any kind: a figure for each column, place, token or field of an image."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int64, Shaped
from torch import Tensor, nn

from facelab.explorers.subject import NINTHS
from facelab.importance.attribution import attribute
from facelab.importance.attribution.targets import Target
from facelab.networks.evaluation import copied
from facelab.report.given import Given
from facelab.report.part import cause

CHOSEN, OUTPUTS = 6, 4
"""Samples and outputs that are explained."""
FEATURES = 96
"""Features of a sample at most."""
METHODS = ("integrated gradients", "input x gradient", "part ablation")


class BehindEmbedding(nn.Module):
    """A network from its embedding on: it takes (B, T, D) of numbers in the place of tokens (B, T), so that gradients have a path."""

    def __init__(self, model: nn.Module, tokens: Shaped[Tensor, "B T"]):
        """Find the embedding.

        Raises:
            ValueError: not exactly one embedding reads the tokens, or the network looks at the tokens elsewhere too.
        """
        super().__init__()
        self.model = copied(model).eval()
        found = [module for module in self.model.modules() if isinstance(module, nn.Embedding)]
        if len(found) != 1:
            raise ValueError(f"The network has {len(found)} embeddings; gradients of tokens need exactly one.")
        self.embedding = found[0]
        self.tokens = tokens[:1].clone()
        with torch.no_grad():
            if not torch.allclose(self(self.embedding(tokens)), self.model(tokens), rtol=1e-4, atol=1e-5):
                raise ValueError("The network looks at its tokens beside the embedding too; gradients of tokens would miss that.")

    def forward(self, embedded):
        """The network's outputs of embedded tokens."""
        hook = self.embedding.register_forward_hook(lambda module, arguments, output: embedded)
        try:
            return self.model(self.tokens.expand(len(embedded), -1))
        finally:
            hook.remove()


def chosen_samples(given: Given) -> tuple[Tensor, Tensor, list[str]]:
    """Samples of one shape: those that the network does worst and best on, their targets, and a name for each."""
    with torch.no_grad():
        shape = given.inputs.shape[1:]
        alike = [batch for batch in given.evaluation if batch[0].shape[1:] == shape]
        inputs, targets = (torch.cat(parts) for parts in zip(*alike, strict=True))
        scores = torch.cat([given.differentiable(given.model(x.clone()), y) for x, y in alike]).double()
    order = scores.argsort(stable=True).tolist()
    half = min(CHOSEN, len(order)) // 2
    picked = order[:half] + order[len(order) - (min(CHOSEN, len(order)) - half) :]
    names = [f"{place} (score {scores[place]:.3g})" for place in picked]
    return inputs[picked], targets[picked], names


def outputs_of(outputs: Tensor, targets: Tensor) -> dict[str, Target]:
    """What can be explained: each of the first columns, or the mean over places of each channel; of one number, itself."""
    what = "number" if targets.is_floating_point() else "class"
    if outputs.ndim == 1:
        return {"the only one": lambda found: found}
    if outputs.ndim == 2:
        often = outputs.argmax(dim=1).mode().values.item()
        columns = sorted(range(outputs.shape[1]), key=lambda column: (column >= OUTPUTS, column))[:OUTPUTS]
        if often not in columns:
            columns[-1] = often
        return {f"{what} {column}": column for column in columns}

    def mean_of(channel: int) -> Callable[[Tensor], Tensor]:
        return lambda found: found[:, channel].flatten(1).mean(dim=1) if found.ndim > 2 else found[:, channel]

    return {f"mean of {what} {channel}": mean_of(channel) for channel in range(min(OUTPUTS, outputs.shape[1]))}


def fields_of(given: Given, sample: Shaped[Tensor, "..."]) -> tuple[Int64[Tensor, "..."], list[str]]:
    """Which feature each number of a sample belongs to, and what the features are called.

    Channels belong together. Of an image, a ninth is a feature; of anything else a column, place or token, or several neighbours where
    there are more than `FEATURES`.

    Args:
        sample: one sample, without the axis of samples.
    """
    axis = given.channels_axis
    shape = [1 if place == axis else side for place, side in enumerate(sample.shape, start=1)]
    if given.kind == "images":
        rows, columns = (torch.arange(side) * 3 // side for place, side in enumerate(shape, start=1) if place != axis)
        return (rows[:, None] * 3 + columns).view(shape), list(NINTHS)
    count = int(np.prod(shape))
    fields = torch.arange(count) * min(count, FEATURES) // count
    if given.kind == "table" and len(given.columns) == count <= FEATURES:
        return fields.view(shape), list(given.columns)
    what = {"table": "column", "sequence": "place"}.get(given.kind, "number")
    ends = [(int(found[0]), int(found[-1])) for found in (torch.where(fields == k)[0] for k in range(int(fields.max()) + 1))]
    names = [f"{what} {low}" if low == high else f"{what}s {low} to {high}" for low, high in ends]
    if given.kind == "tokens" and count <= FEATURES:
        names = [f"{place}: token {int(token)}" for place, token in enumerate(sample)]
    return fields.view(shape), names


def credits(given: Given) -> tuple[pd.DataFrame, list[str]]:
    """Credit of each feature of the chosen samples for each output by each method.

    Returns:
        a row per sample, output, method and feature, with the feature's value, its credit, and a note about the sample; and a sentence
        for each method that does not apply.
    """
    inputs, targets, names = chosen_samples(given)
    with torch.no_grad():
        found = given.model(inputs.clone())
    rows: list[dict[str, Any]] = []
    refused: list[str] = []
    values = _by_feature(given, inputs.double()) / _by_feature(given, torch.ones_like(inputs, dtype=torch.double))
    for method in METHODS:
        try:
            credit = {name: _credit(given, inputs, target, method) for name, target in outputs_of(found, targets).items()}
        except Exception as error:  # of any kind, for the network is any network
            refused.append(f"{method.capitalize()} does not apply. {cause(error)}")
            continue
        for output, of_samples in credit.items():
            for sample, name in enumerate(names):
                note = f"Target {_short(targets[sample])}, answer {_short(found[sample])}."
                _, features = fields_of(given, inputs[sample])
                rows += [
                    {"sample": name, "output": output, "method": method, "feature": feature, "value": float(value), "credit": float(own)}
                    | {"note": note}
                    for feature, value, own in zip(features, values[sample], of_samples[sample], strict=True)
                ]
    if not rows:
        raise ValueError(" ".join(refused))
    return pd.DataFrame(rows), refused


def _credit(given: Given, inputs: Tensor, target: Target, method: str) -> Float[Tensor, "B F"]:
    if method == "part ablation":
        fields, _ = fields_of(given, inputs[0])
        found = attribute(given.model, inputs, target, method, mask=fields[None], baseline=_absent(given, inputs))
        return _by_feature(given, found.values)
    if inputs.is_floating_point():
        baseline = _absent(given, inputs) if method == "integrated gradients" else None
        found = attribute(given.model, inputs, target, method, baseline=baseline)
        return _by_feature(given, found.values)
    if given.kind != "tokens":
        raise ValueError(f"Inputs of {inputs.dtype} have no gradient.")
    behind = BehindEmbedding(given.model, inputs)
    with torch.no_grad():
        embedded = behind.embedding(inputs)
    return attribute(behind, embedded, target, method).values.sum(dim=-1)


def _absent(given: Given, inputs: Tensor) -> Tensor | float:
    """What stands for "absent": the mean of the training inputs of that shape; token 0; zero where there is no such mean."""
    alike = [x for x, _ in given.training if x.shape[1:] == inputs.shape[1:]]
    return torch.cat(alike).mean(dim=0, keepdim=True) if inputs.is_floating_point() and alike else 0.0


def _by_feature(given: Given, values: Tensor) -> Float[Tensor, "B F"]:
    fields, names = fields_of(given, given.inputs[0])
    own = fields.expand(values.shape[1:]).flatten()
    return torch.zeros(len(values), len(names), dtype=values.dtype).index_add(1, own, values.flatten(1))


def _short(values: Tensor) -> str:
    """A target or an answer in a few characters."""
    figures = values.detach().flatten()[:4].tolist()
    text = ", ".join(f"{figure:.3g}" if isinstance(figure, float) else str(figure) for figure in figures)
    return text + (", …" if values.numel() > 4 else "")

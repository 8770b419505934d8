"""What a report is about: a network as it can be measured, a few samples that stay the same, and what was done to get there."""

import copy
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import pandas as pd
from torch import Tensor, nn
from torch.nn.utils import parametrize, prune, remove_spectral_norm, remove_weight_norm

from facelab.importance.attribution.targets import channels_of_inputs
from facelab.importance.scores import Loader, Score, evaluate, unit_of
from facelab.networks.folding import NORMS, folded
from facelab.networks.layers import Layer, layers, overlooked
from facelab.report.part import Part, cause
from facelab.yours import Data, DoesNotFit, fit_together, load_data, load_network

Batches = list[tuple[Tensor, Tensor]]
ROWS = 64
"""Samples of a batch at most."""
OLDER = {"weight_g": remove_weight_norm, "weight_mask": prune.remove, "weight_u": remove_spectral_norm}
"""A tensor by which torch's older ways to make a weight are known, and what makes it a plain one again."""


@dataclass(frozen=True)
class Given:
    """A network and its data, checked.

    Attributes:
        name: of the network.
        model: a copy in evaluation mode, with plain weights and, where that is possible, without batch norms.
        training, evaluation: the first samples, which stay the same in each walk.
        reported, differentiable: scores, (outputs, targets) -> (B,), higher is better; layers are measured by the second.
        kind: of the inputs: "images", "table", "sequence", "tokens" or "numbers".
        layers: those that can be disturbed one by one; none where they cannot be told apart.
        notes: sentences about what was done to the network, and what was left out.
        columns: names of the inputs of a table; they are numbered where none are given.
        seed: of what is random.
        thorough: disturb in more ways, more often.
    """

    name: str
    model: nn.Module
    training: Batches
    evaluation: Batches
    reported: Score
    differentiable: Score
    kind: str
    layers: tuple[Layer, ...]
    notes: tuple[str, ...]
    columns: tuple[str, ...] = ()
    seed: int = 0
    thorough: bool = False
    separate: bool = field(default=True, kw_only=True)

    @property
    def inputs(self) -> Tensor:
        """The inputs of the first batch for evaluation."""
        return self.evaluation[0][0]

    @cached_property
    def channels_axis(self) -> int:
        """The axis of the inputs that counts channels, whose credits are added up; 0 where there is none or it cannot be told."""
        try:
            return channels_of_inputs(self.model, self.inputs) if self.inputs.ndim > 2 else 0
        except ValueError:
            return 0

    @property
    def unit(self) -> str:
        """Of the score that layers are measured by."""
        return unit_of(self.differentiable)

    @property
    def count(self) -> int:
        """Samples for evaluation."""
        return sum(len(inputs) for inputs, _ in self.evaluation)


def of_files(model: str, data: str, *, samples: int = 200, columns: Sequence[str] = (), seed: int = 0, thorough: bool = False) -> Given:
    """What two functions in files of the user give, checked.

    Args:
        model: "path/to/file.py:function" that builds the network.
        data: of the function that gives the loaders; see `facelab.yours`.
        samples: how many of each loader to use, the first ones.
        columns: names of the inputs of a table.
        seed: of what is random.
        thorough: disturb layers in more ways, more often.

    Raises:
        DoesNotFit: the network, the loaders or the score cannot be used; the message says why in one sentence.
    """
    if not model or not data:
        raise DoesNotFit(f'model="{model}" and data="{data}" must both be given, as path/to/file.py:function, or neither of them.')
    return of_network(load_network(model), load_data(data), samples=samples, columns=columns, seed=seed, thorough=thorough)


def of_network(
    model: nn.Module, data: Data, *, samples: int = 200, columns: Sequence[str] = (), seed: int = 0, thorough: bool = False
) -> Given:
    """The same of a network and data that are there already; arguments as for `of_files`.

    Raises:
        DoesNotFit: as `facelab.yours.fit_together`; or fewer than two samples.
    """
    reported, differentiable = fit_together(model, data)
    training, evaluation = first(data.training, samples), first(data.evaluation, samples)
    if sum(len(inputs) for inputs, _ in evaluation) < 2:
        raise DoesNotFit("There is one sample to evaluate on, so that no interval can be given; give at least two.")
    notes: list[str] = []
    ready = _plain(copy.deepcopy(model).eval(), notes)
    ready = _folded(ready, evaluation[0][0][:2], notes)
    try:
        found = tuple(layers(ready, evaluation[0][0][:2]))
    except Exception as error:  # of any kind, for the network is any network
        found = ()
        notes.append(f"No layer can be disturbed alone. {cause(error)}")
    if left := overlooked(ready, list(found)):
        some = ", ".join(left[:4]) + (" and others" if len(left) > 4 else "")
        notes.append(f"Weights of attention, embeddings, recurrent or self-made modules stay as they are ({some}).")
    if not data.separate:
        notes.append("There is one loader, so that criteria see the samples on which the truth is measured.")
    kind = kind_of(evaluation[0][0])
    return Given(
        type(model).__name__, ready, training, evaluation, reported, differentiable, kind, found, tuple(notes), tuple(columns), seed,
        thorough, separate=data.separate,
    )  # fmt: skip


def first(loader: Loader, samples: int) -> Batches:
    """The first samples of a loader in batches of at most `ROWS`, detached from it, so that they are the same in each walk."""
    kept: Batches = []
    left = samples
    for inputs, targets in loader:
        for few, truth in zip(inputs.split(ROWS), targets.split(ROWS), strict=True):
            if left > 0:
                kept.append((few[:left].detach().clone(), truth[:left].detach().clone()))
                left -= len(few)
        if left <= 0:
            break
    return kept


def kind_of(inputs: Tensor) -> str:
    """What inputs are, by their shape and type."""
    if not inputs.is_floating_point():
        return "tokens" if inputs.ndim == 2 else "images" if inputs.ndim == 4 else "numbers"
    return {2: "table", 3: "sequence", 4: "images"}.get(inputs.ndim, "numbers")


def _plain(model: nn.Module, notes: list[str]) -> nn.Module:
    """The network with weights of its own where they are made of other tensors: by weight norm, spectral norm and their like."""
    written = []
    for name, module in model.named_modules():
        if parametrize.is_parametrized(module):
            for tensor in list(module.parametrizations):  # type: ignore[arg-type]
                parametrize.remove_parametrizations(module, tensor)  # which keeps the value
            written.append(name)
        elif remove := next((how for sign, how in OLDER.items() if sign in {**module._parameters, **module._buffers}), None):
            remove(module, "weight")
            written.append(name)
    if written:
        some = ", ".join(written[:3]) + (" and others" if len(written) > 3 else "")
        notes.append(f"The weights of {some} were made of other tensors and are plain ones here, so that they can be disturbed.")
    return model


def _folded(model: nn.Module, example: Tensor, notes: list[str]) -> nn.Module:
    if not any(isinstance(module, NORMS) for module in model.modules()):
        return model
    try:
        ready = folded(model, example)
    except Exception as error:
        notes.append(f"Batch norms stay where they are. {cause(error)}")
        return model
    notes.append("Batch norms are part of the layers before them here, so that a weight means the same in each layer.")
    return ready


APPLY: dict[str, str] = {
    "images": "maps on the image",
    "table": "bars, a column each",
    "sequence": "bars, a place each",
    "tokens": "bars, a token each",
    "numbers": "bars, a number each",
}


def check(given: Given) -> Part:
    """What was given, in a table: shapes, scores, and which parts of the report apply."""
    outputs = given.model(given.inputs[:2])
    shape = tuple(given.inputs.shape[1:])
    score = float(evaluate(given.model, given.evaluation, given.reported).mean())
    say = {
        "network": f"{given.name}, {sum(p.numel() for p in given.model.parameters()):,} parameters",
        "inputs": f"{given.kind}, {shape if shape else 'one number'} of {given.inputs.dtype}".replace("torch.", ""),
        "outputs": str(tuple(outputs.shape[1:])) if outputs.ndim > 1 else "one number",
        "samples": f"{sum(len(x) for x, _ in given.training)} for criteria, {given.count} for measuring",
        "score": f"{score:.4g} {unit_of(given.reported)} ({getattr(given.reported, '__name__', 'score')})",
        "layers are measured by": f"{getattr(given.differentiable, '__name__', 'score')}, {given.unit}",
        "attributions": APPLY[given.kind],
        "layers": ", ".join(layer.name for layer in given.layers[:6]) + (" …" if len(given.layers) > 6 else "") or "none",
    }
    table = pd.DataFrame([{"what": what, "is": value} for what, value in say.items()])
    sentences = (f"{given.name} answers all samples with finite numbers, and the score fits.", *given.notes)
    return Part("check", "What was given", sentences, table)

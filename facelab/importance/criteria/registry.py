"""Criteria of importance for layers, channels and neurons of any network, as one table; higher is always more important.

They are cheap guesses, from training data, of how much the score falls when a part is disturbed or removed. `sensitivity` measures it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import pandas as pd
import torch
from torch import Tensor, nn

from facelab.importance.criteria.evidence import Evidence, per_channel
from facelab.importance.scores import Loader, Score, log_likelihood, pairs, unit_of
from facelab.importance.tables import CRITERIA_COLUMNS, KINDS, provenance
from facelab.networks.evaluation import evaluating, require_precision
from facelab.networks.layers import Layer, channel_axis


@dataclass(frozen=True)
class Criterion:
    """One criterion.

    Attributes:
        what: in words.
        unit: "score" stands for the unit of the score.
        layer: (evidence, layer) -> number; None if it is not defined for layers.
        channel: (evidence, layer) -> (channels,).
        neuron: (evidence, layer) -> values in the shape of the layer's output for one sample.
    """

    what: str
    unit: str
    layer: Callable[[Evidence, Layer], float | Tensor] | None = None
    channel: Callable[[Evidence, Layer], Tensor] | None = None
    neuron: Callable[[Evidence, Layer], Tensor] | None = None


def _by_channel(e: Evidence, layer: Layer, values: Tensor) -> Tensor:
    """Values in the shape of the weight, added up for each output channel; a grouped transposed convolution has several blocks of them."""
    module = e.modules[layer.name]
    axis = channel_axis(module)
    if axis == 0:
        return values.flatten(1).sum(dim=1)
    blocks = values.unflatten(0, (module.groups, -1))  # type: ignore[arg-type]
    return blocks.movedim(2, 1).flatten(2).sum(dim=2).flatten()


def _matrix(e: Evidence, layer: Layer) -> Tensor:
    return e.weights[layer.name].detach().movedim(channel_axis(e.modules[layer.name]), 0).flatten(1)


def _variance(e: Evidence, layer: Layer) -> Tensor:
    return e.weights[layer.name].detach().var(correction=0)


def _products(e: Evidence, layer: Layer) -> Tensor:
    return e.weights[layer.name].detach() * e.gradients[layer.name]


def _conductance_of_channels(e: Evidence, layer: Layer) -> Tensor:
    return per_channel(e.modules[layer.name], e.conductance[layer.name][1][None])[0]


CRITERIA: dict[str, Criterion] = {
    "depth": Criterion(
        "early layers first: minus the position",
        "layers",
        layer=lambda e, l: -float(l.depth),
        channel=lambda e, l: torch.full((l.channels,), -float(l.depth)),
    ),
    "size": Criterion(
        "small layers first: minus the number of parameters",
        "parameters",
        layer=lambda e, l: -float(l.parameters),
        channel=lambda e, l: torch.full((l.channels,), -l.parameters / l.channels),
    ),
    "mean magnitude": Criterion("mean |w|", "weight", layer=lambda e, l: e.weights[l.name].abs().mean()),
    "magnitude": Criterion(
        "norm of the weights",
        "weight",
        layer=lambda e, l: e.weights[l.name].norm(),
        channel=lambda e, l: _by_channel(e, l, e.weights[l.name].detach().square()).sqrt(),
    ),
    "spectral norm": Criterion(
        "largest singular value of the weights as a matrix of channels",
        "weight",
        layer=lambda e, l: torch.linalg.matrix_norm(_matrix(e, l), ord=2),
    ),
    "mean gradient": Criterion(
        "mean |g|, g the gradient of the mean score", "score/weight", layer=lambda e, l: e.gradients[l.name].abs().mean()
    ),
    "gradient": Criterion(
        "norm of the gradient of the mean score; of a neuron, mean |gradient| at its output",
        "score/weight",
        layer=lambda e, l: e.gradients[l.name].norm(),
        channel=lambda e, l: _by_channel(e, l, e.gradients[l.name].square()).sqrt(),
        neuron=lambda e, l: e.units[l.name]["gradient"],
    ),
    "norm product": Criterion("|W| |G|, both norms", "score", layer=lambda e, l: e.weights[l.name].norm() * e.gradients[l.name].norm()),
    "taylor": Criterion(
        "sum of |w g|; of a channel or neuron, mean over samples of |activation x its gradient|, summed over the channel's places first",
        "score",
        layer=lambda e, l: _products(e, l).abs().sum(),
        channel=lambda e, l: e.units[l.name]["gate"],
        neuron=lambda e, l: e.units[l.name]["product"],
    ),
    "fisher": Criterion(
        "variance of the weights x sum of mean squared gradients of single samples; of a channel or neuron, half the mean of "
        "(activation x gradient) squared",
        "score^2",
        layer=lambda e, l: _variance(e, l) * e.squared_gradients[l.name].sum(),
        channel=lambda e, l: e.units[l.name]["gate square"] / 2,
        neuron=lambda e, l: e.units[l.name]["square"] / 2,
    ),
    "hessian diagonal": Criterion(
        "variance of the weights x trace of the Hessian of minus the score; of a channel, half the sum of w^2 x its diagonal",
        "score",
        layer=lambda e, l: _variance(e, l) * e.curvature[l.name].sum(),
        channel=lambda e, l: _by_channel(e, l, e.weights[l.name].detach().square() * e.curvature[l.name]) / 2,
    ),
    "activation": Criterion(
        "mean |activation|",
        "activation",
        layer=lambda e, l: e.units[l.name]["activation"].mean(),
        channel=lambda e, l: per_channel(e.modules[l.name], e.units[l.name]["activation"][None])[0] * l.channels
        / e.units[l.name]["activation"].numel(),
        neuron=lambda e, l: e.units[l.name]["activation"],
    ),
    "integrated gradients": Criterion(
        "sum of |w x integral of g| as the layer's weights grow from 0; of a channel, its part of the fall if the layer's output goes to 0",
        "score",
        layer=lambda e, l: (e.weights[l.name].detach() * e.weight_paths[l.name][0]).abs().sum(),
        channel=lambda e, l: e.gate_paths[l.name],
    ),
    "singe": Criterion(
        "integral of |a W| |g at a W| for a from 0 to 1, norms of whole layers", "score", layer=lambda e, l: e.weight_paths[l.name][1]
    ),
    "conductance": Criterion(
        "mean over samples of the units' |conductance| from a zero input, added up",
        "score",
        layer=lambda e, l: e.conductance[l.name][1].sum(),
        channel=_conductance_of_channels,
        neuron=lambda e, l: e.conductance[l.name][1],
    ),
    "probe": Criterion(
        "mean change of the output under a small noise on the weights; no label", "output", layer=lambda e, l: e.probe[l.name]
    ),
}  # fmt: skip
"""Every criterion by its name."""


def criteria(
    model: nn.Module,
    loader: Loader,
    score: Score = log_likelihood,
    *,
    kinds: Sequence[str] = ("layer", "channel"),
    names: Sequence[str] | None = None,
    samples: int = 200,
    steps: int = 8,
    seed: int = 0,
    network: str = "",
) -> pd.DataFrame:
    """All criteria of a network, a row per figure.

    Args:
        model: given back as it was, weights bitwise. Batch norms are best folded before (`networks.folded`).
        loader: of (inputs, targets); data that sensitivity is not measured on.
        score: differentiable, (outputs, targets) -> (B,), higher is better.
        kinds: of "layer", "channel" and "neuron"; a neuron is one unit of a layer's output, numbered through its shape in row order.
        names: of `CRITERIA`; all by default, without conductance for inputs that are whole numbers.
        samples: how many of the loader to use, the first ones.
        steps: nodes of the path integrals.
        seed: of random signs and noise.
        network: its name in the table; the name of its class if not given.

    Returns:
        columns `tables.CRITERIA_COLUMNS`; `attrs` say how it came about.

    Raises:
        ValueError: unknown kind or criterion, an empty loader, no layer, a score without gradient, or a figure that is not finite.
    """
    wrong = [f"kind {kind!r}" for kind in kinds if kind not in KINDS] + [f"criterion {n!r}" for n in names or () if n not in CRITERIA]
    if wrong:
        raise ValueError(f"There is no {wrong[0]}; kinds are {KINDS}, criteria {tuple(CRITERIA)}.")
    inputs, targets = first_samples(loader, samples)
    if not inputs.is_floating_point():  # its path starts at an input of zeros and takes fractions on its way
        if names and "conductance" in names:
            raise ValueError(f"The criterion 'conductance' needs inputs that can be scaled; these hold {inputs.dtype}; leave it out.")
        names = [name for name in names or CRITERIA if name != "conductance"]
    network = network or type(model).__name__
    unit = unit_of(score)
    rows = []
    require_precision(model)
    with evaluating(model, inputs):
        evidence = Evidence(model, inputs, targets, score, steps, seed)
        for name in names or CRITERIA:
            for kind in kinds:
                measure = getattr(CRITERIA[name], kind)
                if measure is None:
                    continue
                for layer in evidence.layers:
                    with torch.enable_grad():
                        values = torch.as_tensor(measure(evidence, layer)).detach().flatten()
                    if not values.isfinite().all():
                        raise ValueError(f"The criterion {name!r} of {layer.name} is not finite; look for NaN in weights, inputs or score.")
                    text = "x".join(map(str, layer.output)) if kind == "neuron" else layer.shape_text
                    about = (
                        network,
                        kind,
                        layer.name,
                        text,
                        layer.parameters,
                        layer.depth,
                        name,
                        CRITERIA[name].unit.replace("score", unit),
                    )
                    rows += [(*about, -1 if kind == "layer" else c, value) for c, value in enumerate(values.tolist())]
    columns = ["network", "kind", "layer", "shape", "parameters", "depth", "criterion", "unit", "channel", "value"]
    frame = pd.DataFrame(rows, columns=columns).assign(samples=len(inputs))[list(CRITERIA_COLUMNS)]
    frame.attrs = provenance(score, network=network, seed=seed, samples=len(inputs), steps=steps)
    return frame


def first_samples(loader: Loader, samples: int) -> tuple[Tensor, Tensor]:
    """The first samples of a loader, or all if it has fewer: (inputs, targets).

    Raises:
        ValueError: it has none.
    """
    inputs: list[Tensor] = []
    targets: list[Tensor] = []
    for batch, truth in pairs(loader):
        inputs.append(batch)
        targets.append(truth)
        if sum(map(len, inputs)) >= samples:
            break
    if not inputs or samples < 1:
        raise ValueError(f"{samples} samples of this loader are none; give a loader that is not empty and samples of at least 1.")
    return torch.cat(inputs)[:samples], torch.cat(targets)[:samples]

"""The methods of the bench under one signature: a network, its data and a strength go in, a smaller network and a report come out."""

from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import islice

import pandas as pd
import torch
from torch import Tensor, nn

from facelab.importance.scores import Loader, Score

SCORED = 200
"""Samples on which importance is measured."""
MANY = 300
"""Channels beyond which SInGE walks one path for a whole layer: a path for each neuron takes a pass for each and each step of it."""


@dataclass(frozen=True)
class Job:
    """What a method is given.

    Attributes:
        model: stays as it is.
        training: (inputs, targets) to fine-tune with, and, the first of them, to measure importance on; data-free methods look at none.
        score: differentiable, (outputs, targets) -> (B,), higher is better; the loss is minus its mean.
        strength: as the method means it.
        steps: of fine-tuning, the same for all that are fine-tuned.
        seed: of what is random.
    """

    model: nn.Module
    training: Loader
    score: Score
    strength: float
    steps: int = 150
    seed: int = 0

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Minus the mean score."""
        return -self.score(outputs, targets).mean()

    @property
    def example(self) -> Tensor:
        """Two inputs, which say of what shape they are."""
        return next(iter(self.training))[0][:2]

    @property
    def samples(self) -> tuple[Tensor, Tensor]:
        """The first inputs and targets, at most `SCORED`."""
        inputs, targets = zip(*islice(self.training, SCORED), strict=True)
        return torch.cat(inputs)[:SCORED], torch.cat(targets)[:SCORED]

    def fine_tuned(self, small: nn.Module) -> nn.Module:
        """A smaller network, which is changed, after the steps of the job; its batch norms are folded."""
        from facelab.networks.folding import folded
        from facelab.networks.tuning import FineTuning

        return folded(FineTuning(small, self.training, self.loss, self.steps).run_to(self.steps), self.example)


Compress = Callable[[Job], tuple[nn.Module, pd.DataFrame]]


@dataclass(frozen=True)
class Method:
    """A way to make a network smaller.

    Attributes:
        name: as people write it.
        meaning: of its strength, a phrase.
        strengths: some to compare, ascending.
        default: strength.
        tuned: whether it is fine-tuned, and so needs data.
        run: does it.
    """

    name: str
    meaning: str
    default: float
    strengths: tuple[float, ...]
    tuned: bool
    run: Compress = field(repr=False)


def _singe(job: Job) -> tuple[nn.Module, pd.DataFrame]:
    from facelab.methods.singe import singe
    from facelab.networks.folding import folded
    from facelab.networks.groups import groups

    inputs, targets = job.samples
    channels = sum(group.width for group in groups(folded(job.model, job.example), job.example) if not group.obstacle)
    criterion = "neuron path" if channels <= MANY else "layer path"
    options = {"removed": job.strength, "criterion": criterion, "steps": job.steps, "seed": job.seed}
    return singe(job.model, inputs, targets, job.training, job.loss, **options)


def _red(job: Job) -> tuple[nn.Module, pd.DataFrame]:
    from facelab.methods.red import red

    return red(job.model, job.example, keep=1 - job.strength)


def _redpp(job: Job) -> tuple[nn.Module, pd.DataFrame]:
    from facelab.methods.redpp import compress

    return compress(job.model, job.example, scale=job.strength)


def _ternary(job: Job) -> tuple[nn.Module, pd.DataFrame]:
    from facelab.methods.ternary import compress

    return compress(job.model, job.example, "TQuant", share=job.strength)


def _archtree(job: Job) -> tuple[nn.Module, pd.DataFrame]:
    from facelab.methods.archtree import archtree
    from facelab.networks.devices import SERVER, clock
    from facelab.networks.groups import groups

    step, ticks = SERVER.tile, clock(SERVER, job.model, job.example[:1])
    narrowest = ticks({group.name: min(step, group.width) for group in groups(job.model, job.example) if not group.obstacle})
    budget = ticks({}) - job.strength * (ticks({}) - narrowest)
    small, report = archtree(job.model, job.example, job.samples, budget, ticks, step=step, loss=job.loss)
    return job.fine_tuned(small), report


def _powerquant(job: Job) -> tuple[nn.Module, pd.DataFrame]:
    from facelab.methods.powerquant import powerquant

    return powerquant(job.model, job.example, bits=round(job.strength))


def _jlcm(job: Job) -> tuple[nn.Module, pd.DataFrame]:
    from facelab.methods.jlcm import compress

    return compress(job.model, job.samples[0], codewords=round(job.strength), seed=job.seed)


def _torch_pruning(criterion: str) -> Compress:
    def run(job: Job) -> tuple[nn.Module, pd.DataFrame]:
        from facelab.compression.opponents import pruned

        data = job.samples if criterion == "taylor" else None
        small, report = pruned(job.model, job.example, job.strength, criterion, data=data, loss=job.loss)
        return job.fine_tuned(small), report

    return run


_CHANNELS = "share of the channels of each group that goes", 0.5, (0.25, 0.5, 0.75)
METHODS: dict[str, Method] = {
    "singe": Method("SInGE", *_CHANNELS, True, _singe),
    "red": Method("RED", _CHANNELS[0], 0.1, (0.1, 0.25, 0.5), False, _red),  # its channels go by being merged
    "redpp": Method("RED++", "bandwidth of the hash in units of Silverman's", 0.25, (0.1, 0.25, 0.5), False, _redpp),
    "archtree": Method(
        "Archtree", "share of the way to the narrowest network, in time on a simulated device", 0.5, (0.25, 0.5, 0.75), True, _archtree
    ),
    "powerquant": Method("PowerQuant", "bits of a weight", 4, (3, 4, 6), False, _powerquant),
    "ternary": Method(
        "Ternary", "share of the layers whose weights become ternary, the largest first", 0.5, (0.25, 0.5, 0.75), False, _ternary
    ),
    "jlcm": Method("JLCM", "codewords of each of four codebooks of a layer", 4, (2, 4, 8), False, _jlcm),
    "l1": Method("L1", *_CHANNELS, True, _torch_pruning("l1")),
    "fpgm": Method("FPGM", *_CHANNELS, True, _torch_pruning("fpgm")),
    "taylor": Method("Taylor", *_CHANNELS, True, _torch_pruning("taylor")),
}
OWN = ("singe", "red", "redpp", "archtree", "powerquant", "ternary", "jlcm")
OPPONENTS = ("l1", "fpgm", "taylor")


def method(name: str) -> Method:
    """A method by its short name.

    Raises:
        ValueError: there is none of that name.
    """
    if name not in METHODS:
        raise ValueError(f"There is no method {name!r}; choose one of {', '.join(METHODS)}.")
    return METHODS[name]


def compress(name: str, job: Job) -> tuple[nn.Module, pd.DataFrame]:
    """Makes a network smaller.

        small, report = compress("red", Job(model, loader, log_likelihood, strength=0.25))

    Args:
        name: of `METHODS`.

    Returns:
        A network of its own, in evaluation mode; and the method's table, a row per layer, group or candidate.

    Raises:
        ValueError: there is no such method, or it cannot handle the network or the strength.
    """
    small, report = method(name).run(job)
    try:
        with torch.no_grad():
            small.eval()(job.example)
    except Exception as error:  # code that reaches into its layers, as torch's own TransformerEncoderLayer does
        kind, why = type(job.model).__name__, (str(error).splitlines() or [""])[0]
        raise ValueError(f"{kind} does not run with what {method(name).name} puts in the place of its layers ({why}).") from error
    return small, report

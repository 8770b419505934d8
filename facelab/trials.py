"""The rivals of a notebook, declared once: trained side by side, then scored and compared.

A rival differs from the others by what its declaration says and by nothing else: all see the same data for the same number of steps,
under the same seeds, unless its own options say otherwise.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from operator import index
from pathlib import Path
from typing import Any, SupportsIndex
from urllib.parse import quote

import numpy as np
import torch
from torch import Tensor, nn

from facelab import claims
from facelab.blocks import seeded
from facelab.statistics import readable
from facelab.training import History, Loss, fit, fit_all


@dataclass(frozen=True)
class Rival:
    """One of the networks that are compared.

    Attributes:
        build: makes it with fresh weights; called once under each seed.
        loss: as `training.fit` takes it.
        options: of `training.fit`, where this rival differs from what all have in common, such as a learning rate of its own.
    """

    build: Callable[[], nn.Module]
    loss: Loss
    options: Mapping[str, Any] = field(default_factory=dict)


class Scores(dict[str, np.ndarray]):
    """Name of a rival -> its scores, (seeds, samples), or (seeds, samples, items, parts) for a statistic of whole sets.

    A dictionary, so `plot_bars` takes it as it is and a rival that is not trained is added like any entry.

    Args:
        scores: name -> scores.
        options: what all claims on them have in common: `better`, and if need be `unit`, `groups`, `statistic`, `gain`
            of `claims.claim`.
    """

    def __init__(self, scores: Mapping[str, np.ndarray], **options: Any):
        super().__init__(scores)
        self.options = options

    def claim(self, statement: str, ours: str, baseline: str, **options: Any) -> claims.Claim:
        """`claims.claim` about two rivals, named as they were declared; `options` go before those that all claims have in common.

        Raises:
            ValueError: no scores of that name, or what `claims.claim` refuses.
        """
        for name in (ours, baseline):
            if name not in self:
                raise ValueError(f"There are no scores of {name!r}; there are those of {', '.join(map(str, self))}.")
        one_seed = len(self[ours]) == len(self[baseline]) == 1
        pair = {side: self[name][0] if one_seed else self[name] for side, name in (("ours", ours), ("baseline", baseline))}
        return claims.claim(statement, **pair, **{**self.options, **options})

    def record(self, name: str) -> None:
        """Records `NAME_RIVAL` for each rival: the mean of its scores, or its statistic."""
        statistic = self.options.get("statistic", np.mean)
        claims.record(**{f"{name}_{rival}".replace(" ", "_"): float(np.mean(statistic(scores))) for rival, scores in self.items()})


@dataclass(frozen=True)
class Trials:
    """Trained rivals.

    Attributes:
        models: name -> its networks, one for each seed, in evaluation mode.
        histories: name -> their histories.
        seeds: of the weights and of the order of the data.
    """

    models: dict[str, list[nn.Module]]
    histories: dict[str, list[History]]
    seeds: tuple[int, ...]

    @property
    def curves(self) -> dict[str, History]:
        """What `plot_history` takes: the history of each rival, or of each rival and seed if there are several seeds."""
        if len(self.seeds) == 1:
            return {name: histories[0] for name, histories in self.histories.items()}
        runs = {name: zip(self.seeds, histories, strict=True) for name, histories in self.histories.items()}
        return {f"{name}, seed {seed}": history for name, pairs in runs.items() for seed, history in pairs}

    def score(self, measure: Callable[[nn.Module], Tensor | np.ndarray], names: Sequence[str] = (), **options: Any) -> Scores:
        """The scores of every network.

        Args:
            measure: network -> its scores on the test samples, (samples,), or (samples, items, parts) for a statistic of whole sets.
            names: of the rivals that are meant, all if there are none.
            options: as `Scores` takes them; `better` at least.

        Raises:
            ValueError: no rival of that name; or `measure` gives other shapes for other networks, or no samples.
        """
        if unknown := [name for name in names if name not in self.models]:
            raise ValueError(f"There is no rival {unknown[0]!r}; choose among {', '.join(map(str, self.models))}.")
        chosen = {name: self.models[name] for name in names or self.models}
        with torch.no_grad():
            found = {name: [np.asarray(readable(measure(model))) for model in models] for name, models in chosen.items()}
        shapes = {name: sorted({scores.shape for scores in each}) for name, each in found.items()}
        if len({shape for each in shapes.values() for shape in each}) != 1 or () in next(iter(shapes.values())):
            raise ValueError(f"The scores have the shapes {shapes}; every network needs one score for each of the same samples.")
        return Scores({name: np.stack(each) for name, each in found.items()}, **options)


def train(
    rivals: Mapping[Any, Rival],
    data: Any,
    *,
    seeds: Iterable[SupportsIndex] = (0,),
    workers: int = 2,
    checkpoint: str | Path | None = None,
    progress: bool = True,
    **common: Any,
) -> Trials:
    """Trains every rival under every seed, side by side; the results do not depend on how many are trained at a time.

        trials = train({"deep": Rival(deep, loss), "wide": Rival(wide, loss)}, data, seeds=[0, 1], steps=400, learning_rate=2e-3)
        errors = trials.score(lambda model: nme(model(images), points), better="lower", unit="%")
        errors.claim("Deep beats wide", "deep", "wide", name="depth", margin=0.05)

    Args:
        rivals: name -> declaration; the one that costs most first, so that none is waited for.
        data: as `training.batches` takes them, the same for all.
        seeds: of weights and order of the data.
        workers: trainings at a time.
        checkpoint: folder in which each training keeps one, to go on from after an interruption.
        progress: show one bar that counts finished trainings.
        common: options of `training.fit` that all rivals have in common; `steps` at least.

    Raises:
        ValueError: no rival, no seed, a seed twice, or what `training.fit` refuses.
    """
    numbers = [index(seed) for seed in seeds]  # of any array type
    if not rivals or not numbers or len(set(numbers)) < len(numbers):
        raise ValueError(f"There are {len(rivals)} rivals and the seeds {numbers}; give at least one rival, and seeds that differ.")
    jobs = {
        (name, seed): partial(_train, str(name), rival, data, seed, checkpoint, {**common, **rival.options})
        for name, rival in rivals.items()
        for seed in numbers
    }
    found = fit_all(jobs, workers, progress)
    models = {name: [found[name, seed][0] for seed in numbers] for name in rivals}
    return Trials(models, {name: [found[name, seed][1] for seed in numbers] for name in rivals}, tuple(numbers))


def _train(
    name: str, rival: Rival, data: Any, seed: int, checkpoint: str | Path | None, options: dict[str, Any]
) -> tuple[nn.Module, History]:
    with seeded(seed):
        model = rival.build()
    folder = None if checkpoint is None else Path(checkpoint) / f"{quote(name, safe=' ')}, seed {seed}"
    return model, fit(model, rival.loss, data, seed=seed, checkpoint=folder, name=name, **options)

"""How far the score of a network falls when a layer is perturbed or a channel removed: measured, for any network, data and score.

The question and the protocol are those of Yvinec, Dapogny, Bailly, "SAfER", 2023 (arXiv 2308.04753). The network is evaluated
incrementally (`incremental`), or as a whole where it cannot be traced (`plain`); the drops are the same.
"""

import hashlib
import importlib.machinery
import logging
import os
import sys
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Any

import cloudpickle
import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from scipy.stats import rankdata
from torch import Tensor, nn

from facelab.blocks.digests import digest, digest_of_network
from facelab.importance.scores import Loader, Score, one_per_sample, pairs, scored, unit_of
from facelab.importance.sensitivity.incremental import Incremental, NotTraceable
from facelab.importance.sensitivity.plain import Plain
from facelab.importance.sensitivity.sweeping import Arrays, Checkpoint, sweep
from facelab.importance.tables import SENSITIVITY_COLUMNS, provenance
from facelab.networks.channels import Unit
from facelab.networks.evaluation import answers, in_evaluation_mode, require_precision
from facelab.networks.layers import channel_axis, overlooked
from facelab.networks.perturbations import BENCHMARK, FAMILIES, generator_of
from facelab.statistics import resampled_means

KEPT_BYTES = 1 << 27  # of the values of a chunk of samples
MOST_SAMPLES = 1024  # of a chunk
TASK_MULTIPLIES = 5e10  # about a second
RESAMPLES = 1000
FORWARDS = 30  # of the whole network that a task is worth at least: it begins with one
FINALISTS = 4  # candidates of the screen per place in its result
NEGLIGIBLE = 1e-3  # share of a whole evaluation: a channel that costs less is measured rather than screened

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Reweighting:
    """A draw of a family of weight perturbations in one layer, or in layers whose filters are pruned together."""

    layers: tuple[str, ...]
    family: str
    level: float
    draw: int

    @property
    def name(self) -> str:
        """The layers joined by "+"."""
        return "+".join(self.layers)

    def weights(self, network: Incremental | Plain, seed: int) -> dict[str, Tensor]:
        """The weight of each layer that the perturbation changes."""
        axes = {name: channel_axis(network.modules[name]) for name in self.layers}
        originals = [network.originals[name].movedim(axes[name], 0) for name in self.layers]
        together = originals[0] if len(originals) == 1 else torch.cat([weight.flatten(1) for weight in originals], 1)
        changed = FAMILIES[self.family](together, self.level, generator_of(seed, self.name, self.family, self.level, self.draw))
        parts = [changed] if len(originals) == 1 else changed.split([weight[0].numel() for weight in originals], 1)
        rows = zip(self.layers, originals, parts, strict=True)
        return {
            name: part.reshape(kept.shape).movedim(0, axes[name])
            for name, kept, part in rows
            if not torch.equal(part.reshape(kept.shape), kept)
        }


Item = Unit | Reweighting


def measure_layers(
    model: nn.Module,
    loader: Loader,
    score: Score,
    families: Sequence[str] = BENCHMARK,
    levels: Mapping[str, Sequence[float]] | None = None,
    draws: int = 3,
    seed: int = 0,
    executor: Executor | None = None,
    checkpoint: str | os.PathLike | None = None,
    progress: bool = True,
) -> pd.DataFrame:
    """Perturb the weight of every layer in every way, one at a time, and measure the score.

    Filters of layers that a residual addition ties together are pruned together. Batch norms are not folded into the weights that
    are perturbed; pass `networks.folded(model, example)` where they should be.

    Args:
        model: put in evaluation mode on a copy; yours is not touched.
        loader: re-iterable pairs (inputs, targets), in the same order each time.
        score: (outputs, targets) -> (B,), higher is better.
        families: names in `perturbations.FAMILIES`.
        levels: family -> levels instead of its own.
        draws: of the families that draw random numbers.
        seed: of these; a draw depends on it, the layer, the family, the level and its number only.
        executor: any `concurrent.futures` executor, also of a Dask client; None measures in this process. Processes work side by
            side, threads of one process take turns.
        checkpoint: folder; finished tasks are kept there, and a sweep that was interrupted goes on with them.
        progress: show a bar.

    Returns:
        A row per layer, family, level and draw: the columns of `tables.SENSITIVITY_COLUMNS`, then `sensitivity` (mean drop of the
        layer in the family), its 95 % interval `sensitivity_low` to `sensitivity_high`, and `rank` (1 is the most sensitive layer
        of the family), `rank_low` to `rank_high`. All intervals are percentiles over resampled evaluation samples.

    Raises:
        ValueError: an unknown family or impossible level, no samples, a score of the wrong shape or not finite, a loader that
            shuffles, or a checkpoint of another run.
    """
    if not families:
        raise ValueError(f"There is no family to measure; choose from {', '.join(FAMILIES)}.")
    unknown = sorted(set(families) - set(FAMILIES)) + sorted(set(levels or {}) - set(families))
    if unknown:
        raise ValueError(f"There is no family {unknown[0]!r} among those to measure; choose from {', '.join(FAMILIES)}.")
    chosen = {family: tuple((levels or {}).get(family, FAMILIES[family].levels)) for family in families}

    def items(network: Incremental | Plain) -> list[Item]:
        targets = {family: _pruned_together(network) if family == "pruning" else _singly(network) for family in families}
        return [
            Reweighting(layers, family, level, draw)
            for family in families
            for layers in targets[family]
            for level in chosen[family]
            for draw in range(draws if FAMILIES[family].random else 1)
        ]

    measured = _Sweep(model, loader, score, items, seed, checkpoint)
    measured.run(executor, progress, "layers")
    frame = measured.frame("layer", [(-1, item.family, item.level, item.draw) for item in measured.items if isinstance(item, Reweighting)])
    parts = []
    for _, rows in frame.groupby("family", sort=False):
        together = rows.groupby("layer", sort=False).indices.values()  # the rows of a layer in this family
        parts.append(rows.join(measured.ranking([rows.index[places].tolist() for places in together])))
    return measured.finish(pd.concat(parts))


def ablate_channels(
    model: nn.Module,
    loader: Loader,
    score: Score,
    *,
    executor: Executor | None = None,
    checkpoint: str | os.PathLike | None = None,
    screened: int | None = None,
    progress: bool = True,
) -> pd.DataFrame:
    """Remove every channel, one at a time, and measure the score.

    A removed channel is zero after its layer and after the batch norm behind it. Channels that residual additions tie together are
    removed together, so that the sums are zero there too.

    Args:
        model, loader, score, executor, checkpoint, progress: as for `measure_layers`.
        screened: measure only the channels that promise to be the `screened` most sensitive ones by the gradient of the score
            (which needs a score that can be differentiated, best a log likelihood) and the last ones, which cost next to nothing;
            return the `screened` most sensitive of them in order.

    Returns:
        A row per channel or tied group of channels, the columns of `measure_layers`.

    Raises:
        ValueError: as for `measure_layers`, and for a screen with a score that cannot be differentiated.
    """
    measured = _Sweep(model, loader, score, lambda network: list(network.units), 0, checkpoint)
    if screened is not None:
        measured.screen(FINALISTS * screened)
    measured.run(executor, progress, "channels")
    frame = measured.frame("channel", [(unit.channel, "ablation", 1.0, 0) for unit in measured.items if isinstance(unit, Unit)])
    frame = frame.join(measured.ranking([[i] for i in frame.index]))
    return measured.finish(frame if screened is None else frame.sort_values("drop", ascending=False, kind="stable").head(screened))


def _singly(network: Incremental | Plain) -> list[tuple[str, ...]]:
    return [(layer.name,) for layer in network.layers]


def _pruned_together(network: Incremental | Plain) -> list[tuple[str, ...]]:
    """Layers, those together whose channels are tied one to one; others that are tied (a sum with a concatenation) are left out."""
    channels = {layer.name: layer.channels for layer in network.layers}
    tied: dict[tuple[str, ...], list[Unit]] = {}
    for unit in network.units:
        tied.setdefault(unit.layers, []).append(unit)
    together = {
        layers: None
        for layers, units in tied.items()
        if all(channels[layer] == len(units) for layer in layers)
        and all({unit.members[layer] for layer in unit.layers} == {(unit.channel,)} for unit in units)
    }
    several = (unit for units in tied.values() for unit in units if sum(map(len, (unit.members[name] for name in unit.layers))) > 1)
    bound = {name for unit in several for name in unit.layers}
    alone = {(name,): None for name in channels if name not in bound and (name,) not in together}
    if left := sorted(bound.difference(*together)):
        log.warning("Not pruned: %s; their channels are tied, but not one to one.", ", ".join(left))
    order = {name: i for i, name in enumerate(channels)}
    return sorted([*together, *alone], key=lambda layers: order[layers[0]])


# --- one chunk of samples, some items: what a worker does ---


_lock = threading.RLock()  # torch.fx changes what calling a module means while it traces, in all threads
_loaded: dict[str, tuple[Any, ...]] = {}  # the network of the last sweep, ready for the next task


def ready_for_changes(model: nn.Module, example: Tensor) -> Incremental | Plain:
    """The network ready for changes, traced if it can be; why not, if not, is logged."""
    try:
        with _lock:
            network = Incremental(model, example)
        if network.unclear:
            log.warning("%s adds channels that cannot be followed; others are cut without them.", ", ".join(network.unclear))
        return network
    except NotTraceable as reason:
        log.warning("%s is evaluated as a whole after each change, which is slower: %s.", type(model).__name__, reason)
        return Plain(model, example)


def scores_after(network: Incremental | Plain, item: Item, targets: Tensor, score: Score, before: Float[Tensor, " B"], seed: int):
    """The score of every sample of the kept batch after a change."""
    if isinstance(item, Unit):
        outputs = network.without(item)
    else:
        weights = item.weights(network, seed)
        outputs = network.reweighted(weights, prune=item.family == "pruning") if weights else iter(())
    after = before.clone()
    for rows, output in outputs:
        after[rows] = one_per_sample(score(output, targets[rows]), rows).to(after.dtype)
    return after


def _work(payload: bytes, key: str, inputs: Tensor, targets: Tensor, first: int, last: int) -> Arrays:
    """Scores of a chunk of samples before the changes and after items first:last; one task at a time in a process."""
    with _lock:
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            if key not in _loaded:
                (model, example, score, items, seed), caller = cloudpickle.loads(payload)
                if caller != os.getpid():
                    log.setLevel(logging.ERROR)  # whether it can be traced was said where the sweep began
                _loaded.clear()
                _loaded[key] = ready_for_changes(model, example), score, items, seed
            network, score, items, seed = _loaded[key]
            with torch.no_grad():
                before = scored(score, network.keep(inputs), targets, inputs)
                after = [scores_after(network, item, targets, score, before, seed) for item in items[first:last]]
            stacked = torch.stack(after) if after else before.new_zeros(0, len(before))
            return {"before": before.cpu().numpy(), "after": stacked.cpu().numpy()}
        finally:
            torch.set_num_threads(threads)


class _Sweep:
    """Items measured on all samples of a loader, chunk by chunk."""

    def __init__(self, model, loader: Loader, score: Score, items, seed: int, checkpoint: str | os.PathLike | None):
        example = next(iter(_chunks(loader, 4)), None)
        if example is None:
            raise ValueError("The loader gives no batch; sensitivity needs at least one (a generator can be walked through only once).")
        self.model, self.loader, self.score, self.seed, self.folder = model, loader, score, seed, checkpoint
        self.example = example[0]
        require_precision(model)
        with in_evaluation_mode(model):
            answers(model, self.example)
        self.network = ready_for_changes(model, self.example)
        if rest := overlooked(model, self.network.layers):
            log.warning("Not looked at, as they belong to no convolution or linear layer that runs: %s.", ", ".join(rest))
        self.items: list[Item] = items(self.network)
        self.chunk = max(1, min(MOST_SAMPLES, KEPT_BYTES // self.network.bytes_per_sample))
        self.digests = [digest(*batch) for batch in _chunks(loader, self.chunk)]

    def chunks(self) -> Iterator[tuple[Tensor, Tensor]]:
        """The samples, which must be the same as when they were counted."""
        for expected, batch in zip(self.digests, _chunks(self.loader, self.chunk), strict=True):
            if digest(*batch) != expected:
                raise ValueError("The loader gives other samples each time it is walked through; make one with shuffle=False.")
            yield batch

    def screen(self, finalists: int) -> None:
        """Keep the units that the gradient expects to matter most, and those that cost next to nothing to measure."""
        if isinstance(self.network, Plain):
            log.warning("Every channel is measured: there is no screen for a network that cannot be traced.")
            return
        falls = torch.cat([self.network.first_order(*batch, self.score) for batch in self.chunks()])
        # To second order, the curvature of a log likelihood taken from its gradients, as in the Fisher information. What the score
        # is sure of has next to no slope; without the square such channels end far down.
        expected = (falls + falls.square() / 2).sum(0)
        best = set(torch.topk(expected, min(finalists, len(expected))).indices.tolist())
        whole = self.network.multiplies([layer.name for layer in self.network.layers])
        best |= {i for i, item in enumerate(self.items) if self.network.multiplies(item.layers) < NEGLIGIBLE * whole}
        self.items = [self.items[i] for i in sorted(best)]

    def run(self, executor: Executor | None, progress: bool, name: str) -> None:
        """Measure: `before` (samples,) and `after` (items, samples)."""
        cuts = self._slices()
        tasks = [(first, last) for _ in self.digests for first, last in cuts]
        payload = b""
        if executor is None:
            _loaded[key := f"here {id(self)}"] = self.network, self.score, self.items, self.seed
        else:
            payload = _pickled(self.model, self.example, self.score, self.items, self.seed)
            key = hashlib.sha256(payload).hexdigest()
        found: dict[int, Arrays] = {}
        try:
            sweep(
                _work,
                ((payload, key, *batch, *cut) for batch in self.chunks() for cut in cuts),
                total=len(tasks),
                executor=executor,
                checkpoint=Checkpoint(self.folder, self._identity()),
                collect=found.__setitem__,
                progress=progress,
                name=name,
            )
        finally:
            _loaded.pop(key, None)
        columns = [[found[i * len(cuts) + k] for k in range(len(cuts))] for i in range(len(self.digests))]
        self.before = np.concatenate([parts[0]["before"] for parts in columns]).astype(np.float64)
        self.after = np.concatenate([np.concatenate([part["after"] for part in parts]) for parts in columns], 1).astype(np.float64)
        if not np.isfinite(self.before).all():
            first = int(np.flatnonzero(~np.isfinite(self.before))[0])
            raise ValueError(f"The score of sample {first} is {self.before[first]} before any change; it must be a finite number.")
        broken = ~np.isfinite(self.after)
        if broken.any():  # a network that faults have broken says nothing: the lowest score there is
            self.after[broken] = min(self.before.min(), self.after[~broken].min(initial=np.inf))
            log.warning("%d of %d scores after changes were no finite number; they count as the lowest one.", broken.sum(), broken.size)

    def _slices(self) -> list[tuple[int, int]]:
        """Items that make a task: enough work to be worth the evaluation that each task begins with, and its way to a worker."""
        whole = self.network.multiplies([layer.name for layer in self.network.layers])
        least = max(TASK_MULTIPLIES / self.chunk, FORWARDS * whole)
        cuts, first, work = [], 0, 0.0
        for i, item in enumerate(self.items, start=1):
            work += self.network.multiplies(item.layers)
            if work >= least or i == len(self.items):
                cuts.append((first, i))
                first, work = i, 0.0
        return cuts

    def _identity(self) -> dict[str, Any]:
        """What results depend on."""
        return {
            "weights": digest_of_network(self.model)[:16],
            "data": hashlib.sha256("".join(self.digests).encode()).hexdigest()[:16],
            "score": getattr(self.score, "__qualname__", type(self.score).__name__),
            "answers": self._answers(),
            "items": hashlib.sha256(repr((self.items, self._slices(), self.chunk)).encode()).hexdigest()[:16],
            "seed": self.seed,
        }

    def _answers(self) -> str:
        """The first samples' scores: what the weights and the name of the score do not tell (a slope, what a closure holds)."""
        inputs, targets = next(self.chunks())
        with torch.no_grad():
            scores = scored(self.score, self.network.keep(inputs[:8]), targets[:8], inputs[:8])
        return " ".join(f"{score:.4g}" for score in scores.tolist())

    # --- tables ---

    def frame(self, kind: str, keys: list[tuple[int, str, float, int]]) -> pd.DataFrame:
        """A row per item: what it is, its key (channel, family, level, draw) and what was measured."""
        layers = {layer.name: layer for layer in self.network.layers}
        drops = self.before - self.after
        low, high = np.percentile(self._resampled(), (2.5, 97.5), axis=0)
        rows = []
        for i, (item, (channel, family, level, draw)) in enumerate(zip(self.items, keys, strict=True)):
            first = layers[item.layers[0]]
            parameters = sum(layers[name].parameters for name in item.layers)
            if isinstance(item, Unit):
                parameters = sum(layers[n].parameters // layers[n].channels * len(item.members[n]) for n in item.layers)
            row = (
                type(self.model).__name__,
                kind,
                item.name,
                channel,
                first.shape_text,
                parameters,
                first.depth,
                family,
                float(level),
                draw,
            )
            figures = (self.before.mean(), self.after[i].mean(), drops[i].mean(), low[i], high[i])
            rows.append((*row, *map(float, figures), unit_of(self.score), len(self.before)))
        return pd.DataFrame(rows, columns=list(SENSITIVITY_COLUMNS))

    def _resampled(self) -> Float[np.ndarray, "resamples items"]:
        """Mean drops over samples drawn with replacement; every item meets the same draws."""
        if not hasattr(self, "_means"):
            self._means = resampled_means((self.before - self.after).T, RESAMPLES, self.seed)
        return self._means

    def ranking(self, groups: Iterable[Sequence[int]]) -> pd.DataFrame:
        """Mean drop and rank of groups of items among each other, with intervals; indexed by item."""
        groups = [list(group) for group in groups]
        drops = (self.before - self.after).mean(1)
        means = np.array([drops[group].mean() for group in groups])
        resampled = np.stack([self._resampled()[:, group].mean(1) for group in groups], 1)
        low, high = np.percentile(resampled, (2.5, 97.5), axis=0)
        ranks = np.percentile(rankdata(-resampled, axis=1), (2.5, 97.5), axis=0)
        columns = np.stack([means, low, high, rankdata(-means), *ranks], 1)
        names = ["sensitivity", "sensitivity_low", "sensitivity_high", "rank", "rank_low", "rank_high"]
        return pd.concat([pd.DataFrame(np.tile(row, (len(group), 1)), group, names) for group, row in zip(groups, columns, strict=True)])

    def finish(self, frame: pd.DataFrame) -> pd.DataFrame:
        """The frame with its provenance."""
        frame = frame.sort_index() if frame.index.is_unique and "ablation" not in set(frame.family) else frame
        frame = frame.reset_index(drop=True)
        how = "incremental" if isinstance(self.network, Incremental) else "whole"
        frame.attrs = provenance(self.score, network=type(self.model).__name__, seed=self.seed, samples=len(self.before), evaluation=how)
        return frame


def _chunks(loader: Loader, size: int) -> Iterator[tuple[Tensor, Tensor]]:
    """The samples of a loader, `size` at a time."""
    held: list[tuple[Tensor, Tensor]] = []
    for inputs, targets in pairs(loader):
        held.append((inputs, targets))
        while sum(len(inputs) for inputs, _ in held) >= size:
            inputs, targets = (torch.cat(parts) for parts in zip(*held, strict=True))
            yield inputs[:size], targets[:size]
            held = [(inputs[size:], targets[size:])] if len(inputs) > size else []
    if held:
        yield torch.cat([inputs for inputs, _ in held]), torch.cat([targets for _, targets in held])


def _pickled(model: nn.Module, *others: Any) -> bytes:
    """For a worker, which may not be able to import the file that the model's classes come from: these travel along."""
    strangers = {type(module).__module__ for module in model.modules()} | {getattr(others[1], "__module__", "")}
    registered = [sys.modules[name] for name in strangers if name in sys.modules and not _importable(name)]
    for module in registered:
        cloudpickle.register_pickle_by_value(module)
    try:
        return cloudpickle.dumps(((model, *others), os.getpid()))
    finally:
        for module in registered:
            cloudpickle.unregister_pickle_by_value(module)


def _importable(name: str) -> bool:
    """Whether another process finds the module as well: not one that was loaded from a file by hand."""
    return name == "__main__" or importlib.machinery.PathFinder.find_spec(name.partition(".")[0]) is not None

"""Every method at several strengths on several networks: what the explorer and the scoreboard of parts 4 and 5 are made of."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from torch import nn

from facelab.compression import bench, zoo
from facelab.compression.registry import METHODS, Job, compress, method
from facelab.importance.scores import Loader, Score, accuracy, log_likelihood
from facelab.networks.folding import folded
from facelab.networks.layers import LAYERS

BINS = 60
STORED = zoo.FOLDER / "sweep"
TABLES = ("table", "layers", "weights")


@dataclass(frozen=True)
class Base:
    """A network to compress and what it is measured on.

    Attributes:
        model: the network.
        training: to fine-tune with.
        test: which no method sees.
        score: reported, (outputs, targets) -> (B,), higher is better.
        differentiable: a score to fine-tune by.
        unit: of the reported score.
    """

    model: nn.Module
    training: Loader
    test: Loader
    score: Score
    differentiable: Score
    unit: str


def of_zoo(task: str, architecture: str, seed: int = 0) -> Base:
    """A network of the bench with its data: the split "train" to fine-tune with, "test" to measure on.

        table, layers, weights = sweep({"digits, plain": of_zoo("digits", "plain")})

    Raises:
        ValueError: no such network.
        FileNotFoundError: the real faces are needed and not on this machine.
    """
    model = zoo.load(task, architecture, seed)
    about, loaders = zoo.TASKS[task], {}
    for split in ("train", "test"):
        images, targets = zoo.data(task, split)
        loaders[split] = list(zip(images.split(64), targets.split(64), strict=True))
    differentiable = log_likelihood if about.score is accuracy else about.score
    return Base(model, loaders["train"], loaders["test"], about.score, differentiable, about.unit)


def sweep(
    bases: Mapping[str, Base], methods: Sequence[str] = tuple(METHODS), *, steps: int = 150, seed: int = 0, rounds: int = 15
) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Compresses each network by each method at its strengths, and measures all.

        table, layers, weights = sweep({"digits, plain": base}, ["red", "l1"])

    Batch norms of the original are folded, as every method folds them, so that this gain is nobody's.

    Args:
        bases: name -> network and data.
        methods: short names, of `registry.METHODS`.
        steps: of fine-tuning, for each method that is fine-tuned.
        seed: of what is random.
        rounds: of the measurement of latency.

    Returns:
        The bench's table and its table of layers with the columns `base`, `method`, `strength` before; the first with `note`, the
        sentence of a method that could not handle a network (its figures are NaN), and `largest`, the layer that has most weights;
        and the histogram of that layer's weights: `base`, `method`, `strength`, `left`, `right`, `count`.
    """
    tables, layers, weights = [], [], []
    for name, base in bases.items():
        made: dict[tuple[str, float], nn.Module] = {("original", 0.0): folded(base.model, next(iter(base.training))[0][:2])}
        refused = []
        for short in methods:
            for strength in method(short).strengths:
                key = method(short).name, strength
                try:
                    made[key], _ = compress(short, Job(base.model, base.training, base.differentiable, strength, steps, seed))
                except ValueError as error:
                    refused.append({"base": name, "method": key[0], "strength": strength, "note": str(error)})
        keys = {f"{way} {strength:g}": (way, strength) for way, strength in made}
        networks = {f"{way} {strength:g}": model for (way, strength), model in made.items()}
        table, errors = bench.evaluate(networks, base.test, base.score, rounds=rounds, unit=base.unit)
        largest = _largest(made["original", 0.0])
        for frame in (table, errors):
            frame.insert(0, "base", name)
            frame.insert(1, "method", [keys[network][0] for network in frame.network])
            frame.insert(2, "strength", [keys[network][1] for network in frame.network])
        tables.append(pd.concat([table.assign(note="", largest=largest), pd.DataFrame(refused)], ignore_index=True))
        layers.append(errors)
        weights += [_histogram(model, largest, name, *key, made["original", 0.0]) for key, model in made.items()]
    return tuple(pd.concat(frames, ignore_index=True) for frames in (tables, layers, weights))  # type: ignore[return-value]


def stored() -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """What `sweep` found on the first network of every task and architecture of the bench, as `compression.recipes` stored it.

    table, layers, weights = stored()
    """
    return tuple(pd.read_parquet(STORED / f"{name}.parquet") for name in TABLES)  # type: ignore[return-value]


def within_bytes(table: pd.DataFrame, share: float) -> pd.DataFrame:
    """The best score that each method reached on each network in at most a share of the original's bytes, of those that were measured.

    within_bytes(stored()[0], 0.3)

    Args:
        table: of `sweep`.
        share: of the bytes of the original, 0..1.

    Returns:
        A row for each network, its `original` score first, then a column for each method; NaN where nothing that was measured fits.
    """
    original = table[table.method == "original"].set_index("base")
    small = table[(table.method != "original") & (table.bytes <= share * table.base.map(original.bytes))]
    best = small.pivot_table(index="base", columns="method", values="score", aggfunc="max")
    names = [name for name in table.method.unique() if name != "original"]
    return best.reindex(index=original.index, columns=names).assign(original=original.score)[["original", *names]]


def _largest(model: nn.Module) -> str:
    """The layer that has the most weights."""
    sizes = {name: module.weight.numel() for name, module in model.named_modules() if isinstance(module, LAYERS)}  # type: ignore[operator]
    return max(sizes, key=lambda name: sizes[name])


def _histogram(model: nn.Module, layer: str, base: str, way: str, strength: float, original: nn.Module) -> pd.DataFrame:
    """Of the weights of a layer, over the range of the original's; of a layer whose products are shared, of its distinct values."""
    module, before = model.get_submodule(layer), original.get_submodule(layer).weight.detach()
    parts = [p.detach().flatten() for p in module.parameters() if p.ndim > 1 or p is getattr(module, "values", None)]
    reach = float(before.abs().max())  # type: ignore[operator]
    counts, edges = np.histogram(torch.cat(parts).clamp(-reach, reach).numpy(), BINS, (-reach, reach))
    return pd.DataFrame({"base": base, "method": way, "strength": strength, "left": edges[:-1], "right": edges[1:], "count": counts})

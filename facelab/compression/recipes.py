"""How the networks of the bench are made and swept.

`python -m facelab.compression.recipes train` trains all that are missing; `... sweep` compresses each by every method.
"""

import json
import platform
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
import typer
from safetensors.torch import save_file
from torch import Tensor, nn

from facelab import training
from facelab.blocks import augment, count_parameters, seeded
from facelab.compression import sweep, zoo
from facelab.compression.registry import METHODS
from facelab.compression.report import saved
from facelab.importance.scores import evaluate
from facelab.markups import markup


@dataclass(frozen=True)
class Recipe:
    """How networks of one kind are trained, whatever the task.

    Attributes:
        steps, batch_size, learning_rate: of `training.fit`.
    """

    steps: int
    batch_size: int
    learning_rate: float


RECIPES = {
    "plain": Recipe(700, 64, 1e-2),
    "residual": Recipe(700, 64, 1e-2),
    "depthwise": Recipe(700, 64, 1e-2),
    "transformer": Recipe(900, 64, 4e-3),
}


def _loss(model: nn.Module, batch: dict[str, Tensor], generator: torch.Generator) -> Tensor:
    images, targets = batch["images"], batch["targets"]
    if not targets.is_floating_point():  # their worlds turn and move digits and faces already
        return F.cross_entropy(model(images), targets)
    images, landmarks = augment(images, targets.unflatten(1, (-1, 2)), markup(68), generator, rotation=10.0, scale=0.1, occlusion=0.0)
    return (model(images) - landmarks.flatten(1)).abs().mean()


def train(task: str, architecture: str, seed: int, progress: bool = True) -> nn.Module:
    """One network, trained from nothing.

    Args:
        task, architecture: of `zoo.TASKS` and `zoo.ARCHITECTURES`.
        seed: of the weights and of the order of the data.
        progress: show a bar.

    Raises:
        ValueError: no such task or architecture.
        FileNotFoundError: the real faces are needed and not on this machine.
    """
    with seeded(seed):
        model = zoo.build(task, architecture)
    recipe = RECIPES[architecture]
    images, targets = zoo.data(task, "train")
    if targets.is_floating_point():  # it begins with the mean face
        last = [module for module in model.modules() if isinstance(module, nn.Linear)][-1]
        last.bias.data = targets.mean(dim=0)
    training.fit(
        model, _loss, {"images": images, "targets": targets}, steps=recipe.steps, batch_size=recipe.batch_size,
        learning_rate=recipe.learning_rate, clip=1.0, average=0.1, seed=seed, device="cpu", progress=progress,
        name=f"{task} {architecture} {seed}",
    )  # fmt: skip
    return model


def write(task: str, architecture: str, progress: bool = True) -> dict:
    """Trains the networks of all seeds, writes their weights and their card to the zoo, and returns the card."""
    weights, scores = {}, {}
    for seed in zoo.SEEDS:
        model = train(task, architecture, seed, progress)
        weights |= {f"{seed}/{key}": value.contiguous().clone() for key, value in model.state_dict().items()}
        scores[str(seed)] = {split: round(score(model, task, split), 4) for split in ("validation", "test")}
    recipe = RECIPES[architecture]
    about = {
        "task": zoo.TASKS[task].what,
        "architecture": architecture,
        "command": f"python -m facelab.compression.recipes train {task} {architecture}",
        "parameters": count_parameters(model),
        "steps": recipe.steps,
        "batch_size": recipe.batch_size,
        "learning_rate": recipe.learning_rate,
        "machine": f"{platform.machine()}, torch {torch.__version__}",
        "licence": "MIT (weights); the real faces come from YouTube Faces: research use" if task == "landmarks" else "MIT",
        "unit": zoo.TASKS[task].unit,
        "scores": scores,
    }
    zoo.FOLDER.mkdir(parents=True, exist_ok=True)
    save_file(weights, _path(task, architecture))
    (zoo.FOLDER / f"{task}_{architecture}.json").write_text(json.dumps(about, indent=2) + "\n", encoding="utf-8")
    return about


def score(model: nn.Module, task: str, split: str = "test") -> float:
    """The mean score of a network on a split of its task."""
    images, targets = zoo.data(task, split)
    loader = list(zip(images.split(256), targets.split(256), strict=True))
    return float(np.mean(evaluate(model, loader, zoo.TASKS[task].score).numpy()))


def _path(task: str, architecture: str) -> Path:
    return zoo.FOLDER / f"{task}_{architecture}.safetensors"


app = typer.Typer(add_completion=False, help=__doc__)


@app.callback()
def _commands() -> None:
    """The networks of the bench."""


@app.command("train")
def _train(task: str = typer.Argument(""), architecture: str = typer.Argument("")) -> None:
    """Train the networks of TASK and ARCHITECTURE again; without names, all that are missing."""
    try:
        for one in [task] if task else zoo.TASKS:
            for other in [architecture] if architecture else zoo.ARCHITECTURES:
                if task or not _path(one, other).exists():
                    typer.echo(json.dumps(write(one, other)["scores"]))
    except (ValueError, FileNotFoundError) as error:
        raise SystemExit(str(error)) from None


@app.command("sweep")
def _sweep() -> None:
    """Compress the first network of every task and architecture by every method; goes on where it was stopped."""
    names = {f"{task}, {architecture}": (task, architecture) for task in zoo.TASKS for architecture in zoo.ARCHITECTURES}
    paths = [sweep.STORED / f"{name}.parquet" for name in sweep.TABLES]
    stored = list(sweep.stored()) if all(path.exists() for path in paths) else None
    for name, zoo_name in names.items():
        done = set() if stored is None else set(stored[0][stored[0].base == name].method)
        if missing := [short for short, method in METHODS.items() if method.name not in done]:
            found = sweep.sweep({name: sweep.of_zoo(*zoo_name)}, missing)
            stored = list(found) if stored is None else [pd.concat(parts, ignore_index=True) for parts in zip(stored, found, strict=True)]
            keys = [["base", "method", "strength"], ["base", "method", "strength", "layer"], ["base", "method", "strength", "left"]]
            for path, whole, key in zip(paths, stored, keys, strict=True):
                saved(whole.drop_duplicates(key).sort_values("base", key=lambda own: own.map(list(names).index), kind="stable"), path)
            typer.echo(f"{name}: {', '.join(missing)}")


if __name__ == "__main__":
    app()

"""How the networks of the zoo are made and measured.

`python -m facelab.recipes train NAME` trains one again (it resumes after an interruption), `python -m facelab.recipes score NAME`
measures it again on the people that no training saw.
"""

import json
import platform
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import typer
from jaxtyping import Float
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from facelab import datasets, metrics, training, zoo
from facelab.blocks import augment, count_parameters, landmark_loss, seeded
from facelab.markups import conversion, markup
from facelab.methods.decafa import decafa_loss
from facelab.statistics import bootstrap_interval, gain_interval
from facelab.worlds import faces


@dataclass(frozen=True)
class Recipe:
    """How one network of the zoo is made.

    Attributes:
        what: one sentence for the card.
        model: "decafa" or "cnn".
        arguments: of the model's class.
        rendered: number of rendered faces to train on, turned by at most 60 degrees.
        real: train on the real faces (the splits "train" and "validation" of P1_Facial_Keypoints).
        start: name of the network whose weights it starts from.
        baselines: networks of the zoo that its score is compared with.
        steps, batch_size, learning_rate: of `training.fit`.
    """

    what: str
    model: str
    arguments: dict
    steps: int
    batch_size: int
    learning_rate: float
    rendered: int = 0
    real: bool = False
    start: str = ""
    baselines: tuple[str, ...] = ()


_DECAFA = {"in_channels": 1, "markups": (98, 68), "stages": 2, "channels": (24, 32, 48, 64), "stride": 2, "gain": 5.0, "standardised": True}
_SHARED = conversion(98, 68).argmax(axis=1)  # which of the 98 points the 68 are; a matrix would spread the NaN of unknown points


# cnn_real and decafa_real see the same batches: the same faces, augmentation and number of steps. A step of the CNN is cheaper, so
# cnn_real_long has about the seconds of decafa_real. Sizes and rates were chosen on the people of the split "validation"; then
# all trained on them as well.
RECIPES = {
    "cnn_real": Recipe(
        "The baseline: a four-layer CNN that regresses 68 landmarks, trained on real faces.",
        "cnn", {"landmarks": 68, "size": zoo.SIZE, "standardised": True}, steps=3_000, batch_size=16, learning_rate=4e-3, real=True,
    ),
    "cnn_real_long": Recipe(
        "The same CNN, trained for about as many seconds as decafa_real, which is five times as many steps.",
        "cnn", {"landmarks": 68, "size": zoo.SIZE, "standardised": True}, steps=15_000, batch_size=16, learning_rate=4e-3, real=True,
    ),
    "decafa_real": Recipe(
        "DeCaFA trained on real faces only: the batches of cnn_real. They know one mark-up, so the chain has a single link.",
        "decafa", {**_DECAFA, "markups": (68,)}, steps=3_000, batch_size=16, learning_rate=5e-3, real=True,
        baselines=("cnn_real", "cnn_real_long"),
    ),
    "decafa_rendered": Recipe(
        "DeCaFA trained on rendered faces only: it has never seen a photograph.",
        "decafa", _DECAFA, steps=4_500, batch_size=16, learning_rate=5e-3, rendered=16_000,
    ),
    "decafa_faces": Recipe(
        "DeCaFA for everyday use: starts from decafa_rendered, goes on with real faces, among them some rendered ones; real faces "
        "teach the 98 points through the chain to their 68.",
        "decafa", _DECAFA, steps=4_000, batch_size=16, learning_rate=3e-3, rendered=1_000, real=True, start="decafa_rendered",
    ),
}  # fmt: skip


def _training_data(recipe: Recipe, seed: int) -> dict[str, Tensor]:
    """Images in bytes and landmarks in the mark-up of 98; real faces know only 68 of them, the others are NaN."""
    batches = []
    if recipe.rendered:
        batches.append(faces.render(recipe.rendered, seed=seed, size=zoo.SIZE, markup=98, channels=(), yaw=(-60.0, 60.0)))
    if recipe.real:
        batches += [datasets.p1("train", zoo.SIZE), datasets.p1("validation", zoo.SIZE)]
    images = [torch.as_tensor(np.round(batch.gray() * 255).astype(np.uint8)) for batch in batches]
    landmarks = [torch.as_tensor(_as_98(batch.landmarks), dtype=torch.float32) for batch in batches]
    return {"images": torch.cat(images), "landmarks": torch.cat(landmarks)}


def _as_98(landmarks: Float[np.ndarray, "B K 2"]) -> Float[np.ndarray, "B 98 2"]:
    if landmarks.shape[1] == 98:
        return landmarks
    spread = np.full((len(landmarks), 98, 2), np.nan, dtype=landmarks.dtype)
    spread[:, _SHARED] = landmarks
    return spread


def _loss(model: nn.Module, batch: dict[str, Tensor], generator: torch.Generator) -> Tensor:
    images, landmarks = augment(batch["images"].float() / 255, batch["landmarks"], markup(98), generator, occlusion=0.1)
    landmarks_68 = landmarks[:, _SHARED]
    # The distance of the eyes vanishes in profile; a share of the face's height or width does not, and equals it in front.
    scale = 0.55 * (landmarks_68.amax(dim=1) - landmarks_68.amin(dim=1)).amax(dim=1)
    outputs = model(images)
    if not isinstance(outputs, list):
        return landmark_loss(outputs, landmarks_68, scale)
    true = {98: landmarks, 68: landmarks_68}
    return decafa_loss(outputs, {size: true[size] for size in outputs[-1].landmarks}, interocular=scale)


def train(name: str, seed: int = 0, checkpoint: Path | None = None, progress: bool = True) -> dict:
    """Train a network of `RECIPES`, write its weights and its card to `data/zoo`, and return the card.

    Args:
        name: of the recipe.
        seed: of the weights, the order of the data, the augmentation and the rendered faces.
        checkpoint: folder to resume from after an interruption; `build/zoo/NAME` by default.
        progress: show a bar.

    Raises:
        ValueError: no such recipe.
        FileNotFoundError: the real faces are needed and not on this machine.
    """
    if name not in RECIPES:
        raise ValueError(f"There is no recipe {name!r}; choose one of {tuple(RECIPES)}.")
    recipe = RECIPES[name]
    data = _training_data(recipe, seed)
    arguments = dict(recipe.arguments)
    with seeded(seed):
        model = zoo.build(recipe.model, arguments)
    if recipe.start:
        model.load_state_dict(load_file(zoo.FOLDER / f"{recipe.start}.safetensors"))
    elif recipe.model == "cnn":
        model.mean_shape.copy_(data["landmarks"][:, _SHARED].mean(dim=0))
    folder = checkpoint or zoo.FOLDER.parent.parent / "build" / "zoo" / name
    history = training.fit(
        model, _loss, data, steps=recipe.steps, batch_size=recipe.batch_size, learning_rate=recipe.learning_rate,
        seed=seed, device="cpu", checkpoint=folder, checkpoint_every=500, progress=progress, name=name,
    )  # fmt: skip
    about = {
        "name": name,
        "what": recipe.what,
        "command": f"python -m facelab.recipes train {name} --seed {seed}",
        "model": recipe.model,
        "arguments": arguments,
        "parameters": count_parameters(model),
        "data": _describe(recipe, len(data["images"])),
        "start": recipe.start,
        "seed": seed,
        "steps": recipe.steps,
        "batch_size": recipe.batch_size,
        "learning_rate": recipe.learning_rate,
        "seconds": round(history.seconds[-1]),
        "threads": 1,
        "machine": f"{platform.machine()}, torch {torch.__version__}",
        "source": _revision(),
        "licence": "MIT (weights); the real faces come from YouTube Faces: research use" if recipe.real else "MIT",
        "scores": scores(model, recipe.baselines),
    }
    zoo.FOLDER.mkdir(parents=True, exist_ok=True)
    save_file({key: value.contiguous() for key, value in model.state_dict().items()}, zoo.FOLDER / f"{name}.safetensors")
    (zoo.FOLDER / f"{name}.json").write_text(json.dumps(about, indent=2) + "\n", encoding="utf-8")
    return about


def scores(model: nn.Module, baselines: Sequence[str] = ()) -> dict:
    """Errors on the test people of P1_Facial_Keypoints, whom no training of the zoo has seen; intervals by person.

    Args:
        model: a network of the zoo.
        baselines: names of others; how much lower the error is than theirs.

    Raises:
        FileNotFoundError: the data set is not on this machine.
    """
    test = datasets.p1("test", zoo.SIZE)
    people = np.unique(test.identity)

    def by_person(values: Float[np.ndarray, " B"]) -> Float[np.ndarray, " people"]:
        return np.array([values[test.identity == person].mean() for person in people])

    values = zoo.errors(model, test)
    low, high = bootstrap_interval(by_person(values), draws=10_000)
    about = {
        "data": f"P1_Facial_Keypoints, {len(test)} frames of {len(people)} people never seen in training",
        "nme_percent": round(float(values.mean()), 3),
        "interval_95_percent": [round(low, 3), round(high, 3)],
        "interval_by": "bootstrap over people",
        "failure_rate_10_percent": round(float(metrics.failure_rate(values, 10.0)), 4),
        "area_under_curve_10": round(float(metrics.area_under_curve(values, 10.0)), 4),
    }
    gains = {name: gain_interval(by_person(values), by_person(zoo.errors(zoo.load(name), test)), better="lower") for name in baselines}
    lower = {name: [round(100 * share, 1) for share in gain] for name, gain in gains.items()}
    return about | ({"percent_lower_than": lower} if lower else {})


def _describe(recipe: Recipe, count: int) -> str:
    parts = [f"{recipe.rendered} rendered faces (facelab.worlds.faces)"] if recipe.rendered else []
    if recipe.real:
        parts.append(f"{count - recipe.rendered} frames of P1_Facial_Keypoints (splits train and validation)")
    return " and ".join(parts) + f", {zoo.SIZE} x {zoo.SIZE} gray, augmented"


def _revision() -> str:
    """Commit of the sources that trained, so that anyone can go back to them; "-dirty" if the package differs from it."""

    def git(*arguments: str) -> str:
        return subprocess.run(["git", *arguments], cwd=zoo.FOLDER.parent.parent, capture_output=True, text=True, check=False).stdout.strip()

    changed = git("status", "--porcelain", "--", "facelab")  # the zoo itself changes while it is trained
    return (git("rev-parse", "--short", "HEAD") + ("-dirty" if changed else "")) or "unknown"


def table() -> str:
    """The zoo in Markdown, from its cards: what was trained on what, error with interval, how to repeat it; who beats whom."""
    lines = ["| network | trained on | steps x faces | error, % of the eye distance | again with |", "| --- | --- | --- | --- | --- |"]
    for name in RECIPES:
        about = zoo.card(name)
        low, high = about["scores"]["interval_95_percent"]
        trained_on = about["data"].split(", 64")[0] + (f", from {about['start']}" if about["start"] else "")
        error = f"{about['scores']['nme_percent']:.2f} ({low:.2f} to {high:.2f})"
        lines.append(f"| {name} | {trained_on} | {about['steps']:,} x {about['batch_size']} | {error} | `{about['command']}` |")
    lines.append("")
    for name in RECIPES:
        for baseline, (gain, low, high) in zoo.card(name)["scores"].get("percent_lower_than", {}).items():
            minutes = [f"{zoo.card(which)['seconds'] / 60:.0f}" for which in (name, baseline)]
            lines.append(
                f"- The error of {name} is {gain:.1f} % lower than that of {baseline} (95 % interval over people: {low:.1f} to {high:.1f}; "
                f"{minutes[0]} and {minutes[1]} minutes of training on one core; one seed each)."
            )
    return "\n".join(lines)


app = typer.Typer(add_completion=False, help=__doc__)


@app.command("train")
def _train(name: str, seed: int = 0) -> None:
    """Train the network NAME and write its weights and card to data/zoo."""
    try:
        typer.echo(json.dumps(train(name, seed)["scores"], indent=2))
    except (ValueError, FileNotFoundError) as error:
        raise SystemExit(str(error)) from None


@app.command("score")
def _score(name: str) -> None:
    """Measure the network NAME again on the test people of P1_Facial_Keypoints."""
    try:
        typer.echo(json.dumps(scores(zoo.load(name), RECIPES[name].baselines if name in RECIPES else ()), indent=2))
    except (ValueError, FileNotFoundError) as error:
        raise SystemExit(str(error)) from None


@app.command("table")
def _table() -> None:
    """Print the cards as the Markdown table of the README."""
    typer.echo(table())


if __name__ == "__main__":
    app()

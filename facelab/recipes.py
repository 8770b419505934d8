"""How the networks of the zoo are made and measured.

`python -m facelab.recipes train NAME` trains one again (it resumes after an interruption), `python -m facelab.recipes score NAME`
measures it again on the people that no training saw.
"""

import json
import math
import platform
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
import typer
from jaxtyping import Float
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from facelab import datasets, metrics, training, zoo
from facelab.batch import FaceBatch
from facelab.blocks import augment, count_parameters, draw_warp, landmark_loss, seeded
from facelab.datasets import WIDEN, bounding_box, catalogue, read_p1, square_around
from facelab.markups import conversion, markup
from facelab.methods.decafa import decafa_loss
from facelab.statistics import bootstrap_interval, gain_interval
from facelab.worlds import faces
from facelab.worlds.faces.population import Population, fit_population

POPULATION = zoo.FOLDER / "population.npz"


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
        steps, batch_size, learning_rate, clip, average: of `training.fit`.
        population: rendered heads, poses and cameras are drawn as they are among the training people (`population`), their crops are
            framed exactly, and each pixel is the mean of four.
        counted_from_zero: landmarks of real faces are moved to where columns are counted from 0 (`real_faces`).
        framed: share of the images that are framed as data sets are, but for a pixel, after they have been turned and mirrored; the
            others are moved as `augment` does. 0 moves all of them, without framing them again.
        changes: options of `augment` that differ from an `occlusion` of 0.1.
        worn: images are blurred and made noisy at random.
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
    clip: float = math.inf
    average: float = 0.0
    population: bool = False
    counted_from_zero: bool = False
    framed: float = 0.0
    changes: dict = field(default_factory=dict)
    worn: bool = False


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
    "decafa_start": Recipe(
        "DeCaFA trained on rendered faces whose heads and poses are spread as in the landmarks of the training people: where "
        "decafa_rendered and decafa_faces start.",
        "decafa", _DECAFA, steps=3_000, batch_size=16, learning_rate=4e-3, clip=1.0, average=0.25, rendered=16_000, population=True,
        changes={"light": 0.4}, worn=True,
    ),
    "decafa_rendered": Recipe(
        "DeCaFA trained on rendered faces only: decafa_start goes on with rendered faces that are framed as data sets are. It has "
        "never seen a photograph.",
        "decafa", _DECAFA, steps=800, batch_size=16, learning_rate=2e-3, clip=1.0, average=0.4, rendered=16_000, population=True,
        start="decafa_start", framed=0.9, changes={"light": 0.4}, worn=True,
    ),
    "decafa_faces": Recipe(
        "DeCaFA for everyday use: starts from decafa_start, goes on with real faces, among them some rendered ones; real faces "
        "teach the 98 points through the chain to their 68.",
        "decafa", _DECAFA, steps=2_000, batch_size=16, learning_rate=3e-3, clip=1.0, average=0.25, rendered=150, population=True,
        real=True, counted_from_zero=True, start="decafa_start", framed=0.5, changes={"light": 0.4, "occlusion": 0.3}, worn=True,
    ),
}  # fmt: skip


def real_faces(split: str) -> FaceBatch:
    """The frames of a split of P1_Facial_Keypoints, with landmarks whose columns are counted from 0 as everywhere in facelab.

    The data set's labels are whole numbers and lie one column of the photograph to the right of what they mean: a network that was
    trained with mirror images has no side, yet finds the points of the training people 0.98 +- 0.04 columns to the left of them, for
    small and large photographs alike, and so does one that has never seen a label. Rows give no such sign, and stay.

    Raises:
        FileNotFoundError: the data set is not on this machine.
    """
    batch = datasets.p1(split, zoo.SIZE)
    annotated = {annotation.name: annotation.landmarks for annotation in read_p1(catalogue.path("p1"))}
    column = np.array([zoo.SIZE / square_around(bounding_box(annotated[name])).side for name in batch.names])
    moved = batch.known("landmarks").copy()
    moved[..., 0] -= column[:, None]
    return replace(batch, landmarks=moved)


def _rendered_faces(recipe: Recipe, seed: int) -> tuple[Float[np.ndarray, "B 1 H W"], Float[np.ndarray, "B 98 2"]]:
    """Gray images and landmarks; of the population, each pixel is the mean of 2 x 2, so that edges are as smooth as a lens leaves them."""
    count = recipe.rendered
    if not recipe.population:
        batch = faces.render(count, seed=seed, size=zoo.SIZE, markup=98, channels=(), yaw=(-60.0, 60.0))
        return batch.gray(), batch.known("landmarks")
    factors = Population.load(POPULATION).draw(count, seed)
    random = np.random.default_rng([seed, 1])
    factors["yaw"] = np.where(random.random(count) < 0.2, random.uniform(-60, 60, count), factors["yaw"])  # profiles are rare there
    framing = {"framing_scale": 1.0, "framing_x": 0.0, "framing_y": 0.0}
    batch = faces.render(count, seed=seed, size=2 * zoo.SIZE, markup=98, channels=(), **factors, **framing)
    images = batch.gray().reshape(count, 1, zoo.SIZE, 2, zoo.SIZE, 2).mean(axis=(3, 5))
    return images, (batch.known("landmarks") + 0.5) / 2 - 0.5


def _training_data(recipe: Recipe, seed: int) -> dict[str, Tensor]:
    """Images in bytes and landmarks in the mark-up of 98; real faces know only 68 of them, the others are NaN."""
    parts = [_rendered_faces(recipe, seed)] if recipe.rendered else []
    if recipe.real:
        read = real_faces if recipe.counted_from_zero else partial(datasets.p1, size=zoo.SIZE)
        parts += [(batch.gray(), batch.known("landmarks")) for batch in (read("train"), read("validation"))]
    images = [torch.as_tensor(np.round(gray * 255).astype(np.uint8)) for gray, _ in parts]
    landmarks = [torch.as_tensor(_as_98(points), dtype=torch.float32) for _, points in parts]
    return {"images": torch.cat(images), "landmarks": torch.cat(landmarks)}


def _as_98(landmarks: Float[np.ndarray, "B K 2"]) -> Float[np.ndarray, "B 98 2"]:
    if landmarks.shape[1] == 98:
        return landmarks
    spread = np.full((len(landmarks), 98, 2), np.nan, dtype=landmarks.dtype)
    spread[:, _SHARED] = landmarks
    return spread


def _moved(
    images: Float[Tensor, "B 1 H W"], landmarks: Float[Tensor, "B 98 2"], share: float, generator: torch.Generator
) -> tuple[Float[Tensor, "B 1 H W"], Float[Tensor, "B 98 2"]]:
    """Turned by up to 25 degrees, mirrored and framed by the landmarks' box again: a `share` of them but for a pixel, the others as
    loosely as `augment` does."""

    def draw(*shape: int) -> Tensor:
        return 2 * torch.rand(len(images), *shape, generator=generator) - 1

    warp = draw_warp(images, generator, rotation=25.0, scale=0.0, shift=0.0)
    turned = warp.landmarks(landmarks, markup(98))[:, _SHARED] - warp.centre
    low, high = turned.amin(dim=1), turned.amax(dim=1)
    close = torch.rand(len(images), generator=generator) < share
    growth = zoo.SIZE / WIDEN / (high - low).amax(dim=1) * (draw() * torch.where(close, 0.02, 0.14)).exp()
    shift = draw(2) * torch.where(close, 1.0, 0.05 * zoo.SIZE)[:, None]
    warp = replace(warp, matrix=warp.matrix * growth[:, None, None], offset=shift - growth[:, None] * (low + high) / 2)
    return warp.images(images), warp.landmarks(landmarks, markup(98))


def _worn(images: Float[Tensor, "B 1 H W"], generator: torch.Generator) -> Float[Tensor, "B 1 H W"]:
    """A third of the images as they were, the others blurred (by up to the mean of 3 x 3 pixels); all with noise of up to 0.04."""
    blur, noise = torch.rand(2, len(images), 1, 1, 1, generator=generator)
    blur = (1.5 * blur - 0.5).clamp(0, 1)
    blurred = F.avg_pool2d(F.pad(images, (1, 1, 1, 1), mode="replicate"), 3, stride=1)
    grain = torch.randn(images.shape, generator=generator)
    return (images + blur * (blurred - images) + 0.04 * noise * grain).clamp(0, 1)


def _loss(model: nn.Module, batch: dict[str, Tensor], generator: torch.Generator, recipe: Recipe) -> Tensor:
    images, landmarks = batch["images"].float() / 255, batch["landmarks"]
    changes = {"occlusion": 0.1} | recipe.changes
    if recipe.framed:
        images, landmarks = _moved(images, landmarks, recipe.framed, generator)
        changes |= {"rotation": 0.0, "scale": 0.0, "shift": 0.0, "flip": 0.0}
    images, landmarks = augment(images, landmarks, markup(98), generator, **changes)
    if recipe.worn:
        images = _worn(images, generator)
    landmarks_68 = landmarks[:, _SHARED]
    # The distance of the eyes vanishes in profile; a share of the face's height or width does not, and equals it in front.
    scale = 0.55 * (landmarks_68.amax(dim=1) - landmarks_68.amin(dim=1)).amax(dim=1)
    outputs = model(images)
    if not isinstance(outputs, list):
        return landmark_loss(outputs, landmarks_68, scale)
    true = {98: landmarks, 68: landmarks_68}
    return decafa_loss(outputs, {size: true[size] for size in outputs[-1].landmarks}, interocular=scale)


def train(name: str, seed: int = 0, checkpoint: Path | None = None, progress: bool = True, folder: Path | None = None) -> dict:
    """Train a network of `RECIPES`, write its weights and its card, and return the card.

    Args:
        name: of the recipe.
        seed: of the weights, the order of the data, the augmentation and the rendered faces.
        checkpoint: folder to resume from after an interruption; `build/zoo/NAME` by default.
        progress: show a bar.
        folder: where weights and card go, and where the network that it starts from is; `data/zoo` by default. The scores of a seed
            that went elsewhere are noted on the card in `data/zoo`.

    Raises:
        ValueError: no such recipe.
        FileNotFoundError: the real faces are needed and not on this machine.
    """
    if name not in RECIPES:
        raise ValueError(f"There is no recipe {name!r}; choose one of {tuple(RECIPES)}.")
    recipe, folder = RECIPES[name], folder or zoo.FOLDER
    data = _training_data(recipe, seed)
    arguments = dict(recipe.arguments)
    with seeded(seed):
        model = zoo.build(recipe.model, arguments)
    if recipe.start:
        model.load_state_dict(load_file(folder / f"{recipe.start}.safetensors"))
    elif recipe.model == "cnn":
        model.mean_shape.copy_(data["landmarks"][:, _SHARED].mean(dim=0))
    checkpoint = checkpoint or zoo.FOLDER.parent.parent / "build" / "zoo" / f"{name}-{seed}"
    history = training.fit(
        model, partial(_loss, recipe=recipe), data, steps=recipe.steps, batch_size=recipe.batch_size, learning_rate=recipe.learning_rate,
        clip=recipe.clip, average=recipe.average, seed=seed, device="cpu", checkpoint=checkpoint, checkpoint_every=500, progress=progress,
        name=name,
    )  # fmt: skip
    about: dict = {
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
    folder.mkdir(parents=True, exist_ok=True)
    save_file({key: value.contiguous() for key, value in model.state_dict().items()}, folder / f"{name}.safetensors")
    _write(folder, about)
    if folder != zoo.FOLDER:
        published = zoo.card(name)
        again = {"nme_percent": about["scores"]["nme_percent"], "seconds": about["seconds"]}
        _write(zoo.FOLDER, published | {"other_seeds": published.get("other_seeds", {}) | {str(seed): again}})
    return about


def _write(folder: Path, card: dict) -> None:
    (folder / f"{card['name']}.json").write_text(json.dumps(card, indent=2) + "\n", encoding="utf-8")


def scores(model: nn.Module, baselines: Sequence[str] = ()) -> dict:
    """Errors on the test people of P1_Facial_Keypoints, whom no training of the zoo has seen; intervals by person.

    Columns of the labels are counted from 0 (`real_faces`); `nme_percent_as_labelled` is the error if they are taken as they stand,
    `nme_percent_loosely_framed` that on crops moved and scaled at random (by up to 5 and 10 %), for a crop that is framed by the true
    landmarks tells where they are.

    Args:
        model: a network of the zoo.
        baselines: names of others; how much lower the error is than theirs.

    Raises:
        FileNotFoundError: the data set is not on this machine.
    """
    test = real_faces("test")
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
        "nme_percent_as_labelled": round(float(zoo.errors(model, datasets.p1("test", zoo.SIZE)).mean()), 3),
        "nme_percent_loosely_framed": round(float(zoo.errors(model, _loosely_framed(test)).mean()), 3),
        "failure_rate_10_percent": round(float(metrics.failure_rate(values, 10.0)), 4),
        "area_under_curve_10": round(float(metrics.area_under_curve(values, 10.0)), 4),
    }
    gains = {name: gain_interval(by_person(values), by_person(zoo.errors(zoo.load(name), test)), better="lower") for name in baselines}
    lower = {name: [round(100 * share, 1) for share in gain] for name, gain in gains.items()}
    return about | ({"percent_lower_than": lower} if lower else {})


def _loosely_framed(batch: FaceBatch) -> FaceBatch:
    images = torch.as_tensor(batch.gray())
    warp = draw_warp(images, torch.Generator().manual_seed(0), rotation=0.0, scale=0.1, flip=0.0)
    moved = np.round(warp.images(images)[:, 0].numpy() * 255).astype(np.uint8)
    colour = np.repeat(moved[..., None], 3, axis=3)
    return replace(batch, images=colour, landmarks=warp.landmarks(torch.as_tensor(batch.known("landmarks"))).numpy())


def _describe(recipe: Recipe, count: int) -> str:
    spread = ", heads and poses spread as in the landmarks of the training people" if recipe.population else ""
    parts = [f"{recipe.rendered} rendered faces (facelab.worlds.faces{spread})"] if recipe.rendered else []
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
    lines = ["| network | trained on | steps x faces | error, % of the eye distance | framed loosely | labels as they stand | again with |"]
    lines.append("| --- " * 7 + "|")
    for name in RECIPES:
        about = zoo.card(name)
        measured, again = about["scores"], about.get("other_seeds", {}).values()
        low, high = measured["interval_95_percent"]
        trained_on = about["data"].split(", 64")[0] + (f", from {about['start']}" if about["start"] else "")
        others = "; other seeds " + ", ".join(f"{other['nme_percent']:.2f}" for other in again) if again else ""
        error = f"{measured['nme_percent']:.2f} ({low:.2f} to {high:.2f}{others}) | {measured['nme_percent_loosely_framed']:.2f}"
        error += f" | {measured['nme_percent_as_labelled']:.2f}"
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
def _train(name: str, seed: int = 0, folder: Path = zoo.FOLDER) -> None:
    """Train the network NAME and write its weights and card to data/zoo, or to another FOLDER that is also read from."""
    try:
        typer.echo(json.dumps(train(name, seed, folder=folder)["scores"], indent=2))
    except (ValueError, FileNotFoundError) as error:
        raise SystemExit(str(error)) from None


@app.command("score")
def _score(name: str) -> None:
    """Measure the network NAME again on the test people of P1_Facial_Keypoints."""
    try:
        typer.echo(json.dumps(scores(zoo.load(name), RECIPES[name].baselines if name in RECIPES else ()), indent=2))
    except (ValueError, FileNotFoundError) as error:
        raise SystemExit(str(error)) from None


@app.command("population")
def _population() -> None:
    """Fit the distribution of heads, poses and cameras to landmarks of the training people and write it to data/zoo."""
    try:
        landmarks = datasets.p1("train", zoo.SIZE).known("landmarks")
    except FileNotFoundError as error:
        raise SystemExit(str(error)) from None
    fit_population(landmarks[::5].astype(float)).save(POPULATION)


@app.command("table")
def _table() -> None:
    """Print the cards as the Markdown table of the README."""
    typer.echo(table())


if __name__ == "__main__":
    app()

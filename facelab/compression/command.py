"""What `facelab compress` does: one network by one method, beside what a user would pick instead; stored, measured, reported."""

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import torch
from torch import nn

from facelab.blocks import seeded
from facelab.blocks.digests import digest, digest_of_network
from facelab.compression import bench, report
from facelab.compression.packing import load_packed, save_packed
from facelab.compression.registry import Job, compress, method
from facelab.importance.scores import Loader, Score
from facelab.networks.evaluation import answers
from facelab.networks.folding import NORMS, folded


@dataclass(frozen=True)
class Outcome:
    """What was written and measured.

    Attributes:
        table: of `bench.evaluate`: the original, the method, its opponents.
        files: what was written: the network, the table, the page.
        refused: sentence of each opponent that could not handle the network.
    """

    table: pd.DataFrame
    files: tuple[Path, ...]
    refused: tuple[str, ...]


def files_of(out: str | Path) -> tuple[Path, Path, Path]:
    """The files beside each other: network, table and page.

    Raises:
        ValueError: the name does not end in .safetensors.
    """
    target = Path(out)
    if target.suffix != ".safetensors":
        raise ValueError(f"The network goes into a safetensors file; --out {target} must end in .safetensors.")
    return target, target.with_suffix(".parquet"), target.with_suffix(".html")


def run(
    model: nn.Module,
    training: Loader,
    evaluation: Loader,
    scores: tuple[Score, Score],
    name: str,
    out: str | Path,
    *,
    strength: float | None = None,
    against: Sequence[str] = (),
    steps: int = 150,
    seed: int = 0,
    force: bool = False,
    progress: Callable[[str, int, int], None] = lambda what, done, of: None,
) -> Outcome:
    """Compresses a network, writes it with a table and a page, and keeps what is finished if it is interrupted.

    Args:
        model: the network; it stays as it is.
        training, evaluation: (inputs, targets), the second for the figures of the report.
        scores: the reported one and the one to differentiate.
        name: of the method, in `registry.METHODS`.
        out: file of the network; the table and the page lie beside it.
        strength: as the method means it; its default if it is not given.
        against: methods whose results are measured beside it, at the same strength if it means the same to them, else at their default.
        steps: of fine-tuning.
        seed: of what is random.
        force: overwrite, and forget what an earlier run with other settings left.
        progress: called with what is done next, how many of the steps are done, and of how many.

    Raises:
        ValueError: the output is there already, an unfinished run had other settings, or the method cannot handle the network.
    """
    chosen, files = method(name), files_of(out)
    strengths = {name: chosen.default if strength is None else strength}
    for other in against:
        same = method(other).meaning == chosen.meaning
        strengths.setdefault(other, strengths[name] if same else method(other).default)
    if not force and (there := [file for file in files if file.exists()]):
        raise ValueError(f"{there[0]} is there already; choose another --out, or --force to overwrite it.")
    first = next(iter(evaluation))
    answers(model, first[0])
    settings = {"strengths": strengths, "steps": steps, "seed": seed, "network": digest_of_network(model), "data": digest(*first)}
    work = files[0].with_name(f".{files[0].stem}.unfinished")
    _begin(work, settings, force)
    stages, made, reports, refused = [*strengths, "measure"], {}, {}, []
    for place, one in enumerate(strengths):
        progress(method(one).name, place, len(stages))
        try:
            job = Job(model, training, scores[1], strengths[one], steps, seed)
            made[method(one).name], reports[method(one).name] = _kept(work, one, job)
        except ValueError as error:
            if one == name:
                if not list(work.glob("*.safetensors")):
                    shutil.rmtree(work)  # nothing is worth keeping
                raise
            refused.append(f"{method(one).name} was left out: {error}")
    progress("measuring", len(strengths), len(stages))
    networks: dict[str, nn.Module] = {bench.ORIGINAL: model}
    if any(isinstance(module, NORMS) for module in model.modules()):
        networks["batch norms folded"] = folded(model, first[0][:2])
    table, layers = bench.evaluate(networks | made, evaluation, scores[0])
    title = f"{type(model).__name__} by {chosen.name}, strength {strengths[name]:g} ({chosen.meaning})"
    files[0].parent.mkdir(parents=True, exist_ok=True)
    save_packed(made[chosen.name], files[0])
    _require_same(made[chosen.name], load_packed(files[0], model), first[0], files[0])
    report.saved(table, files[1])
    report.write_page(files[2], title, table, layers, reports)
    shutil.rmtree(work)
    progress("done", len(stages), len(stages))
    return Outcome(table, files, tuple(refused))


def _begin(work: Path, settings: dict, force: bool) -> None:
    """A folder for what is finished, with the settings of the run."""
    note = work / "settings.json"
    if note.exists():
        before = json.loads(note.read_text(encoding="utf-8"))
        if before == settings:
            return
        if not force:
            other = next(key for key in settings if before.get(key) != settings[key])
            raise ValueError(f"{work} holds an unfinished run with another {other}; --force forgets it.")
        shutil.rmtree(work)
    work.mkdir(parents=True, exist_ok=True)
    note.write_text(json.dumps(settings), encoding="utf-8")


def _kept(work: Path, name: str, job: Job) -> tuple[nn.Module, pd.DataFrame]:
    """The result of a method: of an interrupted run, or made now and kept."""
    network, table = work / f"{name}.safetensors", work / f"{name}.parquet"
    if not table.exists():
        with seeded(job.seed):
            small, told = compress(name, job)
        save_packed(small, network)
        report.saved(_plain(told), table)  # last, so that both are whole
    return load_packed(network, job.model), pd.read_parquet(table)


def _plain(table: pd.DataFrame) -> pd.DataFrame:
    """Tuples as text, which a parquet file has no column for."""
    return table.apply(lambda column: column.map(str) if column.map(lambda value: isinstance(value, tuple | list)).any() else column)


def _require_same(small: nn.Module, again: nn.Module, inputs: torch.Tensor, path: Path) -> None:
    """What is stored must be what was measured."""
    with torch.no_grad():
        made, read = small.eval()(inputs), again(inputs)
    if not torch.allclose(made, read, rtol=1e-5, atol=1e-6 * float(made.abs().max().clamp_min(1))):
        off = float((made - read).abs().max())
        raise ValueError(
            f"The network in {path} differs by {off:.2g} from the one measured; its code keeps numbers outside of its state dict."
        )

"""Settled figures: what a notebook measures over several seeds and several arithmetics, kept in `data/settled/SLUG.json`.

One training is one throw of the dice. Another seed is another throw; so is another processor, which adds in another order, for
training amplifies the last digit. Every claim is therefore measured in several runs, and judged in a notebook only if it was
met in all of them. An interval pools the runs: rows are seeds (runs of one seed share their faces and are averaged first),
columns are samples, and both are resampled. The mean of samples, or the statistic of a set of them, is taken in each row.
"""

import json
import math
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np

from facelab.claims import number_or_none, unpacked
from facelab.course import running
from facelab.course.fingerprints import ARITHMETICS, PACKAGE, arithmetic, fingerprint
from facelab.course.running import Notebook, Run, Task
from facelab.statistics import BaselineNearZero, Statistic, gain_interval, value_of

FOLDER = PACKAGE.parent / "data" / "settled"
WORK = Path("build") / "settled"
STAND_INS = ("avx2", "shaken")
"""Arithmetics under which seed 0 is run as well."""


def settle(
    notebooks: Iterable[Notebook],
    *,
    seeds: int = 5,
    jobs: int = 2,
    parameters: dict[str, Any] | None = None,
    work: Path = WORK,
    folder: Path = FOLDER,
    progress: Callable[[Task, int, int], None] = lambda task, done, cells: None,
    begun: Callable[[list[Task], list[Task]], None] = lambda tasks, missing: None,
) -> dict[str, list[str]]:
    """Runs each notebook with `seeds` seeds, and with seed 0 under the stand-ins for other machines; writes its settled figures.

    A run that is already there, of the same notebook and the same modules, is not made again; each is kept as soon as it ends.

    Args:
        parameters: to inject into every run, beside the seed; a variant of a notebook has a file of its own.
        work: folder of the single runs, with all their scores.
        folder: of the settled figures.
        progress: called with (task, cells done, cells).
        begun: called once with all tasks and with those that have to be run.

    Returns:
        for each notebook what went wrong: one sentence per run that broke off. Its figures are then not written.
    """
    notebooks, parameters = list(notebooks), dict(parameters or {})
    if seeds < 2:
        raise ValueError(f"seeds={seeds} shows nothing of the chance in training; give 2 or more.")
    for name in ("seed", "sabotage"):
        if parameters.get(name):
            raise ValueError(f"{name}={parameters[name]!r} is no variant that can be settled; leave it out.")
    plan = {n.slug: [_task(n, parameters, seed, name, work) for seed, name in runs_of(n, seeds)] for n in notebooks}
    stamps = {n.slug: fingerprint(n.path) for n in notebooks}
    done = {n.slug for n in notebooks if _is_settled(load(n.slug, parameters, folder), stamps[n.slug], runs_of(n, seeds))}
    tasks = [task for group in plan.values() for task in group]
    missing = [t for t in tasks if t.notebook.slug not in done and _stored(t, stamps[t.notebook.slug]) is None]
    for task in missing:
        arithmetic(task.environment)  # what does not run under these variables fails now, before any run is made
    begun(tasks, missing)
    broken: dict[str, list[str]] = {}

    def keep(index: int, result: Run) -> None:
        task = missing[index]
        slug, why = task.notebook.slug, ""
        if result.error and not result.error.startswith("ClaimNotMet"):
            why = f"{result.error.splitlines()[0]} See {result.copy}."
        elif fingerprint(task.notebook.path) != stamps[slug]:
            why = "the code was changed meanwhile; start again."
        if why:
            broken.setdefault(slug, []).append(f"{task.output.name}: {why}")
        else:
            _write(_record(task), _described(task, result, stamps[slug]))

    running.run_all(missing, jobs=jobs, progress=lambda index, done, cells: progress(missing[index], done, cells), finished=keep)
    for slug in stamps.keys() - broken.keys() - done:
        runs = [run for task in plan[slug] if (run := _stored(task, stamps[slug]))]
        try:
            figures = pooled(slug, parameters, stamps[slug], runs)
        except ValueError as error:
            broken[slug] = [str(error)]
        else:
            _write(path_of(slug, parameters, folder), figures)
    return broken


def runs_of(notebook: Notebook, seeds: int) -> list[tuple[int, str]]:
    """(seed, arithmetic) of each run: a notebook without a seed is run once per arithmetic."""
    own = range(seeds if "seed" in notebook.parameters else 1)
    return [(seed, "native") for seed in own] + [(0, arithmetic) for arithmetic in STAND_INS]


def _is_settled(figures: dict[str, Any] | None, stamp: str, runs: list[tuple[int, str]]) -> bool:
    """Whether the figures are of this code and hold all these runs, or more."""
    if figures is None or figures["fingerprint"] != stamp:
        return False
    return set(runs) <= {(run["seed"], run["arithmetic"]) for run in figures["runs"]}


def path_of(slug: str, parameters: dict[str, Any] | None = None, folder: Path = FOLDER) -> Path:
    """Where the settled figures of a notebook, or of a variant of it, are."""
    name = "--".join([slug, *(f"{key}-{value}" for key, value in sorted((parameters or {}).items()))])
    return folder / f"{''.join(c if c.isalnum() or c in '-_.' else '_' for c in name)}.json"


def load(slug: str, parameters: dict[str, Any] | None = None, folder: Path = FOLDER) -> dict[str, Any] | None:
    """The settled figures of a notebook; None if it has none yet."""
    path = path_of(slug, parameters, folder)
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None


def load_all(slug: str, folder: Path = FOLDER) -> list[dict[str, Any]]:
    """The settled figures of a notebook and of its variants, the notebook as it is first."""
    paths = sorted([*folder.glob(f"{slug}.json"), *folder.glob(f"{slug}--*.json")], key=lambda path: (len(path.stem), path.stem))
    return [json.loads(path.read_text(encoding="utf-8")) for path in paths]


def pooled(slug: str, parameters: dict[str, Any], stamp: str, runs: list[dict[str, Any]]) -> dict[str, Any]:
    """The settled figures of runs as `settle` keeps them: per claim its gains, per run its metrics and where it was made.

    Raises:
        ValueError: a claim or a metric that some runs lack, or a baseline that cannot be told from zero under a claim that is judged.
    """
    claims: list[dict[str, Any]] = []
    seeds = [run["seed"] for run in runs]
    if len({tuple(sorted(run["metrics"])) for run in runs}) > 1:
        raise ValueError(f"{slug} records other metrics in some runs than in others; a metric has to be recorded whatever the seed.")
    for name in dict.fromkeys(claim["name"] for run in runs for claim in run["claims"]):
        made = [claim for run in runs for claim in run["claims"] if claim["name"] == name]
        if len(made) != len(runs):
            raise ValueError(f"{slug}: the claim {name!r} is missing in some runs; a claim has to be made whatever the seed.")
        of_runs = [[unpacked(claim["scores"][side]) for claim in made] for side in ("ours", "baseline")]
        about = {"absolute": made[0].get("absolute", False), "statistic": made[0].get("statistic", "")}
        statistic = _statistic(name, about["statistic"])
        rows = of_runs if statistic is None else [[np.atleast_1d(value_of(statistic, sets).mean()) for sets in side] for side in of_runs]
        ours, baseline = (_matrix(side, seeds) for side in rows)
        averages = {"ours": float(ours.mean()), "baseline": float(baseline.mean())}
        options: dict[str, Any] = {"better": made[0]["better"], "absolute": about["absolute"]}
        if statistic is not None and len({sets.shape[-3:] for sets in of_runs[0]}) == 1:  # else there are no samples in common
            ours, baseline = (np.concatenate([sets.reshape(-1, *sets.shape[-3:]) for sets in side]) for side in of_runs)
            labels = [seed for sets, seed in zip(of_runs[0], seeds, strict=True) for _ in range(sets[..., 0, 0, 0].size)]
            options |= {"statistic": statistic, "labels": labels}
        try:
            gain, low, high = gain_interval(ours, baseline, **options)
        except BaselineNearZero:
            if not made[0]["indicative"]:
                raise
            gain = low = high = math.nan
        gains = [math.nan if claim["gain"] is None else claim["gain"] for claim in made]
        # Runs of one seed may be copies of each other, where the processor knows no other arithmetic: they must not make it look steady.
        of_seeds = [float(np.mean([g for g, own in zip(gains, seeds, strict=True) if own == seed])) for seed in dict.fromkeys(seeds)]
        spread = max(float(np.std(values, ddof=1)) for values in (gains, of_seeds) if len(values) > 1)
        claims.append(
            {key: made[0][key] for key in ("name", "statement", "better", "unit", "margin", "indicative")}
            | {key: value for key, value in about.items() if value}
            | averages
            | {"gain": number_or_none(gain), "low": number_or_none(low), "high": number_or_none(high)}
            | {f"{key}s": [claim[key] for claim in made] for key in ("gain", "low", "high")}
            | {"met": sum(claim["met"] for claim in made), "spread": number_or_none(spread)}
        )
    described = [{key: value for key, value in run.items() if key not in ("claims", "fingerprint")} for run in runs]
    return {"slug": slug, "parameters": parameters, "fingerprint": stamp, "claims": claims, "runs": described}


def may_be_judged(claim: dict[str, Any]) -> bool:
    """Whether a settled claim was met in every run and the worst run clears the margin by the standard deviation over runs."""
    return claim["met"] == len(claim["gains"]) and min(claim["gains"]) - claim["spread"] > claim["margin"]


def metric_ranges(settled: dict[str, Any]) -> dict[str, tuple[float, float]]:
    """Lowest and highest value of each metric over the runs."""
    names = settled["runs"][0]["metrics"]
    return {name: (min(r["metrics"][name] for r in settled["runs"]), max(r["metrics"][name] for r in settled["runs"])) for name in names}


# --- files of single runs ------------------------------------------------------------------------------------------------


def _task(notebook: Notebook, parameters: dict[str, Any], seed: int, name: str, work: Path) -> Task:
    # A graphics card would calculate differently whatever the processor is told.
    own = parameters | {key: value for key, value in (("seed", seed), ("device", "cpu")) if key in notebook.parameters}
    variant = path_of(notebook.slug, parameters).stem
    # One thread per process: sums over threads depend on how many there are.
    environment = {"OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1"} | ARITHMETICS[name]
    return Task(notebook, own, work / variant / f"{name}-{seed}", environment)


def _record(task: Task) -> Path:
    return task.output / "run.json"


def _stored(task: Task, stamp: str) -> dict[str, Any] | None:
    """The run as it was kept, if it is of this notebook and these modules."""
    try:
        run = json.loads(_record(task).read_text(encoding="utf-8"))
    except (OSError, json.JSONDecodeError):
        return None
    return run if run["fingerprint"] == stamp else None


def _described(task: Task, result: Run, stamp: str) -> dict[str, Any]:
    name, _, seed = task.output.name.rpartition("-")
    cost = {"processor_seconds": round(result.processor_seconds, 1), "memory_mb": round(result.memory_mb)}
    about = {"seed": int(seed), "arithmetic": name} | arithmetic(task.environment)
    return about | cost | {"fingerprint": stamp, "metrics": result.metrics, "claims": result.claims}


def _write(path: Path, content: dict[str, Any]) -> None:
    """Complete or not at all, whatever happens meanwhile."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    partial.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    partial.replace(path)


def _statistic(claim: str, name: str) -> Statistic | None:
    """The statistic of sets that a stored claim names. Only those of `facelab.metrics`: nothing else that a file names is run."""
    if not name:
        return None
    from facelab import metrics

    module, _, function = name.rpartition(".")
    if module != metrics.__name__ or not hasattr(metrics, function):
        raise ValueError(f"The claim {claim!r} is of the statistic {name}, which cannot be settled; move it to facelab.metrics.")
    return getattr(metrics, function)


def _matrix(scores: list[np.ndarray], seeds: list[int]) -> np.ndarray:
    """Runs as rows, one per seed, samples as columns; without samples in common, the runs' means alone."""
    rows = [row.mean(axis=0) if row.ndim == 2 else row for row in scores]
    if len({len(row) for row in rows}) > 1:
        rows = [row.mean(keepdims=True) for row in rows]
    together = np.stack(
        [np.mean([row for row, own in zip(rows, seeds, strict=True) if own == seed], axis=0) for seed in dict.fromkeys(seeds)]
    )
    return together[0] if len(together) == 1 else together

"""What the notebooks measured when papermill ran them, for the browser to find again."""

import json
from pathlib import Path

from facelab.course import running
from facelab.course.fingerprints import ARITHMETICS, fingerprint

FOLDER = Path(__file__).resolve().parents[2] / "build" / "measured"
PLANNED = 51  # notebooks of the whole course, appendices not counted
EACH = 40  # processor seconds that a new notebook may take
CORES = 2
REST = 13  # minutes of `make test` that do not run notebooks (unit tests 8, explorers 1), and of their variants on real faces (4)


def projection(notebooks: list[running.Notebook]) -> tuple[float, float]:
    """Stated processor seconds of all notebooks, and minutes of `make test` with the whole course: each notebook runs twice."""
    stated = sum(notebook.seconds for notebook in notebooks)
    missing = PLANNED - sum(not notebook.appendix for notebook in notebooks)
    return stated, 2 * (stated + EACH * missing) / CORES / 60 + REST


def keep(result: running.Run, arithmetic: str) -> dict:
    """Writes metrics and claims of a run that went to its end; returns them."""
    assert not result.error, result.error
    figures = {"fingerprint": fingerprint(result.notebook.path), "arithmetic": arithmetic}
    figures |= {"metrics": result.metrics, "claims": result.claims}
    FOLDER.mkdir(parents=True, exist_ok=True)
    (FOLDER / f"{result.notebook.slug}.json").write_text(json.dumps(figures), encoding="utf-8")
    return figures


def figures_of(notebook: running.Notebook, arithmetic: str, output: Path, environment: dict[str, str]) -> dict:
    """What papermill measured with this code and arithmetic; measured now where `make notebooks` has not been run before."""
    path = FOLDER / f"{notebook.slug}.json"
    if path.exists():
        figures = json.loads(path.read_text(encoding="utf-8"))
        if (figures["fingerprint"], figures["arithmetic"]) == (fingerprint(notebook.path), arithmetic):
            return figures
    own = {"device": "cpu"} if "device" in notebook.parameters else {}
    return keep(running.run(running.Task(notebook, own, output, environment | ARITHMETICS[arithmetic])), arithmetic)

"""Every notebook is executed, offline: its claims hold, its metrics are the recorded ones, its cost is what it states.

Golden metrics (tests/golden/SLUG.json) are exact on the machine that wrote them. Elsewhere other processors add in another
order, and training amplifies the last digit, so they are compared within a relative tolerance that the file states
(default 0.2): wide enough for another machine, narrow enough for a broken method. `make golden` writes them anew.
"""

import json
import re
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import nbformat
import pytest

from facelab import running

TESTS = Path(__file__).resolve().parent.parent
GOLDEN = TESTS / "golden"
TOLERANCE = 0.2
SLACK_SECONDS = 3.0  # slower machines, and another notebook on the other core
SLACK_MEMORY = 1.3
JOBS = 2


def variants():
    """Each notebook as it is, and on the real faces where it knows them: (slug, source)."""
    for notebook in running.discover():
        yield pytest.param(notebook.slug, "", id=notebook.slug)
        if "source" in notebook.parameters:
            yield pytest.param(notebook.slug, "p1", id=f"{notebook.slug}-p1", marks=pytest.mark.real)


every_run = pytest.mark.parametrize(("slug", "source"), list(variants()))
NOTEBOOKS = {notebook.slug: notebook for notebook in running.discover()}


@pytest.fixture(scope="session")
def runs(request, tmp_path_factory):
    """Starts all runs that the chosen tests need, JOBS at a time, each once; `runs(slug, source, repeat)` waits for one."""
    wanted: dict[tuple[str, str, bool], None] = {}
    for item in request.session.items:
        if "runs" not in getattr(item, "fixturenames", ()):
            continue
        slug, source = item.callspec.params["slug"], item.callspec.params.get("source", "")
        if item.get_closest_marker("real") and not _have_faces():
            continue
        wanted[slug, source, False] = None
        if item.function is test_twice_the_same_figures:
            wanted[slug, source, True] = None
    folder = tmp_path_factory.mktemp("executed")

    def start(slug: str, source: str, repeat: bool) -> running.Run:
        parameters = {"source": source} if source else {}
        environment = {"PYTHONPATH": str(TESTS / "support"), "OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1"}
        output = folder / ("again" if repeat else "first")
        return running.run(NOTEBOOKS[slug], parameters, output=output, environment=environment)

    with ThreadPoolExecutor(JOBS) as pool:
        futures: dict[tuple[str, str, bool], Future] = {task: pool.submit(start, *task) for task in wanted}
        yield lambda slug, source="", repeat=False: futures[slug, source, repeat].result()


def _have_faces() -> bool:
    from facelab.datasets import catalogue

    try:
        return bool(catalogue.path("p1"))
    except FileNotFoundError:
        return False


@every_run
def test_runs_and_its_claims_hold(runs, slug, source):
    result = runs(slug, source)
    assert not result.error, f"{result.error}\nSee {result.copy}"
    assert not result.unmet
    if NOTEBOOKS[slug].sabotages:
        assert result.claims, "a method notebook measures at least one claim"
        assert any(claim["verdict"] == "met" for claim in result.claims) or source, "nothing is settled by this run"
        names = [claim["name"] for claim in result.claims]
        assert len(set(names)) == len(names)


@every_run
def test_states_its_seeds(runs, slug, source):
    claims = runs(slug, source).claims
    if claims:
        assert max(claim["seeds"] for claim in claims) == NOTEBOOKS[slug].seeds, "put the number of seeds into the metadata"


@every_run
def test_metrics_are_the_recorded_ones(runs, slug, source, request):
    metrics = runs(slug, source).metrics
    path = GOLDEN / f"{slug}.json"
    golden = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {"tolerance": TOLERANCE, "metrics": {}}
    key = source or "default"
    if request.config.getoption("--golden"):
        golden["metrics"][key] = metrics
        path.write_text(json.dumps(golden, indent=2, sort_keys=True) + "\n", encoding="utf-8")
        return
    if not metrics and not NOTEBOOKS[slug].sabotages:
        pytest.skip("this notebook records no metrics")
    assert key in golden["metrics"], "no recorded metrics yet: run `make golden` and look at them"
    assert set(metrics) == set(golden["metrics"][key]), "other metrics than recorded: run `make golden` and look at them"
    for name, value in metrics.items():
        assert value == pytest.approx(golden["metrics"][key][name], rel=golden["tolerance"], abs=1e-3), name


@every_run
def test_costs_what_it_states(runs, slug, source):
    result = runs(slug, source)
    assert result.seconds <= SLACK_SECONDS * NOTEBOOKS[slug].seconds
    assert result.memory_mb <= SLACK_MEMORY * NOTEBOOKS[slug].memory_mb


@every_run
def test_outputs_are_clean_and_small(runs, slug, source):
    result = runs(slug, source)
    content = nbformat.read(result.copy, as_version=4)
    printed = "\n".join(output.get("text", "") for cell in content.cells for output in cell.get("outputs", []))
    assert not re.search(r"\w*Warning\b", printed)
    assert "widgets" not in content.metadata
    assert result.copy.stat().st_size < 8 * 2**20


@pytest.mark.parametrize("slug", [slug for slug, notebook in NOTEBOOKS.items() if notebook.sabotages])
def test_twice_the_same_figures(runs, slug):
    first, again = runs(slug), runs(slug, repeat=True)
    assert first.metrics
    assert first.metrics == again.metrics
    assert first.claims == again.claims

"""Every notebook is executed, offline: its claims hold, its metrics lie where they were settled, its cost is what it states.

The runs use one portable arithmetic (`--arithmetic`, AVX2 unless told otherwise). Where a small training on the spot gives the
checksum of a settled run, the same training must give the same figures, to 1e-3; elsewhere training amplifies the last digit,
and a metric must lie in its settled range, widened by its own width. What was measured is kept in `build/measured` for the
browser, which runs every notebook once more and has to find the same.
"""

import json
import re
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import nbformat
import pytest
from measured import keep

from facelab.course import running, settling
from facelab.course.fingerprints import ARITHMETICS, arithmetic

TESTS = Path(__file__).resolve().parent.parent
SLACK_SECONDS = 1.6  # slower machines, and another notebook on the other core
SLACK_MEMORY = 1.3
JOBS = 2
NOTEBOOKS = {notebook.slug: notebook for notebook in running.discover()}


def variants():
    """Each notebook as it is, and on the real faces where it knows them: (slug, source)."""
    for notebook in NOTEBOOKS.values():
        yield pytest.param(notebook.slug, "", id=notebook.slug)
        if "source" in notebook.parameters:
            yield pytest.param(notebook.slug, "p1", id=f"{notebook.slug}-p1", marks=pytest.mark.real)


every_run = pytest.mark.parametrize(("slug", "source"), list(variants()))


@pytest.fixture(scope="session")
def environment(request):
    """Of the kernels: offline, one thread, the arithmetic asked for."""
    chosen = ARITHMETICS[request.config.getoption("--arithmetic")]
    return {"PYTHONPATH": str(TESTS / "support"), "OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1"} | chosen


@pytest.fixture(scope="session")
def runs(request, environment, tmp_path_factory):
    """Starts all runs that the chosen tests need, JOBS at a time, each once; `runs(slug, source)` waits for one."""
    wanted: dict[tuple[str, str], None] = {}
    for item in request.session.items:
        if "runs" in getattr(item, "fixturenames", ()) and (not item.get_closest_marker("real") or _have_faces()):
            wanted[item.callspec.params["slug"], item.callspec.params["source"]] = None
    folder = tmp_path_factory.mktemp("executed")

    def start(slug: str, source: str) -> running.Run:
        own = ({"source": source} if source else {}) | ({"device": "cpu"} if "device" in NOTEBOOKS[slug].parameters else {})
        result = running.run(running.Task(NOTEBOOKS[slug], own, folder, environment))
        if not source and not result.error:
            keep(result, request.config.getoption("--arithmetic"))
        return result

    with ThreadPoolExecutor(JOBS) as pool:
        # The longest first, so that no core waits for the other at the end.
        order = sorted(wanted, key=lambda task: -NOTEBOOKS[task[0]].seconds)
        futures: dict[tuple[str, str], Future] = {task: pool.submit(start, *task) for task in order}
        yield lambda slug, source: futures[slug, source].result()


def _have_faces() -> bool:
    from facelab.datasets import catalogue

    try:
        return bool(catalogue.path("p1"))
    except FileNotFoundError:
        return False


def settled_figures(slug, source):
    """None for a variant on real faces that nobody has settled: then nothing that a short training decides may be judged there."""
    figures = settling.load(slug, {"source": source} if source else {})
    assert figures is not None or source, f"no settled figures: facelab settle {slug}"
    return figures


@every_run
def test_runs_and_its_claims_hold(runs, slug, source):
    result = runs(slug, source)
    assert not result.error, f"{result.error}\nSee {result.copy}"
    assert not result.unmet
    if NOTEBOOKS[slug].sabotages:
        assert result.claims, "a method notebook measures at least one claim"
        shown_only = source or NOTEBOOKS[slug].appendix  # an appendix may only show
        assert shown_only or any(claim["verdict"] == "met" for claim in result.claims), "nothing is settled by this run"
        names = [claim["name"] for claim in result.claims]
        assert len(set(names)) == len(names)


@every_run
def test_states_its_seeds(runs, slug, source):
    claims = runs(slug, source).claims
    if claims:
        assert max(claim["seeds"] for claim in claims) == NOTEBOOKS[slug].seeds, "put the number of seeds into the metadata"


@every_run
def test_its_claims_are_the_settled_ones(runs, slug, source):
    keys = ("name", "statement", "margin", "indicative", "better", "unit")
    made = [{key: claim[key] for key in keys} for claim in runs(slug, source).claims]
    if not made:
        return
    figures = settled_figures(slug, source)
    if figures is None:
        judged = [claim["name"] for claim in made if not claim["indicative"]]
        assert all(name.startswith("at_length") for name in judged), f"{judged}: judged, but not settled"  # of networks in the zoo
    else:
        assert made == [{key: claim[key] for key in keys} for claim in figures["claims"]], "run `facelab settle`"


@every_run
def test_metrics_lie_where_they_were_settled(runs, environment, slug, source):
    metrics = runs(slug, source).metrics
    if not metrics:
        assert not NOTEBOOKS[slug].sabotages, "a method notebook records its metrics"
        return
    figures = settled_figures(slug, source)
    if figures is None:  # other faces, other figures, but the same names, and none off by an order of magnitude
        ranges = settling.metric_ranges(settled_figures(slug, ""))
        assert set(metrics) == set(ranges)
        assert all(low / 10 - 1e-6 <= metrics[name] <= 10 * high + 1e-6 for name, (low, high) in ranges.items())
        return
    assert set(metrics) == set(figures["runs"][0]["metrics"]), "other metrics than settled: run `facelab settle`"
    checksum = arithmetic(environment)["checksum"]
    same = [run for run in figures["runs"] if run["checksum"] == checksum and run["seed"] == 0]
    for name, value in metrics.items():
        if same:
            assert value == pytest.approx(same[0]["metrics"][name], rel=1e-3, abs=1e-6), f"{name}, same arithmetic as when settled"
        low, high = settling.metric_ranges(figures)[name]
        width = (high - low) + 1e-6 + 1e-3 * abs(high)  # what is the same in all runs may differ by rounding
        assert low - width <= value <= high + width, f"{name}, settled at {low:.4g} to {high:.4g}"


@every_run
def test_costs_what_it_states(runs, slug, source):
    result = runs(slug, source)
    assert result.processor_seconds <= SLACK_SECONDS * NOTEBOOKS[slug].seconds
    assert result.memory_mb <= SLACK_MEMORY * NOTEBOOKS[slug].memory_mb


@every_run
def test_outputs_are_clean_and_small(runs, slug, source):
    result = runs(slug, source)
    content = nbformat.read(result.copy, as_version=4)
    printed = "\n".join(output.get("text", "") for cell in content.cells for output in cell.get("outputs", []))
    assert not re.search(r"\w*Warning\b", printed)
    assert "widgets" not in content.metadata
    assert result.copy.stat().st_size < 8 * 2**20


def test_every_notebook_with_claims_is_settled():
    """At least seven runs of each method; what is judged was met in all of them, and the worst clears the margin by the spread."""
    for notebook in NOTEBOOKS.values():
        for figures in settling.load_all(notebook.slug):
            assert len(figures["runs"]) >= (7 if "seed" in notebook.parameters else 3)
            for claim in figures["claims"]:
                assert claim["indicative"] or settling.may_be_judged(claim), f"{notebook.slug}: {claim['name']} may not be judged"
        assert settling.load(notebook.slug) or not notebook.sabotages


def test_the_tables_are_those_of_the_settled_figures():
    from facelab.course import scoreboard

    for path, text in scoreboard.tables(list(NOTEBOOKS.values())).items():
        assert path.read_text(encoding="utf-8") == text, "run `facelab scoreboard --readme`"


def test_stored_figures_are_readable_json():
    for path in settling.FOLDER.glob("*.json"):
        assert json.loads(path.read_text(encoding="utf-8"))["slug"] in NOTEBOOKS

import json
import os
import sys
import threading

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from facelab.course import running
from facelab.course.running import Task, UnknownNotebook, discover, find, run, run_all, scoreboard, student_copy, typed_parameters

PARAMETERS = 'preset = "quick"\nseed = 0\ndevice = "auto"\nsabotage = ""\nscale = 0.5\nflag = False\nsource = "world"'
METADATA = dict(
    slug="toy", part=1, number="11", title="Toy", paper="A. Author, 2020", seconds=5, memory_mb=300, sabotages=["worse", "nothing"]
)


def write_notebook(folder, cells, name="11_toy.ipynb", **metadata):
    path = folder / "1_alignment" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    content = new_notebook(cells=[new_code_cell(PARAMETERS, metadata={"tags": ["parameters"]}), *cells])
    content.metadata["facelab"] = METADATA | {"sabotages": ["worse", "nothing"]} | metadata
    nbformat.write(content, path)
    return path


MEASURE = """from facelab import claims
baseline = [1.0, 2.0, 3.0, 4.0]
factor = 2.0 if sabotage == "worse" else scale
better = claims.claim("Ours is better", ours=[factor * b for b in baseline], baseline=baseline, better="lower", name="better")
claims.record(error=factor, seed=seed)"""
SURROUNDINGS = """import os, sys, socket
print(os.getcwd(), sys.executable, type(flag).__name__, type(scale).__name__, os.environ.get("OMP_NUM_THREADS"))"""
MEMORY = """import subprocess, sys
held = bytearray(100_000_000)
child = subprocess.run([sys.executable, "-c", "import time; held = bytearray(100_000_000); time.sleep(0.5)"])"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("notebooks")
    widget = new_code_cell("import ipywidgets\nipywidgets.IntSlider()")
    solution = new_code_cell("answer = 1", metadata={"tags": ["solution"]})
    cells = [new_markdown_cell("# Toy"), new_code_cell(SURROUNDINGS), widget, new_code_cell(MEASURE), solution]
    write_notebook(folder, [*cells, new_code_cell("claims.require(better)")])
    write_notebook(folder, [new_code_cell(MEMORY)], "12_hungry.ipynb", slug="hungry", number="12", sabotages=[])
    write_notebook(folder, [new_code_cell("undefined_name")], "13_faulty.ipynb", slug="faulty", number="13", sabotages=[])
    return folder


@pytest.fixture(scope="module")
def runs(folder, tmp_path_factory):
    """All the runs that the tests look at, two at a time."""
    toy, hungry, faulty = discover(folder)
    tasks = {
        "plain": (toy, {}),
        "again": (toy, {"seed": 0}),
        "parameters": (toy, {"scale": 0.25, "flag": True}),
        "sabotaged": (toy, {"sabotage": "worse"}),
        "hungry": (hungry, {}),
        "faulty": (faulty, {}),
    }
    seen, output = [], tmp_path_factory.mktemp("executed")
    asked = [Task(*task, output) for task in tasks.values()]
    results = run_all(asked, jobs=2, progress=lambda *report: seen.append(report))
    return dict(zip(tasks, results, strict=True)) | {"output": output, "seen": seen}


def text_of(result):
    content = nbformat.read(result.copy, as_version=4)
    return "".join(output.get("text", "") for cell in content.cells for output in cell.get("outputs", []))


def test_a_run_collects_claims_metrics_and_cost(runs):
    result = runs["plain"]
    assert result.passed
    assert result.error == ""
    assert [claim["name"] for claim in result.claims] == ["better"]
    assert result.claims[0]["gain"] == pytest.approx(0.5)
    assert result.metrics == {"error": 0.5, "seed": 0.0}
    assert 0 < result.seconds < 60
    assert 0 < result.processor_seconds < 60
    assert 30 < result.memory_mb < 500
    assert json.loads(json.dumps(result.summary()))["passed"] is True


def test_the_kernel_is_this_interpreter_in_the_folder_of_the_notebook(runs, folder):
    text = text_of(runs["plain"])
    assert str(folder / "1_alignment") in text
    assert sys.executable in text
    assert f"bool float {os.environ.get('OMP_NUM_THREADS', '1')}" in text


def test_parameters_arrive_with_their_types(runs):
    assert "bool float" in text_of(runs["parameters"])
    assert runs["parameters"].metrics["error"] == 0.25


def test_a_sabotage_makes_the_claim_fail_without_breaking_the_notebook(runs):
    result = runs["sabotaged"]
    assert result.unmet == ["better"]
    assert result.error.startswith("ClaimNotMet")
    assert not result.passed
    assert not result.broken


def test_a_fault_of_the_notebook_is_told_from_a_failed_check(runs):
    result = runs["faulty"]
    assert result.broken
    assert result.error.startswith("NameError")
    assert "undefined_name" in result.copy.read_text()  # the copy shows where


def test_memory_counts_the_processes_a_notebook_starts(runs):
    assert runs["hungry"].memory_mb > 230  # 95 MB in the kernel, 95 MB in its child, and the kernel itself


def test_executed_copies_carry_no_widget_state_and_no_paths(runs):
    content = nbformat.read(runs["plain"].copy, as_version=4)
    written = nbformat.writes(content)
    assert "widgets" not in content.metadata
    assert running.WIDGET_TYPE not in written
    assert "interactive: run this cell" in written
    assert "papermill" not in content.metadata


def test_copies_of_other_parameters_stand_beside_each_other(runs):
    names = {path.name for path in runs["output"].rglob("*.ipynb")}
    assert names == {
        "11_toy.ipynb",
        "11_toy--flag-True--scale-0.25.ipynb",
        "11_toy--sabotage-worse.ipynb",
        "12_hungry.ipynb",
        "13_faulty.ipynb",
    }
    assert runs["again"].copy == runs["plain"].copy


def test_progress_is_reported_cell_by_cell(runs):
    done = [cells_done for task, cells_done, _ in runs["seen"] if task == 2]
    assert done == sorted(done)
    assert done[-1] == next(cells for task, _, cells in runs["seen"] if task == 2)


def test_the_scoreboard_holds_every_claim_but_those_of_sabotaged_runs(runs):
    rows = scoreboard(runs["output"])
    assert [(row["notebook"], row["with"], row["name"]) for row in rows] == [
        ("toy", "flag=True, scale=0.25", "better"),
        ("toy", "", "better"),
    ]


def test_the_scoreboard_leaves_out_a_run_that_broke_off(runs, tmp_path):
    copy = next(
        path for path in sorted(runs["output"].rglob("*.ipynb")) if nbformat.read(path, 4).metadata["facelab_run"]["parameters"] == {}
    )
    content = nbformat.read(copy, as_version=4)
    for error, rows in (("ClaimNotMet: better", 1), ("NameError: name", 0)):
        content.metadata["facelab_run"]["error"] = error
        nbformat.write(content, tmp_path / copy.name)
        if rows:
            assert len(scoreboard(tmp_path)) == rows
        else:
            with pytest.raises(ValueError, match="no executed notebook"):
                scoreboard(tmp_path)


def test_the_scoreboard_without_runs_says_how_to_get_some(tmp_path):
    with pytest.raises(ValueError, match="facelab run --all"):
        scoreboard(tmp_path)


@pytest.mark.slow
def test_stopping_leaves_finished_copies_and_nothing_half_done(folder, tmp_path):
    write_notebook(tmp_path, [new_code_cell("import time\ntime.sleep(60)")], slug="slow", sabotages=[])
    (slow,) = discover(tmp_path)
    finished = tmp_path / "out" / "1_alignment" / "11_toy.ipynb"
    finished.parent.mkdir(parents=True)
    finished.write_text("finished before")
    stop = threading.Event()
    threading.Timer(2.0, stop.set).start()
    with pytest.raises(KeyboardInterrupt):
        run(Task(slow, {}, tmp_path / "out"), stop=stop)
    assert [path.name for path in finished.parent.iterdir()] == ["11_toy.ipynb"]
    assert finished.read_text() == "finished before"


def test_notebooks_are_found_in_the_order_of_the_course(folder):
    assert [notebook.slug for notebook in discover(folder)] == ["toy", "hungry", "faulty"]
    toy = discover(folder)[0]
    assert toy.parameters == dict(preset="quick", seed=0, device="auto", sabotage="", scale=0.5, flag=False, source="world")
    assert toy.sabotages == ("worse", "nothing")


def test_what_cannot_be_discovered_is_named(tmp_path):
    with pytest.raises(ValueError, match="There is no notebook"):
        discover(tmp_path)
    path = write_notebook(tmp_path, [])
    content = nbformat.read(path, as_version=4)
    del content.metadata["facelab"]["seconds"]
    nbformat.write(content, path)
    with pytest.raises(ValueError, match=r"11_toy.ipynb lacks seconds"):
        discover(tmp_path)
    path.write_text("{not json")
    with pytest.raises(ValueError, match="not a notebook"):
        discover(tmp_path)
    write_notebook(tmp_path, [])
    write_notebook(tmp_path, [], "12_toy.ipynb")
    with pytest.raises(ValueError, match="Two notebooks"):
        discover(tmp_path)


def test_find_knows_slugs_and_file_names_and_suggests(folder):
    notebooks = discover(folder)
    assert [n.slug for n in find(["12_hungry", "toy", "toy"], notebooks)] == ["hungry", "toy"]
    with pytest.raises(UnknownNotebook, match="Did you mean: hungry"):
        find(["hungri"], notebooks)


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        ({"scael": "1"}, r"no parameter 'scael'; it has: preset='quick', seed=0"),
        ({"seed": "one"}, "seed of toy is a int"),
        ({"seed": "1.5"}, "seed of toy is a int"),
        ({"flag": "1"}, "flag of toy is a bool"),
        ({"scale": "true"}, "scale of toy is a float"),
        ({"sabotage": "wrose"}, "has no sabotage 'wrose'; it has: worse, nothing"),
    ],
)
def test_wrong_parameters_are_explained(folder, texts, message):
    with pytest.raises(ValueError, match=message):
        typed_parameters(discover(folder)[0], texts)


def test_parameters_take_the_types_of_their_defaults(folder):
    values = typed_parameters(discover(folder)[0], {"scale": "2", "seed": "3", "flag": "True", "source": "1"})
    assert values == {"scale": 2.0, "seed": 3, "flag": True, "source": "1"}
    assert [type(value) for value in values.values()] == [float, int, bool, str]


def test_strip_removes_what_a_run_left(runs):
    content = nbformat.read(runs["parameters"].copy, as_version=4)
    assert running.strip(content)
    assert not running.strip(content)
    assert not any(cell.get("outputs") or cell.get("execution_count") for cell in content.cells)


def test_the_student_copy_lacks_solutions_only(folder):
    toy, hungry, _ = discover(folder)
    full, student = nbformat.read(toy.path, as_version=4), student_copy(toy)
    assert [c.source for c in full.cells if "solution" not in c.metadata.get("tags", [])] == [c.source for c in student.cells]
    assert len(student.cells) == len(full.cells) - 1
    with pytest.raises(ValueError, match="no cell tagged 'solution'"):
        student_copy(hungry)


def test_a_kernel_that_never_began_is_started_once_more(folder, monkeypatch, tmp_path):
    toy = discover(folder)[0]
    errors = iter(["RuntimeError: Kernel didn't respond in 120 seconds", ""])

    def attempt(task, progress, stop):
        return running.Run(toy, {}, tmp_path, [], {}, 1.0, 1.0, 1.0, next(errors))

    monkeypatch.setattr(running, "_attempt", attempt)
    assert run(Task(toy, {})).error == ""
    errors = iter(["NameError: x", "never asked for"])
    assert run(Task(toy, {})).error == "NameError: x"


def test_no_job_is_no_run(folder):
    with pytest.raises(ValueError, match="jobs=0"):
        run_all([], jobs=0)

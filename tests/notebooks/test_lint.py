"""The anatomy of a notebook, read without running it. What is counted stands in `style`; see CONTRIBUTING.md, 'Add a notebook'."""

import json
import re
import tomllib
from itertools import pairwise
from pathlib import Path

import pytest
import style
from measured import projection

from facelab.course import running

FOLDER = running.NOTEBOOKS
PATHS = sorted(path for path in FOLDER.rglob("*.ipynb") if ".ipynb_checkpoints" not in path.parts)
SECTIONS = ("problem", "step by step", "train", "look inside", "claim", "explore", "exercise", "beyond")
APPENDIX_SECTIONS = ("problem", "step by step", "claim", "exercise", "beyond")  # the others where there is something to show
# A tool examines what it is given, part by part, and makes its claims about what its own example plants.
TOOL_SECTIONS = (
    *("problem", "step by step", "check", "attributions", "layers", "channels", "budgets", "compression", "report", "claim", "exercise"),
    "beyond",
)
LONGEST_CELL = 25
TEXT_SHARE = (0.4, 0.7)
TOURS = {"start_here", "worlds"}
# Where a rule speaks of methods, tours of none. None may be added.
EXEMPT = {"train_and_claims": TOURS}  # tours train nothing
LONGEST_TEST = 55  # minutes of `make test` with the whole course
everyone = pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
methods = pytest.mark.parametrize("path", [path for path in PATHS if path.parent != FOLDER], ids=lambda path: path.stem)


def load(path):
    content = json.loads(path.read_text(encoding="utf-8"))
    for cell in content["cells"]:
        cell["source"] = "".join(cell["source"])
    return content


def code_cells(path):
    return [cell for cell in load(path)["cells"] if cell["cell_type"] == "code"]


def code_lines(cell):
    return sum(bool(line.strip()) for line in cell["source"].splitlines())


def is_tool(path):
    return load(path)["metadata"]["facelab"].get("tool", False)


def headings(path):
    markdown = "\n".join(cell["source"] for cell in load(path)["cells"] if cell["cell_type"] == "markdown")
    return [line.lstrip("# ").lower() for line in markdown.splitlines() if re.match(r"##\s", line)]


def test_there_are_notebooks_and_the_course_finds_them_all():
    assert [notebook.path for notebook in running.discover()] == sorted(PATHS, key=lambda path: path.name.split("_")[0])


def test_the_whole_course_can_be_tested_within_the_hour():
    assert projection(running.discover())[1] < LONGEST_TEST


@everyone
def test_metadata_is_complete_and_true(path):
    notebook = running.read(path)
    assert path.name == f"{notebook.number}_{notebook.slug}.ipynb"
    assert notebook.part == (0 if path.parent == FOLDER else int(path.parent.name.split("_")[0]))
    assert notebook.title
    assert notebook.seconds > 0
    assert 0 < notebook.memory_mb <= 4000
    assert load(path)["nbformat"] == 4


@everyone
@pytest.mark.parametrize("rule", style.RULES)
def test_the_rules_of_style_hold(path, rule):
    lesson = style.read(path)
    complaints = lesson.complaints(rule)
    if lesson.slug in EXEMPT.get(rule, ()):
        assert complaints, f"{lesson.slug} keeps the rule {rule!r} now: take it out of EXEMPT[{rule!r}]."
    else:
        assert not complaints, "\n".join(complaints)


def test_exemptions_name_rules_and_notebooks_that_there_are():
    assert set(EXEMPT) <= set(style.RULES)
    assert set().union(*EXEMPT.values()) <= {style.read(path).slug for path in PATHS}


def test_the_formatter_wraps_at_the_columns_that_are_counted():
    settings = tomllib.loads((FOLDER / "ruff.toml").read_text(encoding="utf-8"))
    assert settings["line-length"] == style.COLUMNS and "format" not in settings


@everyone
def test_committed_without_outputs(path):
    import nbformat

    assert not running.strip(nbformat.read(path, as_version=4)), "run `make strip`"


@everyone
def test_cells_are_short(path):
    long = [code_lines(cell) for cell in code_cells(path) if code_lines(cell) > LONGEST_CELL]
    assert len(long) <= 1, f"{len(long)} cells of more than {LONGEST_CELL} lines: {long}"


@everyone
def test_text_and_code_are_in_balance(path):
    cells = load(path)["cells"]
    text = sum(len(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")
    share = text / sum(len(cell["source"]) for cell in cells)
    assert TEXT_SHARE[0] <= share <= TEXT_SHARE[1]


@everyone
def test_it_begins_with_a_title_and_what_it_costs(path):
    first = load(path)["cells"][0]
    assert first["cell_type"] == "markdown"
    assert first["source"].startswith("# ")
    opening = "\n".join(cell["source"] for cell in load(path)["cells"][:3])
    assert re.search(r"\b(seconds|minutes?|min)\b", opening), "say how long it takes"


@everyone
def test_it_needs_nothing_installed_and_nothing_of_one_machine(path):
    for cell in load(path)["cells"]:
        assert not re.search(r"(?<![\w.:/~-])/(root|tmp|work|home|Users|mnt|usr)/|[A-Z]:\\", cell["source"]), "an absolute path"
        if cell["cell_type"] == "code":
            assert not re.search(r"^\s*[!%].*\b(pip|conda|apt|wget|curl)\b", cell["source"], re.MULTILINE), "an install or download line"


@everyone
def test_numbers_and_folders_agree_with_the_design_of_cells(path):
    ids = [cell["id"] for cell in load(path)["cells"]]
    assert len(set(ids)) == len(ids)


@methods
def test_parameters_have_the_common_names(path):
    parameters = running.read(path).parameters
    assert list(parameters)[:4] == ["preset", "seed", "device", "sabotage"]
    assert (parameters["preset"], parameters["seed"], parameters["device"], parameters["sabotage"]) == ("quick", 0, "auto", "")


@everyone
def test_it_names_its_paper_and_its_sabotages(path):
    notebook = running.read(path)
    assert notebook.paper
    assert "http" in load(path)["cells"][0]["source"] + load(path)["cells"][1]["source"], "link the paper"
    assert len(notebook.sabotages) >= notebook.sabotages_needed
    sources = "\n".join(cell["source"] for cell in code_cells(path))
    for name in notebook.sabotages:
        assert f'"{name}"' in sources or f"'{name}'" in sources, f"the sabotage {name} is never used"


@methods
def test_sections_come_in_the_order_of_the_anatomy(path):
    found = headings(path)
    sections = TOOL_SECTIONS if is_tool(path) else APPENDIX_SECTIONS if running.read(path).appendix else SECTIONS
    places = [next((i for i, heading in enumerate(found) if section in heading), None) for section in sections]
    missing = [section for section, place in zip(sections, places, strict=True) if place is None]
    assert not missing, f"sections missing: {missing}; there are {found}"
    assert places == sorted(places), f"sections out of order: {found}"


@methods
def test_code_follows_prose(path):
    cells = load(path)["cells"]
    follows = [before["cell_type"] == "markdown" for before, cell in pairwise(cells) if cell["cell_type"] == "code"]
    assert sum(follows) / len(follows) >= 0.8


@methods
def test_it_checks_itself_and_ends_by_requiring_its_claims(path):
    cells = code_cells(path)
    sources = "\n".join(cell["source"] for cell in cells)
    helpers = ("show_source(", "assert_close(", "claim(", "record(", "check_answer(")
    if not running.read(path).appendix:  # whose explorer and comparison are those of its notebook
        helpers += (".static(",) if is_tool(path) else (".static(", "compare_with_paper(")
    for helper in helpers:
        assert helper in sources, f"{helper}...) is never called"
    assert "require(" in cells[-1]["source"]


@methods
def test_exercises_have_solutions_that_can_be_taken_out(path):
    solutions = [cell for cell in code_cells(path) if "solution" in cell["metadata"].get("tags", [])]
    assert len(solutions) >= (1 if running.read(path).appendix else 2)
    assert all(cell["metadata"].get("jupyter", {}).get("source_hidden") for cell in solutions), "solutions are collapsed"
    assert len(running.student_copy(running.read(Path(path)))["cells"]) == len(load(path)["cells"]) - sum(
        "solution" in cell["metadata"].get("tags", []) for cell in load(path)["cells"]
    )

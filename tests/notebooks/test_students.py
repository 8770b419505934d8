"""What a student does with a copy without solutions: every exercise left blank, answered with nonsense, and solved."""

import ast
from collections.abc import Iterator
from typing import NamedTuple

import nbformat
import pytest
import style

from facelab.course import running

NOTEBOOKS = [notebook for notebook in running.discover() if not style.read(notebook.path).complaints("exercises")]
NONSENSE = (None, "some words", [..., ...])


class Exercise(NamedTuple):
    """One exercise: the place of its check in the notebook, the check, and how it is solved."""

    place: int
    check: ast.Call
    answer: str
    solution: str
    solved: str


def call_of_check(source: str) -> ast.Call | None:
    calls = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "check_answer"]
    return calls[-1] if calls else None


def exercises(cells: list) -> Iterator[Exercise]:
    """Every exercise whose check and solution name the answer they check."""
    for place, cell in enumerate(cells):
        check = call_of_check(cell.source) if cell.cell_type == "code" else None
        if check is None or "solution" in cell.metadata.get("tags", []):
            continue
        solution = next((later.source for later in cells[place + 1 :] if "solution" in later.metadata.get("tags", [])), "")
        solved = call_of_check(solution)
        named = solved is not None and isinstance(check.args[0], ast.Name) and isinstance(solved.args[0], ast.Name)
        if named:
            yield Exercise(place, check, check.args[0].id, solution, solved.args[0].id)


def names(cells: list, context: type) -> set[str]:
    """The names that are read (`ast.Load`) or bound (`ast.Store`, the arguments of functions included)."""
    nodes = [node for cell in cells if cell.cell_type == "code" for node in ast.walk(ast.parse(cell.source))]
    arguments = {node.arg for node in nodes if isinstance(node, ast.arg)} if context is ast.Store else set()
    return arguments | {node.id for node in nodes if isinstance(node, ast.Name) and isinstance(node.ctx, context)}


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda notebook: notebook.slug)
def test_a_copy_without_solutions_needs_none_of_them(notebook):
    cells = nbformat.read(notebook.path, as_version=4).cells
    handed_out = running.student_copy(notebook).cells
    taken = [cell for cell in cells if "solution" in cell.metadata.get("tags", [])]
    assert taken and not any("solution" in cell.metadata.get("tags", []) for cell in handed_out)
    lost = names(taken, ast.Store) - names(handed_out, ast.Store)
    assert not lost & names(handed_out, ast.Load), "a cell that is handed out uses what only a solution makes"


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda notebook: notebook.slug)
def test_every_check_has_a_hint(notebook):
    for cell in running.student_copy(notebook).cells:
        if cell.cell_type == "code" and (check := call_of_check(cell.source)):
            hint = next((keyword.value for keyword in check.keywords if keyword.arg == "hint"), None)
            assert hint is not None and not (isinstance(hint, ast.Constant) and not hint.value), cell.source


@pytest.mark.slow
def test_blank_nonsense_and_solved(tmp_path):
    """The cheapest notebook as its student gets it; behind each check, the same check with nonsense and with the solution."""
    notebook = min(NOTEBOOKS, key=lambda notebook: notebook.seconds)
    found = list(exercises(nbformat.read(notebook.path, as_version=4).cells))
    content = running.student_copy(notebook)
    checks = {cell.source: cell for cell in content.cells if cell.cell_type == "code" and call_of_check(cell.source)}
    assert found and len(checks) >= len(found)
    by_check = {ast.unparse(call_of_check(source)): source for source in checks}
    for exercise in found:
        check = ast.unparse(exercise.check)
        tries = "".join(
            f"{exercise.answer} = {given!r}\ntry:\n    {check}\nexcept AssertionError as error:\n    print(error)\n" for given in NONSENSE
        )
        place = content.cells.index(checks[by_check[check]]) + 1
        solved = f"{exercise.solution}\n{exercise.answer} = {exercise.solved}\n{check}"
        content.cells[place:place] = [nbformat.v4.new_code_cell(source.replace("Ellipsis", "...")) for source in (tries, solved)]
    path = tmp_path / "notebooks" / notebook.path.parent.name / notebook.path.name
    path.parent.mkdir(parents=True)
    nbformat.write(content, path)
    result = running.run(running.Task(running.read(path), {}, tmp_path / "executed"))
    assert not result.error, result.error
    cells = nbformat.read(result.copy, as_version=4).cells
    for exercise in found:
        (place,) = (i for i, cell in enumerate(cells) if cell.source == by_check[ast.unparse(exercise.check)])
        blank, tries, solved = ("".join(shown.get("text", "") for shown in cell.outputs) for cell in cells[place : place + 3])
        start = "Not answered yet: write your answer in place of "
        assert blank.strip().splitlines()[-1].startswith(start), f"{exercise.answer} is blank"
        nothing, words, dots = (line for line in tries.splitlines() if line.startswith("Not "))
        assert nothing.startswith(start) and dots.startswith(start) and words.startswith("Not right yet")
        assert all("Hint: " in line for line in (nothing, words, dots))
        assert solved.strip().splitlines()[-1] == "Right.", f"{exercise.answer} is solved"

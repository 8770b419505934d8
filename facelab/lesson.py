"""What notebooks use to show source, to check by-hand against library results, and to check exercises."""

import html
import inspect
import textwrap
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from facelab.statistics import readable


class Source:
    """Source code of the library, highlighted in a notebook and plain elsewhere."""

    def __init__(self, title: str, code: str):
        self.title, self.code = title, code

    def __repr__(self) -> str:
        return f"# {self.title}\n{self.code}"

    def _repr_html_(self) -> str:
        from pygments import highlight
        from pygments.formatters import HtmlFormatter
        from pygments.lexers import PythonLexer

        # Styles go into each tag: a stylesheet would leak into the rest of the notebook.
        code = highlight(self.code, PythonLexer(), HtmlFormatter(noclasses=True, style="default", nobackground=True))
        return f'<div style="border-left:3px solid #0072b2;padding-left:0.8em"><code>{html.escape(self.title)}</code>{code}</div>'


def show_source(thing: Callable | type) -> Source:
    """The source of a function, method or class of the library as it stands, to be the last line of a cell.

    Raises:
        ValueError: `thing` has no Python source.
    """
    # Decorated functions (type checks, numba) keep the original behind `__wrapped__` or `py_func`.
    original: Any = inspect.unwrap(getattr(thing, "py_func", thing))
    try:
        code = textwrap.dedent(inspect.getsource(original))
    except (TypeError, OSError) as error:
        raise ValueError(f"{thing!r} has no source to show; give a function or class of the library.") from error
    return Source(f"{original.__module__}.{original.__qualname__}", code.rstrip() + "\n")


def assert_close(a: Any, b: Any, tolerance: float = 1e-6) -> None:
    """Checks that two results agree everywhere, to an absolute or relative `tolerance`, and says so.

    Args:
        a, b: numbers, arrays or tensors of one shape.

    Raises:
        AssertionError: with the largest difference and where it is.
    """
    difference, place = largest_difference(a, b)
    allowed = _allowed(b, tolerance)
    if not difference <= allowed:
        raise AssertionError(f"The two results differ by {difference:.3g} at {place}; at most {allowed:.3g} is allowed.")
    print(f"equal: largest difference {difference:.2g}")


def largest_difference(a: Any, b: Any) -> tuple[float, tuple[int, ...]]:
    """Largest absolute difference of two arrays and its index; NaN where one of them has a NaN.

    Raises:
        AssertionError: the shapes differ, or one of them is no array of numbers.
    """
    try:
        first, second = _array(a), _array(b)
    except (TypeError, ValueError, RuntimeError):
        raise AssertionError(f"A {type(a).__name__} and a {type(b).__name__} were given, and one is no array of numbers.") from None
    if first.shape != second.shape:
        raise AssertionError(f"The two results have shapes {first.shape} and {second.shape}; they must be the same.")
    if first.size == 0:
        raise AssertionError("The two results are empty; there is nothing to compare.")
    with np.errstate(invalid="ignore"):  # infinity is as far from itself as any number is
        difference = np.where(first == second, 0.0, np.abs(first - second))
    place = np.unravel_index(int(np.argmax(difference)), difference.shape)  # argmax finds a NaN first
    return float(difference[place]), tuple(int(i) for i in place)


def check_answer(answer: Any, expected: Any, *, hint: str = "", tolerance: float = 1e-6) -> None:
    """Tells a learner whether an exercise is solved, and if not, what to look at.

    An exercise that is not answered yet is no error, so that *Run all cells* gets to the end of a notebook.

    Args:
        answer: the learner's number, array or word; while it is not answered, `...` or None, which may also stand within it.
        expected: the right one, or a function that says whether `answer` is right.
        hint: shown with a missing or wrong answer.

    Raises:
        AssertionError: wrong.
    """
    advice = f" Hint: {hint}" if hint else ""
    given = list(_parts(answer))
    if any(part is None or part is Ellipsis or (isinstance(part, str) and part.strip() in ("", "...", "…")) for part in given):
        blank = "None" if any(part is None for part in given) else "..."
        print(f"Not answered yet: write your answer in place of {blank} in the cell above and run it, then this one.{advice}")
        return
    if callable(expected):
        try:
            right = _holds(expected(answer))
        except Exception:  # whatever another kind of answer does to the check
            what = f"a {type(answer).__name__} is not what it asks for; read again whether that is a number, a list, a word or a function"
            raise AssertionError(f"Not right yet: {what}.{advice}") from None
        if not right:
            raise AssertionError(f"Not right yet.{advice}")
    elif isinstance(expected, str):
        if not isinstance(answer, str):
            raise AssertionError(f"Not right yet: a {type(answer).__name__} was given; give a word, in quotation marks.{advice}")
        if answer.strip().casefold() != expected.strip().casefold():
            raise AssertionError(f"Not right yet.{advice}")
    else:
        if why := _no_numbers(answer, given):
            raise AssertionError(f"Not right yet: {why}.{advice}")
        try:
            difference, place = largest_difference(answer, expected)
        except AssertionError as error:
            raise AssertionError(f"Not right yet. {error}{advice}") from None
        if not difference <= _allowed(expected, tolerance):
            where = f" at index {place}" if place else ""
            raise AssertionError(f"Not right yet: off by {difference:.3g}{where}.{advice}")
    print("Right.")


def compare_with_paper(rows: list[dict[str, Any]]):
    """The closing table of a notebook: what was measured here, what the paper reports, why they differ.

    Args:
        rows: one dictionary per quantity with the keys `quantity`, `here`, `paper` (with the data set) and `why`.

    Raises:
        ValueError: no row, or a row with other keys.
    """
    import pandas as pd

    columns = {"quantity": "quantity", "here": "measured here", "paper": "reported by the paper", "why": "why they differ"}
    if not rows:
        raise ValueError("There is nothing to compare: give at least one row.")
    for row in rows:
        if set(row) != set(columns):
            raise ValueError(f"A row has the keys {sorted(row)}; it needs exactly {sorted(columns)}.")
    text = [{columns[key]: f"{row[key]:.4g}" if isinstance(row[key], float) else str(row[key]) for key in columns} for row in rows]
    return pd.DataFrame(text).style.hide(axis="index").set_properties(**{"text-align": "left", "white-space": "normal"})


def _parts(answer: Any) -> Iterator[Any]:
    """What lists, tuples, sets, dictionaries and arrays of objects hold, however deep; anything else is its own only part."""
    if isinstance(answer, Mapping):
        answer = list(answer.values())
    if isinstance(answer, (list, tuple, set, frozenset)) or (isinstance(answer, np.ndarray) and answer.dtype == object and answer.ndim):
        for part in answer:
            yield from _parts(part)
    else:
        yield answer.item() if isinstance(answer, np.ndarray) and answer.dtype == object else answer


def _no_numbers(answer: Any, parts: list[Any]) -> str:
    """Why an answer is no number and no array of numbers; empty if it is."""
    if any(isinstance(part, (str, bytes)) or (isinstance(part, np.ndarray) and part.dtype.kind in "SU") for part in parts):
        return "there is text in it; write numbers without quotation marks"
    try:
        _array(answer)
    except (TypeError, ValueError, RuntimeError):
        if isinstance(answer, (list, tuple)) and all(_is_number(part) for part in parts):
            return "its rows are not equally long; give every row as many numbers"
        return f"a {type(answer).__name__} was given; give a number, or a list or array of numbers"
    return ""


def _holds(verdict: Any) -> bool:
    """Whether a check says yes, in each place if it looks at several."""
    verdict = np.asarray(readable(verdict))
    return bool(verdict.size and verdict.all())


def _is_number(value: Any) -> bool:
    try:
        _array(value)
    except (TypeError, ValueError, RuntimeError):
        return False
    return True


def _allowed(expected: Any, tolerance: float) -> float:
    """The difference that is allowed: `tolerance`, relative to the largest finite number if that is above 1."""
    size = np.abs(_array(expected))
    return tolerance * max(1.0, float(np.max(size[np.isfinite(size)], initial=0.0)))


def _array(values: Any) -> np.ndarray:
    """Numbers, arrays and tensors of any device, also in a list, as an array in double precision, complex if they are."""
    array = np.asarray(readable(values))
    return array.astype(np.complex128 if array.dtype.kind == "c" else np.float64)

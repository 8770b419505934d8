"""What notebooks use to show source, to check by-hand against library results, and to check exercises."""

import html
import inspect
import textwrap
from collections.abc import Callable
from typing import Any

import numpy as np


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
    scale = max(1.0, float(np.max(np.abs(_array(b)), initial=0.0)))
    if not difference <= tolerance * scale:
        raise AssertionError(f"The two results differ by {difference:.3g} at {place}; at most {tolerance * scale:.3g} is allowed.")
    print(f"equal: largest difference {difference:.2g}")


def largest_difference(a: Any, b: Any) -> tuple[float, tuple[int, ...]]:
    """Largest absolute difference of two arrays and its index; NaN where one of them has a NaN.

    Raises:
        AssertionError: the shapes differ.
    """
    first, second = _array(a), _array(b)
    if first.shape != second.shape:
        raise AssertionError(f"The two results have shapes {first.shape} and {second.shape}; they must be the same.")
    if first.size == 0:
        raise AssertionError("The two results are empty; there is nothing to compare.")
    difference = np.abs(first - second)
    place = np.unravel_index(int(np.argmax(difference)), difference.shape)  # argmax finds a NaN first
    return float(difference[place]), tuple(int(i) for i in place)


def check_answer(answer: Any, expected: Any, *, hint: str = "", tolerance: float = 1e-6) -> None:
    """Tells a learner whether an exercise is solved, and if not, what to look at.

    Args:
        answer: the learner's number or array; `...` or None while it is not answered.
        expected: the right one, or a function that says whether `answer` is right.
        hint: shown with a missing or wrong answer.

    Raises:
        AssertionError: missing or wrong.
    """
    advice = f" Hint: {hint}" if hint else ""
    if answer is None or answer is Ellipsis:
        raise AssertionError(f"Not answered yet: replace the dots in the cell above and run it, then this one.{advice}")
    if callable(expected):
        if not expected(answer):
            raise AssertionError(f"Not right yet.{advice}")
    else:
        try:
            difference, place = largest_difference(answer, expected)
        except AssertionError as error:
            raise AssertionError(f"Not right yet. {error}{advice}") from None
        if not difference <= tolerance * max(1.0, float(np.max(np.abs(_array(expected))))):
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


def _array(values: Any) -> np.ndarray:
    """Numbers, arrays and tensors of any device as a float64 array."""
    if hasattr(values, "detach"):
        values = values.detach().cpu()
    return np.asarray(values, dtype=np.float64)

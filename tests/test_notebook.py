import numpy as np
import pytest
import torch

from facelab import notebook
from facelab.claims import relative_gain
from facelab.notebook import assert_close, check_answer, compare_with_paper, show_source


def test_the_source_shown_is_the_source_there_is():
    shown = show_source(relative_gain)
    assert "def relative_gain(" in shown.code
    assert shown.title == "facelab.claims.relative_gain"
    assert "relative_gain" in shown._repr_html_()
    assert "<style" not in shown._repr_html_()
    assert repr(shown).startswith("# facelab.claims.relative_gain\ndef relative_gain(")
    assert show_source(notebook.Source).code.startswith("class Source:")
    assert show_source(notebook.Source.__repr__).code.startswith("def __repr__")  # a method, without its indentation


def test_source_of_compiled_kernels_is_python_too():
    numba = pytest.importorskip("numba")

    @numba.njit
    def twice(x):
        return 2 * x

    assert "return 2 * x" in show_source(twice).code


def test_what_has_no_source_says_so():
    with pytest.raises(ValueError, match="no source to show"):
        show_source(len)


def test_close_results_pass_and_report_their_difference(capsys):
    assert_close(torch.tensor([1.0, 2.0]), np.array([1.0, 2.0 + 1e-8]))
    assert "equal: largest difference 1e-08" in capsys.readouterr().out
    assert_close(1e6, 1e6 + 0.5)  # relative to large numbers
    assert_close(torch.ones(2, requires_grad=True), [1, 1])


@pytest.mark.parametrize(
    ("a", "b", "message"),
    [
        ([1.0, 2.0], [1.0, 2.1], r"differ by 0.1 at \(1,\)"),
        ([1.0, 2.0], [[1.0, 2.0]], r"shapes \(2,\) and \(1, 2\)"),
        ([1.0, float("nan")], [1.0, 2.0], r"differ by nan at \(1,\)"),
        ([float("nan")], [float("nan")], "differ by nan"),
        ([], [], "empty"),
    ],
)
def test_results_that_differ_fail(a, b, message):
    with pytest.raises(AssertionError, match=message):
        assert_close(a, b)


def test_answers_are_told_right_from_wrong(capsys):
    check_answer(np.array([1.0, 2.0]), [1.0, 2.0])
    check_answer(lambda x: x + 1, lambda f: f(1) == 2)
    assert capsys.readouterr().out == "Right.\nRight.\n"
    for blank in (None, ...):
        with pytest.raises(AssertionError, match=r"Not answered yet: replace the dots.* Hint: sum over rows"):
            check_answer(blank, 3.0, hint="sum over rows")
    with pytest.raises(AssertionError, match=r"Not right yet: off by 1\. Hint: count from zero"):
        check_answer(2.0, 3.0, hint="count from zero")
    with pytest.raises(AssertionError, match=r"Not right yet: off by 2 at index \(0, 1\)"):
        check_answer([[1.0, 5.0]], [[1.0, 3.0]])
    with pytest.raises(AssertionError, match=r"Not right yet\. The two results have shapes"):
        check_answer([1.0], 1.0)
    with pytest.raises(AssertionError, match="Not right yet"):
        check_answer(4, lambda n: n % 2 == 1)


def test_the_closing_table_has_its_columns():
    html = compare_with_paper([dict(quantity="error", here=5.81234, paper="3.4 % (300-W)", why="smaller images")]).to_html()
    for text in ("measured here", "reported by the paper", "why they differ", "5.812", "3.4 % (300-W)"):
        assert text in html
    with pytest.raises(ValueError, match="at least one row"):
        compare_with_paper([])
    with pytest.raises(ValueError, match=r"it needs exactly \['here', 'paper', 'quantity', 'why'\]"):
        compare_with_paper([dict(quantity="error", here=1.0)])

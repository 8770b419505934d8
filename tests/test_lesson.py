import numpy as np
import pytest
import torch

from facelab import lesson
from facelab.lesson import assert_close, check_answer, compare_with_paper, show_source
from facelab.statistics import gain_interval


def test_the_source_shown_is_the_source_there_is():
    shown = show_source(gain_interval)
    assert "def gain_interval(" in shown.code
    assert shown.title == "facelab.statistics.gain_interval"
    assert "gain_interval" in shown._repr_html_()
    assert "<style" not in shown._repr_html_()
    assert repr(shown).startswith("# facelab.statistics.gain_interval\ndef gain_interval(")
    assert show_source(lesson.Source).code.startswith("class Source:")
    assert show_source(lesson.Source.__repr__).code.startswith("def __repr__")  # a method, without its indentation


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
    with pytest.raises(AssertionError, match=r"Not right yet: off by 1\. Hint: count from zero"):
        check_answer(2.0, 3.0, hint="count from zero")
    with pytest.raises(AssertionError, match=r"Not right yet: off by 2 at index \(0, 1\)"):
        check_answer([[1.0, 5.0]], [[1.0, 3.0]])
    with pytest.raises(AssertionError, match=r"Not right yet\. The two results have shapes"):
        check_answer([1.0], 1.0)
    with pytest.raises(AssertionError, match="Not right yet"):
        check_answer(4, lambda n: n % 2 == 1)


@pytest.mark.parametrize(
    "answer",
    [
        None,
        ...,
        [..., ...],
        (1.0, ...),
        [[1.0, 2.0], [..., 3.0]],
        [None, None],
        {"a": ...},
        np.array([..., 1]),
        np.array(None),
        "...",
        "",
        [" … "],
    ],
)
@pytest.mark.parametrize("expected", [[1.0, 2.0], 3.0, "word", lambda a: a > 1])
def test_dots_anywhere_in_an_answer_mean_that_it_is_not_given_yet(answer, expected, capsys):
    check_answer(answer, expected, hint="count")
    told = capsys.readouterr().out
    blank = "None" if "None" in str(answer) else "..."
    assert told == f"Not answered yet: write your answer in place of {blank} in the cell above and run it, then this one. Hint: count\n"


@pytest.mark.parametrize(
    ("answer", "expected", "message"),
    [
        ("seventeen", 17.0, "there is text in it; write numbers without quotation marks"),
        ("17", 17.0, "there is text in it"),
        (["1", 2.0], [1.0, 17.0], "there is text in it"),
        (np.array(["1", "17"]), [1.0, 17.0], "there is text in it"),
        ([[1.0, 2.0], [3.0]], [[1.0, 17.0], [3.0, 4.0]], "its rows are not equally long; give every row as many numbers"),
        ([1.0, [2.0]], [1.0, 17.0], "its rows are not equally long"),
        ({"a": 1.0}, 17.0, "a dict was given; give a number, or a list or array of numbers"),
        ({1.0, 2.0}, [1.0, 17.0], "a set was given"),
        (len, 17.0, "a builtin_function_or_method was given"),
        ([len, 2.0], [1.0, 17.0], "a list was given"),
        (object(), 17.0, "a object was given"),
        (16.0, "seventeen 17", "a float was given; give a word, in quotation marks"),
        ("sixteen", "seventeen 17", "Not right yet"),
        ("seven", lambda a: abs(a - 17) < 1e-3, "a str is not what it asks for"),
        (16.0, lambda f: f(1) == 17, "a float is not what it asks for; read again"),
        ([16.0, 2.0], lambda a: a.mean() == 17, "a list is not what it asks for"),
        (np.array([17.0, 2.0]), lambda a: abs(a - 17) < 1e-3, "Not right yet"),
        (16.0, lambda a: None, "Not right yet"),
        (torch.tensor([17.0, 2.0]), lambda a: a == 17, "Not right yet"),
        (5.0, float("inf"), "off by inf"),
        (np.array([17 + 5j]), [17.0], "off by 5"),
    ],
)  # fmt: skip
def test_an_answer_of_another_kind_is_told_in_a_sentence_that_keeps_the_answer(answer, expected, message):
    with pytest.raises(AssertionError, match="Not right yet") as error:
        check_answer(answer, expected, hint="count")
    sentence = str(error.value)
    assert message in sentence and sentence.endswith(" Hint: count")
    assert "17" not in sentence and "seventeen" not in sentence
    assert error.value.__suppress_context__ or error.value.__context__ is None  # no traceback into the check either


def test_right_answers_of_every_kind(capsys):
    numbers = torch.tensor([1.0, 2.0], requires_grad=True)
    for answer in (
        numbers,
        numbers.bfloat16(),
        list(numbers),
        (1, np.float32(2)),
        [torch.tensor(1.0), 2.0],
        np.array([1, 2], dtype=object),
    ):
        check_answer(answer, [1.0, 2.0])
    check_answer(" Softmax", "softmax")
    check_answer([float("inf"), 1.0], [float("inf"), 1.0])
    check_answer(np.array([3.0, 3.0]), lambda a: abs(a - 3) < 1e-3)
    check_answer("left", lambda word: word == "left")
    check_answer([[1 + 2j]], [[1 + 2j]])
    assert capsys.readouterr().out == "Right.\n" * 11


def test_the_closing_table_has_its_columns():
    html = compare_with_paper([dict(quantity="error", here=5.81234, paper="3.4 % (300-W)", why="smaller images")]).to_html()
    for text in ("measured here", "reported by the paper", "why they differ", "5.812", "3.4 % (300-W)"):
        assert text in html
    with pytest.raises(ValueError, match="at least one row"):
        compare_with_paper([])
    with pytest.raises(ValueError, match=r"it needs exactly \['here', 'paper', 'quantity', 'why'\]"):
        compare_with_paper([dict(quantity="error", here=1.0)])

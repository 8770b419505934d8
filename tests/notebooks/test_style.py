"""Every rule of style, held by one small notebook and broken by a change of it: a lint that cannot fail is no lint."""

import json
from collections.abc import Callable

import pytest
import style


def text(source: str) -> dict:
    return {"cell_type": "markdown", "metadata": {}, "source": source}


def code(source: str, *tags: str, collapsed: bool = False) -> dict:
    return {"cell_type": "code", "metadata": {"tags": list(tags), "jupyter": {"source_hidden": collapsed}}, "source": source}


FIRST, PARAMETERS, EQUATION, TRAINING, CLAIM, QUESTION, FILL, CHECK, SOLUTION, ENDING = range(10)
KNOWN = "* one\n* two\n* three\n* four\n* five"


def notebook() -> list[dict]:
    """Ten cells that keep every rule."""
    return [
        text("# A toy\n\n![result](../docs/pictures/toy.png)\n\n**Glossary.**\n\n* a mean: the sum over the count"),
        code('preset = "quick"\nsabotage = ""', "parameters"),
        text("## The problem\n\nMeans are stable because noise cancels:\n\n$$m = \\frac{1}{n} \\sum_i x_i$$\n\nwhere $n$ counts."),
        text("## Train\n\nWe take ten of them, so that the mean is stable."),
        text("## The claim\n\nMore of them help, since noise cancels."),
        text("## Exercises\n\n**1.** Which claim does the sabotage break?"),
        code("answer = ..."),
        code('check_answer(answer, "first")'),
        code('solved = "first"', "solution", collapsed=True),
        text(f"**Caveats.** The data are made up.\n\n## What you now know\n\n{KNOWN}\n\n## Beyond\n\nMore data."),
    ]


@pytest.fixture
def write(tmp_path, monkeypatch) -> Callable:
    """Writes cells as a notebook with its picture and settled figures; gives what each rule complains of, by its name."""
    monkeypatch.setattr(style, "SETTLED", tmp_path / "settled")
    (tmp_path / "docs" / "pictures").mkdir(parents=True)
    (tmp_path / "docs" / "pictures" / "toy.png").touch()
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "settled").mkdir()

    def complaints(cells: list[dict], judged: int = 1, shown: int = 1, settled: str = "toy", **metadata) -> dict[str, list[str]]:
        claims = [{"indicative": index >= judged} for index in range(judged + shown)]
        (tmp_path / "settled" / f"{settled}.json").write_text(json.dumps({"claims": claims}))
        about = {"slug": "toy", "seconds": 30, "memory_mb": 900} | metadata
        path = tmp_path / "notebooks" / "99_toy.ipynb"
        path.write_text(json.dumps({"metadata": {"facelab": about}, "cells": cells}))
        lesson = style.read(path)
        return {rule: found for rule in style.RULES if (found := lesson.complaints(rule))}

    return complaints


def changed(place: int, old: str, new: str) -> list[dict]:
    """The notebook with a piece of one cell replaced."""
    cells = notebook()
    assert old in cells[place]["source"]
    cells[place]["source"] = cells[place]["source"].replace(old, new)
    return cells


def inserted(place: int, *new: dict) -> list[dict]:
    """The notebook with cells put in before a place."""
    return notebook()[:place] + list(new) + notebook()[place:]


def lines(count: int) -> dict:
    return code("\n".join(["x = 1"] * count))


def without(place: int) -> list[dict]:
    return notebook()[:place] + notebook()[place + 1 :]


def tagged(place: int, **metadata) -> list[dict]:
    cells = notebook()
    cells[place]["metadata"] |= metadata
    return cells


A_CLASS = "class A:\n" + "\n".join(["    x = 1"] * 24)
FLAT = text("The mean is stable. " * 25)  # argues for nothing

BROKEN = {
    "cells": [(inserted(3, *[code("1")] * 56), "toy: 66 cells, at most 65 are allowed")],
    "words": [(inserted(3, text("Because " + "so very stable. Because " * 950)), "words, at most 2800 are allowed")],
    "code_lines": [(inserted(3, *[lines(15)] * 20), "toy: 305 lines of code, at most 300 are allowed")],
    "cell_lines": [
        (inserted(3, lines(16)), "toy, cell 3: 16 lines of code, at most 15 are allowed"),
        (inserted(3, code(A_CLASS + "\nx = 1")), "toy, cell 3: 26 lines of code, at most 25 are allowed"),
        (inserted(3, code(A_CLASS), code(A_CLASS)), "toy, cell 4: 25 lines of code, at most 15 are allowed"),
    ],
    "columns": [(inserted(3, code("1\n" + "x" * 101)), "toy, cell 3: 101 columns, at most 100 are allowed")],
    "comprehensions": [
        (inserted(3, code("[[j for j in i] for i in x]")), "toy, cell 3: 1 nested comprehensions, at most 0 are allowed"),
        (inserted(3, code("def f(x):\n    return {sum(j for j in i) for i in x}")), "toy, cell 3: 1 nested comprehensions"),
    ],
    "formatter": [
        (inserted(3, code(f"x = 1  # {comment}")), "toy, cell 3: 1 comments that switch a tool off, at most 0 are allowed")
        for comment in ("fmt: off", "fmt: skip", "noqa", "noqa: E501", "ruff: noqa")
    ],
    "result_picture": [
        (changed(FIRST, "docs/pictures/toy.png", "toy.png"), "toy, cell 0: no picture from docs/pictures, 1 is asked for"),
        (changed(FIRST, "toy.png", "other.png"), "toy, cell 0: the picture ../docs/pictures/other.png does not exist"),
    ],
    "equation_first": [
        (changed(EQUATION, "$$", "$"), "toy: no cell holds a displayed equation, cell 8 is the last that may"),
        (inserted(EQUATION, *[code("1")] * 7), "toy, cell 9: the first displayed equation stands in cell 9, cell 8 is the last"),
        (inserted(EQUATION, code("class A:\n    pass")), "toy, cell 2: a class before the equation of cell 3, none is allowed"),
    ],
    "imports": [
        (inserted(3, code("import a.b\nfrom c import d as e\na.b"), code("e")), "toy, cell 3: imports 'e' without using it, 0 such names"),
        (inserted(3, code("import a\na"), code("def f():\n    import a\n\n    return a")), "toy, cell 4: imports 'a' once more, 1 import"),
    ],
    "glossary": [
        (changed(FIRST, "Glossary", "Words"), "toy: no cell with a heading or bold word 'Glossary', 1 is asked for"),
        (changed(FIRST, "* a mean", "* a\n" * 10 + "* a mean"), "toy, cell 0: 11 lines of glossary, at most 10 are allowed"),
    ],
    "train_and_claims": [
        (changed(TRAINING, "Train", "Work"), "toy: no heading with the word 'train', 1 is asked for"),
        (changed(CLAIM, "claim", "result"), "toy: no heading with the word 'claim', 1 is asked for"),
        (inserted(CLAIM, *[code("1")] * 13), "toy, cell 3: 15 cells in Train and Claims, at most 14 are allowed"),
    ],
    "switches": [
        (inserted(3, *[code('quick = preset == "quick"')] * 3), "toy, cell 5: 3 cells read 'quick', at most 2 are allowed"),
        (inserted(3, *[code("print(quick)")] * 3), "(here in 3, 4, 5)"),
        (inserted(3, *[code('if sabotage == "flip":\n    pass')] * 3), "toy, cell 5: 3 cells read 'sabotage', at most 2 are allowed"),
    ],
    "ending": [
        (changed(ENDING, "What you now know", "Summary"), "toy: no heading 'What you now know', 5 lines below it are asked for"),
        (changed(ENDING, "* five", ""), "toy, cell 9: 4 lines under 'What you now know', 5 are asked for"),
        (changed(ENDING, "* five", "* five\n* six"), "toy, cell 9: 6 lines under 'What you now know', 5 are asked for"),
        ([*notebook(), text("## More\n\nWords.")], "toy, cell 10: the section 'more' follows 'What you now know', only 'Beyond' may"),
    ],
    "caveats": [
        (changed(ENDING, "Caveats", "Doubts"), "toy: no heading or bold word 'Caveats' before 'What you now know', 1 is asked for"),
        (changed(ENDING, "made up.", "made up. " * 60), "toy, cell 9: 124 words of caveats, at most 120 are allowed"),
    ],
    "exercises": [
        (without(SOLUTION), "toy, cell 7: a check without a solution behind it, 1 is asked for"),
        (without(FILL), "toy, cell 7: 0 cells to fill before this solution, 1 is asked for"),
        (inserted(ENDING, *notebook()[FILL:ENDING]), "toy, cell 11: 0 questions before the code that leads to this solution, 1 is"),
        (inserted(ENDING, notebook()[SOLUTION]), "toy, cell 9: 0 questions before the code that leads to this solution, 1 is"),
        (without(CHECK), "toy, cell 7: the solution does not follow its check directly"),
        ([notebook()[place] for place in (0, 1, 2, 3, 4, 5, 6, 8, 7, 9)], "toy, cell 7: the solution does not follow its check directly"),
        (tagged(SOLUTION, jupyter={}), "toy, cell 8: a solution that is not collapsed"),
        (changed(SOLUTION, "solved", "answer"), "toy, cell 8: the solution binds 'answer' of the cell to fill, 0 names may be shared"),
        (changed(QUESTION, "Exercises", "Play"), "toy: 0 solutions in the section 'Exercises', at least 1 is asked for"),
    ],
    "sabotage_exercise": [(changed(QUESTION, "sabotage", "change"), "toy: 0 exercises name a sabotage, at least 1 is asked for")],
    "colons": [
        (inserted(3, text("Because of this: it works; so it is. " * 9)), "colons and semicolons in a hundred sentences, at most 30")
    ],
    "negations": [(inserted(3, text("It isn't, because nobody cannot. " * 9)), "negations in a hundred sentences, at most 12 are allowed")],
    "reasons": [(inserted(3, FLAT), " reasons in a hundred sentences, at least 10 are asked for")],
    "long_sentences": [
        (
            inserted(3, text("Short. It is so" + " very" * 34 + " long.")),
            "toy, cell 3: 38 words in the sentence that begins 'It is so very very very'",
        )
    ],
}
CASES = [pytest.param(rule, *case, id=f"{rule}-{number}") for rule, cases in BROKEN.items() for number, case in enumerate(cases)]
STATED = [
    ("seconds", dict(seconds=61), "toy: 61 processor seconds stated, at most 60 are allowed"),
    ("memory", dict(memory_mb=1501), "toy: 1501 MB of memory stated, at most 1500 are allowed"),
    ("claims", dict(judged=4), "toy: 4 judged claims, at most 3 are allowed"),
    ("claims", dict(judged=3, shown=4), "toy: 7 claims, at most 6 are allowed"),
    ("claims", dict(settled="other"), "toy: no settled figures in toy.json, 1 such file is asked for"),
]


def test_the_notebook_that_is_broken_below_keeps_every_rule(write):
    assert write(notebook(), judged=3, shown=3, seconds=60, memory_mb=1500) == {}


def test_every_rule_is_broken_below():
    assert {*BROKEN, *(rule for rule, *_ in STATED)} == set(style.RULES)


@pytest.mark.parametrize(("rule", "cells", "sentence"), CASES)
def test_a_break_is_named_with_its_place_value_and_limit(write, rule, cells, sentence):
    found = write(cells)
    assert any(sentence in complaint for complaint in found[rule]), found


@pytest.mark.parametrize(("rule", "stated", "sentence"), STATED)
def test_what_metadata_and_settled_figures_state_is_limited(write, rule, stated, sentence):
    found = write(notebook(), **stated)
    assert list(found) == [rule]
    assert any(sentence in complaint for complaint in found[rule]), found


@pytest.mark.parametrize(
    "cells",
    [
        inserted(3, code(A_CLASS)),  # one class may have 25 lines
        inserted(3, code("%matplotlib inline\n!ls"), code("%%time\nthis is no Python")),
        inserted(3, code("import a\n\n\ndef f():\n    return a.b"), code('quick = preset == "quick"\nprint(quick, sabotage)')),
        inserted(CHECK, code("print(answer)")),  # something to try between the cell to fill and the check
        changed(SOLUTION, 'solved = "first"', "def solve():\n    answer = 1\n    return answer"),  # a name of its own
        changed(ENDING, "* one", "1. one, told in\n   two lines"),
    ],
)
def test_what_looks_like_a_break_and_is_none(write, cells):
    assert write(cells) == {}


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("# Title\n\nOne. Two?\nThree: `a.b. C` and [a link](http://a.b/c. D).", ["One.", "Two?", "Three: Code and a link."]),
        (
            "It is 5.8 px, e.g. Fig. 3 of Smith et al. (2019). *Next* one.",
            ["It is 5.8 px, e.g. Fig. 3 of Smith et al. (2019).", "Next one."],
        ),
        ("* one\n* two\n  more\n\n1. three", ["one", "two more", "three"]),
        ("Take $x. Y$ as\n\n$$y = x$$\n\nwhere $x$ is.", ["Take Formula as Formula where Formula is."]),
        ("It is\n\n$$y = x.$$\n\nNext.", ["It is Formula.", "Next."]),
        ("| a | b |\n|---|---|\n\n```\ncode. Code.\n```\n\nText ![picture. Of](a.png)<br>", ["Text"]),
    ],
)
def test_sentences_are_those_that_one_reads_aloud(source, expected):
    assert style.sentences(source) == expected


@pytest.mark.parametrize(
    ("sentence", "reasons"),
    [
        ("It falls because it is heavy.", 1),
        ("Hence it falls, so it lands.", 2),
        ("So it falls, so that it lands.", 2),
        ("It falls but then lands since it must.", 2),
        ("It is so heavy, so many fell.", 0),
    ],
)
def test_reasons_are_told_from_degrees(sentence, reasons):
    assert len(style.REASON.findall(sentence)) == reasons

"""The pages of the course: what they hold, what they refuse, and that no formula of the course is left as it is typed."""

import html
import json
import re

import nbformat
import pytest
import small_site
from bs4 import BeautifulSoup
from nbformat.v4 import new_code_cell, new_notebook

from facelab import pages
from facelab.course import running, site
from facelab.course.site import lessons

FORMULA = re.compile(r"\$\$(.+?)\$\$|(?<![\\$])\$([^$]+?)\$", re.DOTALL)


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    folder = tmp_path_factory.mktemp("course")
    notebooks, executed, settled = small_site.write(folder)
    return notebooks, executed, site.build(notebooks, executed, folder / "site", settled), folder / "site"


def page(built, name: str) -> BeautifulSoup:
    return BeautifulSoup((built[3] / name).read_text(encoding="utf-8"), "html.parser")


def test_formulas_are_mathml_and_pictures_files(built):
    first = page(built, "first.html")
    assert [tag["display"] for tag in first.main.find_all("math")] == ["inline", "inline", "block"]
    assert "$" not in first.main.get_text()
    drawn = first.select_one(".output_html img")
    assert (drawn["alt"], drawn["width"], drawn["src"]) == ("a gray one", "60", "pictures/first/01.webp")
    assert [picture["alt"] for picture in first.select(".text_cell_render img")] == ["What comes out"]
    assert "What is not there" in first.main.get_text() and (built[3] / "pictures" / "red.webp").exists()
    assert (built[3] / drawn["src"]).stat().st_size < 500


def test_links_lead_to_pages_or_away_and_other_files_are_words(built):
    links = {link.get_text(): link.get("href") for link in page(built, "first.html").main.find_all("a")}
    assert links["the other notebook"] == "second.html#how-it-ends" and links["the paper"] == "https://arxiv.org/abs/1"
    assert "a file" not in links
    assert links["The second one →"] == "second.html"
    assert page(built, "second.html").find(id="how-it-ends").name == "h2"


def test_solutions_and_hidden_code_are_folded(built):
    folds = {fold.summary.get_text(): fold.get_text() for fold in page(built, "first.html").find_all("details")}
    assert "answer = 3" in folds["Solution"] and "long = 1" in folds["Code"]
    assert "draw()" not in "".join(folds.values())


def test_data_of_explorers_and_plots_does_not_end_a_script(built):
    first = page(built, "first.html")
    assert json.loads(first.select_one(".plot script").string) == small_site.PLOT
    assert first.select_one(".plot")["aria-label"] == "Three points </script>"
    (script,) = (built[3] / "explorers").iterdir()
    assert json.loads(script.read_text(encoding="utf-8").split(" = ", 1)[1].rstrip(";\n")) == small_site.explorer()
    assert first.select_one("[data-explorer]")["data-explorer"] == script.stem


def test_the_contents_have_a_sentence_the_glossary_the_words_and_the_search_the_text(built):
    card = page(built, "index.html").select_one(".cards li")
    assert "A first sentence with" in card.get_text() and "second one" not in card.p.get_text()
    entries = [line.get_text() for line in page(built, "glossary.html").select(".glossary li")]
    assert [entry.split()[0] for entry in entries] == ["anchor", "leaf", "turn,"]
    index = json.loads((built[3] / "assets" / "index.js").read_text(encoding="utf-8").split(" = ", 1)[1].rstrip(";\n"))
    found = next(section for section in index if "Redundancies" in section["text"])
    assert (found["page"], found["heading"]) == ("first.html#the-problem", "The problem")


def test_every_settled_claim_is_on_the_scoreboard(built):
    board = page(built, "scoreboard.html")
    rows = [row.td.get_text() for row in board.find_all("tr") if row.td]
    plot = json.loads(board.select_one(".plot script").string)
    hovers = [text for trace in plot["data"] for text in trace.get("hovertext", [])]
    assert len(rows) == len(hovers) == 6 and all(any(row in text for text in hovers) for row in rows)


def test_what_a_copy_lacks_is_said(built, tmp_path):
    (first, _), executed, made, _ = built
    assert made.missing == {} and site.state(first, executed) == site.FRESH
    assert site.state(first, tmp_path) == "was not executed"
    copy = tmp_path / running.copy_name(first, {})
    copy.parent.mkdir(parents=True)
    content = nbformat.read(executed / running.copy_name(first, {}), as_version=4)

    def said(**made) -> str:
        content.metadata["facelab_run"] |= made
        nbformat.write(content, copy)
        return site.state(first, tmp_path)

    assert said(pages=False) == "was executed without the pages of its explorers"
    assert said(error="ValueError: no") == "broke off: ValueError: no"
    content.cells[1].source = "draw(2)"
    assert said(error="", pages=True) == "has changed since it was executed"


def test_only_a_site_is_overwritten(built, tmp_path):
    notebooks, executed, *_, output = built
    (output / "old.html").write_text("old")
    site.build(notebooks, executed, output)
    assert not (output / "old.html").exists()
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(ValueError, match="holds something that is no site of facelab"):
        site.build(notebooks, executed, tmp_path)
    assert (tmp_path / "mine.txt").read_text() == "mine"
    with pytest.raises(ValueError, match=r"There is no executed copy of a notebook in .*facelab run --all --pages"):
        site.build(notebooks, tmp_path, tmp_path / "new")


@pytest.mark.parametrize("notebook", running.discover(), ids=lambda notebook: notebook.slug)
def test_every_formula_of_the_course_is_drawn(notebook):
    texts = [
        re.sub(r"`[^`]*`", "", cell.source) for cell in nbformat.read(notebook.path, as_version=4).cells if cell.cell_type == "markdown"
    ]
    for text in texts:
        for block, inline in FORMULA.findall(text):
            drawn = lessons.formula(block or inline, display=bool(block))
            assert drawn.startswith("<math") and not re.search(r"\\[A-Za-z]", re.sub("<[^>]+>", "", drawn)), block or inline


def test_a_formula_that_cannot_be_read_keeps_its_text():
    for latex in ("a^b^c<", r"\left( a", r"\nosuchcommand x"):
        assert lessons.formula(latex) == f'<code class="formula">{html.escape(latex)}</code>'


@pytest.mark.slow
def test_a_run_with_pages_keeps_them(tmp_path):
    cells = [
        "from facelab.explorers import Explorer, View\nfrom facelab.pictures.style import new_picture",
        "Explorer(lambda n: View(new_picture(2, 1)[0], f'n is {n}'), {'n': (0, 2)}, name='counting')",
    ]
    path = tmp_path / "notebooks" / "11_counting.ipynb"
    path.parent.mkdir()
    about = small_site.ABOUT | dict(slug="counting", number="11", title="Counting")
    nbformat.write(new_notebook(cells=[new_code_cell(cell) for cell in cells], metadata={"facelab": about}), path)
    notebook = running.read(path)
    result = running.run(running.Task(notebook, {}, tmp_path / "executed", {pages.WANTED: "1"}))
    assert not result.error and site.state(notebook, tmp_path / "executed") == site.FRESH
    (output,) = nbformat.read(result.copy, as_version=4).cells[1].outputs
    assert [frame[1] for frame in output.data[pages.PAGE_TYPE]["frames"].values()] == ["n is 0", "n is 1", "n is 2"]

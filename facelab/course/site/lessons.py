"""One executed notebook as the inside of a page: formulas for the browser to draw, pictures and explorers in files beside it."""

import base64
import html
import io
import re
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from facelab import pages
from facelab.course import running

if TYPE_CHECKING:
    from bs4 import BeautifulSoup, Tag
    from nbformat import NotebookNode

PLOTLY_TYPE = "application/vnd.plotly.v1+json"
QUALITY = 85  # of the pictures; beside text, less shows


@dataclass(frozen=True)
class Entry:
    """A word of a notebook's glossary."""

    key: str
    """By which it is sorted."""
    term: str
    """As html."""
    meaning: str
    """As html."""
    notebook: running.Notebook


@dataclass
class Lesson:
    """A notebook, ready for its page."""

    notebook: running.Notebook
    body: str = ""
    contents: list[tuple[str, str]] = field(default_factory=list)
    """Anchor and words of each section."""
    sentence: str = ""
    """The first of its text, as html."""
    glossary: list[Entry] = field(default_factory=list)
    sections: list[dict[str, str]] = field(default_factory=list)
    """What the search knows: page, title, heading and text of each section."""
    scripts: list[str] = field(default_factory=list)
    """Addresses of what its explorers need."""
    plots: bool = False
    cost: float | None = None
    """Processor seconds of the run."""

    @property
    def page(self) -> str:
        """Its address."""
        return f"{self.notebook.slug}.html"


def convert(notebook: running.Notebook, executed: Path, output: Path, links: dict[str, str]) -> Lesson:
    """Reads an executed copy, writes its pictures and explorers below `output`, and returns what its page needs.

    Args:
        notebook: of the course.
        executed: path of its executed copy.
        output: folder of the site.
        links: file name of a notebook -> its page; links to other files of the checkout become plain words.
    """
    import nbformat
    from bs4 import BeautifulSoup

    content = nbformat.read(executed, as_version=4)
    lesson = Lesson(notebook, cost=content.metadata.get("facelab_run", {}).get("processor_seconds"))
    for cell in content.cells:
        if cell.metadata.get("jupyter", {}).get("source_hidden"):
            cell.metadata.tags = [*cell.metadata.get("tags", []), "hidden"]  # nbconvert makes classes of tags
        for shown in cell.get("outputs", []):
            if "data" in shown:
                _place(shown, lesson, output)
    soup = BeautifulSoup(_exporter().from_notebook_node(content)[0], "html.parser")
    _fold(soup)
    _redirect(soup, links, notebook.path.parent, output)
    _number(soup, lesson)
    first = next((p for p in soup.find_all("p") if p.get_text(strip=True)), None)
    lesson.sentence = re.split(r"(?<=[.?!])\s+(?=[A-Z<])", first.decode_contents())[0] if first else ""
    lesson.glossary = _glossary(soup, notebook)
    lesson.sections = _sections(soup, lesson)
    lesson.body = str(soup)
    return lesson


def formula(latex: str, display: bool = False) -> str:
    """A formula in MathML, which browsers draw without a script or a font of ours; its own text where it cannot be read."""
    from latex2mathml.converter import convert as to_mathml

    try:
        drawn = to_mathml(latex.strip(), display="block" if display else "inline")
    except Exception:  # each kind of unreadable text has its own error there
        drawn = ""
    unknown = not drawn or "<mi>\\" in drawn  # a command that it does not know, it takes for a name
    return f'<code class="formula">{html.escape(latex.strip())}</code>' if unknown else drawn


def _exporter() -> Any:
    """nbconvert's html of cells alone, with our template around them and formulas already drawn."""
    from jinja2 import pass_context
    from nbconvert.exporters import HTMLExporter
    from nbconvert.filters.markdown_mistune import IPythonRenderer, MarkdownWithMath

    class Renderer(IPythonRenderer):
        def block_math(self, body: str) -> str:
            return formula(body, display=True)

        def inline_math(self, body: str) -> str:
            return formula(body)

        def latex_environment(self, name: str, body: str) -> str:
            return formula(rf"\begin{{{name}}}{body}\end{{{name}}}", display=True)

    class Cells(HTMLExporter):
        @pass_context
        def markdown2html(self, context, source):
            return MarkdownWithMath(renderer=Renderer(escape=False, exclude_anchor_links=True)).render(source)

    return Cells(template_name="basic", exclude_input_prompt=True, exclude_output_prompt=True)


def _place(shown: "NotebookNode", lesson: Lesson, output: Path) -> None:
    """Puts what a cell showed into files of the site, and html that names them in its place."""
    data, slug = shown.data, lesson.notebook.slug
    if pages.PAGE_TYPE in data:
        name = f"{slug}_{len(lesson.scripts) + 1}"
        page = pages.as_script(data[pages.PAGE_TYPE])
        (output / "explorers" / f"{name}.js").write_text(f'EXPLORERS["{name}"] = {page};\n', encoding="utf-8")
        lesson.scripts.append(f"explorers/{name}.js")
        put = f'<div class="facelab-page" data-explorer="{name}"></div>'
    elif PLOTLY_TYPE in data:
        lesson.plots = True
        words = html.escape(data.get("text/plain", ""))
        plot = pages.as_script(data[PLOTLY_TYPE])
        put = f'<div class="plot" role="img" aria-label="{words}"><script type="application/json">{plot}</script></div>'
    elif "image/png" in data:
        put = _picture(shown, lesson, output)
    elif "text/latex" in data and "text/html" not in data:
        put = formula(data["text/latex"].strip().strip("$"), display=True)
    else:
        return
    shown.data = {"text/html": put}


def _picture(shown: "NotebookNode", lesson: Lesson, output: Path) -> str:
    from PIL import Image

    folder = output / "pictures" / lesson.notebook.slug
    folder.mkdir(parents=True, exist_ok=True)
    name = f"{sum(1 for _ in folder.iterdir()) + 1:02d}.webp"
    with Image.open(io.BytesIO(base64.b64decode(shown.data["image/png"]))) as picture:
        picture.convert("RGB").save(folder / name, "WEBP", quality=QUALITY, method=4)
        size = shown.get("metadata", {}).get("image/png", {})
        width, height = size.get("width", picture.width), size.get("height", picture.height)
    words = html.escape(str(shown.data.get("text/plain", "")).removeprefix("<picture: ").removesuffix(">"))
    return f'<img src="pictures/{lesson.notebook.slug}/{name}" alt="{words}" width="{width}" height="{height}" loading="lazy">'


def _fold(soup: "BeautifulSoup") -> None:
    """Solutions, and code that the notebook hides, open when they are asked for."""
    for choice, words in ((".celltag_solution", "Solution"), (".celltag_hidden:not(.celltag_solution) .input", "Code")):
        for cell in soup.select(choice):
            fold = cell.wrap(soup.new_tag("details"))
            summary = soup.new_tag("summary")
            summary.string = words
            fold.insert(0, summary)


def _redirect(soup: "BeautifulSoup", links: dict[str, str], folder: Path, output: Path) -> None:
    """Points links between notebooks at their pages and takes pictures of the checkout along; its other files are not here."""
    for picture in soup.find_all("img"):
        source = folder / str(picture["src"])
        if re.match(r"data:|pictures/", str(picture["src"])):
            continue
        if source.is_file():
            shutil.copy(source, output / "pictures" / source.name)
            picture["src"] = f"pictures/{source.name}"
        else:
            picture.replace_with(str(picture.get("alt", "")))
    for link in soup.find_all("a", href=True):
        address, _, anchor = str(link["href"]).partition("#")
        name = address.rsplit("/", 1)[-1]
        if name in links:
            link["href"] = links[name] + (f"#{_anchor(anchor)}" if anchor else "")
        elif not address and anchor:
            link["href"] = f"#{_anchor(anchor)}"
        elif not re.match(r"(https?|mailto):", address):
            link.unwrap()


def _number(soup: "BeautifulSoup", lesson: Lesson) -> None:
    """Gives every heading an anchor, and collects the sections."""
    taken: set[str] = set()
    for heading in soup.find_all(["h1", "h2", "h3", "h4"]):
        anchor = plain = _anchor(heading.get_text())
        while anchor in taken:
            anchor = f"{plain}-{len(taken)}"
        taken.add(anchor)
        heading["id"] = anchor
        if heading.name == "h2":
            lesson.contents.append((anchor, heading.get_text()))


def _anchor(words: str) -> str:
    return re.sub(r"\W+", "-", words.lower()).strip("-") or "section"


def _words(tag: "Tag") -> str:
    """Text of a piece of html without its formulas."""
    return " ".join(" ".join(text for text in tag.find_all(string=True) if not text.find_parent("math")).split())


def _glossary(soup: "BeautifulSoup", notebook: running.Notebook) -> list[Entry]:
    """The entries of the list or the table that follows the word Glossary."""
    start = next((tag for tag in soup.find_all(["strong", "h2", "h3"]) if tag.get_text(strip=True).strip(".:").lower() == "glossary"), None)
    found = start.find_next(["ul", "table"]) if start else None
    if start is None or found is None:
        return []
    start["id"] = str(start.get("id", "glossary"))
    entries = []
    for line in found.find_all("li") or found.find_all("tr"):
        cells = line.find_all("td")
        if line.name == "tr" and len(cells) != 2:
            continue
        if cells:
            term, meaning = (cell.decode_contents() for cell in cells)
            key = _words(cells[0])
        else:
            term, meaning = "", line.decode_contents()
            key = _words(line)
        entries.append(Entry(re.sub(r"^\W+", "", key).lower() or "~", term, meaning, notebook))
    return entries


def _sections(soup: "BeautifulSoup", lesson: Lesson) -> list[dict[str, str]]:
    found = [{"page": lesson.page, "title": lesson.notebook.title, "heading": "", "text": ""}]
    for cell in soup.select(".text_cell_render"):
        for child in cell.find_all(recursive=False):
            if child.name in ("h2", "h3"):
                found.append(found[0] | {"page": f"{lesson.page}#{child['id']}", "heading": child.get_text(), "text": ""})
            else:
                found[-1]["text"] = f"{found[-1]['text']} {_words(child)}".strip()
    return [section for section in found if section["text"]]

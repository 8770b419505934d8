"""The course as static pages, made of executed copies: they open from disk, without a server, a kernel or a network."""

import json
import re
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from facelab import pages
from facelab.course import gallery, running, scoreboard, settling
from facelab.course.site.lessons import Lesson, convert

OUTPUT = Path("build") / "site"
TEMPLATES = Path(__file__).parent / "templates"
FRESH = ""


@dataclass
class Site:
    """What was written."""

    start: Path
    lessons: list[Lesson] = field(default_factory=list)
    missing: dict[str, str] = field(default_factory=dict)
    """Slug -> why this notebook has no page, or one that lacks something."""

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(path.stat().st_size for path in self.start.parent.rglob("*") if path.is_file())


def state(notebook: running.Notebook, executed: Path) -> str:
    """Why the executed copy of a notebook cannot be published as it is, in words, or `FRESH`."""
    path = executed / running.copy_name(notebook, {})
    if not path.exists():
        return "was not executed"
    # Plain JSON: nbformat would check every picture against its schema, for each notebook of the course.
    content, source = (json.loads(where.read_text(encoding="utf-8")) for where in (path, notebook.path))
    made = content["metadata"].get("facelab_run", {})
    if made.get("error"):
        return f"broke off: {made['error']}"
    if ["".join(cell["source"]) for cell in content["cells"]] != ["".join(cell["source"]) for cell in source["cells"]]:
        return "has changed since it was executed"
    return FRESH if made.get("pages") else "was executed without the pages of its explorers"


def build(
    notebooks: list[running.Notebook], executed: Path = running.OUTPUT, output: Path = OUTPUT, settled: Path = settling.FOLDER
) -> Site:
    """Writes the site anew; what `output` held is gone, if it was a site.

    Args:
        notebooks: of the course, in its order.
        executed: folder of executed copies, as `facelab run --pages` leaves them.
        output: folder of the site; `index.html` is its start.
        settled: folder of the settled figures.

    Raises:
        ValueError: no executed copy at all, or `output` holds something else than a site.
    """
    import jinja2

    have = [notebook for notebook in notebooks if (executed / running.copy_name(notebook, {})).exists()]
    if not have:
        raise ValueError(f"There is no executed copy of a notebook in {executed}; make some first: facelab run --all --pages.")
    _clear(output)
    site = Site(output / "index.html")
    site.missing = {notebook.slug: why for notebook in notebooks if (why := state(notebook, executed))}
    students = {notebook.slug: student for notebook in notebooks if (student := _write_student(notebook, output))}
    drawn = {notebook.slug: picture for notebook in notebooks if (picture := _copy_picture(notebook, output))}
    links = {notebook.path.name: f"{notebook.slug}.html" for notebook in have}
    site.lessons = [convert(notebook, executed / running.copy_name(notebook, {}), output, links) for notebook in have]
    known = {lesson.notebook.slug: lesson for lesson in site.lessons}

    environment = jinja2.Environment(loader=jinja2.FileSystemLoader(TEMPLATES), autoescape=True, trim_blocks=True, lstrip_blocks=True)
    board = _scoreboard(notebooks, settled)
    shared = {"lessons": site.lessons, "board": board}

    def write(name: str, template: str, **values) -> None:
        (output / name).write_text(environment.get_template(template).render(shared | values), encoding="utf-8")

    parts = [
        (part, question, [(n, known.get(n.slug)) for n in notebooks if n.part == number])
        for number, (part, question) in _parts(notebooks).items()
    ]
    write("index.html", "index.html", title="The course", parts=parts, drawn=drawn, students=students)
    for index, lesson in enumerate(site.lessons):
        before = site.lessons[index - 1] if index else None
        after = site.lessons[index + 1] if index + 1 < len(site.lessons) else None
        given = students.get(lesson.notebook.slug, "")
        write(lesson.page, "lesson.html", title=lesson.notebook.title, lesson=lesson, before=before, after=after, student=given)
    entries = sorted((entry for lesson in site.lessons for entry in lesson.glossary), key=lambda entry: entry.key)
    write("glossary.html", "glossary.html", title="Glossary", entries=entries)
    write("search.html", "search.html", title="Search")
    if board:
        write("scoreboard.html", "scoreboard.html", title="Scoreboard", known=known)
    _write_assets(output, site.lessons)
    return site


def _clear(output: Path) -> None:
    """Takes an old site away, and nothing else."""
    if output.exists() and any(output.iterdir()):
        if not (output / "assets" / "site.js").exists():
            raise ValueError(f"{output} holds something that is no site of facelab; give an empty or a new folder with --output.")
        shutil.rmtree(output)
    for folder in ("assets", "pictures", "explorers", "student"):
        (output / folder).mkdir(parents=True, exist_ok=True)


def _write_student(notebook: running.Notebook, output: Path) -> str:
    """The address of the copy to hand out, empty where a notebook has no solutions to take out."""
    import nbformat

    try:
        content = running.student_copy(notebook)
    except ValueError:
        return ""
    nbformat.write(content, output / "student" / notebook.path.name)
    return f"student/{notebook.path.name}"


def _copy_picture(notebook: running.Notebook, output: Path) -> str:
    source = gallery.PICTURES / f"{notebook.slug}.webp"
    if not source.exists():
        return ""
    shutil.copy(source, output / "pictures" / source.name)
    return f"pictures/{source.name}"


def _parts(notebooks: list[running.Notebook]) -> dict[int, tuple[str, str]]:
    """The parts that have notebooks: number -> its name and its question, from the map in README.md where that knows them."""
    text = (running.NOTEBOOKS.parent / "README.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (\d) ([^|]*)\| ([^|]*)\|", text, re.MULTILINE)
    named = {int(number): (name.strip(), question.strip()) for number, name, question in rows}
    return {number: named.get(number, ("", "")) for number in sorted({notebook.part for notebook in notebooks})}


def _scoreboard(notebooks: list[running.Notebook], folder: Path) -> dict[str, Any]:
    """The plot of all settled claims, as JSON for plotly, and their tables; empty where nothing is settled."""
    from facelab.pictures.scoreboard import draw_scoreboard

    found = [(notebook, figures) for notebook in notebooks for figures in settling.load_all(notebook.slug, folder) if figures["claims"]]
    if not found:
        return {}
    plot = draw_scoreboard([scoreboard.point(figures, claim) for _, figures in found for claim in figures["claims"]])
    tables = [
        (scoreboard.heading(figures), notebook, [scoreboard.row(claim) for claim in figures["claims"]]) for notebook, figures in found
    ]
    return {"plot": pages.in_script(plot.to_json()), "height": plot.layout.height, "tables": tables}


def _write_assets(output: Path, lessons: list[Lesson]) -> None:
    from plotly.offline import get_plotlyjs
    from pygments.formatters import HtmlFormatter

    assets = output / "assets"
    light = HtmlFormatter(style="default").get_style_defs(".highlight")
    dark = HtmlFormatter(style="github-dark").get_style_defs(".highlight")
    style = (TEMPLATES / "style.css").read_text(encoding="utf-8")
    colours = f"{light}\n@media (prefers-color-scheme: dark) {{\n{dark}\n}}"
    (assets / "style.css").write_text(f"{colours}\n{pages.STYLE}\n{style}", encoding="utf-8")
    (assets / "site.js").write_text(f"{pages.SCRIPT}\n{(TEMPLATES / 'site.js').read_text(encoding='utf-8')}", encoding="utf-8")
    (assets / "plotly.js").write_text(get_plotlyjs(), encoding="utf-8")
    index = [section for lesson in lessons for section in lesson.sections]
    (assets / "index.js").write_text(f"const INDEX = {json.dumps(index, ensure_ascii=False)};\n", encoding="utf-8")

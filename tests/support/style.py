"""Counts what can be counted of a notebook: its size, shape, exercises and language, read without running it.

Each rule is a function of a lesson that returns its breaks. A break says what was found, what is allowed and what to do.
"""

import ast
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

SETTLED = Path(__file__).resolve().parents[2] / "data" / "settled"
CELLS, WORDS, CODE_LINES, CELL_LINES, CLASS_LINES, COLUMNS = 65, 2800, 300, 15, 25, 100
SECONDS, MEMORY = 60, 1500  # processor seconds of the `quick` preset, all processes together (the aim is 30), and MB
EQUATION_BY, GLOSSARY_LINES, TRAIN_AND_CLAIMS, SWITCH_CELLS, KNOWN_LINES, CAVEAT_WORDS = 8, 10, 14, 2, 5, 120
JUDGED, CLAIMS = 3, 6
COLONS, NEGATIONS, REASONS, SENTENCE = 30, 12, 10, 35  # the first three in a hundred sentences, the last in words

SWITCHED_OFF = re.compile(r"#\s*(fmt:\s*(off|skip)|yapf:\s*disable|isort:\s*(off|skip)|(ruff:\s*)?noqa)", re.IGNORECASE)
PICTURE = re.compile(r"""!\[[^]]*\]\(([^)\s]+)[^)]*\)|<img[^>]*\ssrc=["']([^"']+)""")
WORD = re.compile(r"[^\W_]+(?:['’.,/-][^\W_]+)*")
NEGATION = re.compile(r"\b(not|no|never|none|nothing|nobody|nowhere|neither|nor|cannot)\b|n['’]t\b", re.IGNORECASE)
REASON = re.compile(
    r"\b(because|so that|hence|therefore|thus|consequently|since|but then|(?:which|that|this) is why|for this reason)\b"
    r"|(?:^|[,;] )so\b(?! (?:many|much|far)\b)",
    re.IGNORECASE,
)
SENTENCE_END = re.compile(r"(?<=[.!?])(?<!\be\.g\.)(?<!\bi\.e\.)(?<!\b(?:vs|al|Eq)\.)(?<!\bFig\.)[\"”')\]]*\s+(?=[\"“'(\[]*[^\Wa-z_])")


class Cell(NamedTuple):
    """One cell, with the place at which it stands."""

    index: int
    kind: str
    source: str
    tags: list[str]
    collapsed: bool

    @property
    def lines(self) -> list[str]:
        """Those that are not empty."""
        return [line for line in self.source.splitlines() if line.strip()]

    @property
    def tree(self) -> ast.Module:
        """The code of the cell; what only IPython understands is left out."""
        return ast.parse("" if self.source.startswith("%%") else re.sub(r"^(\s*)[%!].*$", r"\1pass", self.source, flags=re.MULTILINE))


class Break(NamedTuple):
    """A rule that does not hold, in the whole notebook where there is no cell."""

    cell: int | None
    text: str


@dataclass(frozen=True)
class Lesson:
    """A notebook as the rules see it."""

    path: Path
    metadata: dict
    cells: list[Cell]

    @property
    def slug(self) -> str:
        """The name by which the course knows it."""
        return self.metadata["slug"]

    @property
    def code(self) -> list[Cell]:
        """The cells of code."""
        return [cell for cell in self.cells if cell.kind == "code"]

    @property
    def text(self) -> list[Cell]:
        """The cells of text."""
        return [cell for cell in self.cells if cell.kind == "markdown"]

    def section(self, word: str) -> list[Cell]:
        """The cells from the first heading with this word to the next heading of the same rank; none if there is no such heading."""
        starts = [cell.index for cell in self.text if headings(cell)] + [len(self.cells)]
        for cell in self.text:
            if any(word in heading for heading in headings(cell)):
                return self.cells[cell.index : next(start for start in starts if start > cell.index)]
        return []

    def complaints(self, rule: str) -> list[str]:
        """One sentence for each break of the rule of that name."""
        places = [(f"{self.slug}" if cell is None else f"{self.slug}, cell {cell}", text) for cell, text in RULES[rule](self)]
        return [f"{place}: {text}" for place, text in places]


def read(path: Path) -> Lesson:
    """The notebook at a path."""
    content = json.loads(path.read_text(encoding="utf-8"))
    cells = []
    for index, cell in enumerate(content["cells"]):
        metadata = cell.get("metadata", {})
        collapsed = bool(metadata.get("jupyter", {}).get("source_hidden"))
        cells.append(Cell(index, cell["cell_type"], "".join(cell["source"]), metadata.get("tags", []), collapsed))
    return Lesson(path, content["metadata"]["facelab"], cells)


def headings(cell: Cell) -> list[str]:
    """The second-rank headings in a cell of text, in small letters."""
    return [line.strip("# ").lower() for line in cell.source.splitlines() if re.match(r"##\s", line)]


# ---- Text ----


def prose(source: str) -> str:
    """Text as it is read aloud: formulas and code count as one word each; pictures, addresses of links and tags are gone."""

    def formula(match: re.Match) -> str:
        goes_on = not match[1].rstrip().endswith((".", "?", "!")) and re.match(r"[a-z,;:.)$`]", match[2])
        return f" Formula {match[2]}" if goes_on else f" Formula.\n\n{match[2]}"

    source = re.sub(r"^(```|~~~).*?^\1\s*$", "", source, flags=re.DOTALL | re.MULTILINE)
    source = re.sub(r"^(\s*)[*+] ", r"\1- ", PICTURE.sub("", source), flags=re.MULTILINE)
    source = re.sub(r"\s*\$\$(.*?)\$\$\s*(\S?)", formula, source, flags=re.DOTALL)
    source = re.sub(r"(`+).+?\1", "Code", source, flags=re.DOTALL)
    source = re.sub(r"\$[^$]+\$", "Formula", source)
    source = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", source)
    return re.sub(r"<[^>]+>|https?://\S+|\*+|(?<!\w)_+|_+(?!\w)", "", source)


def word_count(source: str) -> int:
    """Words of a text, headings and tables included."""
    return len(WORD.findall(prose(source)))


def sentences(source: str) -> list[str]:
    """The sentences of paragraphs and list entries; headings and tables have none."""
    lines = ("" if re.match(r"\s*(#|\|)", line) else line for line in prose(source).splitlines())
    blocks = re.split(r"\n\s*\n|^\s*(?:-|\d+\.)\s", "\n".join(lines), flags=re.MULTILINE)
    found = [" ".join(part.split()) for block in blocks for part in SENTENCE_END.split(block)]
    return [sentence for sentence in found if WORD.search(sentence)]


def labelled(cell: Cell, label: str) -> str | None:
    """What stands in a cell of text below a heading, or behind words in bold, that begin with a label, to the next heading; else None."""
    match = re.search(rf"^(?:#+|\*\*)[ \d.]*{label}\b.*", cell.source, flags=re.IGNORECASE | re.MULTILINE)
    if match is None:
        return None
    heading = match[0].startswith("#")
    return re.split(r"^#+ ", cell.source[match.end() if heading else match.start() :], maxsplit=1, flags=re.MULTILINE)[0]


# ---- Code ----


def names(tree: ast.AST, *, stored: bool = False) -> set[str]:
    """Names read anywhere in code, or those that it binds outside functions and classes."""
    if not stored:
        return {node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)}
    found, queue = set(), list(ast.iter_child_nodes(tree))
    for node in queue:  # grows while it is read
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            found.add(node.name)
            continue
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            found.add(node.id)
        if not isinstance(node, ast.Lambda | ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp):
            queue += ast.iter_child_nodes(node)
    return found


def imported(tree: ast.AST) -> set[str]:
    """Names that imports bind, within functions too."""
    aliases = [alias for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom) for alias in node.names]
    return {alias.asname or alias.name.split(".")[0] for alias in aliases}


def asks(cell: Cell, switch: str) -> bool:
    """Whether code reads a switch; `quick` is also asked by way of `preset`."""
    return bool(({switch, "preset"} if switch == "quick" else {switch}) & names(cell.tree))


def calls(cell: Cell, function: str) -> bool:
    """Whether code calls a function of this name."""
    called = (node.func for node in ast.walk(cell.tree) if isinstance(node, ast.Call))
    return any((node.id if isinstance(node, ast.Name) else getattr(node, "attr", "")) == function for node in called)


def to_fill(cell: Cell) -> bool:
    """Whether a cell holds dots or a None that a learner replaces."""
    statements = (node.value for node in ast.walk(cell.tree) if isinstance(node, ast.Assign | ast.Return | ast.Expr))
    holes = (hole for value in statements for hole in (value.elts if isinstance(value, ast.Tuple | ast.List) else [value]))
    return any(isinstance(hole, ast.Constant) and hole.value in (..., None) for hole in holes)


# ---- Rules ----


def at_most(cell: int | None, value: int, limit: int, what: str, advice: str) -> list[Break]:
    """A break if the value is above the limit."""
    return [Break(cell, f"{value} {what}, at most {limit} are allowed; {advice}.")] if value > limit else []


def cells(lesson: Lesson) -> list[Break]:
    """At most 65 cells."""
    return at_most(None, len(lesson.cells), CELLS, "cells", "join or drop some, or begin an appendix notebook")


def words(lesson: Lesson) -> list[Break]:
    """At most 2,800 words of text."""
    return at_most(None, sum(word_count(cell.source) for cell in lesson.text), WORDS, "words", "say less, or begin an appendix notebook")


def code_lines(lesson: Lesson) -> list[Break]:
    """At most 300 lines of code."""
    return at_most(None, sum(len(cell.lines) for cell in lesson.code), CODE_LINES, "lines of code", "move code into the package")


def cell_lines(lesson: Lesson) -> list[Break]:
    """At most 15 lines in a cell, or 25 in the one that holds a class."""
    long = [cell for cell in lesson.code if len(cell.lines) > CELL_LINES]
    one = [cell for cell in long if any(isinstance(node, ast.ClassDef) for node in cell.tree.body)][:1]
    limits = [(cell, CLASS_LINES if cell in one else CELL_LINES) for cell in long]
    advice = f"split the cell (one with a class may have {CLASS_LINES})"
    return [found for cell, limit in limits for found in at_most(cell.index, len(cell.lines), limit, "lines of code", advice)]


def columns(lesson: Lesson) -> list[Break]:
    """No line of code beyond 100 columns."""
    longest = {cell.index: max(map(len, cell.source.splitlines() or [""])) for cell in lesson.code}
    return [found for index, length in longest.items() for found in at_most(index, length, COLUMNS, "columns", "wrap the line")]


def comprehensions(lesson: Lesson) -> list[Break]:
    """No comprehension within a comprehension."""
    kinds = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)
    found = []
    for cell in lesson.code:
        outer = [node for node in ast.walk(cell.tree) if isinstance(node, kinds)]
        nested = sum(any(isinstance(inner, kinds) for inner in ast.walk(node) if inner is not node) for node in outer)
        found += at_most(cell.index, nested, 0, "nested comprehensions", "give the inner one a name, or write a loop")
    return found


def formatter(lesson: Lesson) -> list[Break]:
    """The formatter and the linter stay on."""
    off = {cell.index: len(SWITCHED_OFF.findall(cell.source)) for cell in lesson.code}
    advice = "let the formatter have its way"
    return [found for index, count in off.items() for found in at_most(index, count, 0, "comments that switch a tool off", advice)]


def seconds(lesson: Lesson) -> list[Break]:
    """At most 60 processor seconds are stated."""
    return at_most(None, lesson.metadata["seconds"], SECONDS, "processor seconds stated", "train less (aim at 30)")


def memory(lesson: Lesson) -> list[Break]:
    """At most 1,500 MB are stated."""
    return at_most(None, lesson.metadata["memory_mb"], MEMORY, "MB of memory stated", "use smaller batches or data")


def result_picture(lesson: Lesson) -> list[Break]:
    """Cell 0 shows a picture of docs/pictures, and the file is there."""
    shown = [one or other for one, other in PICTURE.findall(lesson.cells[0].source)]
    ours = [place for place in shown if "docs/pictures/" in place]
    if not ours:
        return [Break(0, "no picture from docs/pictures, 1 is asked for; show the result that a run made.")]
    lost = [place for place in ours if not (lesson.path.parent / place).is_file()]
    return [Break(0, f"the picture {place} does not exist, it must lie in docs/pictures; let a run make it.") for place in lost]


def equation_first(lesson: Lesson) -> list[Break]:
    """A displayed equation by cell 8, before any class."""
    first = next((cell.index for cell in lesson.text if "$$" in cell.source), None)
    if first is None or first > EQUATION_BY:
        where = "no cell holds a displayed equation" if first is None else f"the first displayed equation stands in cell {first}"
        return [Break(first, f"{where}, cell {EQUATION_BY} is the last that may; say the idea in one equation early.")]
    early = [cell for cell in lesson.code if cell.index < first and any(isinstance(node, ast.ClassDef) for node in ast.walk(cell.tree))]
    return [Break(cell.index, f"a class before the equation of cell {first}, none is allowed; put the equation first.") for cell in early]


def imports(lesson: Lesson) -> list[Break]:
    """A cell imports only what it uses itself, and nothing that stands already."""
    found, known = [], set()
    for cell in lesson.code:
        new = imported(cell.tree)
        for name in sorted(new - names(cell.tree)):
            found.append(Break(cell.index, f"imports {name!r} without using it, 0 such names are allowed; import it where it is used."))
        for name in sorted(new & known):
            found.append(Break(cell.index, f"imports {name!r} once more, 1 import is allowed; the first one still holds."))
        known |= new if "solution" not in cell.tags else set()
    return found


def glossary(lesson: Lesson) -> list[Break]:
    """A glossary of at most ten lines."""
    for cell in lesson.text:
        text = labelled(cell, "glossary")
        if text is not None:
            lines = [line for line in text.splitlines() if line.strip(" |:*-.") and line.strip(" *:.").lower() != "glossary"]
            return at_most(cell.index, len(lines), GLOSSARY_LINES, "lines of glossary", "let another notebook have the eleventh concept")
    return [Break(None, "no cell with a heading or bold word 'Glossary', 1 is asked for; say every symbol and word there once.")]


def train_and_claims(lesson: Lesson) -> list[Break]:
    """At most 14 cells in the sections Train and Claims together; an appendix may go without training."""
    parts = {word: lesson.section(word) for word in ("train", "claim")}
    appendix = re.match(r"\d\d[a-z]_", lesson.path.name)
    missing = [word for word, part in parts.items() if not part and not (appendix and word == "train")]
    if missing:
        return [Break(None, f"no heading with the word {word!r}, 1 is asked for; add the section.") for word in missing]
    total = sum(map(len, parts.values()))
    return at_most(
        (parts["train"] or parts["claim"])[0].index, total, TRAIN_AND_CLAIMS, "cells in Train and Claims", "declare the rivals once"
    )


def switches(lesson: Lesson) -> list[Break]:
    """`quick` and `sabotage` are read in at most two cells each, beside the parameters."""
    found = []
    for switch in ("quick", "sabotage"):
        asking = [cell.index for cell in lesson.code if "parameters" not in cell.tags and asks(cell, switch)]
        last = asking[-1] if asking else None
        advice = f"decide everything where it is first asked (here in {', '.join(map(str, asking))})"
        found += at_most(last, len(asking), SWITCH_CELLS, f"cells read {switch!r}", advice)
    return found


def ending(lesson: Lesson) -> list[Break]:
    """Five lines *What you now know*, which only *Beyond* may follow."""
    found: list[Break] = []
    last = [(cell, heading) for cell in lesson.text for heading in headings(cell)]
    while last and "what you now know" not in last[0][1]:
        del last[0]
    if not last:
        return [Break(None, f"no heading 'What you now know', {KNOWN_LINES} lines below it are asked for; end with them.")]
    known = last.pop(0)[0]
    lines = [line for line in (labelled(known, "what you now know") or "").splitlines() if line.strip()]
    entries = [line for line in lines if re.match(r"\s*([-*+]|\d+\.)\s", line)] or lines
    if len(entries) != KNOWN_LINES:
        found.append(
            Break(known.index, f"{len(entries)} lines under 'What you now know', {KNOWN_LINES} are asked for; one for each thing.")
        )
    late = [(cell.index, heading) for cell, heading in last if "beyond" not in heading]
    return found + [Break(i, f"the section {heading!r} follows 'What you now know', only 'Beyond' may; move it up.") for i, heading in late]


def caveats(lesson: Lesson) -> list[Break]:
    """Caveats of at most 120 words, before *What you now know*."""
    end = next((cell.index for cell in lesson.section("what you now know")), len(lesson.cells))
    for cell in lesson.text:
        text = labelled(cell, "caveats?")
        if text is not None and cell.index <= end:
            return at_most(
                cell.index, word_count(text), CAVEAT_WORDS, "words of caveats", "leave the rest to the comparison with the paper"
            )
    return [Break(None, "no heading or bold word 'Caveats' before 'What you now know', 1 is asked for; say what the figures do not show.")]


def exercises(lesson: Lesson) -> list[Break]:
    """Each exercise is a question, a cell to fill, a check and a collapsed, tagged solution under another name."""
    found: list[Break] = []
    group: list[Cell] = []
    section = lesson.section("exercise")
    for cell in section:
        if cell.kind != "code":
            continue
        if "solution" not in cell.tags:
            group.append(cell)
            continue
        found += exercise(lesson, group, cell)
        group = []
    found += [
        Break(cell.index, "a check without a solution behind it, 1 is asked for; add it.") for cell in group if calls(cell, "check_answer")
    ]
    if not any("solution" in cell.tags for cell in section):
        found.append(Break(None, "0 solutions in the section 'Exercises', at least 1 is asked for; add some."))
    return found


def exercise(lesson: Lesson, group: list[Cell], solution: Cell) -> Iterator[Break]:
    """The breaks of one exercise: its cells of code before the solution, in their order, and the solution."""
    fills = [cell for cell in group if to_fill(cell)]
    checks = [cell for cell in group if calls(cell, "check_answer")]
    if not solution.collapsed:
        yield Break(solution.index, "a solution that is not collapsed, every one must be; set its `jupyter.source_hidden`.")
    if not group or lesson.cells[group[0].index - 1].kind != "markdown":
        yield Break(solution.index, "0 questions before the code that leads to this solution, 1 is asked for; ask it in a cell of text.")
    if not fills:
        yield Break(solution.index, "0 cells to fill before this solution, 1 is asked for; write one with dots to replace.")
    if not checks or checks[-1] is not group[-1] or (fills and checks[0].index <= fills[0].index):
        yield Break(
            solution.index, "the solution does not follow its check directly, it must; order question, cell to fill, check, solution."
        )
    taken = set().union(*(names(cell.tree, stored=True) for cell in fills)) & names(solution.tree, stored=True)
    for name in sorted(taken):
        yield Break(
            solution.index, f"the solution binds {name!r} of the cell to fill, 0 names may be shared; give the solution its own name."
        )


def sabotage_exercise(lesson: Lesson) -> list[Break]:
    """At least one exercise is about a sabotage."""
    if any("sabotage" in cell.source.lower() for cell in lesson.section("exercise")):
        return []
    return [Break(None, "0 exercises name a sabotage, at least 1 is asked for; ask which claim it breaks and let it be tried.")]


def share(lesson: Lesson, pattern: str | re.Pattern) -> float:
    """How often a pattern occurs in a hundred sentences."""
    spoken = [sentence for cell in lesson.text for sentence in sentences(cell.source)]
    return 100 * sum(len(re.findall(pattern, sentence)) for sentence in spoken) / max(1, len(spoken))


def colons(lesson: Lesson) -> list[Break]:
    """At most 30 colons and semicolons in a hundred sentences."""
    count = share(lesson, r"[:;](?=\s|$)")
    return at_most(None, round(count), COLONS, "colons and semicolons in a hundred sentences", "argue with conjunctions")


def negations(lesson: Lesson) -> list[Break]:
    """At most 12 negations in a hundred sentences."""
    return at_most(None, round(share(lesson, NEGATION)), NEGATIONS, "negations in a hundred sentences", "say what is")


def reasons(lesson: Lesson) -> list[Break]:
    """At least 10 reasons in a hundred sentences."""
    count = round(share(lesson, REASON))
    found = f"{count} reasons in a hundred sentences, at least {REASONS} are asked for; say why (because, so that, hence, since, but then)."
    return [Break(None, found)] if count < REASONS else []


def long_sentences(lesson: Lesson) -> list[Break]:
    """No sentence over 35 words."""
    found = []
    for cell in lesson.text:
        for sentence in sentences(cell.source):
            what = f"words in the sentence that begins {' '.join(sentence.split()[:6])!r}"
            found += at_most(cell.index, len(WORD.findall(sentence)), SENTENCE, what, "make two of it")
    return found


def claims(lesson: Lesson) -> list[Break]:
    """At most three judged claims and six in all, as they were settled."""
    path = SETTLED / f"{lesson.slug}.json"
    if not path.exists():
        return [Break(None, f"no settled figures in {path.name}, 1 such file is asked for; run `facelab settle {lesson.slug}`.")]
    settled = json.loads(path.read_text(encoding="utf-8"))["claims"]
    judged = sum(not claim["indicative"] for claim in settled)
    advice = "keep those that the title speaks of"
    return at_most(None, judged, JUDGED, "judged claims", advice) + at_most(None, len(settled), CLAIMS, "claims", advice)


RULES: dict[str, Callable[[Lesson], list[Break]]] = {
    rule.__name__: rule
    for rule in (
        *(cells, words, code_lines, cell_lines, columns, comprehensions, formatter, seconds, memory),
        *(result_picture, equation_first, imports, glossary, train_and_claims, switches, ending, caveats),
        *(exercises, sabotage_exercise, colons, negations, reasons, long_sentences, claims),
    )
}

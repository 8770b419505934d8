"""A report as files: a table for each part, and one page with everything, which lives without a kernel and without a network."""

import html
import os
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from facelab.report.part import SHOWN, Part, image_of
from facelab.yours import from_the_users_folder

PAGE = "report.html"


def save(parts: Sequence[Part], folder: str | Path, title: str) -> tuple[list[Path], list[str]]:
    """Writes the page and the tables, each file whole or not at all.

    Args:
        parts: of the report, in order.
        folder: where to write; as seen from the folder that the command was typed in.
        title: of the page.

    Returns:
        The files; and the names of those that were there before and are replaced.

    Raises:
        ValueError: the folder is a file, or two parts have one name.
    """
    target = from_the_users_folder(folder)
    if target.exists() and not target.is_dir():
        raise ValueError(f"{target} is a file; give a folder for the report.")
    names = [part.name for part in parts]
    if len(set(names)) < len(names):
        raise ValueError(f"The parts are called {names}; each needs a name of its own.")
    target.mkdir(parents=True, exist_ok=True)
    writers: dict[str, Callable[[Path], object]] = {
        f"{part.name}.parquet": lambda path, part=part: part.table.to_parquet(path, index=False) for part in parts if part.table is not None
    }
    writers[PAGE] = lambda path: path.write_text(page(parts, title), encoding="utf-8")
    replaced = [name for name in writers if (target / name).exists()]
    for name, write in writers.items():
        unfinished = target / f".{name}.{os.getpid()}.unfinished"
        try:
            write(unfinished)
            unfinished.replace(target / name)
        finally:
            unfinished.unlink(missing_ok=True)
    return [target / name for name in writers], replaced


def page(parts: Sequence[Part], title: str) -> str:
    """The page: sentences, pictures, plots that answer to the pointer, explorers with their views drawn beforehand, tables."""
    contents = "".join(f'<li><a href="#{part.name}">{html.escape(part.title)}</a></li>' for part in parts)
    sections, plots = [], 0
    for part in parts:
        shown = [f'<h2 id="{part.name}">{html.escape(part.title)}</h2>', f"<p>{html.escape(part.text)}</p>"]
        if part.picture is not None:
            shown.append(image_of(part.picture, part.title))
        if part.explorer is not None:
            shown.append(_frame(part))
        if part.figure is not None:
            # The library is inlined once, before the first plot.
            shown.append(part.figure.to_html(full_html=False, include_plotlyjs=plots == 0, div_id=f"plot-{part.name}"))
            plots += 1
        if part.table is not None:
            rows = part.table.head(20 * SHOWN).to_html(index=False, border=0, float_format="{:.4g}".format, na_rep="-")
            kept = f"all of it in {part.name}.parquet" if len(part.table) > 20 * SHOWN else f"also in {part.name}.parquet"
            opened = " open" if len(part.table) <= SHOWN else ""
            shown.append(f"<details{opened}><summary>Table, {len(part.table)} rows ({kept})</summary>{rows}</details>")
        sections.append("\n".join(shown))
    body = f"<h1>{html.escape(title)}</h1><ul>{contents}</ul>" + "\n".join(sections)
    return _PAGE.replace("TITLE", html.escape(title)).replace("BODY", body)


def _frame(part: Part) -> str:
    """The explorer's own page in a frame of this one."""
    assert part.explorer is not None
    with tempfile.TemporaryDirectory() as folder:
        text = part.explorer.save_page(Path(folder) / "page.html").read_text(encoding="utf-8")
    return f'<iframe title="{html.escape(part.explorer.name)}" srcdoc="{html.escape(text)}" onload="{_GROW}"></iframe>'


# A frame is as high as what it shows, which differs from view to view.
_GROW = "const f=this,b=f.contentDocument.body;new ResizeObserver(()=>{f.style.height=b.scrollHeight+60+'px'}).observe(b)"
_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>TITLE</title>
<style>
body { font: 14px/1.45 "DejaVu Sans", system-ui, sans-serif; margin: 1.5em auto; padding: 0 1em;
       max-width: 1180px; color: #222222; background: white }
table { border-collapse: collapse; margin: .8em 0 } td, th { padding: .2em .8em; text-align: left; border-bottom: 1px solid #dddddd }
iframe { width: 100%; height: 600px; border: 1px solid #dddddd } img { max-width: 100% }
details { overflow-x: auto } summary { cursor: pointer; margin: .6em 0 }
</style></head><body>
BODY
</body></html>
"""

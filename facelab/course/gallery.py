"""The result picture of each notebook, taken from an executed copy, small enough to be committed."""

import base64
import io
from pathlib import Path
from typing import TYPE_CHECKING

from facelab.course import running

if TYPE_CHECKING:
    from PIL.Image import Image

PICTURES = Path(__file__).resolve().parents[2] / "docs" / "pictures"
TAG = "result"
WIDEST = 1000  # pixels
LARGEST = 60_000  # bytes
QUALITIES = (90, 80, 70, 60, 50)
MARKS = ("<!-- gallery: written by `facelab pictures --readme` -->", "<!-- end of gallery -->")
COLUMNS = 3


def write_picture(notebook: running.Notebook, executed: Path = running.OUTPUT, folder: Path = PICTURES) -> Path:
    """Writes `SLUG.webp`, at most 1,000 pixels wide and 60 kB large, from the cell tagged `result`, and returns where it lies.

    Args:
        notebook: of the course.
        executed: folder of executed copies, as `facelab run` leaves them.
        folder: of the pictures.

    Raises:
        ValueError: no executed copy, or no cell tagged `result` in it that ended in a picture, or a picture that stays too large.
    """
    from PIL import Image

    picture = Image.open(io.BytesIO(_result(notebook, executed))).convert("RGB")
    if picture.width > WIDEST:
        picture = picture.resize((WIDEST, round(picture.height * WIDEST / picture.width)), Image.Resampling.LANCZOS)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{notebook.slug}.webp"
    path.write_bytes(_compressed(picture, notebook.slug))
    return path


def readme(notebooks: list[running.Notebook], root: Path = PICTURES.parents[1]) -> str:
    """README.md with all result pictures between its marks, each a link to its notebook.

    Raises:
        ValueError: README.md lacks the marks.
    """
    text = (root / "README.md").read_text(encoding="utf-8")
    if not all(mark in text for mark in MARKS):
        raise ValueError(f"README.md lacks the marks of the gallery; put {MARKS[0]!r} and {MARKS[1]!r} where the pictures belong.")
    cells = [_cell(notebook, root) for notebook in notebooks if (root / "docs" / "pictures" / f"{notebook.slug}.webp").exists()]
    rows = [cells[start : start + COLUMNS] for start in range(0, len(cells), COLUMNS)]
    lines = [[" "] * COLUMNS, ["---"] * COLUMNS, *(row + [""] * (COLUMNS - len(row)) for row in rows)]
    table = "\n".join("| " + " | ".join(line) + " |" for line in lines) if rows else ""
    before, after = text.split(MARKS[0])[0], text.split(MARKS[1])[1]
    return f"{before}{MARKS[0]}\n\n{table}\n\n{MARKS[1]}{after}"


def _cell(notebook: running.Notebook, root: Path) -> str:
    where, title = notebook.path.relative_to(root).as_posix(), notebook.title.replace("|", "\\|")
    return f"[![{title}](docs/pictures/{notebook.slug}.webp)]({where})<br>{title}"


def _result(notebook: running.Notebook, executed: Path) -> bytes:
    """The last picture, as PNG, that the cell tagged `result` shows in the copy executed with the notebook's own parameters."""
    import nbformat

    copy = executed / running.copy_name(notebook, {})
    if not copy.exists():
        raise ValueError(f"There is no executed copy {copy}; make it first: facelab run {notebook.slug} --output {executed}.")
    cells = [cell for cell in nbformat.read(copy, as_version=4).cells if TAG in cell.metadata.get("tags", [])]
    found = [output.data["image/png"] for cell in cells for output in cell.outputs if "image/png" in output.get("data", {})]
    if not found:
        raise ValueError(f"{copy} has no cell tagged {TAG!r} that shows a picture; tag the one that shows the result, and run it again.")
    return base64.b64decode(found[-1])


def _compressed(picture: "Image", slug: str) -> bytes:
    for quality in QUALITIES:
        stream = io.BytesIO()
        picture.save(stream, "WEBP", quality=quality, method=6)
        if stream.tell() <= LARGEST:
            return stream.getvalue()
    raise ValueError(
        f"The picture of {slug} has {stream.tell()} bytes, {LARGEST} are allowed; show fewer panels in the cell tagged {TAG!r}."
    )

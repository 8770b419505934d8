"""One part of a report: what was found as a table, as pictures and to play with, or the sentence that says why it was not found."""

import base64
import html
from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from typing import TYPE_CHECKING, Concatenate, ParamSpec, TypeVar

import pandas as pd

from facelab.explorers.explorer import Explorer
from facelab.pictures.style import Picture

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

P = ParamSpec("P")
G = TypeVar("G")
SHOWN = 8
"""Rows of a table that a part shows of itself; the file has them all."""


class Sentence(str):
    """Words that a notebook shows as they are, where there is nothing else to show."""

    def __repr__(self) -> str:
        return str(self)

    def _repr_html_(self) -> str:
        return f"<p>{html.escape(self)}</p>"


@dataclass(frozen=True)
class Part:
    """A part of a report.

    Attributes:
        name: of its files, such as "layers".
        title: for people.
        sentences: what was found, or why nothing was.
        table: a row per figure, None where there is none.
        picture: of the whole table, where the explorer shows a part of it at a time.
        figure: a plotly figure that answers to the pointer.
        explorer: to play with.
    """

    name: str
    title: str
    sentences: tuple[str, ...]
    table: pd.DataFrame | None = None
    picture: Picture | None = None
    figure: "Figure | None" = None
    explorer: Explorer | None = None

    @property
    def text(self) -> Sentence:
        """All sentences."""
        return Sentence(" ".join(self.sentences))

    @property
    def alive(self) -> Explorer | Sentence:
        """The explorer, or why there is none."""
        return self.explorer or self.text

    def static(self, **values) -> Picture | Sentence:
        """The explorer's view at some values of its controls as a plain picture, or why there is none."""
        if self.explorer is None:
            return self.picture or self.text
        known = {key: value for key, value in values.items() if key in self.explorer.controls}
        return self.explorer.static(**known)

    def __str__(self) -> str:
        return f"{self.title}. {self.text}"

    __repr__ = __str__

    def _repr_html_(self) -> str:
        shown = [f"<p><b>{html.escape(self.title)}.</b> {html.escape(self.text)}</p>"]
        picture = self.picture or self.static()
        if isinstance(picture, Picture):
            shown.append(image_of(picture, self.title))
        if self.table is not None:
            shown.append(self.table.head(SHOWN).to_html(index=False, border=0, float_format="{:.4g}".format, na_rep="-"))
            if len(self.table) > SHOWN:
                shown.append(f"<p>The first {SHOWN} of {len(self.table)} rows.</p>")
        return "\n".join(shown)


def image_of(picture: Picture, title: str) -> str:
    """A picture as html that needs no file."""
    return f'<img alt="{html.escape(title)}" src="data:image/png;base64,{base64.b64encode(picture.png(96)).decode()}">'


def cause(error: Exception) -> str:
    """What an error says, as one sentence: some of torch's fill a screen."""
    first = (str(error).splitlines() or [""])[0].strip().rstrip(".")
    known = isinstance(error, ValueError) and first  # ours are sentences already
    return f"{first}." if known else f"{type(error).__name__}: {first or 'no message'}."


def part(name: str, title: str) -> Callable[[Callable[Concatenate[G, P], Part]], Callable[Concatenate[G, P], Part]]:
    """Decorator: a function that makes a part; where the tools refuse the network or the network fails in them, the part says so."""

    def decorate(function: Callable[Concatenate[G, P], Part]) -> Callable[Concatenate[G, P], Part]:
        @wraps(function)
        def wrapper(given: G, *arguments: P.args, **options: P.kwargs) -> Part:
            try:
                return function(given, *arguments, **options)
            except Exception as error:  # a network of somebody else may do anything
                return Part(name, title, (f"This part does not apply here. {cause(error)}",))

        return wrapper

    return decorate

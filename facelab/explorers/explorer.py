"""What every explorer is made of: controls, a pure function from their values to a view, and a place to show it.

The same function draws the live picture, the static twin, the page that lives without a kernel, and what the tests look at.
"""

import base64
import html
import inspect
import os
import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import contextmanager
from io import BytesIO
from itertools import product
from pathlib import Path
from time import perf_counter
from typing import Any

import ipywidgets
import matplotlib as mpl
import numpy as np
from PIL import Image

from facelab import pages
from facelab.explorers.canvas import Canvas, quick_png
from facelab.explorers.parts import control
from facelab.pictures.style import STYLE, Picture
from facelab.pictures.view import View

TALLEST = 610
"""Pixels that an explorer may take with controls and caption: what JupyterLab leaves of a screen of 1366 x 768."""


def stops(control: ipywidgets.Widget, count: int = 3) -> list:
    """Values that visit a control from end to end: `count` of a slider's, all options of a choice, both states of a box."""
    if hasattr(control, "options"):
        values = [value for _, value in control._options_full]
        if isinstance(control, ipywidgets.SelectionSlider) and len(values) > count:
            values = [values[round(place)] for place in np.linspace(0, len(values) - 1, count)]
        return values
    if isinstance(control.value, bool):
        return [False, True]
    if not hasattr(control, "min"):  # an upload, a text: only what it holds
        return [control.value]
    spread = np.linspace(control.min, control.max, count)
    whole = isinstance(control, ipywidgets.IntSlider)
    values = [control.min + round((v - control.min) / control.step) * control.step for v in spread]
    return list(dict.fromkeys(int(v) if whole else round(float(v), 6) for v in values))


class Explorer:
    """Controls beside a picture; every change of a control redraws the picture.

    A redraw happens in the kernel, at once. The browser holds back further changes while one is on its way and then sends only the
    newest (Jupyter widgets do this by themselves), so the picture cannot fall behind the slider by more than one redraw.
    """

    def __init__(
        self,
        draw: Callable[..., View],
        controls: Mapping[str, Any],
        *,
        groups: Mapping[str, Sequence[str]] | None = None,
        page: Mapping[str, int | Sequence] | None = None,
        name: str = "Explorer",
    ) -> None:
        """Put controls and picture together.

        Args:
            draw: pure function of all control values, by name; it may read nothing else that can change.
            controls: name -> a widget, or an abbreviation that `control` takes, such as (0, 10); it begins at the default that the
                parameter of `draw` has, and is described by its name.
            groups: title -> names of controls, for many controls: an accordion on the left. By default all stand above the picture.
            page: what `save_page` draws: control -> values, or how many `stops`; by default five of each of the first two.
            name: what the text twin of the widget calls it.
        """
        known = inspect.signature(draw).parameters
        starts = {key: known[key].default for key in controls if key in known and known[key].default is not inspect.Parameter.empty}
        self.controls = {key: control(made, starts.get(key), key.replace("_", " ")) for key, made in controls.items()}
        self.draw, self.name = draw, name
        self.page: dict[str, int | Sequence] = dict(page) if page is not None else dict.fromkeys(list(self.controls)[:2], 5)
        self.error: Exception | None = None
        self.redraws, self.seconds = 0, 0.0
        self._held = False
        self.canvas = Canvas()
        self.caption = ipywidgets.HTML()
        self.problem = ipywidgets.HTML()
        for made in self.controls.values():
            made.style.description_width = "8.2em"
            made.layout.width = "20em"
            made.observe(lambda change: self._changed(), names="value")
        self.canvas.observe(lambda change: self._pointed(change["new"]), names="pointer")
        shown = ipywidgets.VBox([self.canvas, self.caption, self.problem], layout=ipywidgets.Layout(flex="1 1 auto", min_width="0"))
        if groups:
            boxes = [ipywidgets.VBox([self.controls[key] for key in names]) for names in groups.values()]
            look = ipywidgets.Layout(flex="0 0 23em", max_height=f"{TALLEST}px", overflow="hidden auto")
            panel = ipywidgets.Accordion(boxes, titles=tuple(groups), selected_index=0, layout=look)
            self.widget: ipywidgets.Box = ipywidgets.HBox([panel, shown])
        else:
            panel = ipywidgets.Box(list(self.controls.values()), layout=ipywidgets.Layout(flex_flow="row wrap"))
            self.widget = ipywidgets.VBox([panel, shown])
        self.redraw()

    @property
    def values(self) -> dict[str, Any]:
        """The value of every control."""
        return {key: control.value for key, control in self.controls.items()}

    def view(self, **changes) -> View:
        """The view at the present values of the controls, but for `changes`; moves nothing.

        Raises:
            ValueError: a change names no control.
        """
        unknown = sorted(set(changes) - set(self.controls))
        if unknown:
            raise ValueError(f"There is no control {unknown[0]!r}; the controls are {sorted(self.controls)}.")
        with mpl.rc_context(STYLE):
            return self.draw(**(self.values | changes))

    def static(self, **changes) -> Picture:
        """The same view as a plain picture: what to look at where widgets are not alive."""
        return self.view(**changes).picture

    def set(self, **values) -> None:
        """Move several controls, then redraw once.

        Raises:
            ValueError: a value names no control.
        """
        unknown = sorted(set(values) - set(self.controls))
        if unknown:
            raise ValueError(f"There is no control {unknown[0]!r}; the controls are {sorted(self.controls)}.")
        with self._hold():
            for key, value in values.items():
                self.controls[key].value = value
        self._changed()

    def settle(self) -> None:
        """Called before each redraw: a subclass brings controls that depend on others into line here."""

    def click(self, axes: int, x: float, y: float) -> None:
        """Called when somebody clicks on the picture: on which axes, and where in their data."""

    def drag(self, axes: int, start: tuple[float, float], end: tuple[float, float]) -> None:
        """Called while somebody drags over the picture, within one axes: from where to where in their data."""

    def redraw(self) -> None:
        """Draw the view of the present values; an error is shown under the last good picture, and kept in `error`.

        `redraws` counts, and `seconds` is how long the last one took in the kernel.
        """
        began = perf_counter()
        try:
            shown = self.view()
            png = quick_png(shown.picture.rgb())
        except Exception as error:
            self.error = error
            where = "".join(traceback.format_exception(error)[-3:])
            self.problem.value = (
                f'<div role="alert" class="facelab-error" style="color:#a40000;max-width:60em"><b>{type(error).__name__}</b>: '
                f"{html.escape(str(error))}<details><summary>where, and with which values</summary>"
                f"<pre>{html.escape(repr(self.values))}\n{html.escape(where)}</pre></details></div>"
            )
            return
        self.error, self.shown = None, shown
        self.redraws += 1
        with self.canvas.hold_sync():
            self.canvas.width = round(shown.picture.get_size_inches()[0] * 96)
            self.canvas.text = shown.text
            self.canvas.hints = shown.hints()
            self.canvas.png = png
        self.seconds = perf_counter() - began
        self.caption.value = f'<span class="facelab-caption" style="display:block;line-height:1.35">{html.escape(shown.text)}</span>'
        if self.problem.value:
            self.problem.value = ""

    def save_page(self, path: str | Path, grid: Mapping[str, Sequence] | None = None, *, together: bool = True) -> Path:
        """Writes one html page that needs no kernel and no network: the views of a grid of values, drawn beforehand.

        Args:
            path: where to write it.
            grid: control -> the values its slider on the page will have; the explorer's own choice by default.
            together: draw every combination; else move one control at a time, the others at their present values.

        Raises:
            ValueError: more than 1000 pictures, or a name that is no control.
        """
        page = self.drawn_page(grid, together=together)
        target = Path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(pages.whole(page), encoding="utf-8")
        return target

    def drawn_page(self, grid: Mapping[str, Sequence] | None = None, *, together: bool = True) -> dict[str, Any]:
        """The data of the page that `save_page` writes, as `facelab.pages.whole` takes them; same arguments and errors."""
        if grid is None:
            grid = {key: stops(self.controls[key], values) if isinstance(values, int) else values for key, values in self.page.items()}
        grid = {key: list(values) for key, values in grid.items()}
        unknown = sorted(set(grid) - set(self.controls))
        if unknown:
            raise ValueError(f"There is no control {unknown[0]!r}; the controls are {sorted(self.controls)}.")
        start = {key: _nearest(values, self.values[key]) for key, values in grid.items()}
        places = _combinations(grid, start, together)
        if len(places) > 1000:
            raise ValueError(f"This grid asks for {len(places)} pictures; give at most 1000, or together=False.")
        frames = {}
        for place in places:
            shown = self.view(**{key: grid[key][index] for key, index in zip(grid, place, strict=True)})
            buffer = BytesIO()
            Image.fromarray(shown.picture.rgb()).save(buffer, "webp", quality=80, method=2)
            frames[",".join(map(str, place))] = [base64.b64encode(buffer.getvalue()).decode(), shown.text]
        sliders = [
            {"label": self.controls[key].description, "stops": [_say(self.controls[key], value) for value in values], "start": start[key]}
            for key, values in grid.items()
        ]
        return {"name": self.name, "sliders": sliders, "frames": frames, "together": together}

    def _repr_mimebundle_(self, **options):
        bundle = self.widget._repr_mimebundle_(**options)
        text = f"{self.name}: {self.shown.text if self.error is None else self.error} (run this cell to bring the controls to life)"
        more = {"text/plain": text} | ({pages.PAGE_TYPE: self.drawn_page()} if os.environ.get(pages.WANTED) else {})
        if isinstance(bundle, tuple):
            return bundle[0] | more, bundle[1]
        return (bundle or {}) | more

    @contextmanager
    def _hold(self):
        held, self._held = self._held, True
        try:
            yield
        finally:
            self._held = held

    def _changed(self) -> None:
        if self._held:
            return
        with self._hold():
            self.settle()
        self.redraw()

    def _pointed(self, pointer: dict) -> None:
        if not pointer or self.error is not None:
            return
        start, end = (self.shown.at(*pointer[key]) for key in ("from", "to"))
        if start is None or end is None or start[0] != end[0]:
            return
        if pointer["kind"] == "click":
            self.click(*end)
        else:
            self.drag(start[0], start[1:], end[1:])


def _nearest(values: Sequence, value: Any) -> int:
    if value in values:
        return list(values).index(value)
    if isinstance(value, (int, float)):
        return int(np.argmin([abs(v - value) for v in values]))
    return 0


def _combinations(grid: Mapping[str, Sequence], start: Mapping[str, int], together: bool) -> list[tuple[int, ...]]:
    if together:
        return list(product(*(range(len(values)) for values in grid.values())))
    alone: Iterable[tuple[int, ...]] = (
        tuple(index if other == key else start[other] for other in grid) for key in grid for index in range(len(grid[key]))
    )
    return list(dict.fromkeys(alone))


def _say(control: ipywidgets.Widget, value: Any) -> str:
    """A control's value as its reader sees it."""
    if hasattr(control, "options"):
        return next((label for label, v in control._options_full if v == value), str(value))
    return f"{value:g}" if isinstance(value, float) else str(value)

"""Curves over one parameter, read at a point that moves."""

from collections.abc import Callable, Mapping
from typing import Any

import ipywidgets
import numpy as np

from facelab.explorers.explorer import Explorer, View
from facelab.pictures.curves import plot_point
from facelab.pictures.style import as_array


class CurveExplorer(Explorer):
    """Move a point along curves by its slider, a click or a drag, and read every curve there; nothing is interpolated.

    Example:
        bits = np.arange(2, 9)
        CurveExplorer(bits, {"uniform": accuracy, "by layer": other}, label="bits per weight", value_label="accuracy, %")
    """

    def __init__(
        self,
        x: Any,
        curves: Mapping[str, Any] | Callable[..., Mapping[str, Any]],
        *,
        label: str,
        value_label: str,
        controls: Mapping[str, Any] | None = None,
        logarithmic: bool = False,
        name: str = "Curve explorer",
    ) -> None:
        """Show curves over `x`.

        Args:
            x: (N,) values of the parameter, increasing.
            curves: name -> (N,) values; or a pure function of further controls, by name, that gives such a dictionary.
            label, value_label: of the two axes, with their units.
            controls: those that the function takes, as `Explorer` takes them.
            logarithmic: a logarithmic horizontal axis.
            name: what the text twin of the explorer calls it.

        Raises:
            ValueError: `x` does not increase, or a curve does not have one value for each of it.
        """
        self._x = as_array(x).astype(float)
        if self._x.ndim != 1 or len(self._x) < 2 or not (np.diff(self._x) > 0).all():
            raise ValueError(f"The values of {label!r} must be at least two and increase; these have the shape {self._x.shape}.")

        def draw(point: float, **values: Any) -> View:
            found = {key: as_array(curve).astype(float) for key, curve in (curves(**values) if callable(curves) else curves).items()}
            for key, curve in found.items():
                if curve.shape != self._x.shape:
                    raise ValueError(f"The curve {key!r} has the shape {curve.shape}; give one value for each of the {len(self._x)} of x.")
            index = int(np.abs(self._x - point).argmin())
            picture = plot_point(self._x, found, index, label=label, value_label=value_label, logarithmic=logarithmic)
            said = ", ".join(f"{key} {curve[index]:.3g}" for key, curve in found.items())
            return View(picture, f"{label} {self._x[index]:.4g}: {value_label} {said}.")

        places = [(f"{value:.4g}", float(value)) for value in self._x]
        slider = ipywidgets.SelectionSlider(options=places, value=places[len(places) // 2][1], description="point", tooltip=label)
        super().__init__(draw, {"point": slider, **(controls or {})}, name=name)
        if self.error is not None:
            raise self.error

    def click(self, axes: int, x: float, y: float) -> None:
        """Put the point where the pointer is."""
        self.set(point=float(self._x[np.abs(self._x - x).argmin()]))

    def drag(self, axes: int, start: tuple[float, float], end: tuple[float, float]) -> None:
        """Pull the point along."""
        self.click(axes, *end)

"""The world explorer: every factor of a rendered face on a slider, the face and one channel of its truth redrawn at once."""

from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any

import ipywidgets
import numpy as np

from facelab.batch import FaceBatch
from facelab.explorers.explorer import Explorer
from facelab.explorers.parts import control
from facelab.markups import MARKUPS
from facelab.pictures.faces import draw_face, draw_landmarks
from facelab.pictures.style import Picture, bare, styled
from facelab.pictures.view import View
from facelab.pictures.worlds import CHANNELS, draw_channel
from facelab.worlds import faces
from facelab.worlds.faces import Factor


def slider(factor: Factor) -> ipywidgets.Widget:
    """The control of a factor: a choice, or a slider over all its allowed values."""
    unit = {"degrees": "°", "standard deviations": "sd"}.get(factor.unit, "")
    label = factor.name.replace("_", " ") + (f" ({unit})" if unit else "")
    if factor.choices:
        return control([(name, index) for index, name in enumerate(factor.choices)], 0, label, factor.what)
    made = control((factor.low, factor.high, _step(factor)), factor.default, label, factor.what)
    made.readout_format = ".3g"
    return made


def _step(factor: Factor) -> float:
    """A round step of about a hundredth of the factor's range."""
    rough = (factor.high - factor.low) / 100
    power = 10.0 ** np.floor(np.log10(rough))
    return float(power * min((1, 2, 5, 10), key=lambda m: abs(np.log(m * power / rough))))


def start_values(seed: int, face: int, names: Iterable[str], **given: Any) -> dict[str, int | float]:
    """The named factors of a face as the world samples them (`given` ones fixed), rounded to the steps of their sliders."""
    sampled = faces.sample(1, seed, face, **given)
    values: dict[str, int | float] = {}
    for name in names:
        factor, value = faces.FACTORS[name], float(sampled[name][0])
        if factor.choices:
            values[name] = int(value)
        else:
            step = _step(factor)
            values[name] = round(min(max(factor.low + round((value - factor.low) / step) * step, factor.low), factor.high), 6)
    return values


@lru_cache(maxsize=16)
def as_sampled(seed: int, face: int, size: int, names: tuple[str, ...]) -> FaceBatch:
    """The face with the named factors at their `start_values`."""
    return faces.render(1, seed, size, start=face, channels=(), **start_values(seed, face, names))


@styled
def world_view(seed: int, face: int, identity: int, size: int, markup: int, channel: str, **factors: Any) -> View:
    """A face with its landmarks, and one channel of its truth.

    Args:
        seed, face: which item of the world gives everything that no factor sets.
        identity: which person.
        size: of the rendered image, pixels.
        markup: how many landmarks to draw; 0 draws none.
        channel: a key of `CHANNELS`.
        factors: values for `facelab.worlds.faces.render`.
    """
    options = {"seed": seed, "size": size, "start": face, "markup": markup or 68}
    needed = CHANNELS[channel] + (("occluder", "depth") if channel == "landmarks" else ())
    shown = faces.render(1, channels=needed, identity=identity, **options, **factors)
    before = as_sampled(seed, face, size, tuple(factors)) if channel == "what changed" else None
    picture = Picture(figsize=(8.2, 3.6))  # fixed places: laying out anew would take half of the time
    left, right = picture.add_axes((0.005, 0.01, 0.43, 0.91)), picture.add_axes((0.445, 0.01, 0.43, 0.91))
    draw_face(left, shown.images[0])
    if markup:
        draw_landmarks(left, shown.known("landmarks")[0], size=2.5)
    bare(left, f"face {face}" + (f", {markup} landmarks" if markup else ""), y=1)
    said = draw_channel(right, shown, channel, faces.PARTS, before)
    pose = f"yaw {shown.yaw[0]:.0f}°, pitch {shown.pitch[0]:.0f}°, roll {shown.roll[0]:.0f}°"  # type: ignore[index]
    return View(picture, f"{pose}; {said}.")


ORDER = (
    "pose",
    "gaze",
    "expression",
    "action units",
    "shape",
    "appearance",
    "light",
    "occluder",
    "sensor",
    "camera",
    "framing",
    "background",
)
DRIVES = {
    "expression": ("action units",),
    "intensity": ("action units",),
    "talking": ("action units",),
    "identity": ("shape", "appearance"),
}
"""A control -> the groups of factors it decides."""


class WorldExplorer(Explorer):
    """A face under your hands: move any factor of the world and see the image and its truth follow.

    Some controls move others: another face brings all its factors, another identity its shape and appearance, another expression
    its action units; each can then be moved by itself.
    """

    def __init__(
        self, *, seed: int = 0, face: int = 0, size: int = 96, channel: str = "parts", factors: Iterable[str] | None = None
    ) -> None:
        """Begin with item `face` of `seed` as the world samples it.

        Args:
            size: of the rendered image, pixels; up to 128 it redraws in under 100 ms.
            channel: the truth shown first, a key of `CHANNELS`.
            factors: names of the factors that get a control; all by default.
        """
        self.seed, self.factors = seed, tuple(faces.FACTORS if factors is None else factors)
        controls: dict[str, ipywidgets.Widget] = {
            "face": control((0, 99), face, "face"),
            "identity": control((0, 99), face, "identity", "the person"),
            "channel": control(list(CHANNELS), channel, "truth shown"),
            "markup": control([("none", 0), *((str(k), k) for k in sorted(MARKUPS))], 68, "landmarks"),
            "size": control(sorted({64, 96, 128, 256, size}), size, "pixels"),
        }
        groups: dict[str, list[str]] = {"what to show": list(controls)} | {group: [] for group in ORDER}
        start = start_values(seed, face, self.factors)
        for name in self.factors:
            controls[name] = slider(faces.FACTORS[name])
            controls[name].value = start[name]
            groups.setdefault(faces.FACTORS[name].group, []).append(name)
        self._settled = {name: control.value for name, control in controls.items()}
        page = {name: values for name, values in {"yaw": [-60, -30, 0, 30, 60], "au_12": [0, 0.5, 1]}.items() if name in controls}
        super().__init__(
            lambda **values: world_view(seed, **values),
            controls,
            groups={title: names for title, names in groups.items() if names},
            page=page or None,
            name="A face and its truth",
        )

    def following(self, values: Mapping[str, Any], changed: Iterable[str]) -> dict[str, Any]:
        """What the controls that depend on the `changed` ones become, at these values; no changed one is among them."""
        changed = set(changed)
        if "face" in changed:
            person = values["identity"] if "identity" in changed else values["face"]
            groups = set(ORDER)
        else:
            person = values["identity"]
            groups = {group for name in changed & set(DRIVES) for group in DRIVES[name]}
        names = [name for name in self.factors if faces.FACTORS[name].group in groups and name not in changed]
        if not names:
            return {}
        kept = DRIVES if "face" not in changed else changed & set(DRIVES)
        given = {name: values[name] for name in kept if name in values and name != "identity"}
        following: dict[str, Any] = start_values(self.seed, values["face"], names, **given, identity=person)
        return following | ({"identity": person} if "identity" not in changed and "face" in changed else {})

    def view(self, **changes) -> View:
        """As `Explorer.view`; the controls that depend on the changed ones follow."""
        if not set(changes) <= set(self.controls):
            return super().view(**changes)  # which says what is wrong
        return super().view(**(self.following(self.values | changes, changes) | changes))

    def settle(self) -> None:
        """Brings the controls that depend on the moved ones into line."""
        values = self.values
        for name, value in self.following(values, [name for name in values if values[name] != self._settled[name]]).items():
            self.controls[name].value = value
        self._settled = self.values

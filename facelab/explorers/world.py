"""The world explorer: every factor of a rendered face on a slider, the face and one channel of its truth redrawn at once."""

from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any

import ipywidgets
import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import Normalize

from facelab.batch import FaceBatch
from facelab.explorers.explorer import Explorer, View
from facelab.markups import MARKUPS
from facelab.pictures.faces import PART_COLORS, draw_face, draw_landmarks
from facelab.pictures.style import AMOUNT, BLUE, RED, Picture, bare, opaque, styled
from facelab.worlds import faces
from facelab.worlds.faces import Factor

CHANNELS = {
    "what changed": (),
    "landmarks": (),
    "parts": ("parts",),
    "occluder": ("occluder",),
    "depth": ("depth",),
    "normals": ("normals",),
    "surface (u, v)": ("uv",),
}
"""What the right-hand picture may show, and the channels of the renderer it needs."""


def slider(factor: Factor) -> ipywidgets.Widget:
    """The control of a factor: a choice, or a slider over all its allowed values."""
    unit = {"degrees": "°", "standard deviations": "sd"}.get(factor.unit, "")
    label = factor.name.replace("_", " ") + (f" ({unit})" if unit else "")
    if factor.choices:
        options = [(name, index) for index, name in enumerate(factor.choices)]
        return ipywidgets.Dropdown(options=options, description=label, tooltip=factor.what)
    return ipywidgets.FloatSlider(
        value=factor.default,
        min=factor.low,
        max=factor.high,
        step=_step(factor),
        description=label,
        readout_format=".3g",
        tooltip=factor.what,
    )


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


def draw_channel(axes: Axes, face: FaceBatch, channel: str, before: FaceBatch | None = None) -> str:
    """One channel of the truth of a batch of one; returns what to say about it.

    Args:
        channel: a key of `CHANNELS`.
        before: the face to compare with, for "what changed".
    """
    image = face.images[0]
    if channel in ("landmarks", "occluder", "depth"):  # those that it can be seen through
        draw_face(axes, (image * 0.4 + 140).astype(np.uint8))
    bare(axes, channel, y=1)
    if channel == "what changed" and before is not None:
        difference = np.abs(image.astype(float) - before.images[0]).mean(-1) / 255
        axes.imshow(colormaps[AMOUNT](difference / 0.5, bytes=True))
        return f"{np.mean(difference > 0):.0%} of the pixels differ from this face as sampled"
    if channel == "landmarks":
        points = face.known("landmarks")[0]
        seen = face.visible[0] if face.visible is not None else np.ones(len(points), dtype=bool)
        draw_landmarks(axes, points, "#555555", size=0)
        axes.plot(*points[seen].T, "o", markersize=3.5, color=BLUE, markeredgewidth=0)
        axes.plot(*points[~seen].T, "o", markersize=4, markerfacecolor="none", markeredgecolor=RED)
        return f"{int(seen.sum())} of {len(seen)} landmarks visible (open circles: hidden)"
    if channel == "parts" and face.parts is not None:
        axes.imshow(opaque(PART_COLORS[face.parts[0] % len(PART_COLORS)]))
        present = np.setdiff1d(face.parts[0], 0)
        beside = {"transform": axes.transAxes, "clip_on": False}  # plain texts draw in half the time of a legend
        heights = 0.96 - 0.053 * np.arange(len(present))
        axes.scatter(
            np.full(len(present), 1.045), heights, s=36, c=PART_COLORS[present % len(PART_COLORS)] / 255, marker="s", linewidths=0, **beside
        )
        for height, part in zip(heights, present, strict=True):
            axes.text(1.075, height - 0.013, faces.PARTS[part].replace("_", " "), fontsize=8, **beside)
        return f"{len(present)} parts in sight"
    if channel == "occluder" and face.occluder is not None:
        axes.imshow(face.occluder[0][..., None] * np.array([255, 128, 0, 204], dtype=np.uint8))
        return f"{face.occluder[0].mean():.0%} of the image is occluded"
    if channel == "depth" and face.depth is not None:
        depth = np.ma.masked_invalid(face.depth[0])
        axes.imshow(colormaps[AMOUNT + "_r"](Normalize()(depth), bytes=True))  # a colour bar would be slow; the caption says it
        return f"depth from {depth.min():.1f} (yellow) to {depth.max():.1f} (dark blue) half head widths"
    if channel == "normals" and face.normals is not None:
        there = np.abs(face.normals[0]).sum(-1, keepdims=True) > 0
        axes.imshow(opaque((np.where(there, face.normals[0] * 0.5 + 0.5, 1.0).clip(0, 1) * 255).astype(np.uint8)))
        return "surface normals: x, y, z as red, green, blue"
    if channel == "surface (u, v)" and face.uv is not None:
        uv = face.uv[0]
        checks = (np.floor(np.nan_to_num(uv) * 16).sum(-1) % 2)[..., None] * 0.25
        color = np.concatenate([np.nan_to_num(uv), np.full_like(uv[..., :1], 0.5)], axis=-1) * 0.75 + checks
        axes.imshow(opaque((np.where(np.isnan(uv[..., :1]), 1.0, color).clip(0, 1) * 255).astype(np.uint8)))
        return "surface coordinates: the same colour is the same point of every head"
    raise ValueError(f"There is no channel {channel!r}; choose one of {', '.join(CHANNELS)}.")


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
    said = draw_channel(right, shown, channel, before)
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
            "face": ipywidgets.IntSlider(min=0, max=99, value=face, description="face"),
            "identity": ipywidgets.IntSlider(min=0, max=99, value=face, description="identity", tooltip="the person"),
            "channel": ipywidgets.Dropdown(options=list(CHANNELS), value=channel, description="truth shown"),
            "markup": ipywidgets.Dropdown(
                options=[("none", 0), *((str(k), k) for k in sorted(MARKUPS))], value=68, description="landmarks"
            ),
            "size": ipywidgets.Dropdown(options=sorted({64, 96, 128, 256, size}), value=size, description="pixels"),
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

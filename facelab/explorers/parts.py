"""What explorers share: controls from abbreviations, images as a network takes them, and one name for each of them."""

from collections.abc import Sequence
from typing import Any

import ipywidgets
import numpy as np
from jaxtyping import Float, UInt8

from facelab.batch import FaceBatch
from facelab.pictures.style import as_array, as_rgb


def control(abbreviation: Any, value: Any = None, description: str = "", tooltip: str | None = None) -> ipywidgets.Widget:
    """A control from an abbreviation, as `ipywidgets.interact` makes it; greyed where there is nothing to choose.

    Args:
        abbreviation: (low, high) or (low, high, step) for a slider; a list of options, of (label, option) pairs, or a dictionary
            label -> option, for a choice; True or False for a box to tick. A widget is taken as it is.
        value: where the control begins; None for the middle of a slider, the first option of a choice. A slider keeps it
            within its ends.
        description: what stands before the control.
        tooltip: what the pointer says over it.

    Raises:
        ValueError: the abbreviation is none of these, or the value is none that it allows.

    Example:
        control((0, 10), 3, "width, pixels")
    """
    if isinstance(abbreviation, ipywidgets.Widget):
        return abbreviation
    try:
        made = ipywidgets.interactive.widget_from_abbrev(abbreviation)
        if value is not None:
            made.value = value
    except Exception:  # traitlets raises its own
        made = None
    if made is None:
        raise ValueError(
            f"{abbreviation!r} makes no control that begins at {value!r}; give (low, high), a list of options, True or False, or a widget."
        )
    alone = len(made._options_full) < 2 if hasattr(made, "options") else getattr(made, "min", 0) == getattr(made, "max", 1)
    made.description, made.tooltip, made.disabled = description, tooltip, alone
    return made


def pixels_of(images: Any, channels: Sequence[int] = (1,), what: str = "") -> Float[np.ndarray, "B C H W"]:
    """Images as a network takes them: those of a `FaceBatch` in gray, or (B,C,H,W) in [0,1] with one of these numbers of channels.

    Args:
        images: the images.
        channels: how many channels they may have.
        what: what they are called if they are refused, such as "of the sweep".

    Raises:
        ValueError: they have another shape, or there is none.
    """
    pixels = np.ascontiguousarray(as_array(images.gray() if isinstance(images, FaceBatch) else images), dtype=np.float32)
    if pixels.ndim != 4 or pixels.shape[1] not in channels or not len(pixels):
        kind = "gray (B,1,H,W)" if tuple(channels) == (1,) else f"(B,C,H,W) with C {' or '.join(map(str, channels))}"
        raise ValueError(
            f"Images {what + ' ' if what else ''}must be a FaceBatch or {kind} in [0,1], at least one; these have shape {pixels.shape}."
        )
    return pixels


def displayable(images: Any, other: Any = None) -> UInt8[np.ndarray, "B H W 3"]:
    """Images for the eye; those that do not lie in [0,1] are stretched, all alike, and unusual channels averaged.

    Args:
        images: a `FaceBatch`, (B,H,W,3) of uint8, or numbers (B,C,H,W), which set the range.
        other: numbers (B,C,H,W) to be shown in that range in place of them.
    """
    array = images.images if isinstance(images, FaceBatch) else as_array(images)
    if array.dtype == np.uint8:
        return as_rgb(array)
    low, high = float(array.min()), float(array.max())
    low, high = (0.0, 1.0) if low >= 0 and high <= 1 else (low, high)
    shown = array if other is None else as_array(other)
    shown = shown if shown.shape[1] in (1, 3) else shown.mean(axis=1, keepdims=True)
    return as_rgb(((shown - low) / max(high - low, 1e-12)).transpose(0, 2, 3, 1))


def names_of(names: Sequence[Any], count: int, kind: str = "image") -> list[str]:
    """One name for each image: those given, or "image 0", "image 1", ...

    Raises:
        ValueError: there are names, but not one for each.
    """
    if len(names) not in (0, count):
        raise ValueError(f"There are {len(names)} names for {count} images; give one per image, or none.")
    return [str(name) for name in names] or [f"{kind} {index}" for index in range(count)]

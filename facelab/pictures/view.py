"""What an explorer shows for one setting of its controls: a picture, the same in words, and what the pointer finds."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from facelab.pictures.style import Picture


@dataclass(frozen=True)
class Spot:
    """A rectangle in the data of one of the picture's axes, and what to say while the pointer is over it."""

    axes: int
    left: float
    bottom: float
    right: float
    top: float
    text: str
    image: int | None = None
    """Which of the explorer's thumbnails is shown with the text. Of several spots with an image the nearest one is meant."""


@dataclass(frozen=True)
class View:
    """What an explorer shows for one setting of its controls."""

    picture: Picture
    text: str
    """The same in words: the caption, and what a screen reader says."""
    spots: Sequence[Spot] = ()
    """What the pointer finds; nothing that the caption or the controls cannot say as well."""

    def hints(self) -> list[tuple]:
        """The spots as fractions of the drawn picture, (left, top, right, bottom, text[, image]), cut at their axes."""
        width, height = self.picture.canvas.get_width_height()
        found = []
        for spot in self.spots:
            axes = self.picture.axes[spot.axes]
            corners = axes.transData.transform([(spot.left, spot.bottom), (spot.right, spot.top)])
            (left, low), (right, high) = np.clip(np.sort(corners, axis=0), axes.bbox.min, axes.bbox.max)
            left, top, right, bottom = (round(float(v), 4) for v in (left / width, 1 - high / height, right / width, 1 - low / height))
            found.append((left, top, right, bottom, spot.text) + (() if spot.image is None else (spot.image,)))
        return found

    def at(self, across: float, down: float) -> tuple[int, float, float] | None:
        """Which axes, and where in their data, lies at a fraction of the drawn picture from its left and from its top."""
        width, height = self.picture.canvas.get_width_height()
        for index, axes in enumerate(self.picture.axes):
            if axes.bbox.contains(across * width, (1 - down) * height):
                x, y = axes.transData.inverted().transform((across * width, (1 - down) * height))
                return index, float(x), float(y)
        return None

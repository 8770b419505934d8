"""Somebody's own photograph: find the face, find its landmarks, see where the network looked."""

from collections.abc import Callable, Sequence
from functools import lru_cache
from io import BytesIO
from typing import Any

import ipywidgets
import numpy as np
import torch
from jaxtyping import UInt8
from PIL import Image, ImageOps

from facelab import datasets
from facelab.datasets.annotations import to_rgb
from facelab.explorers.attention import first_face
from facelab.explorers.explorer import Explorer, View
from facelab.explorers.parts import control
from facelab.pictures.photos import photo_view

LONGEST = 640
"""Photographs are shrunk to this longer side, pixels: the picture shows no more."""


def read_photo(content: bytes) -> UInt8[np.ndarray, "H W 3"]:
    """A photograph file as RGB, upright as its camera held it, at most `LONGEST` pixels long.

    Raises:
        ValueError: this is no picture that can be read.
    """
    try:
        image = to_rgb(ImageOps.exif_transpose(Image.open(BytesIO(content))))
    except Image.DecompressionBombError as error:
        raise ValueError("This picture has too many pixels to be read here; shrink it and try again.") from error
    except Exception as error:  # Pillow raises nearly anything for broken files
        raise ValueError("This file is no picture that can be read here; save it as JPEG, PNG or WebP and try again.") from error
    image.thumbnail((LONGEST, LONGEST))
    return np.asarray(image)


class PhotoExplorer(Explorer):
    """Upload a photograph and see the landmarks; begins with the astronaut's portrait. Nothing leaves this machine."""

    def __init__(self, predict: Callable[[torch.Tensor], Sequence[Any]], *, size: int = 64) -> None:
        """Look at photographs with `predict`.

        Args:
            predict: gray images (B,1,size,size) -> one object per stage, as for `AttentionExplorer`.
            size: of the crops that the network knows, pixels.
        """

        @lru_cache(maxsize=4)
        def look(content: bytes) -> tuple:
            photo = read_photo(content) if content else datasets.astronaut()
            image, crop = datasets.crop_largest_face(photo, size)
            gray = (image @ np.array([0.299, 0.587, 0.114], dtype=np.float32) / 255).astype(np.float32)
            with torch.inference_mode():
                return photo, crop, image, first_face(predict(torch.from_numpy(gray)[None, None]))

        def draw(photo: tuple, stage: int, markup: int) -> View:
            return photo_view(*look(bytes(photo[-1]["content"]) if photo else b""), stage - 1, markup)  # type: ignore[call-arg]

        first = look(b"")[3]
        sizes = sorted(first[0].maps, reverse=True)
        controls = {
            "photo": ipywidgets.FileUpload(accept="image/*", multiple=False, description="your own photograph"),
            "stage": control((1, len(first)), len(first), "stage"),
            "markup": control([(f"{k} landmarks", k) for k in sizes], 68 if 68 in sizes else sizes[0], "mark-up"),
        }
        super().__init__(draw, controls, page={"stage": len(first), "markup": len(sizes)}, name="Landmarks in a photograph")

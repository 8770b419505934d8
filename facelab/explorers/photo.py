"""Somebody's own photograph: find the face, find its landmarks, see where the network looked."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import lru_cache
from io import BytesIO
from typing import Any

import ipywidgets
import matplotlib.patches
import numpy as np
import torch
from jaxtyping import UInt8
from PIL import Image, ImageOps

from facelab import datasets
from facelab.datasets import Crop
from facelab.datasets.annotations import to_rgb
from facelab.explorers.attention import Stage
from facelab.explorers.explorer import Explorer, View
from facelab.pictures.faces import draw_face, draw_landmarks
from facelab.pictures.maps import draw_map
from facelab.pictures.style import Picture, as_array, bare, styled

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


@styled
def photo_view(
    photo: UInt8[np.ndarray, "H W 3"], crop: Crop, image: UInt8[np.ndarray, "size size 3"], stages: Sequence[Stage], stage: int, markup: int
) -> View:
    """A photograph with the landmarks of a stage, and where that stage looked in the face.

    Args:
        photo: the whole photograph.
        crop: the square that the network saw.
        image: what the network saw.
        stages: its answers for this one face: maps (K,h,w) and landmarks (K,2) in pixels of the crop, by mark-up.
        stage: which stage; 0 is the first.
        markup: which mark-up.
    """
    points = stages[stage].landmarks[markup]
    picture = Picture(figsize=(8.4, 3.15))
    whole, seen, looked = (bare(picture.add_axes((left, 0.02, 0.32, 0.88), xticks=[], yticks=[])) for left in (0.005, 0.34, 0.675))
    draw_face(whole, photo)
    corner = (crop.x - crop.side / 2, crop.y - crop.side / 2)
    whole.add_patch(matplotlib.patches.Rectangle(corner, crop.side, crop.side, fill=False, edgecolor="white", linewidth=1.4))
    draw_landmarks(whole, crop.to_image(points), size=1.6)
    whole.set_title("the photograph, the face found", y=1)
    finer = replace(crop, size=4 * crop.size)  # the network sees 64 x 64 pixels, its reader may see more
    draw_face(seen, datasets.cut(photo, finer))
    draw_landmarks(seen, finer.to_crop(crop.to_image(points)), size=3)
    seen.set_title(f"{markup} landmarks, stage {stage + 1} of {len(stages)}", y=1)
    draw_map(looked, image, stages[stage].maps[markup].sum(axis=0))
    looked.set_title(f"where stage {stage + 1} looked", y=1)
    middle = crop.to_image(points).mean(axis=0)
    moved = np.linalg.norm(points - stages[0].landmarks[markup], axis=-1).mean()
    text = (
        f"Stage {stage + 1} of {len(stages)}: {markup} landmarks around ({middle[0]:.0f}, {middle[1]:.0f}) in a photograph of "
        f"{photo.shape[1]} × {photo.shape[0]} pixels"
    )
    return View(picture, text + (f", moved {moved:.2f} pixels of the crop on average since stage 1." if stage else "."))


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
                outputs = predict(torch.from_numpy(gray)[None, None])
            stages = [
                Stage({k: as_array(m)[0] for k, m in o.maps.items()}, {k: as_array(p)[0] for k, p in o.landmarks.items()}) for o in outputs
            ]
            return photo, crop, image, stages

        def draw(photo: tuple, stage: int, markup: int) -> View:
            return photo_view(*look(bytes(photo[-1]["content"]) if photo else b""), stage - 1, markup)  # type: ignore[call-arg]

        first = look(b"")[3]
        sizes = sorted(first[0].maps, reverse=True)
        controls = {
            "photo": ipywidgets.FileUpload(accept="image/*", multiple=False, description="your own photograph"),
            "stage": ipywidgets.IntSlider(len(first), 1, len(first), description="stage", disabled=len(first) == 1),
            "markup": ipywidgets.Dropdown(
                options=[(f"{k} landmarks", k) for k in sizes], value=68 if 68 in sizes else sizes[0], description="mark-up"
            ),
        }
        super().__init__(draw, controls, page={"stage": len(first), "markup": len(sizes)}, name="Landmarks in a photograph")

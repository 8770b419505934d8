"""Somebody's own photograph with the landmarks found in it, and where the network looked."""

from collections.abc import Sequence
from dataclasses import replace

import matplotlib.patches
import numpy as np
from jaxtyping import UInt8

from facelab import datasets
from facelab.datasets import Crop
from facelab.pictures.attention import Stage
from facelab.pictures.faces import draw_face, draw_landmarks
from facelab.pictures.maps import draw_map
from facelab.pictures.style import Picture, bare, styled
from facelab.pictures.view import View


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

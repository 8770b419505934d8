"""Real faces that come with scikit-image, without landmarks."""

import numpy as np
from jaxtyping import UInt8


def astronaut() -> UInt8[np.ndarray, "512 512 3"]:
    """The portrait of Eileen Collins (NASA, public domain), RGB; `crop_largest_face` finds her face in it."""
    from skimage import data

    return data.astronaut()


def lfw_crops() -> tuple[UInt8[np.ndarray, "100 25 25 3"], UInt8[np.ndarray, "100 25 25 3"]]:
    """100 gray face crops of Labeled Faces in the Wild, and 100 crops without a face, as RGB.

    Nobody has marked them: `FaceBatch(faces)` makes a batch that knows nothing else. Their framing is tighter than ours.
    """
    from skimage import data

    gray = np.round(data.lfw_subset() * 255).astype(np.uint8)
    crops = np.repeat(gray[..., None], 3, axis=-1)
    return crops[:100], crops[100:]

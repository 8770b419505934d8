"""Cutting square faces out of photographs: the one crop protocol of real and rendered faces."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Num, UInt8
from PIL import Image

from facelab.batch import FaceBatch

WIDEN = 1.3
"""Side of the crop over the longer side of the landmarks' bounding box."""


@dataclass(frozen=True)
class Crop:
    """A square of an image and the size it is resampled to; maps points between the two.

    Attributes:
        x, y: centre of the square, pixels of the image.
        side: length of its side, pixels of the image.
        size: width and height of the cropped image, pixels.
    """

    x: float
    y: float
    side: float
    size: int

    def to_crop(self, points: Num[np.ndarray, "*K 2"]) -> Float[np.ndarray, "*K 2"]:
        """Points of the image (pixels) as points of the crop (pixels)."""
        return (points - np.array([self.x, self.y])) * (self.size / self.side) + (self.size - 1) / 2

    def to_image(self, points: Num[np.ndarray, "*K 2"]) -> Float[np.ndarray, "*K 2"]:
        """Points of the crop (pixels) as points of the image (pixels)."""
        return (points - (self.size - 1) / 2) * (self.side / self.size) + np.array([self.x, self.y])


def bounding_box(landmarks: Num[np.ndarray, "K 2"]) -> Float[np.ndarray, "4"]:
    """(left, top, right, bottom) of the landmarks, pixels."""
    return np.concatenate([landmarks.min(axis=0), landmarks.max(axis=0)]).astype(float)


def square_around(box: Num[np.ndarray, "4"], size: int = 64, widen: float = WIDEN) -> Crop:
    """The square crop with the centre of `box` (left, top, right, bottom) and `widen` times its longer side.

    Raises:
        ValueError: the box is empty or not finite, or `size` or `widen` is not positive.
    """
    if size < 1 or widen <= 0:
        raise ValueError(f"A crop needs size >= 1 pixel and widen > 0; these are {size} and {widen}.")
    left, top, right, bottom = (float(edge) for edge in box)
    side = widen * max(right - left, bottom - top)
    if not (np.isfinite([left, top, right, bottom]).all() and side > 0):
        raise ValueError(
            f"The box (left, top, right, bottom) = {(left, top, right, bottom)} holds nothing; give finite edges, left < right."
        )
    return Crop((left + right) / 2, (top + bottom) / 2, side, size)


def cut(image: UInt8[np.ndarray, "H W 3"], crop: Crop) -> UInt8[np.ndarray, "size size 3"]:
    """The pixels of `crop`: bilinear, averaged over what a pixel covers when shrinking, the image's edge repeated outside it."""
    height, width = image.shape[:2]
    # Pillow measures from the corner of the first pixel, we from its centre: hence the half pixel.
    left, top = crop.x + 0.5 - crop.side / 2, crop.y + 0.5 - crop.side / 2
    margin = int(np.ceil(crop.side / crop.size)) + 1  # the resampling filter's reach beyond the square
    first_x, first_y = int(np.floor(left)) - margin, int(np.floor(top)) - margin
    last_x, last_y = int(np.ceil(left + crop.side)) + margin, int(np.ceil(top + crop.side)) + margin
    columns = np.clip(np.arange(first_x, last_x), 0, width - 1)
    rows = np.clip(np.arange(first_y, last_y), 0, height - 1)
    window = Image.fromarray(np.ascontiguousarray(image[rows[:, None], columns]))
    box = (left - first_x, top - first_y, left - first_x + crop.side, top - first_y + crop.side)
    return np.asarray(window.resize((crop.size, crop.size), Image.Resampling.BILINEAR, box=box))


def crop_face(
    image: UInt8[np.ndarray, "H W 3"],
    where: Num[np.ndarray, "K 2"] | Num[np.ndarray, "4"],
    size: int = 64,
    widen: float = WIDEN,
) -> tuple[UInt8[np.ndarray, "size size 3"], Crop]:
    """A face as a square image, and the crop that maps points into it and back.

    Args:
        image: RGB.
        where: landmarks (x, y), or the box (left, top, right, bottom) that bounds them, pixels.
        size: width and height of the result, pixels.
        widen: side of the square over the longer side of the landmarks' bounding box.

    Raises:
        ValueError: as `square_around`.
    """
    crop = square_around(where if where.ndim == 1 else bounding_box(where), size, widen)
    return cut(image, crop), crop


def eye_crops(faces: FaceBatch, size: int = 24, widen: float = 1.8) -> Float[np.ndarray, "B 2 size size"]:
    """The right and the left eye of each face, grey in [0,1]: squares around the eyes' landmarks, of the size of the wider eye.

        crops = eye_crops(render(100, size=96))

    Args:
        faces: with 68 landmarks.
        size: width and height of the crops, pixels.
        widen: side of the square over the width of the wider eye. Both squares have one size, so that the far eye of a turned head
            looks as narrow as it is.

    Raises:
        ValueError: the landmarks are not known, or others than 68.
    """
    landmarks = faces.known("landmarks")
    if landmarks.shape[1] != 68:
        raise ValueError(f"Eyes are cut out at 68 landmarks; these faces have {landmarks.shape[1]}.")
    eyes = np.stack([landmarks[:, 36:42], landmarks[:, 42:48]], axis=1)
    sides = widen * np.linalg.norm(eyes[:, :, 3] - eyes[:, :, 0], axis=2).max(axis=1)
    centres = (eyes.min(axis=2) + eyes.max(axis=2)) / 2
    crops = [
        cut(image, Crop(x, y, side, size))
        for image, pair, side in zip(faces.images, centres.tolist(), sides.tolist(), strict=True)
        for x, y in pair
    ]
    return FaceBatch(images=np.stack(crops)).gray().reshape(-1, 2, size, size)

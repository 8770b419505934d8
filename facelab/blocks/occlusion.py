"""Things put before faces, with their exact masks, and what an aligner that knows only the mean face says of the points behind them."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from scipy.stats import rankdata
from torch import Tensor

from facelab.blocks.face_features import EYES, FIRM, MOUTH
from facelab.blocks.shape_model import as_complex, as_pairs

PLACES = ("eyes", "mouth", "half", "box")
TEXTURES = ("pattern", "plain")


def occluding_boxes(
    points: Float[np.ndarray, "batch points 2"], place: str, seed: int = 0, *, eyes: Sequence[int] = EYES, mouth: Sequence[int] = MOUTH
) -> Float[np.ndarray, "batch 4"]:
    """A rectangle for every face, (left, top, right, bottom) in pixels.

    Args:
        points: (x, y) in pixels, of faces at rest, so that no box tells of an expression.
        place: "eyes" or "mouth" for those points with a tenth of the face around them, "half" for everything on one side of the middle,
            "box" for a rectangle of 0.4 to 0.7 of the face's width and height, whose middle is one of the points.
        seed: of the sides and the random rectangles.
        eyes, mouth: indices of their points; by default of the 51 inside the face.

    Raises:
        ValueError: an unknown place.
    """
    if place not in PLACES:
        raise ValueError(f"place={place!r} is not known; choose among {', '.join(PLACES)}.")
    rng = np.random.default_rng([seed, PLACES.index(place)])
    low, high = points.min(axis=1), points.max(axis=1)
    size = high - low
    if place in ("eyes", "mouth"):
        part = points[:, list(eyes if place == "eyes" else mouth)]
        return np.concatenate([part.min(axis=1) - 0.1 * size, part.max(axis=1) + 0.1 * size], axis=1)
    if place == "half":
        low, high = low - 0.1 * size, high + 0.1 * size
        middle, left = (low[:, 0] + high[:, 0]) / 2, rng.random(len(points)) < 0.5
        low[:, 0], high[:, 0] = np.where(left, low[:, 0], middle), np.where(left, middle, high[:, 0])
        return np.concatenate([low, high], axis=1)
    middle = points[np.arange(len(points)), rng.integers(points.shape[1], size=len(points))]
    reach = rng.uniform(0.2, 0.35, (len(points), 2)) * size
    return np.concatenate([middle - reach, middle + reach], axis=1)


def box_masks(boxes: Float[np.ndarray, "batch 4"], height: int, width: int) -> Bool[np.ndarray, "batch height width"]:
    """The pixels whose centre lies in each box."""
    left, top, right, bottom = (side[:, None] for side in boxes.T)
    x, y = np.arange(width), np.arange(height)
    return ((y >= top) & (y <= bottom))[:, :, None] & ((x >= left) & (x <= right))[:, None, :]


def cover(
    images: Float[Tensor, "batch 1 height width"], masks: Bool[np.ndarray, "batch height width"], texture: str = "pattern", seed: int = 0
) -> Float[Tensor, "batch 1 height width"]:
    """The images with something before the pixels of the masks.

    Args:
        images: gray, 0..1.
        masks: true where the object is.
        texture: "pattern" for random blotches of about three pixels, "plain" for the mean tone of what is hidden, like a bare hand.
        seed: of the blotches, and of a little noise on the plain tone.

    Raises:
        ValueError: an unknown texture.
    """
    if texture not in TEXTURES:
        raise ValueError(f"texture={texture!r} is not known; choose among {', '.join(TEXTURES)}.")
    generator = torch.Generator().manual_seed(seed)
    behind = torch.from_numpy(masks)[:, None]
    count, _, height, width = images.shape
    if texture == "pattern":
        coarse = torch.rand(count, 1, -(-height // 3), -(-width // 3), generator=generator)
        object_ = F.interpolate(coarse, size=(height, width), mode="bilinear", align_corners=False)
    else:
        tone = (images * behind).sum(dim=(1, 2, 3), keepdim=True) / behind.sum(dim=(1, 2, 3), keepdim=True).clamp(min=1)
        object_ = (tone + 0.01 * torch.randn(images.shape, generator=generator)).clamp(0, 1)
    return torch.where(behind, object_, images)


def hidden_points(
    points: Float[np.ndarray, "batch points 2"], masks: Bool[np.ndarray, "batch height width"]
) -> Bool[np.ndarray, "batch points"]:
    """Whether each point lies on a pixel of its image's mask; points outside the image are visible."""
    place = np.rint(points).astype(int)
    inside = ((place >= 0) & (place < np.array(masks.shape[:0:-1]))).all(axis=-1)
    x, y = np.moveaxis(np.where(inside[..., None], place, 0), -1, 0)
    return masks[np.arange(len(masks))[:, None], y, x] & inside


def hidden_shares(
    points: Float[np.ndarray, "batch points 2"], triangles: Int[np.ndarray, "triangles 3"], masks: Bool[np.ndarray, "batch height width"]
) -> Float[np.ndarray, "batch triangles"]:
    """The share (0..1) of each triangle that a mask covers, counted at 15 places spread over the triangle."""
    steps = [(i + 1 / 3, j + 1 / 3) for i in range(5) for j in range(5 - i)]
    weights = np.array([(a, b, 5 - a - b) for a, b in steps]) / 5
    places = np.einsum("pc,btcd->btpd", weights, points[:, triangles])
    return hidden_points(places.reshape(len(points), -1, 2), masks).reshape(*places.shape[:3]).mean(axis=2)


def fall_back(
    points: Float[np.ndarray, "batch points 2"], hidden: Bool[np.ndarray, "batch points"], mean: Float[np.ndarray, "points 2"]
) -> Float[np.ndarray, "batch points 2"]:
    """Hidden points replaced by those of the mean face, turned, scaled and shifted so that it fits the visible ones (least squares).

    The replaced points tell nothing of what is behind an occluder: an aligner can know no more of a hidden point than where faces usually
    have it. Where fewer than three points are visible, the fit uses all of them.
    """
    shape, model = as_complex(points.astype(float)), as_complex(mean.astype(float))
    seen = np.where((~hidden).sum(axis=1, keepdims=True) >= 3, ~hidden, True).astype(float)
    seen /= seen.sum(axis=1, keepdims=True)
    centre, middle = (seen * shape).sum(axis=1, keepdims=True), (seen * model).sum(axis=1, keepdims=True)
    from_middle = model - middle
    factor = (seen * (shape - centre) * from_middle.conj()).sum(axis=1) / (seen * np.abs(from_middle) ** 2).sum(axis=1)
    return np.where(hidden[..., None], as_pairs(factor[:, None] * from_middle + centre), points)


def at_rest(points: Float[np.ndarray, "batch 51 2"], mean: Float[np.ndarray, "51 2"]) -> Float[np.ndarray, "batch 51 2"]:
    """The mean face where each face is, fitted to its nose and the corners of its eyes, which no expression moves much.

    Whatever is placed by it lies where it would before the same face without an expression, so that its edges do not tell one.
    """
    firm = np.isin(np.arange(points.shape[1]), FIRM)
    return fall_back(points, np.tile(~firm, (len(points), 1)), np.asarray(mean))


def found_hidden(
    confidence: Float[np.ndarray, "batch triangles"], hidden: Bool[np.ndarray, "batch triangles"]
) -> Float[np.ndarray, " batch"]:
    """How well low confidence finds what is hidden, in each face: the area under the receiver operating characteristic, 0.5 by chance.

    It is the chance that a hidden triangle has less confidence than a visible one, half counted where they are equal (Mann and Whitney).
    NaN for a face of which nothing is hidden, or everything.
    """
    ranks, count, all_ = rankdata(-confidence, axis=1), hidden.sum(axis=1), hidden.shape[1]
    with np.errstate(invalid="ignore"):
        return ((ranks * hidden).sum(axis=1) - count * (count + 1) / 2) / (count * (all_ - count))


@dataclass(frozen=True)
class Occluded:
    """Faces with something before them.

    Attributes:
        images: (faces, 1, height, width), gray.
        points: (faces, points, 2) in pixels, as an aligner gives them: hidden ones where the mean face has them.
        shares: (faces, triangles), how much of each triangle is hidden, 0..1.
    """

    images: np.ndarray
    points: np.ndarray
    shares: np.ndarray


def occlude(
    images: Float[np.ndarray, "batch 1 height width"],
    truth: Float[np.ndarray, "batch 51 2"],
    found: Float[np.ndarray, "batch 51 2"],
    mean: Float[np.ndarray, "51 2"],
    triangles: Int[np.ndarray, "triangles 3"],
    place: str,
    texture: str = "pattern",
    seed: int = 0,
) -> Occluded:
    """Puts something before every face, and takes back what an aligner could no longer know.

        behind = occlude(images, landmarks, detected, mean, triangles, "mouth")

    Args:
        images: gray, 0..1.
        truth: the true points, which say what is hidden.
        found: the points as an aligner finds them in the open.
        mean: the mean shape, by which the boxes are placed (`at_rest`) and to which hidden points fall back.
        triangles: indices of three points each.
        place: of `PLACES`.
        texture: of `TEXTURES`.
        seed: of places and textures.
    """
    masks = box_masks(occluding_boxes(at_rest(truth, mean), place, seed), *images.shape[2:])
    points = fall_back(found, hidden_points(truth, masks), mean)
    return Occluded(cover(torch.from_numpy(images), masks, texture, seed).numpy(), points, hidden_shares(truth, triangles, masks))

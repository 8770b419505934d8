"""Descriptors of landmarks: what the image looks like around each of them, and how they lie to one another.

Source: N. Dalal, B. Triggs, Histograms of Oriented Gradients for Human Detection, CVPR 2005; read at landmarks instead of on a grid.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from facelab.blocks.patches import cut_patches


def gradient_histograms(
    images: Float[Tensor, "batch 1 height width"],
    points: Float[Tensor, "batch points 2"],
    *,
    cell: int = 4,
    cells: int = 2,
    bins: int = 8,
) -> Float[Tensor, "batch points features"]:
    """Histograms of gradient directions in a square window around every point, all points of a batch at once.

    Directions are signed (from dark to bright, over the whole circle): bin `k` stands for the angle `360 k / bins` degrees, 0 where the
    image brightens to the right and 90 where it brightens downwards. A gradient adds its magnitude to the two bins nearest in angle, in
    shares that fall linearly; cells do not share. Each window is divided by its Euclidean length; one without any gradient is zero.

        features = gradient_histograms(images, landmarks)  # (64, 1, 64, 64), (64, 68, 2) -> (64, 68, 32)

    Args:
        images: gray, of any range; the border is repeated beyond the image.
        points: (x, y) in pixels, the middle of each window; windows lie between pixels too (bilinear).
        cell: side of a cell in pixels.
        cells: cells along each side of a window.
        bins: directions that are told apart.

    Returns:
        `cells * cells * bins` numbers a point: row of cells by row, and in a cell bin by bin.

    Raises:
        ValueError: `cell`, `cells` or `bins` is below 1.
    """
    if min(cell, cells, bins) < 1:
        raise ValueError(f"A window needs cell, cells and bins of at least 1; these are {cell}, {cells} and {bins}.")
    # Differences come before the reading between pixels: so a constant image gives exact zeros, and no rounding to be normalised.
    # Two pixels of border give a gradient one pixel outside, which is then that of the repeated border all the way out.
    padded = F.pad(images, (2, 2, 2, 2), mode="replicate")
    horizontal = (padded[..., 1:-1, 2:] - padded[..., 1:-1, :-2]) / 2
    vertical = (padded[..., 2:, 1:-1] - padded[..., :-2, 1:-1]) / 2
    x, y = cut_patches(torch.cat([horizontal, vertical], dim=1), points + 1, cell * cells).unbind(dim=2)
    place = torch.atan2(y, x) * (bins / (2 * torch.pi))
    centres = torch.arange(bins, dtype=images.dtype, device=images.device)
    apart = (place.unsqueeze(-1) - centres).remainder(bins)  # of one turn, so the distance around the circle is the shorter way
    share = (1 - torch.minimum(apart, bins - apart)).clamp(min=0)
    votes = torch.hypot(x, y).unsqueeze(-1) * share
    histograms = votes.unflatten(3, (cells, cell)).unflatten(2, (cells, cell)).sum(dim=(3, 5))
    return F.normalize(histograms.flatten(2), dim=-1)


def distances(
    points: Float[Tensor, "batch points 2"], pairs: Sequence[tuple[int, int]] | Int[Tensor, "pairs 2"] | None = None
) -> Float[Tensor, "batch pairs"]:
    """Distances between landmarks, in the unit of the points.

    Args:
        points: (x, y).
        pairs: indices of two points each; by default every pair once, in the order (0, 1), (0, 2), ..., (1, 2), ...
    """
    if pairs is None:
        first, second = torch.triu_indices(points.shape[1], points.shape[1], offset=1, device=points.device)
    else:
        first, second = torch.as_tensor(pairs, device=points.device).unbind(dim=1)
    return (points[:, first] - points[:, second]).norm(dim=-1)


def angles(
    points: Float[Tensor, "batch points 2"], triples: Sequence[tuple[int, int, int]] | Int[Tensor, "triples 3"]
) -> Float[Tensor, "batch triples"]:
    """The angle at the middle one of three landmarks, radians from 0 to pi; the same for a face and its mirror image.

    Args:
        points: (x, y).
        triples: indices of three points each. Where two of them coincide there is no angle, and 0 is given.
    """
    first, middle, last = torch.as_tensor(triples, device=points.device).unbind(dim=1)
    one, other = points[:, first] - points[:, middle], points[:, last] - points[:, middle]
    cross = one[..., 0] * other[..., 1] - one[..., 1] * other[..., 0]
    return torch.atan2(cross.abs(), (one * other).sum(dim=-1))


def triangulation(points: Float[Tensor, "points 2"]) -> Int[Tensor, "triangles 3"]:
    """The Delaunay triangles of a mean shape: one set of triples that serves for all faces, as in `angles(faces, triangulation(mean))`.

    Raises:
        ValueError: fewer than three points, or all on one line.
    """
    from scipy.spatial import Delaunay, QhullError

    try:
        triangles = Delaunay(points.detach().cpu().double().numpy()).simplices
    except (QhullError, ValueError) as error:
        raise ValueError(f"These {len(points)} points span no triangle; give three or more that are not on one line.") from error
    return torch.as_tensor(triangles, dtype=torch.int64, device=points.device)

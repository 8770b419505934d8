"""What the surroundings of landmarks look like, in numbers."""

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor


def gradient_histograms(
    images: Float[Tensor, "batch 1 height width"], points: Float[Tensor, "batch points 2"], *, cell: int = 4, cells: int = 2, bins: int = 8
) -> Float[Tensor, "batch points features"]:
    """Histograms of gradient directions in a window of cells around each point.

    Directions are signed (the whole circle). A gradient counts with its length and is shared by the two nearest directions; a cell is the
    mean over its pixels, and the window is divided by its length.

    Args:
        images: gray.
        points: (x, y) in pixels, the border of the image is continued beyond it.
        cell: side of a cell in pixels.
        cells: a window has cells x cells of them.
        bins: directions.

    Returns:
        cells x cells x bins numbers a point, cell by cell.

    Source: Dalal, Triggs, "Histograms of Oriented Gradients for Human Detection", CVPR 2005.
    """
    height, width = images.shape[-2:]
    wide = F.pad(images, (1, 1, 1, 1), mode="replicate")
    across, down = (wide[..., 1:-1, 2:] - wide[..., 1:-1, :-2]) / 2, (wide[..., 2:, 1:-1] - wide[..., :-2, 1:-1]) / 2
    direction = torch.atan2(down, across) / (2 * math.pi) * bins % bins
    below = direction.floor()
    above, length = direction - below, torch.hypot(across, down)
    first = below.long() % bins
    maps = images.new_zeros(len(images), bins, height, width)
    maps = maps.scatter_add(1, first, length * (1 - above)).scatter_add(1, (first + 1) % bins, length * above)
    before = (cell - 1) // 2
    maps = F.avg_pool2d(F.pad(maps, (before, cell - 1 - before) * 2, mode="replicate"), cell, 1)  # of the cell around each pixel
    middles = (torch.arange(cells, device=points.device) - (cells - 1) / 2) * cell
    offsets = torch.stack(torch.meshgrid(middles, middles, indexing="xy"), dim=-1).reshape(1, 1, -1, 2)
    places = points[:, :, None] + offsets - ((cell - 1) / 2 - before)
    grid = (2 * places + 1) / torch.tensor([width, height], device=points.device) - 1
    found = F.grid_sample(maps, grid.to(maps), padding_mode="border", align_corners=False)
    return F.normalize(found.permute(0, 2, 3, 1).flatten(2), dim=2, eps=1e-3)

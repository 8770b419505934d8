"""Shape-indexed patches: what a cascade of regressors looks at, one small square around every landmark."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor


def cut_patches(
    images: Float[Tensor, "B C H W"], centres: Float[Tensor, "B P 2"], size: int, spacing: float = 1.0
) -> Float[Tensor, "B P C size size"]:
    """Squares of `size` x `size` pixels around points that may lie between pixels (bilinear) or outside (the border is repeated).

    Args:
        images: any values.
        centres: (x, y) in pixels, the middle of each square; of an even size it falls between four of its pixels.
        size: side of a patch in samples.
        spacing: pixels of the image from one sample to the next; above 1 a patch sees more and less sharply.
    """
    height, width = images.shape[-2:]
    steps = (torch.arange(size, device=images.device, dtype=images.dtype) - (size - 1) / 2) * spacing
    rows, columns = torch.meshgrid(steps, steps, indexing="ij")
    at = centres[:, :, None, None] + torch.stack([columns, rows], dim=-1)  # (B, P, size, size, 2)
    # grid_sample counts from -1, the outer edge of the first pixel, to 1, the outer edge of the last one.
    grid = (2 * at + 1) / torch.tensor([width, height], device=images.device, dtype=images.dtype) - 1
    patches = F.grid_sample(images, grid.flatten(1, 2), padding_mode="border", align_corners=False)
    return patches.unflatten(2, (-1, size)).transpose(1, 2)

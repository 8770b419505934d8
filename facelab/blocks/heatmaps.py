"""One map per landmark: softmax over pixels, reading positions from it, and the likelihood of a pixel."""

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor


def spatial_softmax(logits: Float[Tensor, "B K H W"]) -> Float[Tensor, "B K H W"]:
    """Softmax over the pixels of each map: non-negative, every map sums to one."""
    return logits.flatten(2).softmax(dim=-1).view(logits.shape)


def _pixel_grid(height: int, width: int, like: Tensor) -> Float[Tensor, "P 2"]:
    """(x, y) of every pixel, row by row."""
    y, x = torch.meshgrid(
        torch.arange(height, device=like.device, dtype=like.dtype), torch.arange(width, device=like.device, dtype=like.dtype), indexing="ij"
    )
    return torch.stack([x.flatten(), y.flatten()], dim=-1)


def expected_position(maps: Float[Tensor, "B K H W"], stride: int = 1) -> Float[Tensor, "B K 2"]:
    """Mean (x, y) under each map, the soft-argmax: sum over pixels p of maps(p) p.

    Args:
        maps: non-negative, each summing to one.
        stride: input pixels per map pixel; the positions are in input pixels, where map pixel 0 covers 0..stride-1.
    """
    height, width = maps.shape[-2:]
    positions = maps.flatten(2) @ _pixel_grid(height, width, maps)
    return (positions + 0.5) * stride - 0.5


def argmax_position(logits: Float[Tensor, "B K H W"], tolerance: float = 1e-5) -> Float[Tensor, "B K 2"]:
    """(x, y) of the highest pixel; where several tie, their mean.

    A map upsampled by repetition ties over a whole coarse cell, and the mean is the centre of that cell. Taking the first
    tied pixel instead would be off by half a cell.

    Args:
        logits: any scores, one map per landmark.
        tolerance: scores this close to the highest one, relative to the map's range, tie with it.
    """
    flat = logits.flatten(2)
    top, bottom = flat.amax(dim=-1, keepdim=True), flat.amin(dim=-1, keepdim=True)
    tied = (flat >= top - tolerance * (top - bottom)).to(flat.dtype)
    return expected_position((tied / tied.sum(dim=-1, keepdim=True)).view(logits.shape))


def pixel_index(landmarks: Float[Tensor, "B K 2"], size: int) -> tuple[Int[Tensor, "B K"], Bool[Tensor, "B K"]]:
    """Number `row * size + column` of the pixel nearest to each landmark, and whether the landmark is inside the image.

    Landmarks outside are clamped to the border; their second value is False, so that a loss can leave them out.

    Args:
        landmarks: (x, y) in pixels of a `size` x `size` image.
    """
    pixels = (landmarks + 0.5).floor().long()
    inside = ((pixels >= 0) & (pixels < size)).all(dim=-1)
    column, row = pixels.clamp(0, size - 1).unbind(dim=-1)
    return row * size + column, inside


def one_hot_maps(index: Int[Tensor, "B K"], size: int) -> Float[Tensor, "B K {size} {size}"]:
    """Maps that are one at the pixel `index` (as `pixel_index` numbers them) and zero elsewhere."""
    return F.one_hot(index, size * size).float().unflatten(-1, (size, size))


def heatmap_nll(logits: Float[Tensor, "B K H W"], index: Int[Tensor, "B K"], mask: Bool[Tensor, "B K"] | None = None) -> Float[Tensor, ""]:
    """Negative log-likelihood of the true pixels under the maps' softmax, summed over landmarks, averaged over faces.

    K sum(mask * -log P(index)) / sum(mask): landmarks outside the mask do not count, and the factor K keeps the size of a
    gradient independent of how many are masked out (RCN, Honari et al. 2016, eq. 1).

    Args:
        logits: scores before the softmax over pixels.
        index: true pixel of each landmark, from `pixel_index`.
        mask: landmarks that count; all by default.
    """
    log_probability = logits.flatten(2).log_softmax(dim=-1).gather(-1, index[..., None])[..., 0]
    weight = torch.ones_like(log_probability) if mask is None else mask.to(log_probability.dtype)
    return -logits.shape[1] * (weight * log_probability).sum() / (weight.sum() + 1e-8)

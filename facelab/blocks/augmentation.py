"""Random changes of training faces, in batches, drawn from a generator."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Generator, Tensor

from facelab.markups import Markup


def augment(
    images: Float[Tensor, "B C H W"],
    landmarks: Float[Tensor, "B K 2"],
    markup: Markup,
    generator: Generator,
    *,
    rotation: float = 20.0,
    scale: float = 0.15,
    shift: float = 0.05,
    flip: float = 0.5,
    light: float = 0.3,
    occlusion: float = 0.3,
    noise: float = 0.0,
) -> tuple[Float[Tensor, "B C H W"], Float[Tensor, "B K 2"]]:
    """Each face turned, scaled, shifted, mirrored, relit and partly covered at random; its landmarks go along.

    Args:
        images: 0..1.
        landmarks: (x, y) in pixels.
        markup: says which landmarks swap in a mirror.
        generator: source of all randomness, on the device of `images`.
        rotation: largest angle in degrees, either way.
        scale: largest relative growth; shrinking goes as far on the logarithmic scale.
        shift: largest shift in each direction as a fraction of the image's side.
        flip: probability of a mirror image.
        light: strength of the change of brightness, contrast and gamma; 0 leaves them.
        occlusion: probability of a rectangle of one random grey that covers 20 to 50 % of each side.
        noise: largest standard deviation of the pixel noise.
    """

    def draw(low: float, high: float) -> Tensor:
        return torch.rand(len(images), generator=generator, device=images.device) * (high - low) + low

    angle = torch.deg2rad(draw(-rotation, rotation))
    growth = (draw(-1.0, 1.0) * torch.log1p(torch.tensor(scale))).exp()
    height, width = images.shape[-2:]
    offset = torch.stack([draw(-shift, shift) * width, draw(-shift, shift) * height], dim=-1)
    mirrored = draw(0.0, 1.0) < flip
    images, landmarks = _move(images, landmarks, markup, angle, growth, offset, mirrored)
    if light:
        images = _relight(images, draw(-light, light), draw(-light, light), draw(-light, light))
    if occlusion:
        box = torch.stack([draw(0.0, 1.0), draw(0.0, 1.0), draw(0.2, 0.5), draw(0.2, 0.5)], dim=-1)
        images = _cover(images, box, grey=draw(0.0, 1.0), covered=draw(0.0, 1.0) < occlusion)
    if noise:
        grain = torch.randn(images.shape, generator=generator, device=images.device)
        images = (images + draw(0.0, noise)[:, None, None, None] * grain).clamp(0, 1)
    return images, landmarks


def _move(images, landmarks, markup, angle, growth, offset, mirrored):
    """Mirror, then turn and scale about the image centre, then shift; border pixels are repeated outwards."""
    height, width = images.shape[-2:]
    centre = torch.tensor([(width - 1) / 2, (height - 1) / 2], device=images.device)
    cosine, sine = angle.cos() * growth, angle.sin() * growth
    forward = torch.stack([cosine, -sine, sine, cosine], dim=-1).view(-1, 2, 2)
    side = torch.where(mirrored, -1.0, 1.0)
    forward = forward * torch.stack([side, torch.ones_like(side)], dim=-1)[:, None]  # x of the input changes its sign
    swap = torch.as_tensor(markup.flip, device=landmarks.device)
    landmarks = torch.where(mirrored[:, None, None], landmarks[:, swap], landmarks)
    landmarks = (landmarks - centre) @ forward.mT + centre + offset[:, None]
    # grid_sample asks where each output pixel comes from, in units where the pixel centres span -1..1.
    half = centre.clamp(min=0.5)
    backward = torch.linalg.inv(forward)
    theta = torch.cat([backward * half[None, None] / half[None, :, None], -(backward @ offset[..., None]) / half[:, None]], dim=-1)
    grid = F.affine_grid(theta, list(images.shape), align_corners=True)
    return F.grid_sample(images, grid, padding_mode="border", align_corners=True), landmarks


def _relight(images, brightness, contrast, gamma):
    """(contrast about the mean and brightness) then gamma; values stay in 0..1."""
    brightness, contrast, gamma = (value[:, None, None, None] for value in (brightness, contrast, gamma))
    mean = images.mean(dim=(1, 2, 3), keepdim=True)
    images = ((images - mean) * contrast.exp() + mean + 0.5 * brightness).clamp(1e-4, 1)
    return images ** gamma.exp()


def _cover(images, box, grey, covered):
    """A rectangle (centre x, centre y, width, height, as fractions of the image) of one grey, where `covered`."""
    height, width = images.shape[-2:]
    x = (torch.arange(width, device=images.device) + 0.5) / width
    y = (torch.arange(height, device=images.device) + 0.5) / height
    inside_x = (x - box[:, 0, None]).abs() < box[:, 2, None] / 2
    inside_y = (y - box[:, 1, None]).abs() < box[:, 3, None] / 2
    inside = (inside_y[:, :, None] & inside_x[:, None, :] & covered[:, None, None])[:, None]
    return torch.where(inside, grey[:, None, None, None], images)

"""Random changes of training images, in batches, drawn from a generator; landmarks and masks go along."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Shaped
from torch import Generator, Tensor

from facelab.markups import Markup


@dataclass(frozen=True)
class Warp:
    """One affine move per image: mirrored, then turned and scaled about the image's centre, then shifted.

    The same warp moves images, landmarks and masks, so that a network's answer for a moved image can be compared with its moved answer:

        warp = draw_warp(images, generator)
        inconsistency = (model(warp.images(images)) - warp.landmarks(model(images))).norm(dim=-1)
    """

    matrix: Float[Tensor, "B 2 2"]
    """Of (x, y) columns seen from the centre, mirror included."""
    offset: Float[Tensor, "B 2"]
    """(x, y) in pixels."""
    mirrored: Bool[Tensor, " B"]
    """Which images are mirror images."""
    centre: Float[Tensor, "2"]
    """(x, y) in pixels of the images it was drawn for."""

    def images(self, images: Float[Tensor, "B C H W"], mode: str = "bilinear") -> Float[Tensor, "B C H W"]:
        """Images of the size the warp was drawn for, moved; border pixels are repeated outwards.

        Args:
            images: any values, in any precision; half precision is moved in single.
            mode: "bilinear", or "nearest" for values that have no mean.

        Raises:
            TypeError: whole numbers, which would be rounded.
        """
        if not images.is_floating_point():
            raise TypeError(f"Images of {images.dtype} cannot be moved between pixels; give images.float() / 255, or masks as masks.")
        # grid_sample asks where each output pixel comes from, in units where the pixel centres span -1..1.
        half = self.centre.clamp(min=0.5)
        backward = torch.linalg.inv(self.matrix)
        shift = -(backward @ self.offset[..., None]) / half[:, None]
        theta = torch.cat([backward * half[None, None] / half[None, :, None], shift], dim=-1)
        grid = F.affine_grid(theta, list(images.shape), align_corners=True)
        dtype = torch.promote_types(images.dtype, grid.dtype)
        moved = F.grid_sample(images.to(dtype), grid.to(dtype), mode=mode, padding_mode="border", align_corners=True)
        return moved.to(images.dtype)

    def landmarks(self, landmarks: Float[Tensor, "B K 2"], markup: Markup | None = None) -> Float[Tensor, "B K 2"]:
        """Points (x, y) in pixels, moved.

        Args:
            landmarks: where they are in the images; NaN where unknown.
            markup: says which landmarks change their names in a mirror; None if none do.
        """
        if markup is not None:
            swap = torch.as_tensor(markup.flip, device=landmarks.device)
            landmarks = torch.where(self.mirrored[:, None, None], landmarks[:, swap], landmarks)
        dtype = torch.promote_types(landmarks.dtype, self.matrix.dtype)
        return (landmarks - self.centre).to(dtype) @ self.matrix.mT.to(dtype) + self.centre + self.offset[:, None]

    def masks(self, masks: Shaped[Tensor, "B *channels H W"]) -> Shaped[Tensor, "B *channels H W"]:
        """Classes (whole numbers) or masks (bool), moved: each pixel takes the value of its nearest one. Sides keep their names."""
        layers = masks.reshape(len(masks), -1, *masks.shape[-2:]).to(self.matrix.dtype)  # exact for classes below 2^24
        return self.images(layers, mode="nearest").to(masks.dtype).reshape(masks.shape)


def draw_warp(
    images: Float[Tensor, "B C H W"],
    generator: Generator | None,
    *,
    rotation: float = 20.0,
    scale: float = 0.15,
    shift: float = 0.05,
    flip: float = 0.5,
) -> Warp:
    """A random move for each image.

    Args:
        images: whose number, size and device it takes.
        generator: source of all randomness, on the device of `images`; None for that of torch.
        rotation, scale, shift, flip: as for `augment`.
    """

    def draw(low: float, high: float) -> Tensor:
        return _uniform(images, generator, low, high)

    angle = torch.deg2rad(draw(-rotation, rotation))
    growth = (draw(-1.0, 1.0) * torch.log1p(torch.tensor(scale))).exp()
    height, width = images.shape[-2:]
    offset = torch.stack([draw(-shift, shift) * width, draw(-shift, shift) * height], dim=-1)
    mirrored = draw(0.0, 1.0) < flip
    cosine, sine = angle.cos() * growth, angle.sin() * growth
    matrix = torch.stack([cosine, -sine, sine, cosine], dim=-1).view(-1, 2, 2)
    side = torch.where(mirrored, -1.0, 1.0)
    matrix = matrix * torch.stack([side, torch.ones_like(side)], dim=-1)[:, None]  # x of the input changes its sign
    return Warp(matrix, offset, mirrored, torch.tensor([(width - 1) / 2, (height - 1) / 2], device=images.device))


def augment(
    images: Float[Tensor, "B C H W"],
    landmarks: Float[Tensor, "B K 2"] | None = None,
    markup: Markup | None = None,
    generator: Generator | None = None,
    *,
    masks: Shaped[Tensor, "B *channels H W"] | None = None,
    rotation: float = 20.0,
    scale: float = 0.15,
    shift: float = 0.05,
    flip: float = 0.5,
    light: float = 0.3,
    occlusion: float = 0.3,
    noise: float = 0.0,
) -> Float[Tensor, "B C H W"] | tuple[Tensor, ...]:
    """Each image turned, scaled, shifted, mirrored, relit and partly covered at random; landmarks and masks go along.

        images, masks = augment(images, masks=masks, generator=generator)

    Args:
        images: 0..1.
        landmarks: (x, y) in pixels; NaN where unknown.
        markup: says which landmarks swap in a mirror; None if none do.
        generator: source of all randomness, on the device of `images`; None for that of torch.
        masks: classes (whole numbers) or masks (bool), moved to the nearest pixel; neither light nor a cover changes them.
        rotation: largest angle in degrees, either way.
        scale: largest relative growth; shrinking goes as far on the logarithmic scale.
        shift: largest shift in each direction as a fraction of the image's side.
        flip: probability of a mirror image.
        light: strength of the change of brightness, contrast and gamma; 0 leaves them.
        occlusion: probability of a rectangle of one random grey that covers 20 to 50 % of each side.
        noise: largest standard deviation of the pixel noise.

    Returns:
        The images; with landmarks or masks a tuple of the images, the landmarks and the masks, without what was not given. The
        images are the same whatever goes along.
    """

    def draw(low: float, high: float) -> Tensor:
        return _uniform(images, generator, low, high)

    warp, dtype = draw_warp(images, generator, rotation=rotation, scale=scale, shift=shift, flip=flip), images.dtype
    along = () if landmarks is None else (warp.landmarks(landmarks, markup),)
    along += () if masks is None else (warp.masks(masks),)
    images = warp.images(images)
    if light:
        images = _relight(images, draw(-light, light), draw(-light, light), draw(-light, light))
    if occlusion:
        box = torch.stack([draw(0.0, 1.0), draw(0.0, 1.0), draw(0.2, 0.5), draw(0.2, 0.5)], dim=-1)
        images = _cover(images, box, grey=draw(0.0, 1.0), covered=draw(0.0, 1.0) < occlusion)
    if noise:
        grain = torch.randn(images.shape, generator=generator, device=images.device)
        images = (images + draw(0.0, noise)[:, None, None, None] * grain).clamp(0, 1)
    images = images.to(dtype)
    return (images, *along) if along else images


def two_views(
    images: Float[Tensor, "B C H W"], generator: Generator | None = None, **changes: float
) -> tuple[Float[Tensor, "B C H W"], Float[Tensor, "B C H W"]]:
    """Every image augmented twice, independently: two views of one thing, for losses that ask for the same answer to both.

    Args:
        images: 0..1.
        generator: as for `augment`.
        changes: strengths of the changes, as for `augment`.
    """
    return augment(images, generator=generator, **changes), augment(images, generator=generator, **changes)


def _uniform(images: Tensor, generator: Generator | None, low: float, high: float) -> Float[Tensor, " B"]:
    return torch.rand(len(images), generator=generator, device=images.device) * (high - low) + low


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

"""Landmarks as vectors: conversion, inter-ocular distance, the L1 loss, and the plain CNN that regresses them."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from facelab.blocks.light import standardise
from facelab.blocks.unet import conv_norm_relu
from facelab.markups import conversion, markup


def convert_landmarks(landmarks: Float[Tensor, "B K 2"], target: int) -> Float[Tensor, "B {target} 2"]:
    """The same faces in a coarser mark-up, as `markups.convert` for tensors.

    Raises:
        ValueError: `target` cannot be had from this mark-up.
    """
    return torch.as_tensor(conversion(landmarks.shape[1], target), dtype=landmarks.dtype, device=landmarks.device) @ landmarks


def interocular_distance(landmarks: Float[Tensor, "B K 2"]) -> Float[Tensor, " B"]:
    """Distance between the outer eye corners (eye centres in the mark-up of 5), pixels."""
    right, left = markup(landmarks.shape[1]).outer_eyes
    return (landmarks[:, right] - landmarks[:, left]).norm(dim=-1)


def landmark_loss(
    predicted: Float[Tensor, "B K 2"], true: Float[Tensor, "B K 2"], interocular: Float[Tensor, " B"] | None = None
) -> Float[Tensor, ""]:
    """L1 distance over (number of landmarks x inter-ocular distance), averaged over the batch.

    Faces whose landmarks are NaN are not annotated and add nothing (they still count in the batch size).

    Args:
        predicted, true: (x, y) in pixels.
        interocular: normaliser in pixels; by default the distance of the true outer eye corners.
    """
    known = true.isfinite().all(dim=(1, 2))
    if interocular is None:
        interocular = interocular_distance(true)
    distance = (predicted - true.nan_to_num()).abs().sum(dim=(1, 2)) / (true.shape[1] * interocular.nan_to_num(nan=1.0))
    return torch.where(known, distance, torch.zeros_like(distance)).mean()


class ConvRegressor(nn.Module):
    """The plain baseline: four convolutions, each followed by 2x2 max-pooling, then one linear layer to all coordinates.

    Args:
        landmarks: number of landmarks.
        size: side of the square input in pixels; a multiple of 16.
        in_channels: channels of the input.
        channels: width of each convolution.
        mean_shape: (landmarks, 2) pixels, what it answers before training; the image centre by default.
        standardised: each image loses its mean and is divided by its standard deviation first.

    Raises:
        ValueError: `size` is not a multiple of 16.
    """

    def __init__(
        self,
        landmarks: int,
        size: int,
        in_channels: int = 1,
        channels: Sequence[int] = (16, 32, 48, 64),
        mean_shape: Float[Tensor, "K 2"] | None = None,
        standardised: bool = False,
    ):
        super().__init__()
        if size % 16:
            raise ValueError(f"size = {size} cannot be halved four times; choose a multiple of 16.")
        inputs = [in_channels, *channels[:-1]]
        self.features = nn.Sequential(
            *(nn.Sequential(conv_norm_relu(a, b), nn.MaxPool2d(2)) for a, b in zip(inputs, channels, strict=True)), nn.Flatten()
        )
        self.linear = nn.Linear(channels[-1] * (size // 16) ** 2, 2 * landmarks)
        self.size, self.standardised = size, standardised
        if mean_shape is None:
            mean_shape = torch.full((landmarks, 2), (size - 1) / 2)
        self.register_buffer("mean_shape", mean_shape.clone())
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)

    def forward(self, images: Float[Tensor, "B C H W"]) -> Float[Tensor, "B K 2"]:
        """Landmarks in pixels."""
        offset = self.linear(self.features(standardise(images) if self.standardised else images)).unflatten(-1, (-1, 2))
        return self.mean_shape + self.size * offset

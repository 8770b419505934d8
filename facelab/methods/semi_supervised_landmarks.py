"""Landmarks from few labels: an attribute read from the predicted landmarks, and predictions that move with the image.

Honari, Molchanov, Tyree, Vincent, Pal, Kautz: Improving Landmark Localization with Semi-Supervised Learning. CVPR 2018.
The paper's network (RCN+) is replaced by a small U-Net; schedules and weights of the losses are a reconstruction.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Generator, Tensor, nn

from facelab.blocks import UNet, Warp, draw_warp, expected_position, landmark_loss, spatial_softmax, standardise

STRIDE = 2
"""Pixels of the image for each pixel of the score maps."""

Reads = Literal["landmarks", "features", "maps"]


def soft_argmax(scores: Float[Tensor, "B K H W"], beta: float = 1.0, stride: int = 1) -> Float[Tensor, "B K 2"]:
    """The mean position under softmax(beta * scores): a place between pixels that has a gradient.

    Args:
        scores: one map for each landmark, any values.
        beta: 0 gives the centre of the map, infinity its highest pixel.
        stride: pixels of the image for each pixel of the map.

    Returns:
        (x, y) in pixels of the image.
    """
    return expected_position(spatial_softmax(beta * scores), stride)


def soft_argmax_gradient(scores: Float[Tensor, "H W"], beta: float = 1.0) -> Float[Tensor, "2 H W"]:
    """The derivative of `soft_argmax` (x, then y) by every score: beta times probability times distance from the estimate.

    Args:
        scores: one map.
        beta: as for `soft_argmax`.
    """
    probability = spatial_softmax(beta * scores[None, None])
    rows, columns = (torch.arange(side, dtype=scores.dtype) for side in scores.shape)
    y, x = torch.meshgrid(rows, columns, indexing="ij")
    estimate = expected_position(probability)[0, 0]
    return beta * probability[0] * (torch.stack([x, y]) - estimate[:, None, None])


class SemiSupervisedLandmarks(nn.Module):
    """A U-Net with one score map for each landmark, a soft-argmax, and a small network that predicts the attribute.

    Args:
        landmarks: their number K.
        attributes: how many numbers the attribute has, A.
        reads: what the attribute is predicted from: the "landmarks" alone (sequential multi-tasking), the mean "features" of the
            U-Net (common multi-tasking), or the probability "maps" (heatmap multi-tasking).
        detached: the attribute's loss stops at what it reads and teaches the network nothing.
        channels: widths of the U-Net.
        beta: of the soft-argmax.
        size: side of the square images in pixels.
    """

    def __init__(
        self,
        landmarks: int,
        attributes: int,
        *,
        reads: Reads = "landmarks",
        detached: bool = False,
        channels: tuple[int, ...] = (16, 24, 32),
        beta: float = 10.0,
        size: int = 40,
    ):
        super().__init__()
        self.reads, self.detached, self.beta, self.size = reads, detached, beta, size
        self.unet = UNet(STRIDE**2, channels)
        self.output = nn.Conv2d(channels[0], landmarks, 1)
        inputs = {"landmarks": 2 * landmarks, "features": channels[0], "maps": landmarks * (size // STRIDE) ** 2}[reads]
        self.attribute = nn.Sequential(nn.Linear(inputs, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, attributes))
        self.progress: Tensor
        self.register_buffer("progress", torch.zeros(()))  # share of the training that is made, for the ramps

    def features(self, images: Float[Tensor, "B 1 H W"]) -> Float[Tensor, "B D h w"]:
        """What the U-Net computes, at half the resolution of the image."""
        return self.unet(F.pixel_unshuffle(standardise(images), STRIDE))

    def forward(self, images: Float[Tensor, "B 1 H W"]) -> Float[Tensor, "B K 2"]:
        """Landmarks (x, y) in pixels."""
        return soft_argmax(self.output(self.features(images)), self.beta, STRIDE)

    def both(self, images: Float[Tensor, "B 1 H W"]) -> tuple[Float[Tensor, "B K 2"], Float[Tensor, "B A"]]:
        """Landmarks in pixels and the attribute."""
        features = self.features(images)
        scores = self.output(features)
        landmarks = soft_argmax(scores, self.beta, STRIDE)
        if self.reads == "landmarks":
            return landmarks, self.attribute_of(landmarks)
        read = features.mean(dim=(2, 3)) if self.reads == "features" else spatial_softmax(self.beta * scores).flatten(1)
        return landmarks, self.attribute(read.detach() if self.detached else read)

    def attribute_of(self, landmarks: Float[Tensor, "B K 2"]) -> Float[Tensor, "B A"]:
        """The attribute from landmarks in pixels, where it is read from them: nothing else reaches it."""
        read = landmarks.detach() if self.detached else landmarks
        return self.attribute((4 * read / self.size - 2).flatten(1))  # the middle of the image is zero, its border two


def equivariance_error(moved: Float[Tensor, "B K 2"], plain: Float[Tensor, "B K 2"], warp: Warp) -> Float[Tensor, "B K"]:
    """How far the prediction on the moved image lies from the moved prediction, |dx| + |dy| in pixels; no label is asked for.

    A point that the warp moves out of the image cannot be answered by a soft-argmax, so its error is zero.

    Args:
        moved: landmarks predicted on the moved images, f(T I).
        plain: those predicted on the images as they are, f(I).
        warp: T.
    """
    target = warp.landmarks(plain)
    inside = ((target >= 0) & (target <= 2 * warp.centre)).all(dim=-1)
    return torch.where(inside, (moved - target).abs().sum(dim=-1), torch.zeros_like(target[..., 0]))


def ramp(progress: Tensor, start: float, end: float) -> Tensor:
    """0 before `start`, 1 after `end`, a straight line between, all as shares of the training."""
    return ((progress - start) / (end - start)).clamp(0, 1)


@dataclass(frozen=True)
class Objective:
    """The loss C = C_L + w C_ELT + C_A of a batch with labelled and unlabelled faces, as `training.fit` takes it.

        fit(model, Objective(length=15.0), {"labelled": few, "unlabelled": all}, batch_size={"labelled": 8, "unlabelled": 4}, ...)

    Each group of the batch is a mapping with `images`, `attributes`, and `landmarks` in the labelled one.
    """

    length: float
    """Pixels that count as an error of one, such as the mean inter-ocular distance."""
    equivariance: float = 0.0
    """Weight w of C_ELT, ramped in from 10 to 50 % of the training; 0 leaves it out."""
    attribute: float = 0.0
    """Weight of C_A, ramped in over the first 30 % of the training; 0 leaves it out."""
    augmented: bool = True
    """Whether labelled faces (and their labels) are moved as well."""
    moves: Mapping[str, float] = field(default_factory=lambda: {"rotation": 20.0, "scale": 0.15, "shift": 0.05})
    """As `draw_warp` takes them."""
    still: bool = False
    """The fault that T of the equivariance is always the identity."""

    def __call__(
        self, model: SemiSupervisedLandmarks, batch: Mapping[str, Mapping[str, Tensor]], generator: Generator
    ) -> dict[str, Tensor]:
        """The parts of the loss."""
        images, truth = batch["labelled"]["images"], batch["labelled"]["landmarks"]
        if self.augmented:
            warp = draw_warp(images, generator, **self.moves, flip=0.0)
            images, truth = warp.images(images), warp.landmarks(truth)
        others = batch["unlabelled"]["images"]
        moves = dict.fromkeys(self.moves, 0.0) if self.still and self.equivariance else self.moves
        turn = draw_warp(others, generator, **moves, flip=0.0)
        views = [turn.images(others)] if self.attribute or self.equivariance else []
        views += [others] if self.equivariance else []
        predicted, attribute = model.both(torch.cat([images, *views]))
        few, many = len(images), len(others)
        unit = torch.full((few,), self.length, device=images.device)
        parts = {"landmarks": landmark_loss(predicted[:few], truth, unit)}
        if self.equivariance:
            moved, plain = predicted[few : few + many], predicted[few + many :]
            error = equivariance_error(moved, plain, turn).mean() / self.length
            parts["equivariance"] = self.equivariance * ramp(model.progress, 0.1, 0.5) * error
        if self.attribute:
            known = torch.cat([batch["labelled"]["attributes"], batch["unlabelled"]["attributes"]])
            off = attribute[: few + many] - known  # of one view each, whether or not equivariance looks at a second
            parts["attribute"] = self.attribute * ramp(model.progress, 0.0, 0.3) * off.square().mean()
            if model.reads == "landmarks":  # the anchor: the true landmarks mean this attribute, so no other code can form
                anchor = model.attribute_of(truth) - batch["labelled"]["attributes"]
                parts["anchor"] = self.attribute * anchor.square().mean()
        return parts


@dataclass(frozen=True)
class Follow:
    """What `training.fit` takes as `after_step`, so that the ramps know how far the training is."""

    steps: int
    """Of the whole training."""

    def __call__(self, model: SemiSupervisedLandmarks, made: int) -> None:
        """Tell the model."""
        model.progress.fill_(made / self.steps)

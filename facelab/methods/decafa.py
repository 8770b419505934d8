"""DeCaFA: a cascade of full-resolution U-Nets with chained transfer layers and landmark-wise attention.

Source: Dapogny, Bailly, Cord, "DeCaFA: Deep Convolutional Cascade for Face Alignment In The Wild", ICCV 2019.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from facelab.blocks import (
    TransferLayers,
    UNet,
    expected_position,
    increasing_weights,
    landmark_loss,
    merge_attention,
    run_cascade,
    spatial_softmax,
    standardise,
)

FUSIONS = ("none", "mask", "deep")


class StageOutput(NamedTuple):
    """What one stage says; the dictionaries are keyed by mark-up (number of landmarks).

    Attributes:
        features: H, the U-Net's output.
        logits: Z, one score map per landmark, before the softmax.
        maps: mu, the attention maps: softmax of the logits over pixels, each sums to one.
        landmarks: expectation of each map, (x, y) in pixels of the input image.
        attention: m / max m, where the next stage looks: the finest maps merged, highest value 1.
    """

    features: Float[Tensor, "B C h w"]
    logits: dict[int, Float[Tensor, "B _ h w"]]
    maps: dict[int, Float[Tensor, "B _ h w"]]
    landmarks: dict[int, Float[Tensor, "B _ 2"]]
    attention: Float[Tensor, "B 1 h w"]


class DeCaFA(nn.Module):
    """The cascade: every stage is a U-Net whose attention maps tell the next one where to look.

    Args:
        in_channels: channels of the image.
        markups: numbers of landmarks in the order of the chain; the paper goes from the finest to the coarsest.
        stages: number of U-Nets.
        channels: width of each U-Net level, finest first; the features of a stage have `channels[0]` channels.
        fusion: input of the next stage, beside the image: "deep" attention x features (default), "mask" attention x image,
            "none" the maps of the finest mark-up, each scaled to a highest value of 1.
        heads: "chained" transfer layers or "independent" ones.
        stride: input pixels per map pixel; above 1 the pixels of a stride x stride block become channels first, and the
            cascade runs at that resolution (faster; the paper has 1).
        gain: of the transfer layers; 10 halves the number of steps that 1 needs.
        standardised: each image loses its mean and is divided by its standard deviation first (ours, for photographs in all lights).

    Raises:
        ValueError: an unknown fusion or head, no mark-up or no stage.
    """

    def __init__(
        self,
        in_channels: int = 1,
        markups: Sequence[int] = (68, 29, 19, 5),
        stages: int = 3,
        channels: Sequence[int] = (8, 12, 16),
        fusion: str = "deep",
        heads: str = "chained",
        stride: int = 1,
        gain: float = 10.0,
        standardised: bool = False,
    ):
        super().__init__()
        if fusion not in FUSIONS:
            raise ValueError(f"fusion = {fusion!r} is unknown; choose one of {FUSIONS}.")
        if stages < 1 or not markups:
            raise ValueError(f"A cascade needs at least one stage and one mark-up; got stages = {stages}, markups = {markups}.")
        self.fusion, self.stride, self.finest, self.standardised = fusion, stride, max(markups), standardised
        image_channels = in_channels * stride**2
        fused_channels = {"none": self.finest, "mask": image_channels, "deep": channels[0]}[fusion]
        inputs = [image_channels] + [image_channels + fused_channels] * (stages - 1)
        self.unets = nn.ModuleList(UNet(width, channels) for width in inputs)
        self.transfers = nn.ModuleList(TransferLayers(channels[0], markups, heads, gain) for _ in inputs)

    def forward(
        self, images: Float[Tensor, "B C H W"], attention: Mapping[int, Float[Tensor, "B 1 h w"]] | None = None
    ) -> list[StageOutput]:
        """One output per stage.

        Args:
            images: 0..1, height and width multiples of the stride.
            attention: merged attention to use after some stages (0 is the first) instead of the network's own, 0..1 at map
                resolution; lets a reader paint it.

        Raises:
            ValueError: attention is given but the fusion does not use it.
        """
        attention = attention or {}
        if attention and self.fusion == "none":
            raise ValueError("With fusion = 'none' there is no merged attention to replace; use 'mask' or 'deep'.")
        image = F.pixel_unshuffle(standardise(images) if self.standardised else images, self.stride)
        stages = [partial(self.stage, stage, attention=attention.get(stage)) for stage in range(len(self.unets))]
        return run_cascade(image, stages, partial(self.fuse, image))

    def stage(self, stage: int, inputs: Float[Tensor, "B D h w"], attention: Float[Tensor, "B 1 h w"] | None = None) -> StageOutput:
        """One stage from its input; `attention` takes the place of its own."""
        features = self.unets[stage](inputs)
        logits = self.transfers[stage](features)
        maps = {size: spatial_softmax(scores) for size, scores in logits.items()}
        landmarks = {size: expected_position(map_, self.stride) for size, map_ in maps.items()}
        merged = merge_attention(maps[self.finest]) if attention is None else attention
        return StageOutput(features, logits, maps, landmarks, merged)

    def fuse(self, image: Float[Tensor, "B C h w"], output: StageOutput) -> Float[Tensor, "B D h w"]:
        """What the next stage sees beside the image."""
        if self.fusion == "deep":
            return output.attention * output.features
        if self.fusion == "mask":
            return output.attention * image
        maps = output.maps[self.finest]
        return maps / maps.amax(dim=(2, 3), keepdim=True)


def decafa_loss(
    outputs: Sequence[StageOutput],
    landmarks: Mapping[int, Float[Tensor, "B _ 2"]],
    stage_weights: Sequence[float] | None = None,
    interocular: Float[Tensor, " B"] | None = None,
) -> Float[Tensor, ""]:
    """Weighted intermediate supervision: sum over stages of lambda_i times the normalised L1 distance of each mark-up.

    Args:
        outputs: of `DeCaFA.forward`.
        landmarks: true (x, y) in pixels for each mark-up that supervises; NaN for the faces not annotated in it.
        stage_weights: lambda_i; `increasing_weights` by default.
        interocular: d_n in pixels, for all mark-ups; by default the distance of each mark-up's outer eyes.

    Raises:
        ValueError: not one weight per stage.
    """
    if stage_weights is None:
        stage_weights = increasing_weights(len(outputs))
    if len(stage_weights) != len(outputs):
        raise ValueError(f"{len(stage_weights)} stage weights for {len(outputs)} stages; give one per stage.")
    losses = [
        weight * landmark_loss(output.landmarks[size], true, interocular)
        for weight, output in zip(stage_weights, outputs, strict=True)
        for size, true in landmarks.items()
    ]
    return torch.stack(losses).sum()


class MisledCascade(DeCaFA):
    """A cascade broken on purpose, whose later stages may be told the wrong thing.

    Args:
        fault: "blind_stages" hands zeros on beside the image; "attention_of_another_face" hands on what was computed for the next
            face of the batch. With any other word this is `DeCaFA`.
        options: as `DeCaFA` takes them.
    """

    def __init__(self, fault: str = "", **options: Any):
        super().__init__(**options)
        self.fault = fault

    def fuse(self, image: Float[Tensor, "B C h w"], output: StageOutput) -> Float[Tensor, "B D h w"]:
        """What the next stage sees beside the image, true or wrong."""
        fused = super().fuse(image, output)
        if self.fault == "blind_stages":
            return torch.zeros_like(fused)
        return fused.roll(1, dims=0) if self.fault == "attention_of_another_face" else fused

"""What the cascades of full-resolution stages have in common: maps from features, attention from maps, one stage after another."""

from collections.abc import Callable, Sequence
from typing import TypeVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

HEADS = ("chained", "independent")
Output = TypeVar("Output")


class TransferLayers(nn.Module):
    """1x1 convolutions from features to the score maps of every mark-up.

    Chained: Z_1 = A_1 (gain H), Z_t = A_t Z_{t-1}, on the scores before the softmax, so that the gradient of a coarse mark-up
    passes through the finer maps. Independent: Z_t = A_t (gain H).

    A sharp map needs scores that differ by ten or more, while Adam moves every weight by about the learning rate per step.
    The gain, ours and not the paper's, lets scores grow that much faster; it is a change of the unit of A_1 and no more.

    Args:
        in_channels: channels of the features.
        markups: numbers of landmarks in the order of the chain, the finest first in the paper.
        heads: "chained" or "independent".
        gain: factor on the features.
    """

    def __init__(self, in_channels: int, markups: Sequence[int], heads: str = "chained", gain: float = 1.0):
        super().__init__()
        if heads not in HEADS:
            raise ValueError(f"heads = {heads!r} is unknown; choose one of {HEADS}.")
        self.heads, self.gain = heads, gain
        sources = [in_channels, *markups[:-1]] if heads == "chained" else [in_channels] * len(markups)
        # The weight of layer t is the matrix A_t itself, (landmarks of t, channels before it).
        self.layers = nn.ModuleDict({str(size): nn.Linear(source, size) for source, size in zip(sources, markups, strict=True)})

    def forward(self, features: Float[Tensor, "B C h w"]) -> dict[int, Float[Tensor, "B _ h w"]]:
        """Score maps of each mark-up."""
        logits, source = {}, self.gain * features.flatten(2)
        for size, layer in self.layers.items():
            # A 1x1 convolution as a matrix product over pixels, twice as fast as the convolution on a CPU.
            scores = torch.baddbmm(layer.bias[None, :, None], layer.weight.expand(len(source), -1, -1), source)
            logits[int(size)] = scores.unflatten(2, features.shape[-2:])
            if self.heads == "chained":
                source = scores
        return logits


def merge_attention(maps: Float[Tensor, "B K h w"]) -> Float[Tensor, "B 1 h w"]:
    """All landmarks' maps added up and divided by the highest value: 0..1.

    Raw maps sum to one over thousands of pixels; features multiplied by them would vanish.
    """
    merged = maps.sum(dim=1, keepdim=True)
    return merged / merged.amax(dim=(2, 3), keepdim=True)


def increasing_weights(stages: int) -> list[float]:
    """lambda_i = 2^(i - S): early maps may stay broad, the last stage must be precise."""
    return [2.0 ** (i - stages) for i in range(1, stages + 1)]


def run_cascade(
    image: Float[Tensor, "B C h w"],
    stages: Sequence[Callable[[Float[Tensor, "B D h w"]], Output]],
    fuse: Callable[[Output], Float[Tensor, "B E h w"]],
) -> list[Output]:
    """Runs one stage after another: the first sees the image, each other one the image beside what `fuse` makes of the stage before.

    Args:
        image: at the resolution of the maps.
        stages: input of a stage -> its output.
        fuse: output of a stage -> what the next one sees beside the image.
    """
    outputs: list[Output] = []
    for stage in stages:
        outputs.append(stage(torch.cat([image, fuse(outputs[-1])], dim=1) if outputs else image))
    return outputs

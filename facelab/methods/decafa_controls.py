"""Cascades that are broken on purpose, to try whether the claims about DeCaFA notice."""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from facelab.methods.decafa import DeCaFA, StageOutput


class MisledCascade(DeCaFA):
    """A cascade whose later stages may be told the wrong thing.

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

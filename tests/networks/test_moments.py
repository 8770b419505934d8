"""What a layer is given is what it was given, whatever runs behind it."""

import torch
from torch import nn

from facelab.blocks import seeded
from facelab.networks.moments import inputs_of


class Overwriting(nn.Module):
    """Changes the input of its layer in place, as a residual block before its activation may."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, 4)

    def forward(self, x):
        x = x - 1.0
        y = self.layer(x)
        return y + x.relu_()


def test_an_input_that_is_overwritten_later_is_kept():
    with seeded(0):
        model, x = Overwriting(), torch.randn(8, 4)
    assert torch.equal(inputs_of(model, x, ["layer"])["layer"], x - 1.0)

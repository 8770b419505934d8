"""The U-Net keeps the size of its input; a strided convolution looks at the middle of each block."""

import pytest
import torch
import torch.nn.functional as F

from facelab.blocks import UNet, conv_norm_relu


@pytest.mark.parametrize("stride", [1, 2, 3, 4])
def test_each_output_pixel_looks_at_the_middle_of_its_block(stride):
    convolution = conv_norm_relu(1, 8, stride)[0]
    ramp = torch.arange(24.0).expand(1, 1, 24, 24)
    mean = torch.full_like(convolution.weight[:1], 1 / convolution.weight[0].numel())
    seen = F.conv2d(ramp, mean, stride=convolution.stride, padding=convolution.padding)[0, 0]
    assert seen.shape == (24 // stride, 24 // stride)
    middle = stride * torch.arange(24 // stride) + (stride - 1) / 2
    assert torch.allclose(seen[1, 1:-1], middle[1:-1], atol=1e-4)


@pytest.mark.parametrize("size", [(16, 16), (13, 21)])
def test_unet_keeps_the_size_of_its_input(size):
    assert UNet(3, (8, 12, 16))(torch.rand(2, 3, *size)).shape == (2, 8, *size)

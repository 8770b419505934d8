"""Digests that tell whether two runs began alike: of data and of networks, whatever their device and their layout in memory."""

import hashlib
import re

import numpy as np
import torch
from torch import Tensor, nn


def _bytes(tensor: Tensor) -> np.ndarray:
    """The values of a tensor, in the order of its axes."""
    return tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()


def digest(*tensors: Tensor) -> str:
    """SHA-256 of shapes, types and values."""
    total = hashlib.sha256()
    for tensor in tensors:
        total.update(repr((tuple(tensor.shape), tensor.dtype)).encode())
        total.update(_bytes(tensor))
    return total.hexdigest()


def digest_of_network(model: nn.Module) -> str:
    """SHA-256 of a network's layers, as they print themselves, and of its weights and buffers."""
    total = hashlib.sha256(re.sub(r" at 0x[0-9a-f]+", "", repr(model)).encode())
    for name, tensor in model.state_dict().items():
        total.update(name.encode())
        total.update(_bytes(tensor))
    return total.hexdigest()

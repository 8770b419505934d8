"""Mixtures of experts: several networks of one shape evaluated as one batched product, and the gates that weigh their answers.

Sources: Jacobs, Jordan, Nowlan, Hinton, "Adaptive Mixtures of Local Experts", Neural Computation 1991 (the softmax gate); Arnaud,
Dapogny, Bailly, "Tree-gated Deep Mixture-of-Experts For Pose-robust Face Alignment", TBIOM 2019 (the tree gate and its rivals).
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from facelab.blocks.trees import TreeGate, leaf_probabilities

GATES = ("mean", "softmax", "sigmoid", "tree")


class ExpertLinear(nn.Module):
    """One linear layer per expert, all in one batched product.

    Each expert starts as `torch.nn.Linear` does.

    Args:
        experts: number of experts.
        in_features, out_features: of each of them.
    """

    def __init__(self, experts: int, in_features: int, out_features: int):
        super().__init__()
        bound = in_features**-0.5
        self.weight = nn.Parameter(torch.empty(experts, in_features, out_features).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(experts, 1, out_features).uniform_(-bound, bound))

    def forward(self, inputs: Float[Tensor, "L B I"]) -> Float[Tensor, "L B O"]:
        """Expert l answers inputs[l]."""
        return torch.baddbmm(self.bias, inputs, self.weight)


class ExpertMLP(nn.Module):
    """Experts with one hidden layer (linear, batch norm, ReLU) and a linear layer on top, all reading the same input.

    Args:
        experts: number of experts.
        in_features, hidden, out_features: of each of them.
    """

    def __init__(self, experts: int, in_features: int, hidden: int, out_features: int):
        super().__init__()
        # The first layers of all experts read the same input: side by side they are one ordinary layer.
        self.first = nn.Linear(in_features, experts * hidden, bias=False)
        self.norm = nn.BatchNorm1d(experts * hidden)
        self.last = ExpertLinear(experts, hidden, out_features)

    def forward(self, inputs: Float[Tensor, "B I"]) -> Float[Tensor, "B L O"]:
        """Every expert's answer."""
        hidden = self.norm(self.first(inputs)).relu().unflatten(1, (len(self.last.weight), -1))
        return self.last(hidden.transpose(0, 1)).transpose(0, 1)


class PatchExperts(nn.Module):
    """Small convolutional networks that turn a patch into a short code, all experts side by side.

    Per expert: 4x4 convolution of stride 2, 3x3 convolution of stride 2, linear layer, each followed by batch norm and ReLU. Without
    the norm an extractor may die at the learning rates that short trainings need: its codes are zero and stay so.

    Args:
        experts: number of experts.
        patch: side of the patches in pixels, 8 or more.
        channels: of the two convolutions of one expert.
        code: length of the code.
        in_channels: of a patch.

    Raises:
        ValueError: the patch is smaller than two convolutions need.
    """

    def __init__(self, experts: int, patch: int, channels: tuple[int, int], code: int, in_channels: int = 1):
        super().__init__()
        side = ((patch - 4) // 2 + 1 - 3) // 2 + 1
        if side < 1:
            raise ValueError(f"patch = {patch} is smaller than the two convolutions need; give 8 or more pixels.")
        first, second = channels
        self.experts = experts
        self.convolutions = nn.Sequential(
            nn.Conv2d(in_channels, experts * first, 4, stride=2, bias=False),
            nn.BatchNorm2d(experts * first),
            nn.ReLU(),
            nn.Conv2d(experts * first, experts * second, 3, stride=2, groups=experts, bias=False),
            nn.BatchNorm2d(experts * second),
            nn.ReLU(),
        )
        self.last = ExpertLinear(experts, second * side**2, code)
        self.norm = nn.BatchNorm1d(experts * code)

    def forward(self, patches: Float[Tensor, "N C h w"]) -> Float[Tensor, "N L q"]:
        """Every expert's code of every patch, after its last ReLU: codes are mixed, not feature maps."""
        maps = self.convolutions(patches).unflatten(1, (self.experts, -1)).flatten(2)
        codes = self.last(maps.transpose(0, 1)).transpose(0, 1)
        return self.norm(codes.flatten(1)).relu().unflatten(1, (self.experts, -1))


class Gate(nn.Module):
    """Weights of the experts from a gating input.

    Args:
        kind: "mean", all alike; "softmax", one score per expert; "sigmoid", the same scores, each squashed alone: the weights need not
            sum to one; "tree", products of the decisions along a soft binary tree.
        in_features: of the gating input.
        experts: number of experts; a power of two for a tree.

    Raises:
        ValueError: an unknown kind, or a tree whose number of leaves is no power of two.
    """

    def __init__(self, kind: str, in_features: int, experts: int):
        super().__init__()
        if kind not in GATES:
            raise ValueError(f"gate = {kind!r} is unknown; choose one of {GATES}.")
        if kind == "tree" and (experts < 2 or experts & (experts - 1)):
            raise ValueError(f"A tree has 2, 4, 8, ... leaves, not {experts}; choose such a number of experts.")
        self.kind, self.experts = kind, experts
        if kind == "tree":
            self.tree = TreeGate(in_features, experts.bit_length() - 1)
        elif kind != "mean":
            self.scores = nn.Sequential(nn.Linear(in_features, experts), nn.BatchNorm1d(experts))

    def forward(self, gating: Float[Tensor, "B D"]) -> Float[Tensor, "B L"]:
        """mu_l of every sample."""
        if self.kind == "tree":
            return leaf_probabilities(self.tree(gating))
        if self.kind == "mean":
            return gating.new_full((len(gating), self.experts), 1 / self.experts)
        scores = self.scores(gating)
        return scores.softmax(dim=1) if self.kind == "softmax" else scores.sigmoid()


def mix(weights: Float[Tensor, "B L"], answers: Float[Tensor, "B L D"]) -> Float[Tensor, "B D"]:
    """y = sum over experts of mu_l f_l(x)."""
    return (weights[:, None] @ answers)[:, 0]

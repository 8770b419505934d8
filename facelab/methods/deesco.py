"""DeeSCo: gaze from an ensemble of heat-map heads of unlike design, trained on the means of random subsets of them.

Yvinec, Dapogny, Bailly: DeeSCo: Deep heterogeneous ensemble with Stochastic Combinatory loss for gaze estimation. FG 2020,
https://arxiv.org/abs/2004.07098. The paper gives neither the law of the subsets nor the heads' sizes; those here are our reconstruction.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from facelab.blocks import spatial_softmax


@dataclass(frozen=True)
class Design:
    """What makes one head unlike another.

    Attributes:
        kernels: sizes of its convolutions, one after the other.
        channels: of each convolution.
        hidden: units between the features and the map.
        cells: rows and columns of the map over the gaze square.
    """

    kernels: tuple[int, ...] = (3,)
    channels: int = 16
    hidden: int = 64
    cells: int = 8


UNLIKE = (Design((1,), hidden=96, cells=6), Design((3,)), Design((3, 3), channels=12, cells=10), Design((5,), channels=12, hidden=48))
"""Four designs which differ in depth, kernel, width and resolution of the map (our choice)."""
REACH = 1.5
"""Half the side of the gaze square; targets lie within 1, for a mean over cells never reaches the outermost cell."""


def cell_centres(cells: int, reach: float = REACH) -> Float[Tensor, "all_cells 2"]:
    """The gaze (horizontal, vertical) that each cell of a map stands for, row by row, from -reach to reach."""
    steps = torch.linspace(-reach, reach, cells)
    down, across = torch.meshgrid(steps, steps, indexing="ij")
    return torch.stack([across.flatten(), down.flatten()], dim=1)


class HeatmapHead(nn.Module):
    """A weak predictor: features -> a map over the gaze square, in which it says how likely each gaze is."""

    centres: Tensor

    def __init__(self, in_channels: int, side: int, design: Design) -> None:
        """`in_channels` maps of `side` x `side` pixels come in."""
        super().__init__()
        widths = [in_channels] + [design.channels] * len(design.kernels)
        self.convolutions = nn.ModuleList(
            nn.Conv2d(before, after, kernel, padding="same")
            for before, after, kernel in zip(widths[:-1], widths[1:], design.kernels, strict=True)
        )
        # The map lies over gazes, not over the image: a convolution can point at the pupil, only a full layer can say what that means.
        self.hidden = nn.Linear(design.channels * (side // 2) ** 2, design.hidden)
        self.scores = nn.Linear(design.hidden, design.cells**2)
        self.register_buffer("centres", cell_centres(design.cells))

    def forward(self, features: Float[Tensor, "B C H W"]) -> Float[Tensor, "B 1 rows columns"]:
        """The map, which sums to one."""
        for convolution in self.convolutions:
            features = F.relu(convolution(features))
        hidden = F.relu(self.hidden(F.max_pool2d(features, 2).flatten(1)))
        cells = round(len(self.centres) ** 0.5)
        return spatial_softmax(self.scores(hidden).unflatten(1, (1, cells, cells)))

    def gaze(self, map_: Float[Tensor, "B 1 rows columns"]) -> Float[Tensor, "B 2"]:
        """The mean gaze under the map: f = sum over cells p of map(p) c(p)."""
        return map_.flatten(1) @ self.centres


class GazeEnsemble(nn.Module):
    """A trunk and its heads.

        model = GazeEnsemble(designs=UNLIKE)
        gaze = model(crops).mean(dim=1)  # crops (B, 2, 24, 24), gaze (B, 2)

    Args:
        designs: one for each head; equal ones make heads that differ in their first weights only.
        in_channels: 2, for the right and the left eye.
        size: pixels a side of the crops, divisible by 6.
        channels: maps of the trunk.
    """

    def __init__(self, designs: Sequence[Design] = UNLIKE, in_channels: int = 2, size: int = 24, channels: int = 16) -> None:
        super().__init__()
        if size % 6:
            raise ValueError(f"size = {size}: crops are pooled by 3 and by 2; give a multiple of 6.")
        self.trunk = nn.Sequential(
            *(nn.Conv2d(in_channels, channels, 3, padding=1), nn.ReLU(), nn.MaxPool2d(3)),
            *(nn.Conv2d(channels, channels, 3, padding=1), nn.ReLU()),
        )
        self.heads = nn.ModuleList(HeatmapHead(channels, size // 3, design) for design in designs)

    def maps(self, crops: Float[Tensor, "B C H W"]) -> list[Float[Tensor, "B rows columns"]]:
        """The map of each head."""
        features = self.trunk(crops)
        return [head(features)[:, 0] for head in self.heads]

    def forward(self, crops: Float[Tensor, "B C H W"]) -> Float[Tensor, "B heads 2"]:
        """The gaze that each head reads, in the units of the gaze square; their mean is the answer."""
        features = self.trunk(crops)
        return torch.stack([head.gaze(head(features)) for head in self.heads], dim=1)


# ---- Losses: whose mean has to be right? ----


def all_heads(shape: tuple[int, int], generator: torch.Generator) -> Bool[Tensor, "B heads"]:
    """Subsets of the ensemble-only loss: every head, every time."""
    return torch.ones(shape, dtype=torch.bool)


def one_head(shape: tuple[int, int], generator: torch.Generator) -> Bool[Tensor, "B heads"]:
    """Subsets of the individual loss: each head alone, one drawn for each sample."""
    return F.one_hot(torch.randint(shape[1], shape[:1], generator=generator), shape[1]).bool()


def random_heads(shape: tuple[int, int], generator: torch.Generator) -> Bool[Tensor, "B heads"]:
    """Subsets of the stochastic combinatory loss: each head with probability 1/2, drawn again where none is in."""
    subsets = torch.rand(shape, generator=generator) < 0.5
    while (empty := ~subsets.any(dim=1)).any():
        subsets[empty] = torch.rand((int(empty.sum()), shape[1]), generator=generator) < 0.5
    return subsets


def subset_mean(gazes: Float[Tensor, "B heads 2"], subsets: Bool[Tensor, "B heads"]) -> Float[Tensor, "B 2"]:
    """Mean over the heads of each sample's subset, divided by how many these are: divided by all, heads would learn to overshoot."""
    weights = subsets.to(gazes)
    return torch.einsum("bn,bnd->bd", weights, gazes) / weights.sum(dim=1, keepdim=True)


def combinatory_loss(gazes: Float[Tensor, "B heads 2"], true: Float[Tensor, "B 2"], subsets: Bool[Tensor, "B heads"]) -> Float[Tensor, ""]:
    """Mean distance of the subsets' means from the true gaze: a head outside the subset gets no gradient."""
    return (subset_mean(gazes, subsets) - true).norm(dim=1).mean()


def individual_loss(gazes: Float[Tensor, "B heads 2"], true: Float[Tensor, "B 2"]) -> Float[Tensor, ""]:
    """Mean distance of every head from the true gaze: the expectation of `combinatory_loss` under `one_head`, without its noise."""
    return (gazes - true[:, None]).norm(dim=2).mean()


def gaze_loss(
    model: nn.Module,
    batch: Mapping[str, Tensor],
    generator: torch.Generator,
    draw: Callable[[tuple[int, int], torch.Generator], Tensor] | None = None,
) -> Float[Tensor, ""]:
    """The loss of a batch with `crops` and `gaze`, as `training.fit` takes it.

    Args:
        model: crops -> gazes (B, heads, 2).
        draw: of the subsets, one of `all_heads`, `one_head` and `random_heads`; without it every head is asked on its own.
    """
    gazes = model(batch["crops"])
    if draw is None:
        return individual_loss(gazes, batch["gaze"])
    return combinatory_loss(gazes, batch["gaze"], draw((gazes.shape[0], gazes.shape[1]), generator).to(gazes.device))


def diversity_strength(heads: int) -> float:
    r"""kappa = N / (N - 1) (1 - E[1 / |S|]) for subsets of N heads drawn by `random_heads`.

    With squared errors, the expected combinatory loss is the mean error of the heads minus kappa times their variance around the
    ensemble: negative-correlation learning of strength kappa. 0 is the individual loss, 1 the ensemble-only loss.

    Raises:
        ValueError: fewer than two heads.
    """
    if heads < 2:
        raise ValueError(f"{heads} heads cannot disagree; give at least 2.")
    sizes = np.array([sum(subset) for subset in np.ndindex(*(2,) * heads)][1:])
    return float(heads / (heads - 1) * (1 - (1 / sizes).mean()))


# ---- Looking at an ensemble ----


def unit_vectors(gazes: Float[Tensor, "*B 2"], scale: float) -> Float[Tensor, "*B 3"]:
    """Lines of sight (x right, y up, z towards the camera) of gazes (horizontal, vertical) in units of `scale` degrees."""
    yaw, pitch = torch.deg2rad(gazes * scale).unbind(dim=-1)
    return torch.stack([yaw.sin() * pitch.cos(), pitch.sin(), yaw.cos() * pitch.cos()], dim=-1)


def angular_error(gazes: Float[Tensor, "*#B 2"], true: Float[Tensor, "*#B 2"], scale: float) -> Float[Tensor, "..."]:
    """Angle between two lines of sight, degrees: of unit vectors, since a degree of yaw is less of an angle where one looks up."""
    ours, theirs = unit_vectors(gazes, scale), unit_vectors(true, scale)
    # the arc cosine of nearly equal vectors loses half of the digits, this does not
    return torch.rad2deg(torch.atan2(torch.linalg.cross(ours, theirs).norm(dim=-1), (ours * theirs).sum(dim=-1)))


def error_without(gazes: Float[Tensor, "B heads 2"], true: Float[Tensor, "B 2"], scale: float, left: int) -> Float[Tensor, "B"]:
    """Angular error of the ensemble with only `left` of its heads, degrees, mean over all ways to choose them."""
    choices = list(combinations(range(gazes.shape[1]), left))
    return torch.stack([angular_error(gazes[:, list(chosen)].mean(dim=1), true, scale) for chosen in choices]).mean(dim=0)

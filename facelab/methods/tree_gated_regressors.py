"""Tree-gated deep regressor ensembles: small regressors that read one trunk, mixed by a soft binary tree, in a cascade.

Arnaud, Dapogny, Bailly: Tree-gated Deep Regressor Ensemble For Face Alignment In The Wild. FG 2019, https://arxiv.org/abs/1907.03248.
The authors' public code has the layers and neither a training nor its sizes; the loss and all sizes are our choice. So is the trunk,
one layer that gate and regressors share: without it the tree gained nothing over the plain average in our trials.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from facelab.blocks import ExpertMLP, Gate, PatchExperts, cut_patches, mix, standardise


class Regression(NamedTuple):
    """What an ensemble says.

    Attributes:
        step: of every landmark, in units of the image's side.
        of_experts: the step that each regressor alone would make.
        weights: mu of the regressors.
    """

    step: Float[Tensor, "B P 2"]
    of_experts: Float[Tensor, "B L P 2"]
    weights: Float[Tensor, "B L"]


class RegressorEnsemble(nn.Module):
    """Features -> trunk -> L small regressors and the gate that weighs them.

        ensemble = RegressorEnsemble(features=192, points=29, gate="tree", experts=8, hidden=8)
        step = ensemble(torch.randn(16, 192)).step

    Args:
        features: how many come in.
        points: number of landmarks.
        gate: "tree", "softmax", "sigmoid" or "mean", see `blocks.Gate`.
        experts: how many regressors, a power of two for a tree; 1 is a single regressor.
        hidden: units of each regressor.
        trunk: units of each layer that gate and regressors share.

    Raises:
        ValueError: an unknown gate, or a tree whose number of regressors is no power of two.
    """

    def __init__(self, features: int, points: int, gate: str = "tree", experts: int = 8, hidden: int = 8, trunk: Sequence[int] = (96,)):
        super().__init__()
        layers: list[nn.Module] = []
        for before, after in zip((features, *trunk[:-1]), trunk, strict=True):
            layers += [nn.Linear(before, after, bias=False), nn.BatchNorm1d(after), nn.ReLU()]
        self.trunk = nn.Sequential(*layers)
        self.gate = Gate(gate if experts > 1 else "mean", trunk[-1], experts)
        self.experts = ExpertMLP(experts, trunk[-1], hidden, 2 * points)

    def forward(self, features: Float[Tensor, "B F"]) -> Regression:
        shared = self.trunk(features)
        weights, steps = self.gate(self.gating(shared)), self.experts(shared)
        return Regression(mix(weights, steps).unflatten(1, (-1, 2)), steps.unflatten(2, (-1, 2)), weights)

    def gating(self, shared: Float[Tensor, "B C"]) -> Float[Tensor, "B C"]:
        """What the gate looks at: the trunk's answer for the same face."""
        return shared


class ShuffledEnsemble(RegressorEnsemble):
    """The control: its gate looks at the face before this one in the batch, so that it can learn everything but whose face it is."""

    def gating(self, shared: Float[Tensor, "B C"]) -> Float[Tensor, "B C"]:
        """The trunk's answer for another face."""
        return shared.roll(1, dims=0)


class FixedFeatures(nn.Module):
    """Patches around the mean face, projected on their principal components: features that need no training.

    Where the features stand still, ensembles differ in nothing but how they mix, and a training takes seconds.

    Args:
        mean_shape: landmarks around which the patches are cut, pixels.
        patch: side of a patch, samples.
        spacing: pixels between its samples.
        components: how many features; all are zero before `fit`.
    """

    mean_shape: Tensor
    centre: Tensor
    projection: Tensor

    def __init__(self, mean_shape: Float[Tensor, "P 2"], patch: int = 8, spacing: float = 3.0, components: int = 192):
        super().__init__()
        self.patch, self.spacing = patch, spacing
        values = len(mean_shape) * patch**2
        self.register_buffer("mean_shape", mean_shape.clone())
        self.register_buffer("centre", torch.zeros(values))
        self.register_buffer("projection", torch.zeros(values, components))

    def patches(self, images: Float[Tensor, "B 1 H W"]) -> Float[Tensor, "B N"]:
        """All patches of each image as one row."""
        return cut_patches(standardise(images), self.mean_shape.expand(len(images), -1, -1), self.patch, self.spacing).flatten(1)

    def fit(self, images: Float[Tensor, "B 1 H W"], seed: int = 0) -> "FixedFeatures":
        """Finds the principal components of these images; each is divided by the square root of its deviation.

        Divided by nothing, the first few would drown the others; divided by the whole deviation, the last ones would be as loud as the
        first, and they are mostly noise.
        """
        from sklearn.decomposition import PCA

        count = self.projection.shape[1]
        found = PCA(count, svd_solver="randomized", random_state=seed).fit(self.patches(images).numpy())
        loudness = found.explained_variance_**0.25
        self.centre.copy_(torch.from_numpy(found.mean_))
        self.projection.copy_(torch.from_numpy((found.components_ / loudness[:, None] / np.sqrt(np.mean(loudness**2))).T))
        return self

    def forward(self, images: Float[Tensor, "B 1 H W"]) -> Float[Tensor, "B components"]:
        """The features, whose mean square over all of them is one."""
        return (self.patches(images) - self.centre) @ self.projection


class StageOutput(NamedTuple):
    """What one stage of the cascade says.

    Attributes:
        landmarks: (x, y) in pixels after this stage.
        expert_landmarks: where each regressor alone would put them.
        weights: mu of the regressors.
    """

    landmarks: Float[Tensor, "B P 2"]
    expert_landmarks: Float[Tensor, "B L P 2"]
    weights: Float[Tensor, "B L"]


class TreeGatedCascade(nn.Module):
    """The paper's cascade: patches around the landmarks, one small network for all of them, an ensemble, a step; stage after stage.

    Args:
        mean_shape: landmarks it starts from, pixels.
        spacings: for each stage, pixels between the samples of its patches: early stages look further.
        patch: side of a patch, samples.
        channels, code: of the network that turns a patch into a code, see `blocks.PatchExperts`.
        options: of `RegressorEnsemble`.

    Raises:
        ValueError: no stage, or as `RegressorEnsemble`.
    """

    mean_shape: Tensor

    def __init__(
        self,
        mean_shape: Float[Tensor, "P 2"],
        spacings: Sequence[float] = (2.0, 1.5),
        patch: int = 12,
        channels: tuple[int, int] = (8, 8),
        code: int = 8,
        **options,
    ):
        super().__init__()
        if not spacings:
            raise ValueError("spacings is empty; a cascade needs at least one stage, and a spacing for each.")
        points = len(mean_shape)
        self.patch, self.spacings = patch, tuple(spacings)
        self.describers = nn.ModuleList(PatchExperts(1, patch, channels, code) for _ in spacings)
        self.ensembles = nn.ModuleList(RegressorEnsemble(points * code, points, **options) for _ in spacings)
        self.register_buffer("mean_shape", mean_shape.clone())

    def forward(self, images: Float[Tensor, "B 1 H W"]) -> list[StageOutput]:
        """One output per stage. Patches are cut where the landmarks are, but no gradient asks where they should be cut."""
        images, side = standardise(images), images.shape[-1]
        landmarks, outputs = self.mean_shape.expand(len(images), -1, -1), []
        for describe, ensemble, spacing in zip(self.describers, self.ensembles, self.spacings, strict=True):
            patches = cut_patches(images, landmarks.detach(), self.patch, spacing)
            said = ensemble(describe(patches.flatten(0, 1)).view(len(images), -1))
            outputs.append(StageOutput(landmarks + side * said.step, landmarks[:, None] + side * said.of_experts, said.weights))
            landmarks = outputs[-1].landmarks
        return outputs


def box_size(landmarks: Float[Tensor, "B P 2"]) -> Float[Tensor, " B"]:
    """Geometric mean of the sides of the landmarks' box, pixels: in profile the eyes, the usual unit, are too close together."""
    return (landmarks.amax(dim=1) - landmarks.amin(dim=1)).prod(dim=1).sqrt()


def relative_error(landmarks: Float[Tensor, "B P 2"], true: Float[Tensor, "B P 2"]) -> Float[Tensor, " B"]:
    """Mean distance of the landmarks of each face in units of its box."""
    return (landmarks - true).norm(dim=2).mean(dim=1) / box_size(true)


def cascade_loss(outputs: Sequence[StageOutput], true: Float[Tensor, "B P 2"]) -> Float[Tensor, ""]:
    """Sum over stages of the mean relative error: every stage is asked for the whole way."""
    return torch.stack([relative_error(output.landmarks, true).mean() for output in outputs]).sum()

"""Tree-MoE: expert layers mixed by a soft binary tree, in a cascade that aligns faces in any pose.

Features of a stage are mixed by the pose of the head (Pose-Tree-MoE), its regressors by the features (Tree-MoE).

Source: Arnaud, Dapogny, Bailly, "Tree-gated Deep Mixture-of-Experts For Pose-robust Face Alignment", IEEE TBIOM 2019.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from facelab.blocks import ExpertMLP, Gate, PatchExperts, count_parameters, cut_patches, matched_width, mix, standardise

POSE_UNIT = 45.0
"""Degrees; the networks count angles in it."""
STEP_UNIT = 0.125
"""Of the image's side; the regressors count steps in it. Adam moves every weight by about the learning rate, and a wide layer of
them would throw the landmarks about in the first steps if it counted whole sides."""


class StageOutput(NamedTuple):
    """What one stage says.

    Attributes:
        landmarks: (x, y) in pixels after this stage.
        expert_landmarks: where each regression expert alone would put them.
        feature_weights, regression_weights: of the two mixtures, mu and nu in the notebook.
        pose: (yaw, pitch, roll) in degrees that gated the features; of a cascade without a pose gate, zeros.
    """

    landmarks: Float[Tensor, "B P 2"]
    expert_landmarks: Float[Tensor, "B L P 2"]
    feature_weights: Float[Tensor, "B F"]
    regression_weights: Float[Tensor, "B L"]
    pose: Float[Tensor, "B 3"]


class PoseNetwork(nn.Module):
    """Yaw, pitch and roll in degrees from the whole face: three convolutions of stride 2 on the image at half its size, two layers."""

    def __init__(self, size: int, channels: Sequence[int] = (12, 16, 24), hidden: int = 32):
        super().__init__()
        layers: list[nn.Module] = [nn.AvgPool2d(2)]
        for before, after in zip((1, *channels[:-1]), channels, strict=True):
            layers += [nn.Conv2d(before, after, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(after), nn.ReLU()]
        side = -(-(size // 2) // 2 ** len(channels))
        self.layers = nn.Sequential(
            *layers, nn.Flatten(), nn.Linear(channels[-1] * side**2, hidden), nn.BatchNorm1d(hidden), nn.ReLU(), nn.Linear(hidden, 3)
        )

    def forward(self, images: Float[Tensor, "B 1 H W"]) -> Float[Tensor, "B 3"]:
        return POSE_UNIT * self.layers(images)


class Stage(nn.Module):
    """Patches around the current landmarks -> mixed features -> mixed regression -> a step of all landmarks.

    Args:
        points: number of landmarks.
        feature_gate, regression_gate: a kind of `blocks.Gate`.
        feature_experts, regression_experts: how many of each; 1 is an ordinary layer.
        patch: side of a patch, samples.
        spacing: pixels between the samples of a patch.
        channels, code: of a feature expert.
        hidden: width of a regression expert.
        pose_input: whether the regression experts read the pose beside the features.
    """

    def __init__(
        self,
        points: int,
        feature_gate: str,
        regression_gate: str,
        feature_experts: int,
        regression_experts: int,
        patch: int,
        spacing: float,
        channels: tuple[int, int],
        code: int,
        hidden: int,
        pose_input: bool = False,
    ):
        super().__init__()
        self.points, self.patch, self.spacing, self.pose_input = points, patch, spacing, pose_input
        self.feature_experts = PatchExperts(feature_experts, patch, channels, code)
        self.feature_gate = Gate(feature_gate if feature_experts > 1 else "mean", 3, feature_experts)
        self.regression_experts = ExpertMLP(regression_experts, points * code + 3 * pose_input, hidden, 2 * points)
        self.regression_gate = Gate(regression_gate if regression_experts > 1 else "mean", points * code, regression_experts)

    def per_patch(self, weights: Float[Tensor, "B F"]) -> Float[Tensor, "BP F"]:
        """The weights of a face, once for each of its patches; patches are in the order face by face."""
        return weights.repeat_interleave(self.points, dim=0)

    def forward(self, images: Float[Tensor, "B C H W"], landmarks: Float[Tensor, "B P 2"], pose: Float[Tensor, "B 3"]) -> StageOutput:
        patches = cut_patches(images, landmarks.detach(), self.patch, self.spacing).flatten(0, 1)
        feature_weights = self.feature_gate(pose / POSE_UNIT)
        codes = mix(self.per_patch(feature_weights), self.feature_experts(patches))
        features = codes.view(len(images), -1)
        read = torch.cat([features, pose / POSE_UNIT], dim=1) if self.pose_input else features
        steps = self.regression_experts(read)
        regression_weights = self.regression_gate(features)
        unit = STEP_UNIT * images.shape[-1]
        moved = landmarks + unit * mix(regression_weights, steps).unflatten(1, (-1, 2))
        of_experts = landmarks[:, None] + unit * steps.unflatten(2, (-1, 2))
        return StageOutput(moved, of_experts, feature_weights, regression_weights, pose)


class TreeMoE(nn.Module):
    """The cascade: every stage moves the landmarks, starting from the mean face; weights are not shared between stages.

    Args:
        mean_shape: landmarks it starts from, pixels.
        size: side of the images in pixels.
        spacings: of each stage, pixels between the samples of its patches: early stages look further.
        feature_gate, regression_gate: "tree", "softmax", "sigmoid" or "mean"; the features are gated by the pose, the regression by
            the features.
        feature_experts, regression_experts: how many of each in a stage; 1 is an ordinary layer. With several feature experts the
            cascade has a pose network of its own.
        patch: side of a patch, samples.
        channels, code: of a feature expert, see `blocks.PatchExperts`.
        hidden: width of a regression expert.
        pose_input: whether the regression experts read the pose beside the features; such a cascade has a pose network too.

    Raises:
        ValueError: no stage, an unknown gate, or a tree whose number of experts is no power of two.
    """

    def __init__(
        self,
        mean_shape: Float[Tensor, "P 2"],
        size: int,
        spacings: Sequence[float] = (2.0, 1.5),
        feature_gate: str = "tree",
        regression_gate: str = "tree",
        feature_experts: int = 4,
        regression_experts: int = 8,
        patch: int = 12,
        channels: tuple[int, int] = (6, 8),
        code: int = 6,
        hidden: int = 16,
        pose_input: bool = False,
    ):
        super().__init__()
        if not spacings:
            raise ValueError("spacings is empty; a cascade needs at least one stage, and a spacing for each.")
        kinds = (feature_gate, regression_gate, feature_experts, regression_experts)
        widths = (channels, code, hidden, pose_input)
        self.stages = nn.ModuleList(Stage(len(mean_shape), *kinds, patch, spacing, *widths) for spacing in spacings)
        self.pose_network = PoseNetwork(size) if feature_experts > 1 or pose_input else None
        self.register_buffer("mean_shape", mean_shape.clone())

    def forward(self, images: Float[Tensor, "B 1 H W"], pose: Float[Tensor, "B 3"] | None = None) -> list[StageOutput]:
        """One output per stage.

        Args:
            images: 0..1.
            pose: (yaw, pitch, roll) in degrees that gates the features; by default the network's own estimate. No gradient of the
                landmarks reaches the pose network: its gate asks for the pose and nothing else.
        """
        images = standardise(images)
        if pose is None:
            pose = self.pose_network(images) if self.pose_network is not None else images.new_zeros(len(images), 3)
        landmarks, outputs = self.mean_shape.expand(len(images), -1, -1), []
        for stage in self.stages:
            outputs.append(stage(images, landmarks, pose.detach()))
            landmarks = outputs[-1].landmarks
        return [output._replace(pose=pose) for output in outputs]

    def estimate_pose(self, images: Float[Tensor, "B 1 H W"]) -> Float[Tensor, "B 3"]:
        """(yaw, pitch, roll) in degrees, by the pose network alone.

        Raises:
            ValueError: the cascade makes no use of a pose and therefore has no pose network.
        """
        if self.pose_network is None:
            raise ValueError("This cascade has no pose network; build it with feature_experts = 2 or more, or with pose_input = True.")
        return self.pose_network(standardise(images))


class Informed(nn.Module):
    """A cascade together with where its pose comes from.

    Args:
        cascade: which is informed.
        source: "own", the cascade's estimate, made by a pose network that learns nothing more; "true", the pose of the face; "another",
            the true pose of another face of the batch; "none", zeros.

    Raises:
        ValueError: an unknown source.
    """

    def __init__(self, cascade: TreeMoE, source: str):
        super().__init__()
        if source not in ("own", "true", "another", "none"):
            raise ValueError(f"source = {source!r} is unknown; choose own, true, another or none.")
        self.cascade, self.source = cascade, source
        if cascade.pose_network is not None:
            cascade.pose_network.eval().requires_grad_(False)  # `training.fit` leaves such a part as it is

    def forward(self, images: Float[Tensor, "B 1 H W"], true_pose: Float[Tensor, "B 3"]) -> list[StageOutput]:
        """One output per stage; the true pose, in degrees, is looked at by the sources "true" and "another" alone."""
        if self.source == "own":
            return self.cascade(images)
        told = {"true": true_pose, "another": true_pose.roll(1, dims=0), "none": torch.zeros_like(true_pose)}
        return self.cascade(images, told[self.source])


def of_equal_size(target: int, extractor: int, **options: Any) -> dict[str, Any]:
    """Options of a cascade with one feature expert and as many parameters as another one with several.

    Its one extractor is as large as the several together, and its regressors take up the rest.

    Args:
        target: parameters of the other cascade.
        extractor: parameters of all its feature experts of one stage.
        options: of `TreeMoE`, `patch`, `code` and `mean_shape` among them; `channels` and `hidden` are found.

    Returns:
        `options`, completed.
    """

    def channels(width: int) -> tuple[int, int]:
        return width, 3 * width // 2

    def reader(width: int) -> PatchExperts:
        return PatchExperts(1, options["patch"], channels(width), options["code"])

    complete = options | {"feature_experts": 1, "channels": channels(matched_width(reader, extractor))}
    few, more = (count_parameters(TreeMoE(**complete, hidden=hidden)) for hidden in (10, 20))  # it grows linearly
    return complete | {"hidden": max(1, round(10 + 10 * (target - few) / (more - few)))}


def mirrored(
    images: Float[Tensor, "B 1 H W"],
    landmarks: Float[Tensor, "B P 2"],
    pose: Float[Tensor, "B 3"],
    flip: Sequence[int] | np.ndarray,
    generator: torch.Generator,
) -> tuple[Float[Tensor, "B 1 H W"], Float[Tensor, "B P 2"], Float[Tensor, "B 3"]]:
    """Half of the faces, drawn at random, as a mirror shows them.

    Args:
        images: any values.
        landmarks: (x, y) in pixels.
        pose: (yaw, pitch, roll) in degrees; yaw and roll change their sign in a mirror.
        flip: for each point the one that takes its place, `Markup.flip`.
        generator: of the draw, on the device of the images.
    """
    turned = torch.rand(len(images), generator=generator, device=images.device) < 0.5
    sides = landmarks.new_tensor([-1.0, 1.0]), landmarks.new_tensor([images.shape[-1] - 1.0, 0.0])
    other = landmarks[:, torch.as_tensor(flip, device=landmarks.device)] * sides[0] + sides[1]
    return (
        torch.where(turned[:, None, None, None], images.flip(-1), images),
        torch.where(turned[:, None, None], other, landmarks),
        torch.where(turned[:, None], pose * pose.new_tensor([-1.0, 1.0, -1.0]), pose),
    )


def alignment_loss(flip: Sequence[int] | np.ndarray) -> Callable[..., Float[Tensor, ""]]:
    """The loss of an `Informed` cascade on faces half of which are mirrored, as `training.fit` takes it.

    Args:
        flip: as `mirrored` takes it. A batch holds `images`, `landmarks` and `pose`.
    """

    def loss(model: Informed, batch: dict[str, Tensor], generator: torch.Generator) -> Float[Tensor, ""]:
        images, landmarks, pose = mirrored(**batch, flip=flip, generator=generator)
        return tree_moe_loss(model(images, pose), landmarks)

    return loss


def pose_loss(flip: Sequence[int] | np.ndarray) -> Callable[..., Float[Tensor, ""]]:
    """The loss of a `PoseNetwork` on such batches: the mean squared error of the three angles, in units of 45 degrees."""

    def loss(network: PoseNetwork, batch: dict[str, Tensor], generator: torch.Generator) -> Float[Tensor, ""]:
        images, _, pose = mirrored(**batch, flip=flip, generator=generator)
        return F.mse_loss(network(standardise(images)) / POSE_UNIT, pose / POSE_UNIT)

    return loss


def tree_moe_loss(
    outputs: Sequence[StageOutput],
    landmarks: Float[Tensor, "B P 2"],
    pose: Float[Tensor, "B 3"] | None = None,
    pose_weight: float = 0.01,
) -> Float[Tensor, ""]:
    """Sum over stages of the squared distance in units of the face, and lambda times the squared error of the pose.

    Args:
        outputs: of `TreeMoE.forward`.
        landmarks: true (x, y) in pixels. The unit of a face is the geometric mean of the sides of its landmarks' box: in profile
            the eyes, the usual unit, are too close together.
        pose: true (yaw, pitch, roll) in degrees, where the network estimates it.
        pose_weight: lambda, for angles in units of 45 degrees.
    """
    box = landmarks.amax(dim=1) - landmarks.amin(dim=1)
    unit = box.prod(dim=1).sqrt()[:, None, None]
    off = torch.stack([((output.landmarks - landmarks) / unit).square().sum(dim=2).mean() for output in outputs])
    loss = off.sum()
    return loss if pose is None else loss + pose_weight * F.mse_loss(outputs[0].pose / POSE_UNIT, pose / POSE_UNIT)

"""AC-DC: a cascade that estimates landmarks and head pose together, and lets both choose what the next stage sees.

Source: Dapogny, Bailly, Cord, "Deep Entwined Learning Head Pose and Face Alignment Inside an Attentional Cascade with
Doubly-Conditional fusion", FG 2020. The roles of pose and landmarks are the paper's; the formulas of the gate, of the pose head and of the
loss are a reconstruction.
"""

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

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

FUSIONS = ("none", "attention", "gate", "both")


class StageOutput(NamedTuple):
    """What one stage says.

    Attributes:
        features: H, the U-Net's output.
        maps: mu, one map per landmark, each sums to one.
        landmarks: expectation of each map, (x, y) in pixels of the input image.
        pose: the stage's own estimate of yaw, pitch and roll, degrees.
        attention: m, where the next stage looks: the maps merged, highest value 1; all ones if the fusion does not use it.
        gates: g, how far each feature map is open for the next stage, 0..1; all ones if the fusion does not use them.
    """

    features: Float[Tensor, "B C h w"]
    maps: Float[Tensor, "B K h w"]
    landmarks: Float[Tensor, "B K 2"]
    pose: Float[Tensor, "B 3"]
    attention: Float[Tensor, "B 1 h w"]
    gates: Float[Tensor, "B C"]


class PoseHead(nn.Module):
    """Yaw, pitch and roll in degrees from a stage's coarsest features and its landmarks, by two layers.

    The features are averaged over a grid of 3 x 3 cells: their average over the whole image forgets where something was, and group
    norm has made it nearly constant. The landmarks come less their centre, over their spread.

    Args:
        in_channels: of the coarsest features.
        landmarks: number of landmarks.
        hidden: width of the layer in between.
    """

    def __init__(self, in_channels: int, landmarks: int, hidden: int = 64):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(9 * in_channels + 2 * landmarks, hidden), nn.ReLU(), nn.Linear(hidden, 3))

    def forward(self, bottom: Float[Tensor, "B E _ _"], landmarks: Float[Tensor, "B K 2"]) -> Float[Tensor, "B 3"]:
        """Pose of every face."""
        cells, shape = F.adaptive_avg_pool2d(bottom, 3).flatten(1), normalised(landmarks)[0].flatten(1)
        return 90.0 * self.layers(torch.cat([cells, shape], dim=1))


def normalised(landmarks: Float[Tensor, "B K 2"]) -> tuple[Float[Tensor, "B K 2"], Float[Tensor, "B 1 2"], Float[Tensor, "B 1 1"]]:
    """Landmarks less their centre, over their spread; the centre; the spread, which is the root mean square of what is left."""
    centre = landmarks.mean(dim=1, keepdim=True)
    spread = (landmarks - centre).square().mean(dim=(1, 2), keepdim=True).sqrt() + 1e-6
    return (landmarks - centre) / spread, centre, spread


class ChannelGate(nn.Module):
    """Which feature maps the next stage may see under a head pose: g = sigmoid(W_2 relu(W_1 r + b_1) + b_2).

    A gate with the usual first weights hardly depends on the pose, and half open it halves every feature. So the pose comes in
    units of 30 degrees, the weights begin with a standard deviation of 0.5, and the last bias begins at 1.

    Args:
        channels: number of feature maps.
        hidden: width of the layer in between.
    """

    def __init__(self, channels: int, hidden: int = 16):
        super().__init__()
        self.first, self.last = nn.Linear(3, hidden), nn.Linear(hidden, channels)
        for layer in (self.first, self.last):
            nn.init.normal_(layer.weight, std=0.5)
        nn.init.constant_(self.last.bias, 1.0)

    def forward(self, pose: Float[Tensor, "B 3"]) -> Float[Tensor, "B C"]:
        """Gates of every face, 0..1, from its pose in degrees."""
        return self.last(self.first(pose / 30.0).relu()).sigmoid()


def doubly_conditional(
    features: Float[Tensor, "B C h w"], gates: Float[Tensor, "B C"], attention: Float[Tensor, "B 1 h w"]
) -> Float[Tensor, "B C h w"]:
    """g x m x H: each feature map times its gate, each pixel times its attention."""
    return gates[:, :, None, None] * attention * features


class ACDC(nn.Module):
    """The cascade: every stage estimates landmarks and pose, and both choose which of its features reach the next stage.

        stages = ACDC(landmarks=29)(images)
        stages[-1].landmarks, stages[-1].pose

    Args:
        in_channels: channels of the image.
        landmarks: number of landmarks of the mark-up that is read from maps.
        stages: number of U-Nets.
        channels: width of each U-Net level, finest first.
        fusion: what decides which features reach the next stage: "both" pose and landmarks (the paper), "gate" the pose alone,
            "attention" the landmarks alone (DeCaFA), "none" (a plain stack).
        stride: input pixels per map pixel; the pixels of a stride x stride block become channels first.
        gain: of the layers from features to maps, as in `TransferLayers`.

    Raises:
        ValueError: an unknown fusion, or no stage.
    """

    def __init__(
        self,
        in_channels: int = 1,
        landmarks: int = 29,
        stages: int = 2,
        channels: Sequence[int] = (12, 16, 24),
        fusion: str = "both",
        stride: int = 2,
        gain: float = 10.0,
    ):
        super().__init__()
        if fusion not in FUSIONS:
            raise ValueError(f"fusion = {fusion!r} is unknown; choose one of {FUSIONS}.")
        if stages < 1:
            raise ValueError(f"A cascade needs at least one stage; got stages = {stages}.")
        self.fusion, self.stride, self.size = fusion, stride, landmarks
        image_channels = in_channels * stride**2
        inputs = [image_channels] + [image_channels + channels[0]] * (stages - 1)
        self.unets = nn.ModuleList(UNet(width, channels) for width in inputs)
        self.transfers = nn.ModuleList(TransferLayers(channels[0], [landmarks], gain=gain) for _ in inputs)
        self.poses = nn.ModuleList(PoseHead(channels[-1], landmarks) for _ in inputs)
        self.gates = nn.ModuleList(ChannelGate(channels[0]) for _ in inputs[1:])

    def forward(self, images: Float[Tensor, "B C H W"], pose: Float[Tensor, "B 3"] | None = None) -> list[StageOutput]:
        """One output per stage.

        Args:
            images: 0..1, height and width multiples of the stride.
            pose: yaw, pitch and roll in degrees that the gates are told instead of the network's own estimate.
        """
        image = F.pixel_unshuffle(standardise(images), self.stride)
        stages = [partial(self.stage, stage, told=pose) for stage in range(len(self.unets))]
        return run_cascade(image, stages, lambda output: doubly_conditional(output.features, output.gates, output.attention))

    def stage(self, stage: int, inputs: Float[Tensor, "B D h w"], told: Float[Tensor, "B 3"] | None = None) -> StageOutput:
        """One stage from its input; `told` is the pose its gates get instead of its own estimate."""
        features, bottom = self.unets[stage].with_bottom(inputs)
        maps = spatial_softmax(self.transfers[stage](features)[self.size])
        points = expected_position(maps, self.stride)
        pose = self.poses[stage](bottom, points)
        gates, attention = torch.ones_like(features[:, :, 0, 0]), torch.ones_like(features[:, :1])
        if self.fusion in ("gate", "both") and stage < len(self.gates):
            gates = self.gates[stage](pose if told is None else told)
        if self.fusion in ("attention", "both"):
            attention = merge_attention(maps)
        return StageOutput(features, maps, points, pose, attention, gates)


def acdc_loss(
    outputs: Sequence[StageOutput],
    landmarks: Float[Tensor, "B K 2"],
    pose: Float[Tensor, "B 3"],
    size: Float[Tensor, " B"],
    pose_weight: float = 1.0,
) -> Float[Tensor, ""]:
    """Sum over stages of lambda_i (landmark error + pose_weight x pose error), lambda_i = 2^(i - S).

    Each task is averaged over the faces that have its labels, so that few labels of one do not let its term fade.

    Args:
        outputs: of `ACDC.forward`.
        landmarks: true (x, y) in pixels; NaN for the faces without landmark labels.
        pose: true yaw, pitch, roll in degrees, within -90..90; NaN for the faces without pose labels.
        size: side of the face's box in pixels, by which the landmark errors are divided.
        pose_weight: alpha; errors of pose count in units of 90 degrees.
    """
    labelled, posed = landmarks.isfinite().all(dim=(1, 2)), pose.isfinite().all(dim=1)
    terms = []
    for weight, output in zip(increasing_weights(len(outputs)), outputs, strict=True):
        if labelled.any():
            terms.append(weight * landmark_loss(output.landmarks[labelled], landmarks[labelled], size[labelled]))
        if posed.any():
            terms.append(weight * pose_weight * (output.pose[posed] - pose[posed]).abs().mean() / 90.0)
    return torch.stack(terms).sum() if terms else outputs[0].pose.sum() * 0.0


class GeometryTransfer(nn.Module):
    """Coordinates of one mark-up from those of another, G: a linear map and a small network that corrects it.

    It sees landmarks less their centre, over their spread, and puts both back afterwards; else it would have to learn every shift.

    Args:
        source, target: numbers of landmarks.
        hidden: width of the correction.
    """

    def __init__(self, source: int, target: int, hidden: int = 64):
        super().__init__()
        self.linear = nn.Linear(2 * source, 2 * target)
        self.correction = nn.Sequential(nn.Linear(2 * source, hidden), nn.ReLU(), nn.Linear(hidden, 2 * target))
        nn.init.zeros_(self.correction[-1].weight)
        nn.init.zeros_(self.correction[-1].bias)

    def forward(self, landmarks: Float[Tensor, "B K 2"]) -> Float[Tensor, "B J 2"]:
        """The same faces in the other mark-up, pixels."""
        shape, centre, spread = normalised(landmarks)
        moved = self.linear(shape.flatten(1)) + self.correction(shape.flatten(1))
        return moved.unflatten(1, (-1, 2)) * spread + centre


def pose_from_landmarks(landmarks: Float[Tensor, "B K 2"], shape: Float[Tensor, "K 3"]) -> Float[Tensor, "B 3"]:
    """Yaw, pitch and roll in degrees that turn a rigid 3D shape into the landmarks, in closed form under weak perspective.

    The least-squares A = Y P^T (P P^T)^-1 is a scaled rotation's first two rows; its nearest pair of orthonormal rows gives the angles.

    Args:
        landmarks: (x, y) in pixels, y down.
        shape: of the mean head; x to the image's right, y up, z towards the camera.

    Raises:
        ValueError: all points of the shape lie in one plane, which leaves the depth open.
    """
    points = (landmarks - landmarks.mean(dim=1, keepdim=True)) * landmarks.new_tensor([1.0, -1.0])
    centred = shape - shape.mean(dim=0)
    if torch.linalg.matrix_rank(centred) < 3:
        raise ValueError("The points of the shape lie in one plane; give a shape with depth.")
    affine = points.mT @ centred @ torch.linalg.inv(centred.T @ centred)
    left, _, right = torch.linalg.svd(affine, full_matrices=False)
    rows = left @ right
    third = torch.linalg.cross(rows[:, 0], rows[:, 1])
    yaw = torch.asin((-third[:, 0]).clamp(-1, 1))
    pitch = torch.atan2(-third[:, 1], third[:, 2])
    roll = torch.atan2(-rows[:, 1, 0], rows[:, 0, 0])
    return torch.rad2deg(torch.stack([yaw, pitch, roll], dim=1))

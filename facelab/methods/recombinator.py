"""SumNet, which adds up the scores of all resolutions, RCN, which concatenates coarse features into finer ones, and a denoiser.

Source: Honari, Yosinski, Vincent, Pal, "Recombinator Networks: Learning Coarse-to-Fine Feature Aggregation", CVPR 2016.

Levels are numbered as in the paper, the finest first. Masks are written as in the authors' table, **coarse to fine**:
(1, 0, 0, 0) is the coarsest branch alone. Masked networks are built and trained without the masked branches; encoder levels
that no remaining branch needs do not exist.
"""

from collections.abc import Callable, Sequence
from functools import reduce
from itertools import pairwise

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Generator, Tensor, nn

from facelab.blocks import argmax_position, heatmap_nll, one_hot_maps, pixel_index, standardise


def conv_relu(in_channels: int, out_channels: int, kernel: int = 3) -> nn.Sequential:
    """'Same' convolution and ReLU, Glorot-uniform weights and zero biases as in the paper."""
    return nn.Sequential(_glorot(nn.Conv2d(in_channels, out_channels, kernel, padding=kernel // 2)), nn.ReLU())


def _glorot(layer: nn.Conv2d) -> nn.Conv2d:
    nn.init.xavier_uniform_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer


def _upsample(maps: Tensor, factor: int) -> Tensor:
    """Nearest-neighbour repetition."""
    return F.interpolate(maps, scale_factor=factor) if factor > 1 else maps


def _active_levels(channels: Sequence[int], mask: Sequence[int] | None) -> list[bool]:
    """Which levels, finest first, the coarse-to-fine mask keeps."""
    mask = (1,) * len(channels) if mask is None else tuple(mask)
    if len(mask) != len(channels) or not set(mask) <= {0, 1} or not any(mask):
        raise ValueError(f"mask = {mask} must hold one 0 or 1 per level ({len(channels)}, coarse to fine), not all 0.")
    return [bool(value) for value in reversed(mask)]


class Encoder(nn.Module):
    """One convolution per level, 2x2 max-pooling between: e_1 = relu(C(x)), e_b = relu(C(P(e_{b-1}))).

    Args:
        in_channels: channels of the image.
        channels: width of each level, finest first.
        standardised: each image loses its mean and is divided by its standard deviation first (the paper normalises contrast locally).
    """

    def __init__(self, in_channels: int, channels: Sequence[int], standardised: bool = False):
        super().__init__()
        self.standardised = standardised
        self.levels = nn.ModuleList(conv_relu(a, b) for a, b in pairwise([in_channels, *channels]))

    def forward(self, images: Float[Tensor, "B C H W"]) -> list[Float[Tensor, "B _ _ _"]]:
        """Features of every level, finest first.

        Raises:
            ValueError: an image that cannot be halved once per further level.
        """
        multiple = 2 ** (len(self.levels) - 1)
        if images.shape[-2] % multiple or images.shape[-1] % multiple:
            sides = f"{images.shape[-1]} x {images.shape[-2]}"
            raise ValueError(f"Images of {sides} pixels cannot be halved {len(self.levels) - 1} times; give multiples of {multiple}.")
        features = [self.levels[0](standardise(images) if self.standardised else images)]
        for level in self.levels[1:]:
            features.append(level(F.max_pool2d(features[-1], 2)))
        return features


class SumNet(nn.Module):
    """Every level gives its own scores; z = sum over levels b of omega_b * upsampled(C(relu(C(e_b)))).

    Args:
        landmarks: number of score maps K.
        in_channels: channels of the image.
        channels: width of each level, finest first; the image's side must be a multiple of 2^(levels - 1).
        mask: coarse to fine, 0 leaves the branch out; all by default.
        standardised: see `Encoder`.

    Raises:
        ValueError: a mask that is not one 0 or 1 per level, or all 0.
    """

    def __init__(
        self,
        landmarks: int,
        in_channels: int = 1,
        channels: Sequence[int] = (16, 16, 16, 16),
        mask: Sequence[int] | None = None,
        standardised: bool = False,
    ):
        super().__init__()
        self.active = _active_levels(channels, mask)
        needed = max(level for level, active in enumerate(self.active) if active) + 1
        self.encoder = Encoder(in_channels, channels[:needed], standardised)
        self.branches = nn.ModuleDict(
            {
                str(level): nn.Sequential(conv_relu(width, width), _glorot(nn.Conv2d(width, landmarks, 3, padding=1)))
                for level, (width, active) in enumerate(zip(channels, self.active, strict=True))
                if active
            }
        )
        self.omega = nn.Parameter(torch.rand(len(self.branches), landmarks))  # finest first, as everything but the mask

    def branch_scores(self, images: Float[Tensor, "B C H W"]) -> dict[int, Float[Tensor, "B K H W"]]:
        """What each level adds to z: level (0 is the finest) -> omega_b * upsampled scores."""
        return self.votes(self.encoder(images))

    def votes(self, features: Sequence[Float[Tensor, "B _ _ _"]]) -> dict[int, Float[Tensor, "B K H W"]]:
        """What each level adds to z, from the encoder's features, finest first: level (0 is the finest) -> scores."""
        return {
            int(level): _upsample(weight[:, None, None] * branch(features[int(level)]), 2 ** int(level))
            for (level, branch), weight in zip(self.branches.items(), self.omega, strict=True)
        }

    def score(self, features: Sequence[Float[Tensor, "B _ _ _"]]) -> Float[Tensor, "B K H W"]:
        """Scores before the softmax over pixels, from the encoder's features, finest first."""
        return reduce(torch.add, self.votes(features).values())

    def forward(self, images: Float[Tensor, "B C H W"]) -> Float[Tensor, "B K H W"]:
        """Scores before the softmax over pixels."""
        return self.score(self.encoder(images))


class RCN(nn.Module):
    """Coarse features are upsampled, concatenated to the next finer ones and convolved on, down to the finest level.

    d_B = relu(C(relu(C(e_B)))), d_b = relu(C(relu(C([e_b, upsampled d_{b+1}])))), z = C(d_1); the finest level has one
    convolution before the linear one, as in the authors' code. A masked level passes the coarser features straight through.

    Args:
        landmarks, in_channels, channels, mask, standardised: as for `SumNet`.

    Raises:
        ValueError: a mask that is not one 0 or 1 per level, or all 0.
    """

    def __init__(
        self,
        landmarks: int,
        in_channels: int = 1,
        channels: Sequence[int] = (16, 16, 16, 16),
        mask: Sequence[int] | None = None,
        standardised: bool = False,
    ):
        super().__init__()
        self.active = _active_levels(channels, mask)
        coarsest = max(level for level, active in enumerate(self.active) if active)
        self.encoder = Encoder(in_channels, channels[: coarsest + 1], standardised)
        self.decoder = nn.ModuleDict()
        coarse_width = 0  # channels that arrive from the coarser levels
        for level in range(coarsest, -1, -1):
            if self.active[level]:
                first = conv_relu(channels[level] + coarse_width, channels[level])
                self.decoder[str(level)] = first if level == 0 else nn.Sequential(first, conv_relu(channels[level], channels[level]))
                coarse_width = channels[level]
        self.output = _glorot(nn.Conv2d(coarse_width, landmarks, 3, padding=1))

    def forward(
        self, images: Float[Tensor, "B C H W"], *, own: Sequence[float] | None = None, coarse: Sequence[float] | None = None
    ) -> Float[Tensor, "B K H W"]:
        """Scores before the softmax over pixels.

        Args:
            images: 0..1.
            own: factor per level, finest first, on the level's own features e_b: 0 silences them in a trained network.
            coarse: factor per level, finest first, on the features that arrive from the coarser level.
        """
        return self.score(self.encoder(images), own=own, coarse=coarse)

    def score(
        self,
        features: Sequence[Float[Tensor, "B _ _ _"]],
        *,
        own: Sequence[float] | None = None,
        coarse: Sequence[float] | None = None,
    ) -> Float[Tensor, "B K H W"]:
        """Scores before the softmax over pixels, from the encoder's features, finest first; factors as `forward` takes them."""
        decoded = None
        for level in range(len(features) - 1, -1, -1):
            if decoded is not None:
                decoded = _upsample(decoded, 2)
                if coarse is not None:
                    decoded = coarse[level] * decoded
            if self.active[level]:
                mine = features[level] if own is None else own[level] * features[level]
                decoded = self.decoder[str(level)](mine if decoded is None else torch.cat([mine, decoded], dim=1))
        return self.output(decoded)


class AlteredLevel(nn.Module):
    """A level of RCN that hears the coarser one in another way than by concatenation; see `alter_levels`.

    Args:
        level: the level as RCN built it, whose weights for coarse features see zeros or another face.
        hearing: "silent" or "shuffled".
    """

    def __init__(self, level: nn.Module, hearing: str):
        super().__init__()
        self.level, self.hearing = level, hearing

    def forward(self, inputs: Float[Tensor, "B _ H W"]) -> Float[Tensor, "B _ H W"]:
        """Decoded features from the level's own features, concatenated with as many that arrive from below."""
        own, coarse = inputs.chunk(2, dim=1)
        if self.hearing == "shuffled":
            return self.level(torch.cat([own, coarse.roll(1, dims=0)], dim=1))
        return self.level(torch.cat([own, torch.zeros_like(coarse)], dim=1))


def alter_levels(rcn: RCN, hearing: str) -> RCN:
    """Changes, in place, how every level but the coarsest hears the one below it: for deliberate faults.

    Args:
        rcn: whose levels all have the same width.
        hearing: "silent" gives zeros; "shuffled" gives the coarse features of another image of the batch.

    Raises:
        ValueError: another word for `hearing`.
    """
    if hearing not in ("silent", "shuffled"):
        raise ValueError(f"hearing = {hearing!r} is not known; use 'silent' or 'shuffled'.")
    for level in list(rcn.decoder)[1:]:
        rcn.decoder[level] = AlteredLevel(rcn.decoder[level], hearing)
    return rcn


def interaction(network: SumNet | RCN, images: Float[Tensor, "B C H W"], fine: int = 2) -> float:
    """How much fine and coarse features act together, as a share of how much the scores differ between faces.

    Fine features f and coarse features c of each image and of the next one, in all four combinations, give the scores z(f, c). In a
    sum z(A,A) + z(B,B) - z(A,B) - z(B,A) is zero at every pixel. Its standard deviation is divided by that of z(A,A) - z(B,B).

    Args:
        network: with all its levels.
        images: at least two, 0..1.
        fine: how many of the finest levels count as fine.
    """
    mine = network.encoder(images)
    other = [feature.roll(1, dims=0) for feature in mine]
    same, swapped = network.score(mine), network.score(other)
    crossed = network.score(mine[:fine] + other[fine:]) + network.score(other[:fine] + mine[fine:])
    return ((same + swapped - crossed).std() / (same - swapped).std()).item()


def recombinator_loss(logits: Float[Tensor, "B K S S"], landmarks: Float[Tensor, "B K 2"]) -> Float[Tensor, ""]:
    """Likelihood loss of SumNet and RCN; landmarks outside the image do not count.

    Args:
        logits: scores before the softmax.
        landmarks: true (x, y) in pixels.
    """
    index, inside = pixel_index(landmarks, logits.shape[-1])
    return heatmap_nll(logits, index, inside)


def weight_penalty(model: SumNet | RCN, encoder: float = 1e-6, branches: float = 1e-12) -> Float[Tensor, ""]:
    """The L2 of "softmax + L2": lambda_enc |W_enc|^2 + lambda_br |W_br|^2, on weights, not on coordinates; biases are free.

    Args:
        model: whose weights, omega included.
        encoder, branches: the two lambdas (paper: 1e-6 and 1e-12 for the RCN of five landmarks, 1e-10 and 1e-14 for the SumNet).
    """
    squares = [
        (encoder if name.startswith("encoder") else branches) * weight.square().sum()
        for name, weight in model.named_parameters()
        if not name.endswith("bias")
    ]
    return torch.stack(squares).sum()


class Denoiser(nn.Module):
    """P(place of a landmark | places of the others): three large convolutions over one-hot maps, then a 1x1 to scores.

    Args:
        landmarks: number of maps K.
        channels: width of the three layers (paper: 64).
        kernel: side of their kernels (paper: 45 for maps of 80 x 80).
    """

    def __init__(self, landmarks: int, channels: int = 64, kernel: int = 9):
        super().__init__()
        self.layers = nn.Sequential(
            conv_relu(landmarks, channels, kernel),
            conv_relu(channels, channels, kernel),
            conv_relu(channels, channels, kernel),
            _glorot(nn.Conv2d(channels, landmarks, 1)),
        )

    def forward(self, one_hot: Float[Tensor, "B K S S"]) -> Float[Tensor, "B K S S"]:
        """Scores before the softmax over pixels."""
        return self.layers(one_hot)


def corrupt(index: Int[Tensor, "B K"], size: int, count: int, generator: Generator) -> tuple[Int[Tensor, "B K"], Bool[Tensor, "B K"]]:
    """`count` landmarks of each face, chosen at random, put on uniformly random pixels; and which ones.

    Args:
        index: pixels as `pixel_index` numbers them.
        size: side of the maps.
        count: how many of the K landmarks (paper: 35 of 68).
        generator: source of randomness.
    """
    order = torch.rand(index.shape, generator=generator, device=index.device).argsort(dim=1).argsort(dim=1)
    chosen = order < count
    anywhere = torch.randint(size * size, index.shape, generator=generator, device=index.device)
    return torch.where(chosen, anywhere, index), chosen


def denoiser_loss(
    denoiser: Callable[[Tensor], Tensor], landmarks: Float[Tensor, "B K 2"], size: int, count: int, generator: Generator
) -> Float[Tensor, ""]:
    """Likelihood of the true places of the corrupted landmarks alone: counted on all, copying the input would win.

    Args:
        denoiser: one-hot maps -> scores.
        landmarks: true (x, y) in pixels of the `size` x `size` maps.
        size: side of the maps.
        count: landmarks to corrupt.
        generator: source of randomness.
    """
    index, inside = pixel_index(landmarks, size)
    noisy, chosen = corrupt(index, size, count, generator)
    return heatmap_nll(denoiser(one_hot_maps(noisy, size)), index, chosen & inside)


def recombine(logits: Float[Tensor, "B K S S"], denoiser: Callable[[Tensor], Tensor], size: int) -> Float[Tensor, "B K S S"]:
    """z + z_denoiser: the product of what the image says and what the other landmarks say, before the softmax.

    Args:
        logits: scores of RCN or SumNet.
        denoiser: works on `size` x `size` maps; it sees the arg-max of `logits` and its scores are upsampled bilinearly.
        size: side of the denoiser's maps; divides S.

    Raises:
        ValueError: `size` does not divide the side of the maps.
    """
    factor, rest = divmod(logits.shape[-1], size)
    if rest:
        raise ValueError(f"size = {size} does not divide the {logits.shape[-1]} pixels of the score maps.")
    coarse = (argmax_position(logits) + 0.5) / factor - 0.5
    scores = denoiser(one_hot_maps(pixel_index(coarse, size)[0], size))
    return logits + F.interpolate(scores, scale_factor=factor, mode="bilinear")

"""Judging an attribution: is it faithful to the network, steady, dependent on the weights, and where the true cause is?

Yeh et al. 2019 (infidelity, sensitivity, arXiv:1901.09392); Adebayo et al. 2018 (randomised weights, arXiv:1810.03292); Zhang et al. 2016
(pointing game, arXiv:1608.00507); Petsiuk, Das, Saenko 2018 (deletion, arXiv:1806.07421).
"""

import warnings
from collections.abc import Callable

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from facelab.blocks import seeded
from facelab.importance.attribution.targets import Target, baseline_like, scalar, spread
from facelab.networks.evaluation import copied, evaluating

Perturb = Callable[[Tensor], tuple[Tensor, Tensor]]
ROWS = 64


def gaussian(radius: float = 0.02, seed: int = 0) -> Perturb:
    """Small noise on all pixels, as `infidelity` wants it: the perturbation, and the inputs *minus* the perturbation.

    Args:
        radius: standard deviation, in units of the input.
    """
    generator = torch.Generator().manual_seed(seed)

    def perturb(inputs: Tensor) -> tuple[Tensor, Tensor]:
        noise = radius * torch.randn(inputs.shape, generator=generator, dtype=inputs.dtype).to(inputs.device)
        return noise, inputs - noise

    return perturb


def squares(side: int = 12, baseline: float = 0.0, seed: int = 0) -> Perturb:
    """A square at a random place becomes the baseline (Yeh et al. 2019, section 3.2), as `infidelity` wants it.

    Args:
        side: pixels.
        baseline: value of the square.
    """
    generator = torch.Generator().manual_seed(seed)

    def perturb(inputs: Tensor) -> tuple[Tensor, Tensor]:
        places = [torch.randint(0, max(1, length - side + 1), (len(inputs), 1), generator=generator) for length in inputs.shape[2:]]
        inside = [
            (at <= torch.arange(length)) & (torch.arange(length) < at + side) for at, length in zip(places, inputs.shape[2:], strict=True)
        ]
        where = (inside[0][:, None, :, None] & inside[1][:, None, None, :]).to(inputs.device)
        perturbation = torch.where(where, inputs - baseline, 0.0)
        return perturbation, inputs - perturbation

    return perturb


def infidelity(
    model: nn.Module,
    inputs: Float[Tensor, "B *shape"],
    target: Target,
    slopes: Float[Tensor, "B *shape"],
    perturb: Perturb,
    draws: int = 32,
) -> Float[Tensor, " B"]:
    """How badly a map predicts changes of the output: the mean of (I . map - (f(x) - f(x - I)))^2 (Yeh et al. 2019, eq. 1); 0 is best.

    Args:
        slopes: change of the output per change of the pixel: saliency as it is; maps that contain the difference to a baseline (integrated
            gradients, input x gradient) divided by it, see `as_slopes`.
        perturb: inputs -> (I, x - I). The sign is not checked; `gaussian` and `squares` have it right.
        draws: perturbations for each input.
    """
    from captum.metrics import infidelity as measured

    with evaluating(model, inputs), torch.no_grad(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="captum")
        options = dict(n_perturb_samples=draws, max_examples_per_batch=max(ROWS, len(inputs)))
        return measured(scalar(model, target), perturb, inputs, slopes.to(inputs), **options)


def as_slopes(
    values: Float[Tensor, "B *shape"], inputs: Float[Tensor, "B *shape"], baseline: Tensor | float | None = None
) -> Float[Tensor, "B *shape"]:
    """A map that shares out a difference, per unit of that difference; 0 where the input equals the baseline."""
    difference = inputs - baseline_like(inputs, baseline)
    return torch.where(difference == 0, 0.0, values / torch.where(difference == 0, 1.0, difference)).to(inputs)


def max_sensitivity(
    explain: Callable[[Tensor], Tensor], inputs: Float[Tensor, "B *shape"], radius: float = 0.02, draws: int = 10, seed: int = 0
) -> Float[Tensor, " B"]:
    """Largest relative change of a map when each pixel moves by at most `radius` (Yeh et al. 2019, eq. 3); 0 is steadiest.

    Args:
        explain: inputs -> maps.
    """
    from captum.metrics import sensitivity_max

    def steadily(packed: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        with torch.enable_grad():  # captum asks under no_grad; it packs inputs into a tuple and wants maps packed alike
            return (explain(packed[0]),)

    with seeded(seed), warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="captum")
        return sensitivity_max(steadily, inputs, perturb_radius=radius, n_perturb_samples=draws)


def randomised(model: nn.Module, seed: int = 0, layers: int | None = None) -> nn.Module:
    """A copy whose weights are drawn anew, as before training.

    Args:
        layers: only that many, counted from the output (Adebayo et al. 2018: the cascade); all of them if not given.

    Raises:
        ValueError: a module has weights but no `reset_parameters`.
    """
    twin = copied(model)
    own = [(name, module) for name, module in twin.named_modules() if list(module.parameters(recurse=False))]
    with seeded(seed):
        for name, module in own[::-1][: len(own) if layers is None else layers]:
            if not callable(getattr(module, "reset_parameters", None)):
                raise ValueError(f"The module {name!r} ({type(module).__name__}) has no reset_parameters(); give it one.")
            module.reset_parameters()  # type: ignore[operator]
    return twin


def rank_agreement(
    first: Float[Tensor, "B *shape"], second: Float[Tensor, "B *shape"], where: Bool[Tensor, "B *shape"] | None = None
) -> Float[Tensor, " B"]:
    """Spearman's rank correlation of two maps, image by image: 1 is the same order of pixels.

    For the check with randomised weights give signed maps and, in `where`, only pixels off the background: absolute values of maps that are
    zero on the same background agree whatever the weights. NaN where fewer than two pixels are kept, or a map is constant.
    """
    from scipy.stats import spearmanr

    kept = torch.ones_like(first, dtype=torch.bool) if where is None else _spread(where, first)
    pairs = [(a[k].detach().cpu().numpy(), b[k].detach().cpu().numpy()) for a, b, k in zip(first, second, kept, strict=True)]
    return torch.tensor([float(spearmanr(a, b).statistic) for a, b in pairs])


def mass_in_part(values: Float[Tensor, "B *shape"], part: Bool[Tensor, "B ..."]) -> Float[Tensor, " B"]:
    """Share of the absolute credit that lies inside the true part, 0 to 1; NaN for a map of zeros.

    Args:
        part: broadcasts to the values: one mask may serve all channels.

    Raises:
        ValueError: it does not.
    """
    credit = values.abs()
    return (credit * _spread(part, values)).flatten(1).sum(dim=1) / credit.flatten(1).sum(dim=1)


def pointing_game(values: Float[Tensor, "B *shape"], part: Bool[Tensor, "B ..."]) -> Bool[Tensor, " B"]:
    """Whether the pixel of the largest absolute credit lies inside the true part.

    Args:
        part: broadcasts to the values: one mask may serve all channels.

    Raises:
        ValueError: it does not.
    """
    return _spread(part, values).flatten(1).gather(1, values.abs().flatten(1).argmax(dim=1, keepdim=True))[:, 0]


def _spread(part: Tensor, values: Tensor) -> Tensor:
    try:
        return spread(part, values)
    except RuntimeError:
        raise ValueError(f"part of shape {tuple(part.shape)} does not broadcast to a map of {tuple(values.shape)}.") from None


def area_share(part: Bool[Tensor, "B *shape"]) -> Float[Tensor, " B"]:
    """Share of the pixels inside the part: what a map without any idea would score in `mass_in_part`."""
    return part.flatten(1).float().mean(dim=1)


def changed_pixels(
    images: Float[Tensor, "B C H W"], counterfactuals: Float[Tensor, "B C H W"], threshold: float = 0.02, dilation: int = 0
) -> Bool[Tensor, "B 1 H W"]:
    """Exact truth: the pixels that change when only the cause is changed.

    Args:
        threshold: smallest change that counts, in units of the image.
        dilation: pixels by which the region is widened, in a square.
    """
    changed = ((images - counterfactuals).abs().amax(dim=1, keepdim=True) > threshold).float()
    return nn.functional.max_pool2d(changed, 2 * dilation + 1, stride=1, padding=dilation) > 0


def deletion_curve(
    model: nn.Module,
    inputs: Float[Tensor, "B C H W"],
    target: Target,
    values: Float[Tensor, "B _ H W"],
    baseline: Tensor | float | None = None,
    steps: int = 20,
) -> Float[Tensor, "B n"]:
    """The output while pixels become the baseline, those with the most positive credit first; a good map makes it fall early.

    Args:
        values: signed map; channels are added up.

    Returns:
        Outputs after a share of 0, 1/steps, ..., 1 of the pixels.
    """
    reference = baseline_like(inputs, baseline)
    order = values.sum(dim=1).flatten(1).argsort(dim=1, descending=True, stable=True)
    place = order.argsort(dim=1).view(len(inputs), 1, *inputs.shape[2:])
    score, pixels, outputs = scalar(model, target), order.shape[1], []
    with evaluating(model, inputs), torch.no_grad():
        for step in range(steps + 1):
            outputs.append(score(torch.where(place < round(step * pixels / steps), reference, inputs)))
    return torch.stack(outputs, dim=1)

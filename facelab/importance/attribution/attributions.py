"""Attribution: which pixels, channels or parts caused a scalar output of a network.

Sundararajan, Taly, Yan 2017 (integrated gradients, arXiv:1703.01365); Dhamdhere, Sundararajan, Yan 2018 (conductance, arXiv:1805.12233);
Selvaraju et al. 2017 (Grad-CAM, arXiv:1610.02391); Zeiler, Fergus 2014 (occlusion). Computed by captum where captum has it.
"""

import warnings
from dataclasses import dataclass

import torch
from jaxtyping import Float, Integer, Shaped
from torch import Tensor, nn

from facelab.importance.attribution import exact
from facelab.importance.attribution.paths import QUADRATURES
from facelab.importance.attribution.targets import (
    Explained,
    Target,
    baseline_like,
    channels_at,
    channels_of_inputs,
    layer_name,
    layer_output,
    neuron,
    scalar,
    spread,
    watched,
)
from facelab.networks.evaluation import copied, evaluating, require_hooks, require_precision

METHODS = {
    "saliency": "Which pixels would change the output if they were nudged now?",
    "input x gradient": "The same, times the value of the pixel.",
    "guided backpropagation": "Saliency that lets only positive signals back through each ReLU: edges rather than the decision.",
    "integrated gradients": "How is the difference of the output to the baseline shared out among the pixels?",
    "exact integrated gradients": "The same without a quadrature error, for piecewise linear networks.",
    "occlusion": "How much does the output drop, on average, when a small square over this pixel is set to the baseline?",
    "part ablation": "How much does the output drop when this part (a label of the mask) is set to the baseline?",
    "conductance": "Through which units of the layer does the difference to the baseline flow?",
    "exact conductance": "The same without a quadrature error, for piecewise linear networks.",
    "channel ablation": "How much does the output drop when this channel of the layer is set to zero?",
    "grad-cam": "Where does positive evidence sit, seen from this layer?",
}
"""Methods and the question that each one answers."""

LAYER_METHODS = ("conductance", "exact conductance", "channel ablation", "grad-cam")
WITHOUT_SLOPES = ("occlusion", "part ablation", "channel ablation", "grad-cam")  # at the inputs, which may be whole numbers
ROWS = 64  # images per forward pass: more of them leave the cache of a core, and 200 steps of a batch of 32 would be 6400


@dataclass(frozen=True)
class Attribution:
    """A map of credit, and how much credit there was to give.

    `difference` is f(x) - f(baseline) where the method shares that out, `residual` what the shares miss: their sum minus the difference.
    """

    values: Float[Tensor, "B ..."]
    difference: Float[Tensor, " B"] | None
    residual: Float[Tensor, " B"] | None
    method: str
    layer: str

    @property
    def norm(self) -> Float[Tensor, " B"]:
        """Euclidean norm of each map: a picture scaled to its own maximum hides that a map is all noise."""
        return self.values.flatten(1).norm(dim=1)


def attribute(
    model: nn.Module,
    inputs: Shaped[Tensor, "B *shape"],
    target: Target,
    method: str = "integrated gradients",
    *,
    layer: nn.Module | None = None,
    unit: int | tuple[int, ...] | None = None,
    baseline: Tensor | float | None = None,
    steps: int = 50,
    quadrature: str = "gausslegendre",
    mask: Integer[Tensor, "..."] | None = None,
    window: int = 8,
) -> Attribution:
    """Credit of each pixel of the input, or of each unit of a layer, for one output of a network.

    The model runs in evaluation mode with in-place layers switched off, and is given back as it was.

    Args:
        model: network; its output is (B, outputs), or anything `target` understands.
        inputs: batch of inputs.
        target: column of the output (take logits: a softmax mixes the classes), or a function outputs -> (B,), row by row.
        method: one of METHODS.
        layer: module of the model, for the methods in LAYER_METHODS; together with `unit`, for the others.
        unit: ask about a neuron instead: its index in the output of `layer`, without the batch; a channel alone means the mean over its
            places.
        baseline: what stands for "absent": a tensor that broadcasts to the inputs, or a number; 0 if not given.
        steps: nodes of the path, from the baseline to the input.
        quadrature: one of QUADRATURES, for integrated gradients. (captum's `riemann_trapezoid` is left out: its weights sum to 1 - 1/steps.
            Conductance uses captum's walk from end to end, which is of first order whatever the quadrature.)
        mask: labels 0, 1, ... of the parts of "part ablation", broadcasting to the inputs. The effect of a part is spread evenly
            over its pixels.
        window: side of the square of "occlusion", pixels; it moves by half its side.

    Returns:
        Values in the shape of the inputs or of the layer's output; Grad-CAM has one channel, of the layer's resolution. Exact methods
        answer in float64.

    Raises:
        ValueError: an unknown method or quadrature, a layer that is missing, foreign or called more than once, a target that is no scalar
            or looks at several inputs, a gradient asked of whole numbers, a model that is not a function of its inputs.
        TypeError: inputs that are no tensor, or a target of another type.
    """
    _check(method, layer, unit, quadrature, steps, mask)
    with evaluating(model, inputs), torch.enable_grad(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="captum")
        inputs = inputs.detach()
        reference = baseline_like(inputs, baseline)
        if method not in WITHOUT_SLOPES and not inputs.is_floating_point():
            advice = f"convert pixels by .float(), take one of {', '.join(WITHOUT_SLOPES)}, or explain what follows the embedding"
            raise ValueError(f"The method {method!r} needs gradients, which inputs of {inputs.dtype} have none of; {advice}.")
        if method in ("integrated gradients", "conductance"):  # sums of many small steps
            require_precision(model)
        name = layer_name(model, layer, inputs)
        if method.startswith("exact"):  # breakpoints lie closer than float32 can tell apart
            model, inputs, reference = copied(model).double(), inputs.double(), reference.double()
            layer = model.get_submodule(name) if layer is not None else None
        alone = isinstance(unit, int) or (unit is not None and len(unit) == 1)
        axis = channels_at(model, layer, inputs) if layer is not None and (alone or method in ("channel ablation", "grad-cam")) else 1
        score = scalar(model, target) if unit is None else neuron(model, layer, unit, axis)
        outputs = score(inputs)
        if outputs.shape != inputs.shape[:1]:
            raise ValueError(
                f"The target gives a shape of {tuple(outputs.shape)}; it must be one number for each of the {len(inputs)} inputs."
            )
        _require_row_by_row(score, inputs, outputs.detach())
        values = _values(model, score, inputs, reference, method, layer, axis, steps, quadrature, mask, window).detach()
        if method not in ("integrated gradients", "exact integrated gradients", "conductance", "exact conductance", "part ablation"):
            return Attribution(values, None, None, method, name)
        with torch.no_grad():
            difference = outputs.detach() - score(reference)
    return Attribution(values, difference, values.flatten(1).sum(dim=1) - difference, method, name)


def _values(model, score, inputs, reference, method, layer, axis, steps, quadrature, mask, window) -> Tensor:
    """The map itself, from captum or `exact`."""
    from captum import attr

    if method in ("conductance", "exact conductance", "grad-cam") and not _matters(score, layer, inputs):
        nothing = torch.zeros_like(layer_output(score, layer, inputs))
        return nothing[:, :1] if method == "grad-cam" else nothing
    rows = max(ROWS, 2 * len(inputs))
    match method:
        case "saliency":
            return attr.Saliency(score).attribute(inputs, abs=False)
        case "input x gradient":
            return attr.InputXGradient(score).attribute(inputs)
        case "guided backpropagation":
            require_hooks(model)
            _require_relu_modules(model, score, inputs)
            return attr.GuidedBackprop(_Scalar(model, score)).attribute(inputs)
        case "integrated gradients":
            # Accumulated over steps in pieces of `rows` images.
            options = dict(n_steps=steps, method=quadrature, internal_batch_size=rows if steps * len(inputs) > rows else None)
            return attr.IntegratedGradients(score).attribute(inputs, reference, **options)
        case "exact integrated gradients":
            return exact.integrated_gradients(score, inputs, reference)
        case "exact conductance":
            return exact.conductance(score, layer, inputs, reference)
        case "conductance":
            # Only the nodes of this rule contain both ends of the path.
            options = dict(n_steps=steps, method="riemann_trapezoid", internal_batch_size=rows if steps * len(inputs) > rows else None)
            return attr.LayerConductance(score, layer).attribute(inputs, reference, **options)
        case "grad-cam":
            if layer_output(score, layer, inputs).ndim < 3 or axis != 1:
                raise ValueError("Grad-CAM weighs the maps of a convolution; this layer has none; take 'conductance'.")
            return attr.LayerGradCam(score, layer).attribute(inputs, relu_attributions=True)
        case "channel ablation":
            return _channel_ablation(score, layer, inputs, axis)
        case "occlusion":
            if inputs.ndim < 3:
                raise ValueError(f"Occlusion moves a square over places, inputs {tuple(inputs.shape)} have none; take 'part ablation'.")
            whole = channels_of_inputs(model, inputs)  # the square covers all channels
            square = tuple(side if k == whole else min(window, side) for k, side in enumerate(inputs.shape[1:], start=1))
            strides = tuple(side if k == whole else max(1, side // 2) for k, side in enumerate(square, start=1))
            return attr.Occlusion(score).attribute(inputs, square, strides=strides, baselines=reference)
    try:
        labels = spread(mask.to(inputs.device), inputs)
    except RuntimeError:
        raise ValueError(f"mask of shape {tuple(mask.shape)} does not broadcast to inputs of {tuple(inputs.shape)}.") from None
    return part_ablation(score, inputs, reference, labels)


def part_ablation(
    score: Explained, inputs: Shaped[Tensor, "B *shape"], reference: Shaped[Tensor, "B *shape"], labels: Integer[Tensor, "B *shape"]
) -> Float[Tensor, "B *shape"]:
    """The drop of the score when a part takes the values of the reference, spread evenly over the pixels of the part."""
    from captum.attr import FeatureAblation

    effect = torch.zeros(inputs.shape, dtype=inputs.dtype if inputs.is_floating_point() else None, device=inputs.device)
    for row in range(len(inputs)):  # each image has a mask of its own
        own = labels[row : row + 1]
        present, numbers = own.unique(return_inverse=True)
        drop = FeatureAblation(score).attribute(inputs[row : row + 1], reference[row : row + 1], feature_mask=numbers)
        counts = torch.bincount(numbers.flatten(), minlength=len(present))
        effect[row] = (drop / counts[numbers])[0]
    return effect


def _channel_ablation(score: Explained, layer: nn.Module, inputs: Tensor, axis: int) -> Tensor:
    """The drop of the score when a channel is zero, spread evenly over the places of the channel."""
    with torch.no_grad():
        output, before = layer_output(score, layer, inputs), score(inputs)
    drops = []
    for channel in range(output.shape[axis]):
        cut = layer.register_forward_hook(
            lambda module, arguments, found, c=channel: found.index_fill(axis, torch.tensor(c, device=found.device), 0)
        )
        try:
            with torch.no_grad():
                drops.append(before - score(inputs))
        finally:
            cut.remove()
    places = output[0].numel() // output.shape[axis]
    drop = torch.stack(drops, dim=1).view(len(inputs), -1, *[1] * (output.ndim - 2)).movedim(1, axis)
    return (drop / places).expand_as(output)


def _require_row_by_row(score: Explained, inputs: Tensor, outputs: Tensor) -> None:
    """Two copies of the first input must both answer as it did among the others."""
    try:
        with torch.no_grad():
            twice = score(inputs[:1].repeat(2, *[1] * (inputs.ndim - 1)))
        fine = twice.shape == (2,) and torch.allclose(twice, outputs[:1], rtol=1e-3, atol=1e-5, equal_nan=True)
    except (IndexError, RuntimeError):  # it counts on the number of inputs
        fine = False
    if not fine:
        raise ValueError("The target or the model looks at several inputs at once; what is explained must answer input by input.")


def _matters(score: Explained, layer: nn.Module, inputs: Tensor) -> bool:
    """Whether the score depends on what a layer puts out."""
    given = inputs.clone().requires_grad_() if inputs.is_floating_point() else inputs
    with watched(layer) as seen:
        total = score(given).sum()
    return not (seen[0].requires_grad and total.requires_grad) or torch.autograd.grad(total, seen[0], allow_unused=True)[0] is not None


RECTIFIERS = (
    *("Relu", "Hardtanh", "LeakyRelu", "Prelu", "Rrelu", "Elu", "Selu", "Celu", "Gelu", "Silu", "Mish", "Hardswish", "Softplus", "Clamp"),
    *("Maximum", "Minimum", "Threshold", "Where", "LogSigmoid", "Hardsigmoid", "Hardshrink", "Softshrink"),
)


def _require_relu_modules(model: nn.Module, score: Explained, inputs: Tensor) -> None:
    """Refuse rectifiers that guided backpropagation would treat as saliency does: whatever is not the call of a module nn.ReLU."""
    calls: list[Tensor] = []
    hooks = [m.register_forward_hook(lambda m, _, output: calls.append(output)) for m in model.modules() if isinstance(m, nn.ReLU)]
    try:
        waiting, seen = [score(inputs.clone().requires_grad_()).grad_fn], set()
    finally:
        for hook in hooks:
            hook.remove()
    while waiting:
        step = waiting.pop()
        if step is not None and step not in seen:
            seen.add(step)
            waiting += [before for before, _ in step.next_functions]
    others = {step.name() for step in seen - {output.grad_fn for output in calls} if step.name().startswith(RECTIFIERS)}
    if not calls:  # bent by something else altogether
        others |= {step.name() for step in seen if step.name().startswith(("Sigmoid", "Tanh"))}
    if others:
        what = ", ".join(sorted(others)).replace("Backward0", "").lower()
        raise ValueError(f"Guided backpropagation acts on modules nn.ReLU only, this model calls {what} as a function; take saliency.")


class _Scalar(nn.Module):
    """A model with one output, for what captum hooks by itself."""

    def __init__(self, model: nn.Module, score: Explained):
        super().__init__()
        self.model, self.score = model, score

    def forward(self, inputs: Tensor) -> Tensor:
        return self.score(inputs)


def _check(method, layer, unit, quadrature, steps, mask) -> None:
    if method not in METHODS:
        raise ValueError(f"method={method!r} is not known; use one of {', '.join(METHODS)}.")
    if quadrature not in QUADRATURES:
        raise ValueError(f"quadrature={quadrature!r} is not offered; use one of {', '.join(QUADRATURES)}.")
    if steps < 2:
        raise ValueError(f"steps={steps} is too few for a path; take 50, or at least 2.")
    if method in LAYER_METHODS and layer is None:
        raise ValueError(f"The method {method!r} looks into a layer; give layer=, a module of the model.")
    if method in LAYER_METHODS and unit is not None:
        raise ValueError(f"The method {method!r} explains an output through a layer and takes no unit; leave unit= away.")
    if unit is not None and layer is None:
        raise ValueError(f"unit={unit} needs to know its layer; give layer=, a module of the model.")
    if mask is not None and mask.is_floating_point():
        raise ValueError(f"mask holds {mask.dtype}; give the number of a part for each pixel, as whole numbers.")
    if method == "part ablation" and mask is None:
        raise ValueError("The method 'part ablation' needs to know the parts; give mask=, whole numbers that broadcast to the inputs.")

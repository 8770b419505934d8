"""Exact integrated gradients of piecewise linear networks: no quadrature, but the breakpoints of the path themselves.

On the straight path x' + a (x - x') every activation of such a network is a piecewise linear function of a. Between two neighbouring
breakpoints the gradient is constant, so the integral of Sundararajan, Taly, Yan 2017 (eq. 1) is a finite sum. Breakpoints are found
operation by operation: once those of all earlier operations are known, the input of a ReLU is linear between them, and where it changes
its sign is one division. Everything here works in float64: neighbouring breakpoints lie closer than float32 can tell apart.
"""

import contextlib
from collections.abc import Callable
from itertools import combinations

import torch
from jaxtyping import Float64
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from facelab.importance.attribution.paths import Explained
from facelab.importance.attribution.targets import watched

LINEAR = (
    *("convolution", "addmm", "mm", "bmm", "dot", "mv", "baddbmm", "add", "sub", "rsub", "neg", "mul", "div", "sum", "mean", "copy_"),
    *("native_batch_norm", "_native_batch_norm_legit_no_training", "cudnn_batch_norm", "avg_pool2d", "avg_pool3d", "_adaptive_avg_pool2d"),
    *("view", "_unsafe_view", "_reshape_alias", "t", "transpose", "permute", "expand", "squeeze", "unsqueeze", "unbind", "alias", "flip"),
    *("slice", "select", "split", "split_with_sizes", "cat", "stack", "index", "index_select", "clone", "detach", "_to_copy", "lift_fresh"),
    *(
        "empty",
        "zeros",
        "ones",
        "full",
        "arange",
        "zeros_like",
        "ones_like",
        "full_like",
        "as_strided",
        "roll",
        "constant_pad_nd",
        "repeat",
        "linspace",
        "eye",
    ),
    *("upsample_nearest2d", "upsample_bilinear2d", "pixel_shuffle", "pixel_unshuffle", "reflection_pad2d", "replication_pad2d"),
)
"""Operations that bend nothing. A product is linear only if one factor is constant on the path; that is checked afterwards."""
BENT_AT_ZERO = ("relu", "relu_", "leaky_relu", "leaky_relu_", "_prelu_kernel", "abs")
ROWS = 128
CLOSEST = 1e-13  # breakpoints nearer than this are one


def breakpoints(score: Explained, image: Float64[Tensor, "*shape"], start: Float64[Tensor, "*shape"]) -> Float64[Tensor, " n"]:
    """All places in [0,1] where the score bends on the straight way from `start` to `image`, with both ends, in order.

    Args:
        score: inputs (n,*shape) -> (n,).

    Raises:
        ValueError: the network does something that is not piecewise linear.
    """
    knots = torch.tensor([0.0, 1.0], dtype=torch.float64, device=image.device)
    operation = 0
    while True:
        found = [knots]
        for first in range(0, len(knots) - 1, ROWS):
            piece = knots[first : first + ROWS + 1]
            watch = _Watch(operation)
            with torch.no_grad(), contextlib.suppress(_ReachedError), watch:
                score(_path(start, image, piece))
            if any(
                isinstance(part, Tensor) and part.ndim and len(part) == len(piece) for part in watch.arguments
            ):  # else it bends a constant
                interval, fraction = _BENDS[watch.name](*watch.arguments)
                found.append(piece[interval] + fraction * piece.diff()[interval])
        if not watch.name:
            _check_linear(score, image, start, knots)
            return knots
        knots, _ = torch.cat(found).sort()
        inside = knots[1:-1]
        apart = (inside - knots[:-2] > CLOSEST) & (1 - inside > CLOSEST)
        knots = torch.cat([knots[:1], inside[apart], knots[-1:]])
        operation += 1


def integrated_gradients(
    score: Explained, inputs: Float64[Tensor, "B *shape"], reference: Float64[Tensor, "B *shape"]
) -> Float64[Tensor, "B *shape"]:
    """Integrated gradients without a quadrature error: a sum of gradient times length over the pieces of the path.

    Args:
        score: inputs -> (B,), piecewise linear, with weights in float64.
        reference: the baseline, one for each input.

    Raises:
        ValueError: the network does something that is not piecewise linear.
    """
    result = torch.empty_like(inputs)
    for row, (image, start) in enumerate(zip(inputs, reference, strict=True)):
        knots = breakpoints(score, image, start)
        middles, lengths = (knots[1:] + knots[:-1]) / 2, knots.diff()
        total = torch.zeros_like(image)
        for nodes, weights in zip(middles.split(ROWS), lengths.split(ROWS), strict=True):
            between = _path(start, image, nodes).requires_grad_()
            (gradients,) = torch.autograd.grad(score(between).sum(), between)
            total += torch.tensordot(weights, gradients, dims=1)
        result[row] = (image - start) * total
        with torch.no_grad():
            ends = score(torch.stack([start, image]))
        missing = float((result[row].sum() - ends.diff()).abs())
        if missing > 1e-6 * (1 + float(ends.abs().max())):
            advice = "use method='integrated gradients' with many steps"
            raise ValueError(f"The shares miss the difference of the outputs by {missing:.2g}, so a breakpoint was missed; {advice}.")
    return result


def conductance(
    score: Explained, layer: nn.Module, inputs: Float64[Tensor, "B *shape"], reference: Float64[Tensor, "B *shape"]
) -> Float64[Tensor, "B ..."]:
    """Conductance of the units of a layer without a quadrature error (Dhamdhere, Sundararajan, Yan 2018, eq. 2).

    On a piece of the path the gradient with respect to the unit is constant and the unit moves by a known difference.

    Raises:
        ValueError: the network does something that is not piecewise linear.
    """
    results = []
    with watched(layer) as seen:
        for image, start in zip(inputs, reference, strict=True):
            knots = breakpoints(score, image, start)
            total: Tensor | float = 0.0
            for first in range(0, len(knots) - 1, ROWS):
                piece = knots[first : first + ROWS + 1]
                seen.clear()
                with torch.no_grad():
                    score(_path(start, image, piece))
                between = _path(start, image, (piece[1:] + piece[:-1]) / 2).requires_grad_()
                outputs = score(between)
                ends, middles = seen
                (gradients,) = torch.autograd.grad(outputs.sum(), middles)
                total = total + (gradients * ends.diff(dim=0)).sum(dim=0)
            results.append(total)
    return torch.stack(results)


def _path(start: Tensor, image: Tensor, nodes: Tensor) -> Tensor:
    return start + nodes.view(-1, *[1] * start.ndim) * (image - start)


class _ReachedError(Exception):
    """The operation that is looked for; what comes after it need not be computed."""


class _Watch(TorchDispatchMode):
    """Runs until the n-th operation that can bend the path, and keeps its arguments; refuses operations of which nothing is known."""

    def __init__(self, number: int):
        super().__init__()
        self.left, self.name, self.arguments = number, "", ()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        name = function.overloadpacket.__name__
        if name in _BENDS:
            if self.left == 0:
                self.name, self.arguments = name, args
                raise _ReachedError
            self.left -= 1
        elif name.removesuffix("_") not in LINEAR and name not in LINEAR:
            advice = "use method='integrated gradients' with many steps"
            raise ValueError(f"The network computes {name!r}, which is not known to be piecewise linear; {advice}.")
        return function(*args, **(kwargs or {}))


def _crossings(values: Tensor) -> tuple[Tensor, Tensor]:
    """Where a linear function between neighbouring knots changes its sign. values (knots,...)."""
    values = values.reshape(len(values), -1)
    left, right = values[:-1], values[1:]
    interval, unit = torch.nonzero((left < 0) != (right < 0), as_tuple=True)
    before, after = left[interval, unit], right[interval, unit]
    return interval, before / (before - after)


def _clamp(values: Tensor, low: float | None = None, high: float | None = None) -> tuple[Tensor, Tensor]:
    parts = [_crossings(values - bound) for bound in (low, high) if bound is not None]
    return torch.cat([interval for interval, _ in parts]), torch.cat([fraction for _, fraction in parts])


def _max_pool(values: Tensor, kernel, stride=None, padding=0, dilation=1, ceil=False) -> tuple[Tensor, Tensor]:
    """Where the largest of a window changes: between two entries, one of which wins at a knot and the other at the next."""
    if ceil:
        raise ValueError("The network pools with ceil_mode=True, which is not supported here; use method='integrated gradients'.")
    # A constant below everything, so that the padding of unfold never wins.
    lowest = values.min() - 1
    below, right = (kernel[0], kernel[-1]) if isinstance(kernel, (list, tuple)) else (kernel, kernel)
    planes = values.flatten(0, 1)[:, None] - lowest
    windows = nn.functional.unfold(planes, (below, right), dilation=dilation, padding=padding, stride=stride or (below, right))
    windows = windows.unflatten(0, values.shape[:2]).movedim(2, -1).flatten(1, 2)  # (knots, windows, entries)
    winner = windows.argmax(dim=-1)
    interval, window = torch.nonzero(winner[:-1] != winner[1:], as_tuple=True)
    left, right_ = windows[interval, window], windows[interval + 1, window]
    parts = []
    for i, j in combinations(range(windows.shape[-1]), 2):
        before, after = left[:, i] - left[:, j], right_[:, i] - right_[:, j]
        (crosses,) = torch.nonzero(before * after < 0, as_tuple=True)
        parts.append((interval[crosses], before[crosses] / (before[crosses] - after[crosses])))
    return torch.cat([a for a, _ in parts]), torch.cat([b for _, b in parts])


_BENDS: dict[str, Callable[..., tuple[Tensor, Tensor]]] = {
    **dict.fromkeys(BENT_AT_ZERO, lambda values, *_: _crossings(values)),
    **dict.fromkeys(("hardtanh", "hardtanh_"), lambda values, low=-1.0, high=1.0: _clamp(values, low, high)),
    **dict.fromkeys(("clamp", "clamp_"), _clamp),
    **dict.fromkeys(("clamp_min", "clamp_min_"), lambda values, low: _clamp(values, low)),
    **dict.fromkeys(("minimum", "maximum"), lambda a, b: _crossings(a - b)),
    "max_pool2d_with_indices": _max_pool,
}


def _check_linear(score: Explained, image: Tensor, start: Tensor, knots: Tensor) -> None:
    """A product of two things that move bends everywhere: on every piece, the middle must be the mean of the ends."""
    for first in range(0, len(knots) - 1, ROWS):
        piece = knots[first : first + ROWS + 1]
        with torch.no_grad():
            ends, middles = (score(_path(start, image, nodes)) for nodes in (piece, (piece[1:] + piece[:-1]) / 2))
        gap, scale = ((ends[1:] + ends[:-1]) / 2 - middles).abs().max(), ends.abs().max()
        if gap > 1e-9 * (1 + scale):
            advice = "a product of two activations perhaps; use method='integrated gradients' with many steps"
            raise ValueError(f"The network bends by {gap:.2g} between its breakpoints, so it is not piecewise linear: {advice}.")

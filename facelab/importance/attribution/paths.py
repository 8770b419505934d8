"""Integrated gradients written out: nodes on the straight path, and the sum over them."""

from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

Explained = Callable[[Tensor], Tensor]
QUADRATURES = ("gausslegendre", "riemann_middle", "riemann_left", "riemann_right")


def path_nodes(steps: int, quadrature: str = "gausslegendre") -> tuple[Float[Tensor, " n"], Float[Tensor, " n"]]:
    """Nodes in [0,1] and weights (which sum to 1) of a quadrature, in float64.

    Args:
        quadrature: one of QUADRATURES, or "riemann_trapezoid" (here with weights that sum to 1).

    Raises:
        ValueError: an unknown quadrature, or fewer than one step (two for the trapezoid rule).
    """
    if steps < (2 if quadrature == "riemann_trapezoid" else 1):
        raise ValueError(f"steps={steps} is too few for a quadrature; take 50, or at least 2.")
    even, equal = torch.arange(steps, dtype=torch.float64), torch.full((steps,), 1 / steps, dtype=torch.float64)
    match quadrature:
        case "gausslegendre":
            nodes, weights = (torch.from_numpy(a) for a in np.polynomial.legendre.leggauss(steps))
            return (1 + nodes) / 2, weights / 2
        case "riemann_middle":
            return (even + 0.5) / steps, equal
        case "riemann_left":
            return even / steps, equal
        case "riemann_right":
            return (even + 1) / steps, equal
        case "riemann_trapezoid":
            weights = torch.full((steps,), 1 / (steps - 1), dtype=torch.float64)
            weights[[0, -1]] /= 2
            return even / (steps - 1), weights
    raise ValueError(f"quadrature={quadrature!r} is not known; use one of {', '.join(QUADRATURES)}.")


def integrated_gradients(
    score: Explained,
    inputs: Float[Tensor, "B *shape"],
    reference: Float[Tensor, "B *shape"],
    nodes: Float[Tensor, " n"],
    weights: Float[Tensor, " n"],
) -> Float[Tensor, "B *shape"]:
    """Integrated gradients as the equation says it: (x - x') times the weighted mean of the gradients on the way (2017, eq. 1)."""
    total = torch.zeros_like(inputs)
    for node, weight in zip(nodes.tolist(), weights.tolist(), strict=True):
        between = (reference + node * (inputs - reference)).requires_grad_()
        (gradient,) = torch.autograd.grad(score(between).sum(), between)
        total += weight * gradient
    return (inputs - reference) * total

"""The path of integrated gradients: through a landscape of two inputs, through a network that bends, and what channels carry on it."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from facelab.pictures.style import AMOUNT, BLACK, BLUE, ORANGE, Picture, as_array, new_picture, styled


@styled
def draw_integration_path(
    score: Callable[[Tensor], Tensor], start: Sequence[float], end: Sequence[float], *, width: float = 8.5
) -> Picture:
    """A function of two inputs with the straight path between two points, beside its two derivatives along that path.

    The area under a derivative, times the way that its input goes, is the credit of that input (Sundararajan, Taly, Yan 2017, eq. 1).

    Args:
        score: differentiable; inputs (n,2) -> (n,).
        start: both coordinates of the baseline.
        end: both coordinates of the input.
        width: inches.
    """
    first, last = (torch.tensor(point, dtype=torch.float64) for point in (start, end))
    alphas = torch.linspace(0, 1, 101, dtype=torch.float64)
    path = (first + alphas[:, None] * (last - first)).requires_grad_()
    (gradients,) = torch.autograd.grad(score(path).sum(), path)
    places, slopes = as_array(path), as_array(gradients)
    picture, grid = new_picture(width, 3.0, 1, 2, width_ratios=(1, 1.35))
    landscape, curves = grid[0]
    ends = np.stack([as_array(first), as_array(last)])
    low, high = ends.min() - 0.1, ends.max() + 0.15
    lattice = torch.linspace(low, high, 80, dtype=torch.float64)
    points = torch.cartesian_prod(lattice, lattice)
    heights = as_array(score(points)).reshape(80, 80).T
    landscape.contourf(as_array(lattice), as_array(lattice), heights, levels=14, cmap=AMOUNT, alpha=0.55)
    landscape.plot(*places.T, color=ORANGE, linewidth=2.2)
    landscape.quiver(*places[10::20].T, *slopes[10::20].T, color=BLACK, angles="xy", width=0.009, scale=9)
    for point, text in zip(ends, ("baseline x′", "input x"), strict=True):
        landscape.plot(*point, "o", color=ORANGE)
        landscape.annotate(text, point, (5, -11), textcoords="offset points", fontsize=8, clip_on=False)
    landscape.set(title="f, the path, and gradients on it", xlabel="x₁", ylabel="x₂", aspect="equal")
    for number, color in enumerate((BLUE, ORANGE)):
        curve, label = slopes[:, number], "x₁" if number == 0 else "x₂"
        area = np.trapezoid(curve, as_array(alphas)) * (ends[1] - ends[0])[number]
        curves.plot(as_array(alphas), curve, color=color, label=f"∂f/∂{label}, credit of {label} = {area:.3f}")
        curves.fill_between(as_array(alphas), curve, color=color, alpha=0.25)
    curves.set(xlabel="α, from the baseline (0) to the input (1)", ylabel="derivative", title="area × way of the input = its credit")
    curves.legend(loc="upper left")
    return picture


@styled
def plot_bends(score: Callable[[Tensor], Tensor], image: Tensor, start: Tensor, knots: Tensor, *, width: float = 7.5) -> Picture:
    """The answer of a network on the straight way from `start` to `image`, with a tick at each place where it bends.

    Args:
        score: inputs (n,*shape) -> (n,).
        image: end of the path, (*shape).
        start: the baseline, (*shape).
        knots: (n,) places in [0,1], both ends among them, as `exact.breakpoints` finds them.
        width: inches.
    """
    alphas = torch.linspace(0, 1, 2000, dtype=image.dtype)
    with torch.no_grad():
        heights = score(start + alphas.view(-1, *[1] * image.ndim) * (image - start))
    picture, grid = new_picture(width, 2.6)
    axes = grid[0, 0]
    axes.plot(as_array(alphas), as_array(heights))
    axes.plot(as_array(knots[1:-1]), np.full(len(knots) - 2, axes.get_ylim()[0]), "|", color=BLACK, markersize=9)
    axes.set(xlabel="α, from the baseline (0) to the image (1)", ylabel="answer", title=f"{len(knots) - 2} breakpoints")
    return picture


@styled
def plot_channels(across: Tensor, up: Tensor, across_label: str, up_label: str, *, named: int = 4, width: float = 5.0) -> Picture:
    """A dot for each channel, the strongest with their numbers.

    Args:
        across: (C,) on the horizontal axis.
        up: (C,) on the vertical axis; the channels with its largest absolute values are numbered.
        across_label: with its unit.
        up_label: with its unit.
        named: how many channels are numbered.
        width: inches.
    """
    picture, grid = new_picture(width, 3.2)
    axes = grid[0, 0]
    axes.scatter(as_array(across), as_array(up))
    for channel in np.abs(as_array(up)).argsort()[::-1][:named].tolist():
        axes.annotate(f"  {channel}", (float(across[channel]), float(up[channel])), fontsize=8)
    axes.set(xlabel=across_label, ylabel=up_label)
    return picture

"""A neuron on its way out: the loss and its gradient while its weights shrink to zero."""

import numpy as np
from jaxtyping import Float

from facelab.pictures.style import BLUE, GRAY, ORANGE, RED, new_picture, styled
from facelab.pictures.view import View


@styled
def path_view(
    factors: Float[np.ndarray, " F"],
    losses: Float[np.ndarray, " F"],
    gradients: Float[np.ndarray, " F"],
    slopes: Float[np.ndarray, " F"],
    samples: Float[np.ndarray, " S"],
    alpha: float,
    *,
    title: str = "",
    label: str = "cross-entropy, nats",
    width: float = 9.0,
) -> View:
    """The loss along a neuron's path, and the gradient whose area is its importance.

    Between the factors that were visited, values are read off straight lines.

    Args:
        factors: alpha, falling from 1 to 0.
        losses: at each of them.
        gradients: ||W|| ||g(alpha)||.
        slopes: <W, g(alpha)>.
        samples: the factors that the sum visits, falling.
        alpha: where the neuron stands now.
        title: begins the caption.
        label: the loss, with its unit.
        width: inches.
    """

    def at(places: np.ndarray | float, values: np.ndarray) -> np.ndarray:
        return np.interp(places, factors[::-1], values[::-1])

    picture, grid = new_picture(width, 3.5, 1, 2)
    left, right = grid[0]
    left.plot(factors, losses, color=BLUE)
    left.axhline(losses[0], color=GRAY, linewidth=0.8, linestyle=":")
    now, slope = float(at(alpha, losses)), float(at(alpha, slopes))
    near = np.clip([alpha - 0.15, alpha + 0.15], 0, 1)
    left.plot(near, now + slope * (near - alpha), color=RED, linewidth=2.4, label=f"slope {slope:+.3f}")
    left.plot(alpha, now, "o", color=RED, markersize=8)
    left.set(title="loss of the network", xlabel="alpha: 1 is the whole neuron, 0 is none", ylabel=label)
    left.legend(loc="upper left")
    right.fill_between(factors, gradients, color=ORANGE, alpha=0.25, linewidth=0)
    right.plot(factors, gradients, color=ORANGE, label="norms, ||W|| ||g||")
    right.plot(factors, np.abs(slopes), color=BLUE, linestyle="--", label="size of the slope, |<W, g>|")
    right.plot(samples, at(samples, gradients), "o", color="black", markersize=5, label="what the sum visits")
    right.axvline(alpha, color=RED, linewidth=1.2)
    right.set(title="gradient on the way", xlabel="alpha", ylabel=f"{label}, per unit of alpha", ylim=(0, None))
    right.legend(loc="upper left")
    for axes in (left, right):
        axes.set_xlim(1.02, -0.02)  # the neuron goes out to the right
        axes.grid()
    area = -np.trapezoid(gradients, factors)
    ratio = samples[1] / samples[0] if len(samples) > 1 else np.nan
    summed = f"{-np.log(ratio) * (samples * at(samples, gradients)).sum():.3f}" if len(samples) > 1 else "nothing to compare"
    text = (
        f"{title + ': ' if title else ''}at alpha {alpha:.2f} the loss is {now:.3f}. Removal raises it by {losses[-1] - losses[0]:+.3f}; "
        f"the shaded area is {area:.3f}, the sum over {len(samples)} black dots times -ln(mu) says {summed}."
    )
    return View(picture, text)

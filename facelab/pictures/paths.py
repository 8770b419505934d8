"""A neuron on its way out: the loss and its gradient while its weights shrink to zero."""

import numpy as np
from jaxtyping import Float

from facelab.pictures.style import BLUE, GRAY, ORANGE, RED, Picture, styled
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
        factors: alpha, falling from 1 to almost 0, for at 0 itself a ReLU has no gradient.
        losses: at each of them.
        gradients: ||W|| ||g(alpha)||.
        slopes: <W, g(alpha)>.
        samples: the factors that the sum visits, at least two, each the same share of the one before.
        alpha: where the neuron stands now.
        title: begins the caption.
        label: the loss, with its unit.
        width: inches.
    """

    def at(places: np.ndarray | float, values: np.ndarray) -> np.ndarray | float:
        return np.interp(places, factors[::-1], values[::-1])

    picture = Picture(figsize=(width, 3.5))  # at fixed places, since laying out takes longer than a slider waits
    left, right = picture.add_axes((0.075, 0.14, 0.4, 0.76)), picture.add_axes((0.575, 0.14, 0.415, 0.76))
    left.plot(factors, losses, color=BLUE)
    left.axhline(losses[0], color=GRAY, linewidth=0.8, linestyle=":")
    now, slope = float(at(alpha, losses)), float(at(alpha, slopes))
    near = np.clip([alpha - 0.15, alpha + 0.15], 0, 1)
    left.plot(near, now + slope * (near - alpha), color=RED, linewidth=2.4)
    left.plot(alpha, now, "o", color=RED, markersize=8)
    left.set(title=f"loss of the network, slope {slope:+.3f}", xlabel="alpha: 1 is the whole neuron, 0 is none", ylabel=label)
    right.fill_between(factors, gradients, color=ORANGE, alpha=0.25, linewidth=0)
    right.plot(factors, gradients, color=ORANGE, label="norms, ||W|| ||g||")
    right.plot(factors, np.abs(slopes), color=BLUE, linestyle="--", label="size of the slope, |<W, g>|")
    right.plot(samples, at(samples, gradients), "o", color="black", markersize=5, label="what the sum visits")
    right.axvline(alpha, ymax=0.68, color=RED, linewidth=1.2)  # below the legend
    right.set(
        title="gradient on the way", xlabel="alpha", ylabel=f"{label}, per unit of alpha", ylim=(0, 1.4 * max(float(gradients.max()), 1e-9))
    )
    right.legend(loc="upper left")
    for axes in (left, right):
        axes.set_xlim(1.02, -0.02)  # the neuron goes out to the right
        axes.set_xticks([1.0, 0.75, 0.5, 0.25, 0.0])
        axes.locator_params(axis="y", nbins=5)
        axes.grid(axis="y")
    area = -np.trapezoid(gradients, factors)
    summed = -np.log(samples[1] / samples[0]) * (samples * at(samples, gradients)).sum()
    text = (
        f"{title + ': ' if title else ''}at alpha {alpha:.2f} the loss is {now:.3f}. Removal raises it by {losses[-1] - losses[0]:+.3f}; "
        f"the shaded area is {area:.3f}, the sum over {len(samples)} black dots times -ln(mu) says {summed:.3f}."
    )
    return View(picture, text)

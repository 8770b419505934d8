"""Label smoothing on two classes of one number, in closed form: rate, missed labels, rule and strength."""

from functools import lru_cache

import numpy as np
import torch
from jaxtyping import Float
from scipy.special import expit, logit
from scipy.stats import norm

from facelab.explorers.explorer import Explorer, View
from facelab.explorers.parts import control
from facelab.methods import rhls
from facelab.pictures.smoothing import show_two_classes

APART = 2.5
"""How far the means of the two classes lie apart, in units of their common deviation."""
PLACES, AMOUNTS = np.linspace(-4.0, 5.0, 181), np.linspace(0.0, 0.9, 46)


def f1_beyond(decision: Float[np.ndarray, " N"], rate: float) -> Float[np.ndarray, " N"]:
    """F1 (0..1) of calling everything beyond `decision` positive, for the true labels; 0 where nothing is."""
    right, wrong = rate * norm.sf(decision - APART / 2), (1 - rate) * norm.sf(decision + APART / 2)
    return 2 * right / (right + wrong + rate)


def decision_of(smoothing: rhls.Strengths, rate: float, missed: float) -> float:
    """Where a perfect network that was trained on annotated labels answers one half; infinite if it never or always says more."""
    true = float(rhls.threshold(smoothing)[0]) / (1 - missed)  # of the true posterior
    return float((logit(np.clip(true, 0, 1)) - logit(rate)) / APART)


@lru_cache(maxsize=64)
def _scores(rate: float, missed: float) -> tuple[dict[str, np.ndarray], float]:
    """F1 of each rule for every strength, and that of the best threshold."""
    annotated = torch.tensor([rate * (1 - missed)], dtype=torch.float64)
    rules = ("plain", "Robin Hood", "inverse")
    found = {rule: [decision_of(rhls.strengths(annotated, float(a), rule), rate, missed) for a in AMOUNTS] for rule in rules}
    return {rule: f1_beyond(np.array(places), rate) for rule, places in found.items()}, float(f1_beyond(PLACES, rate).max())


class SmoothingExplorer(Explorer):
    """Make positives rare, miss some of their labels, smooth by a rule: where does the decision fall, and what does F1 say?

    Example:
        SmoothingExplorer()
    """

    def __init__(self) -> None:
        """Everything it shows it draws itself."""

        def draw(rate: float, missed: float, rule: rhls.Rule, alpha: float) -> View:
            annotated = torch.tensor([rate * (1 - missed)], dtype=torch.float64)
            smoothing = rhls.strengths(annotated, alpha, rule)
            true = expit(logit(rate) + APART * PLACES)
            seen = rhls.observed(torch.from_numpy(true), missed)
            answer = rhls.optimum(seen[:, None], smoothing)[:, 0]
            decision = decision_of(smoothing, rate, missed)
            reached, (scores, best) = float(f1_beyond(np.array([decision]), rate)[0]), _scores(rate, missed)
            positive = rate * norm.pdf(PLACES - APART / 2)
            densities = (1 - rate) * norm.pdf(PLACES + APART / 2), positive * (1 - missed), positive * missed
            curves = {"true": true, "annotated": seen.numpy(), "answer": answer.numpy()}
            picture = show_two_classes(PLACES, densities, curves, decision, AMOUNTS, scores, (rule, alpha, reached), best)
            at = f"falls at q = {float(rhls.threshold(smoothing)[0]):.3f}, x = {decision:.2f}" if np.isfinite(decision) else "lies nowhere"
            text = (
                f"{rate:.0%} positive, {float(annotated):.0%} annotated so; {rule} smoothing of {alpha:.2f} turns 0 into "
                f"{float(smoothing.negative[0]) / 2:.2f} and 1 into {1 - float(smoothing.positive[0]) / 2:.2f}. The decision "
                f"{at}; F1 {reached:.2f}, at the best threshold {best:.2f}."
            )
            return View(picture, text)

        controls = {
            "rate": control((0.03, 0.81, 0.03), 0.09, "positive rate"),
            "missed": control((0.0, 0.6, 0.1), 0.3, "missed"),
            "rule": control(["plain", "Robin Hood", "inverse"], "Robin Hood", "smoothing"),
            "alpha": control((0.0, 0.9, 0.1), 0.3, "strength"),
        }
        super().__init__(draw, controls, page={"rate": 6, "alpha": 6}, name="Smoothing explorer")
        if self.error is not None:
            raise self.error

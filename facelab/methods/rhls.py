"""Robin Hood label smoothing: confidence is taken from the rich class of each action unit, and never from the poor one.

Several yes-or-no labels are learnt at once, most of them seldom yes. Smoothing replaces a label by a soft target; here it does so
only for the class that most training samples have, so that the rare one keeps its full target. Closed forms tell where the decision
at one half then falls.

Source: Tallec, Dapogny, Bailly: Fighting noise and imbalance in Action Unit detection problems, ICASSP 2023,
https://arxiv.org/abs/2303.02994. That the majority alone is smoothed is the paper's. The exact target, half the strength as in uniform
smoothing over two classes and a majority for each unit, is our reconstruction, and so are the closed forms.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

Rule = Literal["none", "plain", "Robin Hood", "inverse"]
RULES: tuple[Rule, ...] = ("none", "plain", "Robin Hood", "inverse")
"""Which classes are smoothed: none, both, the majority of each unit, its minority."""


@dataclass(frozen=True)
class Strengths:
    """How much the labels of each unit are smoothed.

    Attributes:
        negative: (T,) of the label 0, from 0 to below 1; its target is half of it.
        positive: (T,) of the label 1, from 0 to below 1; its target is 1 less half of it.
    """

    negative: Float[Tensor, " T"]
    positive: Float[Tensor, " T"]

    def targets(self, labels: Float[Tensor, "*B T"]) -> Float[Tensor, "*B T"]:
        """The soft targets (0..1) of labels 0 and 1; a soft label gets the mean of the two, as it is their mixture."""
        return labels * (1 - self.positive / 2) + (1 - labels) * self.negative / 2


def frequencies(labels: Float[Tensor, "N T"]) -> Float[Tensor, " T"]:
    """How often each unit is positive (0..1) among the training samples that are labelled; -1 is no label.

    Raises:
        ValueError: a unit without any label.
    """
    labelled = labels >= 0
    if not labelled.any(dim=0).all():
        unit = int((~labelled.any(dim=0)).nonzero()[0])
        raise ValueError(f"Unit {unit} has no label among {len(labels)} samples; drop it, or give samples that are labelled.")
    return torch.where(labelled, labels, 0.0).sum(dim=0) / labelled.sum(dim=0)


def strengths(frequency: Float[Tensor, " T"], alpha: float, rule: Rule = "Robin Hood") -> Strengths:
    """The strengths that a rule gives to units of these frequencies; a unit at exactly one half has no majority.

        smoothing = strengths(frequencies(labels), alpha=0.3)
        loss = smoothed_cross_entropy(model(images), labels, smoothing)

    Args:
        frequency: of the positives (0..1), from the *training* labels.
        alpha: strength, from 0 (plain labels) to below 1.
        rule: of `RULES`.

    Raises:
        ValueError: `alpha` out of range, or no such rule.
    """
    if rule not in RULES:
        raise ValueError(f"{rule!r} is no rule of smoothing; choose among {', '.join(RULES)}.")
    if not 0 <= alpha < 1:
        raise ValueError(f"alpha = {alpha} is no strength of smoothing; give a number from 0 to below 1, such as 0.3.")
    rare, frequent = (alpha * side.to(frequency.dtype) for side in (frequency < 0.5, frequency > 0.5))
    chosen = {
        "none": (0 * rare, 0 * rare),
        "plain": (torch.full_like(rare, alpha), torch.full_like(rare, alpha)),
        "Robin Hood": (rare, frequent),
        "inverse": (frequent, rare),
    }
    return Strengths(*chosen[rule])


def smoothed_cross_entropy(logits: Float[Tensor, "B T"], labels: Float[Tensor, "B T"], smoothing: Strengths) -> Float[Tensor, ""]:
    """Cross-entropy of soft targets, softplus(o) - t o, summed over units and averaged over samples; a label -1 adds nothing."""
    each = F.softplus(logits) - smoothing.targets(labels) * logits
    return torch.where(labels >= 0, each, 0.0).sum() / len(labels)


def focal_loss(logits: Float[Tensor, "B T"], labels: Float[Tensor, "B T"], focus: float) -> Float[Tensor, ""]:
    """The rival that looks away from what is easy: (1 - p of the label)^focus times the cross-entropy, summed over units and averaged.

    A label -1 adds nothing.

    Source: Lin, Goyal, Girshick, He, Dollár: Focal loss for dense object detection, ICCV 2017, equation 4; `focus` is its gamma, and 0
    gives the plain cross-entropy.
    """
    signed = logits * (2 * labels - 1)
    each = torch.sigmoid(-signed) ** focus * F.softplus(-signed)
    return torch.where(labels >= 0, each, 0.0).sum() / len(labels)


# --- closed forms ----------------------------------------------------------------------------------------------------


def observed(posterior: Float[Tensor, "*N"], missed: float = 0.0, invented: float = 0.0) -> Float[Tensor, "*N"]:
    """The probability that the *annotated* label is 1, where the true one is 1 with probability `posterior`.

    Args:
        posterior: of a true positive (0..1).
        missed: share of the true positives that are annotated 0.
        invented: share of the true negatives that are annotated 1.
    """
    return posterior * (1 - missed) + (1 - posterior) * invented


def optimum(probability: Float[Tensor, "*N T"], smoothing: Strengths) -> Float[Tensor, "*N T"]:
    """What a perfect network answers: the mean target where the annotated label is 1 with this probability (0..1)."""
    return smoothing.targets(probability)


def threshold(smoothing: Strengths) -> Float[Tensor, " T"]:
    """The probability (0..1) of an annotated 1 above which a perfect network answers more than one half."""
    low, high = smoothing.negative / 2, 1 - smoothing.positive / 2
    return (0.5 - low) / (high - low)

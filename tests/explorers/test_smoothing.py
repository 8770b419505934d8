"""The closed forms of the smoothing explorer against numbers drawn at random."""

import numpy as np
import pytest
import torch

from facelab.explorers import SmoothingExplorer
from facelab.explorers.smoothing import APART, decision_of, f1_beyond
from facelab.methods.rhls import strengths


@pytest.mark.parametrize(("rate", "at"), [(0.1, 0.5), (0.6, -1.0)])
def test_f1_is_that_of_drawn_samples(rate, at):
    generator = np.random.default_rng(0)
    positive = generator.random(200_000) < rate
    said = generator.normal(np.where(positive, APART / 2, -APART / 2)) > at
    right = (said & positive).sum()
    assert f1_beyond(np.array([at]), rate)[0] == pytest.approx(2 * right / (said.sum() + positive.sum()), abs=0.01)


def test_without_errors_and_smoothing_the_decision_is_that_of_bayes():
    none = strengths(torch.tensor([0.1], dtype=torch.float64), 0.0)
    assert decision_of(none, 0.5, 0.0) == pytest.approx(0.0, abs=1e-12)
    assert decision_of(none, 0.1, 0.0) == pytest.approx(np.log(9) / APART)
    assert decision_of(none, 0.1, 0.6) == np.inf, "no face is annotated more often than not"


def test_plain_smoothing_alone_leaves_the_decision():
    explorer = SmoothingExplorer()

    def said(rule, alpha):
        return explorer.view(rule=rule, alpha=alpha).text.partition("The decision")[2]

    assert said("plain", 0.6) == said("plain", 0.1)
    assert len({said(rule, 0.6) for rule in ("plain", "Robin Hood", "inverse")}) == 3

"""Robin Hood smoothing: targets, the closed-form optimum and threshold against direct minimisation, symmetry, missing labels."""

import pytest
import torch
from torch.nn import functional as F

from facelab.methods.rhls import RULES, Strengths, focal_loss, frequencies, observed, optimum, smoothed_cross_entropy, strengths, threshold

FREQUENCY = torch.tensor([0.05, 0.5, 0.8])


@pytest.fixture
def batch():
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(50, 3, generator=generator, dtype=torch.float64)
    return logits, (torch.rand(50, 3, generator=generator, dtype=torch.float64) < 0.3).double()


def test_only_the_majority_of_each_unit_is_smoothed():
    smoothing = strengths(FREQUENCY, 0.2)
    targets = smoothing.targets(torch.tensor([[0.0, 0.0, 0.0], [1.0, 1.0, 1.0]]))
    torch.testing.assert_close(targets, torch.tensor([[0.1, 0.0, 0.0], [1.0, 1.0, 0.9]]))


def test_plain_smoothing_mixes_with_one_half(batch):
    smoothing = strengths(FREQUENCY.double(), 0.3, "plain")
    torch.testing.assert_close(smoothing.targets(batch[1]), 0.7 * batch[1] + 0.15)


def test_inverse_swaps_the_sides():
    ours, inverse = strengths(FREQUENCY, 0.4), strengths(FREQUENCY, 0.4, "inverse")
    assert torch.equal(ours.negative, inverse.positive) and torch.equal(ours.positive, inverse.negative)


@pytest.mark.parametrize("rule", RULES)
def test_without_strength_it_is_the_cross_entropy(batch, rule):
    loss = smoothed_cross_entropy(*batch, strengths(FREQUENCY.double(), 0.0, rule))
    torch.testing.assert_close(loss, F.binary_cross_entropy_with_logits(*batch, reduction="sum") / 50)


@pytest.mark.parametrize("rule", RULES)
def test_the_loss_is_lowest_at_the_closed_form(batch, rule):
    """Samples that share their logits: gradient descent on those three numbers ends at the mean target."""
    smoothing, labels = strengths(FREQUENCY.double(), 0.4, rule), batch[1]
    logits = torch.zeros(3, dtype=torch.float64, requires_grad=True)
    descent = torch.optim.LBFGS([logits], max_iter=100, line_search_fn="strong_wolfe")

    def step():
        descent.zero_grad()
        loss = smoothed_cross_entropy(logits.expand(50, 3), labels, smoothing)
        loss.backward()
        return loss

    descent.step(step)
    torch.testing.assert_close(torch.sigmoid(logits.detach()), optimum(labels.mean(dim=0), smoothing), atol=1e-4, rtol=0)


def test_complementing_labels_mirrors_the_method(batch):
    logits, labels = batch
    frequency = frequencies(labels)
    ours = smoothed_cross_entropy(logits, labels, strengths(frequency, 0.3))
    mirrored = smoothed_cross_entropy(-logits, 1 - labels, strengths(1 - frequency, 0.3))
    torch.testing.assert_close(ours, mirrored)


def test_threshold_is_where_the_optimum_crosses_one_half():
    smoothing = strengths(torch.tensor([0.1, 0.1, 0.9], dtype=torch.float64), 0.3)
    at = threshold(smoothing)
    torch.testing.assert_close(optimum(at, smoothing), torch.full_like(at, 0.5))
    torch.testing.assert_close(at[0], torch.tensor(0.7 / 1.7, dtype=torch.float64))
    torch.testing.assert_close(at[2], 1 - at[0])


@pytest.mark.parametrize("alpha", [0.0, 0.3, 0.9])
def test_plain_smoothing_leaves_the_threshold(alpha):
    torch.testing.assert_close(threshold(strengths(FREQUENCY, alpha, "plain")), torch.full((3,), 0.5))


def test_missed_positives_lower_what_is_observed():
    posterior = torch.tensor([0.0, 0.5, 1.0])
    torch.testing.assert_close(observed(posterior, missed=0.3), torch.tensor([0.0, 0.35, 0.7]))
    torch.testing.assert_close(observed(posterior, invented=0.1), torch.tensor([0.1, 0.55, 1.0]))


def test_missing_labels_count_nowhere(batch):
    logits, labels = batch[0].clone().requires_grad_(), batch[1].clone()
    labels[:10, 0] = -1
    torch.testing.assert_close(frequencies(labels)[0], labels[10:, 0].mean())
    smoothed_cross_entropy(logits, labels, strengths(frequencies(labels), 0.3)).backward()
    assert logits.grad is not None and not logits.grad[:10, 0].any() and logits.grad[10:].all()


def test_a_unit_without_labels_is_refused():
    with pytest.raises(ValueError, match="Unit 1 has no label among 2 samples"):
        frequencies(torch.tensor([[0.0, -1.0], [1.0, -1.0]]))


@pytest.mark.parametrize("alpha", [1.0, -0.1])
def test_what_is_no_smoothing_is_refused(alpha):
    with pytest.raises(ValueError, match=r"strength of smoothing"):
        strengths(FREQUENCY, alpha)


def test_an_unknown_rule_is_refused():
    with pytest.raises(Exception, match="robin"):  # by the types where they are checked, else by the function
        strengths(FREQUENCY, 0.3, "robin")  # type: ignore[arg-type]


def test_focal_loss_skips_missing_labels(batch):
    logits, labels = batch[0].clone().requires_grad_(), batch[1].clone()
    labels[:10, 0] = -1
    focal_loss(logits, labels, 2.0).backward()
    assert logits.grad is not None and not logits.grad[:10, 0].any() and logits.grad[10:].all()


def test_focal_loss(batch):
    logits, labels = batch
    plain = F.binary_cross_entropy_with_logits(logits, labels, reduction="none")
    torch.testing.assert_close(focal_loss(logits, labels, 0.0), plain.sum() / 50)
    torch.testing.assert_close(focal_loss(logits, labels, 2.0), ((1 - torch.exp(-plain)) ** 2 * plain).sum() / 50)


def test_soft_labels_are_mixtures():
    smoothing = Strengths(torch.tensor([0.2]), torch.tensor([0.4]))
    torch.testing.assert_close(smoothing.targets(torch.tensor([[0.25]])), torch.tensor([[0.25 * 0.8 + 0.75 * 0.1]]))

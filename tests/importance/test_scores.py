"""Scores of single samples, and of a network."""

import pytest
import torch
from torch import nn

from facelab.importance.scores import accuracy, evaluate, log_likelihood, negative_distance, negative_squared_error, unit_of
from facelab.networks.evaluation import evaluating


def test_scores_by_hand():
    outputs, targets = torch.tensor([[0.0, 0.0], [3.0, 1.0]]), torch.tensor([1, 0])
    assert accuracy(outputs, targets).tolist() == [0, 1]
    torch.testing.assert_close(log_likelihood(outputs, targets), -torch.tensor([2.0, 1 + torch.tensor(-2.0).exp()]).log())
    points, truth = torch.tensor([[[0.0, 0.0], [3.0, 4.0]]]), torch.zeros(1, 2, 2)
    assert negative_squared_error(points, truth).item() == -25 / 4
    assert negative_distance(points, truth).item() == -2.5
    assert unit_of(accuracy) == "share" and unit_of(lambda outputs, targets: outputs) == "score"


def test_the_score_of_a_network_is_per_sample_whatever_the_batches():
    model, inputs, targets = nn.Linear(3, 2), torch.rand(7, 3), torch.tensor([0, 1, 1, 0, 1, 0, 0])
    whole = evaluate(model, [(inputs, targets)], log_likelihood)
    parts = evaluate(model, list(zip(inputs.split(3), targets.split(3), strict=True)), log_likelihood)
    torch.testing.assert_close(parts, whole)


def test_a_model_is_given_back_as_it_was():
    model = nn.Sequential(nn.Linear(2, 2), nn.Dropout())
    model[1].eval()
    model[0].bias.requires_grad_(False)
    with evaluating(model):
        assert not model.training
        model[0].bias.requires_grad_(True)
    assert model.training and not model[1].training and not model[0].bias.requires_grad


def test_errors_name_what_is_wrong():
    with pytest.raises(ValueError, match="no batch"):
        evaluate(nn.Linear(1, 1), [], accuracy)
    with pytest.raises(ValueError, match="one number per sample"):
        evaluate(nn.Linear(1, 2), [(torch.rand(3, 1), torch.zeros(3))], lambda outputs, targets: outputs)

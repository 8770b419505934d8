"""Latency: a network that computes twenty times as much takes longer, and nothing about a network is changed by timing it."""

import numpy as np
import pytest
import torch
from torch import nn

from facelab.networks.latency import latency


def test_more_work_takes_longer_round_by_round():
    small = nn.Linear(512, 512)
    large = nn.Sequential(*(nn.Linear(512, 512) for _ in range(20)))
    times = latency({"small": small, "large": large}, torch.randn(64, 512), rounds=9, seconds=0.002)
    assert times["small"].shape == times["large"].shape == (9,) and (times["small"] > 0).all()
    assert np.median(times["large"] / times["small"]) > 4


def test_it_is_asked_in_evaluation_mode_and_left_as_it_was():
    class Watched(nn.Module):
        def forward(self, x):
            seen.append((self.training, torch.is_grad_enabled()))
            return x

    seen: list = []
    model = Watched().train()
    latency({"it": model}, torch.ones(1, 1), rounds=1, seconds=0.0)
    assert set(seen) == {(False, False)} and model.training


@pytest.mark.parametrize("networks", [{}, {"it": nn.Identity()}])
def test_nothing_to_measure_is_refused(networks):
    with pytest.raises(ValueError, match="give at least one of each"):
        latency(networks, torch.ones(1, 1), rounds=0)


def test_a_network_that_keeps_something_can_be_trained_afterwards():
    class Keeping(nn.Linear):
        kept = None

        def forward(self, x):
            self.kept = torch.ones(3) if self.kept is None else self.kept
            return super().forward(x) * self.kept

    model = Keeping(3, 3)
    latency({"it": model}, torch.ones(1, 3), rounds=1, seconds=0.0)
    model(torch.ones(1, 3)).sum().backward()
    assert model.weight.grad is not None

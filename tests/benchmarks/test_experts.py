"""Processor time of batched experts beside a loop over ordinary networks, and of a training step of the cascade, on one thread."""

import time

import pytest
import torch
from torch import nn

from facelab.blocks import ExpertMLP, seeded
from facelab.methods.tree_moe import TreeMoE, tree_moe_loss

pytestmark = pytest.mark.benchmark(timer=time.process_time)
EXPERTS, INPUTS, HIDDEN, OUTPUTS = 64, 174, 16, 58


def loop():
    return nn.ModuleList(
        nn.Sequential(nn.Linear(INPUTS, HIDDEN, bias=False), nn.BatchNorm1d(HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, OUTPUTS))
        for _ in range(EXPERTS)
    )


def least(step, rounds=15):
    """Seconds of the quickest of several forward and backward passes."""
    taken = []
    for _ in range(rounds):
        start = time.process_time()
        step().square().sum().backward()
        taken.append(time.process_time() - start)
    return min(taken)


def test_batched_experts_are_three_times_as_fast_as_a_loop_over_them():
    inputs = torch.randn(32, INPUTS, generator=torch.Generator().manual_seed(0))
    batched, single = ExpertMLP(EXPERTS, INPUTS, HIDDEN, OUTPUTS), loop()
    quick = least(lambda: batched(inputs))
    slow = least(lambda: torch.stack([expert(inputs) for expert in single], dim=1))
    assert slow > 3 * quick, f"loop {1e3 * slow:.2f} ms, batched {1e3 * quick:.2f} ms"


def test_a_training_step_of_the_cascade(benchmark):
    generator = torch.Generator().manual_seed(0)
    images, points = torch.rand(32, 1, 48, 48, generator=generator), 48 * torch.rand(32, 29, 2, generator=generator)
    with seeded(0):
        model = TreeMoE(points.mean(dim=0), 48, spacings=(3.0, 2.0), patch=8, channels=(8, 12))
    optimizer = torch.optim.Adam(model.parameters())

    def step():
        optimizer.zero_grad()
        tree_moe_loss(model(images), points, torch.zeros(32, 3)).backward()
        optimizer.step()

    benchmark.pedantic(step, rounds=5, warmup_rounds=2)
    assert benchmark.stats.stats.min < 0.1

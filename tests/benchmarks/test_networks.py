"""Processor seconds per training step and per picture of the networks of the course, on one thread.

The limits are several times what an idle core needs: they catch a change that makes training slow, not a busy machine.
"""

import time

import pytest
import torch

from facelab.blocks import ConvRegressor, augment, convert_landmarks, landmark_loss, seeded
from facelab.markups import markup
from facelab.methods.decafa import DeCaFA, decafa_loss
from facelab.methods.recombinator import RCN, SumNet, recombinator_loss


def decafa(model, images, landmarks):
    return decafa_loss(model(images), {size: convert_landmarks(landmarks, size) for size in (68, 5)})


def recombinator(model, images, landmarks):
    return recombinator_loss(model(images), convert_landmarks(landmarks, 5))


def regressor(model, images, landmarks):
    return landmark_loss(model(images), landmarks)


pytestmark = pytest.mark.benchmark(timer=time.process_time)

# name: (model, loss, side of the images, batch, most seconds per step)
STEPS = {
    "plain CNN, 64 px x 32": (lambda: ConvRegressor(68, 64), regressor, 64, 32, 0.2),
    "DeCaFA 3 stages, 64 px x 32": (lambda: DeCaFA(markups=(68, 5), stride=2), decafa, 64, 32, 0.6),
    "DeCaFA 3 stages, 48 px x 16": (lambda: DeCaFA(markups=(68, 5), stride=2), decafa, 48, 16, 0.2),
    "DeCaFA 2 stages of the zoo's size, 64 px x 32": (
        lambda: DeCaFA(markups=(68, 5), stages=2, channels=(16, 24, 32, 48), stride=2),
        decafa,
        64,
        32,
        0.6,
    ),
    "SumNet 4 branches, 48 px x 16": (lambda: SumNet(5), recombinator, 48, 16, 0.15),
    "RCN 4 branches, 48 px x 16": (lambda: RCN(5), recombinator, 48, 16, 0.15),
}


def faces(batch, size):
    generator = torch.Generator().manual_seed(0)
    return torch.rand(batch, 1, size, size, generator=generator), torch.rand(batch, 68, 2, generator=generator) * size


@pytest.mark.parametrize("name", STEPS)
def test_training_step(benchmark, name):
    build, loss, size, batch, limit = STEPS[name]
    with seeded(0):
        model = build().to(memory_format=torch.channels_last)
    optimizer = torch.optim.Adam(model.parameters())
    images, landmarks = faces(batch, size)

    def step():
        optimizer.zero_grad()
        loss(model, images, landmarks).backward()
        optimizer.step()

    benchmark.pedantic(step, rounds=5, warmup_rounds=1)
    assert benchmark.stats.stats.min < limit


def test_augmentation_is_cheap_beside_a_step(benchmark):
    images, landmarks = faces(32, 64)
    generator = torch.Generator().manual_seed(0)
    benchmark.pedantic(lambda: augment(images, landmarks, markup(68), generator), rounds=5, warmup_rounds=1)
    assert benchmark.stats.stats.min < 0.05


def test_one_face_is_answered_in_time_for_a_slider(benchmark):
    with seeded(0):
        model = DeCaFA(stages=2, channels=(16, 24, 32, 48), stride=2).eval()
    images, _ = faces(1, 64)
    with torch.no_grad():
        benchmark.pedantic(lambda: model(images), rounds=10, warmup_rounds=2)
    assert benchmark.stats.stats.min < 0.05

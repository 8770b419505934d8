"""The core on something else than faces: a generator against a discriminator on digits, in a loop written by hand that can be stopped."""

import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.nn.functional import softplus

from facelab.blocks import seeded
from facelab.training import Resumable, batches

IMAGES, LABELS = load_digits(return_X_y=True)
DIGITS = torch.tensor(IMAGES, dtype=torch.float32) / 8 - 1  # 64 pixels, -1..1
STEPS = 400


def perceptron(inputs, outputs, dropout=0.0):
    layers = [(nn.Linear(width, 128), nn.LeakyReLU(0.2), nn.Dropout(dropout)) for width in (inputs, 128)]
    return nn.Sequential(*layers[0], *layers[1], nn.Linear(128, outputs))


def update(optimizer, loss):
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()


def play(folder=None, stop=STEPS, fair=True):
    """The generator after `stop` steps, and the losses; in an unfair game the discriminator never learns."""
    with seeded(0):
        generator, discriminator = perceptron(16, 64), perceptron(64, 1, dropout=0.3)
    creating, judging = (torch.optim.Adam(player.parameters(), lr=2e-3, betas=(0.0, 0.99)) for player in (generator, discriminator))
    parts = {"generator": generator, "discriminator": discriminator, "creating": creating, "judging": judging}
    state = Resumable(folder, parts, {"digits": DIGITS, "steps": STEPS, "fair": fair})
    for step, real, random in batches(DIGITS, STEPS, 64, start=state.step, progress=False):
        if step == stop:
            break
        fake = generator(torch.randn(64, 16, generator=random)).tanh()
        if fair:
            update(judging, softplus(discriminator(fake.detach())).mean() + softplus(-discriminator(real)).mean())
        update(creating, loss := softplus(-discriminator(fake)).mean())
        state.record.setdefault("losses", []).append(loss.item())
        if (step + 1) % 100 == 0:
            state.save(step)
    made = generator(torch.randn(500, 16, generator=torch.Generator().manual_seed(1))).tanh()
    distances, nearest = torch.cdist(made.detach(), DIGITS).min(dim=1)
    return generator.state_dict(), state.record.get("losses", []), distances.mean().item(), len(set(LABELS[nearest].tolist()))


def test_a_generator_learns_digits_and_goes_on_where_it_was_stopped(tmp_path):
    weights, losses, distance, classes = play()
    play(tmp_path, stop=250)  # the last fifty steps are lost
    resumed, again, *figures = play(tmp_path)
    assert all(torch.equal(weights[name], resumed[name]) for name in weights)
    assert again == losses and len(losses) == STEPS and figures == [distance, classes]
    bound = 0.65 * play(stop=0)[2]
    assert distance < bound < play(stop=100, fair=False)[2] and classes >= 8

"""Two networks that the course does not contain, as a user would have them: one with attention, one with depthwise convolutions."""

import copy
from functools import cache

import torch
import torch.nn.functional as F
from torch import nn


class Attentive(nn.Module):
    """Patches as tokens, torch's own encoder layer, a class token."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 16, 4, 4)
        self.token = nn.Parameter(torch.zeros(1, 1, 16))
        self.encoder = nn.TransformerEncoderLayer(16, 2, 24, dropout=0.0, batch_first=True)
        self.head = nn.Sequential(nn.Linear(16, 12), nn.ReLU(), nn.Linear(12, 4))

    def forward(self, images):
        tokens = self.patches(images).flatten(2).transpose(1, 2)
        return self.head(self.encoder(torch.cat([self.token.expand(len(images), -1, -1), tokens], dim=1))[:, 0])


class Mobile(nn.Module):
    """Inverted residuals with batch norms and a squeeze-and-excitation."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1, bias=False), nn.BatchNorm2d(8), nn.ReLU6())
        self.expand = nn.Sequential(nn.Conv2d(8, 24, 1, bias=False), nn.BatchNorm2d(24), nn.ReLU6())
        self.depthwise = nn.Sequential(nn.Conv2d(24, 24, 3, 1, 1, groups=24, bias=False), nn.BatchNorm2d(24), nn.ReLU6())
        self.squeeze = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(24, 6, 1), nn.ReLU(), nn.Conv2d(6, 24, 1), nn.Hardsigmoid())
        self.project = nn.Sequential(nn.Conv2d(24, 8, 1, bias=False), nn.BatchNorm2d(8))
        self.head = nn.Linear(8, 4)

    def forward(self, images):
        maps = self.stem(images)
        wide = self.depthwise(self.expand(maps))
        maps = maps + self.project(wide * self.squeeze(wide))
        return self.head(F.relu(maps).mean(dim=(2, 3)))


@cache
def _built(kind: type[nn.Module]) -> nn.Module:
    torch.manual_seed(0)
    model = kind()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.uniform_(-0.5, 0.5)
            module.running_var.uniform_(0.5, 2.0)
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    for _ in range(15):
        for inputs, targets in loaders()[0]:
            optimizer.zero_grad()
            F.cross_entropy(model(inputs), targets).backward()
            optimizer.step()
    return model.eval()


def attentive() -> nn.Module:
    return copy.deepcopy(_built(Attentive))


def mobile() -> nn.Module:
    return copy.deepcopy(_built(Mobile))


def loaders():
    """Which of three colours is brightest, or none: lists of batches."""
    generator = torch.Generator().manual_seed(1)

    def batches(count):
        made = []
        for _ in range(count):
            images, labels = torch.rand(32, 3, 16, 16, generator=generator), torch.randint(4, (32,), generator=generator)
            images[labels < 3, labels[labels < 3]] += 0.3
            made.append((images, labels))
        return made

    return batches(6), batches(3)

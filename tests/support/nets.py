"""Small networks with random weights for the tests of importance: plain, residual, with branches, with attention to layers' order."""

import torch
import torch.nn.functional as F
from torch import nn


class Plain(nn.Sequential):
    """Convolutions, batch norms, one without a norm, two linear layers."""

    def __init__(self, width: int = 6):
        super().__init__(
            *(nn.Conv2d(1, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU(inplace=True), nn.MaxPool2d(2)),
            *(nn.Conv2d(width, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU(inplace=True)),
            *(nn.Conv2d(8, 5, 3, stride=2), nn.GELU(), nn.Flatten(), nn.Linear(20, 12), nn.ReLU(), nn.Linear(12, 4)),
        )


class Block(nn.Module):
    def __init__(self, inputs: int, outputs: int, stride: int):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(outputs)
        self.skip = nn.Identity()
        if stride != 1 or inputs != outputs:
            self.skip = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, x):
        hidden = F.relu(self.norm1(self.conv1(x)))
        return F.relu(self.norm2(self.conv2(hidden)) + self.skip(x))


class Residual(nn.Module):
    """The layout of ResNet-18 at any width: a stem, `blocks` basic blocks per width, global mean, linear."""

    def __init__(self, widths=(4, 8), blocks: int = 2, classes: int = 4):
        super().__init__()
        self.stem = nn.Conv2d(1, widths[0], 3, 1, 1, bias=False)
        self.norm = nn.BatchNorm2d(widths[0])
        rows = [
            (a, b, 2 if i and k == 0 else 1) for i, b in enumerate(widths) for k in range(blocks) for a in [widths[i - (i > 0 and k == 0)]]
        ]
        self.blocks = nn.Sequential(*(Block(*row) for row in rows))
        self.head = nn.Linear(widths[-1], classes)

    def forward(self, x):
        return self.head(self.blocks(F.relu(self.norm(self.stem(x)))).mean((2, 3)))


class Preactivated(nn.Module):
    """Norm and activation before the convolutions, and an addition in place."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(1, 6, 3, padding=1)
        self.norm1, self.conv1 = nn.BatchNorm2d(6), nn.Conv2d(6, 6, 3, padding=1)
        self.norm2, self.conv2 = nn.BatchNorm2d(6), nn.Conv2d(6, 4, 3, padding=1, groups=2)
        self.head = nn.Linear(4, 4)

    def forward(self, x):
        x = self.stem(x)
        x += self.conv1(self.norm1(x).relu())
        return self.head(F.adaptive_avg_pool2d(self.conv2(torch.relu(self.norm2(x))), 1).flatten(1))


class Squeezing(nn.Module):
    """A residual addition of a product with a gate (squeeze and excitation), and a scaled one."""

    def __init__(self):
        super().__init__()
        self.stem, self.conv = nn.Conv2d(1, 6, 3, padding=1), nn.Conv2d(6, 6, 3, padding=1)
        self.down, self.up, self.last, self.head = nn.Linear(6, 3), nn.Linear(3, 6), nn.Conv2d(6, 6, 3, padding=1), nn.Linear(6, 4)

    def forward(self, x):
        x = F.relu(self.stem(x))
        branch = F.relu(self.conv(x))
        gate = torch.sigmoid(self.up(F.relu(self.down(branch.mean((2, 3))))))
        x = F.relu(x + branch * gate[:, :, None, None])
        return self.head((x + 0.5 * self.last(x)).mean((2, 3)))


class Hourglass(nn.Module):
    """Like DeCaFA: skip by concatenation, upsampling, a spatial softmax whose maps multiply the features of a second stage."""

    def __init__(self):
        super().__init__()
        self.down, self.deep = nn.Conv2d(1, 5, 3, padding=1), nn.Conv2d(5, 6, 3, padding=1)
        self.group, self.depthwise = nn.GroupNorm(2, 6), nn.Conv2d(6, 6, 3, padding=1, groups=6)
        self.up, self.maps = nn.Conv2d(11, 4, 3, padding=1), nn.Conv2d(4, 3, 1)
        self.second, self.third, self.last = nn.Conv2d(4, 4, 3, padding=1), nn.ConvTranspose2d(4, 3, 2, stride=2), nn.Linear(3, 4)

    def forward(self, x):
        fine = F.relu(self.down(x))
        coarse = F.silu(self.depthwise(F.relu(self.group(self.deep(F.max_pool2d(fine, 2))))))
        merged = F.relu(self.up(torch.cat([fine, F.interpolate(coarse, size=fine.shape[-2:])], dim=1)))
        logits = self.maps(merged)
        maps = logits.flatten(2).softmax(2).view(x.size(0), 3, fine.shape[2], fine.shape[3])
        attention = maps.sum(1, keepdim=True)
        attended = self.second(merged * (attention / attention.amax(dim=(2, 3), keepdim=True)))
        return self.last(self.third(attended).sigmoid().mean(dim=(2, 3)))


class Mixer(nn.Module):
    """Linear layers on tokens, with layer norm and residual additions."""

    def __init__(self):
        super().__init__()
        self.embed, self.norm1, self.wide, self.narrow = nn.Linear(12, 8), nn.LayerNorm(8), nn.Linear(8, 16), nn.Linear(16, 8)
        self.tokens, self.norm2, self.head = nn.Linear(12, 12), nn.LayerNorm(8), nn.Linear(8, 4)

    def forward(self, x):
        x = self.embed(x[:, 0])
        x = x + self.narrow(F.gelu(self.wide(self.norm1(x))))
        x = x + self.tokens(x.transpose(1, 2)).transpose(1, 2)
        return self.head(self.norm2(x).mean(1))


class Stubborn(nn.Module):
    """What torch.fx cannot trace: a branch that depends on values."""

    def __init__(self):
        super().__init__()
        self.net = Residual((4,), 1)

    def forward(self, x):
        return self.net(x) if x.mean() < 1e9 else self.net(-x)


NETS = {net.__name__: net for net in (Plain, Residual, Preactivated, Squeezing, Hourglass, Mixer)}


def lively(model: nn.Module, seed: int = 0) -> nn.Module:
    """The model in evaluation mode, its batch norms with random statistics as after a training."""
    generator = torch.Generator().manual_seed(seed)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.3, generator=generator)
            module.running_var.uniform_(0.5, 1.5, generator=generator)
            module.weight.data.uniform_(0.5, 1.5, generator=generator)
            module.bias.data.normal_(0, 0.3, generator=generator)
    return model.eval()


def batches(samples: int = 12, size: int = 12, batch: int = 5, classes: int = 4, seed: int = 0):
    """A loader: batches of noise of unequal strength, so that some channels are silent in some samples, and random classes."""
    generator = torch.Generator().manual_seed(seed)
    images = torch.randn(samples, 1, size, size, generator=generator) * torch.linspace(0.1, 2, samples)[:, None, None, None]
    labels = torch.randint(classes, (samples,), generator=generator)
    return list(zip(images.split(batch), labels.split(batch), strict=True))

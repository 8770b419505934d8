"""Small networks with loaders, as users of a report bring them: one of each kind, with its own answers as targets."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import nn

TRAINING, EVALUATION, ROWS = 40, 27, 16  # so that the last batch is smaller


class Residual(nn.Module):
    """A stem and a residual block with batch norms, on images."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(1, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU(inplace=True))
        self.body = nn.Conv2d(6, 6, 3, padding=1)
        self.head = nn.Linear(6, 3)

    def forward(self, x):
        x = self.stem(x)
        return self.head(torch.relu(x + self.body(x)).mean(dim=(2, 3)))


class Separable(nn.Module):
    """A depthwise and a pointwise convolution."""

    def __init__(self):
        super().__init__()
        self.stem, self.deep = nn.Conv2d(1, 8, 3), nn.Conv2d(8, 8, 3, groups=8)
        self.point, self.head = nn.Conv2d(8, 10, 1), nn.Linear(10, 3)

    def forward(self, x):
        return self.head(F.relu(self.point(F.relu(self.deep(F.relu(self.stem(x)))))).mean(dim=(2, 3)))


class Transformer(nn.Module):
    """torch's own encoder layer on sequences."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Linear(4, 8)
        self.encoder = nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True), 1)
        self.head = nn.Linear(8, 3)

    def forward(self, x):
        return self.head(self.encoder(self.embed(x)).mean(dim=1))


class Signal(nn.Module):
    """Convolutions along time."""

    def __init__(self):
        super().__init__()
        self.first, self.second, self.head = nn.Conv1d(2, 6, 3), nn.Conv1d(6, 6, 3), nn.Linear(6, 3)

    def forward(self, x):
        return self.head(F.relu(self.second(F.relu(self.first(x)))).mean(dim=2))


class Recurrent(nn.Module):
    """Tokens through an embedding and a gated recurrent unit."""

    def __init__(self):
        super().__init__()
        self.embedding, self.recurrent = nn.Embedding(20, 6), nn.GRU(6, 8, batch_first=True)
        self.body, self.head = nn.Linear(8, 8), nn.Linear(8, 3)

    def forward(self, tokens):
        return self.head(F.relu(self.body(self.recurrent(self.embedding(tokens))[0][:, -1])))


class Regressor(nn.Module):
    """One number for each sample, (B,)."""

    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Linear(5, 8), nn.Linear(8, 1)

    def forward(self, x):
        return self.last(F.relu(self.first(x))).squeeze(-1)


class Careless(nn.Module):
    """An answer that no layer has a say in."""

    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Linear(5, 6), nn.Linear(6, 3)

    def forward(self, x):
        return 0 * self.last(F.relu(self.first(x))) + torch.arange(3.0)


class Auxiliary(nn.Module):
    """A head that runs and is not returned."""

    def __init__(self):
        super().__init__()
        self.first, self.aside, self.last = nn.Linear(5, 6), nn.Linear(6, 2), nn.Linear(6, 3)

    def forward(self, x):
        hidden = F.relu(self.first(x))
        self.aside(hidden)
        return self.last(hidden)


class Patches(nn.Module):
    """Layers that see four patches of each image, so that their rows count patches."""

    def __init__(self):
        super().__init__()
        self.convolution, self.last = nn.Conv2d(1, 4, 3), nn.Linear(4, 3)

    def forward(self, x):
        patches = x.unfold(2, 4, 4).unfold(3, 4, 4).permute(0, 2, 3, 1, 4, 5).reshape(-1, 1, 4, 4)
        return self.last(F.relu(self.convolution(patches)).mean((2, 3)).view(len(x), -1, 4).mean(1))


class Segmenter(nn.Module):
    """A class for each pixel."""

    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Conv2d(1, 6, 3, padding=1), nn.Conv2d(6, 2, 1)

    def forward(self, x):
        return self.last(F.relu(self.first(x)))


def perceptron(width: int = 8) -> nn.Module:
    """Three layers on a table."""
    return nn.Sequential(nn.Linear(5, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 3))


def normalised_weights() -> nn.Module:
    """Two kinds of weight normalisation."""
    first = nn.utils.parametrizations.weight_norm(nn.Linear(5, 8))
    return nn.Sequential(first, nn.ReLU(), nn.utils.spectral_norm(nn.Linear(8, 8)), nn.ReLU(), nn.Linear(8, 3))


def batches(inputs, targets, as_dictionary: bool = False) -> list:
    """In batches of 16, the last one smaller."""
    pairs = zip(inputs.split(ROWS), targets.split(ROWS), strict=True)
    return [{"features": x, "labels": y} if as_dictionary else (x, y) for x, y in pairs]


KINDS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "residual": (Residual, (1, 8, 8)),
    "perceptron": (perceptron, (5,)),
    "separable": (Separable, (1, 8, 8)),
    "transformer": (Transformer, (6, 4)),
    "signal": (Signal, (2, 12)),
    "recurrent": (Recurrent, (7,)),
    "regressor": (Regressor, (5,)),
    "one layer": (lambda: nn.Sequential(nn.Linear(5, 3)), (5,)),
    "careless": (Careless, (5,)),
    "normalised weights": (normalised_weights, (5,)),
    "double": (lambda: perceptron().double(), (5,)),
    "dictionaries": (perceptron, (5,)),
    "auxiliary": (Auxiliary, (5,)),
    "patches": (Patches, (1, 8, 8)),
    "segmenter": (Segmenter, (1, 8, 8)),
    "bytes": (lambda: Bytes(), (1, 8, 8)),
}
"""Name -> how to build it, and the shape of its inputs."""


class Bytes(Residual):
    """Images as whole numbers."""

    def forward(self, x):
        return super().forward(x.float() / 255)


def build(kind: str) -> nn.Module:
    """The network of a kind, made sure of its answers, so that disturbing it costs something."""
    torch.manual_seed(0)
    model = KINDS[kind][0]().eval()
    last = [module for module in model.modules() if isinstance(module, nn.Linear | nn.Conv2d)][-1]
    with torch.no_grad():
        last.weight.mul_(10)
    return model


def loaders(kind: str) -> tuple[list, list]:
    """Training and evaluation; the classes are the network's own answers, so that disturbing it costs something."""
    generator = torch.Generator().manual_seed(1)
    model, made = build(kind), []
    dtype = next(model.parameters()).dtype
    for count in (TRAINING, EVALUATION):
        shape = (count, *KINDS[kind][1])
        inputs = torch.randn(shape, generator=generator, dtype=dtype)
        if kind == "recurrent":
            inputs = torch.randint(20, shape, generator=generator)
        if kind == "bytes":
            inputs = torch.randint(256, shape, generator=generator).to(torch.uint8)
        with torch.no_grad():
            outputs = model(inputs)
        targets = outputs if kind == "regressor" else outputs.argmax(dim=1)
        made.append(batches(inputs, targets, kind == "dictionaries"))
    return made[0], made[1]


def pixelwise(outputs, targets):
    """Mean log likelihood over the pixels of a sample."""
    return -F.cross_entropy(outputs, targets, reduction="none").flatten(1).mean(dim=1)


def load(kind: str):
    """What a function of the user returns as data."""
    return (*loaders(kind), pixelwise) if kind == "segmenter" else loaders(kind)

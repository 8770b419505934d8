"""Networks put together at random, with the ties between their channels kept by hand while they grow."""

import torch
import torch.nn.functional as F
from strangers import CLASSES, Stranger, images, labels, lively
from torch import nn

OPERATIONS = (
    *("convolution", "depthwise", "norm", "relu", "leaky", "sigmoid", "group norm", "pool", "shuffle", "double", "half", "gate"),
    *("keep", "add", "subtract", "concatenate", "keep", "add"),  # often
)


class Random(nn.Module):
    """Runs steps (operation, name of its layer) one after the other."""

    def __init__(self, steps, layers, opaque: bool):
        super().__init__()
        self.steps, self.opaque, self.layers = steps, opaque, nn.ModuleDict(layers)

    def forward(self, x):
        if self.opaque and not bool(x.isfinite().all()):
            raise ValueError
        kept = None
        for what, name in self.steps:
            match what:
                case "relu":
                    x = F.relu(x)
                case "leaky":
                    x = F.leaky_relu(x)
                case "sigmoid":
                    x = x.sigmoid()
                case "pool":
                    x = F.avg_pool2d(x, 3, 1, 1)
                case "shuffle":
                    x = x.unflatten(1, (2, -1)).transpose(1, 2).flatten(1, 2)
                case "double":
                    x = torch.cat([x, x], 1)
                case "half":
                    x = x.chunk(2, 1)[0]
                case "gate":
                    x = x * self.layers[name](x.mean((2, 3))).sigmoid()[:, :, None, None]
                case "keep":
                    kept = x
                case "add":
                    x = x + kept
                case "subtract":
                    x = kept - x
                case "concatenate":
                    x = torch.cat([kept, x], 1)
                case "flatten":
                    x = x.flatten(1)
                case _:
                    x = self.layers[name](x)
        return x


class Growing:
    """A network on its way: the label of each channel that comes out (None where channels are mixed), and who has which labels."""

    def __init__(self):
        self.steps, self.layers, self.order = [], {}, []
        self.parent: list[int] = []
        self.places: dict[str, list] = {}  # module -> label of each of its outputs
        self.now: list = [None] * 3
        self.zero = True  # whether a channel of zeros is one of zeros here
        self.kept: tuple | None = None
        self.since = 0  # number of steps when it was kept

    def root(self, label: int) -> int:
        return label if self.parent[label] == label else self.root(self.parent[label])

    def tie(self, ours: list, theirs: list) -> None:
        for a, b in zip(ours, theirs, strict=True):
            if a is not None and b is not None:
                self.parent[self.root(a)] = self.root(b)

    def layer(self, what: str, module: nn.Module, outputs: list | int) -> None:
        """A module, with new labels or those that pass through."""
        name = f"m{len(self.layers)}"
        self.layers[name] = module
        self.steps.append((what, name))
        if isinstance(outputs, int):
            outputs = list(range(len(self.parent), len(self.parent) + outputs))
            self.parent += outputs
            self.order.append(f"layers.{name}")
        self.places[f"layers.{name}"] = outputs

    def known(self, labels: list, zero: bool) -> bool:
        return zero and any(label is not None for label in labels)

    def grow(self, what: str, amount: int) -> None:
        """One more step, if it fits."""
        channels, known = len(self.now), self.known(self.now, self.zero)
        match what:
            case "convolution":
                self.layer(what, nn.Conv2d(channels, amount, 3, padding=1), amount)
                self.now, self.zero = self.places[f"layers.m{len(self.layers) - 1}"], True
            case "depthwise" if channels > 1:
                before = self.now if known else [None] * channels
                self.layer(what, nn.Conv2d(channels, channels, 3, padding=1, groups=channels), channels)
                self.now, self.zero = self.places[f"layers.m{len(self.layers) - 1}"], True
                self.tie(self.now, before)
            case "norm":
                self.layer(what, nn.BatchNorm2d(channels), self.now)
                self.zero = True
            case "group norm":
                self.layer(what, nn.GroupNorm(1, channels), [None] * channels)
                self.now, self.zero = [None] * channels, True
            case "sigmoid":
                self.steps.append((what, ""))
                self.zero = False
            case "relu" | "leaky" | "pool":
                self.steps.append((what, ""))
            case "shuffle" | "half" if channels % 2 == 0:
                self.steps.append((what, ""))
                half = channels // 2
                mixed = [self.now[i + j * half] for i in range(half) for j in range(2)]
                self.now = mixed if what == "shuffle" else self.now[:half]
            case "double" if channels < 8:
                self.steps.append((what, ""))
                self.now = self.now + self.now
            case "gate":
                self.layer(what, nn.Linear(channels, channels), channels)
                self.now, self.zero = self.now if known else [None] * channels, True
            case "keep":
                self.steps.append((what, ""))
                self.kept, self.since = (self.now, self.zero), len(self.steps)
            case "add" | "subtract" if self.since < len(self.steps) and self.kept and len(self.kept[0]) == channels:
                self.steps.append((what, ""))
                both = known and self.known(*self.kept)
                if both:
                    self.tie(self.now, self.kept[0])
                self.now, self.zero = self.now if both else [None] * channels, True
            case "concatenate" if self.since < len(self.steps) and self.kept and channels + len(self.kept[0]) < 12:
                self.steps.append((what, ""))
                ours = self.now if known else [None] * channels
                theirs = self.kept[0] if self.known(*self.kept) else [None] * len(self.kept[0])
                self.now, self.zero = theirs + ours, True


def random_network(drawn: list[tuple[str, int]], opaque: bool, seed: int) -> Stranger:
    """From steps (operation, number of channels if it needs one); what does not fit is left out."""
    torch.manual_seed(seed)
    side, net = 4, Growing()
    net.grow("convolution", 4)
    for what, amount in drawn:
        net.grow(what, amount)
    net.steps.append(("flatten", ""))
    net.layer("linear", nn.Linear(len(net.now) * side * side, CLASSES), CLASSES)
    members: dict[int, dict[str, list[int]]] = {}
    for name, there in net.places.items():
        for position, label in enumerate(there):
            if label is not None:
                members.setdefault(net.root(label), {}).setdefault(name, []).append(position)
    ties = {}
    for places in members.values():
        names = [name for name in net.order if name in places]
        ties["+".join(names)] = lambda channel, first=names[0]: members[net.root(net.places[first][channel])]
    model = lively(Random(net.steps, net.layers, opaque)).double()  # a norm of next to nothing makes rounding large
    return Stranger(model, images(3, side, side).double(), labels(), ties)

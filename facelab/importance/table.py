"""A table in which it is known which columns decide, and a network on it in which it is known which layers matter.

The columns that decide have shadows, which go along with them without deciding anything. So a glance at correlations is not enough.
The network is made as `planted.PlantedNetwork` is, with linear layers, and trained.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from facelab.blocks import seeded
from facelab.importance.scores import Loader

DECIDING = (2, 5, 9)
"""Columns of which the highest is the class."""
SHADOWS = {0: 2, 4: 5, 11: 9}
"""Column -> the deciding one that it goes along with."""
COLUMNS, LIKENESS = 12, 0.9
NAMES = tuple(
    f"decides {column}" if column in DECIDING else f"shadow {column}" if column in SHADOWS else f"noise {column}"
    for column in range(COLUMNS)
)
CRITICAL, TWINS, DEAD = "stem", ("branches.twin_a", "branches.twin_b"), ("branches.unheard", "gate")
"""Layers through which all goes; of which either can go; and which nobody hears."""


class TableNetwork(nn.Module):
    """A layer through which all passes, three branches whose sum goes on, and a classifier; one branch is multiplied by zero."""

    def __init__(self, width: int = 12):
        super().__init__()
        self.stem = nn.Linear(COLUMNS, width)
        self.branches = nn.ModuleDict({name: nn.Linear(width, width, bias=False) for name in ("twin_a", "twin_b", "unheard")})
        self.gate = nn.Linear(width, width, bias=False)
        self.classifier = nn.Linear(width, len(DECIDING))
        with torch.no_grad():
            self.branches["twin_b"].weight.copy_(self.branches["twin_a"].weight)  # twins they stay, for their gradients are the same
            self.gate.weight.zero_()
        self.gate.weight.requires_grad_(False)

    def forward(self, rows):
        """One number per class: (B, 3) of rows (B, 12)."""
        stem = self.stem(rows).relu()
        heard = self.branches["twin_a"](stem).relu() + self.branches["twin_b"](stem).relu()
        return self.classifier(heard + self.gate(self.branches["unheard"](stem).relu()))


@dataclass(frozen=True)
class PlantedTable:
    """A trained network with the rows it was trained on and others, and the same network as it began.

    Attributes:
        model: trained.
        untrained: with the weights that training began with.
        training, evaluation: pairs (rows, classes), other rows in each.
    """

    model: TableNetwork
    untrained: TableNetwork
    training: Loader
    evaluation: Loader


def rows_and_classes(count: int, seed: int) -> tuple[Float[Tensor, "count 12"], Tensor]:
    """Rows of standard normal figures, and which of the deciding columns is highest in each."""
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randn(count, COLUMNS, generator=generator)
    for shadow, column in SHADOWS.items():
        rows[:, shadow] = LIKENESS * rows[:, column] + (1 - LIKENESS**2) ** 0.5 * rows[:, shadow]
    return rows, rows[:, list(DECIDING)].argmax(dim=1)


def planted_table(seed: int = 0, *, steps: int = 400, shuffled: bool = False) -> PlantedTable:
    """A network trained on the table.

    Args:
        seed: of the weights and of the rows.
        steps: of training, 64 rows each.
        shuffled: give the rows of training each other's classes, so that no column decides.
    """
    rows, classes = rows_and_classes(2048, 2 * seed)
    others, truth = rows_and_classes(256, 2 * seed + 1)
    with seeded(seed):
        if shuffled:
            classes = classes[torch.randperm(len(classes))]
        model, untrained = TableNetwork(), TableNetwork()
        untrained.load_state_dict(model.state_dict())
        trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
        optimizer = torch.optim.Adam(trained, lr=5e-3)
        for _ in range(steps):
            chosen = torch.randint(len(rows), (64,))
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(rows[chosen]), classes[chosen]).backward()
            optimizer.step()
    batches = [list(zip(part.split(64), labels.split(64), strict=True)) for part, labels in ((rows[:512], classes[:512]), (others, truth))]
    return PlantedTable(model.eval(), untrained.eval(), *batches)

"""Fine-tuning of a smaller network: the same steps for every method that takes some."""

from collections.abc import Callable, Iterable, Iterator

import torch
from torch import Tensor, nn

Loss = Callable[[Tensor, Tensor], Tensor]


class FineTuning:
    """Steps of Adam, whose rate falls to zero along half a cosine, with gradients clipped at 1; between them the network may be changed.

    tuning = FineTuning(model, loader, F.cross_entropy, steps=150)
    tuning.run_to(150)

    Attributes:
        model: is changed in place.
        made: steps so far.
    """

    def __init__(
        self,
        model: nn.Module,
        batches: Iterable[tuple[Tensor, Tensor]],
        loss: Loss,
        steps: int,
        learning_rate: float = 2e-3,
        after: Callable[[nn.Module, int], None] | None = None,
    ) -> None:
        """Begin.

        Args:
            model: a network.
            batches: (inputs, targets), walked through again and again, in their order.
            loss: (outputs, targets) -> mean loss.
            steps: in all.
            learning_rate: at first.
            after: called with the network and the number of steps made after each.
        """
        self.model, self.loss, self.after, self.made = model.requires_grad_(True), loss, after, 0
        self.batches = endless(batches)
        self.optimizer = torch.optim.Adam(model.parameters(), lr=learning_rate)
        self.schedule = torch.optim.lr_scheduler.CosineAnnealingLR(self.optimizer, max(1, steps))

    def run_to(self, step: int) -> nn.Module:
        """The network, in evaluation mode, when so many steps are made in all.

        Raises:
            ValueError: there is no batch.
        """
        while self.made < step:
            inputs, targets = next(self.batches)
            self.optimizer.zero_grad()
            self.loss(self.model.train()(inputs), targets).backward()
            nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
            self.optimizer.step()
            self.schedule.step()
            self.made += 1
            if self.after is not None:
                self.after(self.model.eval(), self.made)
        return self.model.eval()


def endless(batches: Iterable[tuple[Tensor, Tensor]]) -> Iterator[tuple[Tensor, Tensor]]:
    """The batches, again and again.

    Raises:
        ValueError: there is none.
    """
    while True:
        empty = True
        for batch in batches:
            empty = False
            yield batch
        if empty:
            raise ValueError("There is no batch to fine-tune with; give batches that can be walked through again, such as a list.")

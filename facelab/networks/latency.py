"""How long networks take, side by side: on a machine that does other things as well, only their ratio means something."""

from collections.abc import Mapping
from contextlib import ExitStack

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils.benchmark import Timer

from facelab.networks.evaluation import in_evaluation_mode


def latency(
    networks: Mapping[str, nn.Module], example: Tensor, *, rounds: int = 15, seconds: float = 0.02, threads: int = 1
) -> dict[str, Float[np.ndarray, " rounds"]]:
    """Seconds of one forward pass of each network, in turns, so that what slows the machine down slows all of them down.

        times = latency({"whole": model, "pruned": smaller}, images[:1])
        np.median(times["whole"] / times["pruned"])  # how many times faster

    Args:
        networks: name -> network that takes the example; asked in evaluation mode and without gradients.
        example: (B, ...) a batch, on the device of the networks; a single sample tells the latency, a large batch the throughput.
        rounds: how often each network has its turn.
        seconds: of each turn, about; a turn holds as many passes as fit, at least one.
        threads: of torch.

    Returns:
        Name -> seconds per pass in each round. The same round of two networks was measured under the same load: divide them round by
        round and take the median.

    Raises:
        ValueError: no network, or no round.
    """
    if not networks or rounds < 1:
        raise ValueError(f"There are {len(networks)} networks and {rounds} rounds; give at least one of each.")
    timers = {
        name: Timer("model(example)", globals={"model": model, "example": example}, num_threads=threads) for name, model in networks.items()
    }
    taken: dict[str, list[float]] = {name: [] for name in networks}
    with torch.no_grad(), ExitStack() as stack:  # what a network keeps of inference mode could not be trained with afterwards
        for model in networks.values():
            stack.enter_context(in_evaluation_mode(model))
        passes = {name: max(1, int(seconds / timer.timeit(1).mean)) for name, timer in timers.items()}  # timeit warms up by itself
        for _ in range(rounds):
            for name, timer in timers.items():
                taken[name].append(timer.timeit(passes[name]).mean)
    return {name: np.array(values) for name, values in taken.items()}

"""Devices of known cost: how long a network takes on them follows from the sizes of its layers, so that a search can be checked.

A clock of a real machine is noisy; these are exact. Each charges for starting a layer and for its multiplications in whole tiles of
channels, and one must fetch again the weights that find no room in its cache.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor, nn

from facelab.networks.groups import Group, cut, groups
from facelab.networks.latency import latency
from facelab.networks.layers import TRANSPOSED, layers

Clock = Callable[[Mapping[str, int]], float]
"""Widths of some groups of channels, the others as they are -> microseconds that the network takes."""


@dataclass(frozen=True)
class Work:
    """What one layer asks of a device: `places` times a matrix of `outputs` x `inputs` for each of `kernel` taps.

    Attributes:
        name: of the layer.
        inputs: channels that each output reads: 1 in a depthwise convolution.
        outputs: channels it gives.
        kernel: taps of the kernel, 9 of a 3 x 3 one.
        places: positions at which the kernel is applied.
    """

    name: str
    inputs: int
    outputs: int
    kernel: int
    places: int

    @property
    def weights(self) -> int:
        """Number of weights, without biases."""
        return self.inputs * self.outputs * self.kernel


@dataclass(frozen=True)
class Device:
    """A device of known cost.

    Attributes:
        name: what it is called.
        tile: it computes whole tiles of so many channels, so that a part of a tile costs as much as all of it.
        start: microseconds to start a layer.
        rate: microseconds for a thousand multiplications.
        cache: weights that stay in the cache from one run to the next; of all layers together.
        fetch: microseconds to fetch a thousand of those that find no room in it.
    """

    name: str
    tile: int
    start: float
    rate: float
    cache: float = math.inf
    fetch: float = 0.0

    def latency(self, work: Sequence[Work]) -> float:
        """Microseconds of layers that run after each other."""
        weights = sum(layer.weights for layer in work)
        time = self.fetch / 1000 * max(0.0, weights - self.cache) if self.fetch else 0.0
        for layer in work:
            inputs = layer.inputs if layer.inputs == 1 else self._whole(layer.inputs)
            time += self.start + self.rate / 1000 * layer.places * layer.kernel * inputs * self._whole(layer.outputs)
        return time

    def _whole(self, channels: int) -> int:
        return self.tile * -(-channels // self.tile)


EDGE = Device("edge", tile=8, start=20.0, rate=1.0)
SERVER = Device("server", tile=4, start=1.0, rate=0.1)
SPILL = Device("spill", tile=8, start=10.0, rate=0.4, cache=16_000, fetch=12.0)
DEVICES = {device.name: device for device in (EDGE, SERVER, SPILL)}


def work(model: nn.Module, example: Tensor) -> list[Work]:
    """What each layer of a network asks for one sample.

    Args:
        example: (B, ...) a batch the model takes.

    Raises:
        ValueError: as `networks.layers.layers`.
    """
    found = []
    for layer in layers(model, example):
        module = model.get_submodule(layer.name)
        kernel = math.prod(layer.shape[2:])
        inputs = layer.shape[0] // module.groups if isinstance(module, TRANSPOSED) else layer.shape[1]  # type: ignore[operator]
        places = layer.multiplies // max(1, layer.channels * inputs * kernel)
        found.append(Work(layer.name, inputs, layer.channels, kernel, places))
    return found


def clock(device: Device, model: nn.Module, example: Tensor) -> Clock:
    """The clock of a simulated device, which runs whatever widths it is given as one network.

        ticks = clock(EDGE, model, images[:1])
        ticks({}), ticks({"stem": 16})  # whole, and with 16 channels in the group "stem"

    Args:
        example: (B, ...) a batch the model takes.

    Raises:
        ValueError: as `networks.groups.groups`; and, when it is asked, a group that does not exist.
    """
    whole, known = work(model, example), {group.name: group for group in groups(model, example)}

    def ticks(widths: Mapping[str, int]) -> float:
        return device.latency(_narrowed(whole, known, widths))

    return ticks


def table(device: Device, model: nn.Module, example: Tensor) -> Clock:
    """A clock that reads a table made in advance: each layer was timed alone, again and again, for all its widths, and is added up.

    What happens between layers, such as weights that drive each other out of the cache, is not in it.

    Source: Yang et al., "NetAdapt", ECCV 2018, section 3.3.
    """
    whole, known = work(model, example), {group.name: group for group in groups(model, example)}

    def look_up(widths: Mapping[str, int]) -> float:
        return sum(device.latency([layer]) for layer in _narrowed(whole, known, widths))

    return look_up


def stopwatch(model: nn.Module, example: Tensor, *, rounds: int = 15, threads: int = 1) -> Clock:
    """The clock of the machine this runs on: the network is cut to the widths and timed in turns with the whole one.

    What it gives is the median ratio of the two, times what the whole network took at first: a machine that is busy with other
    things slows both down.

    Args:
        example: (B, ...) the batch that is timed.
        rounds, threads: as `networks.latency.latency` takes them.
    """
    known = {group.name: group for group in groups(model, example)}
    unit = 1e6 * float(np.median(latency({"whole": model}, example, rounds=rounds, threads=threads)["whole"]))

    def measure(widths: Mapping[str, int]) -> float:
        gone = {name: range(width, known[name].width) for name, width in widths.items() if width < known[name].width}
        times = latency({"whole": model, "narrow": cut(model, example, gone)}, example, rounds=rounds, threads=threads)
        return unit * float(np.median(times["narrow"] / times["whole"]))

    return measure


def _narrowed(whole: Sequence[Work], known: Mapping[str, Group], widths: Mapping[str, int]) -> list[Work]:
    """The layers once groups have other widths."""
    missing: dict[str, tuple[int, int]] = {}
    for name, width in widths.items():
        if name not in known:
            raise ValueError(f"There is no group of channels {name!r}; choose some of {tuple(known)}.")
        for side, places in enumerate((known[name].consumers, known[name].producers)):
            for layer, rows in places.items():
                lost = list(missing.get(layer, (0, 0)))
                lost[side] += (known[name].width - width) * rows.shape[1]
                missing[layer] = (lost[0], lost[1])
    fewer = {layer.name: missing.get(layer.name, (0, 0)) for layer in whole}
    return [Work(w.name, w.inputs - fewer[w.name][0], w.outputs - fewer[w.name][1], w.kernel, w.places) for w in whole]

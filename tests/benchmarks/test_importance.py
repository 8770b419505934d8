"""Processor seconds of measuring every channel of a residual net: incrementally, beside one full evaluation per channel.

Two nets at a quarter of the usual width: with one residual block per stage (the layout of ResNet-10, 490 channels or tied groups of
channels) and with two (ResNet-18, 730). What can be saved depends on the layout: a channel of an early layer changes everything behind
it. `least_share` counts what must be multiplied whatever the code: a sixth of the loop's multiplications with one block per stage, a
quarter with two. So speed-ups of six and four are what counting allows; what lies above them comes from samples in which a channel is
zero anyway and from the loop's batch norms. The first net must reach six, the second must not fall behind four.

Loops are timed on channels drawn from all, for each of their evaluations costs the same; they get the batch size that is fastest for
them. Ways take turns and the fastest of their turns counts, so that a busy machine slows all of them alike.
"""

import copy
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from facelab.blocks import seeded
from facelab.importance.scores import log_likelihood
from facelab.importance.sensitivity import ablate_channels
from facelab.importance.sensitivity.incremental import Incremental
from facelab.networks.folding import folded
from facelab.networks.groups import groups
from facelab.networks.layers import layers

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))
from nets import Residual, batches, lively

pytestmark = [pytest.mark.benchmark(timer=time.process_time), pytest.mark.long]
SAMPLES, TURNS = 256, 2
TARGETS = {1: 6.0, 2: 4.0}  # by blocks per stage


@pytest.fixture(scope="module", params=TARGETS, ids=["one block per stage", "two blocks per stage"])
def case(request):
    """The net, 256 images of 32 pixels and their classes, the channels, and eight of these for the loops."""
    with seeded(0):
        model = lively(Residual((16, 32, 64, 128), request.param, 10))
    images, labels = (torch.cat(parts) for parts in zip(*batches(SAMPLES, 32, SAMPLES, 10), strict=True))
    units = Incremental(model, images[:2]).units
    drawn = [units[i] for i in np.random.default_rng(0).permutation(len(units))[:8]]
    return model, images, labels, units, drawn


def seconds(function) -> float:
    start = time.process_time()
    function()
    return time.process_time() - start


def fastest(ways: dict) -> dict[str, float]:
    """The fastest turn of each way."""
    turns = [{name: seconds(way) for name, way in ways.items()} for _ in range(TURNS)]
    return {name: min(turn[name] for turn in turns) for name in ways}


@torch.no_grad()
def loop(model, images, labels, units, batch) -> np.ndarray:
    """Scores without each unit by evaluating everything again; a channel is cut by a hook that fills it with zeros."""
    modules, scores = dict(model.named_modules()), []
    for unit in units:
        hooks = []
        for name, positions in unit.members.items():
            if not isinstance(modules[name], nn.Identity):  # a folded batch norm

                def cut(module, inputs, output, positions=positions):
                    return output.index_fill_(1, torch.tensor(positions), 0)

                hooks.append(modules[name].register_forward_hook(cut))
        scores.append(torch.cat([log_likelihood(model(part), y) for part, y in zip(images.split(batch), labels.split(batch), strict=True)]))
        for hook in hooks:
            hook.remove()
    return torch.stack(scores).double().mean(1).numpy()


def loops(case) -> tuple[dict, dict]:
    """The loop over the net, and over the net with folded batch norms, at every batch size: calls by name."""
    model, images, labels, _, drawn = case
    flat = folded(model, images[:2])
    named = {
        f"{name}, batches of {batch}": (lambda net=net, batch=batch: loop(net, images, labels, drawn, batch))
        for name, net in (
            ("loop", model),
            ("loop, folded", flat),
            ("loop, channels last", copy.deepcopy(model).to(memory_format=torch.channels_last)),
        )
        for batch in (16, 32, 64)
    }
    return named


def incremental(case, **options):
    model, images, labels, *_ = case
    return ablate_channels(model, [(images, labels)], log_likelihood, progress=False, **options)


def least_share(model, images) -> float:
    """Multiplications that cutting each channel alone asks for, as a share of those of whole evaluations.

    The first layer that reads a channel multiplies the change in this channel only; whatever runs behind it sees other inputs.
    """
    cost = {layer.name: layer.multiplies for layer in layers(model, images[:2])}
    needed = channels = 0
    for group in groups(folded(model, images[:2]), images[:2]):
        names = list(cost)
        first = min(group.consumers, key=names.index)
        needed += cost[first] + group.width * sum(cost[name] for name in names[names.index(first) + 1 :])
        channels += group.width
    return needed / (channels * sum(cost.values()))


def test_every_channel_beside_a_loop(case, benchmark):
    _, images, labels, units, drawn = case
    times = fastest({**loops(case), "incremental": lambda: incremental(case)})
    share = len(units) / len(drawn)
    whole = {name: value * share for name, value in times.items() if name != "incremental"}
    best = min(whole[name] for name in whole if "folded" not in name)
    best_folded = min(whole[name] for name in whole if "folded" in name)
    table = benchmark.pedantic(incremental, (case,), rounds=1).set_index(["layer", "channel"])["after"]
    expected = loop(case[0], images, labels, drawn, 32)
    np.testing.assert_allclose([table[unit.name, unit.channel] for unit in drawn], expected, rtol=1e-5)
    speedup = best / times["incremental"]
    benchmark.extra_info |= {
        "channels": len(units),
        "seconds of the loop": best,
        "speed-up": speedup,
        "speed-up over a loop with folded norms": best_folded / times["incremental"],
        "speed-up that counting allows": 1 / least_share(*case[:2]),
    }
    print(benchmark.extra_info, {name: round(value, 1) for name, value in whole.items()})
    assert len(units) >= 400 and speedup > TARGETS[len(case[0].blocks) // 4]


def test_screened_twenty_times_faster_with_the_same_ten(case, benchmark):
    _, _, _, units, drawn = case
    times = fastest({**loops(case), "screened": lambda: incremental(case, screened=10)})
    best = min(value for name, value in times.items() if name not in ("screened",) and "folded" not in name) * len(units) / len(drawn)
    table = benchmark.pedantic(incremental, (case,), dict(screened=10), rounds=1)
    every = incremental(case).sort_values("drop", ascending=False).head(10)
    benchmark.extra_info["speed-up"] = best / times["screened"]
    print(benchmark.extra_info)
    assert list(zip(table.layer, table.channel, strict=True)) == list(zip(every.layer, every.channel, strict=True))
    assert best / times["screened"] > 20


def test_captum_is_no_faster_than_the_loop(case, benchmark):
    """`LayerFeatureAblation` knows no ties, so only channels inside the blocks can be compared."""
    from captum.attr import LayerFeatureAblation

    model, images, labels, units, _ = case
    last = f"blocks.{len(model.blocks) - 1}"
    layer = f"{last}.conv1"
    inside = [unit for unit in units if unit.layers == (layer,)]

    def score(x):
        return log_likelihood(model(x), labels).mean()[None]

    def captum():
        # after its batch norm, as everywhere here; one number per batch, for the mean is what is asked for
        mask = torch.arange(len(inside)).view(1, -1, 1, 1)
        with torch.no_grad():
            return LayerFeatureAblation(score, model.get_submodule(f"{last}.norm1")).attribute(images, layer_mask=mask)[0, :, 0, 0]

    times = fastest({"captum": captum, "loop": lambda: loop(model, images, labels, inside[:8], 32)})
    drops = benchmark.pedantic(captum, rounds=1)
    table = incremental(case)
    expected = table[table.layer == layer].sort_values("channel")
    np.testing.assert_allclose(drops, expected["drop"], rtol=1e-4, atol=1e-5)
    ratio = times["captum"] / (times["loop"] * len(inside) / 8)
    benchmark.extra_info["seconds beside a loop's"] = ratio
    print(benchmark.extra_info)
    assert ratio > 0.8

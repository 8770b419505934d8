"""Any network through everything: each answer equals a plain loop, or is refused in one sentence, within ten seconds.

`EXPECTED` is the table of what is equal and what is refused; `markdown` writes it for people.
"""

import copy
import itertools
import re
import time
from contextlib import ExitStack

import jaxtyping
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from random_networks import OPERATIONS, random_network
from strangers import STRANGERS, Stranger
from torch import Tensor, nn

from facelab.importance.attribution import attribute
from facelab.importance.criteria import criteria
from facelab.importance.sensitivity import ablate_channels, measure_layers
from facelab.networks.folding import folded
from facelab.networks.perturbations import generator_of
from facelab.networks.surgery import pruned, quantised, shrunk
from facelab.networks.ties import groups

SECONDS = 10


# --- by hand ---


def assert_close(found: Tensor, right: Tensor, what: str, size: float = 1e-3) -> None:
    """Equal to 1e-5 of the largest number, or of a size."""
    found, right = (torch.as_tensor(part).detach().double() for part in (found, right))
    assert found.shape == right.shape, f"{what}: {tuple(found.shape)} for {tuple(right.shape)}"
    assert (found - right).abs().max() <= 1e-5 * max(float(right.abs().max()), size), f"{what}: {found} for {right}"


def axis_of(module: nn.Module, output: Tensor) -> int:
    """Where a module counts its channels."""
    return output.ndim - 1 if isinstance(module, nn.Linear | nn.LayerNorm | nn.Embedding) else 1


def silenced(model: nn.Module, places) -> ExitStack:
    """Inside, these channels of these modules are zero."""
    inside = ExitStack()
    for name, channels in places.items():

        def cut(module, given, output, channels=channels):
            return output.index_fill(axis_of(module, output), torch.tensor(channels), 0)

        inside.callback(model.get_submodule(name).register_forward_hook(cut).remove)
    return inside


def scores(case: Stranger, model: nn.Module | None = None) -> Tensor:
    """Of every sample."""
    with torch.no_grad():
        return case.score((model or case.model)(case.inputs.clone()), case.targets).double()


def asked(case: Stranger, inputs: Tensor) -> Tensor:
    """What attribution explains."""
    outputs = case.model(inputs)
    return case.target(outputs) if callable(case.target) else outputs[:, case.target]


def size_of(case: Stranger) -> float:
    """Of what attribution explains: drops are differences of such numbers."""
    return float(asked(case, case.inputs).detach().abs().max())


def tensors(outputs) -> list[Tensor]:
    """Of an output."""
    return list(outputs.values()) if isinstance(outputs, dict) else [outputs]


def assert_same_function(found: nn.Module, right: nn.Module, case: Stranger, what: str) -> None:
    answers = []
    for model in (found, right):
        torch.manual_seed(0)  # of a dropout that is left on
        with torch.no_grad():
            answers.append(tensors(model(case.inputs.clone())))
    for a, b in zip(*answers, strict=True):
        assert_close(a, b, what)


def rounded(weight: Tensor, bits: int) -> Tensor:
    """To whole steps of the largest weight / (2^(bits-1) - 1)."""
    step = float(weight.abs().max()) / (2 ** (bits - 1) - 1)
    return torch.from_numpy(np.rint(weight.double().numpy() / step) * step).to(weight)


# --- what is asked: each compares with a loop ---


def integrated(case: Stranger) -> None:
    found = attribute(case.model, case.inputs, case.target, "integrated gradients", steps=10)
    nodes, shares = np.polynomial.legendre.leggauss(10)
    right = torch.zeros_like(case.inputs)
    for i in range(len(case.inputs)):
        x = case.inputs[i : i + 1]
        for node, share in zip((nodes + 1) / 2, shares / 2, strict=True):
            point = (node * x).requires_grad_()
            right[i] += (share * x * torch.autograd.grad(asked(case, point).sum(), point)[0])[0]
    assert_close(found.values, right, "integrated gradients")
    missing = right.flatten(1).sum(1) - asked(case, case.inputs) + asked(case, 0 * case.inputs)
    assert_close(found.residual, missing, "completeness", size=float(right.abs().sum()))


def parts(case: Stranger) -> None:
    mask = torch.arange(case.inputs.shape[-1] if isinstance(case.inputs, Tensor) else 4) % 3
    found = attribute(case.model, case.inputs, case.target, "part ablation", mask=mask).values
    with torch.no_grad():
        for part in range(3):
            where = (mask == part).expand_as(case.inputs)
            drop = asked(case, case.inputs) - asked(case, case.inputs.masked_fill(where, 0))
            count = int(where[0].sum())
            assert_close(
                found[where].view(len(drop), -1), (drop / count)[:, None].expand(-1, count), "part ablation", size_of(case) / count
            )


def occlusion(case: Stranger) -> None:
    """A square over all channels; where squares overlap, a pixel gets the mean of its drops."""
    found = attribute(case.model, case.inputs, case.target, "occlusion", window=2).values
    channel, total, count = case.channels, torch.zeros(case.inputs.shape), torch.zeros(case.inputs.shape)
    places = [k for k in range(1, case.inputs.ndim) if k != channel]
    with torch.no_grad():
        for corner in itertools.product(*(range(case.inputs.shape[k] - 1) for k in places)):
            where = tuple(
                slice(corner[places.index(k)], corner[places.index(k)] + 2) if k in places else slice(None) for k in range(found.ndim)
            )
            hidden = case.inputs.clone()
            hidden[where] = 0
            total[where] += (asked(case, case.inputs) - asked(case, hidden)).view(-1, *[1] * (found.ndim - 1))
            count[where] += 1
    assert_close(found, total / count, "occlusion", size_of(case))


def channels_of_a_layer(case: Stranger) -> None:
    name = case.layers[min(1, len(case.layers) - 1)] if case.layers else ""
    module = dict(case.model.named_modules())[name]
    found = attribute(case.model, case.inputs, case.target, "channel ablation", layer=module).values
    axis = axis_of(module, found)
    with torch.no_grad():
        for channel in range(found.shape[axis]):
            drop = asked(case, case.inputs)
            with silenced(case.model, {name: [channel]}):
                drop = drop - asked(case, case.inputs)
            assert_close(
                found.movedim(axis, 1)[:, channel].reshape(len(drop), -1).sum(1), drop, f"channel {channel} of {name}", size_of(case)
            )


def cheap_criteria(case: Stranger) -> None:
    table = criteria(case.model, [(case.inputs, case.targets)], case.score, names=("fisher", "taylor", "gradient"))
    weights = {name: case.model.get_submodule(name).weight.requires_grad_() for name in case.layers}
    total = {name: torch.zeros_like(weight) for name, weight in weights.items()}
    squares, gates = copy.deepcopy(total), {}
    for i in range(len(case.inputs)):
        with ExitStack() as inside:
            gate = {}  # a factor of every channel, one for all calls of a layer

            def scale(module, given, output, gate=gate):
                axis = axis_of(module, output)
                factor = gate.setdefault(module, torch.ones(output.shape[axis], dtype=output.dtype, requires_grad=True))
                return output * factor.view([-1 if k == axis else 1 for k in range(output.ndim)])

            for name in weights:
                inside.callback(case.model.get_submodule(name).register_forward_hook(scale).remove)
            score = case.score(case.model(case.inputs[i : i + 1]), case.targets[i : i + 1]).sum()
            factors = {name: gate[case.model.get_submodule(name)] for name in weights}
            slopes = torch.autograd.grad(score, [*weights.values(), *factors.values()], allow_unused=True, materialize_grads=True)
        for k, name in enumerate(weights):
            total[name] += slopes[k] / len(case.inputs)
            squares[name] += slopes[k] ** 2 / len(case.inputs)
            gates.setdefault(name, []).append(slopes[k + len(weights)])
    assert set(table.layer) == set(case.layers)
    for name, weight in weights.items():
        rows = table[table.layer == name].sort_values("channel").groupby(["criterion", "kind"])
        weight, gate = weight.detach(), torch.stack(gates[name])
        right = {
            ("fisher", "layer"): (weight.var(correction=0) * squares[name].sum()).view(1),
            ("taylor", "layer"): (weight * total[name]).abs().sum().view(1),
            ("gradient", "layer"): total[name].norm().view(1),
            ("taylor", "channel"): gate.abs().mean(0),
            ("fisher", "channel"): gate.square().mean(0) / 2,
        }
        for key, values in right.items():
            assert_close(torch.tensor(rows.get_group(key).value.to_numpy()), values, f"{key} of {name}")


def all_criteria(case: Stranger) -> None:
    """Finite, of all layers and kinds."""
    table = criteria(case.model, [(case.inputs, case.targets)], case.score, kinds=("layer", "channel", "neuron"), steps=2)
    assert set(table.layer) == set(case.layers)


def sensitivity(case: Stranger) -> None:
    levels = {"noise": (1.0,), "quantisation": (3,), "pruning": (0.5,)}
    table = measure_layers(
        case.model, [(case.inputs, case.targets)], case.score, families=tuple(levels), levels=levels, draws=1, progress=False
    )
    assert set(table[table.family == "noise"].layer) == set(case.layers)
    before = scores(case)
    for row in table.itertuples():
        changed, places = copy.deepcopy(case.model), {}
        if row.family == "noise":
            weight = changed.get_submodule(row.layer).weight
            outputs_first = weight.data.transpose(0, 1) if transposed(changed.get_submodule(row.layer)) else weight.data
            drawn = torch.randn(outputs_first.shape, generator=generator_of(0, row.layer, "noise", 1.0, 0)).to(weight)
            drawn = drawn.transpose(0, 1) if transposed(changed.get_submodule(row.layer)) else drawn
            weight.data = weight.data + weight.data.std(correction=0) * drawn
        elif row.family == "quantisation":
            changed.get_submodule(row.layer).weight.data = rounded(changed.get_submodule(row.layer).weight.data, 3)
        else:
            lost = weakest(changed, row.layer.split("+"), 0.5)
            changed = without(changed, row.layer.split("+"), lost)
            for name, positions in (place for channel in lost for place in case.units[row.layer](channel).items()):
                if name not in row.layer.split("+"):  # the norms behind
                    places[name] = places.get(name, []) + positions
        with silenced(changed, places):
            after = scores(case, changed)
        assert_close(row.after, after.mean(), f"{row.family} of {row.layer}")
        assert_close(row.before, before.mean(), "before")


def transposed(module: nn.Module) -> bool:
    return isinstance(module, nn.modules.conv._ConvTransposeNd)


def filter_of(module: nn.Module, channel: int) -> Tensor:
    """The weights of a channel, to read and write: those of a grouped transposed convolution lie in blocks."""
    if not transposed(module):
        return module.weight.data[channel]
    wide = module.weight.shape[1]
    return module.weight.data.chunk(module.groups)[channel // wide][:, channel % wide]


def weakest(model: nn.Module, names: list[str], ratio: float) -> list[int]:
    """Channels of the lowest norm over all of these layers; blocks of a grouped transposed convolution lose the same ones."""
    modules = [model.get_submodule(name) for name in names]
    count = modules[0].weight.shape[1] * modules[0].groups if transposed(modules[0]) else len(modules[0].weight)
    norms = torch.stack([sum(filter_of(module, c).double().square().sum() for module in modules) for c in range(count)])
    blocks = modules[0].groups if transposed(modules[0]) else 1
    norms = norms.view(blocks, -1).sum(0)
    lowest = norms.argsort()[: round(ratio * len(norms))].tolist()
    return [block * len(norms) + channel for block in range(blocks) for channel in lowest]


def channels(case: Stranger) -> None:
    table = ablate_channels(case.model, [(case.inputs, case.targets)], case.score, progress=False)
    assert set(table.layer) == set(case.units)
    before = scores(case)
    for row in table.itertuples():
        with silenced(case.model, case.units[row.layer](row.channel)):
            after = scores(case)
        assert_close(row.after, after.mean(), f"channel {row.channel} of {row.layer}")
        assert_close(row.before, before.mean(), "before")


def ties(case: Stranger) -> None:
    expected: list[set[str]] = []
    for name in case.units:
        together = set(name.split("+"))
        for other in [group for group in expected if group & together]:
            together |= other
            expected.remove(other)
        expected.append(together)
    found = groups(case.model, case.inputs)
    assert sorted(map(sorted, found.values())) == sorted(map(sorted, expected)) and list(found) == [
        "+".join(names) for names in found.values()
    ]


def folding(case: Stranger) -> None:
    before = {name: value.clone() for name, value in case.model.state_dict().items()}
    assert_same_function(folded(case.model, case.inputs), case.model, case, "folded")
    assert all(torch.equal(value, before[name]) for name, value in case.model.state_dict().items())


def rounding(case: Stranger) -> None:
    found = quantised(case.model, dict.fromkeys(case.layers, 3) or {"": 3}).state_dict()
    for name, weight in case.model.state_dict().items():
        place = name.removesuffix("weight").rstrip(".")
        assert_close(found[name], rounded(weight, 3) if name.endswith("weight") and place in case.layers else weight, name)


def pruning(case: Stranger) -> None:
    model = folded(case.model, case.inputs)
    name = next(iter(groups(model, case.inputs)))
    assert_same_function(pruned(model, {name: 0.5}), halved(model, name), case, "pruned")


def shrinking(case: Stranger) -> None:
    model = folded(case.model, case.inputs)
    name = next(iter(groups(model, case.inputs)))
    found = shrunk(model, {name: 0.5}, case.inputs)
    assert sum(p.numel() for p in found.parameters()) < sum(p.numel() for p in model.parameters())
    assert_same_function(found, halved(model, name), case, "shrunk")


def halved(model: nn.Module, name: str) -> nn.Module:
    """Without half of a group's channels, by hand."""
    return without(model, name.split("+"), weakest(model, name.split("+"), 0.5))


def without(model: nn.Module, names: list[str], channels: list[int]) -> nn.Module:
    """A copy without these filters and biases."""
    right = copy.deepcopy(model)
    for module in map(right.get_submodule, names):
        for channel in channels:
            filter_of(module, channel).zero_()
            if module.bias is not None:
                module.bias.data[channel] = 0
    return right


ASKED = {
    "integrated gradients": integrated,
    "part ablation": parts,
    "occlusion": occlusion,
    "channel ablation": channels_of_a_layer,
    "criteria": cheap_criteria,
    "all criteria": all_criteria,
    "sensitivity": sensitivity,
    "channels": channels,
    "ties": ties,
    "folding": folding,
    "rounding": rounding,
    "pruning": pruning,
    "shrinking": shrinking,
}


EXPECTED = """
residual                      = = = = = = = = = = = = =
pre-activation, in place      x = = = x x = = = x = x x
in place on a shortcut        x x x x x x = = = = = = =
squeeze-excitation            = = = = = = = = = = = = x
depthwise                     = = = = = = = = = = = = =
depthwise, two each           = = = = = = = = = = = = x
grouped                       = = = = = = = = = = = = x
shuffled channels             = = = = = = = = = = = = x
transposed                    = = = = = = = = = = = = =
transposed, grouped           = = = = = = = = = = = = x
1-D                           = = = = = = = = = = = = =
1-D, turned                   = = = = = = = = = = = = x
3-D                           = = = = = = = = = = = = =
LSTM                          = = = = = = = = = = = = x
GRU, steps first              = = = x x x = = = = = = x
transformer encoder           = = = = = = = = = = = = x
rotary attention              = = = = = = = = = = = = x
embedding                     x = x = = = = = = = = = x
siamese                       = = = = = = = = = = = = =
one head, two scales          = = = x x x = = = = = = =
tied decoder                  = = x = x x = = = = = = =
one weight, two layers        = = x = x x x x x = x x x
weight norm                   = = = = x x x x x = x x x
spectral norm, old hooks      = = = = x x x x x = x x x
synchronised norm             = = = = = = = = = = = = =
frozen norm                   = = = = = = = = = = = = =
group norm                    = = = = = = = = = = = = x
norm of the batch             x x x x x x x x = x = x x
layer norm                    = = = = = = = = = = = = x
PReLU                         = = = = = = = = = = = x x
functional everything         = = = = = = = = = = = = x
no module at all              = = = = x x x x x = x x x
several heads, one unused     = = = = = = = = = = = = x
dropout left on               x x x x x x x x = x = x x
float64                       = = = = = = = = = = = = =
bfloat16                      x = = = x x x x = x x x x
compiled                      = = = x x x x x x x x x x
scripted                      = = = x x x x x x x x x x
two inputs                    x x x x x x x x x x = x x
two inputs, one given         x x x x x x x x x x = x x
dict output                   = = x = = = = = = = = = x
dict output, score of tensors x x x x x x x x = = = = x
concatenation                 = = = = = = = = = = = x x
gated linear unit             = = = = = = = = = = = = x
pixel shuffle                 = = = = = = = = = = = = x
a branch on values            = = = = = = = = = = = = =
untraceable, through NumPy    = = = = = = = = = = = = x
data parallel                 = = = = = = = = = = = = =
a layer that is the model     = = x = = = = = = = = = x
two norms in a row            = = = = = = = = = = = x x
low-rank adapters             = = x = = = = = = = = = x
checkpointed                  = = = = = = = = = = = = =
channels last                 = = = = = = = = = = = = =
traced by torch.fx            = = = = = = = = = = = = =
maxima and quotients          = = = = = = = = = = = x x
instance norm                 = = = = = = = = = = = = x
local response norm           = = = = = = = = = = = = x
no samples in the batch axis  = = = = x x = = = = = = x
"""
"""What each network gets, operation by operation in the order of `ASKED`: = is equal to the loop, x is refused in a sentence."""
TABLE = {row[:30].strip(): dict(zip(ASKED, row[30:].split(), strict=True)) for row in EXPECTED.strip().splitlines()}


@pytest.mark.parametrize("operation", ASKED)
@pytest.mark.parametrize("network", STRANGERS)
def test_equal_to_a_loop_or_refused_in_a_sentence(network, operation):
    said = outcome(network, operation)
    assert said[0] == {"=": "equal", "x": "refused"}[TABLE[network][operation]], said[1]


def outcome(network: str, operation: str) -> tuple[str, str]:
    """ "equal", or "refused" and why.

    Raises:
        AssertionError: another answer than the loop's, no sentence, or too late.
    """
    case, said = STRANGERS[network](), ""
    started = time.process_time()
    jaxtyping.config.update("jaxtyping_disable", isinstance(case.inputs, tuple))  # what the checker of the tests would catch first
    try:
        ASKED[operation](case)
    except (ValueError, TypeError) as error:
        said = str(error)
    finally:
        jaxtyping.config.update("jaxtyping_disable", False)
    assert time.process_time() - started < SECONDS
    assert not said or re.fullmatch(r"[A-Z][^\n]{20,300}\.", said), f"no sentence: {said}"
    assert not re.search(r"forward\(\)|aten|must match|size mismatch", said), f"internals: {said}"
    return ("refused" if said else "equal"), said


def markdown() -> str:
    """The table for people."""
    rows = ["| network | " + " | ".join(ASKED) + " |", "| --- " * (len(ASKED) + 1) + "|"]
    words = {"=": "equal", "x": "refused"}
    return "\n".join([*rows, *(f"| {network} | " + " | ".join(words[v] for v in row.values()) + " |" for network, row in TABLE.items())])


@settings(max_examples=25)
@given(
    st.lists(st.tuples(st.sampled_from(OPERATIONS), st.sampled_from([2, 4])), min_size=3, max_size=10), st.booleans(), st.integers(0, 99)
)
def test_networks_put_together_at_random(drawn, opaque, seed):
    case = random_network(drawn, opaque, seed)
    for ask in (channels, ties, sensitivity):
        ask(case)
    if not any(name == "keep" for name, _ in drawn):  # what is used twice may not fold
        folding(case)

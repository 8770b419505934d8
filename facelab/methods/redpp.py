"""RED++: weights are hashed to a few values, equal neurons are merged, and every input is multiplied once by each distinct value.

Yvinec, Dapogny, Cord, Bailly, "RED++: Data-Free Pruning of Deep Neural Networks via Input Splitting and Output Merging", TPAMI 2022
(arXiv 2110.01397). The three steps and their order are the paper's. Formulas, granularities and bounds are reconstructions: the
identities are exact, the bounds are proven here.
"""

import math
from typing import Literal

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from facelab.networks.evaluation import copied
from facelab.networks.folding import folded
from facelab.networks.groups import groups, incoming, merged
from facelab.networks.hashing import Modes, hashed
from facelab.networks.layers import is_plain, layer_of, layers

SHARED = (nn.Linear, nn.Conv2d)
"""Layers in which products are shared; others stay as they are."""


def columns(layer: nn.Module) -> Float[Tensor, "groups outputs columns"]:
    """The weights of a layer that meet one input at one tap of the kernel, side by side: a column for each input channel and tap.

    Args:
        layer: linear or a convolution over images, grouped or not; the outputs of a group are those that see its inputs.
    """
    weight = layer.weight.detach()
    return weight.reshape(getattr(layer, "groups", 1), -1, weight[0].numel())  # type: ignore[union-attr, operator]


def distinct(
    values: Float[Tensor, "groups outputs columns"],
) -> tuple[Int[Tensor, "groups outputs columns"], Int[Tensor, "groups columns"]]:
    """Which of the distinct values of its column each weight is, in rising order from 0, and how many (r_i) each column has."""
    ordered, place = values.sort(dim=1)
    new = torch.ones_like(place)
    new[:, 1:] = (ordered[:, 1:] != ordered[:, :-1]).long()  # exact equality: hashed weights come from one table
    return torch.empty_like(place).scatter_(1, place, new.cumsum(dim=1) - 1), new.sum(dim=1)


def products(layer: nn.Module, by: Literal["tap", "kernel"] = "tap") -> int:
    """Multiplications that a layer needs at one place of the image if equal products are computed once; those with zero cost nothing.

        products(nn.Linear(64, 10))  # 640: no two random weights are equal

    Args:
        layer: linear or a convolution over images.
        by: "tap" shares single products; "kernel" shares whole kernels, the convolutions of one input channel with equal kernels.
    """
    values = columns(layer)
    if by == "tap":
        zeros = (values == 0).any(dim=1).sum()
        return int(distinct(values)[1].sum() - zeros)
    taps = layer.weight[0, 0].numel()  # type: ignore[index, union-attr]
    kernels = values.unflatten(2, (-1, taps)).transpose(1, 2).flatten(0, 1)  # (inputs, outputs of the group, taps)
    return sum(int((torch.unique(each, dim=0) != 0).sum()) for each in kernels)


class SplitLayer(nn.Module):
    """A linear layer or convolution that multiplies each input once by each of its distinct weights and adds up copies of the products.

    y_j = sum_i z_{i, s_i(j)} with z_{i,q} = x_i u_{i,q}; a convolution is such a layer on the pixels under the kernel. State: `values` u,
    `codes` s and `counts` r, which `load_state_dict` takes in any size.

        split = SplitLayer(layer)
        split(x)  # what layer(x) gives, up to rounding

    Raises:
        ValueError: the layer is neither linear nor a convolution over images, or a subclass with a forward pass of its own.
    """

    values: nn.Parameter
    codes: Tensor
    counts: Tensor

    def __init__(self, layer: nn.Module):
        super().__init__()
        if not is_plain(layer, *SHARED):
            raise ValueError(f"A layer of class {type(layer).__name__} cannot be split; give a Linear or a Conv2d.")
        self.window: dict | None = None
        self.padding, self.padding_mode = (0, 0, 0, 0), "constant"
        if isinstance(layer, nn.Conv2d):
            self.window = {"kernel_size": layer.kernel_size, "dilation": layer.dilation, "stride": layer.stride}
            self.padding = tuple(layer._reversed_padding_repeated_twice)
            self.padding_mode = "constant" if layer.padding_mode == "zeros" else layer.padding_mode
        values = columns(layer)
        codes, counts = distinct(values)
        first = counts.flatten().cumsum(0).reshape(counts.shape) - counts
        found = values.new_empty(int(counts.sum()))
        found[(first[:, None] + codes).flatten()] = values.flatten()
        self.values = nn.Parameter(found)
        kind = torch.uint8 if int(counts.max()) <= 256 else torch.int32
        self.register_buffer("codes", codes.flatten(0, 1).to(kind))
        self.register_buffer("counts", counts.flatten().to(torch.int32))
        self.bias = None if layer.bias is None else nn.Parameter(layer.bias.detach().clone())
        self._index()

    def _index(self) -> None:
        """Which column each product reads, and which products each output adds up."""
        counts, (outputs, width) = self.counts.long(), self.codes.shape
        first = (counts.cumsum(0) - counts).reshape(-1, 1, width)
        table = (first + self.codes.long().reshape(len(first), -1, width)).reshape(outputs, width)
        self.register_buffer("column", torch.repeat_interleave(torch.arange(len(counts), device=counts.device), counts), persistent=False)
        self.register_buffer("table", table, persistent=False)

    def _load_from_state_dict(self, state: dict, prefix: str, *rest) -> None:
        for name in ("values", "codes", "counts", "bias"):
            own, given = getattr(self, name), state.get(prefix + name)
            if own is not None and given is not None:
                own.data = own.data.new_empty(given.shape, dtype=given.dtype)
        super()._load_from_state_dict(state, prefix, *rest)
        self._index()

    @property
    def weight(self) -> Float[Tensor, "outputs ..."]:
        """The layer's weight, for code that reads it, as torch's own `TransformerEncoderLayer` does."""
        return self.values[self.table].unflatten(1, (-1, *(self.window or {"kernel_size": ()})["kernel_size"]))

    def forward(self, x: Float[Tensor, "*shape"]) -> Float[Tensor, "*result"]:
        """What the layer gives: (..., inputs) -> (..., outputs), or images (B, C, H, W) -> (B, outputs, h, w)."""
        if self.window is None:
            return self._added(x.reshape(-1, x.shape[-1]).T).T.reshape(*x.shape[:-1], -1) + (0 if self.bias is None else self.bias)
        x = F.pad(x, self.padding, mode=self.padding_mode)
        patches = F.unfold(x, **self.window)  # (B, columns, places)
        y = self._added(patches.transpose(0, 1).flatten(1)).unflatten(1, (len(x), -1)).transpose(0, 1)
        across = [
            (side - dilation * (kernel - 1) - 1) // stride + 1
            for side, kernel, dilation, stride in zip(x.shape[2:], *self.window.values(), strict=True)
        ]
        return y.unflatten(2, across) + (0 if self.bias is None else self.bias[:, None, None])

    def _added(self, inputs: Float[Tensor, "columns places"]) -> Float[Tensor, "outputs places"]:
        computed = self.values[:, None] * inputs[self.column]  # every distinct product once
        return F.embedding_bag(self.table, computed, mode="sum")  # gathers and adds, multiplies nothing


def split(model: nn.Module, example: Float[Tensor, "B ..."]) -> tuple[nn.Module, pd.DataFrame]:
    """A copy whose layers share equal products (input-wise splitting); it computes the same.

        small, report = split(hashed(folded(model, images))[0], images)
        report.products.sum() / report.multiplies.sum()

    Args:
        model: its weights are shared where they are equal, so hash them before.
        example: (B, ...) a batch the model takes.

    Returns:
        The copy, and a table with a row per layer: `layer`, `shape`, `values` (distinct ones in the whole layer), `multiplies` per
        sample without sharing, `products` (multiplies that are left), `kernelwise` (those left if only whole kernels are shared),
        `removed` (share that splitting removes, 0..1), `bytes` (distinct values in single precision, their number in each column, and
        for each weight the bits that tell them apart in its column) and `note`. Layers without anything to share, other kinds, and
        weights of modules that are no layers (of an attention) stay as they are.
    """
    result, rows = copied(model).eval(), []
    for layer in layers(model, example):
        module = layer_of(model, layer.name)
        weights = module.weight.numel()  # type: ignore[operator, union-attr]
        row = {"layer": layer.name, "shape": layer.shape_text, "values": len(module.weight.unique()), "multiplies": layer.multiplies}  # type: ignore[operator]
        if not is_plain(module, *SHARED):
            note = f"a {type(module).__name__} stays whole"
            rows.append(row | {"products": layer.multiplies, "kernelwise": layer.multiplies, "bytes": 4 * weights, "note": note})
            continue
        places = layer.multiplies // weights
        counts = distinct(columns(module))[1]
        outputs = columns(module).shape[1]
        bits = torch.ceil(torch.log2(counts.double())).sum() * outputs + counts.numel() * math.ceil(math.log2(outputs))
        if int(counts.sum()) < weights:
            result.set_submodule(layer.name, SplitLayer(module))
        rows.append(
            row
            | {"products": places * products(module), "kernelwise": places * products(module, "kernel")}
            | {"bytes": int(4 * counts.sum() + -(-bits // 8)), "note": "" if int(counts.sum()) < weights else "nothing to share"}
        )
    report = pd.DataFrame(rows)
    report.insert(6, "removed", 1 - report.products / report.multiplies)
    return result, report


def merge(model: nn.Module, example: Float[Tensor, "B ..."]) -> tuple[nn.Module, pd.DataFrame]:
    """A copy in which neurons with equal weights and biases are one (output-wise merging); it computes the same.

    Args:
        model: its batch norms are folded.
        example: (B, ...) a batch the model takes.

    Returns:
        The copy, and a table with a row per group of tied layers: `group`, `channels` before, `left` after, and `note`, why a group
        stays whole.

    Raises:
        ValueError: what `networks.groups` cannot follow.
    """
    labels, rows = {}, []
    exact = copied(model).double()  # the mean of equal numbers is that number, bit for bit
    for group in groups(exact, example.double()):
        left = group.width
        if not group.merge_obstacle:
            label = torch.unique(incoming(exact, group), dim=0, return_inverse=True)[1].numpy()
            left = int(label.max()) + 1
            labels |= {group.name: label} if left < group.width else {}
        rows.append({"group": group.name, "channels": group.width, "left": left, "note": group.merge_obstacle})
    small = merged(exact, example.double(), labels).to(example.dtype) if labels else copied(model)
    return small.eval(), pd.DataFrame(rows, columns=["group", "channels", "left", "note"])


def hash_shared(model: nn.Module, scale: float = 0.25) -> tuple[nn.Module, dict[str, Modes]]:
    """`hashed` for the layers in which products can be shared.

    Each weight of a depthwise convolution meets one output only, so hashing it would cost accuracy and save no product (our choice).
    """
    result, modes = hashed(model, scale)
    for name in list(modes):
        module = result.get_submodule(name)
        if not isinstance(module, SHARED) or columns(module).shape[1] == 1:
            module.weight.data = model.get_submodule(name).weight.data.clone()  # type: ignore[operator, union-attr]
            del modes[name]
    return result, modes


def compress(model: nn.Module, example: Float[Tensor, "B ..."], scale: float = 0.25) -> tuple[nn.Module, pd.DataFrame]:
    """RED++ without data or training: batch norms folded, weights hashed, equal neurons merged, equal products shared.

        small, report = compress(model, images[:2])

    Args:
        model: stays as it is.
        example: (B, ...) a batch the model takes, any values.
        scale: of the density's bandwidth, in units of Silverman's rule; larger ones leave fewer values.

    Returns:
        The copy, and the table of `split` with `original` (multiplies of the layer before merging).

    Raises:
        ValueError: batch norms that cannot be folded, or ties that cannot be followed.
    """
    whole = folded(model, example)
    original = {layer.name: layer.multiplies for layer in layers(whole, example)}
    small, report = split(merge(hash_shared(whole, scale)[0], example)[0], example)
    report.insert(3, "original", report.layer.map(original))
    return small, report


def expected_distinct(probabilities: Float[np.ndarray, " modes"], outputs: int) -> float:
    """Expected number of distinct values in a column of `outputs` independent weights: sum_q 1 - (1 - p_q)^outputs (ours).

    Args:
        probabilities: p of each mode, which sum to one.
        outputs: weights in the column.
    """
    return float((1 - (1 - np.asarray(probabilities)) ** outputs).sum())


def merging_probability(probabilities: Float[np.ndarray, " modes"], inputs: int) -> float:
    """Probability that two neurons of `inputs` independent weights each are equal: (sum_q p_q^2)^inputs (ours)."""
    return float((np.asarray(probabilities) ** 2).sum() ** inputs)


PASSED = (nn.ReLU, nn.Flatten, nn.Identity, nn.Dropout, nn.Dropout2d)


@torch.no_grad()
def error_bounds(model: nn.Sequential, changed: nn.Sequential, inputs: Float[Tensor, "B ..."]) -> tuple[pd.DataFrame, Bool[Tensor, " B"]]:
    """How far a chain of layers moves when its weights do: in the worst case, as noise would, and measured.

    With E the change of the weights, the worst case is |e_l| <= |W + E| |e_{l-1}| + |E| |x_{l-1}|, element by element, and for
    independent changes of mean square s^2 the variance is v_l = (W + E)^2 v_{l-1} + s^2 x_{l-1}^2 summed over the inputs (both ours).

    Args:
        model: linear layers, convolutions over images, ReLU, pooling and flattening; the last gives (B, classes).
        changed: the same with other weights, such as hashed ones.
        inputs: a batch.

    Returns:
        A table with a row per layer: `layer`, and root mean squares over outputs and samples of `measured`, `predicted` and
        `worst_case`; and for each sample whether the worst case proves that the class stays.

    Raises:
        ValueError: a module that the bounds cannot pass.
    """
    x, y = inputs, inputs
    bound, variance, rows = torch.zeros_like(x), torch.zeros_like(x), []
    for (name, old), new in zip(model.named_children(), changed.children(), strict=True):
        if isinstance(old, SHARED):
            moved, square = new.weight - old.weight, (new.weight - old.weight).square().mean()  # type: ignore[operator, union-attr]
            bound = _with(new, new.weight.abs(), bound) + _with(new, moved.abs(), x.abs())  # type: ignore[operator, union-attr]
            variance = _with(new, new.weight.square(), variance) + _with(new, square.expand_as(moved), x.square())  # type: ignore[operator, union-attr]
            x, y = old(x), new(y)
            sizes = {"measured": (y - x).square(), "predicted": variance, "worst_case": bound.square()}
            rows.append({"layer": name, **{kind: float(size.mean().sqrt()) for kind, size in sizes.items()}})
        elif isinstance(old, nn.MaxPool2d):
            best = F.max_pool2d(x, old.kernel_size, old.stride, old.padding, old.dilation, old.ceil_mode, return_indices=True)[1]
            variance = variance.flatten(2).gather(2, best.flatten(2)).reshape(best.shape)
            x, y, bound = old(x), new(y), old(bound)
        elif isinstance(old, nn.AdaptiveAvgPool2d) and old.output_size in (1, (1, 1)):
            variance = variance.mean(dim=(2, 3), keepdim=True)  # the same weights have moved at every place: one error, not many
            x, y, bound = old(x), new(y), old(bound)
        elif isinstance(old, PASSED):
            variance = old(variance) * (old(x) > 0 if isinstance(old, nn.ReLU) else 1)
            x, y, bound = old(x), new(y), old(bound)
        else:
            raise ValueError(f"Bounds cannot pass {name}, a {type(old).__name__}; give a chain of {_known()}.")
    top = x.argmax(dim=1, keepdim=True)
    reach = (x - bound).gather(1, top) - (x + bound).scatter(1, top, -torch.inf)
    return pd.DataFrame(rows), (reach > 0).all(dim=1)


def _known() -> str:
    kinds = (*SHARED, nn.MaxPool2d, *PASSED)
    return ", ".join(kind.__name__ for kind in kinds) + " and AdaptiveAvgPool2d to one pixel"


def _with(layer: nn.Module, weight: Tensor, x: Tensor) -> Tensor:
    """What the layer gives with other weights and without bias."""
    if isinstance(layer, nn.Linear):
        return F.linear(x, weight)
    return layer._conv_forward(x, weight, None)  # type: ignore[operator]

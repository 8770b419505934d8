"""Packed storage: a network in one safetensors file, of few bytes where its weights take few values, and rebuilt without pickle.

A tensor is stored as it is, under its name in the state dict, or in parts: distinct values, of the whole tensor or of each group of
rows that follow each other, codes of as few bits as tell them apart, and a bit for each place that is zero where many are. Whichever
takes the fewest bytes is chosen. The metadata say how wide each layer is, so that the network is rebuilt from the one it came from.
Where nothing is in parts, the file is a plain state dict, which safetensors alone reads.
"""

import json
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Shaped
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from facelab.networks.evaluation import copied
from facelab.networks.folding import NORMS

VERSION = "1"
MOST_VALUES = 2**16
MOST_ROW_LEVELS = 2**9
MOST_CODEWORDS = 2**6
"""Of the codebook of a group of rows."""
WIDTHS = (
    "in_channels",
    "out_channels",
    "groups",
    "in_features",
    "out_features",
    "num_features",
    "normalized_shape",
    "embed_dim",
    "kdim",
    "vdim",
    "head_dim",
)
"""What modules know about their own sizes; the forward pass of some needs it."""

Parts = dict[str, np.ndarray]


def encoded(values: Shaped[np.ndarray, "..."]) -> tuple[Parts, dict[str, Any]]:
    """A tensor in the parts that take the fewest bytes, and how to put them together.

        parts, about = encoded(weights)
        decoded(parts, about)  # the same weights, bit for bit

    Args:
        values: of any shape; numbers.

    Returns:
        Name of a part -> array; and a description for `decoded`, empty if the only part is the tensor itself.
    """
    flat = values.ravel()
    choices: list[tuple[Parts, dict]] = [({"": values}, {})]
    there = flat != 0
    for mask in (None, there) if 0 < there.sum() < len(flat) else (None,):
        rest = flat if mask is None else flat[mask]
        about: dict[str, Any] = {"shape": list(values.shape), "type": str(values.dtype)}
        parts: Parts = {}
        if mask is not None:
            parts[".there"], about["kept"] = np.packbits(mask), len(rest)
            choices.append((parts | {".rest": rest}, about))
        distinct, codes = np.unique(rest, return_inverse=True)
        if 0 < len(distinct) <= MOST_VALUES:
            packed, bits = _packed_codes(codes, len(distinct))
            choices.append((parts | {".values": distinct, ".codes": packed}, about | {"bits": bits}))
    if values.ndim > 1 and values.dtype == np.float32 and (found := _scaled_rows(values.reshape(len(values), -1))) is not None:
        scales, levels, codes = found
        packed, bits = _packed_codes(codes, len(levels))
        about = {"shape": list(values.shape), "type": str(values.dtype), "bits": bits}
        choices.append(({".scales": scales, ".values": levels, ".codes": packed}, about))
    if values.ndim > 1 and len(values) > 1:
        for codebooks, starts, codes in _codebooks_of_rows(values.reshape(len(values), -1)):
            packed, bits = _packed_codes(codes, codebooks.shape[1])
            size = len(values) // len(starts)  # one number tells of groups that are equally large
            told = size if starts == list(range(0, len(values), size)) else starts
            about = {"shape": list(values.shape), "type": str(values.dtype), "bits": bits, "groups": told}
            choices.append(({".values": codebooks, ".codes": packed}, about))
    return min(choices, key=_bytes_of_choice)


def _bytes_of_choice(choice: tuple[Parts, dict]) -> int:
    """About what it takes in the file: its parts, and what the header says of them."""
    parts, about = choice
    told = about.get("groups", 0)
    return sum(part.nbytes for part in parts.values()) + (80 if about else 0) + (4 * len(told) if isinstance(told, list) else 0)


def _packed_codes(codes: np.ndarray, count: int) -> tuple[np.ndarray, int]:
    """Codes below `count` as bits, and how many bits each has."""
    bits = max(1, math.ceil(math.log2(count)))
    return np.packbits((codes.ravel()[:, None] >> np.arange(bits)[::-1]).astype(np.uint8) & 1), bits


def _scaled_rows(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
    """Scales, levels and codes with rows = scales * levels[codes], bit for bit, if there are few levels; else None.

    So a weight that was rounded with a scale for each output takes hardly more than one with a single scale.
    """
    scales = np.abs(rows).max(axis=1, keepdims=True)
    relative = np.divide(rows, scales, out=np.zeros_like(rows), where=scales > 0)
    names, first, codes = np.unique(relative.astype(np.float64).round(5), return_index=True, return_inverse=True)
    if len(names) > min(MOST_ROW_LEVELS, rows.size // 4):
        return None
    codes, levels = codes.reshape(rows.shape), relative.ravel()[first]
    for code in range(len(levels)):  # division has lost the last bit of some
        place = codes == code
        true, scale = rows[place], np.broadcast_to(scales, rows.shape)[place]
        near = (levels[code], *(np.nextafter(levels[code], np.float32(side)) for side in (-2, 2)))
        levels[code] = max(near, key=lambda level: (scale * level == true).sum())
    return (scales[:, 0], levels, codes) if np.array_equal(scales * levels[codes], rows) else None


def _codebooks_of_rows(rows: np.ndarray) -> Iterator[tuple[np.ndarray, list[int], np.ndarray]]:
    """Codebooks, first row of each group and codes, for 2, 4, 8, ... codewords: a group ends where the next row would bring too many.

    So a layer whose neurons were grouped, or have a codebook each, takes as few bits as one with a single codebook.
    """
    own = []
    for row in rows:
        own.append(np.unique(row))
        if len(own[-1]) > MOST_CODEWORDS:
            return
    most = 1
    while (most := 2 * most) <= MOST_CODEWORDS:
        if max(map(len, own)) > most:
            continue
        books, starts = [own[0]], [0]
        for place, values in enumerate(own[1:], start=1):
            both = np.union1d(books[-1], values)
            if len(both) <= most:
                books[-1] = both
            else:
                books.append(values)
                starts.append(place)
        codes = [
            np.searchsorted(books[group], rows[first:last])
            for group, (first, last) in enumerate(zip(starts, [*starts[1:], len(rows)], strict=True))
        ]
        width = max(map(len, books))
        yield np.stack([np.pad(book, (0, width - len(book)), mode="edge") for book in books]), starts, np.concatenate(codes)
        if len(books) == 1:
            return


def decoded(parts: Parts, about: dict[str, Any]) -> Shaped[np.ndarray, "..."]:
    """The tensor that `encoded` took apart."""
    if not about:
        return parts[""]
    size = math.prod(about["shape"])
    count = about.get("kept", size)
    if "bits" in about:
        bits = np.unpackbits(parts[".codes"], count=count * about["bits"]).reshape(count, about["bits"])
        codes = bits @ (1 << np.arange(about["bits"])[::-1])
        if "groups" in about:
            rows, told = np.arange(about["shape"][0]), about["groups"]
            group = rows // told if isinstance(told, int) else np.searchsorted(told, rows, side="right") - 1
            return parts[".values"][group[:, None], codes.reshape(len(rows), -1)].reshape(about["shape"])
        rest = parts[".values"][codes]
        if ".scales" in parts:
            rest = (parts[".scales"][:, None] * rest.reshape(len(parts[".scales"]), -1)).ravel()
    else:
        rest = parts[".rest"]
    if "kept" not in about:
        return rest.reshape(about["shape"])
    whole = np.zeros(size, dtype=about["type"])
    whole[np.unpackbits(parts[".there"], count=size).astype(bool)] = rest
    return whole.reshape(about["shape"])


def packed(model: nn.Module) -> bytes:
    """The network as the bytes of a safetensors file.

    Raises:
        ValueError: a tensor of the network has another type than safetensors and numpy both know.
    """
    dense, kinds = _with_plain_layers(model)
    same, stored, tensors = _first_of_same(dense), {}, {}
    for name, tensor in dense.state_dict().items():
        if name in same:
            continue  # another name of one that is stored
        try:
            values = tensor.detach().cpu().numpy()
        except TypeError:
            raise ValueError(f"{name} is of type {tensor.dtype}, which cannot be packed; give model.float().") from None
        parts, about = encoded(values)
        if about:
            tensors[name] = about
        stored |= {f"{name}{part}": torch.as_tensor(np.ascontiguousarray(array)) for part, array in parts.items()}
    known = {name: {key: getattr(module, key, None) for key in WIDTHS} for name, module in dense.named_modules()}
    widths = {name: {key: size for key, size in own.items() if isinstance(size, int | tuple)} for name, own in known.items()}
    about_all = {"version": VERSION, "tensors": tensors, "kinds": kinds, "same": same}
    about_all["widths"] = {name: own for name, own in widths.items() if own}
    return save(stored, {"facelab": json.dumps(about_all, separators=(",", ":"))})


def bytes_of(model: nn.Module) -> int:
    """How many bytes the network takes when stored, names and sizes included."""
    return len(packed(model))


def save_packed(model: nn.Module, path: str | Path) -> int:
    """Writes the network to a file and returns its size in bytes; an interruption leaves no half of one.

    save_packed(small, "small.safetensors")
    again = load_packed("small.safetensors", build)  # build() makes the network that was compressed
    """
    target = Path(path)
    content = packed(model)
    unfinished = target.with_name(target.name + ".unfinished")
    unfinished.write_bytes(content)
    unfinished.replace(target)
    return len(content)


def load_packed(path: str | Path, build: Callable[[], nn.Module] | nn.Module) -> nn.Module:
    """A network out of its file, in evaluation mode.

    Args:
        path: of a file that `save_packed` wrote.
        build: makes the network that was compressed, as it was before, with any weights; or that network, which stays as it is.

    Returns:
        A network of the same modules, as narrow as they were stored. A batch norm that had been folded has become `nn.Identity`.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is no packed network, or the one that `build` makes has other modules.
    """
    target = Path(path)
    if not target.is_file():
        raise FileNotFoundError(f"There is no file {target}; save_packed or facelab compress writes one.")
    try:
        with safe_open(target, framework="np") as file:
            about = json.loads((file.metadata() or {}).get("facelab", "{}"))
            stored = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise ValueError(f"{target} is no safetensors file ({error}); give one that facelab compress wrote.") from None
    if about.get("version") != VERSION:
        raise ValueError(f"{target} is no packed network of version {VERSION}; give one that facelab compress wrote.")
    values = dict(_decoded_all(stored, about["tensors"]))
    values |= {name: values[first] for name, first in about["same"].items()}
    model = copied(build if isinstance(build, nn.Module) else build())
    kinds, widths = about["kinds"], about["widths"]
    inside = {name: [key for key in values if key.startswith(f"{name}.")] for name, kind in kinds.items() if kind == "UnevenDepthwise"}
    states = {name: {key.removeprefix(f"{name}."): torch.as_tensor(values.pop(key)) for key in keys} for name, keys in inside.items()}
    modules = dict(model.named_modules())
    if missing := sorted(({name.rpartition(".")[0] for name in values} | set(kinds)) - set(modules)):
        raise ValueError(f"The given network has no module {missing[0]!r}, which {target.name} has; give the network that was compressed.")
    for name, module in modules.items():
        if isinstance(module, NORMS) and not any(key.startswith(f"{name}.") for key in values):
            model.set_submodule(name, nn.Identity())
        for key, size in widths.get(name, {}).items():
            setattr(module, key, tuple(size) if isinstance(size, list) else size)
    for name, array in values.items():
        place, _, key = name.rpartition(".")
        module, tensor = model.get_submodule(place), torch.as_tensor(array)
        if key in module._buffers:
            module._buffers[key] = tensor
        else:  # also a bias that a folded batch norm left
            old = module._parameters.get(key)
            module.register_parameter(key, nn.Parameter(tensor, requires_grad=old is None or old.requires_grad))
    for name, first in about["same"].items():  # tied weights stay tied
        place, _, key = name.rpartition(".")
        model.get_submodule(place)._parameters[key] = model.get_parameter(first)
    for name, kind in kinds.items():
        model.set_submodule(name, _own_layer(kind, model.get_submodule(name), states.get(name, {})))
    return model.eval()


def _decoded_all(stored: Parts, tensors: dict[str, dict]) -> Iterator[tuple[str, np.ndarray]]:
    taken = set()
    for name, about in tensors.items():
        names = {part: f"{name}{part}" for part in (".there", ".rest", ".scales", ".values", ".codes") if f"{name}{part}" in stored}
        taken |= set(names.values())
        yield name, decoded({part: stored[key] for part, key in names.items()}, about)
    yield from ((name, values) for name, values in stored.items() if name not in taken)


def _first_of_same(model: nn.Module) -> dict[str, str]:
    """Name of a parameter that is another one's -> that other one."""
    first: dict[int, str] = {}
    found = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        if (other := first.setdefault(id(parameter), name)) != name:
            found[name] = other
    return found


def _with_plain_layers(model: nn.Module) -> tuple[nn.Module, dict[str, str]]:
    """A copy in which layers that share products are layers again, which take fewer bytes; and where there are layers of our own."""
    result, kinds = copied(model), {}
    for name, module in model.named_modules():
        kind = type(module).__name__
        if name and kind in ("UnevenDepthwise", "SplitLayer") and type(module).__module__.startswith("facelab.methods."):
            kinds[name] = kind
            if kind == "SplitLayer":
                result.set_submodule(name, _dense(module))
    return result, kinds


def _dense(split: Any) -> nn.Module:
    """The layer that a `methods.redpp.SplitLayer` was made of: its weights are among the distinct values, bit for bit."""
    outputs, width = split.table.shape
    groups, bias = len(split.counts) // width, split.bias is not None
    if split.window is None:
        layer: nn.Module = nn.Linear(width, outputs, bias)
    else:
        kernel = split.window["kernel_size"]
        layer = nn.Conv2d(width // math.prod(kernel) * groups, outputs, kernel, groups=groups, bias=bias)
    layer.weight = nn.Parameter(split.values.detach()[split.table].reshape(layer.weight.shape))  # type: ignore[arg-type]
    layer.bias = split.bias
    return layer


def _own_layer(kind: str, module: nn.Module, state: dict[str, Tensor]) -> nn.Module:
    """The layer of a method in place of the one that it was made of."""
    if kind == "SplitLayer":
        from facelab.methods.redpp import SplitLayer

        return SplitLayer(module)
    from facelab.methods.red import UnevenDepthwise

    like = copied(module)
    like.out_channels = len(state["mix.weight"])  # type: ignore[assignment]
    like.bias = nn.Parameter(state["mix.bias"]) if "mix.bias" in state else None  # type: ignore[assignment]
    layer = UnevenDepthwise(like, state["sources"])  # type: ignore[arg-type]
    layer.load_state_dict(state)
    return layer

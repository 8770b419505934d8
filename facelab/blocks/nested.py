"""Data as nested mappings, sequences and dataclasses of tensors: what of them is where, and the same with every tensor changed."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, is_dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor


def children(data: Any) -> dict[Any, Any]:
    """What lies directly in a mapping, sequence or dataclass, by key, number or name; what is None counts as not there.

    Raises:
        TypeError: something else.
    """
    if isinstance(data, Mapping):
        found = dict(data)
    elif is_dataclass(data) and not isinstance(data, type):
        found = {field.name: getattr(data, field.name) for field in fields(data) if field.init}  # `replace` computes the others
    elif isinstance(data, Sequence) and not isinstance(data, str | bytes):
        found = dict(enumerate(data))
    else:
        what = " ".join(f"{data!r:.80}".split())
        raise TypeError(f"Data hold tensors in mappings, sequences and dataclasses, not {what}; leave it out or make it a tensor.")
    return {key: child for key, child in found.items() if child is not None}


def like(data: Any, changed: Mapping[Any, Any]) -> Any:
    """The same container with other children: a dictionary, tuple, named tuple or dataclass."""
    if isinstance(data, Mapping):
        return {**data, **changed}
    if is_dataclass(data) and not isinstance(data, type):
        return replace(data, **changed)
    parts = [changed.get(number) for number in range(len(data))]
    return type(data)(*parts) if hasattr(data, "_fields") else tuple(parts)


def is_tensor(data: Any) -> bool:
    """Whether it is a leaf; arrays of numpy count as tensors."""
    return isinstance(data, Tensor | np.ndarray)


def as_tensor(data: Tensor | np.ndarray) -> Tensor:
    """A leaf as a tensor, of the same memory where torch can read it.

    Raises:
        TypeError: an array of texts or objects.
    """
    if isinstance(data, np.ndarray):
        if data.dtype.kind not in "biufc":
            raise TypeError(f"Data hold an array of {data.dtype}, which is no kind of number; leave it out or number what is in it.")
        if min(data.strides, default=0) < 0 or not data.dtype.isnative:  # a view backwards, or bytes of another machine
            data = np.array(data, dtype=data.dtype.newbyteorder("="), order="C")
    return torch.as_tensor(data)


def map_tensors(function: Callable[[Tensor], Tensor], data: Any) -> Any:
    """The same nesting with `function(tensor)` in place of every tensor."""
    if is_tensor(data):
        return function(as_tensor(data))
    return like(data, {key: map_tensors(function, child) for key, child in children(data).items()})


def leaves(data: Any, path: str = "data") -> dict[str, Tensor]:
    """All tensors, by where they lie: `data[source][x]`."""
    if is_tensor(data):
        return {path: as_tensor(data)}
    return {name: leaf for key, child in children(data).items() for name, leaf in leaves(child, f"{path}[{key}]").items()}

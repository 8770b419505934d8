"""A network as it is asked: in evaluation mode, with the same answer each time, not in place, on a copy."""

import copy
import inspect
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields, is_dataclass
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn


def tensors_in(value: Any) -> Iterator[Tensor]:
    """The tensors of a network's output, however nested."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, Mapping | list | tuple):
        for entry in value.values() if isinstance(value, Mapping) else value:
            yield from tensors_in(entry)
    elif is_dataclass(value) and not isinstance(value, type):
        yield from tensors_in([getattr(value, field.name) for field in fields(value)])


@contextmanager
def in_evaluation_mode(model: nn.Module) -> Iterator[nn.Module]:
    """Inside, the model is in evaluation mode; afterwards each module is as it was."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield model
    finally:
        for module, mode in modes:
            module.training = mode


_CHECKED: WeakKeyDictionary[nn.Module, tuple] = WeakKeyDictionary()
"""Networks that passed the checks of `evaluating`, in the state in which they did: an explorer asks the same one many times a second."""


def _state(model: nn.Module, example: Any) -> tuple:
    """What a network's answers depend on, cheaply: its modules, its weights and how often they were written, the kind of inputs."""
    tensors = [*model.parameters(), *model.buffers()]
    written = tuple((id(tensor), 0 if tensor.is_inference() else tensor._version) for tensor in tensors)
    return getattr(example, "shape", None), getattr(example, "dtype", None), written, tuple(id(module) for module in model.modules())


@contextmanager
def evaluating(model: nn.Module, example: Tensor | None = None) -> Iterator[nn.Module]:
    """Inside, the model is in evaluation mode and no module works in place, as hooks would see overwritten values.

    Afterwards each module is as it was, and so is which parameters take gradients.

    Args:
        example: (B, ...) a batch; if given, what is inside must be the function that the model computes.

    Raises:
        TypeError: `example` is no tensor.
        ValueError: `example` holds no sample, the model answers it differently each time or not sample by sample, needs its
            in-place modules to be in place, changes its inputs, or overwrites what a gradient taken inside needs.
    """
    scripted = torch.jit.ScriptModule
    in_place = [m for m in model.modules() if getattr(m, "inplace", False) is True and not isinstance(m, scripted)]
    takes = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
    try:
        with in_evaluation_mode(model):
            known = example is not None and _CHECKED.get(model) == (state := _state(model, example))
            own = None if example is None or known else answers(model, example)
            for module in in_place:
                module.inplace = False  # type: ignore[assignment]
            if own is not None and example is not None:
                given = example[:8].clone()
                with torch.no_grad():
                    again = list(tensors_in(model(given)))
                if not same_answers(own, again):
                    advice = "give a model whose modules have inplace=False"
                    raise ValueError(f"{type(model).__name__} computes something else when its modules do not work in place; {advice}.")
                if not same_answers([given], [example[:8]]):
                    raise ValueError(f"{type(model).__name__} changes its own inputs in place; let it work on a copy of them.")
                _CHECKED[model] = state
            yield model
    except RuntimeError as error:
        if "modified by an inplace operation" not in str(error):
            raise
        advice = "write x = x + y for x += y, relu for relu_"
        raise ValueError(f"{type(model).__name__} overwrites what its own gradient needs; {advice}.") from error
    finally:
        for module in in_place:
            module.inplace = True  # type: ignore[assignment]
        for parameter, wanted in takes:
            parameter.requires_grad_(wanted)


def answers(model: nn.Module, example: Tensor) -> list[Tensor]:
    """What the model gives for the first samples of a batch, if it is the same each time.

    Raises:
        TypeError: the batch is no tensor, or the model takes other things than one.
        ValueError: it holds no sample, the model answers it differently each time, or one sample in the light of the others.
    """
    require_batch(model, example)
    some = example[:8]
    with torch.no_grad():
        first, second, alone = ([part.clone() for part in tensors_in(model(given.clone()))] for given in (some, some, some[:1]))
    if not same_answers(first, second):
        advice = "switch off its noise (F.dropout without training=self.training, sampling) first"
        raise ValueError(f"{type(model).__name__} answers the same inputs differently each time; {advice}.")
    rows = [(part[:1], one) for part, one in zip(first, alone, strict=False) if part.ndim and one.ndim and len(part) == len(some)]
    if not same_answers([part for part, _ in rows], [one for _, one in rows]):
        advice = "give one that answers each alone (norms with statistics of their own, no attention between samples)"
        raise ValueError(f"In {type(model).__name__} the samples of a batch see each other; {advice}.")
    return first


def require_batch(model: nn.Module, example: Any) -> None:
    """Refuse inputs that are no batch in one tensor, and models that take something else.

    Raises:
        TypeError: no tensor, or a model of several inputs.
        ValueError: no sample.
    """
    if not isinstance(example, Tensor):
        raise TypeError(f"Inputs are a {type(example).__name__}; give one tensor (samples, ...), put together if there are several.")
    if example.ndim == 0 or len(example) == 0:
        raise ValueError(f"Inputs of shape {tuple(example.shape)} hold no sample; give at least one, (samples, ...).")
    try:
        inspect.signature(model.forward).bind(example)
    except TypeError as error:
        advice = "wrap it in a module that takes them out of one tensor"
        raise TypeError(f"{type(model).__name__} does not take one tensor of inputs ({error}); {advice}.") from None


def same_answers(first: list[Tensor], second: list[Tensor]) -> bool:
    """Whether they agree up to rounding; what is no number is the same as itself."""
    return len(first) == len(second) and all(a.shape == b.shape and _agree(a, b) for a, b in zip(first, second, strict=True))


def _agree(first: Tensor, second: Tensor) -> bool:
    tolerance = max(1e-4, torch.finfo(first.dtype).eps ** 0.5) if first.is_floating_point() else 0.0
    finite = first[first.isfinite()].double().abs()
    size = float(finite.max()) if finite.numel() else 0.0
    return torch.allclose(first.double(), second.double(), rtol=tolerance, atol=tolerance / 10 * size, equal_nan=True)


def require_hooks(model: nn.Module) -> None:
    """Refuse what runs without the hooks of its modules.

    Raises:
        ValueError: a scripted or compiled model.
    """
    if any(isinstance(module, torch.jit.ScriptModule) for module in model.modules()):
        raise ValueError(f"{type(model).__name__} is scripted, which hides its layers; give the model that was scripted.")
    if any(hasattr(module, "_orig_mod") or getattr(module, "_compiled_call_impl", None) is not None for module in model.modules()):
        raise ValueError(f"{type(model).__name__} is compiled, which hides its layers; give the model itself, model._orig_mod.")


def require_precision(model: nn.Module) -> None:
    """Refuse weights whose rounding is as large as what is measured.

    Raises:
        ValueError: half precision.
    """
    coarse = [p.dtype for p in model.parameters() if p.is_floating_point() and p.element_size() < 4]
    if coarse:
        raise ValueError(f"{type(model).__name__} has weights of {coarse[0]}, too coarse for small differences; give model.float().")


def copied(model: nn.Module) -> nn.Module:
    """A copy, whatever its modules keep of the last forward pass: tensors that are part of a graph are copied without it."""
    kept = [part for module in model.modules() for value in vars(module).values() for part in tensors_in(value)]
    return copy.deepcopy(model, {id(part): part.detach().clone() for part in kept if not part.is_leaf})

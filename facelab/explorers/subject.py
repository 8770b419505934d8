"""What an attribution explorer looks at: a network and its images, checked to fit each other before anything is drawn."""

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64
from scipy.ndimage import gaussian_filter
from torch import Tensor, nn

from facelab.importance.attribution.targets import Target, scalar
from facelab.pictures.style import as_array

NINTHS = tuple(f"{row} {column}".strip() for row in ("top", "", "bottom") for column in ("left", "middle", "right"))
"""Names of the parts of images of which nothing is known."""


@dataclass(frozen=True)
class Subject:
    """A network, images, and whatever is known about them."""

    model: nn.Module
    """A copy, in evaluation mode."""
    images: Float[Tensor, "n c h w"]
    targets: Mapping[str, Target]
    parts: Int64[np.ndarray, "n h w"]
    part_names: tuple[str, ...]
    truth: Bool[np.ndarray, "n K h w"] | None
    baselines: Mapping[str, Callable[[int, int], Tensor]]
    """Name -> function of image and output -> (1,c,h,w)."""
    layers: Mapping[str, tuple[int, ...]]
    """Name -> shape (C,h,w) of its maps."""


def checked(
    model: nn.Module, images: Any, outputs: Any, parts: Any, part_names: Sequence[str], truth: Any, counterfactuals: Any, layers: Any
) -> Subject:
    """All of it as it must be; arguments as for `AttributionExplorer`.

    Raises:
        ValueError: something does not fit; the message says what.
    """
    weight = next(model.parameters(), torch.zeros(0))
    pixels = torch.as_tensor(as_array(images)).to(weight.device, weight.dtype)
    if pixels.ndim != 4 or 0 in pixels.shape:
        raise ValueError(f"Images must be (n,c,h,w), at least one; these have shape {tuple(pixels.shape)}.")
    if not torch.isfinite(pixels).all():
        raise ValueError("The images hold NaN or infinite values; give finite ones.")
    model = copy.deepcopy(model).eval().requires_grad_(False)
    count, _, height, width = pixels.shape
    shapes, result = _look(model, pixels[:1])
    targets = _targets(outputs, result)
    for name, target in targets.items():
        with torch.no_grad():
            values = scalar(model, target)(pixels)
        if values.shape != (count,) or not torch.isfinite(values).all():
            what = "NaN or infinite values" if values.shape == (count,) else f"the shape {tuple(values.shape)}"
            raise ValueError(f"The output {name!r} has {what} on these images; it must be one finite number for each of the {count}.")
    maps = {name: shape for name, shape in shapes.items() if len(shape) == 3}
    wanted = [n for n in maps if getattr(getattr(model.get_submodule(n), "weight", None), "ndim", 0) == 4] if layers is None else layers
    for name in wanted:
        if name not in maps:
            raise ValueError(f"The layer {name!r} gives no maps (C,h,w), or not exactly once; layers that do are {list(maps)}.")
    labels, label_names = _parts(parts, part_names, count, height, width)
    true = None if truth is None else _for_each_output("truth", truth, (count, len(targets), height, width)).astype(bool)
    pairs = None
    if counterfactuals is not None:
        found = _for_each_output("counterfactuals", counterfactuals, (count, len(targets), *pixels.shape[1:]))
        pairs = torch.from_numpy(found.copy()).to(pixels)
    mean, sigma = pixels.mean(dim=0, keepdim=True), min(height, width) / 8

    @lru_cache(maxsize=256)
    def blurred(image: int) -> Tensor:
        return torch.as_tensor(gaussian_filter(as_array(pixels[image : image + 1]), (0, 0, sigma, sigma))).to(pixels)

    dark = "black" if float(pixels.min()) >= 0 else "zero"
    baselines: dict[str, Callable[[int, int], Tensor]] = {dark: lambda image, output: torch.zeros_like(pixels[:1])}
    if pairs is not None:
        baselines = {"without the cause": lambda image, output: pairs[image, output][None], **baselines}
    baselines["blurred"] = lambda image, output: blurred(image)
    if count > 1:
        baselines["mean image"] = lambda image, output: mean
    return Subject(model, pixels, targets, labels, label_names, true, baselines, {name: maps[name] for name in wanted})


def _look(model: nn.Module, image: Tensor) -> tuple[dict[str, tuple[int, ...]], Any]:
    """Shape, without the batch, of what each module gives that runs exactly once; and what the model gives."""
    calls: dict[str, list[tuple[int, ...]]] = {}

    def watch(name: str):
        return lambda module, inputs, output: calls.setdefault(name, []).append(
            tuple(output.shape[1:]) if isinstance(output, Tensor) else ()
        )

    hooks = [module.register_forward_hook(watch(name)) for name, module in model.named_modules() if name]
    try:
        with torch.no_grad():
            result = model(image)
    except RuntimeError as error:
        raise ValueError(f"The model does not take images of shape {tuple(image.shape[1:])}: {str(error).splitlines()[0]}") from error
    finally:
        for hook in hooks:
            hook.remove()
    return {name: shapes[0] for name, shapes in calls.items() if len(shapes) == 1}, result


def _targets(outputs: Any, result: Any) -> dict[str, Target]:
    """Name -> column or function."""
    if isinstance(outputs, Mapping) and outputs:
        return {str(name): target for name, target in outputs.items()}
    shape = tuple(result.shape) if isinstance(result, Tensor) else type(result).__name__
    if not isinstance(result, Tensor) or result.ndim != 2:
        raise ValueError(f"The model gives {shape} for one image, not (1, K); name functions of it: outputs={{name: function}}.")
    names = [str(name) for name in outputs] or [f"output {column}" for column in range(shape[1])]
    if len(names) != shape[1] or len(set(names)) != len(names):
        raise ValueError(f"The model has {shape[1]} outputs; {len(names)} names were given: give each one its own name.")
    return {name: column for column, name in enumerate(names)}


def _parts(parts: Any, names: Sequence[str], count: int, height: int, width: int) -> tuple[np.ndarray, tuple[str, ...]]:
    """Index of each pixel's part, and the parts' names."""
    if parts is None:
        rows, columns = (np.arange(side) * 3 // side for side in (height, width))
        return np.broadcast_to(rows[:, None] * 3 + columns, (count, height, width)).astype(np.int64), NINTHS
    labels = as_array(parts)
    if labels.shape != (count, height, width) or labels.dtype.kind not in "iu":
        raise ValueError(f"parts must be whole numbers of shape {(count, height, width)}; these are {labels.dtype} of {labels.shape}.")
    labels = labels.astype(np.int64)
    names = tuple(str(name) for name in names) or tuple(f"part {index}" for index in range(int(labels.max()) + 1))
    if labels.min() < 0 or labels.max() >= len(names):
        raise ValueError(
            f"parts holds the indices {labels.min()} to {labels.max()}; with {len(names)} part_names they must be 0 to {len(names) - 1}."
        )
    return labels, names


def _for_each_output(name: str, values: Any, shape: tuple[int, ...]) -> np.ndarray:
    """Values of a shape whose second axis are the outputs; one for all of them will do."""
    array = as_array(values)
    if array.shape not in (shape, (shape[0], 1, *shape[2:])):
        raise ValueError(f"{name} must have the shape {shape}, or 1 in the second place for all outputs alike; it has {array.shape}.")
    return np.broadcast_to(array, shape)

"""The bench: what is left of a network, what it still does, and what it costs, measured alike for all methods."""

from collections.abc import Callable, Mapping

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from facelab.compression.packing import bytes_of
from facelab.importance.scores import Loader, Score, unit_of
from facelab.importance.scores import evaluate as scores_of
from facelab.methods.red import UnevenDepthwise
from facelab.methods.redpp import SplitLayer
from facelab.networks.evaluation import evaluating, require_batch
from facelab.networks.latency import latency
from facelab.networks.layers import LAYERS, multiplies_of
from facelab.statistics import bootstrap_interval

ORIGINAL = "original"
READOUT = 1e-3
"""Ridge of the linear readout, of the mean variance of a feature."""


def evaluate(
    networks: Mapping[str, nn.Module], loader: Loader, score: Score, *, rounds: int = 15, unit: str = ""
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Measures networks beside the one that they were made of.

        table, layers = evaluate({"original": model, "red": small}, loader, accuracy)

    Args:
        networks: name -> network; the first is the original, against which the others are measured.
        loader: (inputs, targets) that no method has seen; the first batch times the networks and tells the layers' errors.
        score: (outputs, targets) -> (B,), higher is better.
        rounds: of the measurement of latency.
        unit: of the score; of our own scores it is known.

    Returns:
        A row per network: `network`, `score` and its 95 % interval over samples (`score_low`, `score_high`), `unit`, `parameters`,
        `multiplies` of its layers for one sample (products of activations with each other, as in attention, not counted), `bytes` of
        the packed file, `milliseconds` (median of a pass of the first 8 samples), `latency` (median over rounds of its time over the
        original's in the same round) with its 95 % interval (`latency_low`, `latency_high`), and `architecture` in words. And a row
        per network and layer that both have, as `layer_errors` gives them.

    Raises:
        ValueError: no network, an empty loader, or what a score or a network cannot take.
    """
    if not networks:
        raise ValueError("There is no network to measure; give at least the original.")
    first = next(iter(networks))
    inputs = next(iter(loader))[0]
    times = latency(networks, inputs[:8], rounds=rounds)
    rows, errors = [], []
    for name, model in networks.items():
        values = scores_of(model, loader, score).double().numpy()
        ratio = times[name] / times[first]
        low, high = bootstrap_interval(values) if len(values) > 1 else (np.nan, np.nan)
        fast, slow = median_interval(ratio)
        rows.append(
            {"network": name, "score": float(values.mean()), "score_low": low, "score_high": high, "unit": unit or unit_of(score)}
            | {"parameters": sum(p.numel() for p in model.parameters()), "multiplies": multiplies(model, inputs[:1])}
            | {"bytes": bytes_of(model), "milliseconds": 1000 * float(np.median(times[name]))}
            | {"latency": float(np.median(ratio)), "latency_low": fast, "latency_high": slow, "architecture": architecture(model)}
        )
        if name != first:
            errors.append(layer_errors(networks[first], model, inputs).assign(network=name))
    columns = ["network", "layer", "depth", "before", "after", "error", "unexplained"]
    return pd.DataFrame(rows), (pd.concat(errors, ignore_index=True) if errors else pd.DataFrame(columns=columns))[columns]


def median_interval(values: Float[np.ndarray, " rounds"], draws: int = 2000) -> tuple[float, float]:
    """95 % interval of the median over rounds, by resampling them."""
    drawn = np.random.default_rng(0).choice(values, (draws, len(values)))
    low, high = np.quantile(np.median(drawn, axis=1), [0.025, 0.975])
    return float(low), float(high)


def _watch(
    model: nn.Module, example: Tensor, kinds: tuple[type[nn.Module], ...], see: Callable[[str, nn.Module, Tensor, Tensor], object]
) -> None:
    """Runs the model once and shows name, module, first input and output of each call of some kinds of modules."""

    def hook_of(name: str) -> Callable:
        def hook(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            see(name, module, inputs[0], output)

        return hook

    handles = [module.register_forward_hook(hook_of(name)) for name, module in model.named_modules() if isinstance(module, kinds)]
    try:
        with evaluating(model), torch.no_grad():
            model(example)
    finally:
        for handle in handles:
            handle.remove()


def _outputs(model: nn.Module, example: Tensor) -> dict[str, tuple[nn.Module, Tensor]]:
    """Name -> (layer, output of its first call), in order of execution."""
    found: dict[str, tuple[nn.Module, Tensor]] = {}
    _watch(model, example, (*LAYERS, SplitLayer, UnevenDepthwise), lambda name, layer, _, output: found.setdefault(name, (layer, output)))
    return found


def multiplies(model: nn.Module, example: Tensor) -> int:
    """Multiplications of the layers of a network for one sample, in all their calls; shared products are made once.

    Args:
        example: (B, ...) a batch the model takes.
    """
    require_batch(model, example)
    total = 0

    def count(name: str, layer: nn.Module, given: Tensor, output: Tensor) -> None:
        nonlocal total
        if isinstance(layer, SplitLayer):
            total += output[0].numel() // len(layer.table) * int((layer.values != 0).sum())
        else:
            total += multiplies_of(layer, given, output)

    _watch(model, example, (*LAYERS, SplitLayer), count)
    return total


def layer_errors(original: nn.Module, smaller: nn.Module, inputs: Shaped[Tensor, "B ..."]) -> pd.DataFrame:
    """How far each layer's outputs are from those of the original network, on a batch.

    Args:
        original, smaller: the second made of the first, so that layers have the same names.
        inputs: (B, ...) the more, the better the second figure.

    Returns:
        A row per layer that both have: `layer`, `depth` (1 for the first), channels `before` and `after`, `error` (root mean square of
        the difference over that of the original's centred outputs; NaN where the widths differ), and `unexplained` (share of the variance
        of the original's outputs that the best linear map from the smaller layer's outputs does not give on the other half of the samples:
        0 if nothing is lost, whatever the widths; at most 1).
    """
    whole, small = _outputs(original, inputs), _outputs(smaller, inputs)
    rows = []
    for depth, (name, (module, before)) in enumerate(whole.items(), start=1):
        if name not in small:
            continue
        after = small[name][1]
        true, found = (_channels_last(out, module) for out in (before, after))
        spread = float((true - true.mean(dim=0)).square().mean())
        same = before.shape == after.shape and spread > 0
        error = float((true - found).square().mean()) / spread if same else float("nan")
        rows.append(
            {"layer": name, "depth": depth, "before": true.shape[1], "after": found.shape[1], "error": error**0.5}
            | {"unexplained": _unexplained(true, found) if true.shape[0] == found.shape[0] else float("nan")}
        )
    return pd.DataFrame(rows, columns=["layer", "depth", "before", "after", "error", "unexplained"])


def _channels_last(output: Tensor, module: nn.Module) -> Float[Tensor, "rows channels"]:
    axis = output.ndim - 1 if isinstance(module, nn.Linear) else 1
    return output.movedim(axis, -1).flatten(0, -2).double()


def _unexplained(true: Float[Tensor, "rows before"], found: Float[Tensor, "rows after"]) -> float:
    """By ridge regression on one half of the rows, judged on the other."""
    half = len(true) // 2
    mean_true, mean_found = true[:half].mean(dim=0), found[:half].mean(dim=0)
    x, y = found - mean_found, true - mean_true
    gram = x[:half].T @ x[:half]
    ridge = READOUT * float(gram.diagonal().mean()) + 1e-12
    readout = torch.linalg.solve(gram + ridge * torch.eye(len(gram), dtype=gram.dtype), x[:half].T @ y[:half])
    left = (y[half:] - x[half:] @ readout).square().sum() / y[half:].square().sum().clamp_min(1e-12)
    return float(left.clamp(0, 1))


def architecture(model: nn.Module) -> str:
    """The widths of the layers in order of their definition: "16-24-32-24 | 24-10" with convolutions before the bar."""
    parts: dict[bool, list[str]] = {True: [], False: []}
    for module in model.modules():
        if isinstance(module, SplitLayer):
            parts[module.window is not None].append(f"{len(module.table)}")  # type: ignore[arg-type]
        elif isinstance(module, LAYERS):
            parts[not isinstance(module, nn.Linear)].append(
                f"{module.out_features if isinstance(module, nn.Linear) else module.out_channels}"
            )
    return " | ".join("-".join(widths) for widths in (parts[True], parts[False]) if widths)

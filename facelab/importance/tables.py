"""Importance as tidy tables: one row per figure, with shapes, units and provenance, in parquet files."""

import json
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pandas as pd
import torch

CRITERIA_COLUMNS = (
    "network", "kind", "layer", "channel", "shape", "parameters", "depth", "criterion", "value", "unit", "samples",
)  # fmt: skip
SENSITIVITY_COLUMNS = (
    "network", "kind", "layer", "channel", "shape", "parameters", "depth", "family", "level", "draw", "before", "after", "drop", "low",
    "high", "unit", "samples",
)  # fmt: skip
KINDS = ("layer", "channel", "neuron")


def provenance(score: Any, *, network: str = "", seed: int = 0, samples: int = 0, **more: Any) -> dict[str, Any]:
    """How a table came about: versions, score, seed, network, number of samples; goes into `frame.attrs`."""
    return {
        "facelab": version("facelab"),
        "torch": str(torch.__version__),
        "score": getattr(score, "__name__", str(score)),
        "seed": seed,
        "network": network,
        "samples": samples,
    } | more


def save_table(frame: pd.DataFrame, path: str | Path) -> None:
    """Write a table and its `attrs` to a parquet file.

    Raises:
        ValueError: a column that tables of importance have is missing, or `attrs` hold what JSON cannot.
    """
    missing = [column for column in ("network", "kind", "layer", "channel", "unit", "samples") if column not in frame.columns]
    if missing:
        raise ValueError(f"The table lacks the columns {missing}; it has {list(frame.columns)}. Give one of criteria or of sensitivity.")
    try:
        json.dumps(frame.attrs)
    except TypeError as error:
        raise ValueError(
            f"The provenance in frame.attrs cannot be written ({error}); keep to text, numbers, lists and dictionaries."
        ) from error
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    frame.to_parquet(path, index=False)  # pandas keeps attrs in the file's metadata


def read_table(path: str | Path) -> pd.DataFrame:
    """A table as `save_table` wrote it, `attrs` included.

    Raises:
        ValueError: no such file.
    """
    if not Path(path).exists():
        raise ValueError(f"There is no table {path}; write one with save_table.")
    return pd.read_parquet(path)


def by_group(frame: pd.DataFrame, groups: dict[str, tuple[str, ...]]) -> pd.DataFrame:
    """Criteria of channels, added up over the layers that a residual addition ties together, to stand beside measured ablations.

    Args:
        frame: rows of kind "channel" of one network.
        groups: name -> layers, as `networks.groups` gives them.

    Returns:
        the same columns, with the group's name as layer; shape and depth of its first layer, parameters of all.
    """
    group_of = {layer: name for name, members in groups.items() for layer in members}
    rows = frame[frame.kind == "channel"].sort_values("depth")
    rows = rows.assign(layer=rows.layer.map(lambda layer: group_of.get(layer, layer)))
    keys = ["network", "kind", "layer", "channel", "criterion"]
    firsts = dict.fromkeys(("shape", "depth", "unit", "samples"), "first")
    summed = rows.groupby(keys, sort=False, as_index=False).agg(firsts | {"value": "sum", "parameters": "sum"})[list(frame.columns)]
    summed.attrs = dict(frame.attrs)
    return summed

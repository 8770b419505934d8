"""Where a training is, in a folder, so that it can be stopped at any moment and go on bit for bit.

`folder/step-000100` holds one safetensors file for each network and optimiser, and run.json; it appears under its name only when complete.
"""

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.optim import Optimizer

from facelab.blocks import digest, digest_of_network
from facelab.blocks.nested import leaves

Parts = Mapping[str, nn.Module | Optimizer]


class Resumable:
    """A training in a loop of one's own that can be interrupted: its networks, its optimisers, its step and what it recorded.

    Making it loads the newest checkpoint in the folder, if there is one. Nothing else may change from step to step: random numbers come
    from `facelab.training.batches`, schedules are functions of the step.

        state = Resumable("run", {"generator": g, "discriminator": d, "g_adam": g_adam, "d_adam": d_adam}, {"data": images, "steps": 300})
        for step, batch, generator in batches(images, steps=300, start=state.step):
            ...
            state.save(step)

    Args:
        folder: for the checkpoints of this run alone; made if missing. None keeps nothing.
        parts: the networks and optimisers as they are before the first step, by names that are also those of files.
        identity: what else makes it this run and no other, by name: numbers, texts, and data as `batches` takes them.

    Attributes:
        step: the next one to make, from 0.
        record: a dictionary for figures to be kept with the checkpoint, such as lists of losses; whatever JSON can hold.

    Raises:
        ValueError: the folder holds a checkpoint of another run: other first weights, optimisers or identity.
        TypeError: a part is neither a network nor an optimiser.
        OSError: nothing can be written into the folder.
    """

    def __init__(self, folder: str | os.PathLike | None, parts: Parts, identity: Mapping[str, Any]):
        self.folder, self.parts, self.step = folder and Path(folder), parts, 0
        self.record: dict[str, Any] = {}
        if self.folder:
            self._run = identified(parts, identity)
            newest, self.record = find(self.folder, self._run)
            if newest:
                self.step = step_of(newest)
                restore(newest, parts)

    def save(self, step: int) -> None:
        """Keep all after `step`, which was just made; the checkpoint before it is deleted."""
        self.step = step + 1
        if self.folder:
            write(self.folder, self.step, self.parts, self._run, self.record)


def identified(parts: Parts, identity: Mapping[str, Any]) -> dict[str, Any]:
    """What makes a run this one: `identity` with digests in place of data, the first weights, the options of the optimisers."""
    plain = {name: value.item() if isinstance(value, np.generic) else value for name, value in identity.items()}
    run = {name: value if isinstance(value, str | int | float | None) else _digest_of_data(value) for name, value in plain.items()}
    for name, part in parts.items():
        if isinstance(part, nn.Module):
            run[f"first {name}"] = digest_of_network(part)[:16]
        elif isinstance(part, Optimizer):
            run[name] = hashlib.sha256(repr(part).encode()).hexdigest()[:16]
        else:
            raise TypeError(f"{name} is a {type(part).__name__}; give networks and optimisers, and keep the rest in the record.")
    return run


def _digest_of_data(data: Any) -> str:
    tensors = leaves(data)
    return hashlib.sha256(" ".join([*tensors, digest(*tensors.values())]).encode()).hexdigest()[:16]


def step_of(checkpoint: Path) -> int:
    """The number of steps made when it was written."""
    return int(checkpoint.name.removeprefix("step-"))


def _made_in(folder: Path) -> list[Path]:
    """Its complete checkpoints, and nothing else that is there."""
    return [found.parent for found in folder.glob("step-*/run.json") if found.parent.name.removeprefix("step-").isdecimal()]


def find(folder: Path, run: Mapping[str, Any]) -> tuple[Path | None, dict[str, Any]]:
    """The newest complete checkpoint, None if there is none, and its record.

    Raises:
        ValueError: it is of another run.
        OSError: nothing can be written into the folder, which is made if missing; better now than after hours of training.
    """
    folder.mkdir(parents=True, exist_ok=True)
    newest = max(_made_in(folder), key=step_of, default=None)
    if newest is None and not os.access(folder, os.W_OK):
        raise PermissionError(f"Nothing can be written into the folder {folder}; choose another one for the checkpoints.")
    if newest is None:
        return None, {}
    saved = json.loads((newest / "run.json").read_text())
    refuse_another_run(folder, saved["run"], run)
    return newest, saved["record"]


def refuse_another_run(folder: Path, there: Mapping[str, Any], here: Mapping[str, Any]) -> None:
    """Raises a ValueError that names what is not the same `there`, in the folder, and `here`."""
    changed = [f"{key} = {there.get(key)} there, {here.get(key)} here" for key in {**here, **there} if there.get(key) != here.get(key)]
    if changed:
        raise ValueError(f"The checkpoint in {folder} is of another run ({', '.join(changed)}); choose another folder or delete it.")


def write(folder: Path, step: int, parts: Parts, run: Mapping[str, Any], record: Mapping[str, Any]) -> None:
    """A checkpoint after `step` steps in place of those before; one that is there already stays."""
    target = folder / f"step-{step:06d}"
    if target.exists():
        return
    unfinished = Path(tempfile.mkdtemp(prefix=".unfinished-", dir=folder))
    options = {}
    for name, part in parts.items():
        state = part.state_dict()
        if not isinstance(part, nn.Module):
            options[name] = [{key: value for key, value in group.items() if key != "params"} for group in state["param_groups"]]
            state = {f"{i}.{key}": value for i, moments in state["state"].items() for key, value in moments.items()}
        # Each with memory of its own, as the format wants it: weights may be tied, or parts of each other.
        copies = {key: torch.as_tensor(value).detach().clone(memory_format=torch.contiguous_format) for key, value in state.items()}
        save_file(copies, unfinished / f"{name}.safetensors")
    content = {"run": run, "options": options, "record": record}
    (unfinished / "run.json").write_text(json.dumps(content, default=lambda value: value.tolist()))  # numbers of numpy and torch
    unfinished.rename(target)
    for old in [*_made_in(folder), *folder.glob(".unfinished-*")]:
        if old != target:
            shutil.rmtree(old, ignore_errors=True)


def restore(checkpoint: Path, parts: Parts) -> None:
    """Put a checkpoint into the networks and optimisers it was written from."""
    options = json.loads((checkpoint / "run.json").read_text())["options"]
    for name, part in parts.items():
        tensors = load_file(checkpoint / f"{name}.safetensors")
        if isinstance(part, nn.Module):
            part.load_state_dict(tensors)
            continue
        state: dict[int, dict[str, Tensor]] = {}
        for key, value in tensors.items():
            index, _, entry = key.partition(".")
            state.setdefault(int(index), {})[entry] = value
        for i, parameter in enumerate(parameter for group in part.param_groups for parameter in group["params"]):
            for entry, value in state.get(i, {}).items():  # a parameter that never had a gradient has no entries
                if value.shape == parameter.shape:  # the layout in memory of the parameter, so that arithmetic is bit-identical
                    state[i][entry] = torch.empty_like(parameter, requires_grad=False).copy_(value)
        groups = [
            group | {key: _of_kind(group.get(key), value) for key, value in saved.items()}
            for group, saved in zip(part.state_dict()["param_groups"], options[name], strict=True)
        ]
        part.load_state_dict({"state": state, "param_groups": groups})


def _of_kind(first: Any, value: Any) -> Any:
    """An option of an optimiser as it was before JSON, which knows neither tuples nor tensors."""
    if isinstance(first, Tensor):
        return torch.as_tensor(value, dtype=first.dtype, device=first.device)
    return tuple(value) if isinstance(value, list) else value

"""One training loop for every network of the course, and several trainings side by side.

Everything random in step i depends on the seed and on i alone, so a run that was interrupted and resumed is the same run.
"""

import json
import math
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from joblib import Parallel, delayed
from joblib.externals.loky import get_reusable_executor
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel
from tqdm import tqdm

from facelab.blocks import digest, digest_of_network, seeded

if TYPE_CHECKING:  # four seconds that only a training needs
    from lightning_fabric import Fabric

Batch = dict[str, Tensor] | tuple[Tensor, ...]
Loss = Callable[[nn.Module, Batch, torch.Generator], Tensor]

_quiet: ContextVar[bool] = ContextVar("quiet", default=False)


@dataclass
class History:
    """What happened in a training, one entry per step.

    Attributes:
        name: of the run.
        loss: of each step's batch.
        learning_rate: of each step.
        seconds: of training until the end of each step, interruptions not counted.
        evaluations: step (number of steps made) -> what `evaluate` returned.
    """

    name: str = ""
    loss: list[float] = field(default_factory=list)
    learning_rate: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    evaluations: dict[int, dict[str, float]] = field(default_factory=dict)

    def __len__(self) -> int:
        """Number of steps made."""
        return len(self.loss)

    def frame(self):
        """A pandas table: step (counted from 1), loss, learning_rate, seconds and one column per evaluated quantity."""
        import pandas

        steps = range(1, len(self) + 1)
        columns = {"step": steps, "loss": self.loss, "learning_rate": self.learning_rate, "seconds": self.seconds}
        for name in {name: None for values in self.evaluations.values() for name in values}:
            columns[name] = [self.evaluations.get(step, {}).get(name, math.nan) for step in steps]
        return pandas.DataFrame(columns)


def fit(
    model: nn.Module,
    loss: Loss,
    data: Batch,
    *,
    steps: int,
    batch_size: int = 32,
    learning_rate: float = 2e-3,
    clip: float = math.inf,
    average: float = 0.0,
    seed: int = 0,
    device: str = "auto",
    devices: int = 1,
    threads: int = 1,
    evaluate: Callable[[nn.Module], dict[str, float]] | None = None,
    every: int = 0,
    checkpoint: str | os.PathLike | None = None,
    checkpoint_every: int = 100,
    progress: bool = True,
    name: str = "",
) -> History:
    """Train `model` in place with Adam, a short warm-up and a cosine schedule down to zero.

    Args:
        model: ends on the device it came from, in evaluation mode.
        loss: (model, batch, generator) -> scalar; the batch is like `data`, augmentation draws from the generator.
        data: dictionary or tuple of tensors of equal length; batches walk through fresh permutations of it.
        steps: number of optimiser steps.
        batch_size: over all devices together.
        learning_rate: the highest one.
        clip: longest gradient, all parameters together; a longer one is shortened to it, so that one bad batch cannot throw the weights.
        average: share of the steps, at the end, over which weights and buffers are averaged; the average is what the model ends with.
            Two runs that differ in their last digit then differ less in the end. 0 keeps the last weights.
        seed: of the order of the data and of the generator.
        device: "auto", "cpu", "cuda" or "mps".
        devices: how many to train on (by forked processes: not on Windows).
        threads: torch threads on the CPU; one is fastest for small nets and the result does not depend on the machine.
        evaluate: model in evaluation mode -> named figures; called after the last step, and every `every` steps if that is not 0.
        checkpoint: folder; written every `checkpoint_every` steps. If it holds one of the same run, the run goes on from there,
            and gives bit-identical weights. The same run has the same options, first weights and data, and its loss gives the
            same value for the first batch, for which it is called once more when a run goes on.
        progress: show a bar.
        name: for the bar and the history.

    Raises:
        ValueError: tensors of different lengths or none, `clip` or `average` out of range, or a checkpoint of another run.
        FloatingPointError: the loss became infinite or not a number.
    """
    from lightning_fabric import Fabric
    from lightning_fabric.strategies import DDPStrategy

    tensors = list(data.values()) if isinstance(data, Mapping) else list(data)
    lengths = {len(tensor) for tensor in tensors}
    if len(lengths) != 1 or 0 in lengths:
        raise ValueError(f"The tensors of data must be equally long and not empty; their lengths are {sorted(lengths)}.")
    if not clip > 0:
        raise ValueError(f"clip = {clip} leaves no gradient; give a length above 0, such as 1.0, or math.inf for none.")
    if not 0 <= average <= 1:
        raise ValueError(f"average = {average} is not a share of the steps; give a number from 0 (last weights) to 1.")
    run: dict[str, Any] = {"steps": steps, "batch_size": batch_size, "learning_rate": learning_rate, "seed": seed, "samples": lengths.pop()}
    run |= {"clip": clip, "average": average}
    if checkpoint is not None:
        names = data if isinstance(data, Mapping) else ()
        run["data"] = " ".join([*names, digest(*(torch.as_tensor(tensor) for tensor in tensors))[:16]])
    strategy = "auto" if devices == 1 else DDPStrategy(start_method="fork", find_unused_parameters=True)
    fabric = Fabric(accelerator=device, devices=devices, strategy=strategy)
    home = next((parameter.device for parameter in model.parameters()), torch.device("cpu"))
    folder = None if checkpoint is None else Path(checkpoint)
    show = progress and not _quiet.get()
    with _torch_threads(threads), seeded(seed):
        result = fabric.launch(_train, model, loss, data, run, evaluate, every, folder, checkpoint_every, show, name)
    history, weights = result
    if weights is not None:  # trained in other processes
        model.load_state_dict({key: torch.as_tensor(value) for key, value in weights.items()})
    model.to(home).eval()
    return history


def _train(fabric: "Fabric", model, loss, data, run, evaluate, every, folder, checkpoint_every, show, name):
    """The loop, in each process; returns the history and, if there are several processes, the weights as arrays."""
    for tensor in (*model.parameters(), *model.buffers()):
        if tensor.dim() == 4:  # 1.2 times faster convolutions on the CPU; those over time or space have no such layout
            tensor.data = tensor.data.to(memory_format=torch.channels_last)
    optimizer = torch.optim.Adam(model.parameters(), lr=run["learning_rate"])
    if os.environ.get("FACELAB_SHAKE"):
        _shake(model, int(os.environ["FACELAB_SHAKE"]))
    if folder:
        run = run | {"first weights": digest_of_network(model)[:16]}
    wrapped, optimizer = fabric.setup(model, optimizer)
    if fabric.world_size == 1:
        wrapped = model  # the wrapper synchronises processes; alone it only costs time
    averaged = _average_of(model) if run["average"] else None
    data = _map_batch(data, fabric.to_device)
    generator = torch.Generator(fabric.device)

    def loss_of(network: nn.Module, step: int) -> Tensor:
        """Of the batch of a step, with the random numbers of that step."""
        step_seed = _mixed(run["seed"], 1, step, fabric.global_rank)
        torch.manual_seed(step_seed)
        generator.manual_seed(step_seed)
        index = _batch_index(run["samples"], run["batch_size"], step, run["seed"])[fabric.global_rank :: fabric.world_size]
        index = index.to(fabric.device)
        return loss(network, _map_batch(data, lambda tensor: tensor[index]), generator)

    first_loss = (lambda: loss_of(model.train(), 0).item()) if fabric.is_global_zero else None
    history = _load(folder, model, optimizer, run, name, averaged, first_loss) if folder else History(name)
    before, start = (history.seconds[-1] if len(history) else 0.0), time.perf_counter()
    pending: list[Tensor] = []
    bar = tqdm(
        total=run["steps"], initial=len(history), desc=name or "training", file=sys.stdout, ncols=100, mininterval=0.5,
        disable=not (show and fabric.is_global_zero),
    )  # fmt: skip

    def settle():
        """Read the losses back from the device, all at once."""
        values = torch.stack(pending).tolist() if pending else []
        pending.clear()
        history.loss.extend(values)
        if not all(math.isfinite(value) for value in values):
            first = next(value for value in values if not math.isfinite(value))
            advice = "look for values that are not finite in the data, or lower the learning rate"
            raise FloatingPointError(f"The loss became {first} before step {len(history)}; {advice}.")
        if values:
            bar.set_postfix(loss=f"{values[-1]:.4g}", refresh=False)

    with bar:
        for step in range(len(history), run["steps"]):
            wrapped.train()
            rate = _rate(step, run["steps"], run["learning_rate"])
            for group in optimizer.param_groups:
                group["lr"] = rate
            value = loss_of(wrapped, step)
            optimizer.zero_grad()
            fabric.backward(value)
            if run["clip"] < math.inf:
                nn.utils.clip_grad_norm_(model.parameters(), run["clip"])
            optimizer.step()
            if averaged is not None and step >= round((1 - run["average"]) * run["steps"]):
                averaged.update_parameters(model)
            pending.append(value.detach().float())
            history.learning_rate.append(rate)
            history.seconds.append(before + time.perf_counter() - start)
            made, last = step + 1, step + 1 == run["steps"]
            if last and averaged is not None and averaged.n_averaged:
                model.load_state_dict(averaged.module.state_dict())
            if made % 20 == 0 or last or (folder and made % checkpoint_every == 0):
                settle()
            bar.update()
            if evaluate and fabric.is_global_zero and (last or (every and made % every == 0)):
                pause = time.perf_counter()
                history.evaluations[made] = _evaluate(evaluate, model)
                before -= time.perf_counter() - pause  # seconds of training only
            if folder and fabric.is_global_zero and (last or made % checkpoint_every == 0):
                _save(folder, model, optimizer, run, history, averaged)
    if fabric.world_size == 1:
        return history, None
    return history, {key: value.cpu().numpy() for key, value in model.state_dict().items()}


def _average_of(model: nn.Module) -> AveragedModel:
    """A copy to average in. What a network kept of an earlier call (an activation, pruned weights) is cut off from its gradient, for
    it could not be copied otherwise."""
    for module in model.modules():
        for name, kept in vars(module).items():
            if isinstance(kept, Tensor) and not kept.is_leaf:
                setattr(module, name, kept.detach())
    return AveragedModel(model, use_buffers=True)


@torch.no_grad()
def _shake(model: nn.Module, seed: int, size: float = 1e-7) -> None:
    """Changes every weight by about its last digit: the cheapest stand-in for another processor, which adds in another order.

    `FACELAB_SHAKE=1` in the environment asks for it in every training; what does not survive it is chance.
    """
    generator = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        parameter.mul_(1 + size * torch.randn(parameter.shape, generator=generator).to(parameter))


def _evaluate(evaluate, model) -> dict[str, float]:
    model.eval()
    with torch.no_grad():
        return {key: float(value) for key, value in evaluate(model).items()}


def _rate(step: int, steps: int, highest: float) -> float:
    """Linear warm-up over the first twentieth, then half a cosine."""
    warmup = max(1, steps // 20)
    return highest * min(1.0, (step + 1) / warmup) * 0.5 * (1 + math.cos(math.pi * step / steps))


def _mixed(*numbers: int) -> int:
    """One well-mixed 63-bit number from several."""
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0] >> np.uint64(1))


@lru_cache(maxsize=4)
def _permutation(samples: int, seed: int, epoch: int) -> Tensor:
    return torch.randperm(samples, generator=torch.Generator().manual_seed(_mixed(seed, 0, epoch)))


def _batch_index(samples: int, batch_size: int, step: int, seed: int) -> Tensor:
    """The samples of a step: a stretch of the endless row of permutations, one per pass through the data."""
    first, end = step * batch_size, (step + 1) * batch_size
    epochs = range(first // samples, (end - 1) // samples + 1)
    row = torch.cat([_permutation(samples, seed, epoch) for epoch in epochs])
    return row[first - epochs[0] * samples :][:batch_size]


def _map_batch(data: Batch, function: Callable[[Tensor], Tensor]) -> Batch:
    if isinstance(data, Mapping):
        return {key: function(tensor) for key, tensor in data.items()}
    return tuple(function(tensor) for tensor in data)


# --- checkpoints -----------------------------------------------------------------------------------------------------
# folder/step-000100/{weights,optimizer,average}.safetensors and run.json; a step's folder appears under its name only when complete.


def _save(folder: Path, model: nn.Module, optimizer, run: dict, history: History, averaged: AveragedModel | None = None) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / f"step-{len(history):06d}"
    if target.exists():
        return
    unfinished = Path(tempfile.mkdtemp(prefix=".unfinished-", dir=folder))
    moments = {f"{i}.{key}": value for i, state in optimizer.state_dict()["state"].items() for key, value in state.items()}
    save_file(_copied(model.state_dict()), unfinished / "weights.safetensors")
    save_file(_copied(moments), unfinished / "optimizer.safetensors")
    if averaged is not None:
        save_file(_copied(averaged.state_dict()), unfinished / "average.safetensors")
    (unfinished / "run.json").write_text(json.dumps({"run": run, "history": asdict(history)}))
    unfinished.rename(target)
    for old in folder.iterdir():
        if old != target and old.name.startswith(("step-", ".unfinished-")):
            shutil.rmtree(old, ignore_errors=True)


def _copied(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Each with memory of its own, as the format wants it: weights may be tied, or parts of each other."""
    return {key: value.detach().clone(memory_format=torch.contiguous_format) for key, value in tensors.items()}


def _load(
    folder: Path,
    model: nn.Module,
    optimizer,
    run: dict,
    name: str,
    averaged: AveragedModel | None = None,
    first_loss: Callable[[], float] | None = None,
) -> History:
    """Put the newest complete checkpoint into model and optimiser; an empty history if there is none.

    `first_loss` gives the loss of the first batch with the weights as they are before that: its name would tell too little of a loss.
    """
    found = sorted(folder.glob("step-*"))
    if not found:
        return History(name)
    saved = json.loads((found[-1] / "run.json").read_text())
    there, here = saved["run"], run
    if there == here and first_loss is not None:
        losses = saved["history"]["loss"][0], first_loss()
        if not math.isclose(*losses, rel_tol=1e-4, abs_tol=1e-12):  # another device rounds otherwise
            there, here = ({"loss of the first batch": f"{value:.6g}"} for value in losses)
    if there != here:
        changed = ", ".join(f"{key} = {there.get(key)} there, {here.get(key)} here" for key in here if there.get(key) != here[key])
        raise ValueError(f"The checkpoint in {folder} is of another run ({changed}); choose another folder or delete it.")
    model.load_state_dict(load_file(found[-1] / "weights.safetensors"))
    if averaged is not None:
        averaged.load_state_dict(load_file(found[-1] / "average.safetensors"))
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in load_file(found[-1] / "optimizer.safetensors").items():
        index, _, entry = key.partition(".")
        state.setdefault(int(index), {})[entry] = value
    for i, parameter in enumerate(optimizer.param_groups[0]["params"]):
        for entry, value in state.get(i, {}).items():  # a parameter that never had a gradient has no entries
            if value.shape == parameter.shape:  # the layout in memory of the parameter, so that arithmetic is bit-identical
                state[i][entry] = torch.empty_like(parameter, requires_grad=False).copy_(value)
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
    history = saved["history"]
    history["evaluations"] = {int(step): values for step, values in history["evaluations"].items()}
    return History(**history)


# --- several at once -------------------------------------------------------------------------------------------------


@contextmanager
def _torch_threads(threads: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _run_job(name: str, job: Callable[[], Any]) -> tuple[str, Any]:
    token = _quiet.set(True)
    try:
        with _torch_threads(1), seeded(0):
            return name, job()
    finally:
        _quiet.reset(token)


def fit_all(jobs: Mapping[str, Callable[[], Any]], workers: int = 2, progress: bool = True) -> dict[str, Any]:
    """Run independent trainings side by side, one process and one torch thread each.

    Results do not depend on `workers`: every job begins with the same global generator, so jobs that build a model for different
    seeds must build it under `seeded(seed)`. Functions and closures defined in notebook cells are welcome (cloudpickle carries
    them); what they refer to travels to the worker, what they return travels back.

    Args:
        jobs: name -> function without arguments that trains and returns what is wanted, such as (model, history).
        workers: processes; 1 runs everything here.
        progress: show one bar that counts finished jobs; the bars of the jobs stay hidden.
    """
    side_by_side = workers > 1 and len(jobs) > 1
    if not side_by_side:
        finished: Any = (_run_job(name, job) for name, job in jobs.items())
    else:
        parallel = Parallel(n_jobs=min(workers, len(jobs)), backend="loky", return_as="generator_unordered", max_nbytes=None)
        finished = parallel(delayed(_run_job)(name, job) for name, job in jobs.items())
    bar = tqdm(finished, total=len(jobs), desc="trainings", file=sys.stdout, ncols=100, disable=not progress or _quiet.get())
    results = dict(bar)
    if side_by_side:
        get_reusable_executor().shutdown()  # idle workers would keep half a gigabyte each
    return {name: results[name] for name in jobs}


def predict(
    model: Callable[[Tensor], Any],
    images: Tensor | np.ndarray,
    read: Callable[[Any], Tensor] = lambda output: output,
    batch_size: int = 32,
) -> Tensor:
    """`read(model(images))` in batches, without gradients, on the device of the model; the result comes to the CPU.

    Args:
        model: in evaluation mode during the call.
        images: anything with a first axis.
        read: takes from the model's output the tensor that is wanted, such as `lambda stages: stages[-1].landmarks[68]`.
        batch_size: images at a time.
    """
    images = torch.as_tensor(images)
    module = model if isinstance(model, nn.Module) else nn.Module()
    training, device = module.training, next((parameter.device for parameter in module.parameters()), images.device)
    module.eval()
    try:
        with torch.no_grad():
            return torch.cat([read(model(part.to(device))).cpu() for part in images.split(batch_size)])
    finally:
        module.train(training)


__all__: Sequence[str] = ["History", "fit", "fit_all", "predict"]

"""Batches for loops that a reader writes, one loop for the common case, and several trainings side by side.

Everything random in step i depends on the seed and on i alone, so a run that was interrupted and resumed is the same run.
"""

import math
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import asdict, dataclass, field
from functools import lru_cache, partial
from numbers import Integral
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from joblib import Parallel, delayed
from joblib.externals.loky import get_reusable_executor
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.swa_utils import AveragedModel
from tqdm import tqdm

from facelab import checkpoints
from facelab.blocks import seeded, shake
from facelab.blocks.nested import as_tensor, children, is_tensor, leaves, like, map_tensors
from facelab.checkpoints import Resumable
from facelab.networks.evaluation import in_evaluation_mode

if TYPE_CHECKING:  # four seconds that only a training needs
    from lightning_fabric import Fabric

Parts = Mapping[str, Tensor | float]
Loss = Callable[[nn.Module, Any, torch.Generator], Tensor | Parts | tuple[Tensor, Parts]]

_quiet: ContextVar[bool] = ContextVar("quiet", default=False)


def _bar(total: int, progress: bool, name: str, **options) -> tqdm:
    return tqdm(total=total, desc=name, file=sys.stdout, ncols=100, disable=not progress, **options)


# --- batches ---------------------------------------------------------------------------------------------------------


def batches(
    data: Any,
    steps: int,
    batch_size: int | Mapping[Any, int] = 32,
    seed: int = 0,
    *,
    start: int = 0,
    device: str | torch.device = "cpu",
    progress: bool = True,
    name: str = "training",
) -> Iterator[tuple[int, Any, torch.Generator]]:
    """The batches of a training loop, each with its number and with a generator for what the loop draws.

    A step's batch, generator and global generator depend on `seed` and the step alone, whatever was drawn before; the global
    generator is given back after the loop. Batches walk through fresh permutations of the data, without an end in between.

        for step, batch, generator in batches({"source": {"x": x, "y": y}, "target": {"x": others}}, steps=300):
            loss = F.cross_entropy(model(batch["source"]["x"]), batch["source"]["y"]) + distance(model(batch["target"]["x"]))

    Args:
        data: tensors, all equally long, in mappings, sequences and dataclasses in each other. If no tensor lies at the top, or if
            `batch_size` is a mapping, what lies there are groups: of different lengths, each drawn in an order of its own.
        steps: of the whole training.
        batch_size: of each group; or a mapping from the name of every group to its own.
        seed: of the orders and of the generators.
        start: the first step, from 0; to go on after an interruption, see `Resumable`.
        device: where batches and generator are; the data stay where they are, so they may be larger than its memory.
        progress: show a bar.
        name: for the bar.

    Returns:
        An iterator of (step, batch, generator): from `start` to `steps` - 1; like `data`; on `device`.

    Raises:
        ValueError: tensors of a group of different lengths or none; batch sizes below 1, or of other groups than those of the data.
        TypeError: data hold something else than tensors.
    """
    sizes = _sizes(data, batch_size)

    def walk():
        with _bar(steps, progress and not _quiet.get(), name, initial=start, mininterval=0.5) as bar, seeded(seed):
            for item in _steps(data, sizes, steps, seed, start, device):
                yield item
                bar.update()

    return walk()


def _sizes(data: Any, batch_size: int | Mapping[Any, int]) -> dict[Any, tuple[int, int]]:
    """Name -> number of samples, how many of them make a batch, for each group; of data that are a single one the name is None."""
    groups = {} if is_tensor(data) else children(data)
    if isinstance(batch_size, Mapping):
        if batch_size.keys() != groups.keys():
            raise ValueError(f"batch_size names {list(batch_size)}, the groups of data are {list(groups)}; give a size for each of them.")
    elif not groups or any(is_tensor(child) for child in groups.values()):
        groups = {None: data}
    sizes = {}
    for name, group in groups.items():
        size = batch_size[name] if isinstance(batch_size, Mapping) else batch_size
        lengths = {len(tensor) if tensor.ndim else 0 for tensor in leaves(group).values()}
        if len(lengths) != 1 or 0 in lengths:
            where = "data" if name is None else f"data[{name}]"
            raise ValueError(f"The tensors of {where} must be equally long and not empty; their lengths are {sorted(lengths)}.")
        if not isinstance(size, Integral) or size < 1:
            raise ValueError(f"batch_size = {size} leaves no batch; give a whole number, 1 or more.")
        sizes[name] = lengths.pop(), size
    return sizes


def _steps(data, sizes, steps, seed, start=0, device="cpu", rank=0, ranks=1) -> Iterator[tuple[int, Any, torch.Generator]]:
    """What `batches` gives; the share of one of several processes. Leaves the global generator as it is in the last step."""
    data, generator = map_tensors(lambda tensor: tensor, data), torch.Generator(device)
    for step in range(start, steps):
        step_seed = _mixed(seed, 1, step, rank)
        torch.manual_seed(step_seed)
        generator.manual_seed(step_seed)
        batch = {}
        for number, (name, (samples, size)) in enumerate(sizes.items()):
            index = _batch_index(samples, size, step, seed, *(() if name is None else (number,)))[rank::ranks]
            batch[name] = map_tensors(lambda tensor, index=index: tensor[index].to(device), data if name is None else children(data)[name])
        yield step, batch[None] if None in batch else like(data, batch), generator


def _mixed(*numbers: int) -> int:
    """One well-mixed 63-bit number from several."""
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0] >> np.uint64(1))


@lru_cache(maxsize=8)
def _permutation(samples: int, *numbers: int) -> Tensor:
    return torch.randperm(samples, generator=torch.Generator().manual_seed(_mixed(*numbers)))


def _batch_index(samples: int, batch_size: int, step: int, seed: int, *group: int) -> Tensor:
    """The samples of a step: a stretch of the endless row of permutations, one per pass through the data."""
    first, end = step * batch_size, (step + 1) * batch_size
    epochs = range(first // samples, (end - 1) // samples + 1)
    row = torch.cat([_permutation(samples, seed, 0, epoch, *group) for epoch in epochs])
    return row[first - epochs[0] * samples :][:batch_size]


# --- the common case -------------------------------------------------------------------------------------------------


@dataclass
class History:
    """What happened in a training, one entry per step.

    Attributes:
        name: of the run.
        loss: of each step's batch.
        parts: name -> of each step, where the loss tells its parts; not a number where it did not.
        learning_rate: of each step.
        seconds: of training until the end of each step, interruptions not counted.
        evaluations: step (number of steps made) -> what `evaluate` returned.
    """

    name: str = ""
    loss: list[float] = field(default_factory=list)
    learning_rate: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    evaluations: dict[int, dict[str, float]] = field(default_factory=dict)
    parts: dict[str, list[float]] = field(default_factory=dict)

    def __len__(self) -> int:
        """Number of steps made."""
        return len(self.loss)

    def frame(self):
        """A pandas table: step (counted from 1), loss, learning_rate, seconds, `loss.NAME` of each part, and each evaluated quantity.

        An evaluated quantity that is called like one of the others is `evaluated.NAME`.
        """
        import pandas

        steps = range(1, len(self) + 1)
        columns = {"step": steps, "loss": self.loss, "learning_rate": self.learning_rate, "seconds": self.seconds}
        columns |= {f"loss.{name}": values for name, values in self.parts.items()}
        for name in {name: None for values in self.evaluations.values() for name in values}:
            columns[f"evaluated.{name}" if name in columns else name] = [
                self.evaluations.get(step, {}).get(name, math.nan) for step in steps
            ]
        return pandas.DataFrame(columns)

    def _add(self, total: float, parts: Mapping[str, float]) -> None:
        made = len(self)
        self.loss.append(total)
        for name in {**self.parts, **parts}:
            self.parts.setdefault(name, [math.nan] * made).append(parts.get(name, math.nan))


def fit(
    model: nn.Module,
    loss: Loss,
    data: Any,
    *,
    steps: int,
    batch_size: int | Mapping[Any, int] = 32,
    learning_rate: float | None = None,
    optimizer: Callable[[Iterable[nn.Parameter]], Optimizer] | None = None,
    clip: float = math.inf,
    average: float = 0.0,
    seed: int = 0,
    device: str = "auto",
    devices: int = 1,
    threads: int = 1,
    evaluate: Callable[[nn.Module], dict[str, float]] | None = None,
    every: int = 0,
    after_step: Callable[[nn.Module, int], None] | None = None,
    checkpoint: str | os.PathLike | None = None,
    checkpoint_every: int = 100,
    progress: bool = True,
    name: str = "",
) -> History:
    """Train `model` in place, by default with Adam, with a short warm-up and a cosine schedule down to zero.

    A part of the model that is given in evaluation mode and has only frozen parameters (`teacher.eval().requires_grad_(False)`) stays
    in that mode, so that it answers alike in every step; any other is trained in training mode.

    Args:
        model: ends on the device it came from, in evaluation mode.
        loss: (model, batch, generator) -> scalar; or a mapping of scalars, its parts, whose sum it is; or (scalar, parts). The batch is
            like `data`, augmentation draws from the generator.
        data: as `batches` takes them. They stay where they are and batches are moved, so they may be larger than the device's memory.
        steps: number of optimiser steps.
        batch_size: over all devices together; for each group of the data, if it is a mapping.
        learning_rate: the highest one, of Adam; 2e-3 if it is not given.
        optimizer: parameters -> another optimiser, with its own highest learning rates:
            `lambda parameters: torch.optim.SGD(parameters, lr=0.1, momentum=0.9)`.
        clip: longest gradient, all parameters together; a longer one is shortened to it, so that one bad batch cannot throw the weights.
        average: share of the steps, at the end, over which weights and buffers are averaged; the average is what the model ends with.
            Two runs that differ in their last digit then differ less in the end. 0 keeps the last weights.
        seed: of the order of the data and of the generator.
        device: "auto", "cpu", "cuda" or "mps".
        devices: how many to train on (by forked processes: not on Windows).
        threads: torch threads on the CPU; one is fastest for small nets and the result does not depend on the machine.
        evaluate: model in evaluation mode -> named figures; called after the last step, and every `every` steps if that is not 0.
        after_step: (model, number of steps made), called after each of them without gradients: for a teacher that follows the
            weights, or for clipping them. What it changes must be part of the model, to be there when a run goes on.
        checkpoint: folder; written every `checkpoint_every` steps. If it holds one of the same run, the run goes on from there,
            and gives bit-identical weights. The same run has the same options, first weights and data, and its loss gives the
            same value for the first batch, for which it is called once more when a run goes on.
        progress: show a bar.
        name: for the bar and the history.

    Raises:
        ValueError: data as `batches` refuses them, `clip`, `average` or `checkpoint_every` out of range, a learning rate beside an
            optimiser, or a checkpoint of another run.
        TypeError: the loss returned something else.
        FloatingPointError: the loss became infinite or not a number.
    """
    from lightning_fabric import Fabric
    from lightning_fabric.strategies import DDPStrategy

    sizes = _sizes(data, batch_size)
    if checkpoint_every < 1:
        raise ValueError(f"checkpoint_every = {checkpoint_every} is no number of steps; give 1 or more, or checkpoint=None for none.")
    if not clip > 0:
        raise ValueError(f"clip = {clip} leaves no gradient; give a length above 0, such as 1.0, or math.inf for none.")
    if not 0 <= average <= 1:
        raise ValueError(f"average = {average} is not a share of the steps; give a number from 0 (last weights) to 1.")
    if optimizer is None:
        optimizer = partial(torch.optim.Adam, lr=2e-3 if learning_rate is None else learning_rate)
    elif learning_rate is not None:
        raise ValueError(f"learning_rate = {learning_rate} is for Adam; give it to the optimiser of your own instead.")
    run = {"steps": steps, "batch_size": str(batch_size), "learning_rate": learning_rate, "seed": seed, "clip": clip, "average": average}
    strategy = "auto" if devices == 1 else DDPStrategy(start_method="fork", find_unused_parameters=True)
    fabric = Fabric(accelerator=device, devices=devices, strategy=strategy)
    home = next((parameter.device for parameter in model.parameters()), torch.device("cpu"))
    folder = None if checkpoint is None else Path(checkpoint)
    show = progress and not _quiet.get()
    with _torch_threads(threads), seeded(seed):
        result = fabric.launch(
            _train, model, loss, data, sizes, run, optimizer, evaluate, every, after_step, folder, checkpoint_every, show, name
        )
    history, weights = result
    if weights is not None:  # trained in other processes
        model.load_state_dict({key: torch.as_tensor(value) for key, value in weights.items()})
    model.to(home).eval()
    return history


def _train(
    fabric: "Fabric", model, loss, data, sizes, run, make_optimizer, evaluate, every, after_step, folder, checkpoint_every, show, name
):
    """The loop, in each process; returns the history and, if there are several processes, the weights as arrays."""
    for tensor in (*model.parameters(), *model.buffers()):
        if tensor.dim() == 4:  # 1.2 times faster convolutions on the CPU; those over time or space have no such layout
            tensor.data = tensor.data.to(memory_format=torch.channels_last)
    still = [module for module in model.modules() if not module.training and _frozen(module)]
    optimizer = make_optimizer(model.parameters())
    highest = [float(group["lr"]) for group in optimizer.param_groups]
    shake(model)
    if folder:
        run = checkpoints.identified({"weights": model, "optimizer": optimizer}, run | {"data": data})
    wrapped, optimizer = fabric.setup(model, optimizer)
    if fabric.world_size == 1:
        wrapped = model  # the wrapper synchronises processes; alone it only costs time
    averaged = _average_of(model) if run["average"] else None
    kept = {"weights": model, "optimizer": optimizer} | ({} if averaged is None else {"average": averaged})

    def steps(first: int) -> Iterator[tuple[int, Any, torch.Generator]]:
        return _steps(data, sizes, run["steps"], run["seed"], first, fabric.device, fabric.global_rank, fabric.world_size)

    def to_training_mode() -> None:
        wrapped.train()
        for module in still:
            module.eval()

    history = History(name)
    found, record = checkpoints.find(folder, run) if folder else (None, {})
    if found:
        if fabric.is_global_zero:  # its name would tell too little of a loss
            to_training_mode()
            first = _total_and_parts(loss(model, *next(steps(0))[1:]))[0].item()
            if not math.isclose(record["loss"][0], first, rel_tol=1e-4, abs_tol=1e-12):  # another device rounds otherwise
                there, here = ({"loss of the first batch": f"{value:.6g}"} for value in (record["loss"][0], first))
                checkpoints.refuse_another_run(folder, there, here)
        checkpoints.restore(found, kept)
        record["evaluations"] = {int(step): values for step, values in record["evaluations"].items()}
        history = History(**record)
    before, start = (history.seconds[-1] if len(history) else 0.0), time.perf_counter()
    pending: list[dict[str, Tensor]] = []
    bar = _bar(run["steps"], show and fabric.is_global_zero, name or "training", initial=len(history), mininterval=0.5)

    def settle():
        """Read the losses back from the device, all at once."""
        read = iter(torch.stack([value for losses in pending for value in losses.values()]).tolist() if pending else [])
        values = []
        for losses in pending:
            total, *parts = (next(read) for _ in losses)
            values.append(total)
            history._add(total, dict(zip(list(losses)[1:], parts, strict=True)))
        pending.clear()
        if not all(math.isfinite(value) for value in values):
            first = next(value for value in values if not math.isfinite(value))
            advice = "look for values that are not finite in the data, or lower the learning rate"
            raise FloatingPointError(f"The loss became {first} before step {len(history)}; {advice}.")
        if values:
            bar.set_postfix(loss=f"{values[-1]:.4g}", refresh=False)

    with bar:
        for step, batch, generator in steps(len(history)):
            to_training_mode()
            rates = [_rate(step, run["steps"], rate) for rate in highest]
            for group, rate in zip(optimizer.param_groups, rates, strict=True):
                group["lr"] = rate
            value, parts = _total_and_parts(loss(wrapped, batch, generator))
            optimizer.zero_grad()
            fabric.backward(value)
            if run["clip"] < math.inf:
                nn.utils.clip_grad_norm_(model.parameters(), run["clip"])
            optimizer.step()
            made, last = step + 1, step + 1 == run["steps"]
            if after_step:
                with torch.no_grad():
                    after_step(model, made)
            if averaged is not None and step >= round((1 - run["average"]) * run["steps"]):
                averaged.update_parameters(model)
            losses = {"": value} | {part: torch.as_tensor(part_value) for part, part_value in parts.items()}
            pending.append({part: tensor.detach().reshape(()).to(value.device, torch.float32) for part, tensor in losses.items()})
            history.learning_rate.append(rates[0])
            history.seconds.append(before + time.perf_counter() - start)
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
                checkpoints.write(folder, made, kept, run, asdict(history))
    if fabric.world_size == 1:
        return history, None
    return history, {key: value.cpu().numpy() for key, value in model.state_dict().items()}


def _frozen(module: nn.Module) -> bool:
    parameters = list(module.parameters())
    return bool(parameters) and not any(parameter.requires_grad for parameter in parameters)


def _total_and_parts(value: Any) -> tuple[Tensor, Parts]:
    """Of what a loss returned."""
    match (sum(value.values()), value) if isinstance(value, Mapping) else value:
        case Tensor() as total if total.numel() == 1:
            return total.reshape(()), {}
        case (Tensor() as total, Mapping() as parts) if {part.numel() for part in (total, *map(torch.as_tensor, parts.values()))} == {1}:
            return total.reshape(()), parts
    raise TypeError(f"The loss returned {value!r:.80}; it must be a scalar, a mapping of scalars (its parts), or (scalar, parts).")


def _average_of(model: nn.Module) -> AveragedModel:
    """A copy to average in. What a network kept of an earlier call (an activation, pruned weights) is cut off from its gradient, for
    it could not be copied otherwise."""
    for module in model.modules():
        for name, kept in vars(module).items():
            if isinstance(kept, Tensor) and not kept.is_leaf:
                setattr(module, name, kept.detach())
    return AveragedModel(model, use_buffers=True)


def _evaluate(evaluate, model) -> dict[str, float]:
    model.eval()
    with torch.no_grad():
        return {key: float(value) for key, value in evaluate(model).items()}


def _rate(step: int, steps: int, highest: float) -> float:
    """Linear warm-up over the first twentieth, then half a cosine."""
    warmup = max(1, steps // 20)
    return highest * min(1.0, (step + 1) / warmup) * 0.5 * (1 + math.cos(math.pi * step / steps))


# --- several at once -------------------------------------------------------------------------------------------------


@contextmanager
def _torch_threads(threads: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _run_job(name: Any, job: Callable[[], Any]) -> tuple[Any, Any]:
    token = _quiet.set(True)
    try:
        with _torch_threads(1), seeded(0):
            return name, job()
    finally:
        _quiet.reset(token)


def fit_all(jobs: Mapping[Any, Callable[[], Any]], workers: int = 2, progress: bool = True) -> dict[Any, Any]:
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
    images = as_tensor(images)
    module = model if isinstance(model, nn.Module) else nn.Module()
    device = next((parameter.device for parameter in module.parameters()), images.device)
    with in_evaluation_mode(module), torch.no_grad():
        return torch.cat([read(model(part.to(device))).cpu() for part in images.split(batch_size)])


__all__: Sequence[str] = ["History", "Resumable", "batches", "fit", "fit_all", "predict"]

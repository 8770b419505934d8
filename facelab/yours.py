"""Your own network: a model and its data from functions in your files, checked before anything is measured.

`load_network("path/to/file.py:build")` calls `build()`, which returns a `torch.nn.Module`; `load_data("path/to/file.py:loaders")`
calls `loaders()`, which returns `(training, evaluation)` or one loader, and optionally a score after them:
`(training, evaluation, score)`. A loader is anything that can be walked through again and again and gives `(inputs, targets)`, or
dictionaries of which one entry is called "targets" or "labels".
"""

import importlib.util
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from facelab.importance.scores import Loader, Score, accuracy, log_likelihood, negative_squared_error, scored
from facelab.networks.evaluation import evaluating

FOLDER = "FACELAB_FOLDER"
"""Environment variable: the folder in which a command was typed, for notebooks run in a folder of their own."""
TARGETS = ("targets", "target", "labels", "label", "y")
"""What the targets are called in a batch that is a dictionary."""


class DoesNotFit(ValueError):
    """A model, loader or score of the user that cannot be used; the message says why, in one sentence."""


@dataclass(frozen=True)
class Data:
    """Data of the user.

    Attributes:
        training: for criteria.
        evaluation: for measured sensitivity; the same as `training` if only one loader was given.
        score: (outputs, targets) -> (B,), higher is better; None if the user gave none.
        separate: whether evaluation data are other data than training data.
    """

    training: Loader
    evaluation: Loader
    score: Score | None
    separate: bool


def from_the_users_folder(path: str | Path) -> Path:
    """A path as the user means it: seen from the folder in which the command was typed, or from the present one."""
    return (Path(os.environ.get(FOLDER, ".")) / Path(path).expanduser()).resolve()


def load(spec: str) -> Callable:
    """The function that "path/to/file.py:function" names.

    Raises:
        DoesNotFit: no such file or function, or the file fails.
    """
    file, separator, name = spec.rpartition(":")
    if not separator or not file or not name:
        raise DoesNotFit(f'"{spec}" names no function; write path/to/file.py:function.')
    path = from_the_users_folder(file)
    if not path.is_file():
        raise DoesNotFit(f'There is no file "{path}"; give the path as seen from {from_the_users_folder(".")}, or an absolute one.')
    module_name = f"facelab_own_{path.stem}"
    loader = importlib.util.spec_from_file_location(module_name, path)
    if loader is None or loader.loader is None:
        raise DoesNotFit(f'"{path}" is not a Python file; its name must end in .py.')
    module = importlib.util.module_from_spec(loader)
    # Registered, so that objects of its classes can be copied to other processes; its folder, so that it can import its neighbours.
    sys.modules[module_name] = module
    if str(path.parent) not in sys.path:
        sys.path.append(str(path.parent))
    try:
        loader.loader.exec_module(module)
    except Exception as error:
        raise DoesNotFit(f'"{path}" cannot be imported: {_cause(error)}.') from error
    function = getattr(module, name, None)
    if not callable(function):
        there = [key for key, value in vars(module).items() if callable(value) and getattr(value, "__module__", "") == module_name]
        raise DoesNotFit(f'"{path}" has no function "{name}"; it has: {", ".join(there) or "none"}.')
    return function


def _cause(error: Exception) -> str:
    """Kind and first line of an error: some of torch's fill a screen."""
    return f"{type(error).__name__}: {(str(error).splitlines() or [''])[0].rstrip('.')}"


def _call(spec: str) -> Any:
    function = load(spec)
    try:
        return function()
    except Exception as error:
        raise DoesNotFit(f"{spec} failed: {_cause(error)}.") from error


def load_network(spec: str) -> nn.Module:
    """The network that the function of the user builds, in evaluation mode.

    Raises:
        DoesNotFit: not a network, or one without parameters.
    """
    model = _call(spec)
    if not isinstance(model, nn.Module):
        raise DoesNotFit(f"{spec} returned a {type(model).__name__}; it must return a torch.nn.Module.")
    if not any(True for _ in model.parameters()):
        raise DoesNotFit(f"{spec} returned a {type(model).__name__} without parameters; there is no importance to measure.")
    return model.eval()


def load_data(spec: str) -> Data:
    """The loaders, and perhaps the score, that the function of the user gives.

    Raises:
        DoesNotFit: a loader that is empty, can be walked through only once, or gives something else than `(inputs, targets)`.
    """
    given = _call(spec)
    # A list of batches is one loader; a tuple of two or three is (training, evaluation[, score]).
    parts = [of_pairs(part) for part in given] if isinstance(given, tuple) else [of_pairs(given)]
    score = parts.pop() if len(parts) == 3 else None
    if len(parts) not in (1, 2) or (score is not None and not callable(score)):
        raise DoesNotFit(
            f"{spec} returned {len(given)} things; return one loader, (training, evaluation), or (training, evaluation, score)."
        )
    for name, loader in zip(("training", "evaluation"), parts, strict=False):
        _check_loader(loader, f"The {name} loader of {spec}")
    return Data(parts[0], parts[-1], score, separate=len(parts) == 2 and parts[0] is not parts[1])


class Pairs:
    """A loader of dictionaries as one of pairs (inputs, targets)."""

    def __init__(self, loader: Any, inputs: str, targets: str):
        self.loader, self.inputs, self.targets = loader, inputs, targets

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        for batch in self.loader:
            yield batch[self.inputs], batch[self.targets]


def of_pairs(loader: Any) -> Any:
    """A loader of dictionaries with two entries as one of pairs; anything else as it is.

    Raises:
        DoesNotFit: dictionaries of which it is not plain what are the inputs.
    """
    if not hasattr(loader, "__iter__") or isinstance(loader, Iterator):
        return loader
    batch = next(iter(loader), None)
    if not isinstance(batch, Mapping):
        return loader
    targets = [key for key in batch if key in TARGETS]
    inputs = [key for key in batch if key not in TARGETS]
    if len(targets) != 1 or len(inputs) != 1:
        allowed = f"two entries, one of them called one of {', '.join(TARGETS)}"
        raise DoesNotFit(f"A loader gives dictionaries with {', '.join(map(str, batch))}; a batch must have {allowed}.")
    return Pairs(loader, inputs[0], targets[0])


def _check_loader(loader: Any, name: str) -> None:
    if not hasattr(loader, "__iter__"):
        raise DoesNotFit(f"{name} is a {type(loader).__name__}, which cannot be walked through; give a DataLoader or a list of batches.")
    if isinstance(loader, Iterator):
        raise DoesNotFit(f"{name} can be walked through only once ({type(loader).__name__}); give a DataLoader or a list of batches.")
    batch = next(iter(loader), None)
    if batch is None:
        raise DoesNotFit(f"{name} is empty; it must give at least one batch (inputs, targets).")
    if not isinstance(batch, tuple | list) or len(batch) != 2 or not all(isinstance(part, Tensor) for part in batch):
        what = f"{len(batch)} things" if isinstance(batch, tuple | list) else type(batch).__name__
        raise DoesNotFit(f"{name} gives batches of {what}; a batch must be a pair of tensors (inputs, targets).")
    inputs, targets = batch
    if len(inputs) == 0:
        raise DoesNotFit(f"{name} gives a batch without samples; leave it out.")
    if len(inputs) != len(targets):
        raise DoesNotFit(f"{name} gives {len(inputs)} inputs with {len(targets)} targets; there must be one target per input.")


def default_scores(outputs: Tensor, targets: Tensor) -> tuple[Score, Score]:
    """The score to report and the one to differentiate: (accuracy, log-likelihood) for classes, minus the squared error for numbers.

    Raises:
        DoesNotFit: outputs that fit neither.
    """
    classes = not targets.is_floating_point() and targets.ndim == 1
    if classes and outputs.ndim == 2:
        if int(targets.max()) >= outputs.shape[1] or int(targets.min()) < 0:
            there, allowed = f"{int(targets.min())} to {int(targets.max())}", f"0 to {outputs.shape[1] - 1}"
            raise DoesNotFit(f"The targets are classes {there}, the network has outputs for {allowed}; both must count the same classes.")
        return accuracy, log_likelihood
    if targets.is_floating_point() and outputs.shape == targets.shape:
        return negative_squared_error, negative_squared_error
    wanted = f"({len(targets)}, classes)" if classes else str(tuple(targets.shape))
    raise DoesNotFit(
        f"The network's output has shape {tuple(outputs.shape)}, targets of shape {tuple(targets.shape)} and type {targets.dtype} need "
        f"{wanted}; change one of them or give a score."
    )


def fit_together(model: nn.Module, data: Data) -> tuple[Score, Score]:
    """Runs every batch of both loaders through the network once and returns the scores to use, (reported, differentiable).

    Raises:
        DoesNotFit: the network does not take the inputs, gives no tensor, NaN or infinite numbers, or the score does not fit.
    """
    name = type(model).__name__
    scores: tuple[Score, Score] | None = None
    for which, loader in {"training": data.training, "evaluation": data.evaluation}.items():
        for number, (inputs, targets) in enumerate(loader):
            try:
                with evaluating(model), torch.no_grad():
                    outputs = model(inputs)
            except Exception as error:
                shape = tuple(inputs.shape)
                raise DoesNotFit(f"{name} does not take {which} inputs of shape {shape}: {_cause(error)}.") from error
            if not isinstance(outputs, Tensor):
                raise DoesNotFit(f"{name} returns a {type(outputs).__name__}; wrap it in a module that returns one tensor.")
            if outputs.ndim == 0 or len(outputs) != len(inputs):
                raise DoesNotFit(f"{name} returns shape {tuple(outputs.shape)} for {len(inputs)} inputs; the first axis must count them.")
            if not outputs.isfinite().all():
                bad = int((~outputs.isfinite()).sum())
                cause = "weights" if inputs.isfinite().all() else "inputs, which have some too,"
                message = f"{name} returns {bad} numbers that are NaN or infinite on batch {number} of the {which} loader"
                raise DoesNotFit(f"{message}; look at its {cause} before measuring importance.")
            scores = scores or ((data.score, data.score) if data.score else default_scores(outputs, targets))
            for score in scores:
                _check_score(score, outputs, targets, inputs)
    assert scores is not None  # loaders are not empty
    return scores


def _check_score(score: Score, outputs: Tensor, targets: Tensor, inputs: Tensor) -> None:
    name = getattr(score, "__name__", "score")
    try:
        values = scored(score, outputs, targets, inputs)
    except Exception as error:
        raise DoesNotFit(
            f"The score {name} does not fit outputs {tuple(outputs.shape)}, targets {tuple(targets.shape)}: {error}"
        ) from error
    if not values.isfinite().all():
        raise DoesNotFit(f"The score {name} gives NaN or infinite numbers; look at the targets.")

"""Many similar tasks on any `concurrent.futures` executor, with a progress bar; an interrupted sweep goes on where it stopped."""

import json
import os
import sys
import tempfile
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import FIRST_COMPLETED, Executor, Future, wait
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from facelab.checkpoints import refuse_another_run

Arrays = dict[str, np.ndarray]
IN_FLIGHT = 2  # tasks per worker that are on their way: none waits, and no more data are held than these need
WORKERS_UNKNOWN = 8


class Checkpoint:
    """A folder with one file per finished task, `task-00012.npz`; a file appears under its name only when complete.

    Args:
        folder: made if missing; None keeps nothing.
        run: what makes results comparable: name -> figure or digest.

    Raises:
        ValueError: the folder holds the results of another run.
    """

    def __init__(self, folder: str | os.PathLike | None, run: Mapping[str, Any]):
        self.folder = None if folder is None else Path(folder)
        if self.folder is None:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        file = self.folder / "run.json"
        if not file.exists():
            self._write(file, lambda stream: stream.write(json.dumps(dict(run), indent=1).encode()))
        refuse_another_run(self.folder, json.loads(file.read_text()), run)
        for left in self.folder.glob(".unfinished-*"):
            left.unlink(missing_ok=True)

    def _write(self, file: Path, write: Callable) -> None:
        with tempfile.NamedTemporaryFile(dir=file.parent, prefix=".unfinished-", delete=False) as stream:
            write(stream)
            stream.flush()
            os.fsync(stream.fileno())
        Path(stream.name).rename(file)

    def load(self, task: int) -> Arrays | None:
        """The result of a task, None if it is not finished."""
        file = None if self.folder is None else self.folder / f"task-{task:05d}.npz"
        if file is None or not file.exists():
            return None
        with np.load(file, allow_pickle=False) as arrays:
            return dict(arrays)

    def save(self, task: int, result: Arrays) -> None:
        """Keep the result of a task."""
        if self.folder is not None:
            self._write(self.folder / f"task-{task:05d}.npz", lambda stream: np.savez(stream, **result))


def sweep(
    work: Callable[..., Arrays],
    tasks: Iterable[tuple],
    *,
    total: int,
    executor: Executor | None = None,
    checkpoint: Checkpoint,
    collect: Callable[[int, Arrays], None],
    progress: bool = True,
    name: str = "sweep",
) -> None:
    """Call `work(*task)` for each task that the checkpoint does not hold, and hand every result to `collect(number, result)`.

    Args:
        work: can be pickled by the executor, and so can its result.
        tasks: walked through once; a few at a time are held.
        total: number of tasks, for the bar.
        executor: processes, threads, a Dask client's `get_executor()`; None works here.
        checkpoint: where results are kept.
        collect: called here, in the order in which tasks finish.
        progress: show a bar.
        name: of the bar.
    """
    running: dict[Future, int] = {}
    window = IN_FLIGHT * (getattr(executor, "_max_workers", None) or WORKERS_UNKNOWN)

    def settle(until: int):
        while len(running) > until:
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                finish(running.pop(future), future.result())

    def finish(number: int, result: Arrays, new: bool = True):
        if new:
            checkpoint.save(number, result)
        collect(number, result)
        bar.update()

    with tqdm(total=total, desc=name, file=sys.stdout, ncols=100, mininterval=0.5, disable=not progress) as bar:
        try:
            for number, task in enumerate(tasks):
                done = checkpoint.load(number)
                if done is not None:
                    finish(number, done, new=False)
                elif executor is None:
                    finish(number, work(*task))
                else:
                    running[executor.submit(work, *task)] = number
                    settle(window - 1)
            settle(0)
        finally:
            for future in running:
                future.cancel()

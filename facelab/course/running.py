"""Finding the notebooks of the course, running them, and reading what they measured from the executed copies."""

import ast
import difflib
import json
import os
import re
import shutil
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from facelab import pages
from facelab.claims import CLAIM_TYPE, METRICS_TYPE

if TYPE_CHECKING:
    from nbformat import NotebookNode

NOTEBOOKS = Path(__file__).resolve().parents[2] / "notebooks"
OUTPUT = Path("build") / "executed"
NAME = re.compile(r"\d\d[a-z]?_\w+\.ipynb")
"""Of a notebook's file; a letter behind the number marks an appendix."""
WIDGET_TYPE = "application/vnd.jupyter.widget-view+json"
REQUIRED = ("slug", "part", "number", "title", "paper", "seconds", "memory_mb", "sabotages")


class UnknownNotebook(ValueError):
    """No notebook of that name."""


@dataclass(frozen=True)
class Notebook:
    """A notebook of the course, described by its own metadata, the only registry there is."""

    path: Path
    slug: str
    part: int
    number: str
    title: str
    paper: str
    seconds: float
    memory_mb: float
    sabotages: tuple[str, ...]
    seeds: int
    parameters: dict[str, Any] = field(hash=False)
    """Defaults of the cell tagged `parameters`."""

    @property
    def appendix(self) -> bool:
        """Whether it holds what would make the notebook of the same number too long."""
        return self.number[-1].isalpha()

    @property
    def sabotages_needed(self) -> int:
        """How many ways of breaking it must be named at least: a method's notebook two, an appendix or a tour one."""
        return 1 if self.appendix or self.part == 0 else 2


@dataclass(frozen=True)
class Task:
    """A run to be made."""

    notebook: Notebook
    parameters: dict[str, Any]
    """To inject, already of the right types."""
    output: Path = OUTPUT
    """Folder of the executed copy."""
    environment: dict[str, str] = field(default_factory=dict)
    """Variables for the kernel, on top of this process's own."""


@dataclass(frozen=True)
class Run:
    """One execution of a notebook."""

    notebook: Notebook
    parameters: dict[str, Any]
    """Those that were injected."""
    copy: Path
    claims: list[dict[str, Any]]
    """As stored by `facelab.claims.claim`."""
    metrics: dict[str, float]
    seconds: float
    """By the clock on the wall."""
    processor_seconds: float
    """Of the kernel and all processes it started, together."""
    memory_mb: float
    """Largest resident memory of the kernel and all processes it started, together; on Linux, pages that they share count once."""
    error: str
    """Type and message of the failing cell; empty if all cells ran."""

    @property
    def unmet(self) -> list[str]:
        """Names of the claims that were judged and not met."""
        return [claim["name"] for claim in self.claims if not (claim["met"] or claim["indicative"])]

    @property
    def passed(self) -> bool:
        """Every cell ran and every judged claim is met."""
        return not self.error and not self.unmet

    @property
    def broken(self) -> bool:
        """A cell failed otherwise than by a check: the notebook itself has a fault."""
        return _broken(self.error)

    def summary(self) -> dict[str, Any]:
        """What `facelab run --json` prints."""
        return {
            "slug": self.notebook.slug,
            "parameters": self.parameters,
            "passed": self.passed,
            "error": self.error,
            "claims": [{key: value for key, value in claim.items() if key != "scores"} for claim in self.claims],
            "metrics": self.metrics,
            "seconds": round(self.seconds, 2),
            "processor_seconds": round(self.processor_seconds, 2),
            "memory_mb": round(self.memory_mb),
            "copy": str(self.copy),
        }


def _broken(error: str) -> bool:
    return bool(error) and error.split(":")[0] not in ("AssertionError", "ClaimNotMet")


def discover(folder: Path = NOTEBOOKS) -> list[Notebook]:
    """All notebooks below `folder` that carry facelab metadata, in the order of the course.

    Raises:
        ValueError: no notebook, metadata that lacks a field, or two notebooks with one slug.
    """
    named = (path for path in folder.rglob("*.ipynb") if NAME.fullmatch(path.name))
    paths = sorted(path for path in named if ".ipynb_checkpoints" not in path.parts)
    found = [read(path) for path in paths]
    if not found:
        raise ValueError(f"There is no notebook NN_slug.ipynb below {folder}; run facelab from its checkout or give --notebooks FOLDER.")
    slugs = [notebook.slug for notebook in found]
    for slug in slugs:
        if slugs.count(slug) > 1:
            raise ValueError(f"Two notebooks call themselves {slug!r}; slugs must be unique.")
    return sorted(found, key=lambda notebook: notebook.number)


def read(path: Path) -> Notebook:
    """The description of the notebook at `path`.

    Raises:
        ValueError: not a notebook, or its facelab metadata lacks a field.
    """
    try:
        # Plain JSON: reading with nbformat costs a second, for its schema, before the first word of `facelab list`.
        content = json.loads(path.read_text(encoding="utf-8"))
        metadata, cells = content["metadata"].get("facelab", {}), content["cells"]
    except (OSError, ValueError, KeyError) as error:
        raise ValueError(f"{path} is not a notebook that can be read: {error}") from error
    missing = [key for key in REQUIRED if key not in metadata]
    if missing:
        raise ValueError(f"{path.name} lacks {', '.join(missing)} in its facelab metadata; see CONTRIBUTING.md, 'Add a notebook'.")
    return Notebook(
        path=path,
        slug=metadata["slug"],
        part=int(metadata["part"]),
        number=str(metadata["number"]).zfill(2),
        title=metadata["title"],
        paper=metadata["paper"],
        seconds=float(metadata["seconds"]),
        memory_mb=float(metadata["memory_mb"]),
        sabotages=tuple(metadata["sabotages"]),
        seeds=int(metadata.get("seeds", 1)),
        parameters=_default_parameters(cells),
    )


def find(names: Iterable[str], notebooks: list[Notebook]) -> list[Notebook]:
    """The notebooks with these slugs (or file names).

    Raises:
        UnknownNotebook: with the closest slugs.
    """
    by_name = {name: notebook for notebook in notebooks for name in (notebook.slug, notebook.path.stem, notebook.path.name)}
    for name in names:
        if name not in by_name:
            close = difflib.get_close_matches(name, by_name, n=3, cutoff=0.5)
            slugs = list(dict.fromkeys(by_name[match].slug for match in close)) or [notebook.slug for notebook in notebooks]
            raise UnknownNotebook(f"There is no notebook {name!r}. {'Did you mean' if close else 'There are'}: {', '.join(slugs)}?")
    return [by_name[name] for name in dict.fromkeys(names)]


def typed_parameters(notebook: Notebook, texts: dict[str, str]) -> dict[str, Any]:
    """Turns `KEY=VALUE` texts into values of the same type as the notebook's defaults.

    Raises:
        ValueError: the notebook has no such parameter, or the value is not of its type, or no sabotage of that name.
    """
    values: dict[str, Any] = {}
    for name, text in texts.items():
        if name not in notebook.parameters:
            known = ", ".join(f"{key}={default!r}" for key, default in notebook.parameters.items()) or "none"
            raise ValueError(f"The notebook {notebook.slug} has no parameter {name!r}; it has: {known}.")
        default = notebook.parameters[name]
        if isinstance(default, str):
            value: Any = text
        else:
            try:
                value = json.loads(text.lower() if isinstance(default, bool) else text)
            except json.JSONDecodeError:
                value = text
            if isinstance(default, float) and isinstance(value, int) and not isinstance(value, bool):
                value = float(value)
            if default is not None and type(value) is not type(default) and not isinstance(default, tuple):
                kind = type(default).__name__
                raise ValueError(f"The parameter {name} of {notebook.slug} is a {kind} such as {default!r}; {text!r} is not.")
        values[name] = value
    if values.get("sabotage") and values["sabotage"] not in notebook.sabotages:
        known = ", ".join(notebook.sabotages) or "none"
        raise ValueError(f"The notebook {notebook.slug} has no sabotage {values['sabotage']!r}; it has: {known}.")
    return values


def run(
    task: Task,
    *,
    progress: Callable[[int, int], None] = lambda done, cells: None,
    stop: threading.Event | None = None,
) -> Run:
    """Executes a notebook in a kernel of this very interpreter and keeps the executed copy, complete or not at all.

    Args:
        progress: called with (cells done, cells) while it runs.
        stop: when set, the kernel is killed and `KeyboardInterrupt` raised.
    """
    stop = stop or threading.Event()
    result = _attempt(task, progress, stop)
    if any(words in result.error for words in NO_KERNEL):
        result = _attempt(task, progress, stop)
    return result


NO_KERNEL = ("Kernel didn't respond", "Kernel died before replying")
"""A kernel that never began: of several that start at the same moment, two may have chosen the same free port. Once more is enough."""


def _attempt(task: Task, progress: Callable[[int, int], None], stop: threading.Event) -> Run:
    import nbformat
    import papermill

    notebook = task.notebook
    parameters = {key: value for key, value in task.parameters.items() if notebook.parameters.get(key) != value}
    copy = (task.output / copy_name(notebook, parameters)).resolve()
    copy.parent.mkdir(parents=True, exist_ok=True)
    partial = copy.with_name(f".{copy.stem}.{os.getpid()}.{threading.get_ident()}.partial.ipynb")
    cells = len(nbformat.read(notebook.path, as_version=4).cells) + bool(parameters)
    watch = _Watch(stop)
    started = time.perf_counter()
    error = ""
    try:
        papermill.execute_notebook(
            str(notebook.path.resolve()),
            str(partial),
            parameters=parameters,
            kernel_name="python3",
            language="python",
            progress_bar=False,
            start_timeout=120,  # seconds; a cold start on a busy machine takes longer than papermill's own 60
            kernel_manager_class=_kernel_manager(_kernel_environment(parameters, task.environment), watch),
            resources={"metadata": {"path": str(notebook.path.resolve().parent)}},
            extra_arguments=["--IPKernelApp.log_level=ERROR"],
            store_widget_state=False,
            on_cell_complete=lambda cell, cell_index: progress(cell_index + 1, cells),
        )
    except papermill.PapermillExecutionError as failure:
        error = f"{failure.ename}: {failure.evalue}"
    except Exception as failure:
        if stop.is_set():
            raise KeyboardInterrupt from failure
        error = f"{type(failure).__name__}: {failure}"  # the kernel died, ran out of memory, ...
    finally:
        watch.end()
        if stop.is_set():
            partial.unlink(missing_ok=True)
    seconds = time.perf_counter() - started
    if not partial.exists():
        shutil.copy(notebook.path, partial)
    content = nbformat.read(partial, as_version=4)
    _tidy(content)
    cost = {"seconds": seconds, "processor_seconds": watch.processor_seconds, "memory_mb": watch.peak / 2**20}
    result = Run(notebook, parameters, copy, *measured(content), **cost, error=error)
    content.metadata["facelab_run"] = {
        "parameters": parameters,
        "error": error,
        "seconds": round(seconds, 2),
        "processor_seconds": round(result.processor_seconds, 2),
        "memory_mb": round(result.memory_mb),
        "pages": bool((os.environ | task.environment).get(pages.WANTED)),
    }
    nbformat.write(content, partial)
    partial.replace(copy)
    return result


def run_all(
    tasks: list[Task],
    *,
    jobs: int = 1,
    progress: Callable[[int, int, int], None] = lambda task, done, cells: None,
    finished: Callable[[int, Run], None] = lambda task, result: None,
) -> list[Run]:
    """Runs several notebooks, `jobs` kernels at a time, each in its own process; Ctrl-C stops all and leaves finished copies alone.

    Args:
        progress: called with (index of the task, cells done, cells).
        finished: called with the index of the task and its run, as each ends.

    Raises:
        ValueError: `jobs` below one.
    """
    if jobs < 1:
        raise ValueError(f"jobs={jobs} runs nothing; use 1 or more.")
    stop = threading.Event()
    # One thread per process: two busy threads on a shared core run small networks many times slower.
    threads = {"OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1"} if jobs > 1 else {}

    def start(index: int) -> Run:
        task = replace(tasks[index], environment=threads | tasks[index].environment)
        return run(task, progress=lambda done, cells: progress(index, done, cells), stop=stop)

    results: dict[int, Run] = {}
    with ThreadPoolExecutor(max_workers=jobs) as pool:
        futures = {pool.submit(start, index): index for index in range(len(tasks))}
        try:
            for future in as_completed(futures):
                index = futures[future]
                results[index] = future.result()
                finished(index, results[index])
        except BaseException:
            stop.set()
            pool.shutdown(cancel_futures=True)
            raise
    return [results[index] for index in range(len(tasks))]


def measured(content: "NotebookNode") -> tuple[list[dict[str, Any]], dict[str, float]]:
    """The claims, in order, and the metrics that an executed notebook holds."""
    claims: list[dict[str, Any]] = []
    metrics: dict[str, float] = {}
    for cell in content.cells:
        for output in cell.get("outputs", []):
            data = output.get("data", {})
            if CLAIM_TYPE in data:
                claims.append(dict(data[CLAIM_TYPE]))
            metrics.update(data.get(METRICS_TYPE, {}))
    return claims, metrics


def scoreboard(folder: Path = OUTPUT) -> list[dict[str, Any]]:
    """The claims of all executed copies in `folder`, one row each; sabotaged runs and those that broke off are left out.

    Raises:
        ValueError: no executed copy.
    """
    import nbformat

    rows = []
    for path in sorted(folder.rglob("[0-9][0-9]*_*.ipynb")):
        content = nbformat.read(path, as_version=4)
        made = content.metadata.get("facelab_run")
        if made is None or made["parameters"].get("sabotage") or _broken(made["error"]):
            continue
        variant = ", ".join(f"{key}={value}" for key, value in made["parameters"].items())
        claims, _ = measured(content)
        rows += [{"notebook": content.metadata["facelab"]["slug"], "with": variant} | claim for claim in claims]
    if not rows:
        raise ValueError(f"There is no executed notebook with claims in {folder}; run some first: facelab run --all --output {folder}.")
    return rows


def strip(content: "NotebookNode") -> bool:
    """Removes everything a run leaves in a notebook; returns whether anything was there."""
    import nbformat

    before = nbformat.writes(content)
    for cell in content.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
        for key in ("execution", "papermill", "collapsed", "scrolled", "ExecuteTime"):
            cell.metadata.pop(key, None)
    for key in ("widgets", "papermill", "facelab_run"):
        content.metadata.pop(key, None)
    return nbformat.writes(content) != before


def student_copy(notebook: Notebook) -> "NotebookNode":
    """The notebook without its solutions (cells tagged `solution`); the exercises, hints and checks stay.

    Raises:
        ValueError: no cell is tagged `solution`.
    """
    import nbformat

    content = nbformat.read(notebook.path, as_version=4)
    kept = [cell for cell in content.cells if "solution" not in cell.metadata.get("tags", [])]
    if len(kept) == len(content.cells):
        raise ValueError(f"The notebook {notebook.slug} has no cell tagged 'solution', so there is nothing to take out.")
    content.cells = kept
    strip(content)
    return content


def _default_parameters(cells: list[dict[str, Any]]) -> dict[str, Any]:
    """The literal assignments of the cell tagged `parameters`, in order; empty if there is none."""
    for cell in cells:
        if "parameters" in cell["metadata"].get("tags", []):
            tree = ast.parse("".join(cell["source"]))
            assignments = [node for node in tree.body if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name)]
            return {node.targets[0].id: ast.literal_eval(node.value) for node in assignments}  # type: ignore[attr-defined]
    return {}


def copy_name(notebook: Notebook, parameters: dict[str, Any]) -> Path:
    """Where the executed copy goes below the output folder: runs with other parameters do not overwrite each other."""
    variant = "".join(f"--{key}-{value}" for key, value in sorted(parameters.items()))
    safe = "".join(c if c.isalnum() or c in "-_." else "_" for c in variant)
    folder = notebook.path.parent.name if notebook.path.parent.name[:1].isdigit() else ""
    return Path(folder) / f"{notebook.path.stem}{safe}.ipynb"


def _kernel_environment(parameters: dict[str, Any], extra: dict[str, str]) -> dict[str, str]:
    environment = dict(os.environ)
    environment["FACELAB_FOLDER"] = str(Path.cwd())  # paths in parameters are meant as seen from here, see `facelab.yours`
    if parameters.get("preset", "quick") == "quick":
        # The same figures on every run of a machine: sums over threads depend on how many there are.
        environment.setdefault("OMP_NUM_THREADS", "1")
    return environment | extra


def _kernel_manager(environment: dict[str, str], watch: "_Watch") -> type:
    """A kernel manager for this interpreter, whatever kernels are installed on the machine."""
    from ipykernel.kernelspec import get_kernel_dict
    from jupyter_client import AsyncKernelManager
    from jupyter_client.kernelspec import KernelSpec

    class ThisInterpreter(AsyncKernelManager):
        @property
        def kernel_spec(self) -> KernelSpec:
            return KernelSpec(**get_kernel_dict())

        async def _async_launch_kernel(self, kernel_cmd, **kwargs):
            await super()._async_launch_kernel(kernel_cmd, **kwargs | {"env": environment})
            watch.begin(self.provisioner.pid)  # type: ignore[union-attr]

    return ThisInterpreter


class _Watch:
    """Follows memory and processor time of a kernel and of all processes below it, and kills them when told to stop."""

    def __init__(self, stop: threading.Event):
        self.peak = 0
        self._spent: dict[int, float] = {}  # seconds of each process, as last seen
        self._stop, self._ended = stop, threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def processor_seconds(self) -> float:
        return sum(self._spent.values())

    def begin(self, pid: int) -> None:
        self._thread = threading.Thread(target=self._follow, args=(pid,), daemon=True)
        self._thread.start()

    def end(self) -> None:
        self._ended.set()
        if self._thread is not None:
            self._thread.join()

    def _follow(self, pid: int) -> None:
        import psutil

        try:
            kernel = psutil.Process(pid)
            while not self._ended.wait(0.25):
                family = [kernel, *kernel.children(recursive=True)]
                self._spent |= {process.pid: seconds for process in family if (seconds := _processor_seconds(process))}
                self.peak = max(self.peak, _resident(family))
                if self._stop.is_set():
                    for process in family:
                        process.kill()
                    return
        except psutil.NoSuchProcess:
            return


def _resident(family) -> int:
    """Resident bytes of several processes; what they share, libraries above all, counts once. (Exact shares cost a fifth of a core.)"""
    import psutil

    own, shared = 0, 0
    for process in family:
        try:
            memory = process.memory_info()
        except (psutil.NoSuchProcess, psutil.AccessDenied):  # it ended between being listed and being asked
            continue
        common = getattr(memory, "shared", 0)
        own, shared = own + memory.rss - common, max(shared, common)
    return own + shared


def _processor_seconds(process) -> float:
    import psutil

    try:
        times = process.cpu_times()
        return times.user + times.system
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        return 0.0


def _tidy(content: "NotebookNode") -> None:
    """Drops what an executed copy must not carry: widget state (megabytes), views without it, and paths of this machine."""
    content.metadata.pop("widgets", None)
    content.metadata.pop("papermill", None)
    for cell in content.cells:
        for output in cell.get("outputs", []):
            if output.get("data", {}).pop(WIDGET_TYPE, None) is not None:
                output["data"]["text/plain"] = "(interactive: run this cell in JupyterLab)"

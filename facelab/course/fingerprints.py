"""What a run depends on: the code that a notebook reaches, and the arithmetic of the processor."""

import ast
import hashlib
import json
import os
import platform
import subprocess
import sys
import threading
from collections.abc import Iterator
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

PACKAGE = Path(__file__).resolve().parents[1]
PORTABLE = {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2", "MKL_CBWR": "AVX2", "OPENBLAS_CORETYPE": "Haswell"}
"""The instruction set that nearly all x86 processors of today have in common."""
ARITHMETICS: dict[str, dict[str, str]] = {
    "native": {},
    "avx2": PORTABLE,
    "shaken": {"FACELAB_SHAKE": "1"},  # see `facelab.training.fit`
    "oldest": {"ATEN_CPU_CAPABILITY": "default", "ONEDNN_MAX_CPU_ISA": "SSE41", "MKL_CBWR": "COMPATIBLE", "OPENBLAS_CORETYPE": "Nehalem"},
}
"""Environment variables that make this processor calculate as another one would; `oldest` is four times slower, for use by hand."""
UNMEASURED = ("pictures", "explorers", "lesson", "pages", "course", "cli")
"""Rooms that draw, check or run what is measured: a change there changes no figure."""
PACKAGES = ("torch", "numpy", "scipy", "scikit-learn", "captum")
_PARSING = threading.Lock()
"""Python 3.11 counts the depth of its parser for all threads together, and breaks off where two of them parse at once."""


def fingerprint(notebook: Path) -> str:
    """Of the notebook's code, the modules of facelab that it reaches and the networks of the zoo; comments and docstrings do not count."""
    content = json.loads(notebook.read_text(encoding="utf-8"))
    cells = ["".join(cell["source"]) for cell in content["cells"] if cell["cell_type"] == "code"]
    digest = hashlib.sha256()
    with _PARSING:
        for cell in cells:
            digest.update(_bare(cell).encode())
        for path in sorted(_reached(cells)):
            digest.update(_bare(path.read_text(encoding="utf-8")).encode())
            if path.stem == "zoo":
                for weights in sorted((PACKAGE.parent / "data" / "zoo").glob("*.safetensors")):
                    digest.update(weights.read_bytes())
    return digest.hexdigest()[:16]


def _bare(source: str) -> str:
    """Python source without comments, docstrings and layout."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list):
            kept = [part for part in body if not (isinstance(part, ast.Expr) and isinstance(part.value, ast.Constant))]
            node.body = kept or [ast.Pass()]  # type: ignore[attr-defined]
    return ast.unparse(tree)


def _reached(cells: list[str]) -> set[Path]:
    """Files of all modules of facelab that the cells import, and those import in turn, also inside functions."""
    found: set[Path] = set()
    waiting = [name for cell in cells for name in _imports(ast.parse(cell))]
    while waiting:
        path = _file(waiting.pop())
        if path is not None and path not in found:
            found.add(path)
            waiting += _imports_of(path)
    return found


@cache
def _imports_of(path: Path) -> tuple[str, ...]:
    return tuple(_imports(ast.parse(path.read_text(encoding="utf-8"))))


def _imports(tree: ast.AST) -> Iterator[str]:
    """Dotted names below facelab that a module may import; `from facelab.a import b` may mean a module b or a name in a."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names if name.name.startswith("facelab."))
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "facelab":
            yield from (f"{node.module}.{name.name}" for name in node.names)
            yield node.module or ""


def _file(name: str) -> Path | None:
    parts = name.split(".")[1:]
    if parts and parts[0] in UNMEASURED:
        return None
    for path in (PACKAGE.joinpath(*parts).with_suffix(".py"), PACKAGE.joinpath(*parts, "__init__.py")):
        if parts and path.is_file():
            return path
    return None


def arithmetic(environment: dict[str, str]) -> dict[str, Any]:
    """What calculates under these variables: processor, instruction set, versions.

    And a checksum of a small training and of two rendered faces: where it is equal, a notebook's figures are equal.

    Raises:
        ValueError: the training does not run under these variables.
    """
    return json.loads(_arithmetic(tuple(sorted(environment.items()))))


@cache
def _arithmetic(variables: tuple[tuple[str, str], ...]) -> str:
    command = [sys.executable, "-c", "from facelab.course import fingerprints; fingerprints._describe_arithmetic()"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"} | dict(variables)
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, cwd=PACKAGE.parent)
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise ValueError(f"A small training under {dict(variables)} does not run here: {reason}")
    return done.stdout.splitlines()[-1]


def _describe_arithmetic() -> None:
    """Prints what `arithmetic` returns; runs in a process of its own, for libraries read the variables once."""
    import numpy as np
    import torch
    from torch import nn

    from facelab.blocks import ConvRegressor, landmark_loss, seeded
    from facelab.training import fit
    from facelab.worlds.faces import render

    with seeded(0):
        network, faces = ConvRegressor(5, 32), {"images": torch.rand(32, 1, 32, 32), "landmarks": 32 * torch.rand(32, 5, 2)}

    def loss(model, batch, generator):
        return landmark_loss(model(batch["images"]), batch["landmarks"])

    fit(network, loss, faces, steps=60, device="cpu", progress=False)
    parts = [value.numpy() for value in nn.Module.state_dict(network).values()]
    # numpy and numba choose their own instructions: faces are rendered and scores added up by them.
    parts += [np.log1p(np.exp(np.linspace(-3, 3, 999))), render(2, size=32, channels=()).images, np.ones((9, 99)) @ np.linspace(0, 1, 99)]
    digest = hashlib.sha256(b"".join(np.ascontiguousarray(part).tobytes() for part in parts))
    print(
        json.dumps(
            {
                "processor": _processor(),
                "instructions": torch.backends.cpu.get_cpu_capability(),
                "versions": {name: metadata.version(name) for name in PACKAGES} | {"python": sys.version.split()[0]},
                "checksum": digest.hexdigest()[:16],
            }
        )
    )


def _processor() -> str:
    """The processor's name."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()

"""For all tests: shapes in signatures are checked, the network is cut, real data and browsers are skipped or required."""

import gc
import os
import sys
from pathlib import Path

# One thread per process, before torch or numba are imported: tests run side by side.
for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(variable, "1")
os.environ.setdefault("MPLBACKEND", "agg")

sys.path.insert(0, str(Path(__file__).parent / "support"))

import jaxtyping

KERNELS = (*(f"facelab.worlds.faces.{name}" for name in ("rendering", "sensor", "shading")), "facelab.blocks.forest_loops")
TIMED = any("benchmarks" in argument for argument in sys.argv)  # what is timed runs as it does for its users, unchecked
hook = jaxtyping.install_import_hook("facelab", "typechecker.check").hook
instrumented = hook.should_instrument
# numba compiles these and checks types itself
hook.should_instrument = lambda name: instrumented(name) and name not in KERNELS and not TIMED

import pytest
from hypothesis import settings

sys.modules.pop("sitecustomize", None)  # some Pythons come with one of their own
import sitecustomize  # noqa: F401  (cuts the network)

# Time limits per example fail on busy machines; the same examples on every run make a failure repeatable.
settings.register_profile("facelab", deadline=None, derandomize=True)
settings.load_profile("facelab")


def pytest_addoption(parser):
    parser.addoption("--require-real", action="store_true", help="a test that needs real faces fails where they are missing (also CI=true)")
    parser.addoption("--require-browser", action="store_true", help="a browser test fails where there is no browser (also CI=true)")
    parser.addoption("--golden", action="store_true", help="write the recorded faces anew instead of comparing with them")
    parser.addoption(
        "--arithmetic",
        default="avx2",
        choices=("native", "avx2", "shaken", "oldest"),
        help="in which notebooks are run; see facelab.course.fingerprints",
    )


def pytest_collection_finish(session):
    """What is imported by now stays: the collector need not look through all of it again and again, a second each time."""
    gc.collect()
    gc.freeze()


def _required(config, marker: str) -> bool:
    return config.getoption(f"--require-{marker}") or os.environ.get("CI", "").lower() in ("1", "true")


def pytest_collection_modifyitems(items):
    for item in items:
        if "runs" in getattr(item, "fixturenames", ()):  # executes notebooks
            item.add_marker("slow")


def pytest_runtest_setup(item):
    marker = item.get_closest_marker("real")
    if marker is None:
        return
    from facelab.datasets import catalogue

    for name in marker.args or ("p1",):
        try:
            catalogue.path(name)
        except FileNotFoundError as error:
            pytest.skip(str(error))


def pytest_terminal_summary(terminalreporter):
    """After the notebooks: what they cost, and what the whole course would."""
    if any("test_notebooks.py" in report.nodeid for report in terminalreporter.stats.get("passed", [])):
        from measured import PLANNED, projection

        from facelab.course import running

        stated, minutes = projection(running.discover())
        terminalreporter.write_line(
            f"The notebooks state {stated:.0f} processor seconds in all; with {PLANNED} notebooks `make test` takes {minutes:.0f} minutes."
        )


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    """Where real faces or a browser are required, a skipped test is a failed one, whoever skipped it."""
    report = yield
    for marker in ("real", "browser"):
        if report.skipped and not hasattr(report, "wasxfail") and item.get_closest_marker(marker) and _required(item.config, marker):
            why = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
            report.outcome, report.longrepr = "failed", f"Required here, but skipped. {why}"
    return report

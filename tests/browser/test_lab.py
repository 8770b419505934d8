"""The first command of the course, as a person types it on a machine without a display: it prints an address, and the address works."""

import os
import queue
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from facelab.course import running

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGINT to send to another process, and always a display."),
]
ROOT = Path(__file__).resolve().parents[2]
PATIENCE = 120  # seconds; a crowded machine is slow
ADDRESS = re.compile(r"Open (http://127\.0\.0\.1:(\d+)/lab/tree/notebooks/00_start_here\.ipynb\?token=\w{32,})\n")
START = running.NOTEBOOKS / "00_start_here.ipynb"


@pytest.fixture
def taken():
    """Port 8888, held by somebody else: by this test if it can be had."""
    with socket.socket() as holder:
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            holder.bind(("127.0.0.1", 8888))
            holder.listen()
        except OSError:
            pass  # somebody else holds it already
        yield 8888


@pytest.fixture
def environment(tmp_path):
    """A machine without a display, a user without settings of their own, and nothing written beside the notebooks."""
    hidden = ("DISPLAY", "WAYLAND_DISPLAY", "SSH_CONNECTION")
    kept = {name: value for name, value in os.environ.items() if name not in hidden and not name.startswith(("JUPYTER", "JPY_"))}
    settings = tmp_path / "settings" / "@jupyterlab"
    for plugin, text in (
        ("apputils-extension/notification", '{"fetchNews": "false", "checkForUpdates": false}'),
        ("docmanager-extension/plugin", '{"autosave": false}'),
    ):
        path = settings / f"{plugin}.jupyterlab-settings"
        path.parent.mkdir(parents=True)
        path.write_text(text)
    own = {f"JUPYTER_{name}_DIR": str(tmp_path / name.lower()) for name in ("CONFIG", "DATA", "RUNTIME")}
    own |= {f"JUPYTERLAB_{name}_DIR": str(tmp_path / name.lower()) for name in ("SETTINGS", "WORKSPACES")}
    own |= {} if sys.platform == "linux" else {"SSH_CONNECTION": "a Mac is without a display only from afar"}
    return kept | own | {"JUPYTER_PREFER_ENV_PATH": "1", "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests" / "support")])}


@pytest.fixture
def command(environment, tmp_path, taken):
    """`facelab lab` at work, and the lines it has not yet been asked for."""
    words = [sys.executable, "-m", "facelab.cli", "lab", "--expose-app-in-browser"]
    process = subprocess.Popen(
        words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment, cwd=tmp_path
    )
    lines = queue.Queue()
    reader = threading.Thread(target=lambda: [*map(lines.put, process.stdout), lines.put(None)], daemon=True)
    reader.start()
    yield process, lines
    process.kill()
    process.wait()
    reader.join()


def read_until(lines, pattern):
    """What was printed until a line matches, and the match."""
    printed, deadline = [], time.monotonic() + PATIENCE
    while True:
        line = lines.get(timeout=max(0.1, deadline - time.monotonic()))
        assert line is not None, f"facelab lab ended without the address:\n{''.join(printed)}"
        printed.append(line)
        if found := pattern.fullmatch(line):
            return printed, found


def test_the_start_notebook_opens_at_the_printed_address(command, browser, taken):
    process, lines = command
    before = START.read_bytes()
    printed, found = read_until(lines, ADDRESS)
    address, port = found.groups()
    assert int(port) != taken
    as_root = "JupyterLab runs as root, on this machine's loopback only, behind its token.\n" in printed
    assert as_root == (os.geteuid() == 0)
    page = browser.new_page()
    page.goto(address)
    page.wait_for_function(
        """() => {
            const panel = window.jupyterapp?.shell.currentWidget;
            if (document.querySelector(".jp-Dialog")) return true;  // nobody should have to answer a question first
            return panel?.content?.model?.cells?.length > 0 && panel.sessionContext.session?.kernel?.status === "idle";
        }""",
        timeout=1000 * PATIENCE,
    )
    assert not page.locator(".jp-Dialog").count(), page.locator(".jp-Dialog").inner_text()
    path, cells = page.evaluate(
        "() => { const panel = window.jupyterapp.shell.currentWidget; return [panel.context.path, panel.content.model.cells.length]; }"
    )
    assert path == "notebooks/00_start_here.ipynb" and cells > 10
    page.close()
    process.send_signal(signal.SIGINT)
    assert process.wait(30) == 0
    rest = "".join(iter(lines.get, None))
    assert "Shutting down 1 kernel" in rest and "Traceback" not in "".join(printed) + rest
    assert START.read_bytes() == before

"""A JupyterLab on loopback and a real Chromium, for tests that do with a notebook what a person does."""

import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from facelab.course.fingerprints import ARITHMETICS

ROOT = Path(__file__).resolve().parents[2]
PICTURES = ROOT / "build" / "browser"
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome", "msedge")
PLACES = (
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
    "/Applications/Chromium.app/Contents/MacOS/Chromium",
    r"C:\Program Files\Google\Chrome\Application\chrome.exe",
)
HARMLESS = ("favicon.ico",)
"""What JupyterLab itself puts on the console as an error though nothing is wrong. Keep this narrow."""


PATIENCE = 120_000
"""Milliseconds that anything may take on a crowded machine; the tests poll and go on as soon as it is there."""


def find_chromium(own: str) -> str | None:
    """A system Chromium or Chrome, else playwright's own, else Debian's package if we may install it."""
    for place in (*map(shutil.which, NAMES), *PLACES, own):
        if place and Path(place).exists():
            return place
    if hasattr(os, "geteuid") and os.geteuid() == 0 and shutil.which("apt-get"):
        # Several test processes may come here at once: all but the first wait for its lock, then find nothing left to do.
        command = ["apt-get", "-o", "DPkg::Lock::Timeout=300", "install", "--yes", "--no-install-recommends", "chromium"]
        subprocess.run(command, capture_output=True, timeout=600)
        return shutil.which("chromium")
    return None


@pytest.fixture(scope="session")
def browser(tmp_path_factory):
    from playwright.sync_api import expect, sync_playwright

    expect.set_options(timeout=PATIENCE)
    with sync_playwright() as playwright:
        program = find_chromium(playwright.chromium.executable_path)
        if program is None:
            pytest.skip("There is no Chromium or Chrome here; install one, or run `playwright install chromium`.")
        launched = playwright.chromium.launch(executable_path=program, headless=True, args=FLAGS)
        yield launched
        launched.close()


@dataclass(frozen=True)
class Server:
    address: str
    token: str
    folder: Path


@pytest.fixture(scope="session")
def server(request, tmp_path_factory) -> Iterator[Server]:
    """JupyterLab in this interpreter, with its own folders, no news, no update check, and kernels that cannot reach the network."""
    home = tmp_path_factory.mktemp("jupyter")
    folder = home / "course"
    folder.mkdir()
    for part in ("notebooks", "docs"):  # as `facelab lab` serves them: notebooks show pictures that lie in docs
        if (ROOT / part).exists():
            shutil.copytree(ROOT / part, folder / part, ignore=shutil.ignore_patterns(".ipynb_checkpoints"))
    settings = home / "settings" / "@jupyterlab" / "apputils-extension"
    settings.mkdir(parents=True)
    (settings / "notification.jupyterlab-settings").write_text(json.dumps({"fetchNews": "false", "checkForUpdates": False}))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    token = secrets.token_hex(16)
    command = [
        sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", "--expose-app-in-browser", f"--port={port}",
        "--ServerApp.ip=127.0.0.1", "--ServerApp.port_retries=0", f"--IdentityProvider.token={token}", f"--ServerApp.root_dir={folder}",
        "--LabApp.news_url=None", "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate", "--LabApp.extension_manager=readonly",
        f"--LabApp.user_settings_dir={home / 'settings'}", f"--LabApp.workspaces_dir={home / 'workspaces'}",
    ]  # fmt: skip
    environment = os.environ | {
        "JUPYTER_CONFIG_DIR": str(home / "config"),
        "JUPYTER_RUNTIME_DIR": str(home / "runtime"),
        "JUPYTER_PREFER_ENV_PATH": "1",
        "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests" / "support")]),
        # The arithmetic of papermill's runs: the second run has to find the same figures.
        "OMP_NUM_THREADS": "1",
        "NUMBA_NUM_THREADS": "1",
        "CUDA_VISIBLE_DEVICES": "",
        **ARITHMETICS[request.config.getoption("--arithmetic")],
    }
    log = home / "server.log"
    with log.open("w") as output:
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, env=environment, cwd=home)
    address = f"http://127.0.0.1:{port}"
    try:
        deadline = time.monotonic() + 120
        while True:
            try:
                urllib.request.urlopen(f"{address}/api/status?token={token}", timeout=5).close()
                break
            except OSError:
                assert process.poll() is None and time.monotonic() < deadline, f"JupyterLab does not start:\n{log.read_text()[-3000:]}"
                time.sleep(0.2)
        yield Server(address, token, folder)
    finally:
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()


@dataclass
class Lab:
    """A browser tab with JupyterLab, and everything it complained about."""

    page: object
    server: Server
    outside: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)

    def open(self, notebook: str) -> None:
        """Open a notebook (path below the server's folder) and wait for its kernel."""
        self.page.goto(f"{self.server.address}/lab/tree/{notebook}?reset&token={self.server.token}")
        ready = """() => {
            const panel = window.jupyterapp?.shell.currentWidget;
            if (document.querySelector(".jp-Dialog")) return true;  // nobody should have to answer a question first
            return panel?.content?.model?.cells?.length > 0 && panel.sessionContext.session?.kernel?.status === "idle";
        }"""
        self.page.wait_for_function(ready, timeout=PATIENCE)
        assert not self.page.locator(".jp-Dialog").count(), f"{notebook} opens with: {self.page.locator('.jp-Dialog').inner_text()}"

    def run_all(self, timeout: float = 180) -> dict:
        """Run > Run All Cells, wait for the last cell, return the notebook; fails on the first error output."""
        self.page.get_by_role("menuitem", name="Run", exact=True).click()
        self.page.locator(".lm-Menu-itemLabel").get_by_text("Run All Cells", exact=True).click()
        done = """() => {
            const panel = window.jupyterapp.shell.currentWidget, cells = [...panel.content.model.cells];
            const code = cells.map(c => c.sharedModel).filter(c => c.cell_type === "code" && c.source.trim());
            if (code.some(c => c.outputs.some(o => o.output_type === "error"))) return true;
            return code.every(c => c.execution_count !== null) && panel.sessionContext.session.kernel.status === "idle";
        }"""
        self.page.wait_for_function(done, timeout=1000 * timeout, polling=300)
        notebook = self.page.evaluate("() => window.jupyterapp.shell.currentWidget.content.model.sharedModel.toJSON()")
        for number, cell in enumerate(notebook["cells"]):
            for output in cell.get("outputs", []):
                assert output["output_type"] != "error", f"Cell {number}: {output['ename']}: {output['evalue']}\n{''.join(cell['source'])}"
        return notebook

    def scroll_to(self, cell: int):
        """Bring a cell into view (long notebooks are drawn lazily); returns its locator."""
        self.page.evaluate("(cell) => window.jupyterapp.shell.currentWidget.content.scrollToItem(cell, 'start')", cell)
        self.page.evaluate("(cell) => { window.jupyterapp.shell.currentWidget.content.activeCellIndex = cell; }", cell)
        return self.page.locator(".jp-Notebook .jp-Cell.jp-mod-active")

    def ask_kernel(self, expression: str):
        """The value of a Python expression (JSON) in the notebook's kernel, without a trace in the notebook."""
        answer = self.page.evaluate(
            """async (expression) => {
                const kernel = window.jupyterapp.shell.currentWidget.sessionContext.session.kernel;
                const code = "import json, gc";
                const user_expressions = { it: `json.dumps(${expression})` };
                const reply = await kernel.requestExecute({ code, silent: true, user_expressions }).done;
                return reply.content.user_expressions.it;
            }""",
            expression,
        )
        assert answer["status"] == "ok", answer
        return json.loads(eval(answer["data"]["text/plain"]))

    def picture(self, name: str) -> None:
        """Keep a screenshot under build/browser."""
        PICTURES.mkdir(parents=True, exist_ok=True)
        self.page.screenshot(path=str(PICTURES / f"{name}.png"))

    def assert_fits(self, place) -> None:
        """The explorer in a cell is seen whole, controls, picture and caption: nothing has to be scrolled to."""
        seen = self.page.locator(".jp-NotebookPanel:not(.lm-mod-hidden) .jp-WindowedPanel-outer").bounding_box()
        box = place.locator(".widget-box:has(img.facelab-picture)").first.bounding_box()
        assert box["height"] <= seen["height"], f"It is {box['height']:.0f} pixels high, of which {seen['height']:.0f} are seen."
        assert box["x"] + box["width"] <= seen["x"] + seen["width"], "It is wider than what is seen of the notebook."

    def assert_quiet(self) -> None:
        assert not self.outside, f"The page asked for things outside: {self.outside}"
        assert not self.complaints, "\n".join(self.complaints)


@pytest.fixture
def lab(browser, server) -> Iterator[Lab]:
    context = browser.new_context(viewport={"width": 1366, "height": 768})
    page = context.new_page()
    page.set_default_timeout(PATIENCE)
    tab = Lab(page, server)

    def gate(route):
        url = route.request.url
        if url.startswith((server.address, "data:", "blob:", "file:")):
            route.continue_()
        else:
            tab.outside.append(url)
            route.abort()

    page.route("**/*", gate)
    page.on("websocket", lambda socket: tab.outside.append(socket.url) if server.address.removeprefix("http") not in socket.url else None)
    page.on("pageerror", lambda error: tab.complaints.append(f"page error: {error}"))
    page.on(
        "console",
        lambda said: (
            tab.complaints.append(f"console: {said.text} {said.location}")
            if said.type == "error" and not any(known in said.text + str(said.location) for known in HARMLESS)
            else None
        ),
    )
    yield tab
    context.close()

"""JupyterLab on the start notebook, wherever a person stands: as root, without a display, with a port taken."""

import os
import signal
import sys
import webbrowser
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

EVERY_NETWORK = ("", "0.0.0.0", "::")


def serve(start: Path, root: Path, arguments: list[str]) -> None:
    """Starts JupyterLab on the notebook `start` below the folder `root` and stays until it is stopped; `arguments` are its own.

    It runs in this very process: signals reach it, its exit code is ours, and it is asked which port it found and which token it made.

    Raises:
        SystemExit: JupyterLab does not start; it has said why.
    """
    from jupyterlab.labapp import LabApp
    from traitlets.config import Config

    os.environ["FACELAB_FOLDER"] = str(Path.cwd())  # for the kernels: paths of a user are meant as seen from here
    server = LabApp.initialize_server([str(start), *arguments], config=Config(ServerApp={"root_dir": str(root), **settings()}))
    # In a terminal JupyterLab asks back before it stops; elsewhere it would leave its kernels behind.
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, lambda *_: server.stop(from_signal=True))
    server.io_loop.add_callback(say, server)  # once it answers, below what it logs while it starts
    server.start()


def settings() -> dict[str, Any]:
    """What JupyterLab needs here in order to start; it wins over configuration files, and the command line over it."""
    as_root = {"allow_root": True, "ip": "127.0.0.1"} if is_root() else {}
    return as_root | ({} if has_browser() else {"open_browser": False})


def is_root() -> bool:
    """Whether this process may do anything; then JupyterLab starts only if told to."""
    return hasattr(os, "geteuid") and os.geteuid() == 0


def has_browser() -> bool:
    """Whether there is a browser, and a display to see it on."""
    display = os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    if not display and (os.environ.get("SSH_CONNECTION") or sys.platform not in ("darwin", "win32")):
        return False
    try:
        return bool(webbrowser.get())
    except webbrowser.Error:
        return False


def say(server: Any) -> None:
    """Says of a JupyterLab server where to open its notebook, and that it runs as root, if it does."""
    token = server.identity_provider.token
    if is_root():
        where = "this machine's loopback only" if server.ip in ("127.0.0.1", "localhost", "::1") else server.ip or "every network"
        print(f"JupyterLab runs as root, on {where}, {'behind its token' if token else 'without a token'}.", file=sys.stderr, flush=True)
    notebook = Path(server.file_to_run).relative_to(server.root_dir).as_posix()
    # A token that a person chose is theirs to keep: JupyterLab asks for it.
    query = urlencode({"token": token}) if token and server.identity_provider.token_generated else ""
    address = urlsplit(server.local_url if server.ip in (*EVERY_NETWORK, "localhost") else server.public_url)
    address = address._replace(path=f"{server.base_url}lab/tree/{quote(notebook)}", query=query)
    print(f"{'If no browser opens, open' if server.open_browser else 'Open'} {address.geturl()}", flush=True)

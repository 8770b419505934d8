import json
import subprocess
import sys
from types import SimpleNamespace

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook

from facelab import cli
from facelab.course import lab, running

PARAMETERS = 'preset = "quick"\nseed = 0\ndevice = "auto"\nsabotage = ""'
CELL = """from facelab import claims
baseline = [1.0, 2.0, 3.0, 4.0]
factor = {"worse": 2.0, "as good": 1.0}.get(sabotage, 0.5)
ours = [factor * b for b in baseline]
better = claims.claim("Half the | error", ours=ours, baseline=baseline, better="lower", name="better", unit="%")"""


def write(folder, slug, number, cells, sabotages, title=""):
    content = new_notebook(cells=[new_code_cell(PARAMETERS, metadata={"tags": ["parameters"]}), *map(new_code_cell, cells)])
    content.metadata["facelab"] = dict(
        slug=slug,
        part=1,
        number=number,
        title=title or slug.title(),
        paper="A. Author, 2020",
        seconds=30,
        memory_mb=300,
        sabotages=sabotages,
    )
    nbformat.write(content, folder / f"{number}_{slug}.ipynb")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("notebooks")
    write(folder, "halving", "11", [CELL, "claims.require(better)"], ["worse", "as good"])
    write(folder, "forgetful", "12", [CELL, "assert sabotage != 'worse', 'a check'"], ["worse", "as good"])
    write(folder, "broken", "13", ["undefined_name"], [])
    return folder


def facelab(*arguments, cwd=None):
    """The command as a person types it; returns (exit code, stdout, stderr)."""
    command = [sys.executable, "-m", "facelab.cli", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=cwd, env=running._kernel_environment({}, {"COLUMNS": "200"}))
    return done.returncode, done.stdout, done.stderr


@pytest.fixture
def typed(monkeypatch, capsys):
    """The command within this process, which is faster."""

    def call(*arguments, width=200):
        monkeypatch.setattr(sys, "argv", ["facelab", *map(str, arguments)])
        monkeypatch.setattr(cli, "console", cli.Console(width=width))
        monkeypatch.setattr(cli, "messages", cli.Console(width=200, stderr=True))
        with pytest.raises(SystemExit) as stopped:
            cli.main()
        written = capsys.readouterr()
        return stopped.value.code or 0, written.out, written.err

    return call


@pytest.mark.slow
def test_run_shows_claims_keeps_copies_and_feeds_the_scoreboard(folder, tmp_path):
    code, out, _ = facelab("run", "halving", "--notebooks", folder, "--output", tmp_path / "out")
    assert code == 0
    assert "Half the | error" in out and "+50.0%" in out and "met" in out
    assert (tmp_path / "out" / "11_halving.ipynb").exists()
    code, out, _ = facelab("scoreboard", "--from", tmp_path / "out")
    assert code == 0
    assert "halving" in out and "1.25%" in out and "2.5%" in out
    code, out, _ = facelab("scoreboard", "--from", tmp_path / "out", "--json")
    assert json.loads(out)[0]["verdict"] == "met"


@pytest.mark.slow
def test_run_all_in_parallel_fails_if_one_notebook_does(folder, tmp_path, typed):
    code, out, err = typed("run", "--all", "--jobs", 2, "--notebooks", folder, "--output", tmp_path, "--json", "--seed", 4)
    assert code == 1
    runs = {run["slug"]: run for run in json.loads(out)}
    assert {slug: run["passed"] for slug, run in runs.items()} == {"halving": True, "forgetful": True, "broken": False}
    assert runs["broken"]["error"].startswith("NameError")
    assert runs["halving"]["parameters"] == {"seed": 4}
    assert "halving" in err  # progress


@pytest.mark.slow
def test_an_unmet_claim_fails_the_run_even_if_the_notebook_does_not_require_it(folder, tmp_path, typed):
    code, out, _ = typed("run", "forgetful", "--set", "sabotage=as good", "--notebooks", folder, "--output", tmp_path)
    assert code == 1
    assert "not met" in out


@pytest.mark.slow
def test_sabotage_tells_what_caught_it(folder, typed):
    code, out, _ = typed("sabotage", "halving", "forgetful", "--notebooks", folder, "--json", "--jobs", 2)
    rows = {(row["notebook"], row["sabotage"]): row for row in json.loads(out)}
    assert code == 0
    assert len(rows) == 4
    assert rows["halving", "worse"]["claims"] == ["better"]
    assert rows["forgetful", "worse"]["error"].startswith("AssertionError: a check")


@pytest.mark.slow
def test_an_unnoticed_sabotage_fails(tmp_path, typed):
    write(tmp_path, "blind", "14", ["x = 1", "undefined_name if sabotage == 'fault' else 0"], ["nothing", "fault"])
    code, out, _ = typed("sabotage", "--all", "--notebooks", tmp_path)
    assert code == 1
    assert out.count("NO") == 2  # neither what nobody notices nor what merely crashes is caught


@pytest.mark.slow
def test_a_notebook_that_fails_untouched_catches_nothing(tmp_path, typed):
    write(tmp_path, "failing", "18", ["assert False, 'always'"], ["one", "two"])
    code, out, err = typed("sabotage", "failing", "--notebooks", tmp_path, "--json")
    assert code == 1
    assert not any(row["caught"] for row in json.loads(out))
    assert "failing fails without any sabotage" in err and "always" in err


def test_a_single_sabotage_is_not_enough(tmp_path, typed):
    write(tmp_path, "lazy", "15", [], ["one"])
    code, _, err = typed("sabotage", "lazy", "--notebooks", tmp_path)
    assert code == 2
    assert "at least 2" in err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "halvin"], "There is no notebook 'halvin'. Did you mean: halving"),
        (["run"], "either names, or --part P, or --all"),
        (["run", "halving", "--all"], "either names, or --part P, or --all"),
        (["run", "--part", "7"], "no notebook in part 7; there are parts 1"),
        (["run", "halving", "--set", "seeed=1"], "has no parameter 'seeed'; it has: preset='quick', seed=0"),
        (["run", "halving", "--set", "seed"], "is not KEY=VALUE"),
        (["run", "halving", "--preset", "fast"], "use quick or full"),
        (["sabotage", "halving", "--set", "seed=x"], "seed of halving is a int"),
        (["student", "halving"], "no cell tagged 'solution'"),
    ],
)
def test_mistakes_get_one_clear_sentence(folder, typed, arguments, message):
    code, out, err = typed(*arguments, "--notebooks", folder)
    assert code == 2
    assert message in err
    assert "Traceback" not in err + out


def test_list_for_people_and_for_programs(folder, typed):
    _, out, _ = typed("list", "--notebooks", folder)
    assert all(word in out for word in ("11", "halving", "Forgetful", "0.5"))
    _, out, _ = typed("list", "--json", "--notebooks", folder)
    first = json.loads(out)[0]
    assert {"slug", "part", "number", "title", "paper", "seeds", "minutes", "sabotages"} <= set(first)
    assert (first["slug"], first["minutes"]) == ("halving", 0.5)


@pytest.mark.parametrize("width", [80, 100])
def test_list_takes_one_line_for_each_notebook(typed, width):
    notebooks = running.discover()
    head, *lines = typed("list", width=width)[1].splitlines()
    assert head.split() == ["number", "slug", "title", "minutes"]
    assert [line.split()[:2] for line in lines] == [[notebook.number, notebook.slug] for notebook in notebooks]
    assert max(map(len, lines)) <= width


def test_list_shortens_nothing_but_titles(tmp_path, typed):
    slug = "semi_supervised_landmarks"
    write(tmp_path, slug, "12", [], [], title="Where [are] the points, " + "said at great length " * 9)
    _, line = typed("list", "--notebooks", tmp_path, width=80)[1].splitlines()
    assert line.startswith(f"12      {slug}  Where [are] the points, said") and "…" in line and line.endswith("0.5    ")


@pytest.fixture
def machine(monkeypatch):
    """Makes this machine another one: the user, the system, environment variables, and whether there is a browser."""

    def become(user=1000, system="linux", browser=True, **environment):
        for name in ("DISPLAY", "WAYLAND_DISPLAY", "SSH_CONNECTION"):
            monkeypatch.delenv(name, raising=False)
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr(lab.os, "geteuid", lambda: user, raising=False)
        monkeypatch.setattr(lab.sys, "platform", system)
        monkeypatch.setattr(lab.webbrowser, "get", (lambda: "a browser") if browser else no_browser)

    def no_browser():
        raise lab.webbrowser.Error("could not locate runnable browser")

    return become


@pytest.mark.parametrize(
    ("description", "expected"),
    [
        (dict(DISPLAY=":0"), {}),
        (dict(WAYLAND_DISPLAY="wayland-0"), {}),
        (dict(SSH_CONNECTION="there", DISPLAY="localhost:10.0"), {}),  # windows come over the network
        (dict(system="darwin"), {}),
        (dict(system="win32"), {}),
        (dict(), {"open_browser": False}),
        (dict(DISPLAY=""), {"open_browser": False}),
        (dict(DISPLAY=":0", browser=False), {"open_browser": False}),
        (dict(system="darwin", SSH_CONNECTION="there"), {"open_browser": False}),
        (dict(user=0, DISPLAY=":0"), {"allow_root": True, "ip": "127.0.0.1"}),
        (dict(user=0), {"allow_root": True, "ip": "127.0.0.1", "open_browser": False}),
    ],
    ids=str,
)
def test_lab_asks_for_what_this_machine_needs(machine, description, expected):
    machine(**description)
    assert lab.settings() == expected


@pytest.fixture
def server(monkeypatch):
    """A JupyterLab that reads its settings and its command line, but neither listens nor runs."""
    from jupyter_server.serverapp import ServerApp
    from jupyterlab.labapp import LabApp
    from traitlets.config import Config

    servers = []

    def initialize(arguments, config):
        made = ServerApp(config=Config(ServerApp={"open_browser": True} | config["ServerApp"]))  # as JupyterLab has it
        made.parse_command_line(arguments)
        made.init_configurables()
        made.io_loop = SimpleNamespace(add_callback=lambda call, *arguments: call(*arguments))
        made.start = lambda: None
        servers.append(made)
        return made

    monkeypatch.setattr(LabApp, "initialize_server", initialize)
    monkeypatch.setattr(lab.signal, "signal", lambda *_: None)
    for name in ("TOKEN", "TOKEN_FILE", "PORT", "IP"):
        monkeypatch.delenv(f"JUPYTER_{name}", raising=False)
    return servers


def test_lab_runs_as_root_on_loopback_and_says_so(machine, server, typed):
    machine(user=0)
    code, out, err = typed("lab")
    (made,) = server
    assert code == 0
    assert (made.allow_root, made.ip, made.open_browser) == (True, "127.0.0.1", False)
    assert (made.root_dir, made.file_to_run) == (str(running.NOTEBOOKS.parent), str(running.NOTEBOOKS / "00_start_here.ipynb"))
    token = made.identity_provider.token
    assert len(token) > 30
    assert out == f"Open http://127.0.0.1:{made.port}/lab/tree/notebooks/00_start_here.ipynb?token={token}\n"
    assert err.splitlines()[-1] == "JupyterLab runs as root, on this machine's loopback only, behind its token."


def test_lab_leaves_everybody_else_to_jupyterlab(machine, server, typed):
    machine(DISPLAY=":0")
    _, out, err = typed("lab")
    assert (server[0].allow_root, server[0].open_browser) == (False, True)
    assert out.startswith("If no browser opens, open http://127.0.0.1:")
    assert "root" not in err


@pytest.mark.parametrize("separator", [[], ["--"]])
def test_lab_lets_its_own_arguments_win(machine, server, typed, separator):
    machine(user=0)
    own = ["--port", "9876", "--ServerApp.ip=0.0.0.0", "--IdentityProvider.token=mine", "--no-browser", "--ServerApp.base_url=/course/"]
    _, out, err = typed("lab", *separator, *own)
    assert (server[0].port, server[0].ip, server[0].identity_provider.token) == (9876, "0.0.0.0", "mine")
    assert out == "Open http://127.0.0.1:9876/course/lab/tree/notebooks/00_start_here.ipynb\n"  # a token of one's own is not shown around
    assert err.splitlines()[-1] == "JupyterLab runs as root, on 0.0.0.0, behind its token."
    _, out, err = typed("lab", *separator, "--ServerApp.open_browser=True", "--IdentityProvider.token=", "--ip", "192.0.2.7")
    assert out == f"If no browser opens, open http://192.0.2.7:{server[1].port}/lab/tree/notebooks/00_start_here.ipynb\n"
    assert err.splitlines()[-1] == "JupyterLab runs as root, on 192.0.2.7, without a token."


def test_lab_outside_of_a_checkout(tmp_path, typed):
    code, _, err = typed("lab", "--notebooks", tmp_path)
    assert code == 2
    assert err == f"The start notebook is not at {tmp_path.resolve() / '00_start_here.ipynb'}; run facelab from its checkout.\n"


def test_student_copy_is_written(tmp_path, typed):
    write(tmp_path, "exercise", "16", ["answer = None"], [])
    content = nbformat.read(tmp_path / "16_exercise.ipynb", as_version=4)
    content.cells.append(new_code_cell("answer = 42", metadata={"tags": ["solution"]}))
    nbformat.write(content, tmp_path / "16_exercise.ipynb")
    code, _, _ = typed("student", "exercise", "--notebooks", tmp_path, "--output", tmp_path / "student")
    assert code == 0
    # Sources, for the identifier that nbformat draws for a cell may hold the digits too.
    sources = [cell.source for cell in nbformat.read(tmp_path / "student" / "16_exercise.ipynb", as_version=4).cells]
    assert "answer = None" in sources and not any("42" in source for source in sources)


@pytest.mark.slow
def test_site_runs_what_is_missing_and_says_what_is_wrong(folder, tmp_path, typed):
    places = ("--notebooks", folder, "--from", tmp_path / "executed", "--output", tmp_path / "site")
    code, _, told = typed("site", *places, "--as-they-are")
    assert code == 2 and "There is no executed copy of a notebook" in told
    code, shown, told = typed("site", *places)
    assert code == 1 and "broken broke off: NameError" in told and "halving" not in told.split("broken broke off")[1]
    assert "3 notebooks" in shown and str(tmp_path / "site" / "index.html") in shown
    assert "undefined_name" in (tmp_path / "site" / "broken.html").read_text(encoding="utf-8")
    assert not (tmp_path / "site" / "scoreboard.html").exists()
    kept = (tmp_path / "executed" / "11_halving.ipynb").stat().st_mtime_ns
    code, *_ = typed("site", *places, "--as-they-are")
    assert code == 0
    assert (tmp_path / "executed" / "11_halving.ipynb").stat().st_mtime_ns == kept


def test_strip_checks_and_strips(tmp_path, typed):
    write(tmp_path, "messy", "17", ["1 + 1"], [])
    path = tmp_path / "17_messy.ipynb"
    assert typed("strip", "--check", "--notebooks", tmp_path)[0] == 0
    content = nbformat.read(path, as_version=4)
    content.cells[-1].outputs = [nbformat.v4.new_output("stream", text="2")]
    nbformat.write(content, path)
    code, out, _ = typed("strip", "--check", "--notebooks", tmp_path)
    assert (code, out) == (1, "holds outputs: 17_messy.ipynb\n")
    assert typed("strip", "--notebooks", tmp_path)[0] == 0
    assert typed("strip", "--check", "--notebooks", tmp_path)[0] == 0


def test_data_lists_every_set_and_explains_what_is_missing(typed, monkeypatch, tmp_path):
    from facelab.datasets import catalogue

    monkeypatch.setenv("FACELAB_DATA", str(tmp_path))
    monkeypatch.setattr(catalogue, "cache_folder", lambda: tmp_path / "cache")
    code, out, _ = typed("data", "list", "--json")
    assert code == 0
    places = {row["name"]: row["path"] for row in json.loads(out)}
    assert list(places) == list(catalogue.entries())
    assert places["p1"] == ""
    assert places["astronaut"]  # comes with scikit-image
    code, _, err = typed("data", "path", "p1")
    assert code == 2
    assert str(tmp_path) in err
    code, _, err = typed("data", "path", "p2")
    assert code == 2
    assert "no data set 'p2'; the catalogue knows p1, " in err


@pytest.mark.real
def test_data_path_is_where_the_faces_are(typed):
    from facelab.datasets import catalogue

    code, out, _ = typed("data", "path", "p1")
    assert code == 0
    assert out.strip() == str(catalogue.path("p1"))

"""What the project promises about itself: floors, light imports, pins in step, nothing that belongs to one machine."""

import ast
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "facelab"
FLOORS = [
    {"", "markups", "statistics"},
    {"batch"},
    {"worlds", "datasets", "blocks", "networks", "metrics"},
    {"checkpoints"},
    {"methods", "importance", "training"},
    {"claims", "lesson", "pages", "pictures"},
    {"trials", "compression"},
    {"explorers", "smiles", "strangers", "zoo", "yours"},
    {"recipes", "report"},
    {"course"},
    {"cli"},
]
FLOOR = {name: floor for floor, names in enumerate(FLOORS) for name in names}


def modules():
    """(path, dotted name below facelab as a tuple) of every module."""
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        yield path, parts[:-1] if parts[-1] == "__init__" else parts


def imports(path):
    """Every module of the package that `path` imports, anywhere in it, as a tuple of names below facelab."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative imports hide the floors"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        yield from (tuple(name.split(".")[1:]) for name in names if name.split(".")[0] == "facelab")


ARROWS = [(path, own, target) for path, own in modules() for target in imports(path)]


def test_every_module_has_a_floor():
    assert {(own or ("",))[0] for _, own in modules()} <= set(FLOOR)
    assert len(ARROWS) > 20


@pytest.mark.parametrize("path", [path for path, own in modules() if own], ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_imports_point_downward(path):
    for source, own, target in ARROWS:
        if source != path or not target:
            continue
        assert target[0] == own[0] or FLOOR[target[0]] < FLOOR[own[0]], f"{'.'.join(own)} imports {'.'.join(target)}"


def test_methods_know_neither_data_nor_each_other():
    for _, own, target in ARROWS:
        if own[:1] == ("methods",) and target:
            assert target[0] not in ("worlds", "datasets")
            assert target[0] != "methods" or len(own) == 1 or target[1] == own[1], f"{'.'.join(own)} imports {'.'.join(target)}"
        if own[:1] == ("pictures",) and target:
            assert target[0] != "methods"


def test_import_facelab_is_light():
    code = "import time, sys; t = time.perf_counter(); import facelab; print(time.perf_counter() - t); print(*sys.modules)"
    seconds, loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.splitlines()
    assert float(seconds) < 0.5
    assert not {"torch", "numba", "matplotlib", "plotly", "pandas", "scipy"} & set(loaded.split())


def test_the_command_line_starts_without_the_heavy_libraries():
    code = "import sys, facelab.cli; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"torch", "numba", "matplotlib", "plotly", "pandas", "papermill", "nbformat"} & set(loaded)


def pyproject():
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def pins():
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").split()
    return {normal(name): version for name, version in (line.split("==") for line in lines)}


def normal(requirement):
    return re.split(r"[<>=!~\[; ]", requirement)[0].lower().replace("_", "-").replace(".", "-")


def test_every_dependency_is_pinned_and_installed_as_pinned():
    from importlib.metadata import version

    wanted = [*pyproject()["dependencies"], *pyproject()["optional-dependencies"]["dev"]]
    assert {normal(name) for name in wanted} <= set(pins())
    for name in wanted:
        assert version(normal(name)).split("+")[0] == pins()[normal(name)], f"{name}: run `make install`"


def test_pins_are_plain_versions():
    """A local version (with a plus sign) exists in one place only and cannot be installed elsewhere."""
    assert all(re.fullmatch(r"[0-9][0-9a-z.]*", version) for version in pins().values())


def test_the_package_imports_only_what_it_declares():
    names = {
        "bs4": "beautifulsoup4",
        "skimage": "scikit-image",
        "sklearn": "scikit-learn",
        "PIL": "pillow",
        "IPython": "ipython",
        "yaml": "pyyaml",
    }
    declared = {normal(name) for name in pyproject()["dependencies"]}
    for path, _ in modules():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            found = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            found += [node.module] if isinstance(node, ast.ImportFrom) and node.module else []
            for top in {module.split(".")[0] for module in found} - {"facelab"} - set(sys.stdlib_module_names):
                assert normal(names.get(top, top)) in declared, f"{path.name} imports {top}, which pyproject.toml does not name"


def test_conda_is_in_step_with_pip():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))
    conda = [line for line in environment["dependencies"] if isinstance(line, str)]
    (through_pip,) = (line["pip"] for line in environment["dependencies"] if isinstance(line, dict))
    assert f"pytorch-cpu={pins()['torch']}" in conda
    assert through_pip == ["-c constraints.txt", "-e .[dev]"]
    python = next(line.split("=")[1] for line in conda if line.startswith("python="))
    minimum = pyproject()["requires-python"].removeprefix(">=")
    assert tuple(map(int, python.split("."))) >= tuple(map(int, minimum.split(".")))


def tracked():
    """Text files under version control (and new ones that are not ignored)."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if listed.returncode:
        pytest.skip("not a git checkout")
    text = {".py", ".md", ".toml", ".txt", ".yml", ".yaml", ".cff", ".json", ".ipynb", ".js", ".css", ""}
    paths = [ROOT / name for name in listed.stdout.splitlines()]
    return [path for path in paths if path.suffix in text and path.is_file()]


# Put together from halves, so that this file does not hold what it looks for.
FORBIDDEN = {
    "a path of one machine": r"(?<![\w.:/~-])/" + r"(root|work|home|Users)/",
    "a temporary folder of one machine": r"(?<![\w.:/~-])/" + r"tmp/",
    "the host of a package registry": "py" + r"pi\.org|pytho" + r"nhosted\.org|anacon" + r"da\.(org|com)|download\.pyto" + "rch",
}


@pytest.mark.parametrize("what", FORBIDDEN)
def test_nothing_belongs_to_one_machine(what):
    pattern = re.compile(FORBIDDEN[what])
    texts = {path.relative_to(ROOT): path.read_text(encoding="utf-8") for path in tracked()}
    found = [f"{path}: {match.group()}" for path, text in texts.items() for match in pattern.finditer(text)]
    assert not found


def test_the_shared_data_folder_is_named_in_the_continuous_check_only():
    name = "../sha" + "red"
    assert {path.relative_to(ROOT).as_posix() for path in tracked() if name in path.read_text(encoding="utf-8")} <= {".ci/run"}


def test_no_large_file_is_tracked():
    large = [f"{path.name}: {path.stat().st_size / 2**20:.1f} MB" for path in tracked() if path.stat().st_size > 2 * 2**20]
    assert not large


def test_the_documents_are_there_and_their_links_lead_somewhere():
    for name in ("README.md", "CONTRIBUTING.md", "LICENSE", "CITATION.cff"):
        text = (ROOT / name).read_text(encoding="utf-8")
        assert len(text) > 100, f"{name} is empty"
        for target in re.findall(r"\]\((?!https?:|#|mailto:)([^)#]+)", text):
            assert (ROOT / target).exists(), f"{name} links to {target}, which does not exist"


def test_the_map_in_the_readme_links_every_notebook():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    for path in sorted((ROOT / "notebooks").rglob("[0-9][0-9]_*.ipynb")):
        if ".ipynb_checkpoints" not in path.parts:
            assert f"({path.relative_to(ROOT).as_posix()})" in text, f"link {path.name} in the map of the course"

"""What data sets there are, and where they lie: in `FACELAB_DATA`, in the user's cache, or nowhere yet.

Only `fetch` uses the network; a reader that misses its data says what to do instead.
"""

import importlib.util
import os
import tomllib
from functools import cache
from pathlib import Path
from typing import Any

FILE = Path(__file__).resolve().parents[2] / "data" / "catalogue.toml"


@cache
def entries() -> dict[str, dict[str, Any]]:
    """The catalogue: name -> what `data/catalogue.toml` says of it (`title`, `licence`, `citation`, `folder`, `needs`, ...).

    Raises:
        FileNotFoundError: the package was installed without its repository's `data` folder.
    """
    if not FILE.exists():
        raise FileNotFoundError(f"The catalogue {FILE} is missing; install facelab from its repository with `pip install -e .`.")
    return tomllib.loads(FILE.read_text(encoding="utf-8"))


def entry(name: str) -> dict[str, Any]:
    """What the catalogue says of one data set.

    Raises:
        ValueError: the catalogue does not know it.
    """
    if name not in entries():
        raise ValueError(f"There is no data set {name!r}; the catalogue knows {', '.join(entries())}.")
    return entries()[name]


def cache_folder() -> Path:
    """Where downloads and decoded crops are kept for this user."""
    import pooch

    return Path(pooch.os_cache("facelab"))


def path(name: str) -> Path:
    """The folder of a data set: in `FACELAB_DATA`, else in the user's cache. Never downloads.

    Raises:
        ValueError: the catalogue does not know `name`.
        FileNotFoundError: the data set is in neither place; the message says what to put where.
    """
    about = entry(name)
    if "bundled" in about:
        return _package_folder(about["bundled"]) / about["folder"]
    roots = [Path(value).expanduser()] if (value := os.environ.get("FACELAB_DATA")) else []
    roots.append(cache_folder())
    absent = []
    for root in roots:
        folder = root / about["folder"]
        missing = [needed for needed in about["needs"] if not (folder / needed).exists()]
        if not missing:
            return folder
        absent.append(f"{folder} lacks {', '.join(missing)}" if folder.exists() else f"there is no folder {folder}")
    raise FileNotFoundError(f"The data set {name} is not on this machine: {'; '.join(absent)}. {_directions(name)}")


def fetch(name: str, progress: bool = True) -> Path:
    """Downloads a data set into the user's cache unless it is on this machine, checks it, and gives its folder.

    An interrupted download continues where it stopped when called again.

    Raises:
        ValueError: unknown data set, or a file whose checksum is wrong.
        PermissionError: its owners hand it out only to those who ask; the message says where, and where to put it.
        OSError: no network, no disk space.
    """
    try:
        return path(name)
    except FileNotFoundError:
        pass
    about = entry(name)
    if not (about.get("files") or about.get("archive")):
        raise PermissionError(f"The data set {name} cannot be downloaded by a program. {_directions(name)}")
    from facelab.datasets.downloads import download_archive, download_files

    folder = cache_folder() / about["folder"]
    if "archive" in about:
        download_archive(about["archive"], folder, progress=progress)
    else:
        download_files(about["base_url"], about["files"], folder, progress=progress)
    return path(name)


def _directions(name: str) -> str:
    about = entry(name)
    example = f"FACELAB_DATA/{about['folder']}/{about['needs'][0]}"
    if value := os.environ.get("FACELAB_DATA"):
        place = f"put it from {about['homepage']} so that {example} exists (FACELAB_DATA is {value} now)"
    else:
        place = (
            f"put it from {about['homepage']} into a folder of your choice so that {example} exists, and set FACELAB_DATA to that folder"
        )
    if about.get("files") or about.get("archive"):
        return f"Either download it with `facelab data fetch {name}`, or {place}."
    return f"{about.get('by_hand', 'Its owners ask for your agreement first')}; {place}."


def _package_folder(package: str) -> Path:
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        raise FileNotFoundError(f"The package {package}, which brings these data along, is not installed.")
    return Path(spec.origin).parent

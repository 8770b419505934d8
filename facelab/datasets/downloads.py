"""Downloads that continue where they broke off and are checked before anything uses them (on pooch)."""

import hashlib
import shutil
import tempfile
import time
import warnings
import zipfile
from pathlib import Path, PurePosixPath
from typing import Any

import pooch
import requests
from tqdm.auto import tqdm

ATTEMPTS = 5
TIMEOUT = 30.0
"""Seconds without a byte after which an attempt is given up."""
PAUSE = 1.0
"""Seconds to wait after the first failure, twice that after the second, ..."""
_BLOCK = 1 << 13  # what a broken connection loses at most, bytes


class ResumingDownloader:
    """A downloader for pooch that keeps what it has in a `.part` file and asks for the rest only (HTTP Range).

    Args:
        part: the partial file; it outlives a failure, so that the next call goes on from it.
        progress: show a progress bar.
    """

    def __init__(self, part: Path, progress: bool = True):
        self.part, self.progress = part, progress

    def __call__(self, url: str, output_file: str, pooch: Any) -> None:
        """Downloads `url` into `output_file`.

        Raises:
            ConnectionError: the connection broke `ATTEMPTS` times without a byte of progress in between.
            requests.HTTPError: the server refuses.
        """
        self.part.parent.mkdir(parents=True, exist_ok=True)
        failures = 0
        while True:
            before = self._have()
            try:
                self._continue(url)
                break
            except (requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError) as error:
                failures = 1 if self._have() > before else failures + 1
                if failures >= ATTEMPTS:
                    raise ConnectionError(
                        f"The download of {url} broke off at {self._have()} bytes. Check the network and call again to continue from "
                        f"there; the reason was: {error}."
                    ) from error
                time.sleep(PAUSE * failures)
        self.part.replace(output_file)

    def _have(self) -> int:
        return self.part.stat().st_size if self.part.exists() else 0

    def _continue(self, url: str) -> None:
        have = self._have()
        headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={have}-"} if have else {})
        with requests.get(url, headers=headers, stream=True, timeout=TIMEOUT) as response:
            if response.status_code == requests.codes.requested_range_not_satisfiable:
                if response.headers.get("Content-Range") == f"bytes */{have}":
                    return  # it was complete already
                self.part.unlink()
                raise requests.ConnectionError("the partial file is longer than the whole; starting again")
            response.raise_for_status()
            if response.status_code != requests.codes.partial_content:
                have = 0  # the server knows no ranges and sends everything again
            elif not response.headers.get("Content-Range", "").startswith(f"bytes {have}-"):
                raise requests.HTTPError(f"{url} was asked for the bytes from {have} on and sent {response.headers.get('Content-Range')}.")
            rest = response.headers.get("Content-Length")
            total = have + int(rest) if rest is not None else None
            bar = tqdm(total=total, initial=have, unit="B", unit_scale=True, desc=Path(url).name, disable=not self.progress)
            with self.part.open("ab" if have else "wb") as part, bar:
                for block in response.iter_content(_BLOCK):
                    part.write(block)
                    bar.update(len(block))
        if total is not None and self._have() < total:
            raise requests.ConnectionError(f"only {self._have()} of {total} bytes came")


def download(url: str, sha256: str, file: Path, progress: bool = True) -> None:
    """One file, complete and with the right checksum (empty: not checked), or none at all.

    Raises:
        ValueError: the checksum is wrong; what was downloaded is deleted.
        ConnectionError, requests.HTTPError: as `ResumingDownloader`.
    """
    downloader = ResumingDownloader(file.with_name(file.name + ".part"), progress)
    known = f"sha256:{sha256}" if sha256 else None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # pooch's advice to pin a hash; `download_archive` says it better
        logger, level = pooch.get_logger(), pooch.get_logger().level
        logger.setLevel("ERROR")
        try:
            pooch.retrieve(url, known, fname=file.name, path=file.parent, downloader=downloader)
        finally:
            logger.setLevel(level)


def download_files(base_url: str, files: dict[str, str], folder: Path, progress: bool = True) -> None:
    """Every file of `files` (name -> sha256) that `folder` does not hold intact.

    Raises:
        ValueError, ConnectionError, requests.HTTPError: as `download`.
    """
    for name, sha256 in tqdm(files.items(), desc=folder.name, unit="file", disable=not progress):
        download(f"{base_url}/{name}", sha256, folder / name, progress=False)


def download_archive(archive: dict[str, Any], folder: Path, progress: bool = True) -> None:
    """A zip archive, unpacked into `folder`, which appears only when everything in it is checked.

    Where nobody has stated a checksum of the archive, it is checked less strictly, and this is said in a warning: by the zip's own
    checksum of every file, and by the sha256 of the files the catalogue lists as `verified`.

    Args:
        archive: `url`, `sha256` (may be empty), `keep` (beginnings of the paths to unpack, below the archive's top folder),
            `verified` (path -> sha256).

    Raises:
        ValueError: a checksum is wrong, or it is no zip archive; what was downloaded is deleted.
        ConnectionError, requests.HTTPError: as `download`.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    file = folder.parent / f"{folder.name}.zip"
    download(archive["url"], archive["sha256"], file, progress)
    with tempfile.TemporaryDirectory(dir=folder.parent) as temporary:
        unpacked = Path(temporary) / folder.name
        try:
            _unpack(file, archive["keep"], unpacked, progress)
            for name, sha256 in archive["verified"].items():
                found = _sha256(unpacked / name) if (unpacked / name).is_file() else "none, the file is missing"
                if found != sha256:
                    raise ValueError(f"{name} in {archive['url']} should have sha256 {sha256}, and has {found}.")
        except (ValueError, zipfile.BadZipFile) as error:
            file.unlink()
            raise ValueError(f"The archive is not what it should be, and was deleted; fetch it again. {error}") from error
        if not archive["sha256"]:
            warnings.warn(
                f"Nobody has stated a checksum of {archive['url']}; {len(archive['verified'])} files in it are as known, the rest was "
                f"checked against the archive's own checksums only. Its sha256 is {_sha256(file)}.",
                stacklevel=3,
            )
        shutil.rmtree(folder, ignore_errors=True)  # an incomplete one, else nothing would have been fetched
        unpacked.replace(folder)
    file.unlink()


def _unpack(file: Path, keep: list[str], folder: Path, progress: bool) -> None:
    with zipfile.ZipFile(file) as archive:
        members = [(info, PurePosixPath(*PurePosixPath(info.filename).parts[1:])) for info in archive.infolist() if not info.is_dir()]
        members = [(info, inner) for info, inner in members if str(inner).startswith(tuple(keep))]
        for info, inner in tqdm(members, desc="unpacking", unit="file", disable=not progress):
            if ".." in inner.parts:
                raise ValueError(f"The archive wants to write outside its folder: {info.filename}.")
            target = folder / inner
            target.parent.mkdir(parents=True, exist_ok=True)
            with archive.open(info) as source, target.open("wb") as sink:  # reading to the end checks the zip's own checksum
                shutil.copyfileobj(source, sink)


def _sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()

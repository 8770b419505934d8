"""Downloads against a server on this machine that breaks off, forgets ranges, and lies."""

import hashlib
import io
import re
import threading
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
import requests

from facelab.datasets import catalogue, downloads
from facelab.datasets.downloads import download, download_archive, download_files

CONTENT = np.random.default_rng(0).bytes(300_000)
SHA256 = hashlib.sha256(CONTENT).hexdigest()


class Server(ThreadingHTTPServer):
    """Serves `files`; sends at most `limits[i]` bytes of the i-th answer before it drops the connection."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.files, self.limits, self.ranges, self.asked = {"/data.bin": CONTENT}, [], True, []
        self.url = f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        server = self.server
        wanted = self.headers.get("Range")
        server.asked.append((self.path, wanted))
        content = server.files.get(self.path)
        if content is None:
            self.send_error(404)
            return
        start = int(re.fullmatch(r"bytes=(\d+)-", wanted)[1]) if wanted and server.ranges else 0
        if start >= len(content):
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{len(content)}")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        limit = server.limits.pop(0) if server.limits else None
        self.wfile.write(content[start:][:limit])
        self.close_connection = True

    def log_message(self, *_):
        pass


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setattr(downloads, "PAUSE", 0.0)
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def test_a_whole_file(server, tmp_path):
    download(f"{server.url}/data.bin", SHA256, tmp_path / "new" / "data.bin", progress=False)
    assert (tmp_path / "new" / "data.bin").read_bytes() == CONTENT
    assert [file.name for file in (tmp_path / "new").iterdir()] == ["data.bin"]


def test_a_dropped_connection_is_taken_up_where_it_broke(server, tmp_path):
    server.limits = [100_000, 50_000]
    download(f"{server.url}/data.bin", SHA256, tmp_path / "data.bin", progress=False)
    assert (tmp_path / "data.bin").read_bytes() == CONTENT
    starts = [int(wanted.removeprefix("bytes=").removesuffix("-")) if wanted else 0 for _, wanted in server.asked]
    assert len(starts) == 3 and starts[0] == 0  # and then all but the last block of what came
    assert 90_000 < starts[1] <= 100_000 and starts[1] + 40_000 < starts[2] <= starts[1] + 50_000


def test_what_came_survives_a_failure_and_the_next_call_goes_on(server, tmp_path):
    server.limits = [120_000] + [0] * downloads.ATTEMPTS
    with pytest.raises(ConnectionError, match="call again to continue from there"):
        download(f"{server.url}/data.bin", SHA256, tmp_path / "data.bin", progress=False)
    assert not (tmp_path / "data.bin").exists()
    kept = (tmp_path / "data.bin.part").stat().st_size
    assert 0 < kept <= 120_000
    server.asked.clear()
    server.limits = []
    download(f"{server.url}/data.bin", SHA256, tmp_path / "data.bin", progress=False)
    assert server.asked == [("/data.bin", f"bytes={kept}-")]
    assert (tmp_path / "data.bin").read_bytes() == CONTENT and not (tmp_path / "data.bin.part").exists()


def test_a_server_without_ranges_sends_everything_again(server, tmp_path):
    server.ranges, server.limits = False, [100_000]
    download(f"{server.url}/data.bin", SHA256, tmp_path / "data.bin", progress=False)
    assert (tmp_path / "data.bin").read_bytes() == CONTENT and len(server.asked) == 2


def test_a_complete_part_is_only_checked(server, tmp_path):
    (tmp_path / "data.bin.part").write_bytes(CONTENT)
    download(f"{server.url}/data.bin", SHA256, tmp_path / "data.bin", progress=False)
    assert (tmp_path / "data.bin").read_bytes() == CONTENT


def test_a_part_longer_than_the_file_is_thrown_away(server, tmp_path):
    (tmp_path / "data.bin.part").write_bytes(CONTENT + b"more")
    download(f"{server.url}/data.bin", SHA256, tmp_path / "data.bin", progress=False)
    assert (tmp_path / "data.bin").read_bytes() == CONTENT


def test_a_wrong_checksum_leaves_nothing(server, tmp_path):
    server.files["/data.bin"] = CONTENT[:-1] + b"x"
    with pytest.raises(ValueError, match=SHA256):
        download(f"{server.url}/data.bin", SHA256, tmp_path / "data.bin", progress=False)
    assert list(tmp_path.iterdir()) == []
    server.files["/data.bin"] = CONTENT
    download(f"{server.url}/data.bin", SHA256, tmp_path / "data.bin", progress=False)
    assert (tmp_path / "data.bin").read_bytes() == CONTENT


def test_a_refusal_is_not_repeated(server, tmp_path):
    with pytest.raises(requests.HTTPError, match="404"):
        download(f"{server.url}/gone.bin", SHA256, tmp_path / "gone.bin", progress=False)
    assert len(server.asked) == 1


def test_progress_is_shown(server, tmp_path, capsys):
    download(f"{server.url}/data.bin", SHA256, tmp_path / "data.bin")
    assert "data.bin: 100%" in capsys.readouterr().err


def test_only_files_that_are_missing_or_damaged_are_fetched(server, tmp_path):
    server.files |= {f"/{name}": name.encode() for name in ("a", "b", "c")}
    files = {name: hashlib.sha256(name.encode()).hexdigest() for name in ("a", "b", "c")}
    (tmp_path / "a").write_text("a")
    (tmp_path / "b").write_text("damaged")
    download_files(server.url, files, tmp_path, progress=False)
    assert {file.name: file.read_text() for file in tmp_path.iterdir()} == {"a": "a", "b": "b", "c": "c"}
    assert [path for path, _ in server.asked] == ["/b", "/c"]


def zipped(members: dict[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return stream.getvalue()


@pytest.fixture
def archive(server):
    server.files["/set.zip"] = zipped({"set-1a2b/data/x.txt": b"x" * 5000, "set-1a2b/LICENSE": b"free", "set-1a2b/code/large.py": b"no"})
    return {
        "url": f"{server.url}/set.zip",
        "sha256": hashlib.sha256(server.files["/set.zip"]).hexdigest(),
        "keep": ["data/", "LICENSE"],
        "verified": {"data/x.txt": hashlib.sha256(b"x" * 5000).hexdigest()},
    }


def contents(folder) -> dict[str, bytes]:
    return {file.relative_to(folder).as_posix(): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def test_an_archive_is_unpacked(archive, tmp_path):
    download_archive(archive, tmp_path / "set", progress=False)
    assert contents(tmp_path) == {"set/data/x.txt": b"x" * 5000, "set/LICENSE": b"free"}


def test_an_archive_that_nobody_vouches_for_says_so(archive, tmp_path):
    sha256, archive["sha256"] = archive["sha256"], ""
    with pytest.warns(UserWarning, match=f"Nobody has stated a checksum of .*set.zip; 1 files in it are as known.*{sha256}") as warned:
        download_archive(archive, tmp_path / "set", progress=False)
    assert len(warned) == 1 and (tmp_path / "set/data/x.txt").exists()


@pytest.mark.parametrize("damage", ["verified file differs", "verified file missing", "flipped bit", "cut short", "leaves its folder"])
def test_a_bad_archive_leaves_nothing(archive, server, tmp_path, damage):
    archive["sha256"] = ""
    whole = server.files["/set.zip"]
    at = whole.index(b"x" * 5000) + 100
    server.files["/set.zip"] = {
        "verified file differs": zipped({"s/data/x.txt": b"y" * 5000}),
        "verified file missing": zipped({"s/LICENSE": b"free"}),
        "flipped bit": whole[:at] + b"y" + whole[at + 1 :],
        "cut short": whole[: len(whole) // 2],
        "leaves its folder": zipped({"s/data/../../../evil": b"", "s/data/x.txt": b"x" * 5000}),
    }[damage]
    with pytest.raises(ValueError, match="was deleted; fetch it again"):
        download_archive(archive, tmp_path / "set", progress=False)
    assert list(tmp_path.iterdir()) == []


def test_a_set_is_fetched_into_the_cache_once(root, server, monkeypatch):
    server.files["/list.xml"] = b"<dataset/>"
    about = {
        "folder": "some/set",
        "needs": ["list.xml"],
        "homepage": "https://example.org",
        "base_url": server.url,
        "files": {"list.xml": hashlib.sha256(b"<dataset/>").hexdigest()},
    }
    monkeypatch.setattr(catalogue, "entries", lambda: {"toy": about})
    for _ in range(2):
        assert catalogue.fetch("toy", progress=False) == catalogue.path("toy") == root.parent / "cache/some/set"
    assert len(server.asked) == 1


def test_a_fetched_archive_is_found(root, server, archive, monkeypatch):
    about = {"folder": "Set", "needs": ["data/x.txt"], "homepage": "https://example.org", "archive": archive}
    monkeypatch.setattr(catalogue, "entries", lambda: {"toy": about})
    assert (catalogue.fetch("toy", progress=False) / "data/x.txt").read_bytes() == b"x" * 5000

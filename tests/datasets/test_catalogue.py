import importlib
import re
import subprocess
import sys

import pytest

from facelab.datasets import catalogue


def test_every_entry_says_what_people_need():
    for name, about in catalogue.entries().items():
        for key in ("title", "readers", "folder", "homepage", "licence", "citation"):
            assert about[key], (name, key)
        assert ("needs" in about) != ("bundled" in about), name
        for reader in about["readers"]:
            module, _, attribute = reader.rpartition(".")
            assert hasattr(importlib.import_module(module), attribute) or importlib.import_module(reader), reader


def test_downloads_are_pinned():
    """Addresses name a commit; checksums are whole sha256 digests, and the only empty one is that of P1's archive."""
    for name, about in catalogue.entries().items():
        sums = list(about.get("files", {}).values()) + list(about.get("archive", {}).get("verified", {}).values())
        assert all(re.fullmatch("[0-9a-f]{64}", digest) for digest in sums), name
        for url in filter(None, (about.get("base_url"), about.get("archive", {}).get("url"))):
            assert about["commit"] in url and url.startswith("https://") and sums
    assert [name for name, about in catalogue.entries().items() if about.get("archive", {}).get("sha256") == ""] == ["p1"]


def test_the_readme_names_every_entry_and_its_terms():
    text = (catalogue.FILE.parent / "README.md").read_text()
    for name, about in catalogue.entries().items():
        for words in (f"`{name}`", about["homepage"], about["licence"], about["citation"]):
            assert words in text, f"data/README.md lacks {words!r} of {name}"


def test_facelab_data_is_looked_at_first_then_the_cache(root, write_p1):
    in_data = write_p1()
    in_cache = root.parent / "cache" / in_data.name
    in_cache.parent.mkdir()
    assert catalogue.path("p1") == in_data
    in_data.rename(in_cache)
    assert catalogue.path("p1") == in_cache


def test_an_incomplete_set_is_not_taken(root, write_p1):
    folder = write_p1()
    (folder / "data/test_frames_keypoints.csv").unlink()
    with pytest.raises(FileNotFoundError, match=r"P1_Facial_Keypoints lacks data/test_frames_keypoints.csv; there is no folder .*cache"):
        catalogue.path("p1")


def test_without_data_the_error_says_what_to_put_where(root, monkeypatch):
    with pytest.raises(FileNotFoundError) as error:
        catalogue.path("dlib_faces")
    for words in ("facelab data fetch dlib_faces", "FACELAB_DATA/dlib/examples/faces/training_with_face_landmarks.xml", str(root)):
        assert words in str(error.value)
    monkeypatch.delenv("FACELAB_DATA")
    with pytest.raises(FileNotFoundError, match="set FACELAB_DATA to that folder"):
        catalogue.path("dlib_faces")


def test_sets_on_request_cannot_be_fetched(root):
    with pytest.raises(FileNotFoundError, match="owners ask for your agreement"):
        catalogue.path("wflw")
    with pytest.raises(PermissionError, match=r"wflw cannot be downloaded by a program.*wywu\.github\.io.*FACELAB_DATA/WFLW/WFLW_images"):
        catalogue.fetch("wflw")


def test_bundled_sets_are_where_their_package_is():
    assert (catalogue.path("astronaut") / "astronaut.png").exists()
    assert catalogue.fetch("lfw_crops") == catalogue.path("lfw_crops")
    assert (catalogue.path("digits") / "digits.csv.gz").exists()


def test_unknown_names_list_the_known():
    for ask in (catalogue.path, catalogue.fetch, catalogue.entry):
        with pytest.raises(ValueError, match="no data set 'lenna'; the catalogue knows p1, dlib_faces"):
            ask("lenna")


def test_importing_the_readers_is_light():
    """Nothing that takes a second, and nothing that talks to a network."""
    code = (
        "import facelab.datasets, sys; print([m for m in ('torch', 'skimage', 'pooch', 'requests', 'pandas', 'scipy') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.real("dlib_faces")
def test_stated_checksums_are_those_of_the_real_files():
    from facelab.datasets.downloads import _sha256

    folder = catalogue.path("dlib_faces")
    for name, digest in catalogue.entry("dlib_faces")["files"].items():
        assert _sha256(folder / name) == digest, name


@pytest.mark.real
def test_stated_checksums_are_those_of_the_real_frames():
    from facelab.datasets.downloads import _sha256

    verified = catalogue.entry("p1")["archive"]["verified"]
    assert len(verified) == 20
    for name, digest in verified.items():
        assert _sha256(catalogue.path("p1") / name) == digest, name

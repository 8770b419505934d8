import numpy as np
import pytest

from facelab.datasets import SkippedFaces, ibug, read_pts


def pts(landmarks, count=None) -> str:
    """As 300-W writes it: coordinates count from 1."""
    lines = "\n".join(f"{x + 1:.6f} {y + 1:.6f}" for x, y in landmarks)
    return f"version: 1\nn_points:  {len(landmarks) if count is None else count}\n{{\n{lines}\n}}\n"


@pytest.fixture
def folder(tmp_path, root, write_image, face):
    for name in ("indoor/a_1.png", "outdoor/b.2.jpg"):
        file = write_image(tmp_path / "300W" / name)
        file.with_suffix(".pts").write_text(pts(face))
    return tmp_path / "300W"


def test_coordinates_count_from_zero(folder, face):
    assert read_pts(folder / "indoor/a_1.pts") == pytest.approx(face, abs=1e-5)


def test_folders_are_searched(folder, face):
    batch = ibug(folder, size=32)
    assert batch.names == ("indoor/a_1", "outdoor/b.2") and batch.identity.tolist() == [0, 1]
    assert np.ptp(batch.landmarks[0], axis=0).max() == pytest.approx(32 / 1.3, rel=1e-4)


def test_capitals_marks_and_line_ends_of_other_systems(tmp_path, root, face, write_image):
    for name, ending, content in (("a.PNG", ".PTS", pts(face)), ("b.JpG", ".pts", "\ufeff" + pts(face).replace("\n", "\r\n"))):
        file = write_image(tmp_path / "set" / name)
        file.with_suffix(ending).write_bytes(content.replace("\ufeffversion: 1\r\n", "\ufeff").encode())
    batch = ibug(tmp_path / "set", size=16)
    assert batch.names == ("a", "b") and (batch.landmarks[0] == batch.landmarks[1]).all()


def test_links_are_followed_once(folder, tmp_path, root, face, write_image):
    (write_image(tmp_path / "elsewhere" / "c.png")).with_suffix(".pts").write_text(pts(face))
    (folder / "again").symlink_to(folder / "outdoor")
    (folder / "linked").symlink_to(tmp_path / "elsewhere")
    (folder / "indoor" / "up").symlink_to(folder)
    (folder / "d.png").symlink_to(tmp_path / "elsewhere" / "c.png")
    (folder / "d.pts").symlink_to(tmp_path / "elsewhere" / "c.pts")
    assert ibug(folder, size=16).names == ("d", "indoor/a_1", "linked/c", "outdoor/b.2")
    (folder / "d.pts").unlink()
    (folder / "d.pts").symlink_to(tmp_path / "gone.pts")
    with pytest.warns(SkippedFaces, match="1 of 4 faces of ibug skipped: d: its .pts file is damaged"):
        ibug(folder, size=16)


def test_every_fault_is_counted(folder, face, write_image):
    for name, content in {
        "49": pts(face[:49]),
        "short": pts(face[:60], count=68),
        "cut": pts(face)[:-2],
        "words": pts(face).replace("\n{", "\n{\nleft right"),
        "headless": pts(face).replace("n_points", "points"),
    }.items():
        write_image(folder / f"{name}.png")
        (folder / f"{name}.pts").write_text(content)
    (folder / "imageless.pts").write_text(pts(face))
    with pytest.warns(SkippedFaces, match="6 of 8 faces of ibug skipped") as warned:
        batch = ibug(folder, size=16)
    assert batch.names == ("indoor/a_1", "outdoor/b.2")
    assert "49: 49 landmarks instead of 68, cut: its .pts file is damaged, headless: its .pts file is damaged" in str(warned[0].message)


@pytest.mark.parametrize("content", ["", "version: 1\nn_points: 68\n", "n_points: 2\n{\n1 2\n}", "n_points: 1\n{\n1 2\n"])
def test_a_damaged_file_is_an_error_that_names_it(tmp_path, content):
    (tmp_path / "x.pts").write_text(content)
    with pytest.raises(ValueError, match=r"x\.pts (is no .pts file|ends before)"):
        read_pts(tmp_path / "x.pts")


def test_an_empty_or_missing_folder_is_an_error(tmp_path):
    for folder in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(FileNotFoundError, match=r"no \.pts file"):
            ibug(folder)

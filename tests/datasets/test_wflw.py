import numpy as np
import pytest

from facelab.datasets import SkippedFaces, read_wflw, wflw
from facelab.markups import convert

FACE = np.random.default_rng(1).uniform([30, 20], [70, 80], size=(98, 2)).round(3)


def line(name, flags="0 0 0 0 0 0", landmarks=FACE) -> str:
    return " ".join([*(f"{value:.6f}" for value in landmarks.ravel()), "28 18 72 82", flags, name])


@pytest.fixture
def tree(tmp_path, root, write_image):
    images = tmp_path / "WFLW_images"
    for name in ("0--Parade/a.jpg", "1--March/b_2.jpg"):
        write_image(images / name, image_format="JPEG")
    lines = [line("0--Parade/a.jpg"), line("0--Parade/a.jpg", "1 0 0 0 1 0", FACE + 2), line("1--March/b_2.jpg", "0 0 0 0 1 1")]
    (tmp_path / "list.txt").write_text("\n".join(lines) + "\n")
    return tmp_path / "list.txt", images


def test_faces_boxes_and_flags(tree):
    annotations = read_wflw(*tree)
    assert [a.name for a in annotations] == ["0--Parade/a.jpg#1", "0--Parade/a.jpg#2", "1--March/b_2.jpg#3"]
    assert annotations[0].landmarks == pytest.approx(FACE)
    assert annotations[0].box.tolist() == [28, 18, 72, 82]
    assert [set(a.flags) for a in annotations] == [set(), {"pose", "occlusion"}, {"occlusion", "blur"}]


def test_the_crop_follows_the_68_points(tree):
    batch = wflw(*tree, size=32)
    assert batch.markup.size == 98 and len(batch) == 3
    assert np.ptp(convert(batch.landmarks[0], 68), axis=0).max() == pytest.approx(32 / 1.3, rel=1e-4)


def test_marks_blank_lines_and_line_ends_of_other_systems(tree):
    list_file, images = tree
    plain = read_wflw(list_file, images)
    list_file.write_bytes(("\ufeff" + list_file.read_text() + "\n \n").replace("\n", "\r\n").encode())
    again = read_wflw(list_file, images)
    assert [a.name for a in again] == [a.name for a in plain]
    assert all((a.landmarks == b.landmarks).all() and a.file == b.file for a, b in zip(plain, again, strict=True))
    list_file.write_bytes(list_file.read_text().encode("utf-16"))
    with pytest.raises(ValueError, match=r"list\.txt is no text in UTF-8 .*; save it"):
        read_wflw(list_file, images)


def test_subsets_by_flag(tree):
    assert wflw(*tree, size=8, flag="occlusion").names == ("0--Parade/a.jpg#2", "1--March/b_2.jpg#3")
    assert len(wflw(*tree, size=8, flag="pose")) == 1
    with pytest.raises(ValueError, match="no flag 'beard'"):
        wflw(*tree, flag="beard")
    with pytest.raises(ValueError, match="there are none"):
        wflw(*tree, flag="make-up")


def test_absent_images_and_landmarks_outside_are_counted(tree):
    list_file, images = tree
    list_file.write_text(list_file.read_text() + line("gone.jpg") + "\n" + line("1--March/b_2.jpg", landmarks=FACE + 500) + "\n")
    with pytest.warns(SkippedFaces, match=r"2 of 5 faces of wflw skipped: gone.jpg#4: image missing, .*b_2.jpg#5: landmarks outside"):
        assert len(wflw(list_file, images, size=8)) == 3


@pytest.mark.parametrize(
    ("broken", "why"),
    [(line("a.jpg")[30:], "expected 196"), (line("a.jpg", "0 0 0 0 0 2"), "neither 0 nor 1"), ("1 2 3 a.jpg", "expected 196")],
)
def test_a_damaged_line_is_an_error_with_its_number(tree, broken, why):
    list_file, images = tree
    list_file.write_text(list_file.read_text() + broken + "\n")
    with pytest.raises(ValueError, match=rf"list.txt, line 4: .*{why}"):
        read_wflw(list_file, images)


def test_a_missing_list_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no list .*WFLW_annotations"):
        wflw(tmp_path / "list.txt", tmp_path)

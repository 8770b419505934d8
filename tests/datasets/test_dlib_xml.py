import numpy as np
import pytest

from facelab.datasets import SkippedFaces, dlib_faces, read_dlib


def box(landmarks, extra="") -> str:
    parts = "".join(f"<part name='{i:02}' x='{x:.0f}' y='{y:.0f}'/>" for i, (x, y) in enumerate(landmarks))
    return f"<box top='20' left='30' width='40' height='60'{extra}>{parts}</box>"


def xml(*images: tuple[str, list[str]]) -> str:
    body = "".join(f"<image file='{name}'>{''.join(boxes)}</image>" for name, boxes in images)
    return f"<?xml version='1.0' encoding='ISO-8859-1'?><dataset><name>Faces</name><images>{body}</images></dataset>"


@pytest.fixture
def folder(root, write_image, face):
    folder = root / "dlib/examples/faces"
    for name in ("one.jpg", "two.jpg"):
        write_image(folder / name, image_format="JPEG")
    (folder / "training_with_face_landmarks.xml").write_text(xml(("one.jpg", [box(face), box(face + 3)])))
    (folder / "testing_with_face_landmarks.xml").write_text(xml(("two.jpg", [box(face)])))
    return folder


def test_every_box_is_a_face(folder, face):
    batch = dlib_faces(size=32)
    assert batch.names == ("one.jpg#0", "one.jpg#1", "two.jpg#0")
    assert batch.identity.tolist() == [0, 1, 2] and batch.markup.size == 68
    first = read_dlib(folder / "training_with_face_landmarks.xml")[0]
    assert (first.landmarks == face.round()).all()
    assert first.box.tolist() == [30, 20, 69, 79]  # left, top, right, bottom, both ends inside


def test_landmarks_are_ordered_by_their_number(folder, face):
    shuffled = box(face).replace("name='00'", "name='x'").replace("name='67'", "name='00'").replace("name='x'", "name='67'")
    (folder / "testing_with_face_landmarks.xml").write_text(xml(("two.jpg", [shuffled])))
    landmarks = read_dlib(folder / "testing_with_face_landmarks.xml")[0].landmarks
    assert (landmarks[0] == face.round()[67]).all() and (landmarks[67] == face.round()[0]).all()


def test_faces_without_all_landmarks_or_image_are_counted(folder, face):
    boxes = [box(face), box(face[:60]), box([]), box(face, " ignore='1'")]
    (folder / "testing_with_face_landmarks.xml").write_text(xml(("two.jpg", boxes), ("gone.jpg", [box(face)])))
    with pytest.warns(SkippedFaces, match="4 of 7 faces of dlib_faces skipped") as warned:
        assert len(dlib_faces(size=16)) == 3
    assert "two.jpg#1: 60 landmarks instead of 68, two.jpg#2: 0 landmarks instead of 68" in str(warned[0].message)
    assert "two.jpg#3: marked to be ignored" in str(warned[0].message)


def test_landmarks_numbered_otherwise_are_told_from_missing_ones(folder, face):
    from_one = box(face)
    for i in reversed(range(68)):
        from_one = from_one.replace(f"name='{i:02}'", f"name='{i + 1:02}'")
    doubled = box(face).replace("name='05'", "name='04'")
    one_more = box(face).replace("</box>", "<part name='3' x='1' y='1'/></box>")
    file = folder / "testing_with_face_landmarks.xml"
    file.write_bytes(("\ufeff" + xml(("two.jpg", [from_one, doubled, one_more, box(face)])).replace("ISO-8859-1", "UTF-8")).encode())
    assert [annotation.fault for annotation in read_dlib(file)] == [
        "no landmark 0 among those numbered 1 to 68",
        "no landmark 5 among those numbered 0 to 67",
        "69 landmarks instead of 68",
        "",
    ]


@pytest.mark.parametrize("damage", ["cut off", "no number", "no top"])
def test_a_damaged_list_is_an_error(folder, damage):
    file = folder / "testing_with_face_landmarks.xml"
    text = file.read_text()
    file.write_text({"cut off": text[:600], "no number": text.replace("x='", "x='a", 1), "no top": text.replace("top='20'", "", 1)}[damage])
    with pytest.raises(ValueError, match=r"testing_with_face_landmarks\.xml is damaged"):
        dlib_faces()


def test_missing_lists(root, tmp_path):
    with pytest.raises(FileNotFoundError, match="facelab data fetch dlib_faces"):
        dlib_faces()
    with pytest.raises(FileNotFoundError, match="no list"):
        read_dlib(tmp_path / "list.xml")


@pytest.mark.real("dlib_faces")
def test_real_photographs():
    batch = dlib_faces()
    assert len(batch) == 43 and len({name.split("#")[0] for name in batch.names}) == 9
    assert np.isfinite(batch.landmarks).all() and batch.landmarks.min() >= 0 and batch.landmarks.max() <= 63

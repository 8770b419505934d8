import numpy as np
import pytest

from facelab.datasets import SkippedFaces, celeba, read_celeba

POINTS = np.array([[69, 109], [106, 113], [77, 142], [73, 152], [108, 154]])


@pytest.fixture
def tree(root, write_image):
    folder = root / "CelebA"
    for place in ("Anno", "Eval"):
        (folder / place).mkdir(parents=True)
    names = [f"00000{i}.jpg" for i in range(1, 5)]
    for images in ("img_align_celeba", "img_celeba"):
        for name in names:
            write_image(folder / "Img" / images / name, image_format="JPEG", width=178, height=218)
    head = "4\nlefteye_x lefteye_y righteye_x righteye_y nose_x nose_y leftmouth_x leftmouth_y rightmouth_x rightmouth_y\n"
    for lists, shift in (("list_landmarks_align_celeba.txt", 0), ("list_landmarks_celeba.txt", 20)):
        values = ("  ".join(str(value) for value in (POINTS + shift).ravel()) for _ in names)
        (folder / "Anno" / lists).write_text(head + "\n".join(f"{name} {row}" for name, row in zip(names, values, strict=True)) + " \n")
    (folder / "Eval/list_eval_partition.txt").write_text(
        "\n".join(f"{name} {part}" for name, part in zip(names, (0, 1, 2, 0), strict=True))
    )
    return folder


def test_splits_and_landmarks(tree):
    faces = read_celeba(tree)
    assert [face.name for face in faces] == ["000001.jpg", "000002.jpg", "000003.jpg", "000004.jpg"]
    assert faces[0].landmarks == pytest.approx(POINTS) and faces[0].file.parent.name == "img_align_celeba"
    assert celeba("train", size=8).names == ("000001.jpg", "000004.jpg")
    batch = celeba("validation", size=32)
    assert batch.markup.size == 5 and np.ptp(batch.landmarks[0], axis=0).max() == pytest.approx(32 / 2.6, rel=1e-4)
    x = dict(zip(batch.markup.names, batch.landmarks[0, :, 0], strict=True))
    assert x["right_eye_centre"] < x["nose_tip"] < x["left_eye_centre"]  # the subject's right is on the left


def test_photographs_as_they_were(tree):
    face = read_celeba(tree, "test", aligned=False)[0]
    assert face.landmarks == pytest.approx(POINTS + 20) and face.file.parent.name == "img_celeba"


def test_people_are_told_apart_where_the_list_is_there(tree):
    assert celeba("all", size=8).identity.tolist() == [0, 1, 2, 3]
    (tree / "Anno/identity_CelebA.txt").write_text("000001.jpg 12\n000002.jpg 9\n000003.jpg 12\n000004.jpg 100\n")
    assert celeba("all", size=8).identity.tolist() == [1, 0, 1, 2]


def test_damage_is_named(tree):
    (tree / "Img/img_align_celeba/000004.jpg").unlink()
    with pytest.warns(SkippedFaces, match="1 of 2 faces of celeba skipped: 000004.jpg: image missing"):
        celeba("train", size=8)
    with pytest.raises(ValueError, match="no split 'val'"):
        celeba("val")
    parts = tree / "Eval/list_eval_partition.txt"
    parts.write_text("000001.jpg 0\n000002.jpg 3\n")
    with pytest.raises(ValueError, match=r"list_eval_partition.txt gives 000002.jpg none of the splits"):
        read_celeba(tree)
    parts.write_text("000001.jpg\n")
    with pytest.raises(ValueError, match=r"list_eval_partition.txt, line 1: expected a file name and 1 whole"):
        read_celeba(tree)
    parts.unlink()
    with pytest.raises(FileNotFoundError, match=r"no list .*Anno and Eval"):
        read_celeba(tree)

"""AFLW, AFLW2000-3D, 300W-LP and COFW, on small trees in their upstream layouts."""

import sys

import numpy as np
import pytest
from scipy.io import savemat

from facelab.datasets import SkippedFaces, aflw, aflw2000, cofw, read_300wlp, read_aflw, read_aflw2000, read_cofw, w300lp
from facelab.datasets.matlab import read_mat
from facelab.markups import markup

RANDOM = np.random.default_rng(0)


def cells(values) -> np.ndarray:
    table = np.empty((len(values), 1), dtype=object)
    table[:, 0] = values
    return table


@pytest.fixture
def aflw_tree(root, write_image):
    points = RANDOM.uniform(20, 80, (4, 19, 2))
    mask = np.ones((4, 19))
    mask[3, 5] = 0
    table = {
        "data": np.concatenate([points[..., 0], points[..., 1]], axis=1),
        "bbox": np.tile([15.0, 85.0, 10.0, 90.0], (4, 1)),
        "mask_new": mask,
        "nameList": cells(["0/image1.jpg", "0/image1.jpg", "2/image7.jpg", "3/image9.jpg"]),
        "ra": np.array([[3, 1, 4, 2]]),
    }
    for name in ("0/image1.jpg", "2/image7.jpg", "3/image9.jpg"):
        write_image(root / "AFLW/data/flickr" / name, image_format="JPEG")
    savemat(root / "AFLW/AFLWinfo_release.mat", table)
    return root / "AFLW", points


def test_aflw_in_its_own_order_with_boxes_and_hidden_points(aflw_tree):
    folder, points = aflw_tree
    faces = read_aflw(folder)
    assert [face.name for face in faces] == ["2/image7.jpg#3", "0/image1.jpg#1", "3/image9.jpg#4", "0/image1.jpg#2"]
    assert faces[0].landmarks == pytest.approx(points[2])
    assert faces[0].box.tolist() == [15, 10, 85, 90]
    assert np.flatnonzero(~faces[2].visible).tolist() == [5]


def test_aflw_splits(aflw_tree, monkeypatch):
    monkeypatch.setattr(sys.modules["facelab.datasets.aflw"], "_TRAIN", 2)  # the name in the package is the reader
    assert aflw("train", size=8).names == ("2/image7.jpg#3", "0/image1.jpg#1")
    batch = aflw("test", size=8)
    assert batch.names == ("3/image9.jpg#4", "0/image1.jpg#2") and batch.markup.size == 19
    assert batch.visible.sum(axis=1).tolist() == [18, 19]
    assert aflw("frontal", size=8).names == ("0/image1.jpg#2",)
    with pytest.raises(ValueError, match="no split 'profile'"):
        aflw("profile")


def test_truth_is_known_of_crops_from_the_cache_too(aflw_tree):
    first, again = aflw("all", size=8), aflw("all", size=8)
    assert (first.visible == again.visible).all() and (first.images == again.images).all()


def test_a_damaged_aflw_table_is_an_error(aflw_tree):
    folder, _ = aflw_tree
    table = read_mat(folder / "AFLWinfo_release.mat", ("bbox", "data", "mask_new", "nameList", "ra"))
    savemat(folder / "AFLWinfo_release.mat", table | {"ra": np.array([[1, 2, 3, 3]])})
    with pytest.raises(ValueError, match="does not hold 19 landmarks"):
        read_aflw(folder)


def write_posed(file, write_image, angles, key="pt3d_68"):
    points = RANDOM.uniform(20, 80, (68, 2))
    rows = np.concatenate([points.T + 1, RANDOM.uniform(0, 9, (1, 68))]) if key == "pt3d_68" else points.T + 1
    write_image(file.with_suffix(".jpg"), image_format="JPEG")
    savemat(file, {"Pose_Para": np.array([[*np.radians(angles), 50.0, 60.0, 0.0, 1e-3]]), key: rows, "pt2d_21": np.zeros((2, 21))})
    return points


def test_aflw2000_gives_pose_and_points_and_leaves_out_extreme_turns(root, write_image):
    folder = root / "AFLW2000"
    points = write_posed(folder / "image00002.mat", write_image, (10, 0, 0))
    write_posed(folder / "image00004.mat", write_image, (0, 40, 0))
    write_posed(folder / "image00006.mat", write_image, (0, 120, 0))
    with pytest.warns(SkippedFaces, match="1 of 3 faces of aflw2000 skipped: image00006: turned by more than 99"):
        batch = aflw2000(size=32)
    assert batch.pitch == pytest.approx([10, 0], abs=1e-9) and batch.yaw == pytest.approx([0, -40]) and batch.roll == pytest.approx([0, 0])
    scale = 32 / (1.3 * np.ptp(points, axis=0).max())
    middle = (points.max(axis=0) + points.min(axis=0)) / 2
    assert batch.landmarks[0] == pytest.approx((points - middle) * scale + 15.5, abs=1e-3)


def test_300wlp_knows_what_was_made_of_one_photograph(root, write_image):
    folder = root / "300W_LP"
    for part in ("AFW", "AFW_Flip"):
        for name in ("AFW_1_1_0", "AFW_1_1_1", "AFW_2_1_0"):
            write_posed(folder / part / f"{name}.mat", write_image, (0, 5, 0), key="pt2d")
    assert len(read_300wlp(folder, ["AFW"])) == 3
    for part in ("HELEN", "IBUG", "LFPW"):
        (folder / part).mkdir()
    batch = w300lp(["AFW"], flipped=True, size=8)
    assert batch.identity.tolist() == [0, 0, 1, 0, 0, 1]
    assert batch.names[3] == "AFW_Flip/AFW_1_1_0" and batch.yaw == pytest.approx(-5)
    with pytest.raises(FileNotFoundError, match=r"no \.mat in .*HELEN; give the folder 300W_LP"):
        w300lp()


def test_a_table_without_68_points_is_an_error(root, write_image):
    savemat(root / "image00002.mat", {"Pose_Para": np.zeros((1, 7)), "pt2d": np.zeros((2, 21))})
    with pytest.raises(ValueError, match="does not hold 68 points"):
        read_aflw2000(root)
    with pytest.raises(FileNotFoundError, match="give the folder AFLW2000"):
        read_aflw2000(root / "nowhere")


# The names of LFPW's list, in its order; its "left" is that of the image.
LFPW = " ".join(
    [
        "left_brow_outer right_brow_outer left_brow_inner right_brow_inner left_brow_mid_outer",
        "left_brow_mid_inner right_brow_mid_outer right_brow_mid_inner left_eye_outer right_eye_outer",
        "left_eye_inner right_eye_inner left_upper_lid left_lower_lid right_upper_lid",
        "right_lower_lid left_eye_centre right_eye_centre left_nostril right_nostril",
        "nose_tip nose_base left_mouth_corner right_mouth_corner upper_lip_top",
        "upper_lip_bottom lower_lip_top lower_lip_bottom chin",
    ]
).split()


def write_cofw(file, end="Tr"):
    images = [RANDOM.integers(0, 256, shape, dtype=np.uint8) for shape in ((100, 100, 3), (100, 90))]
    points = RANDOM.uniform(20, 80, (2, 29, 2))
    hidden = np.zeros((2, 29))
    hidden[1, LFPW.index("nose_tip")] = 1
    boxes = np.array([[10.0, 20, 60, 70], [11, 21, 50, 40]])
    phis = np.concatenate([points[..., 0] + 1, points[..., 1] + 1, hidden], axis=1)
    file.parent.mkdir(parents=True, exist_ok=True)
    savemat(file, {f"Is{end}": cells(images), f"phis{end}": phis, f"bboxes{end}": boxes})
    return points


def test_cofw_in_the_order_of_our_markup(root):
    points = write_cofw(root / "COFW/COFW_train_color.mat")
    faces = read_cofw(root / "COFW/COFW_train_color.mat", "train")
    swap = {"left": "right", "right": "left"}
    for place, name in enumerate(markup(29).names):
        theirs = "_".join(swap.get(word, word) for word in name.split("_"))
        assert faces[0].landmarks[place] == pytest.approx(points[0, LFPW.index(theirs)]), name
    assert faces[0].visible.all()
    assert [markup(29).names[i] for i in np.flatnonzero(~faces[1].visible)] == ["nose_tip"]
    assert faces[0].box.tolist() == [9, 19, 69, 89]


def test_cofw_batches_hold_colour_and_gray_photographs(root):
    write_cofw(root / "COFW/COFW_train_color.mat")
    write_cofw(root / "COFW/COFW_test_color.mat", "T")
    batch = cofw("test", size=16)
    assert batch.names == ("test/1", "test/2") and batch.markup.size == 29 and batch.visible.sum() == 57
    assert (batch.images[1] == batch.images[1, ..., :1]).all()
    with pytest.raises(ValueError, match="no split 'all'"):
        read_cofw(root / "COFW/COFW_test_color.mat", "all")


def test_tables_that_cannot_be_read_say_what_to_do(tmp_path):
    new = tmp_path / "COFW_train_color.mat"
    new.write_bytes(b"MATLAB 7.3 MAT-file, Platform: GLNXA64".ljust(124) + b"\x00\x02IM" + b"\x89HDF\r\n\x1a\n".ljust(512))
    with pytest.raises(ValueError, match=r"MATLAB 7\.3 .*save\('COFW_train_color\.mat', 'IsTr', 'phisTr', 'bboxesTr', '-v7'\)"):
        read_cofw(new, "train")
    new.write_bytes(b"no table")
    with pytest.raises(ValueError, match=r"no \.mat file, or a damaged one"):
        read_mat(new, ("a",))
    savemat(new, {"b": 1})
    with pytest.raises(ValueError, match="lacks a;"):
        read_mat(new, ("a",))
    with pytest.raises(FileNotFoundError, match="no table"):
        read_mat(tmp_path / "none.mat", ("a",))

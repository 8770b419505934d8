import numpy as np
import pytest
from scipy.io import savemat

from facelab.datasets import cofw, read_cofw
from facelab.datasets.matlab import read_mat
from facelab.markups import markup

RANDOM = np.random.default_rng(0)


def cells(values) -> np.ndarray:
    table = np.empty((len(values), 1), dtype=object)
    table[:, 0] = values
    return table


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

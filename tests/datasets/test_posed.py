"""AFLW2000-3D and 300W-LP on small trees in their layouts."""

import numpy as np
import pytest
from scipy.io import savemat

from facelab.datasets import SkippedFaces, aflw2000, read_300wlp, read_aflw2000, w300lp

RANDOM = np.random.default_rng(0)


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

import sys

import numpy as np
import pytest
from scipy.io import savemat

from facelab.datasets import aflw, read_aflw
from facelab.datasets.matlab import read_mat

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

import numpy as np
import pytest
from PIL import Image

from facelab.datasets import SkippedFaces, biwi
from facelab.datasets.biwi import head_box, read_biwi_pose
from facelab.datasets.head_pose import AXES_DOWN
from facelab.worlds.faces import geometry

POSE = (30.0, -10.0, 20.0)
CENTRE = np.array([80.0, -40.0, 1000.0])
CALIBRATION = "500 0 320\n0 500 240\n0 0 1\n\n0 0 0 0\n\n1 0 0\n0 1 0\n0 0 1\n\n25 0 0\n\n640 480\n"


@pytest.fixture
def tree(root):
    """Two sequences; in every image a red dot marks the centre of the head."""
    rotation = AXES_DOWN @ geometry.rotation(*(np.array([angle]) for angle in POSE))[0] @ AXES_DOWN
    for sequence in ("01", "07"):
        folder = root / "hpdb" / sequence
        folder.mkdir(parents=True)
        (folder / "rgb.cal").write_text(CALIBRATION)
        for frame in ("00003", "00004"):
            rows = [" ".join(f"{value:.6f}" for value in row) + " " for row in rotation]
            text = "\n".join([*rows, "", " ".join(f"{value:.3f}" for value in CENTRE), ""])
            (folder / f"frame_{frame}_pose.txt").write_text(text)
            pixels = np.zeros((480, 640, 3), np.uint8)
            x, y = 320 + 500 * 105 / 1000, 240 - 500 * 40 / 1000
            pixels[int(y) - 3 : int(y) + 4, int(x) - 3 : int(x) + 4, 0] = 255
            Image.fromarray(pixels).save(folder / f"frame_{frame}_rgb.png")
    return root / "hpdb"


def test_pose_and_place_of_the_head(tree):
    batch = biwi([1, 7], size=60)
    assert batch.names == ("01/frame_00003", "01/frame_00004", "07/frame_00003", "07/frame_00004")
    assert batch.identity.tolist() == [0, 0, 6, 6] and batch.landmarks is None
    for angle, value in zip(POSE, (batch.yaw, batch.pitch, batch.roll), strict=True):
        assert value == pytest.approx(angle, abs=1e-3)
    red = np.argwhere(batch.images[0, ..., 0] > 128)
    assert red.mean(axis=0) == pytest.approx([29.5, 29.5], abs=0.6)


def test_the_square_is_as_wide_as_a_head_at_its_distance(tree):
    _, centre = read_biwi_pose(tree / "01/frame_00003_pose.txt")
    assert head_box(tree / "01/rgb.cal", centre) == pytest.approx([372.5 - 60, 220 - 60, 372.5 + 60, 220 + 60])


def test_what_is_missing_or_damaged_is_named(tree):
    (tree / "01/frame_00004_rgb.png").unlink()
    (tree / "07/frame_00003_rgb.png").write_bytes(b"no image")
    with pytest.warns(SkippedFaces, match="2 of 4 faces of biwi skipped: 01/frame_00004: image missing, 07/frame_00003: image corrupt"):
        assert len(biwi([1, 7], size=8)) == 2
    with pytest.raises(FileNotFoundError, match=r"no frame_\*_pose.txt in .*02; put the sequence there"):
        biwi([2])
    with pytest.raises(ValueError, match="no sequence was asked for"):
        biwi([])
    (tree / "07/rgb.cal").unlink()
    with pytest.raises(FileNotFoundError, match=r"rgb\.cal; every sequence"):
        biwi([7])
    (tree / "01/frame_00003_pose.txt").write_text("1 0 0\n")
    with pytest.raises(ValueError, match="does not hold the 12 numbers"):
        biwi([1])

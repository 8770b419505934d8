"""MPIIGaze and UnityEyes on small trees in their layouts."""

import json

import numpy as np
import pytest
from scipy.io import savemat
from scipy.spatial.transform import Rotation

from facelab.datasets import SkippedFaces, mpiigaze, read_mpiigaze, read_unityeyes, unityeyes
from facelab.datasets.head_pose import AXES_DOWN
from facelab.worlds.faces import geometry

GAZE = np.array([[0.0, 0.0, -1.0], [0.6, -0.48, -0.64]])
"""In MPIIGaze's space: straight into the camera; to the right of the image and up."""


def day(first_pixel=7):
    images = np.zeros((2, 36, 60), np.uint8)
    images[0, 0, 0] = first_pixel
    turned = AXES_DOWN @ geometry.rotation(np.array([25.0]), np.array([10.0]), np.array([-5.0]))[0] @ AXES_DOWN
    pose = np.stack([np.zeros(3), Rotation.from_matrix(turned).as_rotvec()])
    side = {"gaze": GAZE, "image": images, "pose": pose}
    return {"data": {"left": side, "right": side | {"gaze": GAZE[::-1]}}, "filenames": np.array([["0001.jpg"], ["0002.jpg"]], object)}


@pytest.fixture
def people(root):
    for person, days in (("p00", ("day01", "day02")), ("p03", ("day05",))):
        folder = root / "MPIIGaze/Data/Normalized" / person
        folder.mkdir(parents=True)
        for name in days:
            savemat(folder / f"{name}.mat", day())
    return root / "MPIIGaze/Data/Normalized"


def test_eyes_gaze_and_pose_of_one_day(people):
    eyes = read_mpiigaze(people / "p00/day01.mat", 0)
    assert eyes.names == ("p00/day01/left/0", "p00/day01/left/1", "p00/day01/right/0", "p00/day01/right/1")
    assert eyes.images.shape == (4, 36, 60, 3) and eyes.images[0, 0, 0].tolist() == [7, 7, 7]
    assert eyes.gaze == pytest.approx(np.array([[0, 0, 1], [0.6, 0.48, 0.64], [0.6, 0.48, 0.64], [0, 0, 1]]))
    for value, angle in ((eyes.yaw, 25), (eyes.pitch, 10), (eyes.roll, -5)):
        assert value == pytest.approx([0, angle, 0, angle])


def test_days_of_one_person_belong_together(people):
    eyes = mpiigaze([0, 3])
    assert eyes.identity.tolist() == [0] * 8 + [3] * 4
    with pytest.raises(FileNotFoundError, match=r"no day\*\.mat in .*p01"):
        mpiigaze()


def test_another_table_is_refused(people):
    savemat(people / "p03/day05.mat", {"data": {"left": {"gaze": GAZE}}})
    with pytest.raises(ValueError, match="no day of MPIIGaze"):
        mpiigaze([3])


def describe(folder, number, write_image, look="(0.6000, 0.4800, -0.6400, 0.0000)"):
    rng = np.random.default_rng(number)
    points = {name: rng.uniform(20, 80, (count, 2)) for name, count in (("interior_margin_2d", 16), ("caruncle_2d", 7), ("iris_2d", 32))}
    about = {name: [f"({x:.4f}, {y:.4f}, 9.1000)" for x, y in values] for name, values in points.items()}
    about["eye_details"] = {"look_vec": look, "pupil_size": "0.05"}
    write_image(folder / f"{number}.jpg", image_format="JPEG", width=120, height=100)
    (folder / f"{number}.json").write_text(json.dumps(about))
    return np.concatenate(list(points.values()))


def test_rendered_eyes_with_points_and_gaze(root, write_image):
    folder = root / "UnityEyes/imgs"
    points = {number: describe(folder, number, write_image) for number in (1, 2, 10)}
    faces = read_unityeyes(folder)
    assert [face.name for face in faces] == ["1", "2", "10"]
    # Unity's lowest row of pixels has its centre half a pixel above the image's edge: ours is row 99 of 100.
    assert faces[2].landmarks == pytest.approx(np.stack([points[10][:, 0] - 0.5, 99.5 - points[10][:, 1]], axis=1), abs=1e-3)
    batch = unityeyes(size=24)
    assert batch.landmarks.shape == (3, 55, 2)
    assert batch.gaze == pytest.approx(np.tile([0.6, 0.48, 0.64], (3, 1)))  # to the right, up, towards the camera


def test_missing_images_and_damaged_descriptions(root, write_image):
    folder = root / "UnityEyes/imgs"
    for number in (1, 2):
        describe(folder, number, write_image)
    (folder / "2.jpg").unlink()
    with pytest.warns(SkippedFaces, match="1 of 2 faces of unityeyes skipped: 2: image missing"):
        assert len(unityeyes(size=8)) == 1
    for damaged in ('{"iris_2d": []}', "no json", json.dumps({"interior_margin_2d": ["__import__('os')"]})):
        (folder / "2.json").write_text(damaged)
        with pytest.raises(ValueError, match=r"2\.json is no description of an eye"):
            read_unityeyes(folder)
    with pytest.raises(FileNotFoundError, match=r"no \.json in .*let UnityEyes write"):
        read_unityeyes(root / "nowhere")

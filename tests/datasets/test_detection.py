import numpy as np
import pytest
from PIL import Image

from facelab.datasets import (
    WIDEN,
    NoFaceFound,
    astronaut,
    bounding_box,
    catalogue,
    crop_largest_face,
    detect_face,
    face_box_to_crop,
    read_dlib,
    read_image,
    read_p1,
    split_of,
)

EYES_AND_MOUTH = np.array([[204.0, 110.0], [251.0, 110.0], [227.0, 155.0]])
"""The portrait's pupils and mouth, read off the picture; pixels."""


def test_the_portrait_is_found_once():
    boxes = detect_face(astronaut())
    assert boxes.shape == (1, 4)
    left, top, right, bottom = boxes[0]
    assert ([left, top] < EYES_AND_MOUTH).all() and ([right, bottom] > EYES_AND_MOUTH).all()


def test_the_portrait_is_framed_like_the_training_faces():
    image, crop = crop_largest_face(astronaut(), size=64)
    assert image.shape == (64, 64, 3)
    right_eye, left_eye, mouth = crop.to_crop(EYES_AND_MOUTH)
    assert (
        right_eye == pytest.approx([20, 15], abs=5)
        and left_eye == pytest.approx([45, 15], abs=5)
        and mouth == pytest.approx([32, 40], abs=5)
    )


@pytest.mark.parametrize("factor", [0.5, 2, 6])
def test_the_size_of_the_photograph_does_not_matter(factor):
    size = round(512 * factor)
    image = np.asarray(Image.fromarray(astronaut()).resize((size, size), Image.Resampling.LANCZOS))
    crop = face_box_to_crop(detect_face(image)[0])
    small = face_box_to_crop(detect_face(astronaut())[0])
    assert [crop.x / factor, crop.y / factor, crop.side / factor] == pytest.approx([small.x, small.y, small.side], rel=0.1)


def test_no_face_is_no_box_and_then_an_error():
    for image in (np.zeros((100, 120, 3), np.uint8), np.full((10, 400, 3), 200, np.uint8)):
        assert detect_face(image).shape == (0, 4)
        with pytest.raises(NoFaceFound, match="say where the face is"):
            crop_largest_face(image)


def test_faces_smaller_than_asked_for_are_not_looked_for():
    assert len(detect_face(astronaut(), smallest=0.5)) == 0
    with pytest.raises(ValueError, match="between 0 and 1, not 60"):
        detect_face(astronaut(), smallest=60)


def test_several_faces_come_largest_first():
    portrait = Image.fromarray(astronaut())
    canvas = Image.new("RGB", (800, 512), (128, 128, 128))
    canvas.paste(portrait.resize((256, 256)), (0, 100))
    canvas.paste(portrait, (280, 0))
    boxes = detect_face(np.asarray(canvas), smallest=0.06)
    sides = boxes[:, 2] - boxes[:, 0]
    assert len(boxes) == 2 and sides[0] > 1.5 * sides[1] and boxes[0, 0] > 280 > boxes[1, 2]


def offsets(annotations, images) -> np.ndarray:
    """(x, y, log side) of the crop by detection against the one by landmarks, in sides of the latter; where a face was found."""
    rows = []
    for annotation, image in zip(annotations, images, strict=True):
        left, top, right, bottom = bounding_box(annotation.landmarks)
        side, x, y = WIDEN * max(right - left, bottom - top), (left + right) / 2, (top + bottom) / 2
        crops = [face_box_to_crop(box) for box in detect_face(image)]
        rows += [((c.x - x) / side, (c.y - y) / side, np.log(c.side / side)) for c in crops[:1]]
    return np.array(rows)


@pytest.mark.slow
@pytest.mark.real
def test_calibration_on_people_it_was_not_measured_on():
    annotations = [a for a in read_p1(catalogue.path("p1")) if split_of(a.person) == "test"][::16]
    found = offsets(annotations, [read_image(a.file) for a in annotations])
    assert len(found) > 0.9 * len(annotations)
    assert np.abs(np.median(found, axis=0)).max() < 0.05  # no bias in place or size
    assert (np.abs(found).max(axis=1) < 0.3).mean() > 0.8


@pytest.mark.slow
@pytest.mark.real("dlib_faces")
def test_most_faces_of_a_group_are_found():
    annotations = read_dlib(catalogue.path("dlib_faces") / "testing_with_face_landmarks.xml")
    found = 0
    for file in {a.file for a in annotations}:
        boxes = detect_face(read_image(file), smallest=0.07)
        for annotation in (a for a in annotations if a.file == file):
            x, y = annotation.landmarks.mean(axis=0)
            found += any(left < x < right and top < y < bottom for left, top, right, bottom in boxes)
    assert found > 0.6 * len(annotations)

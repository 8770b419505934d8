import os
import shutil
import struct
import time
import zlib

import numpy as np
import pytest
from PIL import Image

from facelab.datasets import Annotation, SkippedFaces, annotations, read_image
from facelab.datasets.annotations import crop_all, cropped


@pytest.fixture
def two(tmp_path, write_image, face):
    return [Annotation(write_image(tmp_path / f"{name}.png"), face, name, name) for name in ("a", "bb")]


def test_images_are_read_by_content_not_by_name(tmp_path, write_image):
    png = read_image(write_image(tmp_path / "x.png"))
    for name, mode in (("x.jpg", "RGB"), ("y.jpg", "RGBA")):
        image = read_image(write_image(tmp_path / name, mode=mode))
        assert image.shape == (100, 100, 3) and image.dtype == np.uint8
    assert (read_image(tmp_path / "x.jpg") == png).all()


def test_a_missing_a_truncated_and_a_wrong_file_are_told_apart(tmp_path, write_image):
    with pytest.raises(FileNotFoundError, match=r"no image .*gone\.png"):
        read_image(tmp_path / "gone.png")
    whole = write_image(tmp_path / "whole.png").read_bytes()
    for name, content in (("half.png", whole[: len(whole) // 2]), ("text.png", b"no image"), ("empty.png", b"")):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ValueError, match=rf"{name} cannot be decoded"):
            read_image(tmp_path / name)


def giant(file):
    """A few bytes that say they are a photograph of 200 megapixels."""
    head = struct.pack(">IIBBBBB", 16320, 12240, 8, 2, 0, 0, 0)
    parts = [(b"IHDR", head), (b"IDAT", zlib.compress(b"")), (b"IEND", b"")]
    chunks = [struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)) for name, data in parts]
    file.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(chunks))
    return file


def test_a_giant_photograph_is_refused_and_skipped(tmp_path, face, two):
    with pytest.raises(ValueError, match=r"giant\.png is too large to be decoded .*shrink it"):
        read_image(giant(tmp_path / "giant.png"))
    batch, problems = crop_all([two[0], Annotation(tmp_path / "giant.png", face, "giant", "giant"), two[1]], 16)
    assert len(batch) == 2 and problems == ["giant: image too large"]


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_sixteen_bits_become_eight(tmp_path, suffix):
    values = np.array([[0, 255, 256, 30_000, 65_535]], np.uint16)
    Image.fromarray(values).save(tmp_path / f"deep.{suffix}")
    assert read_image(tmp_path / f"deep.{suffix}").tolist() == [[[v, v, v] for v in (0, 0, 1, 117, 255)]]


def test_pixels_that_are_no_whole_numbers_are_refused(tmp_path):
    for name, kind in (("real", np.float32), ("long", np.int32)):
        Image.fromarray(np.full((4, 4), 300, kind)).save(tmp_path / f"{name}.tif")
        with pytest.raises(ValueError, match="no whole numbers of 8 or 16 bits"):
            read_image(tmp_path / f"{name}.tif")


def test_links_and_folders_for_images(tmp_path, two, face):
    (tmp_path / "link.png").symlink_to(two[0].file)
    (tmp_path / "dangling.png").symlink_to(tmp_path / "gone.png")
    (tmp_path / "folder.png").mkdir()
    assert (read_image(tmp_path / "link.png") == read_image(two[0].file)).all()
    bad = [Annotation(tmp_path / f"{name}.png", face, name, name) for name in ("dangling", "folder")]
    assert crop_all([two[0], *bad], 16)[1] == ["dangling: image missing", "folder: image corrupt or truncated"]


def test_every_fault_is_counted_and_named(tmp_path, write_image, face, two):
    (tmp_path / "broken.png").write_bytes(two[0].file.read_bytes()[:500])
    image = two[0].file
    faulty = {
        "gone": (Annotation(tmp_path / "gone.png", face, "gone", "gone"), "image missing"),
        "broken": (Annotation(tmp_path / "broken.png", face, "broken", "broken"), "image corrupt or truncated"),
        "nan": (Annotation(image, face * np.nan, "nan", "nan"), "landmarks are not numbers"),
        "point": (Annotation(image, face * 0 + 5, "point", "point"), "all landmarks in one place"),
        "far": (Annotation(image, face + 60, "far", "far"), "landmarks outside the image"),
        "said": (Annotation(image, face, "said", "said", fault="as the reader says"), "as the reader says"),
    }
    batch, problems = crop_all([two[0], *(annotation for annotation, _ in faulty.values()), two[1]], 32)
    assert batch.names == ("a", "bb")
    assert problems == [f"{name}: {why}" for name, (_, why) in faulty.items()]


def test_one_missing_image_does_not_spoil_the_next(tmp_path, face, two):
    """The image that several annotations share is not taken for that of a failed one between them."""
    gone = Annotation(tmp_path / "gone.png", face, "gone", "gone")
    batch, problems = crop_all([two[0], gone, gone, two[0], two[1]], 16)
    alone, _ = crop_all([two[0], two[1]], 16)
    assert len(problems) == 2 and (batch.images == alone.images[[0, 0, 1]]).all()


def test_a_chin_below_the_frame_is_kept(face, two):
    low = face + np.array([0, 99.5 + 5 - face[:, 1].max()])
    batch, problems = crop_all([Annotation(two[0].file, low, "low", "low")], 32)
    assert len(batch) == 1 and not problems


def test_nothing_usable_is_an_error(tmp_path, face):
    with pytest.raises(ValueError, match="None of 1 annotated faces can be used: x: image missing"):
        crop_all([Annotation(tmp_path / "x.png", face, "x", "x")], 32)
    with pytest.raises(ValueError, match="there are none"):
        crop_all([], 32)


def test_landmarks_lie_in_the_crop_where_the_pixels_are(tmp_path, face):
    """A white dot on a black image, at a landmark, is at the cropped landmark."""
    points = face.round()
    image = np.zeros((100, 100, 3), np.uint8)
    x, y = points[17].astype(int)
    image[y, x] = 255
    Image.fromarray(image).save(tmp_path / "dot.png")
    batch, _ = crop_all([Annotation(tmp_path / "dot.png", points, "dot", "dot")], 96)
    weights = batch.images[0, ..., 0] / batch.images[0, ..., 0].sum()
    rows, columns = np.indices(weights.shape)
    assert [(columns * weights).sum(), (rows * weights).sum()] == pytest.approx(batch.landmarks[0, 17], abs=0.1)


def test_people_are_numbered_by_name(face, two):
    named = [Annotation(two[0].file, face, str(i), person) for i, person in enumerate(("Zoe", "Ann", "Zoe", "Bo"))]
    batch, _ = crop_all(named, 16)
    assert batch.identity.tolist() == [2, 0, 2, 1]


def test_the_second_time_comes_from_the_cache(root, two, monkeypatch):
    first = cropped(two, 32, 1.3, "set")
    monkeypatch.setattr(annotations, "crop_all", lambda *_: pytest.fail("the images were decoded again"))
    again = cropped(two, 32, 1.3, "set")
    for name in ("images", "landmarks", "identity"):
        assert (getattr(again, name) == getattr(first, name)).all() and getattr(again, name).dtype == getattr(first, name).dtype
    assert again.names == first.names


def test_the_warning_comes_again_with_the_cached_crops(root, two, face, tmp_path):
    missing = [Annotation(tmp_path / f"{i}.png", face, f"face {i}", str(i)) for i in range(5)]
    message = "5 of 7 faces of set skipped: face 0: image missing, face 1: image missing, face 2: image missing, ..."
    for _ in range(2):
        with pytest.warns(SkippedFaces) as warned:
            assert len(cropped([*two, *missing], 32, 1.3, "set")) == 2
        assert [str(warning.message) for warning in warned] == [message + "."]


@pytest.mark.parametrize("change", ["size", "widen", "landmarks", "person", "file"])
def test_whatever_changes_the_crops_makes_new_ones(root, two, face, change, write_image):
    before = cropped(two, 32, 1.3, "set")
    if change == "file":
        write_image(two[1].file, width=120)
    changed = {
        "landmarks": [two[0], Annotation(two[1].file, face + 1, "bb", "bb")],
        "person": [two[0], Annotation(two[1].file, face, "bb", "a")],
    }.get(change, two)
    after = cropped(changed, 24 if change == "size" else 32, 1.5 if change == "widen" else 1.3, "set")
    same = before.images.shape == after.images.shape and (before.images == after.images).all()
    assert not (same and (before.identity == after.identity).all())


def test_pixels_edited_in_place_are_noticed(root, tmp_path, face):
    """The same size in bytes, and even the same time of change: only the file system's own clock tells."""

    def grey(value, file):
        time.sleep(0.02)  # that clock ticks every few milliseconds
        Image.fromarray(np.full((100, 100, 3), value, np.uint8)).save(file)
        os.utime(file, (1e9, 1e9))
        return cropped([Annotation(file, face, "x", "x")], 16, 1.3, "set").images.mean()

    (tmp_path / "blurred").mkdir()
    assert grey(50, tmp_path / "x.bmp") == 50
    assert grey(120, tmp_path / "x.bmp") == 120
    assert grey(200, tmp_path / "blurred" / "x.bmp") == 200
    assert grey(120, tmp_path / "x.bmp") == 120


def test_another_folder_of_the_same_names_has_its_own_crops(root, tmp_path, face, two):
    other = tmp_path / "other"
    other.mkdir()
    shutil.copy2(two[1].file, other / "a.png")  # another picture under the name of the first
    first = cropped([Annotation(two[0].file, face, "a", "a")], 16, 1.3, "set")
    second = cropped([Annotation(other / "a.png", face, "a", "a")], 16, 1.3, "set")
    assert (first.images != second.images).any()
    (tmp_path / "now.png").symlink_to(two[0].file)
    linked = [Annotation(tmp_path / "now.png", face, "a", "a")]
    assert (cropped(linked, 16, 1.3, "set").images == first.images).all()
    (tmp_path / "now.png").unlink()
    (tmp_path / "now.png").symlink_to(other / "a.png")
    assert (cropped(linked, 16, 1.3, "set").images == second.images).all()


@pytest.mark.parametrize("damage", ["cut short", "other content", "empty", "pickled"])
def test_a_damaged_cache_is_built_again(root, two, damage):
    first = cropped(two, 32, 1.3, "set")
    (file,) = (root.parent / "cache" / "crops").iterdir()
    if damage == "pickled":
        np.savez(file, images=np.array([{}], dtype=object))
    else:
        content = file.read_bytes()
        file.write_bytes({"cut short": content[:-400], "other content": b"PK no zip at all", "empty": b""}[damage])
    assert (cropped(two, 32, 1.3, "set").images == first.images).all()
    with np.load(file, allow_pickle=False) as arrays:
        assert (arrays["images"] == first.images).all()


def test_flipped_bits_in_the_cache_are_noticed(root, two):
    first = cropped(two, 32, 1.3, "set")
    (file,) = (root.parent / "cache" / "crops").iterdir()
    content = bytearray(file.read_bytes())
    content[len(content) // 3] ^= 0xFF
    file.write_bytes(content)
    assert (cropped(two, 32, 1.3, "set").images == first.images).all()


def test_a_cache_that_cannot_be_written_costs_only_time(root, two):
    (root.parent / "cache").write_text("a file where the folder should be")
    assert len(cropped(two, 32, 1.3, "set")) == 2


def test_nothing_half_written_is_left_behind(root, two):
    cropped(two, 32, 1.3, "set")
    assert [file.suffix for file in (root.parent / "cache" / "crops").iterdir()] == [".npz"]

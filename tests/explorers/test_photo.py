"""An uploaded photograph is found, framed and answered for, or refused with a sentence that helps."""

import struct
import zlib
from datetime import datetime
from io import BytesIO

import numpy as np
import pytest
from PIL import Image
from small_cascade import Cascade

from facelab.datasets import astronaut
from facelab.explorers.photo import PhotoExplorer, read_photo


def _file(image: np.ndarray, kind: str = "png", **options) -> bytes:
    buffer = BytesIO()
    Image.fromarray(image).save(buffer, kind, **options)
    return buffer.getvalue()


def _upload(explorer: PhotoExplorer, content: bytes) -> None:
    photo = {"name": "mine", "type": "image/png", "size": len(content), "content": memoryview(content), "last_modified": datetime.now()}
    explorer.controls["photo"].value = (photo,)


@pytest.fixture(scope="module")
def explorer() -> PhotoExplorer:
    return PhotoExplorer(Cascade())


def test_a_photograph_of_ones_own(explorer):
    before = explorer.shown.text
    _upload(explorer, _file(astronaut()[:300, 80:380]))
    assert explorer.error is None
    assert "300 × 300 pixels" in explorer.shown.text and explorer.shown.text != before


def test_no_face_and_no_picture_are_said_in_words(explorer):
    _upload(explorer, _file(np.full((200, 200, 3), 128, dtype=np.uint8)))
    assert "No face was found" in explorer.problem.value
    _upload(explorer, b"this is a text")
    assert "save it as JPEG, PNG or WebP" in explorer.problem.value
    _upload(explorer, _file(astronaut()))
    assert explorer.error is None and not explorer.problem.value


def test_a_telephone_held_sideways_is_turned_upright():
    exif = Image.Exif()
    exif[274] = 6  # the camera was turned to the right
    upright = read_photo(_file(np.rot90(astronaut()[:200, :300]), "jpeg", exif=exif.tobytes(), quality=95))
    assert upright.shape == (200, 300, 3)
    assert np.abs(upright.astype(int) - astronaut()[:200, :300]).mean() < 6


def test_large_photographs_are_shrunk():
    assert read_photo(_file(np.zeros((3000, 2000, 3), dtype=np.uint8))).shape == (640, 427, 3)


def test_sixteen_bits_giants_and_damaged_files():
    deep = _file(np.full((40, 40), 30_000, dtype=np.uint16))
    assert np.unique(read_photo(deep)).tolist() == [117]
    ordinary = _file(np.zeros((8, 8, 3), dtype=np.uint8))
    size = struct.pack(">II", 16320, 12240)
    giant = ordinary[:16] + size + ordinary[24:29] + struct.pack(">I", zlib.crc32(b"IHDR" + size + ordinary[24:29])) + ordinary[33:]
    with pytest.raises(ValueError, match="too many pixels"):
        read_photo(giant)
    for broken in (b"", ordinary[:30], _file(astronaut())[:5000]):
        with pytest.raises(ValueError, match="save it as JPEG, PNG or WebP"):
            read_photo(broken)

"""Small data sets in their upstream layouts, with an empty cache of their own."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from facelab.datasets import catalogue

FACE = np.random.default_rng(0).uniform([30, 20], [70, 80], size=(68, 2)).round(2)
"""68 points somewhere in an image of 100 x 100 pixels."""


@pytest.fixture
def root(tmp_path, monkeypatch) -> Path:
    """An empty FACELAB_DATA, and an empty user's cache beside it."""
    (tmp_path / "data").mkdir()
    monkeypatch.setenv("FACELAB_DATA", str(tmp_path / "data"))
    monkeypatch.setattr(catalogue, "cache_folder", lambda: tmp_path / "cache")
    return tmp_path / "data"


@pytest.fixture
def face() -> np.ndarray:
    return FACE.copy()


@pytest.fixture
def write_image():
    """A noise image; its format is its own, whatever the name says."""

    def write(file: Path, mode: str = "RGB", image_format: str = "PNG", width: int = 100, height: int = 100) -> Path:
        pixels = np.random.default_rng(len(file.name)).integers(0, 256, (height, width, 4 if mode == "RGBA" else 3), dtype=np.uint8)
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(file, format=image_format)
        return file

    return write


@pytest.fixture
def write_p1(root, write_image):
    """A P1 tree of the given file names; returns its folder."""

    def write(training=("Ann_Lee_00.jpg", "Ann_Lee_12.jpg", "Bo_Ek_01.jpg"), test=("Ann_Lee_31.jpg",), landmarks=FACE) -> Path:
        folder = root / "P1_Facial_Keypoints"
        for part, names in (("training", training), ("test", test)):
            (folder / "data" / part).mkdir(parents=True)
            lines = ["," + ",".join(str(i) for i in range(136))]
            for name in names:
                write_image(folder / "data" / part / name, mode="RGBA")
                lines.append(",".join([name, *(str(value) for value in landmarks.ravel())]))
            (folder / "data" / f"{part}_frames_keypoints.csv").write_text("\n".join(lines) + "\n")
        return folder

    return write

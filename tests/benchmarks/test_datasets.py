"""Processor seconds to decode and crop photographs, to read them from the cache, and to find a face.

The limits are several times what an idle core needs: they catch a change that makes the data sets slow, not a busy machine.
"""

import time

import numpy as np
import pytest
from PIL import Image

from facelab.datasets import Annotation, astronaut, catalogue, detect_face
from facelab.datasets.annotations import crop_all, cropped

pytestmark = pytest.mark.benchmark(timer=time.process_time)
COUNT = 50


@pytest.fixture(scope="module")
def photographs(tmp_path_factory):
    """As those of P1: PNG, 200 x 200; parts of the portrait, so that they compress like photographs."""
    folder, generator = tmp_path_factory.mktemp("photographs"), np.random.default_rng(0)
    portrait = Image.fromarray(astronaut())
    annotations = []
    for i in range(COUNT):
        left, top = generator.integers(0, 312, 2)
        portrait.crop((left, top, left + 200, top + 200)).save(folder / f"{i}.png")
        annotations.append(Annotation(folder / f"{i}.png", generator.uniform(50, 150, (68, 2)), str(i), str(i)))
    return annotations


def test_decoding_and_cropping(benchmark, photographs):
    batch, _ = benchmark.pedantic(crop_all, args=(photographs, 64), rounds=3)
    assert len(batch) == COUNT
    assert benchmark.stats.stats.min / COUNT < 0.012  # seconds per frame: 1638 in 20 s at worst, a fifth of it measured


def test_reading_the_cache(benchmark, photographs, tmp_path, monkeypatch):
    monkeypatch.setattr(catalogue, "cache_folder", lambda: tmp_path)
    cropped(photographs, 64, 1.3, "set")
    batch = benchmark.pedantic(cropped, args=(photographs, 64, 1.3, "set"), rounds=3)
    assert len(batch) == COUNT
    assert benchmark.stats.stats.min < 0.1


def test_finding_a_face(benchmark):
    image = astronaut()
    detect_face(image)  # reads the cascade
    boxes = benchmark.pedantic(detect_face, args=(image,), rounds=3)
    assert len(boxes) == 1
    assert benchmark.stats.stats.min < 1.0

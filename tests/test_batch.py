"""Batches of any kind: taking, joining, gray and colour, tensors, groups, and what is not known."""

from dataclasses import dataclass, fields, replace

import numpy as np
import pytest
import torch

from facelab.batch import Batch, FaceBatch, concatenate


def faces(n=4, size=8, points=68, seed=0, **known) -> FaceBatch:
    rng = np.random.default_rng(seed)
    return FaceBatch(
        images=rng.integers(0, 256, (n, size, size, 3), dtype=np.uint8),
        landmarks=rng.uniform(0, size, (n, points, 2)),
        identity=np.arange(n),
        names=tuple(f"face {seed} {i}" for i in range(n)),
        **known,
    )


@dataclass(frozen=True)
class Scans(Batch):
    """A batch of somebody's own."""

    labels: np.ndarray | None = None
    depth: np.ndarray | None = None


def scans(n=3, seed=0, **known) -> Scans:
    rng = np.random.default_rng(seed)
    return Scans(rng.integers(0, 256, (n, 6, 5), dtype=np.uint8), np.arange(n, dtype=np.uint8), **known)


@pytest.fixture
def batch() -> FaceBatch:
    return faces(yaw=np.arange(4.0), parts=np.zeros((4, 8, 8), np.uint8), factors={"yaw": np.arange(4.0)})


@pytest.mark.parametrize("index", [[2, 0], slice(1, 3), np.array([True, False, True, True]), 3, -1])
def test_take_cuts_every_field_alike(batch, index):
    taken = batch.take(index)
    rows = np.atleast_1d(np.arange(4)[index])
    assert len(taken) == len(rows)
    assert (taken.images == batch.images[rows]).all() and (taken.landmarks == batch.landmarks[rows]).all()
    assert taken.yaw.tolist() == taken.factors["yaw"].tolist() == rows.tolist()
    assert taken.names == tuple(batch.names[i] for i in rows)
    assert taken.depth is None and taken.parts.shape == (len(rows), 8, 8)


def test_take_outside_the_batch_is_an_error(batch):
    with pytest.raises(IndexError):
        batch.take(4)


def test_joining_the_pieces_restores_the_whole(batch):
    joined = concatenate([batch.take([0, 1]), batch.take([2, 3])])
    assert (joined.images == batch.images).all() and (joined.yaw == batch.yaw).all()
    assert joined.names == batch.names


def test_joined_sources_keep_their_people_apart(batch):
    joined = concatenate([batch, faces(3, seed=1), faces(2, seed=2)])
    assert len(np.unique(joined.identity)) == len(joined) == 9
    assert joined.identity[:4].tolist() == batch.identity.tolist()


def test_what_one_source_does_not_know_the_joined_batch_does_not_know(batch):
    joined = concatenate([batch, faces(2, seed=1)])
    assert joined.yaw is None and joined.parts is None
    assert joined.names == batch.names + ("face 1 0", "face 1 1")
    assert concatenate([batch, replace(faces(2), names=())]).names == ()


def test_every_known_field_survives_joining():
    n, k = 2, 68
    arrays = {
        "landmarks_3d": np.zeros((n, k, 3)),
        "visible": np.ones((n, k), bool),
        "gaze": np.zeros((n, 3)),
        "depth": np.full((n, 8, 8), np.inf),
        "normals": np.zeros((n, 8, 8, 3)),
        "expression": np.zeros(n, int),
    }
    joined = concatenate([faces(n, **arrays), faces(n, **arrays)])
    for name, value in arrays.items():
        assert np.array_equal(getattr(joined, name), np.concatenate([value, value])), name
    missing = {f.name for f in fields(FaceBatch) if getattr(joined, f.name) is None}
    assert missing.isdisjoint(arrays)


@pytest.mark.parametrize(
    ("others", "words"),
    [
        ([], "at least one batch"),
        ([faces(), faces(size=9)], "differ in image size"),
        ([faces(), faces(points=5)], "mark-up"),
        ([faces(), scans()], "FaceBatch and Scans"),
    ],
)
def test_what_cannot_be_joined_is_refused(others, words):
    with pytest.raises(ValueError, match=words):
        concatenate(others)


def test_gray_is_luminance_between_zero_and_one():
    batch = faces(1)
    images = np.zeros((1, 8, 8, 3), np.uint8)
    images[0, 0, :4] = [(255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)]
    gray = replace(batch, images=images).gray()
    assert gray.shape == (1, 1, 8, 8) and gray.dtype == np.float32
    assert gray[0, 0, 0, :5] == pytest.approx([0.299, 0.587, 0.114, 1, 0], abs=1e-6)


def test_color_puts_channels_first():
    batch = faces(2)
    assert batch.color().shape == (2, 3, 8, 8) and batch.color().dtype == np.float32
    assert (np.round(batch.color() * 255).transpose(0, 2, 3, 1) == batch.images).all()


def test_the_markup_is_that_of_the_landmarks():
    batch = faces()
    assert batch.markup.size == 68
    assert batch.landmarks_in(5).shape == (4, 5, 2)
    with pytest.raises(ValueError, match="only 98"):
        batch.landmarks_in(98)


def test_a_batch_of_ones_own_is_taken_and_joined_like_any_other():
    one, other = scans(depth=np.ones((3, 6, 5)), names=("a", "b", "c"), factors={"size": np.arange(3)}), scans(2, seed=1)
    taken = one.take([2, 0])
    assert isinstance(taken, Scans) and taken.names == ("c", "a") and taken.factors["size"].tolist() == [2, 0]
    joined = concatenate([one, other])
    assert isinstance(joined, Scans) and joined.labels.tolist() == [0, 1, 2, 0, 1]
    assert joined.depth is None and joined.names == () and joined.factors == {}
    assert (concatenate([one.take(slice(0, 1)), one.take([1, 2])]).images == one.images).all()


def test_gray_images_have_three_equal_colours():
    batch = scans()
    assert batch.gray().dtype == batch.colour().dtype == np.float32
    assert (batch.gray()[:, 0] == (batch.images / 255.0).astype(np.float32)).all()
    assert batch.colour().shape == (3, 3, 6, 5) and (batch.colour() == batch.gray()).all()


def test_tensors_are_what_losses_want():
    known = {"parts": np.full((4, 8, 8), 7, np.uint8), "visible": np.ones((4, 68), bool)}
    batch = faces(**known)
    tensors = batch.tensors("landmarks", "parts", "identity", "visible")
    kinds = {"images": torch.float32, "landmarks": torch.float32, "parts": torch.int64, "identity": torch.int64, "visible": torch.bool}
    assert {name: tensor.dtype for name, tensor in tensors.items()} == kinds
    assert {len(tensor) for tensor in tensors.values()} == {4} and tensors["parts"].eq(7).all()
    assert np.array_equal(tensors["images"], batch.gray())
    assert np.array_equal(batch.tensors(colour=True)["images"], batch.colour())
    tensors["parts"].zero_()
    assert (batch.parts == 7).all()


def test_people_are_the_groups_of_faces_and_own_batches_have_none_unless_told():
    assert faces().groups.tolist() == [0, 1, 2, 3]
    assert scans().groups is None


def test_faces_may_be_known_by_their_images_alone():
    bare = FaceBatch(faces().images)
    assert bare.take([1, 2]).landmarks is None and bare.groups is None and bare.gray().shape == (4, 1, 8, 8)
    assert concatenate([faces(), bare]).identity is None
    for need in (lambda: bare.markup, lambda: bare.landmarks_in(5), lambda: bare.tensors("landmarks")):
        with pytest.raises(ValueError, match="does not know landmarks, but images;"):
            need()
    with pytest.raises(ValueError, match="does not know expresion, but images, landmarks, identity;"):
        faces().tensors("expresion")


def test_take_cuts_fields_of_any_kind():
    taken = scans(depth=torch.arange(3)).take([2, 0])
    assert taken.depth.tolist() == [2, 0] and scans(depth=["a", "b", "c"]).take([2, 0]).depth == ["c", "a"]


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (np.full((3, 8, 8, 3), 0.5, np.float32), "images are float32 of shape"),
        (np.zeros((3, 3, 8, 8), np.uint8), r"of shape \(3, 3, 8, 8\); give"),
        (np.zeros((3, 8, 8, 1), np.uint8), r"\(B,H,W\) if gray"),
        (torch.zeros(3, 8, 8, dtype=torch.uint8), "give numpy's uint8"),
        (np.zeros((4, 8, 8), np.uint8), "labels holds 3 samples and images 4"),
    ],
)
def test_images_of_another_kind_and_fields_of_another_length_are_refused(images, message):
    with pytest.raises(ValueError, match=message):
        Scans(images, labels=np.arange(3))


def test_texts_are_no_tensors():
    with pytest.raises(ValueError, match="A field of <U1 is no tensor; number what is in it"):
        replace(scans(), labels=np.array(["a", "b", "c"])).tensors("labels")

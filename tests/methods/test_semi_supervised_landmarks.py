"""Soft-argmax, sequential multi-tasking and equivariance against their closed forms."""

import pytest
import torch

from facelab.blocks import Warp, draw_warp, seeded
from facelab.methods.semi_supervised_landmarks import (
    Follow,
    Objective,
    SemiSupervisedLandmarks,
    equivariance_error,
    ramp,
    soft_argmax,
    soft_argmax_gradient,
)
from facelab.training import fit


def build(**options):
    with seeded(0):
        return SemiSupervisedLandmarks(19, 2, channels=(4, 8), **options)


def faces(count=4, seed=0):
    generator = torch.Generator().manual_seed(seed)
    landmarks = 8 + 24 * torch.rand(count, 19, 2, generator=generator)
    images = torch.rand(count, 1, 40, 40, generator=generator)
    return {"images": images, "landmarks": landmarks, "attributes": torch.randn(count, 2, generator=generator)}


def data(labelled=4):
    everyone = faces(6)
    few = {name: values[:labelled] for name, values in everyone.items()}
    return {"labelled": few, "unlabelled": {name: everyone[name] for name in ("images", "attributes")}}


def shift_by(x, y, size=40, count=1):
    middle = torch.full((2,), (size - 1) / 2)
    return Warp(torch.eye(2).expand(count, 2, 2), torch.tensor([[x, y]]).expand(count, 2), torch.zeros(count, dtype=torch.bool), middle)


def test_the_gradient_has_its_closed_form():
    scores = torch.randn(5, 7, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for axis in (0, 1):
        leaf = scores.clone().requires_grad_()
        soft_argmax(leaf[None, None], 1.7)[0, 0, axis].backward()
        torch.testing.assert_close(leaf.grad, soft_argmax_gradient(scores, 1.7)[axis], atol=1e-9, rtol=0)


def test_a_flat_map_answers_its_centre_and_a_sharp_one_its_peak():
    torch.testing.assert_close(soft_argmax(torch.zeros(1, 1, 64, 64))[0, 0], torch.tensor([31.5, 31.5]))
    scores = torch.zeros(1, 1, 9, 9)
    scores[0, 0, 2, 6] = 1.0
    torch.testing.assert_close(soft_argmax(scores, 200.0)[0, 0], torch.tensor([6.0, 2.0]))
    torch.testing.assert_close(soft_argmax(scores, 0.0)[0, 0], torch.tensor([4.0, 4.0]))


def test_two_equal_peaks_answer_the_middle():
    scores = torch.full((1, 1, 1, 61), -1e4)
    scores[..., [10, 50]] = 0.0
    assert soft_argmax(scores)[0, 0, 0].item() == pytest.approx(30.0, abs=1e-4)


def test_rolling_a_compact_map_moves_the_answer_as_far():
    scores = torch.full((1, 1, 20, 20), -50.0)
    scores[0, 0, 5:8, 4:7] = torch.arange(9.0).view(3, 3)
    moved = soft_argmax(scores.roll((3, 2), (2, 3)))
    torch.testing.assert_close(moved - soft_argmax(scores), torch.tensor([[[2.0, 3.0]]]), atol=1e-4, rtol=0)


def test_equivariance_of_a_constant_is_the_shift_and_of_an_oracle_zero():
    points, warp = torch.full((1, 3, 2), 10.0), shift_by(3.0, -2.0)
    torch.testing.assert_close(equivariance_error(points, points, warp), torch.full((1, 3), 5.0))
    assert equivariance_error(warp.landmarks(points), points, warp).abs().max() < 1e-5
    assert equivariance_error(points, points, shift_by(0.0, 0.0)).abs().max() < 1e-5


def test_points_that_leave_the_image_do_not_count():
    points = torch.tensor([[[38.0, 5.0], [5.0, 5.0]]])
    assert equivariance_error(points, points, shift_by(3.0, 0.0)).tolist() == [[0.0, 3.0]]


@pytest.mark.parametrize("reads", ["landmarks", "features", "maps"])
def test_the_attribute_teaches_the_first_convolution_unless_it_is_detached(reads):
    for detached in (False, True):
        network = build(reads=reads, detached=detached)
        network.both(faces()["images"])[1].square().sum().backward()
        first = network.unet.encoder[0][0].weight.grad
        assert (first is None) if detached else first.abs().sum() > 0


def test_sequential_attribute_depends_on_the_landmarks_alone():
    network, images = build(), faces()["images"]
    landmarks, attribute = network.both(images)
    torch.testing.assert_close(attribute, network.attribute_of(landmarks))
    torch.testing.assert_close(landmarks, network(images))


def test_the_ramp_has_its_ends():
    assert [ramp(torch.tensor(p), 0.1, 0.5).item() for p in (0.0, 0.1, 0.3, 0.5, 1.0)] == pytest.approx([0, 0, 0.5, 1, 1])


def test_equivariance_asks_for_no_label():
    batch, network = data(), build()
    network.progress.fill_(1.0)
    wrong = {"labelled": batch["labelled"], "unlabelled": {**batch["unlabelled"], "attributes": torch.full((6, 2), torch.nan)}}
    parts = [Objective(15.0, equivariance=1.0)(network, each, torch.Generator().manual_seed(0)) for each in (batch, wrong)]
    assert parts[0]["equivariance"] > 0
    torch.testing.assert_close(parts[0], parts[1])
    still = Objective(15.0, equivariance=1.0, still=True)(network, batch, torch.Generator().manual_seed(0))
    assert still["equivariance"] < 1e-3


def test_labels_move_with_the_images_only_under_augmentation():
    batch, network = data(), build()
    plain = Objective(15.0, augmented=False)(network, batch, torch.Generator().manual_seed(0))
    expected = (network(batch["labelled"]["images"]) - batch["labelled"]["landmarks"]).abs().sum(dim=(1, 2)).mean() / (19 * 15.0)
    torch.testing.assert_close(plain["landmarks"], expected)
    generator = torch.Generator().manual_seed(0)
    warp = draw_warp(batch["labelled"]["images"], generator, rotation=20.0, scale=0.15, shift=0.05, flip=0.0)
    moved = Objective(15.0)(network, batch, torch.Generator().manual_seed(0))
    answer = network(warp.images(batch["labelled"]["images"]))
    expected = (answer - warp.landmarks(batch["labelled"]["landmarks"])).abs().sum(dim=(1, 2)).mean() / (19 * 15.0)
    torch.testing.assert_close(moved["landmarks"], expected)


def test_a_training_lowers_every_part():
    network = build()
    history = fit(
        network, Objective(15.0, equivariance=1.0, attribute=1.0), data(), steps=60, batch_size={"labelled": 4, "unlabelled": 2},
        learning_rate=5e-3, clip=1.0, after_step=Follow(60), progress=False,
    )  # fmt: skip
    assert network.progress.item() == pytest.approx(1.0)
    assert set(history.parts) == {"landmarks", "equivariance", "attribute", "anchor"}
    assert history.parts["landmarks"][-1] < history.parts["landmarks"][0]

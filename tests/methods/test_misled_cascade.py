"""Broken cascades are broken in what they hand on, and only there."""

import pytest
import torch

from facelab.blocks import seeded
from facelab.methods.decafa import DeCaFA, MisledCascade

SIZES = {"markups": (5,), "stages": 2, "channels": (4, 8)}


def outputs(fault):
    with seeded(0):
        model = MisledCascade(fault, **SIZES).eval()
        images = torch.rand(2, 1, 16, 16)
    with torch.no_grad():
        return model, images, model(images)


def test_without_a_fault_it_is_the_cascade():
    model, images, found = outputs("")
    plain = DeCaFA(**SIZES).eval()
    plain.load_state_dict(model.state_dict())
    with torch.no_grad():
        torch.testing.assert_close(found[-1].landmarks[5], plain(images)[-1].landmarks[5])


@pytest.mark.parametrize("fault", ["blind_stages", "attention_of_another_face"])
def test_a_fault_spares_the_first_stage_and_changes_the_second(fault):
    _, _, right = outputs("")
    _, _, wrong = outputs(fault)
    torch.testing.assert_close(wrong[0].landmarks[5], right[0].landmarks[5])
    assert not torch.allclose(wrong[1].logits[5], right[1].logits[5], atol=1e-4)


def test_blind_stages_are_handed_zeros_and_the_others_what_belongs_to_the_next_face():
    model, images, found = outputs("blind_stages")
    assert not model.fuse(images, found[0]).any()
    model.fault = "attention_of_another_face"
    torch.testing.assert_close(model.fuse(images, found[0]), DeCaFA.fuse(model, images, found[0]).flip(0))

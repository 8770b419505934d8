"""The lie about the pose: what moves with it, and what must not."""

import numpy as np
import pytest
import torch
from small_cascade import faces

from facelab.blocks import seeded
from facelab.explorers import PoseGateExplorer
from facelab.methods.acdc import ACDC


def build(**options):
    images, truth = faces(3, 32)
    with seeded(0):
        model = ACDC(**{"landmarks": 5, "channels": (4, 8)} | options).eval()
    return PoseGateExplorer(images, model, truth=truth), images, truth


def test_a_told_pose_moves_gates_and_landmarks_and_answers_soon():
    explorer, *_ = build()
    texts = set()
    for yaw in (-90, 0, 90):
        explorer.set(yaw=yaw)
        assert explorer.error is None
        texts.add(explorer.shown.text.split("the gates")[1])
    assert len(texts) == 3, "three lies, three answers"


def test_the_caption_counts_what_the_network_says():
    explorer, images, truth = build()
    with seeded(0):
        model = ACDC(landmarks=5, channels=(4, 8)).eval()
    with torch.no_grad():
        own = model(torch.from_numpy(images[[1]]))
        told = model(torch.from_numpy(images[[1]]), torch.tensor([[45.0, 10.0, -20.0]]))
    moved = float((told[1].landmarks - own[1].landmarks).norm(dim=-1).mean())
    text = explorer.view(image=1, yaw=45, pitch=10, roll=-20).text
    assert f"stage 2 by {moved:.2f} px" in text
    error = np.linalg.norm(own[1].landmarks[0].numpy() - truth[1], axis=1).mean()
    assert f"own pose {error:.2f} px" in text


def test_what_cannot_be_explored_is_refused():
    with pytest.raises(ValueError, match="no gate"):
        build(fusion="attention")
    images, truth = faces(3, 32)
    with pytest.raises(ValueError, match="3 images and 2"):
        PoseGateExplorer(images, ACDC(landmarks=5, channels=(4, 8)), truth=truth[:2])

"""The recombinator explorer shows what the networks say, for every value of every control."""

import numpy as np
import pytest
import torch

from facelab.blocks import argmax_position, seeded
from facelab.explorers.recombinator import RecombinatorExplorer
from facelab.methods.recombinator import RCN, SumNet

pytestmark = pytest.mark.slow

SIZE = 16
IMAGES = np.random.default_rng(0).random((3, 1, SIZE, SIZE)).astype(np.float32)
TRUTH = np.random.default_rng(1).uniform(2, SIZE - 3, (3, 5, 2))
NAMES = ["image", "landmark", "level_0", "level_1", "level_2", "cut", "side", "x", "y"]


def networks() -> tuple[SumNet, RCN]:
    with seeded(0):
        return SumNet(5, channels=(4, 4, 4)), RCN(5, channels=(4, 4, 4))


@pytest.fixture
def explorer() -> RecombinatorExplorer:
    return RecombinatorExplorer(IMAGES, *networks(), truth=TRUTH, refine=lambda scores: scores + torch.linspace(0, 1, SIZE))


@pytest.mark.parametrize(
    "change",
    [{"level_0": False}, {"level_1": False}, {"level_2": False}, {"cut": 0}, {"cut": 1}, {"side": 6}, {"image": 2}, {"landmark": 3}],
)
def test_each_control_changes_the_view(explorer, change):
    before, after = explorer.view(), explorer.view(**change)
    assert before.text != after.text
    assert (before.picture.rgb() != after.picture.rgb()).any()


def test_the_caption_says_what_the_networks_say(explorer):
    batch, (sumnet, rcn) = torch.from_numpy(IMAGES[1:2]), networks()
    with torch.inference_mode():
        summed = argmax_position(sumnet.branch_scores(batch)[0] + sumnet.branch_scores(batch)[2])[0, 2].numpy()
        silenced = argmax_position(rcn(batch, own=[1, 0, 1], coarse=[0, 1, 1]))[0, 2].numpy()
    text = explorer.view(image=1, landmark=2, level_1=False, cut=0).text
    assert f"SumNet {np.linalg.norm(summed - TRUTH[1, 2]):.1f} px off" in text
    assert f"RCN {np.linalg.norm(silenced - TRUTH[1, 2]):.1f} px off" in text
    assert "without 8×8" in text
    assert "no coarse features into 16×16" in text


def test_no_level_at_all_knows_nothing(explorer):
    text = explorer.view(level_0=False, level_1=False, level_2=False).text
    centre = np.full(2, (SIZE - 1) / 2)
    assert f"SumNet {np.linalg.norm(centre - TRUTH[0, 0]):.1f} px off, probability {1 / SIZE**2:.2f}" in text


def test_pointer_moves_the_square_and_picks_the_landmark(explorer):
    explorer.click(0, *TRUTH[0, 4])
    assert explorer.values["landmark"] == 4
    explorer.drag(0, (3.0, 3.0), (40.0, 5.2))
    assert {key: explorer.values[key] for key in ("x", "y", "side")} == {"x": SIZE - 1, "y": 5, "side": SIZE // 4}
    explorer.drag(0, (SIZE + 3.0, 3.0), (4.0, 4.0))  # not on the face
    explorer.click(0, 3.0, SIZE + 3.0)
    assert explorer.values["y"] == 5
    assert explorer.values["landmark"] == 4


@pytest.mark.parametrize(("images", "truth", "mask"), [(IMAGES[0], TRUTH, None), (IMAGES, TRUTH[:2], None), (IMAGES, TRUTH, (1, 0, 1))])
def test_what_does_not_fit_is_refused(images, truth, mask):
    sumnet = SumNet(5, channels=(4, 4, 4), mask=mask)
    with pytest.raises(ValueError, match=r"shape|levels"):
        RecombinatorExplorer(images, sumnet, RCN(5, channels=(4, 4, 4)), truth=truth)

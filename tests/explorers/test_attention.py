"""The attention explorer shows what the network says, for every value of every control."""

import numpy as np
import pytest
import torch
from small_cascade import Cascade, faces

from facelab.batch import FaceBatch
from facelab.explorers import AttentionExplorer, stages_from_maps
from facelab.methods.decafa import DeCaFA

pytestmark = pytest.mark.slow

IMAGES, TRUTH = faces()
CONTROLS = ("image", "stage", "landmark", "markup", "use", "x", "y", "size")


@pytest.fixture
def explorer() -> AttentionExplorer:
    return AttentionExplorer(IMAGES, Cascade(), truth=TRUTH)


@pytest.mark.parametrize("change", [{"image": 1}, {"stage": 1}, {"landmark": 0}, {"use": -1}, {"use": 0}, {"use": 1}])
def test_each_control_changes_the_picture(explorer, change):
    assert not np.array_equal(explorer.static(**change).rgb(), explorer.shown.picture.rgb())


def test_the_square_changes_the_picture_once_it_is_used(explorer):
    changes = [{"x": 10}, {"y": 30}, {"size": 30}]
    assert all(np.array_equal(explorer.static(**change).rgb(), explorer.shown.picture.rgb()) for change in changes)
    explorer.set(use=-1)
    assert not any(np.array_equal(explorer.static(**change).rgb(), explorer.shown.picture.rgb()) for change in changes)


def test_the_caption_says_what_the_network_says(explorer):
    with torch.inference_mode():
        stages = Cascade()(torch.from_numpy(IMAGES[1:2]))
    x, y = stages[1].landmarks[5][0, 3].tolist()
    off = np.linalg.norm(stages[1].landmarks[5][0].numpy() - TRUTH[1], axis=-1)
    error = 100 * off.mean() / np.linalg.norm(TRUTH[1, 0] - TRUTH[1, 1])
    text = explorer.view(image=1, stage=2, landmark=3).text
    assert f"expected at ({x:.1f}, {y:.1f}) px" in text
    assert f"{off[3]:.1f} px from the truth" in text
    assert f"error of the whole face {error:.1f} %" in text


def test_the_grey_patch_is_what_the_network_sees(explorer):
    covered = IMAGES[:1].copy()
    covered[0, 0, 15:26, 5:16] = 0.5
    with torch.inference_mode():
        x, y = Cascade()(torch.from_numpy(covered))[2].landmarks[5][0, 2].tolist()
    text = explorer.view(use=-1, x=10, y=20, size=10).text
    assert f"expected at ({x:.1f}, {y:.1f}) px" in text


def test_hidden_attention_moves_later_stages_only(explorer):
    before = [explorer.view(stage=s).text.split(";")[0] for s in (1, 2, 3)]
    after = [explorer.view(stage=s, use=0, x=24, y=26, size=14).text.split(";")[0] for s in (1, 2, 3)]
    assert before[0] == after[0]
    assert before[1] != after[1]


def test_a_click_picks_the_nearest_landmark(explorer):
    points = explorer._stages(0, None)[1][2].landmarks[5].astype(float)
    for landmark in (4, 0):
        explorer.click(0, *(points[landmark] + 0.4).tolist())
        assert explorer.values["landmark"] == landmark
    explorer.click(1, 0.0, 0.0)
    assert explorer.values["landmark"] == 0


def test_a_drag_opens_a_square_and_a_second_one_moves_it(explorer):
    explorer.drag(0, (10.0, 10.0), (20.0, 22.0))
    assert {k: explorer.values[k] for k in ("use", "x", "y", "size")} == {"use": -1, "x": 15, "y": 16, "size": 12}
    for end in ((20.0, 20.0), (25.0, 16.0)):
        explorer.drag(0, (15.0, 16.0), end)
    assert {k: explorer.values[k] for k in ("x", "y", "size")} == {"x": 25, "y": 16, "size": 12}
    explorer.drag(0, (25.0, 16.0), (400.0, -50.0))
    assert (explorer.values["x"], explorer.values["y"]) == (47, 0)


def test_a_coarser_markup_has_fewer_landmarks():
    torch.manual_seed(0)
    network = DeCaFA(markups=(68, 5), stages=2, channels=(4, 6), stride=2).eval()
    truth = np.random.default_rng(0).uniform(5, 43, (3, 68, 2))
    faces = FaceBatch(np.repeat((IMAGES[:, 0, ..., None] * 255).astype(np.uint8), 3, -1), truth, np.arange(3), names=("a", "b", "c"))
    explorer = AttentionExplorer(faces, network)
    explorer.set(landmark=60)
    explorer.set(markup=5)
    assert explorer.error is None and explorer.values["landmark"] == 4
    assert "4 left mouth corner" in explorer.shown.text and "error of the whole face" in explorer.shown.text


def test_a_network_that_cannot_be_edited_is_not_offered_editing():
    explorer = AttentionExplorer(IMAGES, lambda images: Cascade()(images))
    assert [value for _, value in explorer.controls["use"].options] == [-2, -1]
    assert explorer.error is None
    explorer.set(use=-1)
    assert "moved" in explorer.shown.text, "without a truth the caption says how far the patch moved the landmark"


def test_branches_count_as_stages():
    predict = stages_from_maps(lambda images: [stage.maps[5] for stage in Cascade()(images)])
    explorer = AttentionExplorer(IMAGES, predict, truth=TRUTH, stage_names=("coarse", "middle", "fine"))
    assert explorer.shown.text.startswith("face 0, fine")
    expected = AttentionExplorer(IMAGES, Cascade(), truth=TRUTH).shown.text
    assert explorer.shown.text.split(":")[1] == expected.split(":")[1]


def test_wrong_shapes_are_named():
    with pytest.raises(ValueError, match=r"gray \(B,1,H,W\).*\(3, 48, 48\)"):
        AttentionExplorer(IMAGES[:, 0], Cascade())
    with pytest.raises(ValueError, match=r"\(3, K, 2\).*\(2, 5, 2\)"):
        AttentionExplorer(IMAGES, Cascade(), truth=TRUTH[:2])

"""The gating-tree explorer shows what the gate decides, for every sample and every value of every control."""

import numpy as np
import pytest
import torch
from small_mixture import Mixture
from torch import nn

from facelab.blocks import TreeGate, leaf_probabilities
from facelab.explorers import GatingTreeExplorer, face_sweep
from facelab.explorers.gating_tree import COLLECTION, attribute, run_gates
from facelab.pictures.gating_tree import BARS, CURVE, END_PLACES, ENDS, FAVOURITE, OWN, TILE, TREE, end_images, slots
from facelab.pictures.trees import node_places
from facelab.worlds import faces

pytestmark = pytest.mark.slow

SIZE, STEPS = 32, np.linspace(-40, 40, 7)
FACES = faces.render(12, 0, SIZE, channels=(), yaw=(-40, 40))
SWEEP = face_sweep("yaw", STEPS, face=3, size=SIZE)
YAW = "yaw (°)"


def build(depth=3, **options) -> GatingTreeExplorer:
    return GatingTreeExplorer(Mixture(SIZE, depth, **options), FACES, sweeps={YAW: SWEEP}, landmarks=lambda output: output)


@pytest.fixture
def explorer() -> GatingTreeExplorer:
    return build()


class Two(nn.Module):
    """A model with two gates of different depth, one after the other, whose output is no tensor."""

    def __init__(self):
        super().__init__()
        self.first, self.second = Mixture(SIZE, 2), Mixture(SIZE, 4, seed=1)

    def forward(self, images):
        return {"coarse": self.first(images), "fine": (self.first(images[:0]), self.second(images))[1]}


class Both(Two):
    """As `Two`, each gate asked once."""

    def forward(self, images):
        return {"coarse": self.first(images), "fine": self.second(images)}


@pytest.mark.parametrize("change", [{"source": YAW}, {"image": 1}, {"node": 2}, {"node": 15}])
def test_each_control_changes_the_picture(explorer, change):
    assert not np.array_equal(explorer.static(**change).rgb(), explorer.shown.picture.rgb())


@pytest.mark.parametrize("depth", [1, 3, 5, 10])
def test_path_probabilities_are_those_of_the_forward_pass(depth):
    """To 1e-6, on every sample that can be shown, each passed through the model alone; and every node is what its leaves sum to."""
    explorer, model = build(depth), Mixture(SIZE, depth).eval()
    for source, batch in ((COLLECTION, FACES), (YAW, SWEEP[1])):
        flow = explorer.flow(source=source)
        assert len(flow.reach) == len(batch)
        for image, pixels in enumerate(torch.from_numpy(batch.gray())):
            with torch.inference_mode():
                logits, _ = run_gates(model, {"gate": model.gate}, pixels[None])
                expected = leaf_probabilities(logits["gate"])[0].numpy()
            assert np.abs(flow.leaves[image] - expected).max() < 1e-6
            for level in range(depth + 1):
                nodes = flow.reach[image, 2**level - 1 : 2 ** (level + 1) - 1]
                assert np.abs(nodes - expected.reshape(2**level, -1).sum(axis=1)).max() < 1e-6


def test_what_is_drawn_is_the_flow(explorer):
    """Widths of the branches, lengths of the bars and the caption."""
    view = explorer.view(image=4, node=5)
    reach, usage = explorer.flow().reach[4], explorer.flow().leaves.mean(axis=0)
    branches = next(c for c in view.picture.axes[0].collections if len(np.atleast_1d(c.get_linewidth())) > 1)
    root = branches.get_linewidth()[reach[1:3].argmax()] / reach[1:3].max()
    assert np.allclose(branches.get_linewidth(), (root * reach[1:])[root * reach[1:] > 0.05])
    bars = next(c for c in view.picture.axes[0].collections if len(c.get_paths()) == 8 and c.get_paths()[0].vertices[0, 1] == BARS[1])
    lengths = np.array([np.ptp(path.vertices[:, 1]) for path in bars.get_paths()])
    assert np.allclose(lengths / BARS[3], reach[7:] / max(reach[7:].max(), usage.max()))
    left = reach[9] / reach[4]
    assert f"node 5 (←→) is reached with {reach[4]:.1%} and sends {left:.1%} of that left" in view.text
    assert f"likeliest is leaf {reach[7:].argmax()} ({reach[7:].max():.1%})" in view.text


def test_own_answers_are_the_experts(explorer):
    """Where the tree ends in landmarks of its own, the points drawn in the small images are those, and the face has the mixture's."""
    model = Mixture(SIZE, 3)
    drawn = [line.get_xydata() for line in explorer.view(image=2).picture.axes[0].lines if line.get_marker() == "o"]
    own = next(points for points in drawn if len(points) == 8 * 5)
    across = slots(explorer.flow().leaves[2], None)[1]
    corners = np.stack([across - TILE / 2, np.full(8, OWN)], axis=1)[:, None]
    assert np.allclose(own.reshape(8, 5, 2), corners + (model.answers.numpy() + 0.5) * TILE / SIZE)
    assert any(len(points) == 5 for points in drawn)


def test_favourites_and_ends_are_the_likeliest():
    flow = build(3).flow(source=COLLECTION)
    leaf = flow.favourites(8 + 5, 3)
    assert leaf == np.argsort(-flow.leaves[:, 5])[:3].tolist()
    ends = end_images(flow, 3)
    assert len(ends) == 8
    assert flow.reach[ends[0], 5] == flow.reach[:, 5].max() and flow.reach[ends[-1], 6] == flow.reach[:, 6].max()
    assert end_images(flow, 9) == flow.favourites(9, 8)


@pytest.mark.parametrize("depth", [2, 5, 6])
def test_clicks_on_the_tree_pick_the_node(depth):
    explorer = build(depth)
    rows = np.arange(2 ** (depth + 1) - 1)
    if depth <= 5:
        places = node_places(depth, TREE)
    else:  # the middles of the bands
        level = np.array([int(n + 1).bit_length() - 1 for n in rows])
        x = (rows + 1 - 2**level + 0.5) / 2**level
        places = np.stack([TREE[0] + x * TREE[2], TREE[1] + (level + 0.5) / (depth + 1) * TREE[3]], axis=1)
    for node in (1, 2, 3, 2**depth - 1, 2**depth, 2 ** (depth + 1) - 1):
        explorer.click(0, *places[node - 1].tolist())
        assert explorer.values["node"] == node and explorer.error is None


def test_clicks_on_small_images_and_on_the_curve(explorer):
    explorer.click(0, float(slots(explorer.flow().leaves[0], None)[1][6]), OWN + 0.4)
    assert explorer.values["node"] == 8 + 6
    explorer.click(0, float(slots(explorer.flow().leaves[0], None)[1][1]), FAVOURITE + 0.4)
    assert explorer.values["node"] == 8 + 1
    favourites = end_images(explorer.flow(), 9)
    explorer.set(source=YAW, image=2)
    explorer.click(0, CURVE[0] + CURVE[2], CURVE[1] + 0.3)
    assert explorer.values["image"] == 6 and explorer.shown.text.startswith(f"{YAW} = 40")
    explorer.click(0, float(END_PLACES[3]), ENDS + 0.2)
    assert (explorer.values["source"], explorer.values["image"]) == (COLLECTION, favourites[3])
    before = explorer.values
    explorer.click(0, 1.0, 1.0)
    explorer.click(0, CURVE[0] + 0.1, CURVE[1] + 0.3)  # no sweep: nothing to pick
    assert explorer.values == before and explorer.error is None


def test_attribution_is_complete_and_the_same_by_captum():
    """Its sum is the difference of the decision's logits, and captum's integrated gradients with the same midpoints agree."""
    from captum.attr import IntegratedGradients

    model = Mixture(SIZE, 3).eval()
    images = torch.from_numpy(FACES.gray())
    baseline = images.mean(dim=0)

    def score(batch):  # curved, so that steps matter
        return torch.tanh(run_gates(model, {"gate": model.gate}, batch)[0]["gate"][:, 4] / 4)

    ours = attribute(score, images[3], baseline, steps=64)
    difference = (score(images[3:4]) - score(baseline[None])).item()
    assert abs(difference) > 0.01 and ours.sum() == pytest.approx(difference, rel=1e-3)
    theirs = IntegratedGradients(score).attribute(images[3:4], baseline[None], n_steps=64, method="riemann_middle")[0, 0].detach().numpy()
    assert np.allclose(ours, theirs, atol=1e-6)


def test_without_a_gradient_squares_are_covered():
    explorer = build(detached=True)
    assert explorer.error is None
    model = Mixture(SIZE, 3, detached=True).eval()
    images = torch.from_numpy(FACES.gray())
    baseline = images.mean(dim=0)

    def score(batch):
        return run_gates(model, {"gate": model.gate}, batch)[0]["gate"][:, 0]

    by_squares = attribute(score, images[0], baseline)
    covered = images[0].clone()
    covered[:, 4:8, 8:12] = baseline[:, 4:8, 8:12]
    with torch.inference_mode():
        lost = (score(images[:1]) - score(covered[None])).item()
    assert by_squares[4:8, 8:12].sum() == pytest.approx(lost, abs=1e-5)


def test_several_gates_are_a_choice():
    explorer = GatingTreeExplorer(Both(), FACES, landmarks=lambda output: output["fine"])
    assert [value for _, value in explorer.controls["gate"]._options_full] == ["first.gate", "second.gate"]
    explorer.set(gate="second.gate", node=31)
    assert explorer.error is None and explorer.controls["node"].max == 31 and "leaf 15" in explorer.shown.text
    explorer.set(gate="first.gate")
    assert explorer.error is None and explorer.values["node"] == 7
    model = Both()
    for one in (model.second.gate, "second.gate"):
        alone = GatingTreeExplorer(model, FACES, gate=one)
        assert "gate" not in alone.controls and alone.controls["node"].max == 31 and alone.error is None


def test_a_model_without_landmarks_and_few_images():
    explorer = GatingTreeExplorer(Mixture(SIZE, 2), FACES.color()[:3, :1], names=["a", "b", "c"])
    assert explorer.error is None and explorer.shown.text.startswith("a:")
    explorer.set(node=7)
    assert explorer.error is None
    assert len([line for line in explorer.shown.picture.axes[0].lines if len(line.get_xydata()) > 8]) == 0


def test_a_sweep_changes_nothing_but_its_factor():
    steps, batch = face_sweep("yaw", STEPS, face=3, size=SIZE)
    assert np.allclose(batch.yaw, STEPS) and np.ptp(batch.factors["pitch"]) == 0 and np.array_equal(steps, STEPS)
    assert np.array_equal(batch.images[2], SWEEP[1].images[2]) and not np.array_equal(batch.images[2], batch.images[3])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"model": nn.Linear(2, 2)}, "no TreeGate in Linear"),
        ({"gate": "other"}, "no gate 'other'; it has gate"),
        ({"gate": TreeGate(2, 1)}, "like the one given"),
        ({"images": np.zeros((3, SIZE, SIZE))}, r"FaceBatch or \(B,C,H,W\).*\(3, 32, 32\)"),
        ({"images": np.zeros((0, 1, SIZE, SIZE))}, "at least one"),
        ({"names": ["a"]}, "1 names for 12 images"),
        ({"sweeps": {"yaw": (STEPS[:3], SWEEP[1])}}, "'yaw' has 7 images"),
        ({"sweeps": {"yaw": (-STEPS, SWEEP[1])}}, "increasing"),
        ({"sweeps": {"yaw": ([0, 1], np.zeros((2, 1, 16, 16)))}}, "render them alike"),
        ({"landmarks": lambda output: output[:, 0]}, r"must give \(B,K,2\)"),
        ({"model": Two()}, r"'first.gate' got 12 \+ 0 samples for 12 images"),
    ],
)
def test_bad_arguments_are_named(arguments, message):
    model, images = arguments.pop("model", Mixture(SIZE, 3)), arguments.pop("images", FACES)
    with pytest.raises(ValueError, match=message):
        GatingTreeExplorer(model, images, **arguments)

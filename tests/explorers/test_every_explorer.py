"""Every explorer: each control at both ends and the middle; live, static and saved are one view; labelled; fits a small screen."""

import base64
import itertools
import json
import re
import warnings
from functools import lru_cache
from io import BytesIO

import ipywidgets
import numpy as np
import pandas as pd
import pytest
import small_attribution
import torch
from importance_tables import tables
from PIL import Image
from small_cascade import Cascade, faces
from small_mixture import Mixture

from facelab import explorers
from facelab.blocks import ShapeModel, seeded, triangulation
from facelab.blocks.face_features import face_features, landmarks_of_features
from facelab.explorers import stops
from facelab.explorers.explorer import TALLEST
from facelab.methods.acdc import ACDC
from facelab.methods.archtree import Candidates, grow
from facelab.methods.deesco import Design, GazeEnsemble
from facelab.methods.features_under_stress import Descriptor
from facelab.methods.gnf import NeuralForestRegressor, train_cascades
from facelab.methods.lep import LocalSubspaceForest, relative_areas
from facelab.methods.recombinator import RCN, SumNet
from facelab.methods.semi_supervised_landmarks import SemiSupervisedLandmarks
from facelab.methods.singe import walk
from facelab.methods.thin import THIN, ExogenousNetwork
from facelab.networks.groups import groups

pytestmark = pytest.mark.slow

WIDEST = 1150
"""Pixels: what JupyterLab leaves of 1366 beside a cell's number and the margins."""


def attention():
    images, truth = faces()
    return explorers.AttentionExplorer(images, Cascade(), truth=truth)


def gating_tree(depth: int):
    images, light = faces(9, 32)[0], np.linspace(0.3, 1, 5, dtype=np.float32)
    sweep = light, images[:1] * light[:, None, None, None]
    return explorers.GatingTreeExplorer(Mixture(32, depth), images, sweeps={"light": sweep}, landmarks=lambda output: output)


def gaze():
    with seeded(0):
        ensembles = {"unlike heads": GazeEnsemble(), "equal heads": GazeEnsemble([Design()] * 4)}
        crops, truth = torch.rand(3, 2, 24, 24), 2 * torch.rand(3, 2) - 1
    return explorers.GazeExplorer(crops, ensembles, truth=truth, scale=50.0)


def layer_importance():
    layers, criteria, sensitivity, budgets = tables(40, ties=((1, 3), (8, 10, 12)))
    return explorers.LayerImportanceExplorer(layers, criteria[criteria.criterion != "flat"], sensitivity, budgets)


def recombinator():
    images, truth = faces(3, 32)
    with seeded(0):
        networks = SumNet(5, channels=(4, 4, 4)), RCN(5, channels=(4, 4, 4))
    return explorers.RecombinatorExplorer(images, *networks, truth=truth, refine=lambda scores: scores)


def search_tree():
    with seeded(0):
        model = torch.nn.Sequential(
            torch.nn.Linear(6, 16), torch.nn.ReLU(), torch.nn.Linear(16, 12), torch.nn.ReLU(), torch.nn.Linear(12, 3)
        )
        data = torch.randn(30, 6), torch.arange(30) % 3
    candidates = Candidates(model, data[0], data)
    trees = {f"beam {beam}": grow(candidates, lambda widths: float(sum(widths.values())), 14.0, beam=beam, step=2) for beam in (1, 4)}
    return explorers.SearchTreeExplorer(trees)


def pose_gate():
    images, truth = faces(3, 32)
    with seeded(0):
        model = ACDC(landmarks=5, channels=(4, 8))
    return explorers.PoseGateExplorer(images, model.eval(), truth=truth[:, :5])


def label_noise():
    generator, names = np.random.default_rng(0), ("float", "2 bits")
    truth = np.arange(12) % 2
    given = {0.2: np.where(np.arange(12) < 2, 1 - truth, truth), 0.4: np.where(np.arange(12) < 5, 1 - truth, truth)}
    stories = {
        (share, name): explorers.Story(generator.random((2, 6, 8)), generator.integers(2, size=(2, 12)))
        for share in given
        for name in names
    }
    points = generator.random((12, 2))
    return explorers.LabelNoiseExplorer(points, truth, given, stories, steps=(10, 20), extent=(0.0, 1.0, 0.0, 1.0))


def maps():
    images, generator = faces(3, 32)[0], np.random.default_rng(0)
    shown = {"attention": generator.random((3, 8, 8)), "signed": generator.normal(size=(3, 32, 32)), "nothing": np.zeros((3, 4, 4))}
    return explorers.MapExplorer(images, shown, truth=images[:, 0] > 0.6)


def neighbours():
    images = faces(20, 16)[0]
    spaces = {"pixels": images.reshape(20, -1), "brightness": images.mean(axis=(1, 2, 3))[:, None]}
    return explorers.NeighbourExplorer(spaces, images, labels=np.arange(20) % 3)


def curves():
    x = np.geomspace(0.001, 10, 30)
    made = {"shift": (-1.0, 1.0), "absolute": False}

    def values(shift, absolute):
        waves = {f"method {i}": np.sin(x + i) + shift for i in range(3)}
        return {name: np.abs(wave) for name, wave in waves.items()} if absolute else waves

    return explorers.CurveExplorer(x, values, label="learning rate", value_label="error, %", controls=made, logarithmic=True)


def cascade():
    images, truth = faces(4, 32)
    model = ShapeModel.of(np.concatenate([truth, truth + np.random.default_rng(0).normal(size=truth.shape)]).astype(float), modes=2)
    start, features = model.shape(model.parameters(truth) * 0.5), np.random.default_rng(1).normal(size=(4, 6))
    regressor = NeuralForestRegressor(trees=2, depth=2, width=4, steps=5)
    plans = train_cascades(["PE", "EE"], regressor, model, lambda shapes: features, start, truth.astype(float))
    return explorers.CascadeExplorer(images, plans, lambda shapes, number: features[[number]], start, truth.astype(float))


def equivariance():
    images = faces(3, 40)[0]
    with seeded(0):
        networks = {name: SemiSupervisedLandmarks(5, 2, channels=(4, 8)) for name in ("before", "after")}
    return explorers.EquivarianceExplorer(images, networks)


def splitting():
    return explorers.SplitExplorer(torch.randn(40, 12, generator=torch.Generator().manual_seed(0)))


def bandwidth():
    generator, scales = np.random.default_rng(0), np.array([0.1, 0.5, 1.0, 2.0])
    layers = {"first": generator.normal(size=(20, 30)), "second": np.repeat([-1.0, 0.0, 2.0], 40)}
    return explorers.BandwidthExplorer(layers, scales, {"density": 90 - 20 * scales, "k-means": 90 - 5 * scales})


def exponent():
    generator = np.random.default_rng(0)
    return explorers.ExponentExplorer({"first": generator.normal(size=(20, 30)), "second": generator.laplace(size=(8, 4, 3, 3))})


def neuron_path():
    with seeded(0):
        model = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.ReLU(), torch.nn.Linear(3, 2)).double()
        inputs, targets = torch.randn(20, 4, dtype=torch.float64), torch.randint(0, 2, (20,))
    (group,), factors = groups(model, inputs), torch.linspace(1, 0.001, 21, dtype=torch.float64)
    given = (model, inputs, targets, torch.nn.functional.cross_entropy, group, factors)
    return explorers.NeuronPathExplorer({f"neuron {j}": walk(*given, neurons=[j]) for j in range(3)})


def compression():
    rng, rows, layers, weights = np.random.default_rng(0), [], [], []
    names = [f"layers.{number}.attention" for number in range(12)]
    for base in ("digits, residual", "landmarks, transformer"):
        for method, strength in (("original", 0.0), *itertools.product(("SInGE", "RED", "L1"), (0.25, 0.5, 0.75))):
            key, cost = {"base": base, "method": method, "strength": strength}, 1 - 0.8 * strength
            score, latency = 1 - 0.1 * strength + rng.normal(0, 0.01), cost**0.5
            costs = {"bytes": 1e5 * cost, "multiplies": 1e6 * cost, "latency": latency, "latency_low": 0.9 * latency}
            costs |= {"score_low": score - 0.02, "score_high": score + 0.02, "latency_high": 1.2 * latency}
            rows.append(key | costs | {"score": score, "unit": "share", "architecture": "16-24-24 | 10", "largest": names[3]})
            if strength:
                layers += [
                    key | {"layer": name, "depth": i, "before": 16, "after": 9, "unexplained": strength * rng.random()}
                    for i, name in enumerate(names)
                ]
            edges = np.linspace(-1, 1, 61)
            counts = np.histogram(rng.normal(0, 0.3, round(1000 * cost)), edges)[0]
            weights += [key | {"left": a, "right": b, "count": n} for a, b, n in zip(edges, edges[1:], counts, strict=False)]
    rows.append({"base": "digits, residual", "method": "RED++", "strength": 0.25, "note": "it cannot"})
    return explorers.CompressionExplorer(*map(pd.DataFrame, (rows, layers, weights)))


def swap():
    turns, generator = np.arange(-180, 180, 45), torch.Generator().manual_seed(0)
    with seeded(0):
        model = THIN(14, 5, ExogenousNetwork(14, 8, code=6), code=6, experts=4, hidden=3).eval()
    return explorers.SwapExplorer(torch.rand(3, len(turns), 1, 14, 14, generator=generator), turns, np.arange(3), model)


def stress():
    rng, kinds = np.random.default_rng(0), ("deep", "HOG")
    own = {kind: Descriptor(rng.random((12, 40)), np.arange(12) % 3, rng.random((6, 40)), np.arange(6) % 3) for kind in kinds}
    rows = [(*key, 10.0 + key[1], 20.0 + key[2]) for key in itertools.product(kinds, (2, 5, 10), (2, 4, 16))]
    return explorers.StressExplorer(own, pd.DataFrame(rows, columns=["kind", "dimensions", "levels", "right", "kept"]))


def occlusion():
    images, truth = faces(12, 32)
    points, labels = truth[:, :5].astype(float), np.arange(12) % 3
    triangles, mean = triangulation(torch.from_numpy(points.mean(axis=0))), points.mean(axis=0)
    corners = landmarks_of_features(5, triangles)

    def describe(pictures, places):
        return face_features(torch.from_numpy(pictures), torch.from_numpy(places).float(), triangles, (0, 1)).numpy()

    features, areas = describe(images, points), relative_areas(mean, triangles.numpy())
    forests = [
        LocalSubspaceForest(triangles.numpy(), areas, corners, fraction=share, trees=9).fit(features, labels) for share in (0.2, 1.0)
    ]
    names = ["neutral", "happiness", "sadness"]
    trust = lambda rows: 1 / (1 + np.abs(rows[:, : len(triangles)]))  # noqa: E731
    return explorers.OcclusionExplorer(images, points, mean, *forests, describe, trust, names, labels)


def table():
    rows = itertools.product(("noise", "pruning"), (0.25, 1.0, 2.0), (f"branches.{number}.attention.projection" for number in range(30)))
    frame = pd.DataFrame(rows, columns=["family", "level", "layer"])
    frame["drop"] = np.random.default_rng(0).normal(size=len(frame)) * frame.level
    frame = frame.assign(low=frame["drop"] - 0.1, high=frame["drop"] + 0.1, note="Measured on 40 samples.")
    return explorers.TableExplorer(frame, ["family", "level"], "layer", "drop", low="low", high="high", note="note", unit="nats")


BUILDERS = {
    "compression": compression,
    "attention": attention,
    "bandwidth": bandwidth,
    "cascade": cascade,
    "exponent": exponent,
    "attribution": small_attribution.explorer,
    "gating tree": lambda: gating_tree(3),
    "deep gating tree": lambda: gating_tree(6),
    "gaze": gaze,
    "label noise": label_noise,
    "layer importance": layer_importance,
    "photo": lambda: explorers.PhotoExplorer(Cascade()),
    "recombinator": recombinator,
    "pose gate": pose_gate,
    "search tree": search_tree,
    "world": lambda: explorers.WorldExplorer(face=3, size=64, channel="normals"),  # the quickest to draw
    "equivariance": equivariance,
    "maps": maps,
    "occlusion": occlusion,
    "neighbours": neighbours,
    "neuron path": neuron_path,
    "curves": curves,
    "smoothing": explorers.SmoothingExplorer,
    "splitting": splitting,
    "swap": swap,
    "stress": stress,
    "table": table,
    "ternary": explorers.TernaryExplorer,
    "codewords": explorers.CodewordExplorer,
}
built = lru_cache(lambda name: BUILDERS[name]())


@pytest.fixture(params=BUILDERS)
def explorer(request):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield built(request.param)


def ends_and_middle(control) -> list:
    """At most three values of a control."""
    values = stops(control)
    return [values[i] for i in sorted({0, len(values) // 2, len(values) - 1})]


def test_every_kind_of_explorer_is_here():
    known = {type(built(name)).__name__ for name in BUILDERS}
    assert known == {name for name in explorers.__all__ if name.endswith("Explorer") and name != "Explorer"}


def test_every_control_at_both_ends_and_the_middle(explorer):
    for name, control in explorer.controls.items():
        assert control.description, f"{name} has nothing beside it"
        for value in ends_and_middle(control):
            redraws = explorer.redraws
            explorer.set(**{name: value})
            assert explorer.error is None, (name, value, explorer.error)
            assert explorer.redraws == redraws + 1, "one change, one picture"
            assert explorer.shown.text.endswith(".") and not re.search(r"\bnan\b", explorer.shown.text), (name, value)
            assert_labelled(explorer.shown.picture)
            assert_fits(explorer)


def assert_labelled(picture) -> None:
    """Whoever has ticks says what they count."""
    for axes in picture.axes:
        if axes.axison:
            assert axes.get_xlabel() or not len(axes.get_xticks()), axes
            assert axes.get_ylabel() or axes.get_title(loc="left") or not len(axes.get_yticks()), axes


def assert_fits(explorer) -> None:
    """As JupyterLab lays it out: rows of controls of 20 em, the picture, and the caption, 13 pixels high; or all beside an accordion."""
    wide, tall = explorer.shown.picture.get_size_inches() * 96
    panel = explorer.widget.children[0]
    if isinstance(panel, ipywidgets.Accordion):
        beside, above, least = 23 * 13, 0, int(panel.layout.max_height.removesuffix("px"))
    else:
        beside, above, least = 0, 32 * -(-len(explorer.controls) // (WIDEST // (20 * 13 + 4))), 0
    lines = -(-len(explorer.shown.text) * 6.6 // (WIDEST - beside))
    assert beside + wide <= WIDEST
    assert max(above + tall + lines * 13 * 1.35, least) <= TALLEST, (above, tall, lines)


def test_live_static_and_saved_are_the_same_view(explorer, tmp_path):
    moved = [name for name in explorer.page if len(set(stops(explorer.controls[name]))) > 1][:2]
    grid = {name: ends_and_middle(explorer.controls[name])[:: 2 if len(moved) > 1 else 1] for name in moved}
    text = explorer.save_page(tmp_path / "page.html", grid).read_text(encoding="utf-8")
    assert explorer.name in text and not re.search(r"https?://", text)
    page = json.loads(re.search(r"const page = (.*);\n", text)[1].replace("<\\/", "</"))
    assert len(page["frames"]) == np.prod([len(values) for values in grid.values()])
    saved, live = [], []
    for place, (picture, caption) in page["frames"].items():
        values = {name: grid[name][int(index)] for name, index in zip(grid, place.split(","), strict=True)}
        static = explorer.view(**values)
        twin = static.picture.rgb()
        explorer.set(**values)
        assert explorer.error is None
        assert np.array_equal(np.asarray(Image.open(BytesIO(explorer.canvas.png))), twin), values
        assert explorer.canvas.text == static.text == caption
        saved.append(np.asarray(Image.open(BytesIO(base64.b64decode(picture)))).astype(float))
        live.append(twin.astype(float))
    for index, picture in enumerate(saved):  # webp keeps not every pixel, but is nearest to its own
        assert picture.shape == live[index].shape
        distances = [np.abs(picture - other).mean() for other in live]
        assert distances[index] < 6 and distances[index] <= min(distances) + 1e-9

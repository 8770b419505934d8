"""The attribution explorer shows what `attribute` says, for every value of every control, with masks and without."""

import numpy as np
import pytest
import torch
from torch import nn

from facelab.blocks import seeded
from facelab.explorers.attribution import NO_PART, QUICK, AttributionExplorer, spread
from facelab.explorers.explorer import stops
from facelab.explorers.subject import NINTHS
from facelab.importance.attribution import attribute
from facelab.importance.attribution.judging import mass_in_part
from facelab.networks.evaluation import evaluating
from facelab.pictures.attributions import sheet_corner

pytestmark = pytest.mark.slow

SIZE = 12
GENERATOR = np.random.default_rng(0)
IMAGES = GENERATOR.random((3, 3, SIZE, SIZE)).astype(np.float32)
COUNTERFACTUALS = np.clip(IMAGES[:, None] + GENERATOR.normal(0, 0.2, (3, 2, 1, SIZE, SIZE)), 0, 1).astype(np.float32)
TRUTH = np.abs(COUNTERFACTUALS - IMAGES[:, None]).max(axis=2) > 0.3
PARTS = np.broadcast_to(np.arange(SIZE)[:, None] // 4, (3, SIZE, SIZE)).copy()
PARTS[0, :, 6:] += 1  # 0..3 on the first image, 0..2 on the others
PART_NAMES = ("brow", "eye", "mouth", "left_ear")
NAMES = ["image", "output", "first", "second", "baseline", "steps", "quadrature", "layer", "part", "opacity", "shared"]


def network() -> nn.Module:
    """Works in place, drops out and normalises: what explorers of careless networks trip over."""
    with seeded(0):
        model = nn.Sequential(
            *(nn.Conv2d(3, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU(inplace=True), nn.MaxPool2d(2)),
            *(nn.Conv2d(6, 8, 3), nn.ReLU(inplace=True), nn.Flatten(), nn.Dropout(0.5), nn.Linear(128, 2)),
        )
    with torch.no_grad():
        model[-1].weight *= 50  # outputs of the order of 1, so that tolerances mean something
    return model


def explorer_of(**options) -> AttributionExplorer:
    known = dict(parts=PARTS, part_names=PART_NAMES, truth=TRUTH, counterfactuals=COUNTERFACTUALS)
    return AttributionExplorer(network(), IMAGES, ["smile", "frown"], **(known | options))


@pytest.fixture(scope="module")
def shared_explorer() -> AttributionExplorer:
    return explorer_of()


@pytest.fixture
def explorer(shared_explorer) -> AttributionExplorer:
    """One for all tests, as it was at the beginning: what it keeps is what it would compute."""
    shared_explorer.set(**{name: control_start(shared_explorer, name) for name in NAMES})
    return shared_explorer


def control_start(explorer, name):
    starts = {"image": 0, "output": 0, "first": "integrated gradients", "second": "input x gradient", "baseline": "without the cause"}
    starts |= {"steps": 20, "quadrature": "gausslegendre", "layer": "4", "part": NO_PART, "opacity": 0.7, "shared": True}
    return starts[name]


def accounts(explorer, **changes):
    values = explorer.values | changes
    return explorer._compute(**{k: v for k, v in values.items() if k not in ("part", "opacity", "shared")})


CHANGES = [
    *({"image": 1}, {"output": 1}, {"first": "saliency"}, {"second": "part ablation"}, {"second": ""}, {"baseline": "blurred"}),
    *({"steps": 2}, {"quadrature": "riemann_left"}, {"part": 2}),
]


@pytest.mark.parametrize("change", CHANGES, ids=str)
def test_each_control_changes_the_view(explorer, change):
    before, after = explorer.view(), explorer.view(**change)
    assert before.text != after.text
    assert (before.picture.rgb() != after.picture.rgb()).any()


def test_opacity_scale_and_layer_change_the_picture(explorer):
    explorer.set(second="grad-cam")
    before = explorer.view()
    for change in ({"opacity": 0.3}, {"shared": False}, {"layer": "0"}):
        assert (before.picture.rgb() != explorer.view(**change).picture.rgb()).any(), change


@pytest.mark.parametrize("method", QUICK)
@pytest.mark.parametrize("baseline", ["without the cause", "blurred", "mean image", "black"])
def test_what_is_shown_is_what_attribute_says(explorer, method, baseline):
    model, image = network().eval(), torch.from_numpy(IMAGES[1:2])
    output = 0 if method == "grad-cam" else 1  # for output 1 all of Grad-CAM's evidence is negative and cut
    reference = {
        "without the cause": torch.from_numpy(COUNTERFACTUALS[1:2, output]),
        "mean image": torch.from_numpy(IMAGES).mean(dim=0, keepdim=True),
        "black": torch.zeros(1, 3, SIZE, SIZE),
        "blurred": explorer._subject.baselines["blurred"](1, output),
    }[baseline]
    layer = model[4] if method in ("conductance", "channel ablation", "grad-cam") else None
    mask = torch.from_numpy(PARTS[1])[None, None]
    expected = attribute(model, image, output, method, layer=layer, baseline=reference, steps=10, mask=mask, window=3)
    shown = accounts(explorer, image=1, output=output, first=method, second="", layer="4", baseline=baseline, steps=10)[0]
    values = expected.values[0].sum(dim=0).double().numpy()
    assert np.abs(values).max() > 1e-3
    if values.shape == (SIZE, SIZE):
        np.testing.assert_allclose(shown.map, values, atol=1e-6)
    assert shown.map.sum() == pytest.approx(values.sum(), abs=1e-5)
    np.testing.assert_allclose(shown.sums, [shown.map[PARTS[1] == part].sum() for part in range(4)], atol=1e-9)
    assert shown.in_truth == pytest.approx(float(mass_in_part(torch.from_numpy(shown.map)[None], torch.from_numpy(TRUTH[1:2, output]))))
    for told, known in ((shown.difference, expected.difference), (shown.residual, expected.residual)):
        assert (told is None) == (known is None)
        assert told is None or told == pytest.approx(float(known), abs=1e-6)


@pytest.mark.parametrize("steps", [2, 10, 100])
@pytest.mark.parametrize("method", ["integrated gradients", "conductance"])
def test_bars_sum_to_the_difference_and_the_gap(explorer, method, steps):
    account = accounts(explorer, first=method, second="", steps=steps, baseline="black")[0]
    with evaluating(network()) as model, torch.no_grad():
        outputs = model(torch.stack([torch.from_numpy(IMAGES[0]), torch.zeros(3, SIZE, SIZE)]))[:, 0]
    assert account.difference == pytest.approx(float(outputs[0] - outputs[1]), abs=1e-6)
    assert account.sums.sum() - account.residual == pytest.approx(account.difference, abs=1e-5)
    if method == "integrated gradients" and steps == 100:
        assert abs(account.residual) < 0.01 * np.abs(account.map).sum()


def test_a_replaced_part_tells_the_actual_change(explorer):
    with evaluating(network()) as model, torch.no_grad():
        replaced = np.where(PARTS[0] == 2, COUNTERFACTUALS[0, 0], IMAGES[0])
        value, without = model(torch.from_numpy(np.stack([IMAGES[0], replaced])))[:, 0].tolist()
    text = explorer.view(part=2).text
    attributed = [account.sums[2] for account in accounts(explorer)]
    assert f"Replacing mouth by the baseline takes {value - without:+.3f} away" in text
    assert f"attributed are {attributed[0]:+.3f} by integrated gradients, 20 steps and {attributed[1]:+.3f} by input x gradient" in text
    (diamond,) = (line for line in explorer.view(part=2).picture.axes[1].lines if line.get_marker() == "D")
    longest = max(np.abs(a.sums).max() for a in accounts(explorer))
    longest = max(longest, *(abs(a.sums.sum()) for a in accounts(explorer)), abs(accounts(explorer)[0].difference))
    assert diamond.get_xdata()[0] == pytest.approx((value - without) / longest, abs=1e-4)
    assert diamond.get_ydata()[0] == 2
    assert "shows no left ear" in explorer.view(part=3, image=1).text


def test_clicks_pick_parts_on_images_and_bars(explorer):
    for column in range(3):
        left, top = sheet_corner(column, SIZE, SIZE)
        explorer.click(0, left + 8.3, top + 4.9)
        assert explorer.values["part"] == 2, column
        explorer.click(0, left + 8.3, top + 4.9)
        assert explorer.values["part"] == NO_PART
    explorer.click(0, SIZE + 0.4, 3)  # between two images
    explorer.click(0, 3, SIZE + 1)  # under them
    explorer.click(1, 0.5, 4.3)  # the row of the total
    assert explorer.values["part"] == NO_PART
    explorer.click(1, -2.0, 2.8)
    assert explorer.values["part"] == 3


def test_pointer_of_the_browser_arrives_at_the_part(explorer):
    picture = explorer.shown.picture
    width, height = picture.canvas.get_width_height()
    x, y = picture.axes[0].transData.transform((2.0, 9.0))
    at = [x / width, 1 - y / height]
    explorer.canvas.pointer = {"kind": "click", "from": at, "to": at, "count": 1}
    assert explorer.values["part"] == PARTS[0, 9, 2]


def test_controls_nobody_asks_for_are_greyed(explorer):
    controls = explorer.controls
    assert controls["layer"].disabled and not controls["steps"].disabled and not controls["quadrature"].disabled
    explorer.set(first="saliency", second="grad-cam")
    assert controls["steps"].disabled and controls["quadrature"].disabled and not controls["layer"].disabled


def test_results_are_kept(explorer, monkeypatch):
    fresh = explorer_of()
    fresh.prepare(progress=False, baseline=["black"], steps=[2, 5])
    monkeypatch.setattr("facelab.explorers.attribution.attribute", None)  # whoever asks again fails
    for image in range(3):
        for steps in (2, 5):
            fresh.set(image=image, output=1, baseline="black", steps=steps, opacity=0.2, part=1)
            assert fresh.error is None
    with pytest.raises(ValueError, match="Nothing is computed for 'opacity'"):
        fresh.prepare(opacity=[0.5])


def test_what_a_method_does_not_use_costs_nothing(explorer, monkeypatch):
    fresh = explorer_of(methods=["saliency", "input x gradient"])
    monkeypatch.setattr("facelab.explorers.attribution.attribute", None)
    fresh.set(baseline="blurred", steps=100, layer="0", quadrature="riemann_middle")
    assert fresh.error is None


def test_the_network_is_a_copy_and_comes_back_as_it_was():
    model = network().train()
    explorer = AttributionExplorer(model, IMAGES, layers=["0"])
    before = explorer.view(image=2).text
    assert model.training and all(p.requires_grad for p in model.parameters())
    with torch.no_grad():
        model[-1].weight.zero_()
    assert explorer.view(image=2, output=1).text != explorer.view(image=2).text
    assert explorer.view(image=2).text == before


def test_without_anything_known():
    """A user's own network: gray, rectangular, not in [0,1], one image, nothing named."""
    with seeded(1):
        model = nn.Sequential(nn.Flatten(), nn.Linear(1 * 9 * 15, 3))
    explorer = AttributionExplorer(model, torch.randn(1, 1, 9, 15, generator=torch.Generator().manual_seed(0)))
    assert "conductance" not in explorer.controls["first"].options
    assert [name for name, _ in explorer.controls["part"].options[1:]] == list(NINTHS)
    assert list(explorer.controls["baseline"].options) == ["zero", "blurred"]
    explorer.click(0, 7, sheet_corner(0, 9, 15)[1] + 4)
    assert explorer.error is None
    assert "Replacing middle by the baseline" in explorer.shown.text
    for name, control in explorer.controls.items():
        for value in stops(control):
            explorer.set(**{name: value})
            assert explorer.error is None, (name, value, explorer.error)


def test_outputs_may_be_functions():
    outputs = {"smile rather than frown": lambda out: out[:, 0] - out[:, 1], "frown": 1}
    explorer = AttributionExplorer(network(), IMAGES, outputs)
    with evaluating(network()) as model, torch.no_grad():
        smile, frown = model(torch.from_numpy(IMAGES[:1]))[0].tolist()
    assert f"smile rather than frown: output {smile - frown:.3f}" in explorer.shown.text
    assert f"frown: output {frown:.3f}" in explorer.view(output=1).text


def test_one_truth_for_all_outputs():
    explorer = explorer_of(truth=TRUTH[:, :1])
    assert f"{TRUTH[0, 0].mean():.1%} of the area" in explorer.view(output=1).text


def test_a_baseline_without_an_answer_is_named():
    class Normalising(nn.Module):
        def forward(self, images):
            flat = images.flatten(1)
            return (flat / flat.sum(dim=1, keepdim=True))[:, :2]

    explorer = AttributionExplorer(Normalising(), IMAGES)
    assert "'black' takes the place" in str(explorer.error)
    explorer.set(baseline="mean image")
    assert explorer.error is None


def test_spread_keeps_sums():
    coarse = GENERATOR.normal(size=(4, 5))
    fine = spread(coarse, 10, 12)
    assert fine.sum() == pytest.approx(coarse.sum())
    np.testing.assert_allclose(spread(coarse, 8, 10), np.kron(coarse, np.full((2, 2), 0.25)))
    np.testing.assert_allclose(spread(coarse, 4, 5), coarse)
    np.testing.assert_allclose(spread(np.kron(coarse, np.ones((3, 3))), 4, 5), 9 * coarse)  # a layer finer than the image


BAD = {
    "Images must be": dict(images=IMAGES[0]),
    "finite": dict(images=IMAGES * np.nan),
    "does not take images": dict(images=IMAGES[:, :1]),
    "2 outputs; 3 names": dict(outputs=["a", "b", "c"]),
    "'sum' has the shape": dict(outputs={"sum": lambda out: out.sum()}),
    "'root' has NaN": dict(outputs={"root": lambda out: out[:, 0] * float("nan")}),
    "parts must be whole numbers": dict(parts=PARTS[:2]),
    "whole numbers": dict(parts=PARTS * 1.0),
    "0 to 1": dict(parts=PARTS, part_names=("a", "b")),
    "truth must have": dict(truth=TRUTH[:, :, 1:]),
    "counterfactuals must have": dict(counterfactuals=COUNTERFACTUALS[:, 0]),
    "'nowhere' gives no maps": dict(layers=["nowhere"]),
    "'8' gives no maps": dict(layers=["8"]),
    "choose from": dict(methods=["guessing"]),
    "none or an unknown": dict(methods=[]),
    "all look into a layer": dict(methods=["grad-cam"], layers=[]),
    "2 names for 3 images": dict(names=["a", "b"]),
}


@pytest.mark.parametrize("message", BAD)
def test_what_does_not_fit_is_refused_in_one_sentence(message):
    with pytest.raises(ValueError, match=message) as refusal:
        AttributionExplorer(network(), **({"images": IMAGES} | BAD[message]))
    assert str(refusal.value).rstrip(".").count(". ") == 0


def test_a_network_without_columns_is_refused():
    with pytest.raises(ValueError, match=r"outputs=\{name: function\}"):
        AttributionExplorer(nn.Conv2d(3, 2, 3), IMAGES)

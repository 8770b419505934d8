"""Figures show the numbers they are given, where they belong."""

import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib.collections import PolyCollection

from facelab import pictures
from facelab.batch import FaceBatch
from facelab.blocks.trees import log_reach
from facelab.markups import MARKUPS, conversion
from facelab.pictures.attributions import blended, outlines
from facelab.pictures.curves import bootstrap_interval
from facelab.pictures.maps import entropy, expectation
from facelab.pictures.style import as_rgb
from facelab.pictures.trees import nearest_node, node_places

GENERATOR = np.random.default_rng(0)
IMAGES = GENERATOR.integers(0, 256, (5, 32, 32, 3), dtype=np.uint8)
LANDMARKS = GENERATOR.uniform(4, 28, (5, 68, 2))


def points_drawn(axes) -> list[np.ndarray]:
    """Positions of all markers without a line."""
    return [line.get_xydata() for line in axes.lines if line.get_linestyle() == "None"]


def whole(picture) -> None:
    """Nothing sticks out of the picture, nothing is empty."""
    pixels = picture.rgb()
    assert pixels.std() > 1
    frame = np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])
    assert (frame >= 60).mean() > 0.5


class TestFaces:
    def test_landmarks_are_drawn_where_they_are(self):
        picture = pictures.show_faces(IMAGES, LANDMARKS, truth=LANDMARKS + 1, columns=3)
        drawn = [points_drawn(axes) for axes in picture.axes[:5]]
        for face, (truth, estimate) in enumerate(drawn):
            assert np.allclose(truth, LANDMARKS[face] + 1) and np.allclose(estimate, LANDMARKS[face])
        assert picture.axes[0].get_xlim() == (-0.5, 31.5) and picture.axes[0].get_ylim() == (31.5, -0.5)
        whole(picture)

    def test_a_batch_brings_its_landmarks(self):
        batch = FaceBatch(IMAGES, LANDMARKS, np.arange(5))
        assert np.allclose(points_drawn(pictures.show_faces(batch).axes[2])[0], LANDMARKS[2])
        assert not points_drawn(pictures.show_faces(batch, landmarks=()).axes[2])

    def test_each_face_may_have_its_own_markup(self):
        mixed = [LANDMARKS[0], LANDMARKS[1, :5]]
        drawn = [points_drawn(axes)[0] for axes in pictures.show_faces(IMAGES[:2], mixed).axes]
        assert [len(points) for points in drawn] == [68, 5]

    def test_tensors_and_gray_images(self):
        gray = torch.rand(2, 1, 16, 16, requires_grad=True)
        whole(pictures.show_faces(gray, torch.rand(2, 5, 2, requires_grad=True) * 16, captions=["a", "b"]))

    @pytest.mark.parametrize("shape", [(2, 16, 16), (2, 1, 16, 16), (2, 3, 16, 16), (2, 16, 16, 3), (2, 16, 16, 1)])
    def test_every_form_of_image(self, shape):
        values = GENERATOR.random(shape)
        assert as_rgb(values).shape == (2, 16, 16, 3)

    def test_rows_are_named_on_their_left(self):
        picture = pictures.show_faces(IMAGES, columns=3, rows=["first", "second"])
        assert [axes.get_ylabel() for axes in picture.axes] == ["first", "", "", "second", "", ""]
        whole(picture)

    def test_wrong_numbers_are_named(self):
        with pytest.raises(ValueError, match="5 faces but landmarks for 4"):
            pictures.show_faces(IMAGES, LANDMARKS[:4])
        with pytest.raises(ValueError, match="captions for 1"):
            pictures.show_faces(IMAGES, captions=["one"])
        with pytest.raises(ValueError, match="2 rows of faces but names for 1"):
            pictures.show_faces(IMAGES, columns=3, rows=["one"])
        with pytest.raises(ValueError, match="2 rows of faces but names for 1"):
            pictures.show_faces(IMAGES, columns=3, rows=["one"])
        with pytest.raises(ValueError, match=r"\(16, 16\) cannot be drawn"):
            pictures.show_faces(np.zeros((16, 16)))

    def test_truth_shows_what_is_known(self):
        known = {"parts": np.tile(np.arange(32, dtype=np.uint8) // 8, (5, 32, 1)), "visible": np.arange(5 * 68).reshape(5, 68) % 3 > 0}
        known |= {"occluder": np.zeros((5, 32, 32), dtype=bool), "depth": np.full((5, 32, 32), np.inf)}
        known["depth"][:, 8:24] = 9.0
        known |= {"normals": np.zeros((5, 32, 32, 3)), "uv": np.full((5, 32, 32, 2), np.nan)}
        batch = FaceBatch(IMAGES, LANDMARKS, np.arange(5), **known)
        picture = pictures.show_truth(batch, 1, part_names=("background", "skin", "brows", "eyes"))
        titles = [axes.get_title(loc="left") for axes in picture.axes]
        assert f"68 landmarks, {int((~known['visible'][1]).sum())} hidden" in titles
        assert [text.get_text() for text in picture.legends[0].get_texts()] == ["background", "skin", "brows", "eyes"]
        whole(picture)
        photograph = pictures.show_truth(FaceBatch(IMAGES, LANDMARKS, np.arange(5)))
        assert [axes.get_title(loc="left") for axes in photograph.axes][:3] == ["image", "68 landmarks", ""]
        assert [axes.get_title(loc="left") for axes in pictures.show_truth(FaceBatch(IMAGES)).axes][:2] == ["image", ""]
        whole(pictures.show_faces(FaceBatch(IMAGES)))


class TestMaps:
    def test_expectation_of_one_pixel_is_that_pixel(self):
        one_hot = np.zeros((8, 8))
        one_hot[2, 5] = 3.0
        mean, covariance = expectation(one_hot, 8, 8)
        assert np.allclose(mean, [5, 2]) and np.allclose(covariance, 0) and entropy(one_hot) == 0

    def test_coarse_maps_are_placed_by_pixel_centres(self):
        mean, _ = expectation(np.ones((4, 4)), 32, 32)
        assert np.allclose(mean, 15.5)
        one_hot = np.zeros((4, 4))
        one_hot[0, 3] = 1
        assert np.allclose(expectation(one_hot, 32, 32)[0], [27.5, 3.5])

    def test_spread_and_entropy_of_an_even_map(self):
        _, covariance = expectation(np.ones((8, 8)), 8, 8)
        assert np.allclose(covariance, np.eye(2) * (64 - 1) / 12)
        assert entropy(np.ones((8, 8))) == pytest.approx(6)

    def test_maps_mark_expectation_and_truth(self):
        maps = np.zeros((2, 68, 16, 16))
        maps[:, :, 4, 6] = 1
        picture = pictures.show_maps(IMAGES[0], maps, landmarks=[30, 8], truth=LANDMARKS[0])
        ring, cross = [line.get_xydata() for line in picture.axes[0].lines]
        assert np.allclose(ring, LANDMARKS[0, 30]) and np.allclose(cross, [[12.5, 8.5]])
        assert picture.axes[0].get_title(loc="center") == "30 nose tip"
        assert [picture.axes[row * 2].get_ylabel() for row in (0, 1)] == ["stage 1", "stage 2"]
        whole(picture)

    def test_strip_scales_the_truth_to_each_panel(self):
        panels = {"coarse": GENERATOR.normal(size=(8, 8)), "fine": GENERATOR.random((32, 32))}
        picture = pictures.show_strip(panels, IMAGES[0], signed=["coarse"], truth=np.array([15.5, 7.5]))
        rings = [axes.lines[0].get_xydata()[0] for axes in picture.axes[:3]]
        assert np.allclose(rings, [[15.5, 7.5], [3.5, 1.5], [15.5, 7.5]])
        low, high = picture.axes[1].images[0].get_clim()
        assert low == -high

    def test_matrix_names_landmarks_and_regions(self):
        picture = pictures.plot_matrix(conversion(68, 5), title="transfer")
        axes = picture.axes[0]
        assert [t.get_text() for t in axes.get_yticklabels()] == [name.replace("_", " ") for name in MARKUPS[5].names]
        assert [t.get_text() for t in axes.get_xticklabels()] == [name.replace("_", " ") for name in MARKUPS[68].regions]
        assert np.array_equal(axes.images[0].get_array(), conversion(68, 5))
        whole(picture)


class TestCurves:
    def test_history_draws_what_was_measured(self):
        frame = pd.DataFrame({"step": [1, 2, 3, 4], "loss": [4.0, 3, 2, 1], "error": [np.nan, 9, np.nan, 7], "seconds": [1, 2, 3, 4]})
        picture = pictures.plot_history({"ours": frame, "theirs": frame * 2}, {"loss": "loss", "error": "error, %"})
        assert np.allclose(picture.axes[1].lines[0].get_xydata(), [[2, 9], [4, 7]])
        assert picture.axes[1].get_ylabel() == "error, %" and picture.axes[1].get_xlabel() == "step"
        assert [axes.get_ylabel() for axes in pictures.plot_history(frame).axes] == ["loss", "error"]
        pictures.plot_history(frame.rename(columns={"step": "frame"}), ["loss"], x="frame")  # a column of any name
        with pytest.raises(ValueError, match="column 'accuracy'; there are"):
            pictures.plot_history(frame, ["accuracy"])

    def test_cumulative_error_is_the_share_of_faces(self):
        picture = pictures.plot_cumulative_error({"ours": [4.0, 2.0, 8.0, 2.0]}, limit=10)
        line = picture.axes[0].lines[0]
        share = dict(zip(line.get_xdata(), line.get_ydata(), strict=True))
        assert share[2.0] == 50 and share[4.0] == 75 and share[8.0] == 100
        assert "mean 4.00 %" in picture.axes[0].get_legend().get_texts()[0].get_text()

    def test_interval_covers_the_mean_as_often_as_it_says(self):
        generator = np.random.default_rng(1)
        covered = [low <= 5 <= high for low, high in (bootstrap_interval(generator.gamma(5, 1, 60), draws=400) for _ in range(200))]
        assert 0.88 <= np.mean(covered) <= 0.99

    def test_bars_are_as_long_as_their_means(self):
        picture = pictures.plot_bars({"ours": [1.0, 3.0], "theirs": 4.0}, highlight="ours")
        assert [bar.get_width() for bar in picture.axes[0].patches] == [2.0, 4.0]
        whole(picture)

    def test_a_run_keeps_its_colour(self):
        red = (1.0, 0.0, 0.0, 1.0)
        bars = pictures.plot_bars({"ours": 1.0, "theirs": 4.0}, colors={"theirs": "#ff0000"}).axes[0].patches
        assert [bar.get_facecolor() == red for bar in bars] == [False, True]
        frame = pd.DataFrame({"step": [0, 1], "loss": [2.0, 1.0]})
        lines = pictures.plot_history({"ours": frame, "theirs": frame}, colors={"theirs": "#ff0000"}).axes[0].lines
        assert [line.get_color() == "#ff0000" for line in lines] == [False, True]

    def test_numbers_of_a_matrix_are_written_as_asked(self):
        picture = pictures.plot_matrix([[0.1, 0.0986]], rows=["a"], columns=["b", "c"], number_format=".2f")
        assert [text.get_text() for text in picture.axes[0].texts] == ["0.10", "0.10"]

    def test_a_face_without_a_prediction_is_never_reached_by_the_curve(self):
        (line,) = pictures.plot_cumulative_error({"ours": [5.0, np.nan, 2.0, np.inf]}, limit=10).axes[0].lines
        assert line.get_xydata().tolist() == [[0, 0], [2, 25], [5, 50], [10, 50]]

    @pytest.mark.parametrize("nothing", [np.array([]), np.zeros((0, 3)), np.zeros((3, 0)), np.zeros(4), [[[1.0]]]])
    def test_a_matrix_of_nothing_is_refused(self, nothing):
        with pytest.raises(ValueError, match=r"A matrix of shape \(.*\) cannot be drawn; give \(R,C\)"):
            pictures.plot_matrix(nothing, rows=[], columns=[])


class TestWiring:
    @pytest.mark.parametrize(
        "picture",
        [
            pictures.draw_sumnet(5, 80),
            pictures.draw_rcn(3, 32),
            pictures.draw_acdc(),
            pictures.draw_acdc(3),
            pictures.draw_decafa(2, (68, 5), "mask"),
            pictures.draw_regressor_ensemble(3),
            pictures.draw_gated_stage(2, 4),
            pictures.draw_decafa(fusion="none"),
        ],
    )
    def test_boxes_stay_on_the_sheet_and_apart(self, picture):
        whole(picture)
        boxes = [patch.get_window_extent() for patch in picture.axes[0].patches if hasattr(patch, "get_boxstyle")]
        width, height = picture.canvas.get_width_height()
        assert all(box.x0 >= 0 and box.y0 >= 0 and box.x1 <= width and box.y1 <= height for box in boxes)
        assert not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i])

    def test_sizes_halve_level_by_level(self):
        texts = [text.get_text() for text in pictures.draw_rcn(4, 64, 5).axes[0].texts]
        assert [t for t in texts if t.startswith("features")] == [f"features {n}×{n}" for n in (64, 32, 16, 8)]


def test_a_notebook_shows_a_picture_once_and_sharp():
    picture = pictures.plot_bars({"a": 1.0}, width=4)
    png, size = picture._repr_png_()
    assert png.startswith(b"\x89PNG") and size["width"] == 384
    assert int.from_bytes(png[16:20]) == 1.5 * 384
    assert picture.png() == picture.png(), "the same picture is the same file"


class TestTrees:
    @pytest.mark.parametrize("depth", [1, 3, 5, 6, 10])
    def test_every_depth(self, depth):
        reach = log_reach(torch.randn(4, 2**depth - 1, generator=torch.Generator().manual_seed(0))).exp()
        whole(pictures.plot_tree(reach, title="mean of four"))
        whole(pictures.plot_tree(reach[0], usage=reach[:, 2**depth - 1 :].mean(dim=0)))

    def test_branches_are_as_wide_as_what_passes(self):
        reach = np.array([1, 0.75, 0.25, 0.6, 0.15, 0.05, 0.2])
        flow = pictures.plot_tree(reach).axes[0].collections[1]
        assert np.allclose(flow.get_linewidth() / flow.get_linewidth()[0], reach[1:] / 0.75)
        ends = np.array([path.vertices[-1] for path in flow.get_paths()])
        starts = np.array([path.vertices[0] for path in flow.get_paths()])
        root = flow.get_linewidth()[0] / 0.75 / 72  # inches
        assert np.isclose(starts[1, 0] - starts[0, 0], root / 2), "two neighbours of widths 3/4 and 1/4 lie half a width apart"
        assert (np.diff(ends[2:, 0]) > 0).all() and np.ptp(ends[2:, 1]) == 0

    def test_bars_hang_as_long_as_the_leaves_are_likely(self):
        picture = pictures.plot_tree([1, 0.75, 0.25, 0.6, 0.15, 0.05, 0.2], usage=[0.25] * 4)
        bars = next(c for c in picture.axes[0].collections if isinstance(c, PolyCollection))
        lengths = [np.ptp(path.vertices[:, 1]) for path in bars.get_paths()]
        assert np.allclose(np.array(lengths) / lengths[0], [1, 0.25, 0.05 / 0.6, 0.2 / 0.6])

    def test_bands_are_the_stronger_the_likelier(self):
        reach = log_reach(torch.randn(1, 63, generator=torch.Generator().manual_seed(0)))[0].exp().numpy()
        sheet = pictures.plot_tree(reach).axes[0].images[0].get_array()[..., :3]
        assert sheet.shape == (7, 64, 3)
        assert np.array_equal(sheet[1, 0], sheet[1, 31]) and not np.array_equal(sheet[1, 31], sheet[1, 32])
        paleness = sheet[6].min(axis=-1)
        assert paleness[reach[63:].argmax()] < paleness[reach[63:].argmin()]

    def test_a_click_means_the_node_beside_it(self):
        box = (2.0, 1.0, 4.0, 2.0)
        for depth in (1, 5):
            assert [nearest_node(depth, box, *place) for place in node_places(depth, box) + 0.01] == list(range(1, 2 ** (depth + 1)))
        assert nearest_node(6, box, 2.1, 1.01) == 1 and nearest_node(6, box, 5.99, 2.99) == 127
        assert nearest_node(3, box, 0.5, 1) is None and nearest_node(6, box, 3, 3.1) is None

    def test_routing_stacks_to_one(self):
        values = np.linspace(-90, 90, 5)
        shares = np.random.default_rng(0).dirichlet(np.ones(4), 5)
        axes = pictures.plot_routing(values, shares, label="yaw (°)").axes[0]
        areas = axes.collections[0].get_paths()
        assert len(areas) == 4 and axes.get_xlabel() == "yaw (°)"
        middle = [np.ptp(path.vertices[path.vertices[:, 0] == 0, 1]) for path in areas]
        assert np.allclose(middle, shares[2])
        whole(pictures.plot_routing(values, np.random.default_rng(0).dirichlet(np.ones(1024), 5)))

    def test_wrong_numbers_are_named(self):
        with pytest.raises(ValueError, match="6 probabilities make no tree"):
            pictures.plot_tree(np.ones(6))
        with pytest.raises(ValueError, match="one usage per leaf, 4 of them"):
            pictures.plot_tree(np.ones(7), usage=np.ones(3))
        with pytest.raises(ValueError, match=r"\(3,\) and \(4, 2\)"):
            pictures.plot_routing(np.arange(3), np.ones((4, 2)))


class TestAttributions:
    PARTS = np.repeat(np.arange(4), 8)[:, None].repeat(24, axis=1)
    NAMES = ("hair", "brow", "eye", "left_ear")

    def account(self, scale: float = 1.0, **options) -> pictures.Account:
        map_ = np.random.default_rng(1).normal(0, scale, (32, 24))
        sums = np.bincount(self.PARTS.ravel(), weights=map_.ravel())
        return pictures.Account(
            "a method", map_, sums, **(dict(difference=float(sums.sum()) - 0.5 * scale, residual=0.5 * scale) | options)
        )

    def texts(self, picture, axes: int) -> list[str]:
        return [text.get_text() for text in picture.axes[axes].texts]

    def test_bars_are_the_sums_and_the_gap(self):
        account = self.account()
        picture = pictures.show_attribution(IMAGES[0][:, :24], [account], self.PARTS, self.NAMES)
        bars, words = picture.axes[1].collections
        lengths = np.array([segment[1, 0] - segment[0, 0] for segment in bars.get_segments()])
        expected = np.r_[account.sums, account.sums.sum(), account.difference, account.residual]
        np.testing.assert_allclose(lengths, expected / np.abs(expected).max())
        assert lengths[:4].sum() == pytest.approx(lengths[5] + lengths[6])
        labels = words.get_label().splitlines()
        assert labels[:7] == ["hair", "brow", "eye", "left ear", "all parts", "f(x) − f(x′)", "gap"]
        whole(picture)

    def test_both_maps_share_one_scale_or_have_their_own(self):
        weak, strong = self.account(0.01), self.account(1.0)
        together = self.texts(pictures.show_attribution(IMAGES[0][:, :24], [weak, strong], self.PARTS, self.NAMES), 0)
        apart = self.texts(pictures.show_attribution(IMAGES[0][:, :24], [weak, strong], self.PARTS, self.NAMES, shared=False), 0)
        ends = [f"+{account.limit:#.3g}" for account in (weak, strong)]
        assert together.count(ends[1]) == 1 and ends[0] not in together
        assert apart.count(ends[1]) == 1 and apart.count(ends[0]) == 1
        for text, account in ((together, weak), (apart, strong)):
            assert any(f"norm {account.norm:.2g}" in line for line in text)

    def test_the_strongest_pixel_and_none(self):
        image, map_ = np.full((4, 4, 3), 100, dtype=np.uint8), np.zeros((4, 4))
        map_[0, 0], map_[3, 3] = 2.0, -2.0
        shown = blended(image, map_, 2.0, 0.6).astype(int)
        assert shown[0, 0, 0] > shown[0, 0, 2] + 40  # orange
        assert shown[3, 3, 2] > shown[3, 3, 1] + 40  # purple
        assert np.ptp(shown[1, 1]) <= 2  # no colour where nothing is attributed
        assert (blended(image, map_, 2.0, 0.0) == blended(image, 0 * map_, 2.0, 0.0)).all()
        assert np.array_equal(blended(image, map_, 2.0, 1.0), blended(image * 0, map_, 2.0, 1.0))

    def test_outlines_run_between_pixels(self):
        labels = np.zeros((3, 4), dtype=int)
        labels[1, 2] = 1
        pieces = outlines(labels).reshape(-1, 3, 2)[:, :2]
        assert sorted(map(tuple, pieces.mean(axis=1))) == [(1.5, 1.0), (2.0, 0.5), (2.0, 1.5), (2.5, 1.0)]
        assert len(outlines(np.zeros((3, 4), dtype=bool))) == 0

    def test_a_map_of_nothing_a_truth_of_nothing_and_a_long_name(self):
        nothing = pictures.Account("conductance at a.very.long.name.of.a.layer, 100 steps", np.zeros((32, 24)), np.zeros(4), "other")
        options = dict(truth=np.zeros((32, 24), dtype=bool), baseline=IMAGES[1][:, :24], chosen=2, actual=0.3, says="f(x) = 1")
        picture = pictures.show_attribution(IMAGES[0][:, :24], [nothing], self.PARTS, self.NAMES, **options)
        assert "compared with: the baseline x′" in self.texts(picture, 0)
        assert any("…" in text for text in self.texts(picture, 0))
        whole(picture)

"""Pictures of importance show the numbers of their tables, where they belong."""

import numpy as np
import pytest
from importance_tables import LEVELS, tables
from scipy.stats import rankdata, spearmanr

from facelab import pictures
from facelab.pictures.lettering import Lettering, fitted, outline
from facelab.pictures.style import Picture

pytestmark = pytest.mark.slow

LAYERS, CRITERIA, SENSITIVITY, _ = tables()
NAMES = [layer.name for layer in LAYERS]
TRUTH = np.array([0.4, 0.1, 0.3, 0.2, 0.2, 0.0])
FISHER, DEPTH = np.array([9.0, 3.0, 7.0, 5.0, 4.0, 1.0]), -np.arange(1.0, 7.0)


class TestSensitivity:
    def test_cells_are_the_mean_drops(self):
        picture = pictures.plot_sensitivity(SENSITIVITY)
        for axes, (family, levels) in zip(picture.axes, LEVELS.items(), strict=False):
            table = axes.images[0].get_array()
            rows = SENSITIVITY[SENSITIVITY.family == family]
            for i, name in enumerate(NAMES):
                for j, level in enumerate(levels):
                    own = rows[(rows.level == level) & np.array([name in text.split("+") for text in rows.layer])]
                    assert table[i, j] == pytest.approx(own["drop"].mean())
            assert axes.get_title(loc="left") == family
            assert ("tied" in axes.get_xlabel()) == (family == "pruning")
        assert [label.get_text() for label in picture.axes[0].get_yticklabels()] == NAMES
        assert len({axes.images[0].get_clim() for axes in picture.axes[:4]}) == 1

    def test_what_was_not_measured_is_empty(self):
        frame = SENSITIVITY[~((SENSITIVITY.layer == "conv3") & (SENSITIVITY.family == "noise"))]
        assert np.isnan(np.ma.filled(pictures.plot_sensitivity(frame).axes[0].images[0].get_array()[2], np.nan)).all()

    def test_a_missing_column_is_named(self):
        with pytest.raises(ValueError, match=r"lacks the columns \['depth', 'drop'\]"):
            pictures.plot_sensitivity(SENSITIVITY.drop(columns=["drop", "depth"]))


class TestAssessment:
    def test_bars_are_the_falls_and_the_guess_with_their_ranks(self):
        chain, measured, guessed = pictures.draw_assessment((3, 9, 1), (2, 1, 3)).axes
        assert any("noise" in text.get_text() for text in chain.texts)
        assert [bar.get_height() for bar in measured.patches] == [3, 9, 1]
        assert [text.get_text() for text in measured.texts] == ["2.", "1.", "3."]
        assert [text.get_text() for text in guessed.texts] == ["2.", "3.", "1."]

    def test_lists_that_do_not_fit_are_refused(self):
        with pytest.raises(ValueError, match="3 falls, 2 predictions and layer 1 do not fit"):
            pictures.draw_assessment((3, 9, 1), (2, 1))


def test_agreement_shows_points_intervals_and_spearman():
    picture = pictures.plot_agreement(
        {"fisher": FISHER, "depth": DEPTH, "flat": np.ones(6)}, TRUTH, NAMES, low=TRUTH - 0.1, high=TRUTH + 0.1
    )
    points = [axes.collections[1].get_offsets() for axes in picture.axes]
    np.testing.assert_allclose(points[0], np.stack([FISHER, TRUTH], 1))
    np.testing.assert_allclose(points[1], np.stack([DEPTH, TRUTH], 1))
    assert picture.axes[0].get_title(loc="left") == f"fisher: {spearmanr(FISHER, TRUTH).statistic:.2f}"
    assert picture.axes[2].get_title(loc="left") == "flat: nan"
    spans = np.array(picture.axes[0].collections[0].get_segments())
    np.testing.assert_allclose(spans[:, :, 1], np.stack([TRUTH - 0.1, TRUTH + 0.1], 1))
    assert picture.rgb().std() > 1


def test_rank_lines_join_the_ranks():
    picture = pictures.plot_ranks(TRUTH, {"fisher": FISHER, "depth": DEPTH}, NAMES)
    axes = picture.axes[0]
    lines = [line.get_ydata() for line in axes.lines if line.get_linestyle() == "-"]
    expected = np.array([rankdata(-values) for values in (TRUTH, FISHER, DEPTH)]).T
    np.testing.assert_allclose(lines, expected)
    written = [text.get_text() for text in axes.texts]
    assert "conv4, conv5" in written  # ties of the truth stand together
    assert written[-1] == NAMES[-1] and picture.rgb().std() > 1


@pytest.mark.parametrize("code", [-128, -91, -1, 0, 37, 127])
@pytest.mark.parametrize("flipped", [None, 0, 6, 7])
def test_flipped_bits_of_a_weight(code, flipped):
    picture = pictures.draw_bit_flips(code, 0.5, flipped=flipped, effects={"drop": np.arange(8.0)})
    cells, change, drop = picture.axes
    after = np.array([np.int8(np.uint8(code & 0xFF) ^ np.uint8(1 << bit)) for bit in range(8)], dtype=int)  # by another way
    heights = {round(bar.get_x() + bar.get_width() / 2): bar.get_height() for bar in change.patches}
    np.testing.assert_allclose([heights[7 - bit] for bit in range(8)], 0.5 * (after - code))
    assert [bar.get_height() for bar in drop.patches] == list(range(8))
    shown = "".join(text.get_text() for text in cells.texts if len(text.get_text()) == 1)[::-1]
    assert shown == np.binary_repr(code if flipped is None else int(after[flipped]), 8)
    assert (f"code {after[flipped]}" if flipped is not None else f"code {code}") in cells.get_title(loc="left")
    assert picture.rgb().std() > 1


def test_a_code_that_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="128 does not fit into 8 bits"):
        pictures.draw_bit_flips(128, 0.1)


def test_letters_are_where_they_are_written():
    """At any resolution, and as wide as matplotlib's own text."""
    for dpi in (96, 144):
        picture = Picture(figsize=(4, 1))
        axes = picture.add_axes((0, 0, 1, 1), xlim=(0, 4), ylim=(0, 1))
        axes.set_axis_off()
        letters = Lettering(axes)
        for x, align in ((0.5, "left"), (2.0, "center"), (3.5, "right")):
            letters.say(x, 0.5, "HHHH", 10, align=align)
        letters.write()
        ink = picture.rgb(dpi).min(axis=2) < 128
        columns, rows = np.flatnonzero(ink.any(axis=0)) / dpi, np.flatnonzero(ink.any(axis=1)) / dpi
        assert rows.mean() == pytest.approx(0.5, abs=0.02)
        groups = np.split(columns, np.flatnonzero(np.diff(columns) > 0.3) + 1)
        assert len(groups) == 3
        wide = float(outline("HHHH", 10).vertices[:, 0].max()) / 72
        for group, middle in zip(groups, (0.5 + wide / 2, 2.0, 3.5 - wide / 2), strict=True):
            assert (group[0] + group[-1]) / 2 == pytest.approx(middle, abs=0.03)


@pytest.mark.parametrize("text", ["encoder.layer3.0.downsample.conv", "a", ""])
def test_long_names_are_shortened_in_the_middle(text):
    short = fitted(text, 60.0, 8.0)
    if len(text) > 20:
        assert outline(text, 8.0).vertices[:, 0].max() > 60
        assert outline(short, 8.0).vertices[:, 0].max() <= 60
        front, back = short.split("…")
        assert text.startswith(front) and text.endswith(back) and len(short) >= 8
    else:
        assert short == text


def test_pictures_of_nothing_are_refused():
    with pytest.raises(ValueError, match="measure at least one layer"):
        pictures.plot_sensitivity(SENSITIVITY.iloc[:0])
    for draw in (lambda c, t: pictures.plot_agreement(c, t, []), lambda c, t: pictures.plot_ranks(t, c, [])):
        with pytest.raises(ValueError, match=r"[01] criteria for [02] layers"):
            draw({}, [1.0, 2.0])
        with pytest.raises(ValueError, match=r"[01] criteria for [02] layers"):
            draw({"norm": []}, [])

"""Pictures of stressed vectors: panels for what is given, vectors folded without loss, the best within so many bits."""

import numpy as np

from facelab.pictures.stress import draw_stress, plot_dictionary, plot_kept, plot_rates, show_vectors


def test_a_row_for_each_image_and_a_column_for_each_kind():
    vectors = {"deep": np.random.default_rng(0).random((2, 70)), "HOG": np.ones((2, 64))}
    picture = show_vectors(np.zeros((2, 8, 8)), vectors)
    assert len(picture.axes) == 6
    shown = picture.axes[1].images[0].get_array()
    assert shown.shape == (3, 32)
    np.testing.assert_allclose(np.asarray(shown).ravel()[:70], vectors["deep"][0])
    assert np.ma.getmaskarray(shown).ravel()[70:].all()


def test_a_line_through_the_means_and_a_band_to_the_ends():
    picture = plot_kept({"random": {"deep": {5: np.array([40.0, 60.0]), 10: np.array([90.0])}}}, "dimensions")
    np.testing.assert_allclose(picture.axes[0].lines[0].get_ydata(), [50, 90])
    np.testing.assert_allclose(picture.axes[0].collections[0].get_paths()[0].vertices[:, 1].min(), 40)


def test_edges_lie_between_levels():
    picture = plot_dictionary({"words": np.linspace(0, 1, 40).reshape(4, 10)}, {"words": np.array([0.25, 0.75])})
    assert [line.get_xdata()[0] for line in picture.axes[0].lines] == [0.25, 0.75, 0.5]
    assert "50.00%" in picture.axes[0].get_title(loc="left")


def test_the_best_within_so_many_bits_never_falls():
    picture = plot_rates({"deep": [(30, 50.0), (10, 20.0), (60, 40.0)]}, {"deep": (512.0, 55.0)}, mark=30)
    np.testing.assert_allclose(picture.axes[0].lines[1].get_ydata(), [20, 50, 50, 55])


def test_the_marked_pair_is_where_it_should_be():
    picture = draw_stress(np.ones(40), np.ones(5), np.arange(6.0).reshape(3, 2), (2, 1), (5, 10, 20), (2, 8), title="a face")
    (mark,) = picture.axes[2].lines
    assert (*mark.get_xdata(), *mark.get_ydata()) == (2, 1)
    words = [f"{kept} %\n{bits} bits" for kept, bits in enumerate((5, 15, 10, 30, 20, 60))]
    assert [text.get_text() for text in picture.axes[2].texts] == words

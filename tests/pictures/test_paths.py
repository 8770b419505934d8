"""The picture of a neuron on its way out says what the curves say."""

import numpy as np

from facelab.pictures.paths import path_view

ROAD = np.linspace(1, 0, 11)


def test_caption_and_marks_are_read_off_the_curves():
    samples = np.array([1.0, 0.5, 0.25])
    view = path_view(ROAD, 4 * (1 - ROAD) ** 2, 8 * (1 - ROAD), 8 * (ROAD - 1), samples, 0.5, title="A")
    assert view.text.startswith("A: at alpha 0.50 the loss is 1.000. Removal raises it by +4.000; the shaded area is 4.000")
    said = np.log(2) * (0.5 * 4 + 0.25 * 6)
    assert f"3 black dots times -ln(mu) says {said:.3f}." in view.text
    left, right = view.picture.axes
    assert left.get_xlim()[0] > left.get_xlim()[1], "the neuron goes out to the right"
    assert left.get_title(loc="left").endswith("slope -4.000")
    dots = next(line for line in right.lines if line.get_label() == "what the sum visits")
    assert np.allclose(dots.get_xydata(), np.stack([samples, [0, 4, 6]], axis=1))

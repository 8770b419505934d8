"""Pictures of redundancies: what they say stands in them."""

import numpy as np

from facelab.pictures import draw_merging, show_kernels


def test_outgoing_weights_add_up():
    picture = draw_merging((1.0, -2.0), (0.5, 0.25))
    words = [[text.get_text() for text in axes.texts] for axes in picture.axes]
    assert {"a", "b", "0.5", "0.25"} <= set(words[0]) and {"a+b", "0.75"} <= set(words[1])
    assert picture.rgb().std() > 0


def test_each_channel_has_its_own_number_of_kernels():
    generator = np.random.default_rng(0)
    picture = show_kernels([generator.normal(size=(count, 3, 3)) for count in (1, 4, 2)])
    assert sum(len(axes.images) for axes in picture.axes) == 7
    assert [axes.get_ylabel() for axes in picture.axes[::4]] == ["input 1", "input 2", "input 3"]

"""The fast kernels against the plain numpy path."""

import numpy as np
import pytest
from rendering_reference import render_reference

from facelab.worlds import faces

CASES = [
    {},
    {"yaw": 50, "glasses": "sunglasses"},
    {"expression": "surprise", "hand": "left", "hair_style": "long"},
    {"mask": "surgical", "patch": 0.3},
]


@pytest.mark.parametrize("case", CASES)
def test_the_fast_path_equals_the_plain_one(case):
    size = 48
    values = faces.sample(1, seed=11, **case)
    plain = render_reference(values, size)
    fast = faces.from_factors(values, size, markup=98)
    assert np.abs(fast.landmarks_3d[0] - plain["landmarks_3d"]).max() < 1e-4
    assert np.abs(fast.landmarks[0] - plain["landmarks"]).max() < 1e-2
    same = fast.parts[0] == plain["parts"]
    assert same.mean() > 0.99  # a pixel centre on an edge may go either way
    seen = same & np.isfinite(fast.depth[0])
    assert np.quantile(np.abs(fast.depth[0][seen] - plain["depth"][seen]), 0.98) < 1e-3
    assert np.quantile((fast.normals[0] * plain["normals"]).sum(-1)[seen], 0.02) > 0.999
    assert (fast.occluder[0] == plain["occluder"]).mean() > 0.99
    difference = np.abs(fast.images[0].astype(int) - plain["images"])[same]
    assert difference.mean() < 1 and np.quantile(difference, 0.97) <= 3

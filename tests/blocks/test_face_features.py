"""The features of a face, and which landmarks they read: moving any other landmark changes nothing."""

import numpy as np
import torch

from facelab.blocks import triangulation
from facelab.blocks.face_features import EYES, MOUTH, OUTER_EYES, REGIONS, describe, face_features, landmarks_of_features
from facelab.markups import markup


def test_a_feature_changes_only_with_the_landmarks_it_reads():
    generator = torch.Generator().manual_seed(0)
    images, points = torch.rand(1, 1, 32, 32, generator=generator), 8 + 16 * torch.rand(1, 6, 2, generator=generator)
    triangles = triangulation(points[0])
    before, reads = face_features(images, points, triangles, (0, 1)), landmarks_of_features(6, triangles)
    assert reads.shape == (before.shape[1], 6) == (6 * 32 + 15 + 3 * len(triangles), 6)
    assert set(reads[:192].sum(axis=1)) == {1} and set(reads[192:207].sum(axis=1)) == {2} and set(reads[207:].sum(axis=1)) == {3}
    for moved in range(2, 6):  # the first two set the unit of the distances
        other = points.clone()
        other[0, moved] += 1.5
        changed = ((face_features(images, other, triangles, (0, 1)) - before).abs() > 1e-5)[0].numpy()
        assert (changed <= reads[:, moved]).all() and changed.sum() > 0.5 * reads[:, moved].sum()


def test_distances_are_in_units_of_the_eyes_and_angles_of_a_triangle_add_up():
    points = torch.tensor([[[2.0, 2.0], [6.0, 2.0], [2.0, 5.0]]])
    triangles = torch.tensor([[0, 1, 2]])
    features = face_features(torch.zeros(1, 1, 8, 8), points, triangles, (0, 1))[0, 96:]
    assert torch.allclose(features[:3], torch.tensor([1.0, 0.75, 1.25]))
    assert torch.allclose(features[3:].sum(), torch.tensor(torch.pi))


def test_regions_hold_every_inner_point_once_and_lie_where_they_say():
    names = markup(68).names[17:]
    assert sorted(point for region in REGIONS for point in region) == list(range(51))
    assert {names[point] for point in OUTER_EYES} == {"right_eye_outer", "left_eye_outer"}
    above, middle = ("brow", "eye", "lid"), ("nos",)
    assert {point for point in range(51) if any(word in names[point] for word in above)} == set(EYES)
    assert {point for point in range(51) if not any(word in names[point] for word in above + middle)} == set(MOUTH)
    for region, words in zip(REGIONS, ({"right"}, {"left"}, {"nos"}, {"right", "lip"}, {"left", "lip"}), strict=True):
        assert all(any(word in names[point] for word in words) for point in region)


def test_describing_many_is_describing_each():
    rng = np.random.default_rng(0)
    images, points = rng.random((3, 1, 32, 32), dtype=np.float32), rng.uniform(8, 24, (3, 51, 2))
    triangles = triangulation(torch.from_numpy(points[0]))
    rows = describe(images, points, triangles.numpy())
    one = face_features(torch.from_numpy(images[1:2]), torch.from_numpy(points[1:2]).float(), triangles, OUTER_EYES)
    assert np.allclose(rows[1], one[0], atol=1e-5)

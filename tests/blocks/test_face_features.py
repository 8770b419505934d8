"""The features of a face, and which landmarks they read: moving any other landmark changes nothing."""

import torch

from facelab.blocks import triangulation
from facelab.blocks.face_features import face_features, landmarks_of_features


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

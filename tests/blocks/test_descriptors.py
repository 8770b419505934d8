"""Descriptors of landmarks against known images, a plain loop, and symmetries that they must have."""

import math

import numpy as np
import pytest
import torch
from scipy.ndimage import map_coordinates

from facelab.blocks import angles, distances, gradient_histograms, triangulation


def images(count=2, side=24, seed=0):
    return torch.rand(count, 1, side, side, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def points(count=2, number=3, low=8.0, high=15.0, seed=1):
    return low + (high - low) * torch.rand(count, number, 2, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def ramp(direction, side=24):
    y, x = torch.meshgrid(torch.arange(side).double(), torch.arange(side).double(), indexing="ij")
    return (math.cos(direction) * x + math.sin(direction) * y)[None, None]


@pytest.mark.parametrize("bin_", range(8))
def test_a_ramp_fills_the_one_bin_of_its_direction(bin_):
    window = gradient_histograms(ramp(2 * math.pi * bin_ / 8), torch.tensor([[[11.3, 12.6]]]).double()).unflatten(-1, (4, 8))
    expected = torch.zeros(1, 1, 4, 8).double()
    expected[..., bin_] = 0.5  # four equal cells, of length one together
    torch.testing.assert_close(window, expected)


def test_a_ramp_between_two_bins_is_shared_by_its_distance_to_them():
    window = gradient_histograms(ramp(2 * math.pi * 7.75 / 8), torch.tensor([[[11.0, 11.0]]]).double(), cells=1)[0, 0]
    torch.testing.assert_close(window / window.sum(), torch.tensor([0.75, 0, 0, 0, 0, 0, 0, 0.25]).double())


def test_a_plain_loop_gives_the_same():
    """Intensities read between pixels by scipy, differences by subtraction, votes one by one."""
    faces, where, cell, cells, bins = images(), points(low=-6.0, high=29.0), 3, 3, 6
    by_hand = np.zeros((2, 3, cells, cells, bins))
    for face, point in np.ndindex(2, 3):
        for row, column in np.ndindex(cell * cells, cell * cells):
            x = where[face, point, 0].item() + column - (cell * cells - 1) / 2
            y = where[face, point, 1].item() + row - (cell * cells - 1) / 2
            places = [[y, y, y + 1, y - 1], [x + 1, x - 1, x, x]]
            right, left, below, above = map_coordinates(faces[face, 0].numpy(), places, order=1, mode="nearest")
            dx, dy = (right - left) / 2, (below - above) / 2
            place = math.atan2(dy, dx) / (2 * math.pi) * bins % bins
            lower, share = int(place) % bins, place - int(place)
            by_hand[face, point, row // cell, column // cell, lower] += math.hypot(dx, dy) * (1 - share)
            by_hand[face, point, row // cell, column // cell, (lower + 1) % bins] += math.hypot(dx, dy) * share
    by_hand = by_hand.reshape(2, 3, -1)
    by_hand /= np.linalg.norm(by_hand, axis=-1, keepdims=True)
    found = gradient_histograms(faces, where, cell=cell, cells=cells, bins=bins)
    torch.testing.assert_close(found, torch.from_numpy(by_hand))


def test_image_and_points_shifted_together_change_nothing():
    faces, where = images(), points()
    shifted = torch.roll(faces, (2, -3), dims=(2, 3))
    moved = where + torch.tensor([-3.0, 2.0]).double()
    torch.testing.assert_close(gradient_histograms(shifted, moved), gradient_histograms(faces, where))


def test_a_quarter_turn_turns_the_cells_and_rolls_the_bins():
    faces, where = images(), points()
    turned = torch.rot90(faces, 1, dims=(2, 3))  # what pointed right points up: from bin 0 to bin 6 of 8
    moved = torch.stack([where[..., 1], 23 - where[..., 0]], dim=-1)
    before = gradient_histograms(faces, where).unflatten(-1, (2, 2, 8))
    expected = torch.rot90(before, 1, dims=(2, 3)).roll(-2, dims=-1)
    torch.testing.assert_close(gradient_histograms(turned, moved).unflatten(-1, (2, 2, 8)), expected)


def test_contrast_and_brightness_change_nothing():
    faces, where = images(), points()
    torch.testing.assert_close(gradient_histograms(0.3 * faces + 0.5, where), gradient_histograms(faces, where))


def test_a_constant_image_and_places_far_outside_give_zeros():
    where = points().float()
    assert (gradient_histograms(torch.full((2, 1, 24, 24), 0.7), where) == 0).all()
    assert (gradient_histograms(images().float(), where - 500) == 0).all()  # only the corner's pixel, repeated


def test_windows_of_no_size_are_refused():
    with pytest.raises(ValueError, match="at least 1; these are 4, 0 and 8"):
        gradient_histograms(images(), points(), cells=0)


def test_distances_of_a_right_triangle():
    triangle = torch.tensor([[[0.0, 0.0], [3.0, 0.0], [0.0, 4.0]]])
    torch.testing.assert_close(distances(triangle), torch.tensor([[3.0, 4.0, 5.0]]))
    torch.testing.assert_close(distances(triangle, [(2, 1)]), torch.tensor([[5.0]]))


def test_angles_of_a_triangle_sum_to_half_a_turn_and_survive_a_mirror():
    faces = points(number=3, low=0.0)
    triples = torch.tensor([[0, 1, 2], [1, 2, 0], [2, 0, 1]])
    torch.testing.assert_close(angles(faces, triples).sum(dim=1), torch.full((2,), math.pi).double())
    torch.testing.assert_close(angles(faces * torch.tensor([-1.0, 1.0]).double(), triples), angles(faces, triples))
    torch.testing.assert_close(angles(torch.tensor([[[1.0, 0.0], [0.0, 0.0], [0.0, 2.0]]]), [(0, 1, 2)]), torch.tensor([[math.pi / 2]]))
    assert (angles(torch.ones(1, 3, 2), triples) == 0).all()


def test_triangles_cover_the_convex_hull_once():
    square = torch.tensor([[0.0, 0.0], [2.0, 0.0], [2.0, 2.0], [0.0, 2.0], [0.7, 1.1]])
    triangles = triangulation(square)
    corners = square[triangles]
    (a, b), (c, d) = (corners[:, 1] - corners[:, 0]).T, (corners[:, 2] - corners[:, 0]).T
    assert ((a * d - b * c).abs().sum() / 2).item() == pytest.approx(4.0)
    assert len(triangles) == 4 and set(triangles.flatten().tolist()) == set(range(5))


@pytest.mark.parametrize("flat", [torch.zeros(2, 2), torch.arange(4.0)[:, None].expand(4, 2)])
def test_points_on_one_line_are_refused(flat):
    with pytest.raises(ValueError, match="points span no triangle"):
        triangulation(flat)

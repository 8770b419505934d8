"""Shape-indexed patches against cutting by index, and between pixels."""

import torch

from facelab.blocks import cut_patches


def images(count=2, channels=3, side=12, seed=0):
    return torch.rand(count, channels, side, side, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_an_odd_patch_on_a_pixel_is_a_slice_of_the_image():
    faces = images()
    centres = torch.tensor([[[4.0, 6.0], [7.0, 3.0]], [[5.0, 5.0], [2.0, 9.0]]], dtype=torch.float64)
    patches = cut_patches(faces, centres, 5)
    assert patches.shape == (2, 2, 3, 5, 5)
    for face in range(2):
        for point, (x, y) in enumerate(centres[face].int().tolist()):
            torch.testing.assert_close(patches[face, point], faces[face, :, y - 2 : y + 3, x - 2 : x + 3])


def test_an_even_patch_has_its_middle_between_pixels():
    faces = images()
    patches = cut_patches(faces, torch.full((2, 1, 2), 5.5, dtype=torch.float64), 4)
    torch.testing.assert_close(patches[:, 0], faces[:, :, 4:8, 4:8])


def test_between_pixels_a_ramp_is_read_exactly():
    """Bilinear reading is exact on a plane: value = x + 100 y."""
    y, x = torch.meshgrid(torch.arange(16.0), torch.arange(16.0), indexing="ij")
    plane = (x + 100 * y)[None, None]
    patch = cut_patches(plane, torch.tensor([[[7.3, 6.8]]]), 3, spacing=2.0)[0, 0, 0]
    by_hand = [[7.3 + 2 * j + 100 * (6.8 + 2 * i) for j in (-1, 0, 1)] for i in (-1, 0, 1)]
    torch.testing.assert_close(patch, torch.tensor(by_hand), rtol=1e-4, atol=1e-3)


def test_outside_the_image_its_border_is_repeated():
    faces = images()
    patches = cut_patches(faces, torch.full((2, 1, 2), -30.0, dtype=torch.float64), 3)
    torch.testing.assert_close(patches[:, 0], faces[:, :, :1, :1].expand(-1, -1, 3, 3))

import numpy as np

from facelab.datasets import astronaut, lfw_crops


def test_portrait():
    image = astronaut()
    assert image.shape == (512, 512, 3) and image.dtype == np.uint8
    image[:] = 0  # a copy of ours to change
    assert astronaut().max() == 255


def test_crops_with_and_without_a_face():
    faces, others = lfw_crops()
    assert faces.shape == others.shape == (100, 25, 25, 3)
    assert (faces[..., 0] == faces[..., 2]).all() and faces.max() > 200 and faces.min() < 50
    # Faces resemble their mean far more than the other crops do.
    gray = faces[..., 0].reshape(100, -1).astype(float)
    mean = gray.mean(axis=0)
    alike = [np.corrcoef(mean, crop)[0, 1] for crop in gray]
    unlike = [np.corrcoef(mean, crop)[0, 1] for crop in others[..., 0].reshape(100, -1) if crop.std() > 0]
    assert np.median(alike) > np.median(unlike) + 0.3

"""Fitted distributions of factors: what was put in comes out, and what is drawn can be rendered."""

import numpy as np
import pytest

from facelab.worlds import faces
from facelab.worlds.faces.population import Population, fit_population

KNOWN = {"face_length": -1.5, "eye_spacing": 1.2, "jaw_width": 1.0}


@pytest.fixture(scope="module")
def fitted():
    rng = np.random.default_rng(0)
    shape = {name: rng.normal(mean, 0.5, 60).clip(-3, 3) for name, mean in KNOWN.items()}
    batch = faces.render(
        60, seed=3, size=64, channels=(), **shape, yaw=rng.normal(0, 8, 60), framing_scale=1.0, framing_x=0.0, framing_y=0.0
    )
    return fit_population(batch.landmarks.astype(float), rounds=4)


def test_finds_how_faces_differ_from_the_default(fitted):
    mean, spread = (
        dict(zip(fitted.names, fitted.mean, strict=True)),
        dict(zip(fitted.names, fitted.covariance.diagonal() ** 0.5, strict=True)),
    )
    for name, true in KNOWN.items():
        assert mean[name] * np.sign(true) > 0.5, f"{name}: {mean[name]:.2f} was found for {true}"
    assert abs(mean["mouth_width"]) < 0.5  # which was left as it is
    assert 4 < spread["yaw"] < 14


def test_covariance_is_one(fitted):
    assert np.allclose(fitted.covariance, fitted.covariance.T)
    assert np.linalg.eigvalsh(fitted.covariance).min() > 0


def test_draws_are_repeatable_in_range_and_can_be_rendered(fitted):
    drawn, again = fitted.draw(200, seed=5), fitted.draw(200, seed=5)
    for name, values in drawn.items():
        assert np.array_equal(values, again[name])
        assert values.min() >= faces.FACTORS[name].low and values.max() <= faces.FACTORS[name].high
    assert np.abs(drawn["face_length"].mean() - fitted.mean[fitted.names.index("face_length")]) < 0.4
    assert not [name for name in drawn if name.startswith("au_")]  # expressions stay those of the world
    batch = faces.render(8, seed=0, size=32, channels=(), **fitted.draw(8, seed=1))
    assert np.isfinite(batch.landmarks).all()


def test_saved_without_pickles(fitted, tmp_path):
    fitted.save(tmp_path / "population.npz")
    loaded = Population.load(tmp_path / "population.npz")
    assert loaded.names == fitted.names
    assert np.array_equal(loaded.mean, fitted.mean) and np.array_equal(loaded.covariance, fitted.covariance)

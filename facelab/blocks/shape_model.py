"""A linear model of shapes: a mean, a few modes, and the similarity that places them in the image.

A point (x, y) is the complex number x + iy, so that turning and scaling is a product. A shape s of K points is

    s = t / sqrt(K) + (1 + (a + ib) / |m|) (m + sum_j g_j phi_j),     parameters p = (a, b, t_x, t_y, g_1, ..., g_M),

with the mean shape m, centred, and orthonormal modes phi_j, orthogonal to m and i m. Each parameter is measured in pixels of the whole
shape: near p = 0 a step of length one moves the points by one, all together, whichever parameter it changes.

Source: Cootes, Taylor, Cooper, Graham, "Active Shape Models - Their Training and Application", CVIU 1995 (tangent space: appendix A).
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Complex, Float
from sklearn.decomposition import PCA


@dataclass(frozen=True)
class ShapeModel:
    """Mean and modes of shapes.

        model = ShapeModel.of(landmarks, modes=8)
        parameters = model.parameters(landmarks)
        floor = nme(model.shape(parameters), landmarks)  # what no answer in these parameters can fall below

    Attributes:
        mean: m, centred, of the shapes' mean size, pixels.
        modes: phi, the one that varies most first.
        deviations: standard deviation of each mode over the shapes, pixels.
        centre: mean place of a shape, pixels; the t = 0 of the parameters.
    """

    mean: Complex[np.ndarray, " K"]
    modes: Complex[np.ndarray, "M K"]
    deviations: Float[np.ndarray, " M"]
    centre: complex

    @classmethod
    def of(cls, shapes: Float[np.ndarray, "N K 2"], modes: int, iterations: int = 5) -> "ShapeModel":
        """Learns it from shapes in pixels: aligns all to their mean, again and again, then finds the principal components.

        Raises:
            ValueError: more modes than the shapes can have.
        """
        points = as_complex(shapes)
        if not 1 <= modes <= min(len(points), 2 * points.shape[1] - 4):
            raise ValueError(f"modes = {modes}: {len(points)} shapes of {points.shape[1]} points can have 1 to {2 * points.shape[1] - 4}.")
        centres = points.mean(axis=1, keepdims=True)
        points = points - centres
        mean = points[0]
        size = np.linalg.norm(points, axis=1).mean()
        for _ in range(iterations):
            mean = _aligned(points, mean).mean(axis=0)
            mean *= size / np.linalg.norm(mean)
        mean *= np.exp(1j * np.angle((points @ mean.conj()).mean()))  # the mean stands as the shapes do on average
        aligned = _aligned(points, mean)
        found = PCA(modes, svd_solver="full").fit(as_pairs(aligned).reshape(len(aligned), -1))
        axes = as_complex(found.components_.reshape(modes, -1, 2))
        return cls(mean, axes, np.sqrt(found.explained_variance_), complex(centres.mean()))

    def shape(self, parameters: Float[np.ndarray, "N parameters"]) -> Float[np.ndarray, "N K 2"]:
        """The shapes with these parameters, pixels."""
        points = self.mean + parameters[:, 4:] @ self.modes
        turn = 1 + as_complex(parameters[:, :2]) / np.linalg.norm(self.mean)
        place = self.centre + as_complex(parameters[:, 2:4]) / np.sqrt(len(self.mean))
        return as_pairs(turn[:, None] * points + place[:, None])

    def parameters(self, shapes: Float[np.ndarray, "N K 2"]) -> Float[np.ndarray, "N parameters"]:
        """Parameters of the shapes of the model that lie next to these: exact for shapes of the model itself."""
        points = as_complex(shapes)
        place = points.mean(axis=1)
        points = points - place[:, None]
        modes = (_aligned(points, self.mean) @ self.modes.conj().T).real
        size = np.linalg.norm(self.mean)
        turn = (points @ self.mean.conj() / size**2 - 1) * size
        return np.concatenate([as_pairs(turn), as_pairs(place - self.centre) * np.sqrt(len(self.mean)), modes], axis=1)

    def plausible(self, parameters: Float[np.ndarray, "N parameters"], limit: float = 3.0) -> Float[np.ndarray, "N parameters"]:
        """The parameters, with every mode within `limit` standard deviations."""
        reach = limit * self.deviations
        return np.concatenate([parameters[:, :4], np.clip(parameters[:, 4:], -reach, reach)], axis=1)


def as_complex(pairs: Float[np.ndarray, "*shape 2"]) -> Complex[np.ndarray, "*shape"]:
    """x + iy of pairs (x, y)."""
    pairs = np.asarray(pairs, dtype=np.float64)
    return pairs[..., 0] + 1j * pairs[..., 1]


def as_pairs(numbers: Complex[np.ndarray, "*shape"]) -> Float[np.ndarray, "*shape 2"]:
    """Pairs (x, y) of x + iy."""
    return np.stack([numbers.real, numbers.imag], axis=-1)


def _aligned(points: Complex[np.ndarray, "N K"], mean: Complex[np.ndarray, " K"]) -> Complex[np.ndarray, "N K"]:
    """Centred shapes, turned and scaled into the tangent space of the mean: what they then differ by is orthogonal to m and to i m."""
    along = points @ mean.conj() / np.linalg.norm(mean) ** 2
    return points / along[:, None]

"""Deep neural networks under stress: features are damaged on purpose, and a linear classifier that learns on the damaged ones is asked.

Dimensions are dropped at random or by principal components, values are rounded to a few levels, or both. Everything is fitted on training
features and applied to both sides; the classifier is then trained anew, on features of one scale whatever the damage.

Source: Carvalho, Cord, Avila, Thome, Valle: Deep neural networks under stress, ICIP 2016, https://arxiv.org/abs/1605.03498; the stresses
follow the authors' released MATLAB code and tables. The solver of the classifier, its C and the scale are our reconstruction.
"""

import warnings
from dataclasses import dataclass, replace
from functools import cache, cached_property

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from sklearn.model_selection import cross_val_score
from sklearn.svm import LinearSVC
from torch import Tensor, nn

from facelab.networks.evaluation import evaluating

FULL = 32
"""Bits of a number before any stress."""


def unit(features: Float[np.ndarray, "n m"]) -> Float[np.ndarray, "n m"]:
    """Each vector divided by its Euclidean length; a vector of zeros stays as it is."""
    lengths = np.linalg.norm(features, axis=1, keepdims=True)
    return features / np.where(lengths > 0, lengths, 1.0)


class FeatureNetwork(nn.Module):
    """Three convolutions of stride 2 and a layer of features behind a ReLU; the last layer, which names the source's classes, is left off.

        network = FeatureNetwork(classes=160)
        vectors = network.features(images)  # (B, 512), of unit length

    Args:
        classes: of the source task.
        size: pixels along a side of the gray images, a multiple of 8.
        features: length of a vector.
        channels: of the three convolutions.
    """

    def __init__(self, classes: int, size: int = 40, features: int = 512, channels: tuple[int, int, int] = (16, 32, 48)) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for inputs, outputs in zip((1, *channels), channels, strict=False):
            layers += [nn.Conv2d(inputs, outputs, 3, 2, 1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()]
        self.body = nn.Sequential(*layers, nn.Flatten(), nn.Linear(channels[-1] * (size // 8) ** 2, features), nn.ReLU())
        self.head = nn.Linear(features, classes)

    def forward(self, images: Float[Tensor, "B 1 H W"]) -> Float[Tensor, "B classes"]:
        """Logits of the source's classes, to train with."""
        return self.head(self.body(images))

    def features(self, images: Float[np.ndarray, "B 1 H W"]) -> Float[np.ndarray, "B m"]:
        """Vectors of unit length, in evaluation mode."""
        with evaluating(self), torch.no_grad():
            return unit(self.body(torch.from_numpy(images)).double().numpy())


@dataclass(frozen=True)
class RandomDimensions:
    """Keeps k coordinates chosen at random (DR-1). Sets are nested: a smaller k keeps some of those that a larger one keeps.

    Attributes:
        order: in which the coordinates are taken.
    """

    order: Int[np.ndarray, " m"]

    @classmethod
    def drawn(cls, m: int, seed: int = 0) -> "RandomDimensions":
        """One order of m coordinates, for training and test vectors alike."""
        return cls(np.random.default_rng(seed).permutation(m))

    def __call__(self, features: Float[np.ndarray, "n m"], k: int) -> Float[np.ndarray, "n k"]:
        """The first k coordinates in this order."""
        return features[:, self.order[: _checked(k, len(self.order))]]


@dataclass(frozen=True)
class Components:
    """Projects onto the k directions of largest variance (DR-2), without subtracting the mean, as the released code does.

    Attributes:
        basis: eigenvectors of the covariance as columns, by falling eigenvalue; fewer of them than there were vectors.
        variances: their eigenvalues.
    """

    basis: Float[np.ndarray, "m r"]
    variances: Float[np.ndarray, " r"]

    @classmethod
    def fitted(cls, features: Float[np.ndarray, "n m"]) -> "Components":
        """The components of training features.

        Raises:
            ValueError: fewer than two vectors.
        """
        if len(features) < 2:
            raise ValueError(f"{len(features)} vectors have no covariance; give at least 2.")
        variances, basis = np.linalg.eigh(np.cov(features, rowvar=False).reshape(features.shape[1], -1))
        rank = min(len(features) - 1, features.shape[1])  # n vectors differ from their mean in n - 1 directions
        return cls(basis[:, ::-1][:, :rank].copy(), variances[::-1][:rank].clip(0).copy())

    def __call__(self, features: Float[np.ndarray, "n m"], k: int) -> Float[np.ndarray, "n k"]:
        """Coordinates along the first k components."""
        return features @ self.basis[:, : _checked(k, self.basis.shape[1])]


@dataclass(frozen=True)
class Dictionary:
    """Levels that values are rounded to: the middles of equal bins between the lowest and the highest training value.

    Attributes:
        low, high: of training values, (1,1) for all dimensions together (Q-1) or (1,k) with a number for each (Q-2).
        levels: how many.
    """

    low: Float[np.ndarray, "1 d"]
    high: Float[np.ndarray, "1 d"]
    levels: int

    @classmethod
    def fitted(cls, features: Float[np.ndarray, "n k"], levels: int, *, per_dimension: bool = False) -> "Dictionary":
        """The dictionary of training features.

        Raises:
            ValueError: fewer than 1 level.
        """
        if levels < 1:
            raise ValueError(f"A dictionary of {levels} levels says nothing; give 1 or more.")
        axis = 0 if per_dimension else None
        return cls(features.min(axis=axis, keepdims=True), features.max(axis=axis, keepdims=True), levels)

    @property
    def step(self) -> Float[np.ndarray, "1 d"]:
        """Width of a bin."""
        return (self.high - self.low) / self.levels

    def codes(self, features: Float[np.ndarray, "n k"]) -> Int[np.ndarray, "n k"]:
        """The number of each value's bin, from 0; a value outside takes the end bin, one of a constant dimension the first."""
        steps = np.where(self.step > 0, self.step, np.inf)
        return np.floor((features - self.low) / steps).clip(0, self.levels - 1).astype(np.int64)

    def __call__(self, features: Float[np.ndarray, "n k"]) -> Float[np.ndarray, "n k"]:
        """Each value as the level of its bin."""
        return self.low + self.step * (self.codes(features) + 0.5)


def bits_of(k: int, levels: int | None = None) -> int:
    """Bits of a vector of k dimensions, of the given number of levels each or, without it, of 32 bits.

    bits_of(409, 27)  # 2045
    """
    return k * (FULL if levels is None else int(levels - 1).bit_length())


def compression_of(m: int, k: int, levels: int | None = None) -> float:
    """The share of the m numbers of 32 bits that is saved, 0..1."""
    return 1 - bits_of(k, levels) / bits_of(m)


@dataclass(frozen=True)
class Descriptor:
    """Vectors of one kind, with what the classifier is trained and asked on.

        small = deep.damaged(10, 8)  # 10 components of 8 levels each
        small.right().mean() / deep.right().mean()  # the share of the score that is kept

    Attributes:
        training, test: vectors of unit length.
        labels, truth: their classes.
        penalty: C of the classifier.
    """

    training: Float[np.ndarray, "n m"]
    labels: Int[np.ndarray, " n"]
    test: Float[np.ndarray, "t m"]
    truth: Int[np.ndarray, " t"]
    penalty: float = 1.0

    @cached_property
    def components(self) -> Components:
        """Of the training vectors."""
        return Components.fitted(self.training)

    def reduced(self, k: int, draw: int | None = None) -> "Descriptor":
        """The same vectors in k dimensions.

        Args:
            k: how many.
            draw: None for components, or the seed of random dimensions.
        """
        reduction = self.components if draw is None else RandomDimensions.drawn(self.training.shape[1], draw)
        return replace(self, training=reduction(self.training, k), test=reduction(self.test, k))

    def rounded(self, levels: int, *, per_dimension: bool = True) -> "Descriptor":
        """The same vectors, their values as levels of a dictionary that training vectors fit.

        Args:
            levels: how many.
            per_dimension: whether each dimension has a dictionary of its own.
        """
        dictionary = Dictionary.fitted(self.training, levels, per_dimension=per_dimension)
        return replace(self, training=dictionary(self.training), test=dictionary(self.test))

    def damaged(self, k: int, levels: int) -> "Descriptor":
        """Both stresses (FC): k components, then a dictionary for each of them that the reduced training vectors fit."""
        return self.reduced(k).rounded(levels)

    def right(self) -> Bool[np.ndarray, " t"]:
        """Whether a linear classifier, one class against the rest, that learns on the training vectors names each test vector's class."""
        training, test = rescaled(self.training, self.test)
        return classifier(self.penalty).fit(training, self.labels).predict(test) == self.truth


class TwoBases(Descriptor):
    """The fault that each side is projected onto components of its own, so that a coordinate means two things."""

    def reduced(self, k: int, draw: int | None = None) -> Descriptor:
        """As `Descriptor.reduced`, but for the components of the test vectors."""
        found = super().reduced(k, draw)
        return found if draw is not None else replace(found, test=Components.fitted(self.test)(self.test, k))


def classifier(penalty: float) -> LinearSVC:
    """The classifier of every measurement."""
    return LinearSVC(C=penalty, dual=False)  # the primal has no random order and ends at the optimum


def rescaled(training: Float[np.ndarray, "n m"], test: Float[np.ndarray, "t m"]) -> tuple[np.ndarray, np.ndarray]:
    """Both sides less the mean of the training vectors, divided by the root of their total variance.

    Stress shrinks vectors, and short vectors are regularised more under the same C; after this, only what they say has changed.
    """
    middle, scale = training.mean(axis=0), np.sqrt(training.var(axis=0).sum())
    return (training - middle) / (scale or 1.0), (test - middle) / (scale or 1.0)


def chosen_penalty(training: Float[np.ndarray, "n m"], labels: Int[np.ndarray, " n"], folds: int = 3) -> float:
    """The C, a power of ten, whose cross-validated score neither ten times more nor ten times less exceeds.

    Starting from 1, the search climbs to the nearest peak, so that no end of a list cuts it off.

    Args:
        folds: of the cross-validation, with equal shares of the classes.
    """
    whole, _ = rescaled(training, training)

    @cache
    def score(power: int) -> float:
        with warnings.catch_warnings():  # of people with three pictures two are left to learn from: whom they show is no number even so
            warnings.filterwarnings("ignore", "The number of unique classes is greater than 50%", UserWarning)
            return float(cross_val_score(classifier(10.0**power), whole, labels, cv=folds).mean())

    power = 0
    while (better := max((power, power - 1, power + 1), key=score)) != power:
        power = better
    return 10.0**power


def _checked(k: int, most: int) -> int:
    if not 1 <= k <= most:
        raise ValueError(f"There are no {k} dimensions to keep; give 1 to {most}.")
    return k

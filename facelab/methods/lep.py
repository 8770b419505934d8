"""Local expression predictions: trees on connected patches of the face, and a confidence in every patch.

Source: A. Dapogny, K. Bailly, S. Dubuisson, Confidence-Weighted Local Expression Predictions for Occlusion Handling in Expression
Recognition and Action Unit Detection, IJCV 2018. The method was read in outline: how a patch grows, the shape of the exponential
and the numbers of units are reconstructions.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.tree import DecisionTreeClassifier
from torch import Tensor, nn


def neighbours(triangles: Int[np.ndarray, "triangles 3"]) -> Bool[np.ndarray, "triangles triangles"]:
    """Whether two triangles share an edge, which is two corners."""
    return (triangles[:, None, :, None] == triangles[None, :, None, :]).any(axis=3).sum(axis=2) == 2


def relative_areas(points: Float[np.ndarray, "points 2"], triangles: Int[np.ndarray, "triangles 3"]) -> Float[np.ndarray, " triangles"]:
    """The area of each triangle as a share of all."""
    (ax, ay), (bx, by) = (np.moveaxis(points[triangles[:, k]] - points[triangles[:, 0]], -1, 0) for k in (1, 2))
    areas = np.abs(ax * by - ay * bx)
    return areas / areas.sum()


def grow_subspace(
    adjacent: Bool[np.ndarray, "triangles triangles"], areas: Float[np.ndarray, " triangles"], fraction: float, rng: np.random.Generator
) -> Bool[np.ndarray, " triangles"]:
    """A connected patch: one random triangle, large ones oftener, then random neighbours until it covers `fraction` of the face.

    It stops before if there is no neighbour left. A triangle is drawn first by its area, or the many tiny ones of the lips would begin
    most patches.
    """
    patch = np.zeros(len(areas), bool)
    patch[rng.choice(len(areas), p=areas / areas.sum())] = True
    while areas[patch].sum() < fraction - 1e-9:
        around = np.flatnonzero(adjacent[patch].any(axis=0) & ~patch)
        if not len(around):
            break
        patch[rng.choice(around)] = True
    return patch


class LocalSubspaceForest(ClassifierMixin, BaseEstimator):
    """A forest in which every tree sees one patch of the face; scikit-learn grows the trees.

        forest = LocalSubspaceForest(triangles, areas, corners, fraction=0.2).fit(features, labels, groups=people)
        forest.predict_proba(hidden_features, confidence)

    Args:
        triangles: indices of three landmarks each.
        areas: share of the face of each triangle.
        corners: (features, points), the landmarks that each feature reads; a tree may ask only what its patch holds.
        fraction: R, the least share of the face that a patch covers; 1 makes the ordinary global forest.
        trees: T, how many.
        min_samples_leaf: as in scikit-learn.
        random_state: seed of people, patches and splits.
    """

    def __init__(
        self, triangles, areas, corners, fraction: float = 0.2, trees: int = 150, min_samples_leaf: int = 1, random_state: int = 0
    ):
        self.triangles, self.areas, self.corners = triangles, areas, corners
        self.fraction, self.trees, self.min_samples_leaf, self.random_state = fraction, trees, min_samples_leaf, random_state

    def fit(self, X: Float[np.ndarray, "samples features"], y: np.ndarray, groups: np.ndarray | None = None) -> "LocalSubspaceForest":
        """Grows every tree on people drawn with replacement, with as many samples of each class.

        Args:
            X: as `facelab.blocks.face_features` makes them.
            y: the label of each sample.
            groups: the person of each sample, so that people and no images are left out of a tree; each image by itself if not given.

        Raises:
            ValueError: `fraction` is not in 0..1, or `corners` do not fit the features.
        """
        if not 0 < self.fraction <= 1:
            raise ValueError(f"fraction={self.fraction} is no share of a face; give a number above 0, at most 1.")
        if self.corners.shape[0] != X.shape[1]:
            raise ValueError(f"There are landmarks of {self.corners.shape[0]} features but {X.shape[1]} features; give a row for each.")
        # apart, so that forests of every R draw the same people
        growing, rng = np.random.default_rng(self.random_state).spawn(2)
        self.classes_, codes = np.unique(y, return_inverse=True)
        people, person = np.unique(np.arange(len(y)) if groups is None else groups, return_inverse=True)
        adjacent, X = neighbours(self.triangles), np.asarray(X, np.float32)
        self.subspaces_ = np.stack([grow_subspace(adjacent, self.areas, self.fraction, growing) for _ in range(self.trees)])
        self.in_bag_ = np.zeros((self.trees, len(y)), bool)
        grown = []
        for number, patch in enumerate(self.subspaces_):
            on_patch = np.zeros(self.corners.shape[1], bool)
            on_patch[self.triangles[patch]] = True
            columns = np.flatnonzero(~(self.corners & ~on_patch).any(axis=1))
            drawn = np.bincount(rng.integers(len(people), size=len(people)), minlength=len(people))[person]
            self.in_bag_[number] = drawn > 0
            pool = np.repeat(np.arange(len(y)), drawn)
            present, counts = np.unique(codes[pool], return_counts=True)  # a few people may lack a class
            rows = np.concatenate([rng.permutation(pool[codes[pool] == c])[: counts.min()] for c in present])
            tree = DecisionTreeClassifier(
                max_features="sqrt", min_samples_leaf=self.min_samples_leaf, criterion="entropy", random_state=int(rng.integers(2**31))
            )
            grown.append((columns, tree.fit(X[np.ix_(rows, columns)], codes[rows])))
        self._stack(grown)
        return self

    def _stack(self, grown: list[tuple[np.ndarray, DecisionTreeClassifier]]) -> None:
        """The trees as arrays of one length, so that all are read together: a loop over trees would cost more than the reading."""
        most = max(tree.tree_.node_count for _, tree in grown)
        shape = len(grown), most
        self.depth_ = max(tree.get_depth() for _, tree in grown)
        self.feature_, self.threshold_ = np.zeros(shape, int), np.zeros(shape)
        self.child_ = np.tile(np.arange(most)[:, None], (len(grown), 1, 2))  # a leaf is its own child
        self.leaf_ = np.zeros((*shape, len(self.classes_)))
        for number, (columns, estimator) in enumerate(grown):
            tree = estimator.tree_
            inner = np.flatnonzero(tree.children_left >= 0)
            self.feature_[number, inner] = columns[tree.feature[inner]]
            self.threshold_[number, inner] = tree.threshold[inner]
            self.child_[number, inner] = np.stack([tree.children_left, tree.children_right], axis=1)[inner]
            value = tree.value[:, 0]
            self.leaf_[number, : tree.node_count, estimator.classes_] = (value / value.sum(axis=1, keepdims=True)).T

    def trees_alone(self, X: Float[np.ndarray, "samples features"]) -> Float[np.ndarray, "samples trees classes"]:
        """What each tree says by itself, p_t(c | x)."""
        X, tree = np.asarray(X, np.float32), np.arange(self.trees)
        node, sample = np.zeros((len(X), self.trees), int), np.arange(len(X))[:, None]
        for _ in range(self.depth_):
            right = X[sample, self.feature_[tree, node]] > self.threshold_[tree, node]
            node = self.child_[tree, node, right.astype(int)]
        return self.leaf_[tree, node]

    def predict_proba(
        self, X: Float[np.ndarray, "samples features"], confidence: Float[np.ndarray, "samples triangles"] | None = None
    ) -> Float[np.ndarray, "samples classes"]:
        """The mean of the trees, each weighted by the confidence (0..1) in its patch if there is one."""
        alone = self.trees_alone(X)
        if confidence is None:
            return alone.mean(axis=1)
        weights = tree_confidence(confidence, self.subspaces_, self.areas)
        return np.einsum("nt,ntc->nc", weights / weights.sum(axis=1, keepdims=True), alone)

    def predict(self, X: Float[np.ndarray, "samples features"], confidence: np.ndarray | None = None) -> np.ndarray:
        """The likeliest class."""
        return self.classes_[self.predict_proba(X, confidence).argmax(axis=1)]

    def local_predictions(
        self, X: Float[np.ndarray, "samples features"], out_of_bag: bool = False
    ) -> Float[np.ndarray, "samples triangles classes"]:
        """LEP_j(c | x): the mean of the trees that see triangle j, small patches counting more.

        Args:
            X: features.
            out_of_bag: only trees that never saw the sample's person; X must be the samples of `fit`.

        Returns:
            Sums to 1 over classes; uniform for a triangle that no tree sees.
        """
        sees = self.subspaces_ / self.subspaces_.sum(axis=1, keepdims=True)
        speaks = (~self.in_bag_).T.astype(float) if out_of_bag else np.ones((len(X), self.trees))
        # the constant is far below any tree's share, and decides only where there is no tree
        total = np.einsum("nt,tf,ntc->nfc", speaks, sees, self.trees_alone(X), optimize=True) + 1e-12
        return total / total.sum(axis=2, keepdims=True)


def tree_confidence(
    confidence: Float[np.ndarray, "samples triangles"],
    subspaces: Bool[np.ndarray, "trees triangles"],
    areas: Float[np.ndarray, " triangles"],
) -> Float[np.ndarray, "samples trees"]:
    """The confidence in a tree: the mean over its patch, by area; never quite zero, so that some tree always speaks."""
    weights = subspaces * areas
    return confidence @ (weights / weights.sum(axis=1, keepdims=True)).T + 1e-6


def shrink(
    predictions: Float[np.ndarray, "samples triangles classes"], confidence: Float[np.ndarray, "samples triangles"]
) -> Float[np.ndarray, "samples triangles classes"]:
    """Local predictions drawn towards the uniform distribution where there is little confidence, for a second forest on action units."""
    trust = confidence[..., None]
    return trust * predictions + (1 - trust) / predictions.shape[2]


class LandmarkAutoencoder(nn.Module):
    """Codes the descriptor of every landmark, then the codes of each region of the face together, and decodes both again.

    Args:
        regions: indices of the landmarks of each region; every landmark is in one of them.
        features: length of a descriptor.
        code: numbers that a landmark's descriptor is pressed into.
        region_code: numbers that a region keeps, for each of its landmarks.
    """

    def __init__(self, regions: Sequence[Sequence[int]], features: int = 32, code: int = 12, region_code: int = 4):
        super().__init__()
        self.regions = [list(region) for region in regions]
        points = sum(map(len, self.regions))
        self.encode_weight = nn.Parameter(torch.randn(points, features, code))  # a descriptor has length one, so codes begin near one
        self.encode_bias = nn.Parameter(torch.zeros(points, 1, code))
        self.decode_weight = nn.Parameter(torch.randn(points, code, features) / (code * features) ** 0.5)
        self.decode_bias = nn.Parameter(torch.zeros(points, 1, features))
        self.press = nn.ModuleList(nn.Linear(len(r) * code, len(r) * region_code) for r in self.regions)
        self.spread = nn.ModuleList(nn.Linear(len(r) * region_code, len(r) * code) for r in self.regions)

    def forward(self, descriptors: Float[Tensor, "batch points features"]) -> Float[Tensor, "batch points features"]:
        """The descriptors as it can rebuild them."""
        codes = torch.tanh(torch.baddbmm(self.encode_bias, descriptors.transpose(0, 1), self.encode_weight))
        rebuilt = torch.empty_like(codes)
        for region, press, spread in zip(self.regions, self.press, self.spread, strict=True):
            together = codes[region].transpose(0, 1).flatten(1)
            rebuilt[region] = torch.tanh(spread(torch.tanh(press(together)))).unflatten(1, (len(region), -1)).transpose(0, 1)
        return torch.baddbmm(self.decode_bias, rebuilt, self.decode_weight).transpose(0, 1)

    def errors(self, descriptors: Float[Tensor, "batch points features"]) -> Float[Tensor, "batch points"]:
        """The squared length of what is lost at each landmark."""
        return (self(descriptors) - descriptors).square().sum(dim=2)


def rebuilding_loss(model: nn.Module, batch: dict[str, Tensor], generator: torch.Generator) -> Float[Tensor, ""]:
    """What the autoencoder loses of "descriptors", each with a little noise on its way in; as `facelab.training.fit` takes it."""
    clean = batch["descriptors"]
    noise = 0.05 * torch.randn(clean.shape, generator=generator).to(clean)
    return (model(clean + noise) - clean).square().sum(dim=2).mean()


@dataclass(frozen=True)
class Calibration:
    """Turns errors into confidences: 1 up to the median error of clean faces, 1/2 at their 95th percentile, landmark by landmark.

    confidence = Calibration.of(clean_errors)(errors)
    """

    median: Float[np.ndarray, " points"]
    scale: Float[np.ndarray, " points"]

    @classmethod
    def of(cls, errors: Float[np.ndarray, "samples points"]) -> "Calibration":
        """From the errors on unoccluded faces that the autoencoder was not trained on."""
        median, high = np.quantile(errors, [0.5, 0.95], axis=0)
        return cls(median, (high - median) / np.log(2) + 1e-12)

    def __call__(self, errors: Float[np.ndarray, "samples points"]) -> Float[np.ndarray, "samples points"]:
        """The confidence (0..1] in each landmark."""
        return np.exp(-np.maximum(errors - self.median, 0) / self.scale)


def triangle_confidence(
    confidence: Float[np.ndarray, "samples points"], triangles: Int[np.ndarray, "triangles 3"]
) -> Float[np.ndarray, "samples triangles"]:
    """The confidence in a triangle is the mean of those in its corners."""
    return confidence[:, triangles].mean(axis=2)

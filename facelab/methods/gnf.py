"""Greedy neural forests, and the cascade that first moves a shape model and then the points themselves.

A neural forest is a small network whose last layer decides at the nodes of soft trees. Evaluated softly it mixes all leaves of a tree,
evaluated greedily it walks to a single one. A *greedy* neural forest is trained for the walk.

Source: Dapogny, Bailly, Dubuisson, "Face Alignment with Cascaded Semi-Parametric Deep Greedy Neural Forests", Pattern Recognition
Letters 2018, arXiv:1703.01597. How the paper trains for the walk could not be read, so the straight-through rule is a reconstruction.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from sklearn.base import BaseEstimator, MultiOutputMixin, RegressorMixin, clone
from sklearn.utils.validation import check_is_fitted, validate_data
from torch import Tensor, nn

from facelab.blocks.parameters import seeded, shake
from facelab.blocks.shape_model import ShapeModel, as_complex, as_pairs
from facelab.blocks.trees import leaf_probabilities, straight_through_leaves, tree_depth

HOW = ("soft", "greedy")
FIRST_LOGIT = 1.5
"""Standard deviation of the first logits: nodes that neither are sure, so that gradients vanish, nor all undecided."""


class NeuralForest(nn.Module):
    """Dense layer, then trees whose nodes decide on its output: y = 1/T sum_t sum_l mu_tl(h) pi_tl.

    Args:
        features: numbers that describe a sample, standardised.
        outputs: numbers that are predicted.
        trees: T of them.
        depth: D of every tree, which has 2^D - 1 nodes and 2^D leaves.
        width: of the dense layer.
    """

    def __init__(self, features: int, outputs: int, trees: int = 20, depth: int = 5, width: int = 64):
        super().__init__()
        self.trees, self.depth = trees, tree_depth(2**depth - 1)
        self.project = nn.Sequential(nn.Linear(features, width), nn.ReLU())
        self.nodes = nn.Linear(width, trees * (2**depth - 1))
        nn.init.normal_(self.nodes.weight, std=FIRST_LOGIT * math.sqrt(6 / width))  # a unit of the first layer has the square 1/6
        self.leaves = nn.Parameter(torch.randn(trees, 2**depth, outputs))

    def decisions(self, x: Float[Tensor, "B features"]) -> Float[Tensor, "B trees nodes"]:
        """Logit of going left at every node, in heap order as in `blocks.trees`."""
        return self.nodes(self.project(x)).unflatten(1, (self.trees, -1))

    def forward(self, x: Float[Tensor, "B features"], evaluation: str = "soft") -> Float[Tensor, "B outputs"]:
        """The soft or the greedy answer; the gradient of the greedy one is the straight-through one, d in place of [d > 1/2].

        Raises:
            ValueError: an evaluation that is neither "soft" nor "greedy".
        """
        return self.reach(x, evaluation).flatten(1) @ self.leaves.flatten(0, 1) / self.trees

    def reach(self, x: Float[Tensor, "B features"], evaluation: str = "soft") -> Float[Tensor, "B trees leaves"]:
        """mu_tl, how far each leaf is reached: shares of one softly, one leaf a tree greedily."""
        reached = {"soft": leaf_probabilities, "greedy": straight_through_leaves}[known(evaluation, "evaluation")]
        return reached(self.decisions(x).flatten(0, 1)).reshape(len(x), self.trees, -1)

    def trees_alone(self, x: Float[Tensor, "B features"], evaluation: str = "soft") -> Float[Tensor, "B trees outputs"]:
        """What each tree says; the forest says their mean."""
        return torch.einsum("btl,tlo->bto", self.reach(x, evaluation), self.leaves)


def known(how: str, name: str) -> str:
    """`how` as it is.

    Raises:
        ValueError: it is neither "soft" nor "greedy".
    """
    if how not in HOW:
        raise ValueError(f"{name} = {how!r} is not known; use 'soft' or 'greedy'.")
    return how


def nodes_evaluated(trees: int, depth: int, evaluation: str) -> int:
    """Node decisions that one answer takes: all of them softly, one path a tree greedily.

    Raises:
        ValueError: an evaluation that is neither "soft" nor "greedy".
    """
    return trees * (depth if known(evaluation, "evaluation") == "greedy" else 2**depth - 1)


class NeuralForestRegressor(MultiOutputMixin, RegressorMixin, BaseEstimator):
    """A neural forest with scikit-learn's interface: standardises, trains with Adam on the squared error, answers softly or greedily.

        forest = NeuralForestRegressor(training="greedy", evaluation="greedy").fit(X, Y)
        answers = forest.predict(X_test)

    Args:
        training: "soft" trains the soft answer, "greedy" the greedy one, straight through.
        evaluation: "soft" mixes all leaves, "greedy" walks to one leaf a tree; may be set after training.
        trees, depth, width: as `NeuralForest` takes them.
        steps, batch_size, learning_rate: of Adam, whose rate falls to zero along half a cosine.
        random_state: whole number that fixes first weights and batches.
    """

    def __init__(
        self, training="greedy", evaluation="greedy", trees=20, depth=5, width=64, steps=600, batch_size=128, learning_rate=0.01,
        random_state=0,
    ):  # fmt: skip
        self.training = training
        self.evaluation = evaluation
        self.trees = trees
        self.depth = depth
        self.width = width
        self.steps = steps
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.random_state = random_state

    def fit(self, X, y) -> "NeuralForestRegressor":
        """Trains on X (N, features) and y (N,) or (N, outputs).

        Raises:
            ValueError: data that scikit-learn refuses, or training or evaluation that is not known.
        """
        known(self.training, "training"), known(self.evaluation, "evaluation")
        X, y = validate_data(self, X, y, multi_output=True, y_numeric=True, dtype=np.float64)
        self.centre_, self.spread_ = X.mean(axis=0), X.std(axis=0)
        self.spread_[self.spread_ == 0] = 1.0
        self.level_ = y.mean(axis=0)
        self.unit_ = float((y - self.level_).std()) or 1.0  # one for all outputs: what is large stays large
        inputs = self.standardised(X)
        targets = torch.from_numpy((y - self.level_) / self.unit_).float().reshape(len(y), -1)
        with seeded(int(self.random_state or 0)):
            self.forest_ = NeuralForest(X.shape[1], targets.shape[1], self.trees, self.depth, self.width)
            shake(self.forest_)
            optimizer = torch.optim.Adam(self.forest_.parameters(), lr=self.learning_rate)
            self.losses_ = []
            for step in range(self.steps):
                for group in optimizer.param_groups:
                    group["lr"] = self.learning_rate * 0.5 * (1 + math.cos(math.pi * step / self.steps))
                rows = torch.randint(len(inputs), (min(self.batch_size, len(inputs)),))
                loss = (self.forest_(inputs[rows], self.training) - targets[rows]).square().mean()
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                self.losses_.append(float(loss.detach()))
        self.forest_.requires_grad_(False)
        return self

    def predict(self, X) -> np.ndarray:
        """Answers (N,) or (N, outputs), as y was."""
        check_is_fitted(self)
        X = validate_data(self, X, reset=False, dtype=np.float64)
        answer = self.forest_(self.standardised(X), self.evaluation).double().numpy()
        return answer.reshape(len(X), *np.shape(self.level_)) * self.unit_ + self.level_

    def standardised(self, X: Float[np.ndarray, "N features"]) -> Float[Tensor, "N features"]:
        """What the forest gets: every feature with the mean 0 and the deviation 1 of the training data."""
        return torch.from_numpy((X - self.centre_) / self.spread_).float()


@dataclass(frozen=True)
class Stage:
    """One update of the cascade: p <- p + Delta(x) if it is parametric, s <- s + Delta(x) if it is explicit.

    Attributes:
        parametric: whether it moves parameters of the model or the points themselves.
        regressor: scikit-learn's interface, trained: features -> update.
        model: of the shapes.
    """

    parametric: bool
    regressor: Any
    model: ShapeModel

    @classmethod
    def trained(
        cls,
        kind: str,
        regressor: BaseEstimator,
        model: ShapeModel,
        features: Float[np.ndarray, "N features"],
        shapes: Float[np.ndarray, "N K 2"],
        truth: Float[np.ndarray, "N K 2"],
    ) -> "Stage":
        """Trains a copy of `regressor` for the update from `shapes` to the truth; `kind` is "P" or "E".

        Raises:
            ValueError: another kind.
        """
        if kind not in ("P", "E"):
            raise ValueError(f"A stage of kind {kind!r} is not known; use 'P' (parametric) or 'E' (explicit).")
        flat = [model.parameters(s) if kind == "P" else s.reshape(len(s), -1) for s in (shapes, truth)]
        return cls(kind == "P", clone(regressor).fit(features, flat[1] - flat[0]), model)

    def move(self, shapes: Float[np.ndarray, "N K 2"], features: Float[np.ndarray, "N features"]) -> Float[np.ndarray, "N K 2"]:
        """The shapes after the update that the features of their surroundings call for."""
        update = self.regressor.predict(features)
        if self.parametric:
            return self.model.shape(self.model.plausible(self.model.parameters(shapes) + update))
        return shapes + update.reshape(shapes.shape)


Describe = Callable[[Float[np.ndarray, "N K 2"]], Float[np.ndarray, "N features"]]


def train_cascades(
    plans: Sequence[str],
    regressor: BaseEstimator,
    model: ShapeModel,
    describe: Describe,
    start: Float[np.ndarray, "N K 2"],
    truth: Float[np.ndarray, "N K 2"],
) -> dict[str, list[Stage]]:
    """Cascades, each stage trained where the stages before it have left the shapes; plans that begin alike share their stages.

        cascades = train_cascades(["PPE", "EEE"], NeuralForestRegressor(), model, describe, start, truth)

    Args:
        plans: kinds of the stages, such as "PPE": twice parametric, then explicit.
        regressor: scikit-learn's interface; each stage trains a copy.
        model: of the shapes.
        describe: shapes -> features of the training images around them.
        start: pixels.
        truth: pixels.

    Raises:
        ValueError: a kind of stage that is not known.
    """
    trained: dict[str, list[Stage]] = {"": []}
    shapes, features = {"": start}, {}
    for plan in plans:
        for before, after in pairwise(plan[:length] for length in range(len(plan) + 1)):
            if after in trained:
                continue
            if before not in features:
                features[before] = describe(shapes[before])
            stage = Stage.trained(after[-1], regressor, model, features[before], shapes[before], truth)
            trained[after] = [*trained[before], stage]
            shapes[after] = stage.move(shapes[before], features[before])
    return {plan: trained[plan] for plan in plans}


def run_cascade(stages: Sequence[Stage], describe: Describe, start: Float[np.ndarray, "N K 2"]) -> Float[np.ndarray, "stages N K 2"]:
    """The shapes at the start and after every stage, pixels; `describe` gives features of the images around shapes."""
    path = [start]
    for stage in stages:
        path.append(stage.move(path[-1], describe(path[-1])))
    return np.stack(path)


def rough_starts(
    model: ShapeModel,
    truth: Float[np.ndarray, "N K 2"],
    seed: int,
    shift: float = 0.05,
    scale: float = 0.08,
    turn: float = 8.0,
) -> Float[np.ndarray, "N K 2"]:
    """Mean shapes in the box of each face, moved as a detector might: what a cascade starts from.

    Args:
        model: of the shapes.
        truth: pixels; only its box is used.
        seed: of the random numbers.
        shift: standard deviation, in sides of the box.
        scale: standard deviation, relative.
        turn: standard deviation, degrees.
    """
    random = np.random.default_rng(seed)
    low, high = as_complex(truth.min(axis=1)), as_complex(truth.max(axis=1))
    side = np.maximum((high - low).real, (high - low).imag)
    mean = as_pairs(model.mean)
    across = np.ptp(mean, axis=0).max()
    middle = complex(*(mean.min(axis=0) + mean.max(axis=0)) / 2)
    grown = side / across * (1 + scale * random.normal(size=len(truth)))
    turned = np.exp(1j * np.radians(turn) * random.normal(size=len(truth)))
    place = (low + high) / 2 + shift * side * as_complex(random.normal(size=(len(truth), 2)))
    return as_pairs((grown * turned)[:, None] * (model.mean - middle) + place[:, None])

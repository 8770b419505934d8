"""Follow a face through the stages of a cascade, with the start pushed and the forests thinned."""

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import torch

from facelab.blocks.shape_model import as_complex, as_pairs
from facelab.explorers.explorer import Explorer, View
from facelab.explorers.parts import control, displayable
from facelab.methods.gnf import NeuralForestRegressor, Stage, nodes_evaluated
from facelab.metrics import nme
from facelab.pictures.cascade import show_stages


class CascadeExplorer(Explorer):
    """Choose face, cascade and evaluation, thin the forests, push or turn the start, and see the shape after every stage."""

    def __init__(
        self,
        images: Any,
        cascades: Mapping[str, Sequence[Stage]],
        describe: Callable[[np.ndarray, int], np.ndarray],
        start: np.ndarray,
        truth: np.ndarray,
    ) -> None:
        """Follow faces through cascades of neural forests.

        Args:
            images: gray (B,1,H,W) in [0,1].
            cascades: plan, such as "PPE" -> its trained stages, all equally many.
            describe: (shapes (1,K,2), number of the image) -> features (1, F).
            start: (B,K,2) where the cascades start, pixels.
            truth: (B,K,2), pixels.
        """
        seen = displayable(images)
        plans = list(cascades)
        regressor = cascades[plans[0]][0].regressor
        count, most = len(cascades[plans[0]]), regressor.trees

        @lru_cache(maxsize=64)
        def path_of(face: int, plan: str, evaluation: str, trees: int, push: int, turn: int) -> np.ndarray:
            points = as_complex(start[face])
            middle = points.mean()
            shape = as_pairs((points - middle) * np.exp(1j * np.radians(turn)) + middle + push)[None]
            path = [shape]
            for stage in cascades[plan]:
                thinned = Stage(stage.parametric, Thinned(stage.regressor, evaluation, trees), stage.model)
                path.append(thinned.move(path[-1], describe(path[-1], face)))
            return np.concatenate(path)

        def draw(face: int, plan: str, stage: int, evaluation: str, trees: int, push: int, turn: int) -> View:
            path = path_of(face, plan, evaluation, trees, push, turn)
            errors = nme(path, np.repeat(truth[[face]], len(path), axis=0))
            picture = show_stages(seen[face], path, truth[face], plan, errors, stage=stage)
            nodes = nodes_evaluated(trees, regressor.depth, evaluation)
            change = f"stage {stage} takes the error from {errors[stage - 1]:.1f} to {errors[stage]:.1f} %" if stage else "the start"
            return View(picture, f"Face {face}, {plan}, {evaluation}, {nodes} nodes a stage: {change}; after all {errors[-1]:.1f} %.")

        controls = {
            "face": control((0, len(seen) - 1), 0, "face"),
            "plan": control(plans, plans[0], "cascade"),
            "stage": control((0, count), count, "stage"),
            "evaluation": control(["greedy", "soft"], "greedy", "evaluation"),
            "trees": control((1, most), most, "trees"),
            "push": control((-8, 8), 0, "push start, px"),
            "turn": control((-30, 30), 0, "turn start, °"),
        }
        super().__init__(draw, controls, page={"face": min(5, len(seen)), "stage": count + 1}, name="Cascade explorer")


class Thinned:
    """A trained forest of which only the first trees speak; has no more of scikit-learn's interface than a stage asks for."""

    def __init__(self, regressor: NeuralForestRegressor, evaluation: str, trees: int):
        self.regressor, self.evaluation, self.trees = regressor, evaluation, trees

    def predict(self, features: np.ndarray) -> np.ndarray:
        """The mean of the first trees."""
        trained = self.regressor
        with torch.inference_mode():
            alone = trained.forest_.trees_alone(trained.standardised(features), self.evaluation)[:, : self.trees]
        return alone.mean(dim=1).double().numpy() * trained.unit_ + trained.level_

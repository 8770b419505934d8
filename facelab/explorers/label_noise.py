"""A plane with wrong labels: how many bits, how much noise, how long, and which islands grow around wrong points."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import ipywidgets
import numpy as np
from jaxtyping import Float, Int

from facelab.explorers.explorer import Explorer, View
from facelab.pictures.label_noise import show_regions
from facelab.pictures.style import as_array


@dataclass(frozen=True)
class Story:
    """One training, looked at several times.

    Attributes:
        regions: (T, H, W) probability of class 1 over the plane, rows from below.
        answers: (T, N) the class that each training point is given.
    """

    regions: Float[np.ndarray, "T H W"]
    answers: Int[np.ndarray, "T N"]


class LabelNoiseExplorer(Explorer):
    """Take bits away, add noise, stop earlier: which of the ringed points keep an island of their own?

    Example:
        LabelNoiseExplorer(points, truth, {0.4: given}, stories, steps=(100, 200), extent=(-2, 3, -1, 2))
    """

    def __init__(
        self,
        points: Any,
        truth: Any,
        given: Mapping[float, Any],
        stories: Mapping[tuple[float, str], Story],
        *,
        steps: tuple[int, ...],
        extent: tuple[float, float, float, float],
    ) -> None:
        """Show trainings that were made before.

        Args:
            points: (N, 2) that all are trained on.
            truth: (N,) their classes, 0 or 1.
            given: share of labels drawn anew -> (N,) labels that training was told.
            stories: (share, name of the bits) -> its training, for every share and every name.
            steps: at which the stories were looked at.
            extent: left, right, bottom and top of the plane.

        Raises:
            ValueError: a story is missing.
        """
        names = list(dict.fromkeys(bits for _, bits in stories))
        if missing := [(share, bits) for share in given for bits in names if (share, bits) not in stories]:
            raise ValueError(f"There is no story of {missing[0]}; give one for every share and every name of bits.")
        places, right = as_array(points).astype(float), as_array(truth).astype(int)
        told = {share: as_array(labels).astype(int) for share, labels in given.items()}

        def draw(bits: str, share: float, step: int) -> View:
            wrong, index, story = told[share] != right, steps.index(step), stories[share, bits]
            learnt = {name: _share(stories[share, name].answers[:, wrong] == told[share][wrong]) for name in names}
            fits = _share(story.answers[:, ~wrong] == told[share][~wrong])
            picture = show_regions(
                story.regions[index], extent, places, told[share], wrong, steps=steps, learnt=learnt, right=fits, name=bits, index=index
            )
            text = (
                f"{bits}, {share:.0%} of the labels drawn anew, {step} steps: {wrong.sum()} labels are wrong, {learnt[bits][index]:.0f} % "
                f"of these are learnt, and {fits[index]:.0f} % of the right ones."
            )
            return View(picture, text)

        controls = {
            "bits": ipywidgets.SelectionSlider(options=names, value=names[0], description="weights"),
            "share": ipywidgets.SelectionSlider(options=[(f"{s:.0%}", s) for s in told], value=max(told), description="drawn anew"),
            "step": ipywidgets.SelectionSlider(options=list(steps), value=steps[-1], description="steps"),
        }
        super().__init__(draw, controls, page={"bits": len(names), "share": len(told)}, name="Label noise explorer")
        if self.error is not None:
            raise self.error


def _share(right: np.ndarray) -> list[float]:
    """Of each look, percent; 0 where there is nothing to be right about."""
    return (100.0 * right.sum(axis=1) / max(1, right.shape[1])).tolist()

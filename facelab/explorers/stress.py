"""Fewer dimensions, fewer levels: one vector before and after, and what every pair of both keeps of the score."""

from collections.abc import Mapping, Sequence

import ipywidgets
import numpy as np
import pandas as pd

from facelab.explorers.explorer import Explorer, View
from facelab.explorers.parts import control
from facelab.methods.features_under_stress import Descriptor, Dictionary, bits_of, compression_of
from facelab.pictures.stress import draw_stress


class StressExplorer(Explorer):
    """Choose dimensions and levels: what is left of a vector, what is kept of the score, and where the next bit is best spent.

    Example:
        StressExplorer({"deep": deep, "HOG": hog}, table)
    """

    def __init__(self, descriptors: Mapping[str, Descriptor], table: pd.DataFrame) -> None:
        """Look at what was measured.

        Args:
            descriptors: kind -> vectors, to show one of them; all kinds have as many test vectors.
            table: with the columns `kind`, `dimensions`, `levels`, `right` (percent) and `kept` (percent of the score before any
                stress), a row for each kind, number of components and number of levels.

        Raises:
            ValueError: a combination is not in the table.
        """
        dimensions, levels = (sorted(map(int, table[name].unique())) for name in ("dimensions", "levels"))
        grids: dict[str, dict[str, np.ndarray]] = {}
        for kind in descriptors:
            own = table[table.kind == kind].pivot(index="dimensions", columns="levels").reindex(index=dimensions)
            grids[kind] = {name: own[name].reindex(columns=levels).to_numpy(dtype=float) for name in ("right", "kept")}
            if not all(np.isfinite(found).all() for found in grids[kind].values()):
                raise ValueError(f"The table does not hold every pair of dimensions and levels of {kind!r}; measure them all.")
        widest = {kind: own.reduced(dimensions[-1]) for kind, own in descriptors.items()}  # the first k of its columns are `reduced(k)`

        def draw(dimensions_: int, levels_: int, kind: str, face: int) -> View:
            own, place = descriptors[kind], (dimensions.index(dimensions_), levels.index(levels_))
            few = widest[kind]
            dictionary = Dictionary.fitted(few.training[:, :dimensions_], levels_, per_dimension=True)
            before, after = own.test[face], dictionary(few.test[[face], :dimensions_])[0]
            title = f"{kind}: {len(before)} numbers of 32 bits"
            picture = draw_stress(before, after, grids[kind]["kept"], place, dimensions, levels, title=title)
            bits = bits_of(dimensions_, levels_)
            text = (
                f"{kind}, {dimensions_} components of {levels_} levels: {bits} bits, so that {bits_of(len(before)) // 8} bytes become "
                f"{-(-bits // 8)}, and {compression_of(len(before), dimensions_, levels_):.2%} are saved; "
                f"{grids[kind]['right'][place]:.1f} % recognised, {grids[kind]['kept'][place]:.0f} % of its own score."
            )
            return View(picture, text)

        controls = {
            "dimensions_": _slider(dimensions, "dimensions"),
            "levels_": _slider(levels, "levels"),
            "kind": control(list(descriptors), None, "vectors"),
            "face": control((0, min(len(own.test) for own in descriptors.values()) - 1), 0, "face"),
        }
        super().__init__(draw, controls, page={"dimensions_": len(dimensions), "levels_": len(levels)}, name="Stress explorer")
        if self.error is not None:
            raise self.error


def _slider(values: Sequence[int], description: str) -> ipywidgets.SelectionSlider:
    return ipywidgets.SelectionSlider(options=list(values), value=values[len(values) // 2], description=description)

"""What lies near in a space of features: a query, its nearest neighbours, and every sample's image under the pointer."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image

from facelab.explorers.canvas import quick_png
from facelab.explorers.explorer import Explorer, View
from facelab.explorers.parts import control, displayable, names_of
from facelab.pictures.neighbours import neighbour_at, show_neighbours
from facelab.pictures.style import as_array
from facelab.pictures.view import Spot

METRICS = ("cosine", "euclidean")
SHOWN = 8
THUMBNAIL, MOST_THUMBNAILS = 48, 400
"""Pixels a side of the images under the pointer, and of how many samples at most: they are sent once, the hints at every redraw."""
NEAR = 0.025
"""How near the pointer has to come to a point of the cloud, as a share of its extent."""


def plane_of(features: Float[np.ndarray, "N D"]) -> Float[np.ndarray, "N 2"]:
    """The first two principal components of features; zeros where there is only one."""
    centred = features - features.mean(axis=0)
    _, directions = np.linalg.eigh(centred.T @ centred)
    two = centred @ directions[:, ::-1][:, :2]
    return np.pad(two, ((0, 0), (0, 2 - two.shape[1])))


def sheet_of(images: UInt8[np.ndarray, "N H W 3"]) -> UInt8[np.ndarray, "M S 3"]:
    """Images as squares of `THUMBNAIL` pixels, one below the other."""
    size = (THUMBNAIL, THUMBNAIL)
    return np.concatenate([np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BILINEAR)) for image in images])


class NeighbourExplorer(Explorer):
    """Choose a query, a space and a distance, and see the nearest neighbours; a click on one of them makes it the query.

    The pointer on a point of the cloud shows its image.

    Example:
        NeighbourExplorer({"pixels": images.reshape(len(images), -1), "network": embedded}, images, labels=digits)
    """

    def __init__(
        self,
        features: Any,
        images: Any,
        *,
        labels: Any = None,
        names: Sequence[str] = (),
        name: str = "Neighbour explorer",
    ) -> None:
        """Look for neighbours of `images`.

        Args:
            features: (N,D), or name of a space -> (N,D), D of its own.
            images: the samples, as `displayable` takes them.
            labels: (N,), one per sample; neighbours with the query's label are framed in green and counted.
            names: one name per sample.
            name: what the text twin of the explorer calls it.

        Raises:
            ValueError: features, labels or names do not fit the images.
        """
        seen = displayable(images)
        count, titles = len(seen), names_of(names, len(seen))
        given = features if isinstance(features, Mapping) else {"features": features}
        spaces = {key: as_array(rows).astype(np.float64) for key, rows in given.items()}
        for key, rows in spaces.items():
            if rows.ndim != 2 or len(rows) != count or count < 2 or not np.isfinite(rows).all():
                raise ValueError(f"The space {key!r} must be ({count}, D), finite, for at least two images; it has the shape {rows.shape}.")
        kinds = None if labels is None else as_array(labels)
        if kinds is not None and len(kinds) != count:
            raise ValueError(f"There are {len(kinds)} labels for {count} images; give one per image.")
        self._spaces, self._planes = spaces, {key: plane_of(rows) for key, rows in spaces.items()}
        tell = titles if kinds is None else [f"{title}: {kind}" for title, kind in zip(titles, kinds, strict=True)]

        def spots(space: str) -> list[Spot]:
            plane = self._planes[space]
            x, y = NEAR * np.ptp(plane, axis=0)
            places = zip(plane[:MOST_THUMBNAILS].tolist(), tell, strict=False)
            return [Spot(1, u - x, v - y, u + x, v + y, text, image) for image, ((u, v), text) in enumerate(places)]

        def draw(query: int, space: str, metric: str) -> View:
            distances, nearest = self.neighbours(query, space, metric)
            same, kind = (None, "") if kinds is None else (kinds[nearest] == kinds[query], str(kinds[query]))
            picture = show_neighbours(
                seen[query], seen[nearest], [f"{distances[i]:.3g}" for i in nearest], same, self._planes[space], [query, *nearest],
                heading=titles[query] + (f": {kind}" if kind else ""),
            )  # fmt: skip
            text = f"{titles[query]}, nearest by {metric} distance in {space}: {titles[nearest[0]]} at {distances[nearest[0]]:.3g}"
            text += "" if same is None else f"; {int(same.sum())} of {len(nearest)} have its label {kind}"
            return View(picture, text + ".", spots(space))

        controls = {
            "query": control((0, count - 1), 0, "query"),
            "space": control(list(spaces), description="space"),
            "metric": control(list(METRICS), description="distance"),
        }
        super().__init__(draw, controls, page={"query": 5, "space": len(spaces)}, name=name)
        self.canvas.thumbnails = quick_png(sheet_of(seen[:MOST_THUMBNAILS]))

    def neighbours(self, query: int, space: str, metric: str) -> tuple[Float[np.ndarray, " N"], list[int]]:
        """Distances of all samples from the query, and which are nearest, without the query itself."""
        rows = self._spaces[space]
        if metric == "cosine":
            lengths = np.maximum(np.linalg.norm(rows, axis=1), 1e-12)
            distances = 1 - rows @ rows[query] / (lengths * lengths[query])
        else:
            distances = np.linalg.norm(rows - rows[query], axis=1)
        return distances, [int(i) for i in np.argsort(distances, kind="stable") if i != query][:SHOWN]

    def click(self, axes: int, x: float, y: float) -> None:
        """Make the neighbour or the point under the pointer the query."""
        nearest, place = self.neighbours(**self.values)[1], neighbour_at(x, y)
        if axes == 1:
            off = (self._planes[self.values["space"]] - (x, y)) / np.ptp(self.shown.picture.axes[1].dataLim.get_points(), axis=0)
            self.set(query=int(np.linalg.norm(off, axis=1).argmin()))
        elif place is not None and place < len(nearest):
            self.set(query=nearest[place])

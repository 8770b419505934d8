"""Any map over any image: attention, heat, saliency, depth, uncertainty."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from facelab.explorers.explorer import Explorer, View
from facelab.explorers.parts import control, displayable, names_of
from facelab.pictures.maps import entropy, show_map
from facelab.pictures.style import as_array


class MapExplorer(Explorer):
    """Choose an image and one of its maps, and see the map over the image.

    Example:
        MapExplorer(images, {"attention": attention, "gradient": gradient}, unit="weight")
    """

    def __init__(
        self,
        images: Any,
        maps: Mapping[str, Any],
        *,
        truth: Any = None,
        names: Sequence[str] = (),
        unit: str = "weight",
        name: str = "Map explorer",
    ) -> None:
        """Show maps over `images`.

        Args:
            images: a `FaceBatch`, (B,H,W,3) of uint8, or (B,C,H,W), as `displayable` takes them.
            maps: name -> (B,h,w), of any size; negative values get a colour of their own.
            truth: (B,H,W) masks of where the maps should lie: outlined, and the caption says which share of the map lies there.
            names: one name per image.
            unit: of the maps' values.
            name: what the text twin of the explorer calls it.

        Raises:
            ValueError: there is no map, or maps, truth or names do not fit the images.
        """
        seen = displayable(images)
        count, height, width, _ = seen.shape
        titles = names_of(names, count)
        found = {key: as_array(map_).astype(np.float64) for key, map_ in maps.items()}
        if not found:
            raise ValueError("There is no map to show; give a dictionary name -> (B,h,w).")
        for key, map_ in found.items():
            if map_.ndim != 3 or len(map_) != count or not np.isfinite(map_).all():
                raise ValueError(f"The map {key!r} must be ({count}, h, w), finite, one per image; it has the shape {map_.shape}.")
        masks = None if truth is None else as_array(truth).astype(bool)
        if masks is not None and masks.shape != (count, height, width):
            raise ValueError(f"The truth must have the images' shape {(count, height, width)}; it has {masks.shape}.")

        def draw(image: int, map: str, opacity: float) -> View:
            values, mask = found[map][image], None if masks is None else masks[image]
            picture = show_map(seen[image], values, truth=mask, opacity=opacity, heading=titles[image], name=map, unit=unit)
            row, column = np.unravel_index(np.abs(values).argmax(), values.shape)
            x, y = (column + 0.5) * width / values.shape[1] - 0.5, (row + 0.5) * height / values.shape[0] - 0.5
            text = f"{titles[image]}, {map}: {values.min():.3g} to {values.max():.3g} {unit}, strongest at ({x:.1f}, {y:.1f}) px"
            text += f", entropy {entropy(values):.1f} of {np.log2(values.size):.1f} bit" if values.min() >= 0 and values.any() else ""
            if mask is not None and values.any():
                down, across = ((np.arange(n) + 0.5) * side / n for n, side in zip(values.shape, mask.shape, strict=True))
                inside = np.abs(values)[mask[down.astype(int)][:, across.astype(int)]].sum() / np.abs(values).sum()
                text += f"; {inside:.0%} of it lies in the true region, {mask.mean():.0%} of the image"
            return View(picture, text + ".")

        controls = {
            "image": control((0, count - 1), 0, "image"),
            "map": control(list(found), description="map"),
            "opacity": control((0.0, 1.0, 0.05), 0.85, "opacity"),
        }
        super().__init__(draw, controls, page={"image": min(5, count), "map": len(found)}, name=name)

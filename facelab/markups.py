"""The landmark mark-ups 5, 19, 29, 68 and 98: names, flip tables, drawing lines, conversion from finer to coarser.

"Left" and "right" are the subject's own: the subject's right eye is on the left of the image.
The 68 points are a subset of the 98; the 29, 19 and 5 are fixed averages of the 68, in the manner of COFW, AFLW and
MTFL. Sources of the orders: 300-W (68), WFLW (98).
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Float, Int


@dataclass(frozen=True)
class Markup:
    """One landmark mark-up.

    Attributes:
        size: number of landmarks.
        names: one name per landmark.
        regions: region name -> indices, in drawing order; a region is one line in `lines`.
        closed: names of the regions whose line returns to its first point.
        outer_eyes: indices of the outer corner of the right and of the left eye (eye centres where there is no corner);
            their distance is the inter-ocular distance of all errors.
    """

    size: int
    names: tuple[str, ...]
    regions: dict[str, tuple[int, ...]]
    closed: tuple[str, ...]
    outer_eyes: tuple[int, int]

    @cached_property
    def flip(self) -> Int[np.ndarray, " K"]:
        """Index of each landmark's mirror image: `mirrored = landmarks[..., flip, :]` after x -> width - 1 - x."""
        swap = {"right": "left", "left": "right"}
        index = {name: i for i, name in enumerate(self.names)}
        partner = [index["_".join(swap.get(word, word) for word in name.split("_"))] for name in self.names]
        return np.array(partner, dtype=np.int64)

    @property
    def lines(self) -> list[np.ndarray]:
        """Index sequences that draw the face, closed lines ending where they began."""
        return [
            np.array(points + points[:1] if name in self.closed else points) for name, points in self.regions.items() if len(points) > 1
        ]


def _contour(points_per_side: int) -> list[str]:
    side = [f"jaw_{i}" for i in range(points_per_side)]
    return [f"right_{name}" for name in side] + ["chin"] + [f"left_{name}" for name in reversed(side)]


def _build(groups: dict[str, list[str]], closed: tuple[str, ...], outer_eyes: tuple[str, str]) -> Markup:
    names = [name for group in groups.values() for name in group]
    regions, start = {}, 0
    for region, group in groups.items():
        regions[region] = tuple(range(start, start + len(group)))
        start += len(group)
    eyes = (names.index(outer_eyes[0]), names.index(outer_eyes[1]))
    return Markup(len(names), tuple(names), regions, closed, eyes)


_NOSE = ["nose_bridge_0", "nose_bridge_1", "nose_bridge_2", "nose_tip"]
_NOSTRILS = ["right_nostril", "right_nose_base", "nose_base", "left_nose_base", "left_nostril"]
_OUTER_LIPS = [
    *["right_mouth_corner", "right_upper_lip_outer", "right_cupid", "upper_lip_top", "left_cupid", "left_upper_lip_outer"],
    *["left_mouth_corner", "left_lower_lip_outer", "left_lower_lip_inner", "lower_lip_bottom"],
    *["right_lower_lip_inner", "right_lower_lip_outer"],
]
_INNER_LIPS = [
    *["right_inner_corner", "right_upper_lip_inside", "upper_lip_bottom", "left_upper_lip_inside"],
    *["left_inner_corner", "left_lower_lip_inside", "lower_lip_top", "right_lower_lip_inside"],
]


def _eye(side: str, upper: int) -> list[str]:
    """Corner, upper lid, corner, lower lid, clockwise in the image; the right eye begins outside, the left inside."""
    above = [f"{side}_upper_lid_{i}" for i in range(upper)]  # numbered from the outer corner
    below = [f"{side}_lower_lid_{i}" for i in range(upper)]
    outer, inner = f"{side}_eye_outer", f"{side}_eye_inner"
    if side == "right":
        return [outer, *above, inner, *below[::-1]]
    return [inner, *above[::-1], outer, *below]


_68 = _build(
    {
        "jaw": _contour(8),
        "right_brow": [f"right_brow_{i}" for i in range(5)],
        "left_brow": [f"left_brow_{i}" for i in reversed(range(5))],
        "nose_bridge": _NOSE,
        "nostrils": _NOSTRILS,
        "right_eye": _eye("right", 2),
        "left_eye": _eye("left", 2),
        "outer_lips": _OUTER_LIPS,
        "inner_lips": _INNER_LIPS,
    },
    closed=("right_eye", "left_eye", "outer_lips", "inner_lips"),
    outer_eyes=("right_eye_outer", "left_eye_outer"),
)
_98 = _build(
    {
        "jaw": _contour(16),
        "right_brow": [f"right_brow_{i}" for i in range(5)] + [f"right_brow_under_{i}" for i in reversed(range(4))],
        "left_brow": [f"left_brow_{i}" for i in reversed(range(5))] + [f"left_brow_under_{i}" for i in range(4)],
        "nose_bridge": _NOSE,
        "nostrils": _NOSTRILS,
        "right_eye": _eye("right", 3),
        "left_eye": _eye("left", 3),
        "outer_lips": _OUTER_LIPS,
        "inner_lips": _INNER_LIPS,
        "right_pupil": ["right_pupil"],
        "left_pupil": ["left_pupil"],
    },
    closed=("right_brow", "left_brow", "right_eye", "left_eye", "outer_lips", "inner_lips"),
    outer_eyes=("right_eye_outer", "left_eye_outer"),
)

# A coarser landmark is the mean of the named points of the 68.
_EYE_RING = ["eye_outer", "upper_lid_0", "upper_lid_1", "eye_inner", "lower_lid_0", "lower_lid_1"]
_MEANS_29 = {
    **{f"right_brow_{name}": [f"right_brow_{i}"] for name, i in (("outer", 0), ("mid_outer", 1), ("mid_inner", 3), ("inner", 4))},
    **{f"left_brow_{name}": [f"left_brow_{i}"] for name, i in (("inner", 4), ("mid_inner", 3), ("mid_outer", 1), ("outer", 0))},
    "right_eye_outer": ["right_eye_outer"],
    "right_upper_lid": ["right_upper_lid_0", "right_upper_lid_1"],
    "right_eye_inner": ["right_eye_inner"],
    "right_lower_lid": ["right_lower_lid_0", "right_lower_lid_1"],
    "left_eye_inner": ["left_eye_inner"],
    "left_upper_lid": ["left_upper_lid_0", "left_upper_lid_1"],
    "left_eye_outer": ["left_eye_outer"],
    "left_lower_lid": ["left_lower_lid_0", "left_lower_lid_1"],
    "right_eye_centre": [f"right_{name}" for name in _EYE_RING],
    "left_eye_centre": [f"left_{name}" for name in _EYE_RING],
    "right_nostril": ["right_nostril"],
    "nose_tip": ["nose_tip"],
    "left_nostril": ["left_nostril"],
    "nose_base": ["nose_base"],
    "right_mouth_corner": ["right_mouth_corner"],
    "upper_lip_top": ["upper_lip_top"],
    "left_mouth_corner": ["left_mouth_corner"],
    "lower_lip_bottom": ["lower_lip_bottom"],
    "upper_lip_bottom": ["upper_lip_bottom"],
    "lower_lip_top": ["lower_lip_top"],
    "chin": ["chin"],
}
_MEANS_19 = {
    **{f"right_brow_{name}": [f"right_brow_{i}"] for name, i in (("outer", 0), ("centre", 2), ("inner", 4))},
    **{f"left_brow_{name}": [f"left_brow_{i}"] for name, i in (("inner", 4), ("centre", 2), ("outer", 0))},
    "right_eye_outer": ["right_eye_outer"],
    "right_eye_centre": [f"right_{name}" for name in _EYE_RING],
    "right_eye_inner": ["right_eye_inner"],
    "left_eye_inner": ["left_eye_inner"],
    "left_eye_centre": [f"left_{name}" for name in _EYE_RING],
    "left_eye_outer": ["left_eye_outer"],
    "right_nostril": ["right_nostril"],
    "nose_tip": ["nose_tip"],
    "left_nostril": ["left_nostril"],
    "right_mouth_corner": ["right_mouth_corner"],
    "mouth_centre": ["upper_lip_bottom", "lower_lip_top"],
    "left_mouth_corner": ["left_mouth_corner"],
    "chin": ["chin"],
}
_MEANS_5 = {
    "right_eye_centre": [f"right_{name}" for name in _EYE_RING],
    "left_eye_centre": [f"left_{name}" for name in _EYE_RING],
    "nose_tip": ["nose_tip"],
    "right_mouth_corner": ["right_mouth_corner"],
    "left_mouth_corner": ["left_mouth_corner"],
}


def _coarse(means: dict[str, list[str]], regions: dict[str, list[str]], closed: tuple[str, ...], eyes: tuple[str, str]) -> Markup:
    names = list(means)
    indices = {region: tuple(names.index(name) for name in group) for region, group in regions.items()}
    return Markup(len(names), tuple(names), indices, closed, (names.index(eyes[0]), names.index(eyes[1])))


def _starting(means: dict[str, list[str]], start: str) -> list[str]:
    return [name for name in means if name.startswith(start)]


MARKUPS: dict[int, Markup] = {
    5: _coarse(
        _MEANS_5,
        {"eyes": ["right_eye_centre", "left_eye_centre"], "mouth": ["right_mouth_corner", "left_mouth_corner"], "nose": ["nose_tip"]},
        closed=(),
        eyes=("right_eye_centre", "left_eye_centre"),
    ),
    19: _coarse(
        _MEANS_19,
        {
            "right_brow": _starting(_MEANS_19, "right_brow"),
            "left_brow": _starting(_MEANS_19, "left_brow"),
            "right_eye": _starting(_MEANS_19, "right_eye"),
            "left_eye": _starting(_MEANS_19, "left_eye"),
            "nose": ["right_nostril", "nose_tip", "left_nostril"],
            "mouth": ["right_mouth_corner", "mouth_centre", "left_mouth_corner"],
            "chin": ["chin"],
        },
        closed=(),
        eyes=("right_eye_outer", "left_eye_outer"),
    ),
    29: _coarse(
        _MEANS_29,
        {
            "right_brow": _starting(_MEANS_29, "right_brow"),
            "left_brow": _starting(_MEANS_29, "left_brow"),
            "right_eye": ["right_eye_outer", "right_upper_lid", "right_eye_inner", "right_lower_lid"],
            "left_eye": ["left_eye_inner", "left_upper_lid", "left_eye_outer", "left_lower_lid"],
            "right_pupil": ["right_eye_centre"],
            "left_pupil": ["left_eye_centre"],
            "nose": ["right_nostril", "nose_tip", "left_nostril", "nose_base"],
            "outer_lips": ["right_mouth_corner", "upper_lip_top", "left_mouth_corner", "lower_lip_bottom"],
            "inner_lips": ["upper_lip_bottom", "lower_lip_top"],
            "chin": ["chin"],
        },
        closed=("right_eye", "left_eye", "nose", "outer_lips"),
        eyes=("right_eye_outer", "left_eye_outer"),
    ),
    68: _68,
    98: _98,
}

_MEANS = {5: _MEANS_5, 19: _MEANS_19, 29: _MEANS_29}


def markup(size: int) -> Markup:
    """The mark-up with `size` landmarks.

    Raises:
        ValueError: `size` is none of the known mark-ups.
    """
    if size not in MARKUPS:
        raise ValueError(f"There is no mark-up of {size} landmarks; choose one of {sorted(MARKUPS)}.")
    return MARKUPS[size]


def conversion(source: int, target: int) -> Float[np.ndarray, "target source"]:
    """Matrix that turns the landmarks of a finer mark-up into those of a coarser one; every row sums to one.

    Raises:
        ValueError: the mark-up is unknown, or `target` cannot be had from `source`.
    """
    fine, coarse = markup(source), markup(target)
    if source == target:
        return np.eye(source)
    if target == 98 or source not in (68, 98):
        raise ValueError(f"Landmarks of mark-up {target} cannot be computed from mark-up {source}; only 98 -> 68 -> 29, 19 or 5.")
    if source == 98:
        matrix = np.zeros((68, 98))
        twin = {f"{side}_{lid}_lid_1": f"{side}_{lid}_lid_2" for side in ("right", "left") for lid in ("upper", "lower")}
        for i, name in enumerate(_68.names):
            if "jaw" in name:  # every second contour point
                name = f"{name.rsplit('_', 1)[0]}_{2 * int(name.rsplit('_', 1)[1])}"
            matrix[i, fine.names.index(twin.get(name, name))] = 1.0
        return matrix if target == 68 else conversion(68, target) @ matrix
    matrix = np.zeros((target, 68))
    for i, name in enumerate(coarse.names):
        parts = [_68.names.index(part) for part in _MEANS[target][name]]
        matrix[i, parts] = 1.0 / len(parts)
    return matrix


def convert(landmarks: Float[np.ndarray, "*B source d"], target: int) -> Float[np.ndarray, "*B target d"]:
    """The same faces in a coarser mark-up, by fixed averages of their landmarks (pixels in, pixels out).

    Raises:
        ValueError: as `conversion`.
    """
    matrix = conversion(landmarks.shape[-2], target).astype(landmarks.dtype)
    return np.einsum("ts,...sd->...td", matrix, landmarks)

"""How the rest position moves: one displacement field per shape factor and per action unit, linear in the coefficient.

Every field is a closed formula of the rest position, so it applies alike to skin, teeth, hair and glasses; bumps have
compact support, so a unit leaves what it should not move exactly where it is. Displacements in half head widths.
"""

from collections.abc import Callable

import numpy as np

from facelab.worlds.faces import anatomy
from facelab.worlds.faces.anatomy import HAIR_COLUMNS, World, jaw_share, smoothstep
from facelab.worlds.faces.factors import ACTION_UNITS, SHAPE
from facelab.worlds.faces.template import MOUTH_LINE

HINGE = np.array([0.0, -0.15, 0.15])


def bump(p: np.ndarray, centre: tuple, radii: tuple) -> np.ndarray:
    """Smooth bump, 1 at `centre`, exactly 0 outside the ellipsoid of `radii` (Wendland-like)."""
    q = (((p - np.array(centre)) / np.array(radii)) ** 2).sum(1)
    return np.clip(1 - q, 0, None) ** 2


def _vector(weight: np.ndarray, x=0.0, y=0.0, z=0.0) -> np.ndarray:
    return weight[:, None] * np.array([x, y, z])


def shape_fields(world: World) -> dict[str, np.ndarray]:
    """Displacement (V, 3) of each shape factor for one standard deviation."""
    side = np.where(world.rest[:, 0] < 0, -1.0, 1.0)
    p = world.rest * np.column_stack([side, 0 * side + 1, 0 * side + 1])  # mirrored to the left half
    x, y, z = p.T
    zero = 0 * x
    lips = np.clip(world.lip, 0, 1)
    lower = world.lower
    kinds = {name: world.kind == k for k, name in enumerate(anatomy.OBJECTS)}
    eyes = bump(p, (0.43, 0.0, 1.1), (0.3, 0.22, 0.5))
    brow = bump(p, (0.5, 0.28, 1.15), (0.5, 0.2, 0.6))
    mouth = bump(p, (0.0, MOUTH_LINE, 1.3), (0.65, 0.35, 0.6))
    nose = bump(p, (0.0, -0.42, 1.4), (0.4, 0.5, 0.55))
    tip = bump(p, (0.0, -0.52, 1.52), (0.3, 0.26, 0.42))
    chin = bump(p, (0.0, -1.45, 1.2), (0.65, 0.5, 0.7))
    jaw = bump(p, (0.75, -1.05, 0.3), (0.75, 0.75, 0.9))
    ear = kinds["ears"].astype(float)
    scale_y = smoothstep(-y / 0.9)
    fields = {
        "face_width": _vector(x, x=0.04),
        "face_length": _vector(-y * scale_y, y=-0.045),
        "forehead_height": _vector(smoothstep((y - 0.3) / 1.2), y=0.07),
        "head_depth": _vector(z - 0.2, z=0.035),
        "temple_width": _vector(bump(p, (0.85, 0.5, 0.5), (0.6, 0.7, 0.9)), x=0.035),
        "cheekbone_width": _vector(bump(p, (0.85, -0.2, 0.6), (0.5, 0.45, 0.7)), x=0.04, z=0.01),
        "cheek_fullness": _vector(bump(p, (0.65, -0.7, 0.85), (0.5, 0.6, 0.7)), x=0.045, z=0.035),
        "jaw_width": _vector(jaw, x=0.055),
        "jaw_height": _vector(jaw, y=0.06),
        "chin_length": _vector(bump(p, (0.0, -1.6, 1.1), (0.75, 0.5, 0.8)), y=-0.06),
        "chin_width": np.column_stack([bump(p, (0.3, -1.45, 1.0), (0.5, 0.35, 0.7)) * np.clip(x / 0.3, 0, 1) * 0.045, zero, zero]),
        "chin_prominence": _vector(chin, z=0.05),
        "brow_ridge": _vector(brow, z=0.03),
        "brow_height": _vector(bump(p, (0.45, 0.31, 1.15), (0.75, 0.19, 0.6)), y=0.035),
        "brow_arch": _vector(bump(p, (0.58, 0.33, 1.15), (0.27, 0.17, 0.5)), y=0.035),
        "brow_tilt": np.column_stack([zero, bump(p, (0.52, 0.29, 1.15), (0.55, 0.19, 0.6)) * (x - 0.5) * 0.09, zero]),
        "brow_spacing": _vector(bump(p, (0.3, 0.3, 1.2), (0.3, 0.17, 0.5)) * np.clip(x / 0.15, 0, 1), x=0.03),
        "eye_spacing": _vector(bump(p, (0.43, 0.03, 1.1), (0.43, 0.4, 0.6)) * np.clip(x / 0.15, 0, 1), x=0.028),
        "eye_width": np.column_stack([eyes * (x - 0.43) * 0.13, zero, zero]),
        "eye_opening": np.column_stack([zero, bump(p, (0.433, -0.005, 1.1), (0.3, 0.14, 0.5)) * (y + 0.005) * 0.28, zero]),
        "eye_tilt": np.column_stack([zero, eyes * (x - 0.43) * 0.13, zero]),
        "eye_height": _vector(bump(p, (0.0, 0.05, 1.1), (1.1, 0.5, 0.9)), y=0.03),
        "eye_depth": _vector(bump(p, (0.43, 0.0, 1.1), (0.34, 0.24, 0.6)), z=-0.03),
        "nose_length": _vector(bump(p, (0.0, -0.56, 1.45), (0.42, 0.42, 0.6)), y=-0.05),
        "nose_width": np.column_stack([bump(p, (0.0, -0.56, 1.35), (0.42, 0.22, 0.4)) * x * 0.17, zero, zero]),
        "nose_projection": _vector(tip + 0.4 * nose, z=0.05),
        "nose_bridge": _vector(bump(p, (0.0, -0.2, 1.35), (0.22, 0.28, 0.4)), z=0.035),
        "nose_bridge_width": np.column_stack([bump(p, (0.0, -0.2, 1.25), (0.3, 0.35, 0.4)) * x * 0.22, zero, zero]),
        "nose_tip_up": _vector(bump(p, (0.0, -0.52, 1.55), (0.22, 0.15, 0.3)), y=0.04),
        "mouth_width": np.column_stack([mouth * x * 0.17, zero, mouth * x**2 * -0.2]),
        "mouth_height": _vector(bump(p, (0.0, MOUTH_LINE, 1.3), (0.75, 0.42, 0.7)), y=0.035),
        "upper_lip": np.column_stack([zero, mouth * (1 - lower) * (np.clip(lips, 0, 1) - 0) * np.clip(y - MOUTH_LINE, 0, 1) * 0.33, zero]),
        "lower_lip": np.column_stack([zero, mouth * lower * lips * np.clip(y - MOUTH_LINE, -1, 0) * 0.26, zero]),
        "lip_protrusion": _vector(bump(p, (0.0, MOUTH_LINE, 1.4), (0.4, 0.26, 0.5)), z=0.035),
        "mouth_curve": _vector(bump(p, (0.35, -0.93, 1.15), (0.25, 0.2, 0.4)), y=0.025),
        "ear_size": np.column_stack([zero, ear * (y + 0.17) * 0.1, ear * (z - 0.1) * 0.1]),
        "ear_angle": np.column_stack([ear * np.clip(0.12 - z, 0, 1) * 0.14, zero, zero]),
        "neck_width": _vector(x * kinds["neck"] * np.clip(-y - 0.7, 0, 1), x=0.06),
    }
    # the skin around the lips follows their borders, so that lips grow outwards and not into each other
    for name, centre, sign in (("upper_lip", -0.82, 1), ("lower_lip", -1.08, -1)):
        outside = bump(p, (0.0, centre + sign * 0.05, 1.35), (0.4, 0.14, 0.5)) * (1 - lips) * kinds["skin"]
        fields[name] = fields[name] + _vector(outside, y=sign * 0.022)
    mirrored = {name: f * np.column_stack([side, 0 * side + 1, 0 * side + 1]) for name, f in fields.items()}
    mirrored["skew"] = _vector(np.clip(-world.rest[:, 1], 0, 1.6) ** 1.3, x=0.018)
    share = np.clip(world.head, 0, 1)[:, None]
    return {name: mirrored[name] * share for name in SHAPE}


def _unit_fields(p: np.ndarray, lower: np.ndarray) -> dict[int, np.ndarray]:
    x, y, _ = p.T
    zero = 0 * x
    upper = 1 - lower
    corner = bump(p, (0.345, -0.93, 1.15), (0.34, 0.36, 0.6))
    near_corner = bump(p, (0.345, -0.93, 1.15), (0.3, 0.24, 0.6))
    apple = bump(p, (0.55, -0.4, 1.1), (0.4, 0.33, 0.6))
    lip_up = bump(p, (0.12, -0.86, 1.35), (0.34, 0.22, 0.6)) * upper
    lip_low = bump(p, (0.1, -1.03, 1.33), (0.4, 0.26, 0.6)) * lower
    lips = bump(p, (0.0, -0.94, 1.35), (0.52, 0.26, 0.6))
    opened = np.cross(np.array([1.0, 0, 0]), p - HINGE) * lower[:, None]  # rotation of the jaw about the ears' axis
    return {
        1: _vector(bump(p, (0.27, 0.33, 1.25), (0.36, 0.24, 0.5)), y=0.12),
        2: _vector(bump(p, (0.68, 0.31, 1.1), (0.36, 0.23, 0.5)), y=0.12),
        4: _vector(bump(p, (0.33, 0.31, 1.2), (0.42, 0.21, 0.5)), x=-0.035, y=-0.085, z=0.01),
        5: np.zeros_like(p),  # lids are moved by `rendering.place`
        6: _vector(apple, y=0.055, z=0.03, x=0.01),
        7: np.zeros_like(p),
        9: _vector(bump(p, (0.13, -0.4, 1.3), (0.22, 0.34, 0.5)), y=0.06, z=0.015)
        + _vector(bump(p, (0.25, 0.3, 1.25), (0.28, 0.2, 0.5)), y=-0.05)
        + _vector(lip_up, y=0.03),
        10: _vector(lip_up, y=0.085, z=0.015) + _vector(bump(p, (0.24, -0.62, 1.2), (0.2, 0.16, 0.5)), y=0.03),
        12: _vector(corner, x=0.12, y=0.11, z=-0.085) + _vector(bump(p, (0.58, -0.5, 1.05), (0.3, 0.3, 0.5)), y=0.02, z=0.045, x=0.015),
        14: _vector(near_corner, x=0.055, z=-0.06, y=0.005),
        15: _vector(near_corner, x=0.02, y=-0.1, z=-0.02),
        17: _vector(bump(p, (0.0, -1.3, 1.3), (0.4, 0.3, 0.5)), y=0.045, z=0.025) + _vector(lips, y=0.03) + _vector(lips * lower, z=0.02),
        20: _vector(corner, x=0.13, y=-0.02, z=-0.085) + np.column_stack([lips * x * 0.15, zero, zero]),
        23: np.column_stack([-lips * x * 0.17, lips * (y - MOUTH_LINE) * -0.28, lips * 0.015]),
        24: np.column_stack([zero, lips * (y - MOUTH_LINE) * -0.4, lips * -0.02]),
        25: _vector(lip_up, y=0.028) + _vector(lip_low, y=-0.085, z=0.0),
        26: opened * 0.2 + _vector(lower, z=0.1) + _vector(lips * upper, y=0.01),
    }


def unit_fields(world: World) -> tuple[np.ndarray, np.ndarray]:
    """Displacements (17, V, 3) of the action units on the subject's left and on their right, at full intensity."""
    skin = np.isin(world.kind, [anatomy.OBJECTS.index(name) for name in ("skin", "mouth", "mask")]).astype(float)
    teeth = (world.kind == anatomy.OBJECTS.index("teeth")).astype(float)
    flip = np.array([-1.0, 1.0, 1.0])
    side = np.where(world.rest[:, 0] < 0, -1.0, 1.0)
    p = world.rest * np.column_stack([side, 0 * side + 1, 0 * side + 1])
    fields = _unit_fields(p, world.lower)
    left_share = smoothstep((world.rest[:, 0] + 0.15) / 0.3)
    both = np.stack([fields[unit] for unit in ACTION_UNITS])
    both = both * np.where((side < 0)[:, None], flip, 1.0)
    for unit in (26,):
        k = ACTION_UNITS.index(unit)
        both[k] = both[k] * (skin + teeth)[:, None]
    others = [k for k, unit in enumerate(ACTION_UNITS) if unit != 26]
    both[others] *= skin[:, None]
    return both * left_share[:, None], both * (1 - left_share)[:, None]


def hair_fields(world: World) -> dict[str, np.ndarray]:
    """Displacements that turn the short style into the others, and those of volume, hairline and fringe."""
    index = world.group["hair"]
    base = world.rest[index]

    def field(target: np.ndarray) -> np.ndarray:
        whole = np.zeros_like(world.rest)
        whole[index] = target - base
        return whole

    fields = {style: field(anatomy.hair_shape(style)) for style in ("side", "medium", "long", "up")}
    outward = base - np.array([0.0, -0.1, 0.0])
    outward /= np.linalg.norm(outward, axis=1, keepdims=True)
    row = np.repeat(np.linspace(0, 1, anatomy.HAIR_ROWS), HAIR_COLUMNS)[:, None]
    fields["hair_volume"] = field(base + outward * 0.2 * (1 - row**3) + [0, 0.04, 0] * (1 - row))
    fields["hairline"] = field(anatomy.hair_shape("short", line=1.0))
    fields["fringe"] = field(anatomy.hair_shape("short", fringe=1.0) + 0.05 * outward)
    return fields


def glasses_fields(world: World) -> dict[str, np.ndarray]:
    """Displacements that make the round glasses square, and larger."""
    index = np.concatenate([world.group[f"{side}_{part}"] for side in ("left", "right") for part in ("lens", "rim")])
    p = world.rest[index]
    centre = np.column_stack([np.sign(p[:, 0]) * 0.42, np.full(len(p), -0.045), p[:, 2]])
    local = p - centre
    radius = np.hypot(local[:, 0] / 0.27, local[:, 1] / 0.215)
    box = np.maximum((np.abs(local[:, 0] / 0.27) ** 5 + np.abs(local[:, 1] / 0.215) ** 5) ** 0.2, 1e-9)
    square, larger = np.zeros_like(world.rest), np.zeros_like(world.rest)
    square[index] = local * (np.where(radius > 1e-6, radius / box, 1.0) - 1)[:, None] * [1.0, 0.8, 0] + local * [0.02, -0.16, 0]
    larger[index] = local * [0.13, 0.2, 0]
    return {"square": square, "larger": larger}


Field = Callable[[World], dict[str, np.ndarray]]
__all__ = ["bump", "glasses_fields", "hair_fields", "jaw_share", "shape_fields", "unit_fields"]

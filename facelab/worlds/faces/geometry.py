"""From factors to vertices: the rig (mean + basis @ coefficients), the landmarks on it, and poses."""

from dataclasses import dataclass
from functools import cache

import numpy as np
from jaxtyping import Float, Float32
from scipy.spatial import cKDTree

from facelab.markups import markup
from facelab.worlds.faces import motion
from facelab.worlds.faces.anatomy import OBJECTS, World, build_world
from facelab.worlds.faces.factors import AU_NAMES, GLASSES, HAIR_STYLES, SHAPE
from facelab.worlds.faces.template import CENTRE

PIVOT = np.array([0.0, -0.7, 0.0])
"""The head turns about this point, half head widths."""
JAW_STEPS = 14


@dataclass
class Rig:
    """Everything static about the world, ready for matrix products.

    Attributes:
        mean: (V * 3,); basis: (C, V * 3) with one row per column of `coefficients`.
        landmark_vertex, landmark_weight: (98, 3) vertices and weights of each landmark (rows of the jaw: frontal position).
        path_vertex, path_weight: (33, JAW_STEPS, 3) points of the skin from each jaw landmark towards the middle of the face.
        path_outward: (33, 2) direction in the face's image plane in which the outline is looked for.
    """

    world: World
    mean: Float32[np.ndarray, " V3"]
    basis: Float32[np.ndarray, "C V3"]
    landmark_vertex: np.ndarray
    landmark_weight: np.ndarray
    path_vertex: np.ndarray
    path_weight: np.ndarray
    path_outward: np.ndarray


def _on_mesh(world: World, directions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Vertices and barycentric weights of the skin's points in the given directions from its centre."""
    skin = world.object == OBJECTS.index("skin")
    triangles = world.triangles[skin]
    corner = world.rest[triangles] - CENTRE
    found_vertex, found_weight = np.zeros((len(directions), 3), int), np.zeros((len(directions), 3))
    tree = cKDTree(corner.mean(1) / np.linalg.norm(corner.mean(1), axis=1, keepdims=True))
    for i, d in enumerate(directions):
        near = tree.query(d, k=40)[1]
        weight = np.linalg.solve(corner[near].transpose(0, 2, 1) + 1e-9 * np.eye(3), np.broadcast_to(d, (len(near), 3))[..., None])[..., 0]
        share = weight / np.maximum(weight.sum(1, keepdims=True), 1e-9)
        best = np.argmax(np.where(weight.sum(1) > 0, share.min(1), -9.0))
        found_vertex[i] = triangles[near[best]]
        found_weight[i] = np.clip(share[best], 0, 1) / np.clip(share[best], 0, 1).sum()
    return found_vertex, found_weight


def _unit(v: np.ndarray) -> np.ndarray:
    return v / np.linalg.norm(v, axis=-1, keepdims=True)


# Mean positions (x, y, z) of landmarks that are not vertices of a ring, subject's left; brows from outside to inside.
_BROW_TOP = [(0.792, 0.212, 0.99), (0.669, 0.293, 1.13), (0.518, 0.317, 1.225), (0.379, 0.303, 1.265), (0.255, 0.27, 1.31)]
_BROW_UNDER = [(0.66, 0.225, 1.1), (0.515, 0.243, 1.2), (0.385, 0.228, 1.25), (0.26, 0.205, 1.28)]
_NOSE = [(0, -0.016, 1.265), (0, -0.191, 1.36), (0, -0.358, 1.485), (0, -0.499, 1.6)]
_NOSTRILS = [(0, -0.644, 1.385), (0.095, -0.63, 1.385), (0.167, -0.614, 1.31)]
_JAW = [
    *((1.05, -0.033, 0.25), (1.03, -0.293, 0.32), (0.985, -0.533, 0.34), (0.935, -0.765, 0.32), (0.855, -1.018, 0.32)),
    *((0.71, -1.235, 0.5), (0.543, -1.375, 0.72), (0.32, -1.49, 0.98), (0.0, -1.56, 1.14)),
]


def _landmarks(world: World) -> tuple[np.ndarray, np.ndarray]:
    """Vertices and weights of the 98 landmarks."""
    names = markup(98).names
    vertex, weight = np.zeros((98, 3), int), np.zeros((98, 3))
    group = world.group
    # ring positions on the left side; eyes run outer corner, upper lid, inner corner, lower lid
    ring: dict[str, int] = {"eye_outer": group["eye_0"][0], "eye_inner": group["eye_0"][8]}
    for k, column in enumerate((3, 4, 5)):
        ring[f"upper_lid_{k}"] = group["eye_0"][column]
        ring[f"lower_lid_{k}"] = group["eye_0"][16 - column]
    twin = group["twin"]
    placed: dict[str, np.ndarray] = {}
    for i, p in enumerate(_BROW_TOP):
        placed[f"brow_{i}"] = np.array(p)
    for i, p in enumerate(_BROW_UNDER):
        placed[f"brow_under_{i}"] = np.array(p)
    placed |= {"nose_base": np.array(_NOSTRILS[1]), "nostril": np.array(_NOSTRILS[2])}
    middle = {f"nose_bridge_{i}": _NOSE[i] for i in range(3)} | {"nose_tip": _NOSE[3], "nose_base": _NOSTRILS[0]}
    upper, lower = (lambda k: group[f"upper_lip_{k}"]), (lambda k: group[f"lower_lip_{k}"])
    from facelab.worlds.faces.template import MOUTH_COLUMNS

    def along(border: np.ndarray, corner: float, x: float) -> tuple[np.ndarray, np.ndarray]:
        columns = corner * MOUTH_COLUMNS[: len(border)]
        k = min(int(np.searchsorted(columns, x, side="right")) - 1, len(border) - 2)
        t = (x - columns[k]) / (columns[k + 1] - columns[k])
        return np.array([border[k], border[k + 1], border[k]]), np.array([1 - t, t, 0.0])

    corner_out, corner_in = upper(2)[-1], upper(0)[-1]
    lips = {
        "mouth_corner": ([corner_out] * 3, [1.0, 0, 0]),
        "upper_lip_outer": along(upper(2), 0.347, 0.231),
        "cupid": along(upper(2), 0.347, 0.078),
        "lower_lip_outer": along(np.append(lower(2), corner_out), 0.347, 0.225),
        "lower_lip_inner": along(np.append(lower(2), corner_out), 0.347, 0.117),
        "inner_corner": ([corner_in] * 3, [1.0, 0, 0]),
        "upper_lip_inside": along(upper(0), 0.322, 0.104),
        "lower_lip_inside": along(np.append(lower(0), corner_in), 0.322, 0.101),
    }
    lip_middle = {
        "upper_lip_top": upper(2)[0],
        "lower_lip_bottom": lower(2)[0],
        "upper_lip_bottom": upper(0)[0],
        "lower_lip_top": lower(0)[0],
    }
    for i, name in enumerate(names):
        side, _, rest = name.partition("_")
        sided = side in ("left", "right")
        if name in lip_middle:
            vertex[i], weight[i] = lip_middle[name], (1, 0, 0)
        elif name in middle:
            v, w = _on_mesh(world, _unit(np.array([middle[name]]) - CENTRE))
            vertex[i], weight[i] = v[0], w[0]
        elif sided and rest in ring:
            vertex[i], weight[i] = ring[rest], (1, 0, 0)
        elif sided and rest in lips:
            vertex[i], weight[i] = lips[rest]
        elif sided and rest in placed:
            v, w = _on_mesh(world, _unit(placed[rest][None] - CENTRE))
            vertex[i], weight[i] = v[0], w[0]
        elif "pupil" in name:
            vertex[i], weight[i] = group["left_eyeball"][0], (1, 0, 0)  # replaced by the iris centre in `place`
            continue
        if side == "right" and "pupil" not in name:
            vertex[i] = twin[vertex[i]]
    return vertex, weight


def _jaw_paths(world: World) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Skin points along which each of the 33 jaw landmarks may slide to the outline, and which way is outwards."""
    fine = np.linspace(0, 8, 17)
    jaw = np.column_stack([np.interp(fine, np.arange(9), np.array(_JAW)[:, k]) for k in range(3)])
    ends = np.column_stack(
        [np.full(17, 0.3), np.interp(fine, range(9), [0.12, -0.12, -0.4, -0.65, -0.9, -1.1, -1.25, -1.38, -1.5]), np.full(17, 1.25)]
    )
    ends[:8, 0] = 0.45
    ends[-1], ends[-2, 0], ends[-3, 0] = jaw[-1] + [0, 0.02, 0.05], 0.1, 0.2
    t = np.linspace(0, 1, JAW_STEPS)[None, :, None] ** 1.3
    directions = _unit(_unit(jaw - CENTRE)[:, None] * (1 - t) + _unit(ends - CENTRE)[:, None] * t)
    vertex, weight = _on_mesh(world, directions.reshape(-1, 3))
    vertex, weight = vertex.reshape(17, JAW_STEPS, 3), weight.reshape(17, JAW_STEPS, 3)
    lean = np.radians(np.interp(fine, [0, 4, 6, 7, 8], [0, 8, 30, 55, 90]))
    outward = np.column_stack([np.cos(lean), -np.sin(lean)])
    twin = world.group["twin"]
    # order of the mark-up: right side from the ear to the chin, chin, left side back to the ear
    all_vertex = np.concatenate([twin[vertex[:16]], vertex[16:], vertex[15::-1]])
    all_weight = np.concatenate([weight[:16], weight[16:], weight[15::-1]])
    all_outward = np.concatenate([outward[:16] * [-1, 1], outward[16:], outward[15::-1]])
    return all_vertex, all_weight, all_outward


@cache
def rig() -> Rig:
    """The rig, built once per process."""
    world = build_world()
    shape = motion.shape_fields(world)
    left, right = motion.unit_fields(world)
    hair = motion.hair_fields(world)
    glasses = motion.glasses_fields(world)
    rows = [*(shape[name] for name in SHAPE), *left, *right, *hair.values(), *glasses.values()]
    basis = np.stack(rows).reshape(len(rows), -1).astype(np.float32)
    vertex, weight = _landmarks(world)
    path_vertex, path_weight, outward = _jaw_paths(world)
    vertex[:33], weight[:33] = path_vertex[:, 0], path_weight[:, 0]
    return Rig(
        *(world, world.rest.reshape(-1).astype(np.float32), basis, vertex.astype(np.int32), weight.astype(np.float32)),
        *(path_vertex.astype(np.int32), path_weight.astype(np.float32), outward.astype(np.float32)),
    )


def coefficients(values: dict[str, np.ndarray]) -> Float32[np.ndarray, "n C"]:
    """Coefficients of `Rig.basis` for the factors of n faces."""
    columns = [values[name] for name in SHAPE]
    units = np.stack([values[name] for name in AU_NAMES])
    lean = 0.4 * values["asymmetry"]
    columns += list(np.clip(units * (1 + lean), 0, 1)) + list(np.clip(units * (1 - lean), 0, 1))
    style = values["hair_style"].astype(int)
    columns += [(style == HAIR_STYLES.index(name)).astype(float) for name in ("side", "medium", "long", "up")]
    columns += [values["hair_volume"], values["hairline"], values["fringe"]]
    columns += [(values["glasses"] >= GLASSES.index("square")).astype(float), values["glasses_size"]]
    return np.stack(columns, 1).astype(np.float32)


def rotation(yaw: np.ndarray, pitch: np.ndarray, roll: np.ndarray) -> Float[np.ndarray, "n 3 3"]:
    """Head space to camera space: first pitch (nodding), then yaw, then roll, degrees."""
    y, p, r = np.radians(yaw), np.radians(pitch), np.radians(roll)
    one, zero = np.ones_like(y), np.zeros_like(y)
    turn = np.stack([np.cos(y), zero, np.sin(y), zero, one, zero, -np.sin(y), zero, np.cos(y)], -1).reshape(-1, 3, 3)
    nod = np.stack([one, zero, zero, zero, np.cos(p), np.sin(p), zero, -np.sin(p), np.cos(p)], -1).reshape(-1, 3, 3)
    tilt = np.stack([np.cos(r), np.sin(r), zero, -np.sin(r), np.cos(r), zero, zero, zero, one], -1).reshape(-1, 3, 3)
    return tilt @ turn @ nod


def lids(values: dict[str, np.ndarray]) -> Float[np.ndarray, "n 4"]:
    """How far the lids close: upper right, lower right, upper left, lower left; 0 rest, 1 shut, negative wider."""
    lean = 0.4 * values["asymmetry"]
    down = np.clip(-values["gaze_pitch"] / 30, -0.6, 1)
    columns = []
    for side, sign in (("right", -1), ("left", 1)):
        share = 1 + sign * lean

        def unit(k: int, share: np.ndarray = share) -> np.ndarray:
            return np.clip(values[f"au_{k}"] * share, 0, 1)

        base = -0.5 * unit(5) + 0.22 * unit(7) + 0.15 * unit(6) + 0.1 * unit(9) + 0.08 * unit(12) + 0.4 * down
        shut = values[f"lid_{side}"]
        columns += [
            np.clip(base * (1 - shut) + shut, -0.8, 1),
            (0.22 * unit(6) + 0.25 * unit(7) + 0.12 * unit(12)) * (1 - shut) - 0.1 * down,
        ]
    return np.stack(columns, 1)

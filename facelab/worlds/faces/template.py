"""The mean head: a closed-form surface through sculpted points, and a symmetric triangle mesh on it.

The skin is star-shaped about `CENTRE`: radius = thin-plate spline of direction through the sculpted points below, which
include the mean landmarks. Lids and lips are rings of vertices around the openings; everything is built for x >= 0 and
mirrored, so the mesh is exactly symmetric. Units: half a head width; x to the subject's left, y up, z out of the face;
the origin lies between the ears at the height of the eyes.
"""

from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float, Int
from scipy.interpolate import CubicSpline, PchipInterpolator, RBFInterpolator
from scipy.spatial import ConvexHull, cKDTree

CENTRE = np.array([0.0, -0.3, 0.2])
EYE = np.array([0.405, -0.005, 0.875])  # centre of the sphere that carries the left eye's surface
EYE_RADIUS = 0.26
IRIS_RADIUS = 0.078
MOUTH_LINE = -0.925

# Sculpted points (x, y, z) with x >= 0; x > 0 are mirrored.
_MIDLINE = """0 .32 1.36  0 .6 1.36  0 .9 1.22  0 1.2 .93  0 1.44 .45  0 1.52 0  0 1.42 -.5  0 1.1 -.95  0 .6 -1.24
0 .1 -1.25  0 -.4 -1.05  0 -.75 -.7  0 -1.1 -.25  0 -1.45 .35  0 -1.58 .8
0 -.016 1.265  0 -.191 1.36  0 -.358 1.485  0 -.499 1.60  0 -.575 1.53  0 -.644 1.385  0 -.73 1.37
0 -.815 1.41  0 -1.065 1.36  0 -1.15 1.31  0 -1.36 1.345  0 -1.48 1.29  0 -1.56 1.14"""
_SKULL = """1.01 .1 .35  .96 .4 .5  .86 .8 .5  .8 .35 .9  .62 .62 1.1  .35 .6 1.3  .3 .95 1.13  .62 .95 .85  .55 1.28 .45
.99 .6 0  1.05 .2 -.1  1.02 .3 -.5  .84 .85 -.5  .5 1.32 -.3  .78 .2 -1.0  .6 .7 -1.0  .6 -.4 -.9  .88 -.2 -.5  .98 -.5 -.1
.87 -.85 -.05  .5 -.95 -.35  .6 -1.2 .15  .35 -1.4 .5  .3 -1.5 .8"""
_CONTOUR = "1.05 -.033 .25  1.03 -.293 .32  .985 -.533 .34  .935 -.765 .32  .855 -1.018 .32  .71 -1.235 .5  .543 -1.375 .72  .32 -1.49 .98"
_FACE = """.43 .115 1.135  .25 .1 1.16  .62 .12 1.06  .4 .3 1.265  .518 .317 1.225  .669 .293 1.13  .792 .212 .99  .255 .27 1.31
.43 -.15 1.125  .3 -.13 1.14  .6 -.12 1.03  .72 -.02 .94  .55 -.35 1.125  .4 -.32 1.16  .75 -.3 .94  .87 -.35 .68
.13 -.03 1.175  .085 -.16 1.3  .17 -.25 1.22  .11 -.35 1.37  .2 -.42 1.24  .22 -.55 1.285  .167 -.614 1.31  .095 -.63 1.385  .1 -.49 1.53
.06 -.38 1.475  .05 -.2 1.345  .27 -.6 1.23  .36 -.75 1.215  .47 -.93 1.09  .55 -.65 1.07  .62 -.95 .93  .76 -.65 .8  .72 -.95 .7
.2 -1.36 1.3  .1 -1.37 1.335  .12 -1.16 1.29  .25 -1.15 1.235  .42 -1.28 1.04
.42 -1.1 1.09  .1 -.72 1.36  .2 -.74 1.29  .231 -.845 1.29  .078 -.8 1.4
.225 -1.015 1.285  .117 -1.055 1.345  .347 -.93 1.165  .05 -1.48 1.28  .16 -1.46 1.245  .62 -.8 .99"""

UPPER_BORDER = PchipInterpolator([0, 0.078, 0.16, 0.231, 0.347], [-0.822, -0.808, -0.825, -0.855, -0.93])
LOWER_BORDER = PchipInterpolator([0, 0.117, 0.225, 0.347], [-1.055, -1.045, -1.005, -0.93])
UPPER_LID = CubicSpline([0.266, 0.355, 0.44, 0.52, 0.6], [-0.014, 0.036, 0.05, 0.038, 0.0])
LOWER_LID = CubicSpline([0.266, 0.355, 0.44, 0.52, 0.6], [-0.014, -0.046, -0.057, -0.048, 0.0])


def _points(text: str) -> np.ndarray:
    return np.array(text.split(), dtype=float).reshape(-1, 3)


def _mirrored(points: np.ndarray) -> np.ndarray:
    return np.concatenate([points, points[points[:, 0] > 1e-9] * [-1, 1, 1]])


def _unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def _skin_radius() -> RBFInterpolator:
    sculpted = _mirrored(np.concatenate([_points(t) for t in (_MIDLINE, _SKULL, _CONTOUR, _FACE)])) - CENTRE
    return RBFInterpolator(_unit(sculpted), np.linalg.norm(sculpted, axis=1), kernel="thin_plate_spline", smoothing=1e-4)


def _on_skin(xy: np.ndarray, radius: RBFInterpolator, guess: float = 1.2) -> np.ndarray:
    """The skin's point in front of the head with the given x and y."""
    points = np.column_stack([xy, np.full(len(xy), guess)])
    for _ in range(12):
        directions = _unit(points - CENTRE)
        points[:, 2] += 0.7 * (CENTRE[2] + radius(directions) * directions[:, 2] - points[:, 2])
    return points


@dataclass
class Template:
    """Vertices of the mean head and what each of them is.

    Attributes:
        vertices: (V, 3) half head widths.
        triangles: (T, 3) vertex indices, counter-clockwise seen from outside.
        triangle_part: (T,) name of the part.
        group: name -> vertex indices (rings of lids and lips, in drawing order, and whole meshes).
        lower: (V,) 1 for what hangs on the lower jaw, else 0, with a smooth transition on the cheeks.
    """

    vertices: Float[np.ndarray, "V 3"]
    triangles: Int[np.ndarray, "T 3"]
    triangle_part: list[str]
    lower: Float[np.ndarray, " V"]
    group: dict[str, np.ndarray] = field(default_factory=dict)


def sphere_z(xy: np.ndarray, radius: float) -> np.ndarray:
    """Height of the left eye's sphere at (x, y), continued as a cone outside."""
    squared = ((xy - EYE[:2]) ** 2).sum(-1)
    return EYE[2] + np.sqrt(np.maximum(radius**2 - squared, (0.45 * radius) ** 2))


def _eye_rings(radius: RBFInterpolator) -> list[np.ndarray]:
    """Rim (0) and four rings around it, 16 points each: outer corner, upper lid inwards, inner corner, lower lid outwards."""
    t = np.array([0, 0.06, 0.15, 0.29, 0.47, 0.66, 0.82, 0.93, 1])  # columns 3, 4 and 5 carry the lid landmarks
    x = 0.6 - 0.334 * t
    rim = np.concatenate([np.column_stack([x, UPPER_LID(x)]), np.column_stack([x, LOWER_LID(x)])[-2:0:-1]])
    angle = np.concatenate([np.linspace(0, np.pi, 9), np.linspace(np.pi, 2 * np.pi, 9)[1:-1]])
    oval = np.column_stack([0.435 + 0.262 * np.cos(angle), -0.005 + 0.155 * np.sin(angle)])
    oval[angle > np.pi, 1] *= 0.95
    rings = []
    for share, lift in ((0.0, 0.006), (0.1, 0.022), (0.33, 0.024), (0.65, 0.0), (1.0, -1.0)):
        xy = rim + share * (oval - rim)
        ring = _on_skin(xy, radius)
        on_ball = sphere_z(xy, EYE_RADIUS + lift)
        weight = {0.0: 1.0, 0.1: 1.0, 0.33: 0.75, 0.65: 0.3, 1.0: 0.0}[share]
        ring[:, 2] = np.maximum(weight * on_ball + (1 - weight) * ring[:, 2], sphere_z(xy, EYE_RADIUS + 0.006) if share < 1 else -9)
        rings.append(ring)
    return rings


def _lip_bulge(k: int, sign: int) -> np.ndarray:
    """How far ring k of a lip stands out of the skin: the red of the lips bulges, the inner rim turns inwards."""
    fullness = np.sqrt(np.maximum(1 - MOUTH_COLUMNS**2, 0))
    return {0: -0.055 * fullness - 0.015, 1: (0.045 if sign > 0 else 0.055) * fullness}.get(k, 0 * fullness)


MOUTH_COLUMNS = np.array([0.0, 0.12, 0.24, 0.4, 0.56, 0.72, 0.86, 0.95, 1.0])


def _mouth_rings(radius: RBFInterpolator) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Upper and lower rings for x >= 0, centre to corner: inner rim, mid lip, vermilion border, three on the skin."""
    upper, lower = [], []
    for sign, border, rings in ((1, UPPER_BORDER, upper), (-1, LOWER_BORDER, lower)):
        for share, corner in ((0.0, 0.322), (0.5, 0.336), (1.0, 0.347), (1.3, 0.372), (1.9, 0.42), (3.0, 0.5)):
            x = corner * MOUTH_COLUMNS
            edge = border(np.minimum(x * 0.347 / corner, 0.347))
            line = MOUTH_LINE - 0.005 * MOUTH_COLUMNS**2
            if share <= 1:
                y = line + share * (edge - line)
            else:
                y = edge + sign * (share - 1) * 0.06 * np.sqrt(np.maximum(1 - MOUTH_COLUMNS**4, 0))
            ring = _on_skin(np.column_stack([x, y]), radius)
            rings.append(ring)
    return upper, lower


def _fill(existing: np.ndarray) -> np.ndarray:
    """Directions with x >= 0 that fill the sphere evenly, denser on the face, keeping away from `existing` ones."""

    def spacing(d: np.ndarray) -> np.ndarray:
        front = np.exp(-(((d[:, 0]) / 0.75) ** 2) - ((d[:, 1] + 0.1) / 0.75) ** 2) * (d[:, 2] > 0)
        nose = np.exp(-((d[:, 0] / 0.22) ** 2) - ((d[:, 1] + 0.08) / 0.3) ** 2) * (d[:, 2] > 0)
        return 0.24 - 0.06 * (d[:, 2] > -0.2) - 0.11 * front - 0.025 * nose

    taken = [*existing]
    midline = np.radians(np.arange(-179.5, 180, 1.0))
    candidates = np.column_stack([np.zeros_like(midline), np.sin(midline), np.cos(midline)])
    count = np.arange(1, 6001)
    phi, u = (count * 0.7548776662466927) % 1, (count * 0.5698402909980532) % 1
    y = 2 * u - 1
    ring = np.sqrt(1 - y**2)
    scattered = np.column_stack([ring * np.sin(np.pi * phi), y, ring * np.cos(np.pi * phi)])
    kept = []
    for group in (candidates, scattered):
        for d, h in zip(group, spacing(group), strict=True):
            if group is scattered and d[0] < 0.55 * h:
                continue
            near = np.linalg.norm(np.array(taken) - d, axis=1).min()
            if near > (0.72 * h if group is scattered else 0.6 * h):
                taken.append(d)
                kept.append(d)
    return np.array(kept)


def build_head() -> Template:
    """The mean head's skin with openings at eyes and mouth, symmetric vertex by vertex."""
    radius = _skin_radius()
    eye = _eye_rings(radius)
    upper, lower = _mouth_rings(radius)
    points, parting, group, start = [], [], {}, 0

    def add(name: str, ring: np.ndarray, part: np.ndarray | float) -> None:
        nonlocal start
        points.append(ring)
        parting.append(np.broadcast_to(part, len(ring)))
        group[name] = np.arange(start, start + len(ring))
        start += len(ring)

    for k, ring in enumerate(eye):
        add(f"eye_{k}", ring, 0.0)
    for k in range(6):
        open_by = 0.1 * (1 - MOUTH_COLUMNS**2) * (1.0, 1.0, 1.0, 0.95, 0.85, 0.6)[k]
        add(f"upper_lip_{k}", upper[k], open_by)
        add(f"lower_lip_{k}", lower[k][:-1], -open_by[:-1])  # the corner is shared
    structured = np.concatenate(points)
    parted = structured + np.column_stack([0 * structured[:, 0], np.concatenate(parting), 0 * structured[:, 0]])
    for k in range(2):
        structured[group[f"upper_lip_{k}"], 2] += _lip_bulge(k, 1)
        structured[group[f"lower_lip_{k}"], 2] += _lip_bulge(k, -1)[:-1]
    contour = _points(_CONTOUR)
    sculpted = _points(_FACE)
    near = cKDTree(parted).query(sculpted)[0]
    sculpted = sculpted[(near > 0.05) & ~((sculpted[:, 0] < 0.36) & (np.abs(sculpted[:, 1] + 0.94) < 0.18))]
    extra = np.concatenate([_points(_MIDLINE)[_kept_midline()], contour, sculpted])
    extra_d = _unit(extra - CENTRE)
    inside = []  # no point may lie in the openings
    for share in np.linspace(-0.9, 0.9, 7):
        x = np.linspace(0, 0.32, 12)
        inside.append(np.column_stack([x, MOUTH_LINE + 0.1 * share * (1 - (x / 0.322) ** 2), np.full(12, 1.36 - x * 0.6)]))
        x = np.linspace(0.28, 0.59, 12)
        inside.append(np.column_stack([x, share * UPPER_LID(x), np.full(12, 1.12)]))
    blocked = np.concatenate([_unit(parted - CENTRE), extra_d, _unit(np.concatenate(inside) - CENTRE)])
    fill = _fill(blocked)
    fill = fill[~((np.abs(fill[:, 0]) < 1e-9) & (np.abs(fill @ _unit(np.array([0, -0.645, 1.2]))) > np.cos(0.1)))]
    domain = np.concatenate([_unit(parted - CENTRE), extra_d, fill])
    relaxed = np.concatenate([extra_d, fill])
    skin = CENTRE + radius(relaxed)[:, None] * relaxed
    vertices = np.concatenate([structured, skin])
    group["contour"] = start + len(_points(_MIDLINE)[_kept_midline()]) + np.arange(len(contour))
    vertices[np.abs(vertices[:, 0]) < 1e-6, 0] = 0
    domain[np.abs(domain[:, 0]) < 1e-6, 0] = 0

    half = len(vertices)
    off = np.flatnonzero(domain[:, 0] > 0)
    twin = np.arange(half)
    twin[off] = half + np.arange(len(off))
    hull = ConvexHull(np.concatenate([domain, domain[off] * [-1, 1, 1]])).simplices
    on_left = hull[(hull < half).all(1)]
    flat = (domain[on_left][:, :, 0] == 0).all(1)
    on_left = on_left[~flat]
    corner = domain[on_left]
    outward = np.einsum("ti,ti->t", np.cross(corner[:, 1] - corner[:, 0], corner[:, 2] - corner[:, 0]), corner.sum(1))
    on_left[outward < 0] = on_left[outward < 0][:, ::-1]
    rims = [set(group["eye_0"]), set(group["upper_lip_0"]) | set(group["lower_lip_0"])]
    keep = [not any(set(t) <= rim for rim in rims) for t in on_left.tolist()]
    on_left = on_left[np.array(keep)]
    triangles = np.concatenate([on_left, twin[on_left][:, ::-1]])
    everything = np.concatenate([vertices, vertices[off] * [-1, 1, 1]])
    for name in list(group):
        group[f"right_{name}"] = twin[group[name]]
    group["twin"] = np.concatenate([twin, off])
    lower_side = np.zeros(len(everything))
    return Template(everything, triangles, [], lower_side, group)


def _kept_midline() -> np.ndarray:
    """Which sculpted points of the midline become vertices: not those on the lips and behind the head."""
    points = _points(_MIDLINE)
    return (points[:, 2] > 0) & ~((points[:, 1] < -0.8) & (points[:, 1] > -1.11))

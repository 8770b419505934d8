"""All meshes of the world in their rest position: skin, eyes, mouth, ears, neck, clothes, hair, glasses, mask, hand, patch."""

from dataclasses import dataclass

import numpy as np

from facelab.worlds.faces import template as mean_head
from facelab.worlds.faces.template import CENTRE, EYE, EYE_RADIUS, MOUTH_COLUMNS

PARTS = (
    *("background", "skin", "brows", "eyes", "nose", "upper_lip", "lower_lip", "mouth", "ears"),
    *("neck", "hair", "clothes", "glasses", "occluder"),
)
OBJECTS = ("skin", "eyes", "mouth", "teeth", "ears", "neck", "clothes", "hair", "lenses", "frame", "mask", "hand", "patch")
"""Meshes; each can be shown or not, and each is one material."""


@dataclass
class World:
    """Static description of all vertices (V) and triangles (T).

    Attributes:
        rest: (V, 3) mean positions, half head widths.
        lower: (V,) share in the motion of the lower jaw.
        head: (V,) 1 moves with the head, 0 with the shoulders, -1 is placed before the camera.
        lip: (V,) 2 on the inner rim of the lips, 1 on the vermilion border, 0 outside; -1 at the lashes.
        shade: (V,) ambient light that reaches the vertex, 0..1.
        kind: (V,) index into OBJECTS.
        triangles: (T, 3); part: (T,) index into PARTS; object: (T,) index into OBJECTS; flat: (T,) True where both sides are seen.
        group: name -> vertex indices.
    """

    rest: np.ndarray
    lower: np.ndarray
    head: np.ndarray
    lip: np.ndarray
    shade: np.ndarray
    kind: np.ndarray
    triangles: np.ndarray
    part: np.ndarray
    object: np.ndarray
    flat: np.ndarray
    group: dict[str, np.ndarray]


class _Builder:
    def __init__(self) -> None:
        self.columns: dict[str, list] = {name: [] for name in ("rest", "lower", "head", "lip", "shade", "kind")}
        self.faces: dict[str, list] = {name: [] for name in ("triangles", "part", "object", "flat")}
        self.group: dict[str, np.ndarray] = {}
        self.count = 0

    def add(self, name: str, what: str, part, rest, triangles, lower=0.0, head=1.0, lip=0.0, shade=1.0, flat=False) -> np.ndarray:
        n, t = len(rest), len(triangles)
        kind = OBJECTS.index(what)
        for key, value in {"rest": rest, "lower": lower, "head": head, "lip": lip, "shade": shade, "kind": kind}.items():
            self.columns[key].append(np.broadcast_to(value, (n, 3) if key == "rest" else (n,)))
        part = PARTS.index(part) if isinstance(part, str) else part
        for key, value in {"part": part, "object": kind, "flat": flat}.items():
            self.faces[key].append(np.broadcast_to(value, (t,)))
        self.faces["triangles"].append(np.asarray(triangles) + self.count)
        index = np.arange(self.count, self.count + n)
        self.group[name] = np.concatenate([self.group[name], index]) if name in self.group else index
        self.count += n
        return index

    def both(self, name, what, part, rest, triangles, **more) -> None:
        """Left mesh and its mirror image."""
        self.add(f"left_{name}", what, part, rest, triangles, **more)
        self.add(f"right_{name}", what, part, rest * [-1, 1, 1], np.asarray(triangles)[:, ::-1], **more)

    def done(self) -> World:
        columns = {k: np.concatenate(v).astype(np.float64) for k, v in self.columns.items()}
        faces = {k: np.concatenate(v) for k, v in self.faces.items()}
        return World(**columns, **faces, group=self.group)


def smoothstep(x: np.ndarray) -> np.ndarray:
    x = np.clip(x, 0, 1)
    return x * x * (3 - 2 * x)


def grid_triangles(rows: int, columns: int, closed: bool = False) -> np.ndarray:
    """Two triangles per cell of a row-major grid; `closed` joins the last column to the first."""
    i, j = np.meshgrid(np.arange(rows - 1), np.arange(columns if closed else columns - 1), indexing="ij")
    k = (j + 1) % columns
    a, b, c, d = i * columns + j, i * columns + k, (i + 1) * columns + j, (i + 1) * columns + k
    # the diagonal is mirrored about the middle column so that the mesh is symmetric
    left = (j < (columns if closed else columns - 1) / 2)[..., None]
    one = np.where(left, np.stack([a, c, d], -1), np.stack([a, c, b], -1))
    two = np.where(left, np.stack([a, d, b], -1), np.stack([b, c, d], -1))
    return np.concatenate([one.reshape(-1, 3), two.reshape(-1, 3)])


def jaw_share(p: np.ndarray) -> np.ndarray:
    """How much a point of the skin follows the lower jaw, 0..1."""
    line = np.maximum(-0.2 - 0.695 * np.maximum(p[:, 2] - 0.1, 0), -0.925)
    return smoothstep((line - p[:, 1] + 0.03) / 0.28)


def _skin(build: _Builder) -> None:
    head = mean_head.build_head()
    p = head.vertices
    lower = jaw_share(p)
    lip = np.zeros(len(p))
    shade = np.ones(len(p))
    end = 1 - MOUTH_COLUMNS**4
    for side in ("", "right_"):
        for k in range(6):
            blend = (k / 5) ** 1.5
            up, low = head.group[f"{side}upper_lip_{k}"], head.group[f"{side}lower_lip_{k}"]
            lower[low] = (1 - blend) * (0.45 + 0.55 * end[: len(low)]) + blend * np.maximum(lower[low], 0.45)
            lower[up] = (1 - blend) * 0.45 * (1 - end) + blend * lower[up]
            lip[up] = lip[low] = (2.0, 1.5, 1.0, 0.0, 0.0, 0.0)[k]
            if k == 0:
                shade[up] = shade[low] = 0.55
        for k, value in enumerate((0.75, 0.85, 0.85, 0.92, 1.0)):
            shade[head.group[f"{side}eye_{k}"]] = value
        lip[head.group[f"{side}eye_0"]] = [-0.5, *[-1.0] * 7, -0.4, *[-0.45] * 7]  # lashes
        lip[head.group[f"{side}eye_1"]] = [-0.1, *[-0.35] * 7, -0.1, *[-0.1] * 7]
    x, y, z = np.abs(p[:, 0]), p[:, 1], p[:, 2]
    shade *= 1 - 0.35 * np.exp(-(((x - 0.12) / 0.1) ** 2) - ((y + 0.63) / 0.06) ** 2) * (z > 1)  # under the nose
    shade *= 1 - 0.2 * np.exp(-(((x - 0.27) / 0.08) ** 2) - ((y - 0.03) / 0.1) ** 2) * (z > 0.9)  # inner corner of the eye
    shade *= 1 - 0.15 * np.exp(-((x / 0.25) ** 2) - ((y + 1.17) / 0.05) ** 2) * (z > 1)  # under the lower lip
    shade *= 1 - 0.55 * smoothstep((-1.45 - y) / 0.2) * (z < 1.2)  # under the chin
    tri = head.triangles
    centre = p[tri].mean(1)
    part = np.full(len(tri), PARTS.index("skin"))
    on_lip = (lip[tri] >= 1).all(1)
    part[on_lip] = np.where(centre[on_lip, 1] > -0.927, PARTS.index("upper_lip"), PARTS.index("lower_lip"))
    low_ids = np.concatenate([head.group[f"{s}lower_lip_{k}"] for s in ("", "right_") for k in range(3)])
    part[on_lip & np.isin(tri, low_ids).any(1)] = PARTS.index("lower_lip")
    width = np.interp(-centre[:, 1], [0.0, 0.3, 0.5, 0.66], [0.1, 0.15, 0.24, 0.24])
    nose = (np.abs(centre[:, 0]) < width) & (centre[:, 1] < 0.0) & (centre[:, 1] > -0.66) & (centre[:, 2] > 1)
    part[nose] = PARTS.index("nose")
    index = build.add("skin", "skin", part, p, tri, lower=lower, lip=lip, shade=shade)
    for name, member in head.group.items():
        build.group[name] = index[member]


def _eyes(build: _Builder) -> None:
    angle = np.linspace(0, 2 * np.pi, 17)[:-1]
    rings = [np.array([[0.433, -0.005]])]
    for r in (0.3, 0.6, 0.85, 1.0):
        rings.append(np.column_stack([0.433 + 0.2 * r * np.cos(angle), -0.005 + 0.13 * r * np.sin(angle)]))
    xy = np.concatenate(rings)
    rest = np.column_stack([xy, mean_head.sphere_z(xy, EYE_RADIUS)])
    fan = [[0, 1 + i, 1 + (i + 1) % 16] for i in range(16)]
    strips = []
    for k in range(3):
        for i in range(16):
            a, b = 1 + 16 * k + i, 1 + 16 * k + (i + 1) % 16
            strips += [[a, a + 16, b + 16], [a, b + 16, b]]
    build.both("eyeball", "eyes", "eyes", rest, np.array(fan + strips), shade=0.9)
    build.both("eye_centre", "eyes", "eyes", EYE[None], np.zeros((0, 3), int))


def _mouth(build: _Builder) -> None:
    rest = build.columns["rest"][0]
    side = build.group["upper_lip_0"], build.group["right_upper_lip_0"], build.group["lower_lip_0"], build.group["right_lower_lip_0"]
    upper = rest[np.concatenate([side[1][:0:-1], side[0]])]
    lower_rim = np.concatenate([side[2], [side[0][-1]]]), np.concatenate([side[3], [side[1][-1]]])
    low = rest[np.concatenate([lower_rim[1][:0:-1], lower_rim[0]])]
    s = np.concatenate([MOUTH_COLUMNS[:0:-1], MOUTH_COLUMNS])
    tip = 1 - s**4
    rows, hanging, light = [], [], []
    for base, jaw, back, scale, lit in (
        (upper, 0.45 * (1 - tip), 0.0, 1.0, 0.5),
        (upper, 0.45 * (1 - tip), 0.1, 0.96, 0.25),
        (upper, 0.45 * (1 - tip), 0.45, 0.85, 0.02),
        (low, 0.45 + 0.55 * tip, 0.45, 0.85, 0.02),
        (low, 0.45 + 0.55 * tip, 0.1, 0.96, 0.25),
        (low, 0.45 + 0.55 * tip, 0.0, 1.0, 0.5),
    ):
        rows.append(base * [scale, 1, 1] - [0, 0, back])
        hanging.append(jaw)
        light.append(np.full(len(s), lit))
    stacked = np.concatenate([r + [0, 0.12 * (k == 2) - 0.12 * (k == 3), 0] for k, r in enumerate(rows)])
    # the rows meet again only at the lips: without a wall at both ends one looks through a turned open mouth
    ends = np.array([[0, 1, 4], [0, 4, 5], [1, 2, 3], [1, 3, 4]]) * len(s)
    triangles = np.concatenate([grid_triangles(6, len(s)), ends, ends + len(s) - 1])
    build.add("mouth_bag", "mouth", "mouth", stacked, triangles, lower=np.concatenate(hanging), shade=np.concatenate(light), flat=True)
    x = np.linspace(-0.27, 0.27, 11)
    for name, y0, y1, z0, jaw in (("upper_teeth", -0.8, -0.955, 1.215, 0.0), ("lower_teeth", -0.965, -1.09, 1.19, 1.0)):
        arc = z0 - 1.7 * x**2
        rest_teeth = np.concatenate([np.column_stack([x, np.full(11, y), arc]) for y in (y0, y1)])
        build.add(name, "teeth", "mouth", rest_teeth, grid_triangles(2, 11), lower=jaw, shade=np.tile(0.9 - 5 * x**2, 2), flat=True)


def _ears(build: _Builder) -> None:
    angle = np.linspace(0, 2 * np.pi, 15)[:-1]
    rings, shade = [], []
    for r, rise, lit in ((1.0, -0.03, 0.8), (0.97, 0.06, 1.0), (0.8, 0.05, 1.0), (0.66, 0.0, 0.7), (0.45, -0.03, 0.5), (0.05, -0.06, 0.4)):
        narrow = np.where(np.sin(angle) < 0, 0.78 + 0.22 * np.cos(angle), 1.0)
        along = -0.21 * r * np.cos(angle) * narrow  # backwards along the head
        rings.append(np.column_stack([np.full(14, rise), 0.37 * r * np.sin(angle), along]))
        shade.append(np.full(14, lit))
    local = np.concatenate(rings)
    tilt = np.radians(24)
    out = local[:, 0] * np.cos(tilt) - (local[:, 2] - 0.23) * np.sin(tilt)
    depth = local[:, 2] * np.cos(tilt) + local[:, 0] * np.sin(tilt)
    lean = 0.18 * local[:, 1]
    rest = np.column_stack([0.955 + out + 0.05 * local[:, 1], -0.17 + local[:, 1], -0.1 + depth - lean])
    build.both("ear", "ears", "ears", rest, grid_triangles(6, 14, closed=True), shade=np.concatenate(shade), flat=True)


def _tube(rings: list[tuple[float, float, float, float]], columns: int) -> np.ndarray:
    """Horizontal rings (y, centre z, half width, half depth), the first column in front."""
    angle = np.linspace(0, 2 * np.pi, columns + 1)[:-1]
    return np.concatenate([np.column_stack([w * np.sin(angle), np.full(columns, y), z + d * np.cos(angle)]) for y, z, w, d in rings])


def _body(build: _Builder) -> None:
    neck = [
        (-0.7, -0.25, 0.66, 0.62),
        (-1.2, -0.24, 0.66, 0.6),
        (-1.6, -0.26, 0.67, 0.58),
        (-1.95, -0.32, 0.74, 0.6),
        (-2.3, -0.38, 0.95, 0.68),
    ]
    columns = 20
    share = np.repeat([1.0, 0.85, 0.55, 0.2, 0.0], columns)
    tri = grid_triangles(len(neck), columns, closed=True)
    shade = np.repeat([0.25, 0.35, 0.6, 0.8, 0.8], columns)
    build.add("neck", "neck", "neck", _tube(neck, columns), tri, head=share, shade=shade)
    torso = [
        *((-1.78, -0.36, 0.78, 0.62), (-1.86, -0.36, 0.9, 0.74), (-2.05, -0.4, 1.25, 0.82), (-2.3, -0.42, 1.85, 0.85)),
        *((-2.6, -0.42, 2.35, 0.9), (-3.1, -0.42, 2.55, 0.95), (-4.2, -0.4, 2.6, 1.0), (-6, -0.4, 2.6, 1.0)),
    ]
    rest = _tube(torso, columns)
    front = np.cos(np.linspace(0, 2 * np.pi, columns + 1)[:-1])
    rest[:columns, 1] -= 0.16 * np.clip(front, 0, 1)  # the collar is lower in front
    rest[columns : 2 * columns, 1] -= 0.18 * np.clip(front, 0, 1)
    build.add("torso", "clothes", "clothes", rest, grid_triangles(len(torso), columns, closed=True), head=0.0)


def direction(azimuth: np.ndarray, elevation: np.ndarray) -> np.ndarray:
    return np.stack([np.cos(elevation) * np.sin(azimuth), np.sin(elevation), np.cos(elevation) * np.cos(azimuth)], -1)


HAIR_ROWS, HAIR_COLUMNS = 12, 40


def hair_shape(style: str, fringe: float = 0.0, line: float = 0.0) -> np.ndarray:
    """(rows x columns, 3) rest position of a hair style without volume, from the crown (first row) to the hairline."""
    radius = mean_head._skin_radius()
    azimuth = np.linspace(-np.pi, np.pi, HAIR_COLUMNS + 1)[:-1]
    a = np.degrees(np.abs(azimuth))
    rim = {  # elevation of the hair's edge over azimuth, degrees
        "short": np.interp(a, [0, 25, 38, 50, 62, 74, 84, 100, 115, 135, 180], [50, 49, 44, 33, 22, 2, 8, 12, -15, -32, -36]),
        "side": np.interp(a, [0, 25, 38, 50, 62, 74, 84, 100, 115, 135, 180], [50, 48, 42, 30, 18, -8, 2, 4, -20, -36, -40]),
        "up": np.interp(a, [0, 25, 38, 50, 62, 74, 84, 100, 115, 135, 180], [50, 49, 44, 34, 24, 10, 12, 12, -15, -30, -32]),
        "medium": np.interp(a, [0, 25, 38, 50, 62, 72, 80, 100, 135, 180], [50, 48, 42, 30, 14, -10, -35, -42, -44, -44]),
        "long": np.interp(a, [0, 25, 38, 50, 62, 72, 80, 100, 135, 180], [50, 48, 42, 30, 12, -20, -50, -58, -58, -58]),
    }[style]
    rim = rim + line * np.interp(a, [0, 60, 80], [12, 6, 0]) - fringe * np.interp(a, [0, 40, 60, 75], [27, 24, 12, 0])
    t = np.linspace(0, 1, HAIR_ROWS)[:, None] ** 0.9
    elevation = np.radians(89 + t * (rim[None] - 89))
    d = direction(np.broadcast_to(azimuth, elevation.shape), elevation)
    r = radius(d.reshape(-1, 3)).reshape(elevation.shape)
    tuck = np.sqrt(np.clip(1 - t**6, 0, 1)) * np.ones_like(elevation)  # thin at the edge
    thick = {"short": 0.07, "side": 0.09, "up": 0.06, "medium": 0.14, "long": 0.14}[style] * (0.25 + 0.75 * tuck)
    if style in ("medium", "long"):
        thick = np.maximum(thick, 0.13 * (np.degrees(elevation) < 20))
    p = CENTRE + d * (r + thick)[..., None]
    if style in ("medium", "long"):  # hangs straight down from the widest place
        low = {"medium": -1.05, "long": -2.1}[style]
        hang = (np.degrees(elevation) < 0) & (a > 66)
        widest = CENTRE + (radius(direction(azimuth, np.radians(4.0) + 0 * azimuth)) + 0.17)[:, None] * direction(
            azimuth, np.radians(4.0) + 0 * azimuth
        )
        depth = np.clip(np.degrees(-elevation) / np.maximum(-rim, 1), 0, 1)
        widest = np.broadcast_to(widest, p.shape)
        y = -0.25 + depth * (low + 0.25)
        p = np.where(
            hang[..., None],
            np.stack([widest[..., 0] * (1.0 + 0.02 * depth), np.minimum(y, p[..., 1] + 0.1), widest[..., 2] - 0.05 * depth], -1),
            p,
        )
    return p.reshape(-1, 3)


def _hair(build: _Builder) -> None:
    rest = hair_shape("short")
    tri = grid_triangles(HAIR_ROWS, HAIR_COLUMNS, closed=True)[:, ::-1]
    build.add("hair", "hair", "hair", rest, tri[:, ::-1], flat=True)


def _glasses(build: _Builder) -> None:
    angle = np.linspace(0, 2 * np.pi, 21)[:-1]
    centre = np.array([0.42, -0.045])

    def oval(scale: float) -> np.ndarray:
        xy = centre + np.column_stack([(0.27 + scale) * np.cos(angle), (0.215 + scale) * np.sin(angle)])
        return np.column_stack([xy, 1.37 - 0.22 * xy[:, 0] ** 2])

    lens = np.concatenate([[[*centre, 1.37 - 0.22 * centre[0] ** 2 + 0.01]], oval(0.0)])
    fan = np.array([[0, 1 + i, 1 + (i + 1) % 20] for i in range(20)])
    build.both("lens", "lenses", "glasses", lens, fan, flat=True)
    rim = np.concatenate([oval(-0.012), oval(0.028) + [0, 0, 0.015], oval(0.028) - [0, 0, 0.04]])
    build.both("rim", "frame", "glasses", rim, grid_triangles(3, 20, closed=True), flat=True)
    arm = np.array(
        [[0.7, 0.09, 1.26], [0.7, 0.03, 1.26], [1.03, 0.07, 0.95], [1.03, 0.015, 0.95], [1.08, 0.06, -0.05], [1.08, 0.01, -0.05]]
    )
    build.both("arm", "frame", "glasses", arm, np.array([[0, 1, 2], [1, 3, 2], [2, 3, 4], [3, 5, 4]]), flat=True)
    x = np.array([-0.15, -0.07, 0.07, 0.15])
    bridge = np.concatenate(
        [np.column_stack([x, np.array([0.0, 0.03, 0.03, 0.0]) + dy, np.array([1.365, 1.39, 1.39, 1.365])]) for dy in (0.02, -0.025)]
    )
    build.add("bridge", "frame", "glasses", bridge, grid_triangles(2, 4), flat=True)


def _mask(build: _Builder) -> None:
    radius = mean_head._skin_radius()
    azimuth = np.radians(np.linspace(-68, 68, 19))
    height = np.linspace(0, 1, 9)[:, None]
    a = np.degrees(np.abs(azimuth))
    top = np.interp(a, [0, 12, 30, 68], [9, 4, -1, -4])
    bottom = np.interp(a, [0, 30, 68], [-58, -54, -30])
    elevation = np.radians(top + height * (bottom - top))
    d = direction(np.broadcast_to(azimuth, elevation.shape), elevation)
    r = radius(d.reshape(-1, 3)).reshape(elevation.shape)
    padded = np.pad(r, 1, mode="edge")  # the cloth stands off by what is highest around: it must not let the nose through
    r = np.max([padded[i : i + 9, j : j + 19] for i in range(3) for j in range(3)], axis=0)
    smooth = r
    for _ in range(6):
        padded = np.pad(smooth, 1, mode="edge")
        smooth = np.maximum((padded[:-2, 1:-1] + padded[2:, 1:-1] + padded[1:-1, :-2] + padded[1:-1, 2:]) / 4, r)
    rest = (CENTRE + d * (smooth + 0.07)[..., None]).reshape(-1, 3)
    build.add("mask", "mask", "occluder", rest, grid_triangles(9, 19), lower=0.6 * jaw_share(rest), flat=True)


def _hand(build: _Builder) -> None:
    """A right hand reaching in from the image's left: wrist far left, fingertips at the origin, before the camera."""

    def limb(points: list[tuple[float, float, float]], radii: list[float]) -> tuple[np.ndarray, np.ndarray]:
        angle = np.linspace(0, 2 * np.pi, 7)[:-1]
        rings = [np.array(p) + r * np.column_stack([0 * angle, np.cos(angle), np.sin(angle)]) for p, r in zip(points, radii, strict=True)]
        return np.concatenate(rings), grid_triangles(len(points), 6, closed=True)

    limbs = []
    for k, length in enumerate((0.85, 1.0, 0.95, 0.75)):
        y = 0.27 - 0.18 * k
        tip = -0.02 - (1 - length) * 0.7
        knuckle = -0.85
        limbs.append(
            limb(
                [(knuckle, 0.9 * y, 0.05), (knuckle / 2 + tip / 2, y, 0.06), (tip - 0.08, 1.05 * y, 0.02), (tip, 1.05 * y, 0.0)],
                [0.105, 0.1, 0.085, 0.03],
            )
        )
    palm = [(-0.75, 0, 0.0), (-1.0, 0.0, 0.02), (-1.45, -0.02, 0.0), (-1.7, 0.0, 0.0), (-2.6, -0.1, 0)]
    p, t = limb(palm, [0.1, 0.37, 0.34, 0.24, 0.3])
    p[:, 2] *= 0.45
    limbs.append((p, t))
    limbs.append(limb([(-1.35, 0.25, 0.0), (-1.05, 0.52, 0.05), (-0.78, 0.62, 0.03), (-0.72, 0.63, 0.02)], [0.14, 0.12, 0.1, 0.04]))
    for p, t in limbs:
        build.add("hand", "hand", "occluder", p, t, head=-1.0)


def build_world() -> World:
    """All meshes; occluders come last."""
    build = _Builder()
    for part in (_skin, _eyes, _mouth, _ears, _body, _hair, _glasses, _mask, _hand):
        part(build)
    square = np.array([[-1, 1, 0], [1, 1, 0], [-1, -1, 0], [1, -1, 0]], dtype=float)
    build.add("patch", "patch", "occluder", square, np.array([[0, 2, 1], [1, 2, 3]]), head=-1.0, flat=True)
    return build.done()

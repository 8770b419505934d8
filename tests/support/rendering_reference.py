"""Rendered faces by plain numpy, slowly: tests hold the fast kernels of `facelab.worlds.faces` against it.

Independent of `rendering`: lids, pose, landmarks, crop, normals, the z-buffer (every triangle over every pixel of its box)
and the interpolation. Shared: the formulas of one pixel's colour (`shading`), the shadows' depth map, and the sensor.
"""

import numpy as np

from facelab.worlds.faces import geometry
from facelab.worlds.faces.anatomy import OBJECTS
from facelab.worlds.faces.looks import looks, sensor_settings
from facelab.worlds.faces.rendering import EYE_LIFTS, FIRST_OCCLUDER, LID_WEIGHTS, LIGHT_SIDE, cast_shadows
from facelab.worlds.faces.sensor import expose
from facelab.worlds.faces.shading import BOXES, background, clutter, shade_pixel
from facelab.worlds.faces.template import EYE_RADIUS
from facelab.worlds.faces.world import in_crop_box, pose_of, shown_objects, static_arrays


def _sphere(points: np.ndarray, centre: np.ndarray) -> np.ndarray:
    squared = ((points[..., :2] - centre[:2]) ** 2).sum(-1)
    return centre[2] + np.sqrt(np.maximum(EYE_RADIUS**2 - squared, (0.45 * EYE_RADIUS) ** 2))


def _close_lids(points: np.ndarray, rings: np.ndarray, centre: np.ndarray, upper: float, lower: float) -> None:
    lower = min(lower, 1 - upper)
    across = (16 - np.arange(16)) % 16
    gap = (points[rings[0][across]] - points[rings[0]])[:, :2]
    move = np.where(np.arange(16) < 8, upper, lower)
    move[[0, 8]] = 0
    for k in (3, 2, 1, 0):
        v = rings[k]
        before = _sphere(points[v], centre)
        points[v, :2] += (move * LID_WEIGHTS[k])[:, None] * gap if k else move[:, None] * gap
        now = _sphere(points[v], centre)
        if k == 0:
            points[v, 2] = now + EYE_LIFTS[0]
        else:
            points[v, 2] += (now - before) * LID_WEIGHTS[k]
            points[v, 2] = np.maximum(points[v, 2], now + EYE_LIFTS[k])


def _turn(matrix: np.ndarray, points: np.ndarray) -> np.ndarray:
    return (points - geometry.PIVOT) @ matrix.T


def render_reference(values: dict[str, np.ndarray], size: int = 64) -> dict[str, np.ndarray]:
    """Image and truth of a single face.

    Args:
        values: complete factors of one face (arrays of length one), as `sample` gives them.

    Returns:
        images, landmarks (98), landmarks_3d, parts, occluder, depth, normals, as in `FaceBatch` but without a first axis.
    """
    static, rig = static_arrays(), geometry.rig()
    points = (rig.mean + geometry.coefficients(values)[0] @ rig.basis).reshape(-1, 3).astype(np.float64)
    gy, gp = np.radians(values["gaze_yaw"][0]), np.radians(values["gaze_pitch"][0])
    gaze = np.array([np.sin(gy) * np.cos(gp), np.sin(gp)])
    pose = pose_of(values, np.array([[*gaze, 0.0]]))
    distance = float(values["camera_distance"][0])
    attributes = np.column_stack([static.rest, static.lip, static.shade, np.ones(len(points)), static.place]).astype(np.float32)

    pupils = []
    for side in range(2):
        centre = points[static.eye_centres[side]].copy()
        _close_lids(points, static.rings[side], centre, *pose.lids[0, 2 * side : 2 * side + 2].astype(float))
        ball = static.eyeballs[side]
        points[ball, 2] = _sphere(points[ball], centre)
        attributes[ball, :2] = points[ball, :2] - centre[:2] - 0.16 * gaze
        attributes[ball, 2] = points[ball, 1] - centre[1]
        pupil = centre[:2] + 0.16 * gaze
        pupils.append([*pupil, *_sphere(pupil[None], centre)])

    landmarks_3d = np.einsum("kj,kjc->kc", static.landmark_weight, points[static.landmark_vertex])
    path = np.einsum("ksj,ksjc->ksc", static.path_weight, points[static.path_vertex])
    unrolled = _turn(pose.unrolled[0], path)
    score = np.einsum("kc,ksc->ks", static.path_outward, unrolled[..., :2]) / (distance - unrolled[..., 2])
    for k in range(33):
        best = 0
        for step in range(1, score.shape[1]):
            if score[k, step] > score[k, best] + 1e-5:
                best = step
        landmarks_3d[k] = path[k, best]
    landmarks_3d[96:] = pupils

    posed = _turn(pose.rotation[0], landmarks_3d)
    flat = posed[:, :2] * [1, -1] / (distance - posed[:, 2:])
    low, high = flat[in_crop_box()].min(0), flat[in_crop_box()].max(0)
    scale = values["framing_scale"][0] / (1.3 * (high - low).max())
    place = 0.5 + np.array([values["framing_x"][0], values["framing_y"][0]]) - scale * (low + high) / 2

    middle = _turn(pose.rotation[0], np.array([0.0, -0.6, 0.3]))
    share = np.clip(static.head, 0, 1)[:, None]
    camera = share * _turn(pose.rotation[0], points) + (1 - share) * _turn(pose.body[0], points)
    for name in ("hand", "patch"):
        own = static.kind == OBJECTS.index(name)
        p = points[own]
        sign, x, y = (pose.hand if name == "hand" else pose.patch)[0]
        if name == "hand":
            camera[own] = np.column_stack([sign * (p[:, 0] - x) + middle[0], p[:, 1] + y + middle[1] + 0.6, p[:, 2] + 1.75])
        else:
            camera[own] = np.column_stack([middle[0] + x + sign * p[:, 0], middle[1] + y + sign * p[:, 1], np.full(own.sum(), 1.9)])

    shown = shown_objects(values)[0]
    used = shown[static.object]
    triangles, objects = static.triangles[used], static.object[used]
    corner = camera[triangles]
    cross = np.cross(corner[:, 1] - corner[:, 0], corner[:, 2] - corner[:, 0])
    normals = np.zeros_like(camera)
    for k in range(3):
        np.add.at(normals, triangles[:, k], cross)
    normals /= np.linalg.norm(normals, axis=1, keepdims=True) + 1e-12
    look = looks(values)[0]
    sun = np.ones(len(camera), np.float32)
    seen_by_light, light_map = np.empty((len(camera), 3), np.float32), np.empty((LIGHT_SIDE, LIGHT_SIDE), np.float32)
    cast_shadows(camera.astype(np.float32), static, shown, look, seen_by_light, light_map, sun)
    attributes[:, 5] = sun

    depth = distance - camera[:, 2]
    screen = np.column_stack([size * (place + scale * camera[:, :2] * [1, -1] / depth[:, None]) - 0.5, 1 / depth])
    nearest = np.zeros((size, size))
    number = np.full((size, size), -1)
    weights = np.zeros((size, size, 3))
    occluder = np.zeros((size, size), bool)
    for t, (triangle, kind) in enumerate(zip(triangles, objects, strict=True)):
        a, b, c = screen[triangle]
        area = (b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0])
        if area == 0 or (area > 0 and not static.flat[used][t]):
            continue
        x0, y0 = np.maximum(np.ceil(np.minimum(np.minimum(a, b), c)[:2]), 0).astype(int)
        x1, y1 = np.minimum(np.floor(np.maximum(np.maximum(a, b), c)[:2]), size - 1).astype(int)
        if x0 > x1 or y0 > y1:
            continue
        x, y = np.meshgrid(np.arange(x0, x1 + 1), np.arange(y0, y1 + 1))
        wa = ((b[0] - x) * (c[1] - y) - (b[1] - y) * (c[0] - x)) / area
        wb = ((c[0] - x) * (a[1] - y) - (c[1] - y) * (a[0] - x)) / area
        w = np.stack([wa, wb, 1 - wa - wb], -1)
        inverse = w @ screen[triangle, 2]
        box = slice(y0, y1 + 1), slice(x0, x1 + 1)
        wins = (w >= 0).all(-1) & (inverse > nearest[box])
        if kind >= FIRST_OCCLUDER:
            occluder[box] |= wins & (number[box] >= 0) & (objects[number[box]] < FIRST_OCCLUDER)
        nearest[box][wins], number[box][wins], weights[box][wins] = inverse[wins], t, w[wins]

    out = {"landmarks_3d": landmarks_3d, "landmarks": size * (place + scale * flat) - 0.5, "occluder": occluder}
    out["parts"] = np.zeros((size, size), np.uint8)
    out["depth"] = np.where(number >= 0, 1 / np.maximum(nearest, 1e-12), np.inf)
    out["normals"] = np.zeros((size, size, 3))
    planes, boxes = np.zeros((3, size, size), np.float32), np.empty((BOXES, 5), np.float32)
    clutter(look, boxes)
    for y in range(size):
        for x in range(size):
            t = number[y, x]
            if t < 0:
                planes[:, y, x] = background(np.float32((x + 0.5) / size), np.float32((y + 0.5) / size), look, boxes)
                continue
            w = weights[y, x] * screen[triangles[t], 2]
            w /= w.sum()
            point, normal, attribute = w @ camera[triangles[t]], w @ normals[triangles[t]], w @ attributes[triangles[t]]
            normal /= np.linalg.norm(normal) + 1e-9
            if static.flat[used][t] and normal @ (point - [0, 0, distance]) > 0:
                normal = -normal
            out["normals"][y, x] = normal
            value = np.concatenate([point, normal, attribute]).astype(np.float32)
            out["parts"][y, x], *planes[:, y, x] = shade_pixel(
                *(int(objects[t]), int(static.part[used][t]), value, *value[3:6], look, static.atlas)
            )
    out["images"] = np.empty((size, size, 3), np.uint8)
    expose(planes, np.empty((size, size), np.float32), sensor_settings(values)[0], out["images"])
    return out

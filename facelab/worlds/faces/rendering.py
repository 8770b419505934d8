"""Numba kernels: pose the vertices, z-buffer of triangle numbers and barycentrics, then one pass of gathers and shading.

All kernels work on one face at a time; `render_faces` loops over a batch. The z-buffer keeps, per pixel, the triangle and
two barycentric coordinates; every other channel is gathered from them.
"""

from typing import NamedTuple

import numpy as np
from numba import njit

from facelab.worlds.faces.anatomy import OBJECTS
from facelab.worlds.faces.shading import LIGHT_X, LIGHT_Y, LIGHT_Z, SHADOW, background, shade_pixel

EYE_LIFTS = np.array([0.006, 0.022, 0.022, 0.014], dtype=np.float32)
LID_WEIGHTS = np.array([1.0, 0.92, 0.62, 0.22], dtype=np.float32)
RADIUS = np.float32(0.26)
FIRST_OCCLUDER = OBJECTS.index("lenses")
_SKIN, HAIR, HAND, PATCH = (OBJECTS.index(name) for name in ("skin", "hair", "hand", "patch"))
LIGHT_SIDE = 44
"""Cells a side of the depth map seen from the light."""


class Static(NamedTuple):
    """Arrays of the rig as the kernels want them (float32, int32)."""

    rest: np.ndarray
    head: np.ndarray
    lip: np.ndarray
    shade: np.ndarray
    kind: np.ndarray
    triangles: np.ndarray
    part: np.ndarray
    object: np.ndarray
    flat: np.ndarray
    rings: np.ndarray
    eyeballs: np.ndarray
    eye_centres: np.ndarray
    landmark_vertex: np.ndarray
    landmark_weight: np.ndarray
    path_vertex: np.ndarray
    path_weight: np.ndarray
    path_outward: np.ndarray
    pivot: np.ndarray
    place: np.ndarray
    atlas: np.ndarray


class Pose(NamedTuple):
    """Per-face numbers of the placement, arrays over the batch."""

    rotation: np.ndarray
    unrolled: np.ndarray
    body: np.ndarray
    lids: np.ndarray
    gaze: np.ndarray
    hand: np.ndarray
    patch: np.ndarray
    distance: np.ndarray


@njit(cache=True, nogil=True, fastmath=True, error_model="numpy")
def _sphere(x, y, centre, radius):
    squared = (x - centre[0]) ** 2 + (y - centre[1]) ** 2
    least = 0.45 * radius
    return centre[2] + np.sqrt(max(radius * radius - squared, least * least))


@njit(cache=True, nogil=True, fastmath=True, error_model="numpy")
def close_lids(points, local, static, lids, gaze):
    """Moves the lids over the eyeballs and puts every eye vertex on its sphere, in head space.

    `local` receives, for eyeball vertices, their place relative to the iris centre (x, y) and to the eye (z: y).
    """
    for side in range(2):
        centre = points[static.eye_centres[side]]
        rings = static.rings[side]
        upper, lower = lids[2 * side], lids[2 * side + 1]
        if upper + lower > 1.0:
            lower = 1.0 - upper
        for k in range(3, -1, -1):
            weight = LID_WEIGHTS[k]
            for i in range(16):
                v = rings[k, i]
                old_z = _sphere(points[v, 0], points[v, 1], centre, RADIUS)
                if i != 0 and i != 8:
                    a, b = points[rings[0, i]], points[rings[0, 16 - i]]
                    move = upper if i < 8 else lower
                    if k > 0:
                        for c in range(2):
                            points[v, c] += move * weight * (b[c] - a[c])
                if k > 0:
                    points[v, 2] += (_sphere(points[v, 0], points[v, 1], centre, RADIUS) - old_z) * weight
                    points[v, 2] = max(points[v, 2], _sphere(points[v, 0], points[v, 1], centre, RADIUS) + EYE_LIFTS[k])
        for i in range(1, 8):  # the rims last, both at once
            u, w = rings[0, i], rings[0, 16 - i]
            for c in range(2):
                gap = points[w, c] - points[u, c]
                points[u, c] += upper * gap
                points[w, c] -= lower * gap
        for i in range(16):
            v = rings[0, i]
            points[v, 2] = _sphere(points[v, 0], points[v, 1], centre, RADIUS) + EYE_LIFTS[0]
        iris_x, iris_y = 0.16 * gaze[0], 0.16 * gaze[1]
        for v in static.eyeballs[side]:
            points[v, 2] = _sphere(points[v, 0], points[v, 1], centre, RADIUS)
            local[v, 0] = points[v, 0] - centre[0] - iris_x
            local[v, 1] = points[v, 1] - centre[1] - iris_y
            local[v, 2] = points[v, 1] - centre[1]


@njit(cache=True, nogil=True, fastmath=True, error_model="numpy")
def _turned(matrix, p, pivot):
    x, y, z = p[0] - pivot[0], p[1] - pivot[1], p[2] - pivot[2]
    return (
        matrix[0, 0] * x + matrix[0, 1] * y + matrix[0, 2] * z,
        matrix[1, 0] * x + matrix[1, 1] * y + matrix[1, 2] * z,
        matrix[2, 0] * x + matrix[2, 1] * y + matrix[2, 2] * z,
    )


@njit(cache=True, nogil=True, fastmath=True, error_model="numpy")
def find_landmarks(points, static, unrolled, gaze, distance, landmarks):
    """The 98 landmarks in head space; the jaw slides to the outline of the face (see `facelab.worlds.faces`)."""
    for k in range(98):
        for c in range(3):
            value = np.float32(0.0)
            for j in range(3):
                value += static.landmark_weight[k, j] * points[static.landmark_vertex[k, j], c]
            landmarks[k, c] = value
    point = np.empty(3, np.float32)
    for k in range(33):
        best = np.float32(-1e9)
        for step in range(static.path_vertex.shape[1]):
            for c in range(3):
                value = np.float32(0.0)
                for j in range(3):
                    value += static.path_weight[k, step, j] * points[static.path_vertex[k, step, j], c]
                point[c] = value
            x, y, z = _turned(unrolled, point, static.pivot)
            score = (static.path_outward[k, 0] * x + static.path_outward[k, 1] * y) / (distance - z)
            if score > best + 1e-5:
                best = score
                landmarks[k] = point
    for side in range(2):
        centre = points[static.eye_centres[side]]
        x, y = centre[0] + 0.16 * gaze[0], centre[1] + 0.16 * gaze[1]
        landmarks[96 + side, 0], landmarks[96 + side, 1] = x, y
        landmarks[96 + side, 2] = _sphere(x, y, centre, RADIUS)


@njit(cache=True, nogil=True, fastmath=True, error_model="numpy")
def to_camera(points, static, rotation, body, hand, patch):
    """Head space -> camera space (x right, y up, z towards the camera), in place."""
    middle = np.array([0.0, -0.6, 0.3], np.float32)
    cx, cy, _ = _turned(rotation, middle, static.pivot)
    for v in range(len(points)):
        w = static.head[v]
        if w >= 0:
            x, y, z = _turned(rotation, points[v], static.pivot)
            if w < 1:
                bx, by, bz = _turned(body, points[v], static.pivot)
                x, y, z = w * x + (1 - w) * bx, w * y + (1 - w) * by, w * z + (1 - w) * bz
            points[v, 0], points[v, 1], points[v, 2] = x, y, z
        elif static.kind[v] == HAND:
            points[v, 0] = hand[0] * (points[v, 0] - hand[1]) + cx
            points[v, 1] = points[v, 1] + hand[2] + cy + 0.6
            points[v, 2] += 1.75
        else:
            points[v, 0] = cx + patch[1] + patch[0] * points[v, 0]
            points[v, 1] = cy + patch[2] + patch[0] * points[v, 1]
            points[v, 2] = 1.9


@njit(cache=True, nogil=True, fastmath=True, error_model="numpy")
def vertex_normals(points, triangles, object_of, shown, normals):
    """Area-weighted unit normals of the shown objects' vertices."""
    normals[:] = 0
    for t in range(len(triangles)):
        if not shown[object_of[t]]:
            continue
        a, b, c = triangles[t, 0], triangles[t, 1], triangles[t, 2]
        ux, uy, uz = points[b, 0] - points[a, 0], points[b, 1] - points[a, 1], points[b, 2] - points[a, 2]
        vx, vy, vz = points[c, 0] - points[a, 0], points[c, 1] - points[a, 1], points[c, 2] - points[a, 2]
        nx, ny, nz = uy * vz - uz * vy, uz * vx - ux * vz, ux * vy - uy * vx
        for v in (a, b, c):
            normals[v, 0] += nx
            normals[v, 1] += ny
            normals[v, 2] += nz
    for v in range(len(normals)):
        length = np.sqrt(normals[v, 0] ** 2 + normals[v, 1] ** 2 + normals[v, 2] ** 2) + np.float32(1e-12)
        for c in range(3):
            normals[v, c] /= length


@njit(cache=True, nogil=True, fastmath=True, error_model="numpy")
def cast_shadows(points, static, shown, look, seen, light_map, sun):
    """Share of the main light that reaches each vertex, from a coarse depth map seen from the light."""
    sun[:] = 1
    if look[SHADOW] < 0.03:
        return
    lx, ly, lz = look[LIGHT_X], look[LIGHT_Y], look[LIGHT_Z]
    # two axes across the light, the second upwards; the head's middle lies in the middle of the map
    across = np.sqrt(lx * lx + lz * lz) + np.float32(1e-6)
    ax, az = lz / across, -lx / across
    bx, by, bz = ly * az, lz * ax - lx * az, -ly * ax
    scale = np.float32(LIGHT_SIDE / 4.4)
    for v in range(len(points)):
        x, y, z = points[v, 0], points[v, 1], points[v, 2]
        seen[v, 0] = (x * ax + z * az) * scale + np.float32(LIGHT_SIDE / 2)
        seen[v, 1] = (x * bx + y * by + z * bz) * scale + np.float32(LIGHT_SIDE / 2)
        seen[v, 2] = x * lx + y * ly + z * lz
    light_map[:] = -9
    for t in range(len(static.triangles)):
        if not (static.object[t] == _SKIN or static.object[t] == HAIR) or not shown[static.object[t]]:
            continue
        a, b, c = static.triangles[t, 0], static.triangles[t, 1], static.triangles[t, 2]
        ax, ay, bx, by, cx, cy = seen[a, 0], seen[a, 1], seen[b, 0], seen[b, 1], seen[c, 0], seen[c, 1]
        area = (bx - ax) * (cy - ay) - (by - ay) * (cx - ax)
        if area < np.float32(1e-6):  # faces away from the light
            continue
        scale = np.float32(1.0) / area
        x0, x1 = max(0, int(min(ax, bx, cx) + 1)), min(LIGHT_SIDE - 1, int(max(ax, bx, cx)))
        y0, y1 = max(0, int(min(ay, by, cy) + 1)), min(LIGHT_SIDE - 1, int(max(ay, by, cy)))
        for y in range(y0, y1 + 1):
            for x in range(x0, x1 + 1):
                wa = ((bx - x) * (cy - y) - (by - y) * (cx - x)) * scale
                wb = ((cx - x) * (ay - y) - (cy - y) * (ax - x)) * scale
                wc = np.float32(1.0) - wa - wb
                if wa >= 0 and wb >= 0 and wc >= 0:
                    light_map[y, x] = max(light_map[y, x], wa * seen[a, 2] + wb * seen[b, 2] + wc * seen[c, 2])
    for v in range(len(points)):
        x, y = int(seen[v, 0]), int(seen[v, 1])
        if 0 <= x < LIGHT_SIDE - 1 and 0 <= y < LIGHT_SIDE - 1:
            hidden = np.float32(0.0)
            for j in range(2):
                for i in range(2):
                    above = light_map[y + j, x + i] - seen[v, 2] - np.float32(0.09)
                    hidden += min(max(above * np.float32(12.0), np.float32(0.0)), np.float32(0.25))
            sun[v] = 1 - look[SHADOW] * hidden


@njit(cache=True, nogil=True, error_model="numpy")
def rasterise(screen, static, shown, inverse_depth, number, barycentric, occluder):
    """Z-buffer: nearest triangle and screen barycentrics of each pixel; `screen` is (V, 3): x, y, 1 / depth.

    `occluder` marks pixels where an occluding object covers something of the head or body.
    """
    size = number.shape[0]
    inverse_depth[:] = 0
    number[:] = -1
    occluder[:] = False
    for t in range(len(static.triangles)):
        kind = static.object[t]
        if not shown[kind]:
            continue
        a, b, c = static.triangles[t, 0], static.triangles[t, 1], static.triangles[t, 2]
        ax, ay, bx, by, cx, cy = screen[a, 0], screen[a, 1], screen[b, 0], screen[b, 1], screen[c, 0], screen[c, 1]
        area = (bx - ax) * (cy - ay) - (by - ay) * (cx - ax)
        # counter-clockwise from outside is clockwise on the screen, whose y runs down: negative area faces us
        if area == 0 or (area > 0 and not static.flat[t]):
            continue
        x0 = max(0, int(np.ceil(min(ax, bx, cx))))
        x1 = min(size - 1, int(np.floor(max(ax, bx, cx))))
        y0 = max(0, int(np.ceil(min(ay, by, cy))))
        y1 = min(size - 1, int(np.floor(max(ay, by, cy))))
        if x0 > x1 or y0 > y1:
            continue
        scale = np.float32(1.0) / area
        ua = ((cy - by) * -1) * scale, (cx - bx) * scale
        ub = ((ay - cy) * -1) * scale, (ax - cx) * scale
        za, zb, zc = screen[a, 2], screen[b, 2], screen[c, 2]
        for y in range(y0, y1 + 1):
            wa = (x0 - bx) * ua[0] + (y - by) * ua[1]
            wb = (x0 - cx) * ub[0] + (y - cy) * ub[1]
            for x in range(x0, x1 + 1):
                wc = np.float32(1.0) - wa - wb
                if wa >= 0 and wb >= 0 and wc >= 0:
                    w = wa * za + wb * zb + wc * zc
                    if w > inverse_depth[y, x]:
                        if kind >= FIRST_OCCLUDER and number[y, x] >= 0 and static.object[number[y, x]] < FIRST_OCCLUDER:
                            occluder[y, x] = True
                        inverse_depth[y, x] = w
                        number[y, x] = t
                        barycentric[y, x, 0] = wa
                        barycentric[y, x, 1] = wb
                wa += ua[0]
                wb += ub[0]


class Channels(NamedTuple):
    """Output arrays, (B, H, W, ...); a channel that is not wanted has B = 0."""

    color: np.ndarray
    number: np.ndarray
    barycentric: np.ndarray
    parts: np.ndarray
    occluder: np.ndarray
    depth: np.ndarray
    normals: np.ndarray
    uv: np.ndarray


@njit(cache=True, nogil=True, fastmath=True, error_model="numpy")
def shade_face(i, static, screen, packed, look, inverse_depth, number, barycentric, occluder, channels):
    """Fills all channels of face `i` from its z-buffer; `packed` holds all that is interpolated, see `shade_pixel`."""
    size = number.shape[0]
    value, color = np.empty(14, np.float32), np.empty(3, np.float32)
    paint = np.empty(static.atlas.shape[2], np.float32)
    truth = len(channels.parts) > 0
    for y in range(size):
        for x in range(size):
            t = number[y, x]
            if t < 0:
                background(np.float32((x + 0.5) / size), np.float32((y + 0.5) / size), look, color)
            else:
                a, b, c = static.triangles[t, 0], static.triangles[t, 1], static.triangles[t, 2]
                wa, wb = barycentric[y, x, 0], barycentric[y, x, 1]
                wc = np.float32(1.0) - wa - wb
                wa, wb, wc = wa * screen[a, 2], wb * screen[b, 2], wc * screen[c, 2]  # perspective
                total = np.float32(1.0) / (wa + wb + wc)
                wa, wb, wc = wa * total, wb * total, wc * total
                for k in range(14):
                    value[k] = wa * packed[a, k] + wb * packed[b, k] + wc * packed[c, k]
                length = np.float32(1.0) / np.sqrt(value[3] ** 2 + value[4] ** 2 + value[5] ** 2 + np.float32(1e-18))
                if static.flat[t] and value[3] * value[0] + value[4] * value[1] + value[5] * (value[2] - look[0]) > 0:
                    length = -length
                value[3] *= length
                value[4] *= length
                value[5] *= length
                part = shade_pixel(static.object[t], static.part[t], value, look, static.atlas, paint, color)
                if truth:
                    channels.parts[i, y, x] = part
                    channels.occluder[i, y, x] = occluder[y, x]
                    channels.depth[i, y, x] = np.float32(1.0) / inverse_depth[y, x]
                    channels.normals[i, y, x, 0] = value[3]
                    channels.normals[i, y, x, 1] = value[4]
                    channels.normals[i, y, x, 2] = value[5]
                    if static.object[t] < FIRST_OCCLUDER:
                        channels.uv[i, y, x, 0] = min(max(np.float32(0.5) + np.float32(0.5) * value[12], np.float32(0.0)), np.float32(1.0))
                        channels.uv[i, y, x, 1] = min(max(np.float32(0.5) + np.float32(0.5) * value[13], np.float32(0.0)), np.float32(1.0))
            channels.color[i, y, x, 0] = color[0]
            channels.color[i, y, x, 1] = color[1]
            channels.color[i, y, x, 2] = color[2]


@njit(cache=True, nogil=True, error_model="numpy")
def render_faces(vertices, static, pose, looks, shown, crop, framing, fixed_crop, channels, landmarks_3d, landmarks, visible, in_box):
    """Renders a batch: `vertices` (B, V, 3) in head space are overwritten by camera space."""
    size = channels.color.shape[1]
    number = np.empty((size, size), np.int32)
    inverse_depth = np.empty((size, size), np.float32)
    barycentric = np.empty((size, size, 2), np.float32)
    occluder = np.empty((size, size), np.bool_)
    count = len(static.rest)
    screen, normals = np.empty((count, 3), np.float32), np.empty((count, 3), np.float32)
    packed = np.empty((count, 14), np.float32)
    attributes = packed[:, 6:]
    landmark_depth = np.empty(98, np.float32)
    light_map = np.empty((LIGHT_SIDE, LIGHT_SIDE), np.float32)
    seen_by_light = np.empty((count, 3), np.float32)
    attributes[:, :3] = static.rest
    attributes[:, 3] = static.lip
    attributes[:, 4] = static.shade
    attributes[:, 5] = 1.0
    attributes[:, 6:] = static.place
    posed = np.empty((98, 3), np.float32)
    for i in range(len(vertices)):
        points, distance = vertices[i], pose.distance[i]
        close_lids(points, attributes[:, :3], static, pose.lids[i], pose.gaze[i])
        find_landmarks(points, static, pose.unrolled[i], pose.gaze[i], distance, landmarks_3d[i])
        to_camera(points, static, pose.rotation[i], pose.body[i], pose.hand[i], pose.patch[i])
        for k in range(98):
            x, y, z = _turned(pose.rotation[i], landmarks_3d[i, k], static.pivot)
            posed[k, 0], posed[k, 1], posed[k, 2] = x / (distance - z), -y / (distance - z), distance - z
        if not fixed_crop[i]:
            low_x = low_y = np.float32(1e9)
            high_x = high_y = np.float32(-1e9)
            for k in range(98):
                if in_box[k]:
                    low_x, high_x = min(low_x, posed[k, 0]), max(high_x, posed[k, 0])
                    low_y, high_y = min(low_y, posed[k, 1]), max(high_y, posed[k, 1])
            side = np.float32(1.3) * max(high_x - low_x, high_y - low_y)
            crop[i, 0] = framing[i, 0] / side
            crop[i, 1] = 0.5 + framing[i, 1] - crop[i, 0] * (low_x + high_x) / 2
            crop[i, 2] = 0.5 + framing[i, 2] - crop[i, 0] * (low_y + high_y) / 2
        for k in range(98):
            landmarks[i, k, 0] = size * (crop[i, 1] + crop[i, 0] * posed[k, 0]) - 0.5
            landmarks[i, k, 1] = size * (crop[i, 2] + crop[i, 0] * posed[k, 1]) - 0.5
            landmark_depth[k] = posed[k, 2]
        for v in range(count):
            depth = distance - points[v, 2]
            screen[v, 0] = size * (crop[i, 1] + crop[i, 0] * points[v, 0] / depth) - 0.5
            screen[v, 1] = size * (crop[i, 2] - crop[i, 0] * points[v, 1] / depth) - 0.5
            screen[v, 2] = 1 / depth
        vertex_normals(points, static.triangles, static.object, shown[i], normals)
        cast_shadows(points, static, shown[i], looks[i], seen_by_light, light_map, attributes[:, 5])
        rasterise(screen, static, shown[i], inverse_depth, number, barycentric, occluder)
        packed[:, :3] = points
        packed[:, 3:6] = normals
        shade_face(i, static, screen, packed, looks[i], inverse_depth, number, barycentric, occluder, channels)
        for k in range(98):
            x, y = int(np.floor(landmarks[i, k, 0] + 0.5)), int(np.floor(landmarks[i, k, 1] + 0.5))
            visible[i, k] = False
            if 0 <= x < size and 0 <= y < size and not occluder[y, x]:
                deepest = np.float32(0.0)  # of what is seen at the pixel and beside it: a slope is no obstacle
                for row in range(max(y - 1, 0), min(y + 2, size)):
                    for column in range(max(x - 1, 0), min(x + 2, size)):
                        if inverse_depth[row, column] > 0:
                            deepest = max(deepest, 1 / inverse_depth[row, column])
                visible[i, k] = inverse_depth[y, x] == 0 or landmark_depth[k] <= deepest + np.float32(0.04)
        if len(channels.number) > 0:
            channels.number[i] = number
            channels.barycentric[i] = barycentric

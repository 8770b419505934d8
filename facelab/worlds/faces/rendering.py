"""Numba kernels: pose the vertices, z-buffer of triangle numbers, one pass of gathers and shading, the sensor.

All kernels work on one face at a time, whose buffers stay in the cache; `render_faces` loops over a batch. The z-buffer
keeps the triangle of each pixel; every channel is gathered from it.
"""

from typing import NamedTuple

import numpy as np
from numba import njit

from facelab.worlds.faces.anatomy import OBJECTS
from facelab.worlds.faces.sensor import expose
from facelab.worlds.faces.shading import BOXES, LIGHT_X, LIGHT_Y, LIGHT_Z, SHADOW, background, clutter, shade_pixel

f32, f64 = np.float32, np.float64
EYE_LIFTS = np.array([0.006, 0.022, 0.022, 0.014], dtype=np.float32)
LID_WEIGHTS = np.array([1.0, 0.92, 0.62, 0.22], dtype=np.float32)
RADIUS = f32(0.26)
FIRST_OCCLUDER = OBJECTS.index("lenses")
_SKIN, HAIR, HAND, PATCH = (OBJECTS.index(name) for name in ("skin", "hair", "hand", "patch"))
PACKED = 16
"""Columns of what is interpolated, two of them unused: a vertex fills a cache line and a vector register."""
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
            value = f32(0)
            for j in range(3):
                value += static.landmark_weight[k, j] * points[static.landmark_vertex[k, j], c]
            landmarks[k, c] = value
    point = np.empty(3, np.float32)
    for k in range(33):
        best = f32(-1e9)
        for step in range(static.path_vertex.shape[1]):
            for c in range(3):
                value = f32(0)
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
        length = np.sqrt(normals[v, 0] ** 2 + normals[v, 1] ** 2 + normals[v, 2] ** 2) + f32(1e-12)
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
    across = np.sqrt(lx * lx + lz * lz) + f32(1e-6)
    ax, az = lz / across, -lx / across
    bx, by, bz = ly * az, lz * ax - lx * az, -ly * ax
    scale = f32(LIGHT_SIDE / 4.4)
    for v in range(len(points)):
        x, y, z = points[v, 0], points[v, 1], points[v, 2]
        seen[v, 0] = (x * ax + z * az) * scale + f32(LIGHT_SIDE / 2)
        seen[v, 1] = (x * bx + y * by + z * bz) * scale + f32(LIGHT_SIDE / 2)
        seen[v, 2] = x * lx + y * ly + z * lz
    light_map[:] = -9
    for t in range(len(static.triangles)):
        if not (static.object[t] == _SKIN or static.object[t] == HAIR) or not shown[static.object[t]]:
            continue
        a, b, c = static.triangles[t, 0], static.triangles[t, 1], static.triangles[t, 2]
        ax, ay, bx, by, cx, cy = seen[a, 0], seen[a, 1], seen[b, 0], seen[b, 1], seen[c, 0], seen[c, 1]
        area = (bx - ax) * (cy - ay) - (by - ay) * (cx - ax)
        if area < f32(1e-6):  # faces away from the light
            continue
        scale = f64(1) / area
        x0, x1 = max(0, int(min(ax, bx, cx) + 1)), min(LIGHT_SIDE - 1, int(max(ax, bx, cx)))
        y0, y1 = max(0, int(min(ay, by, cy) + 1)), min(LIGHT_SIDE - 1, int(max(ay, by, cy)))
        a_right, b_right = (by - cy) * scale, (cy - ay) * scale
        depth_a, depth_b, depth_c = seen[a, 2], seen[b, 2], seen[c, 2]
        for y in range(y0, y1 + 1):
            wa = (x0 - bx) * a_right + (y - by) * (cx - bx) * scale
            wb = (x0 - cx) * b_right + (y - cy) * (ax - cx) * scale
            for x in range(x0, x1 + 1):
                wc = 1 - wa - wb
                depth = f32(wa * depth_a + wb * depth_b + wc * depth_c)
                light_map[y, x] = max(light_map[y, x], depth if min(wa, wb, wc) >= 0 else f32(-9))  # no branch, as in `_draw`
                wa += a_right
                wb += b_right
    for v in range(len(points)):
        x, y = int(seen[v, 0]), int(seen[v, 1])
        if 0 <= x < LIGHT_SIDE - 1 and 0 <= y < LIGHT_SIDE - 1:
            hidden = f32(0)
            for j in range(2):
                for i in range(2):
                    above = light_map[y + j, x + i] - seen[v, 2] - f32(0.09)
                    hidden += min(max(above * f32(12.0), f32(0)), f32(0.25))
            sun[v] = f32(1) - look[SHADOW] * hidden


@njit(cache=True, nogil=True, error_model="numpy")
def _draw(screen, static, shown, triangles, keys, edges):
    """Enters the given triangles into the z-buffer `keys`, and how their barycentrics grow rightwards and downwards into `edges`.

    A key is a float64 whose upper half is 1 / depth as float32 and whose lower half tells the triangle: the maximum is the
    nearest, the first of equals. Of all pixels of a triangle's box those outside enter 0. So nothing is decided pixel by
    pixel, and no branch can be guessed wrongly by the processor, which would cost more than the rest.
    """
    size = len(keys)
    for t in triangles:
        if not shown[static.object[t]]:
            continue
        a, b, c = static.triangles[t, 0], static.triangles[t, 1], static.triangles[t, 2]
        ax, ay, bx, by, cx, cy = screen[a, 0], screen[a, 1], screen[b, 0], screen[b, 1], screen[c, 0], screen[c, 1]
        area = (bx - ax) * (cy - ay) - (by - ay) * (cx - ax)
        # counter-clockwise from outside is clockwise on the screen, whose y runs down: negative area faces us
        if area == 0 or (area > 0 and not static.flat[t]):
            continue
        x0, x1 = max(0, int(np.ceil(min(ax, bx, cx)))), min(size - 1, int(np.floor(max(ax, bx, cx))))
        y0, y1 = max(0, int(np.ceil(min(ay, by, cy)))), min(size - 1, int(np.floor(max(ay, by, cy))))
        if x0 > x1 or y0 > y1:
            continue
        scale = f64(1) / area
        a_right, a_down, b_right, b_down = (by - cy) * scale, (cx - bx) * scale, (cy - ay) * scale, (ax - cx) * scale
        edges[t, 0], edges[t, 1], edges[t, 2], edges[t, 3] = a_right, a_down, b_right, b_down
        nearness_c = f64(screen[c, 2])
        nearer_a, nearer_b = screen[a, 2] - nearness_c, screen[b, 2] - nearness_c
        nearer_right = a_right * nearer_a + b_right * nearer_b
        name = 0xFFFFFFFF - t
        for y in range(y0, y1 + 1):
            wa = (x0 - bx) * a_right + (y - by) * a_down
            wb = (x0 - cx) * b_right + (y - cy) * b_down
            nearness = nearness_c + wa * nearer_a + wb * nearer_b
            for x in range(x0, x1 + 1):
                key = np.int64(np.int64(f32(nearness).view(np.int32)) << 32 | name).view(np.float64)
                keys[y, x] = max(keys[y, x], key if min(wa, wb, 1 - wa - wb) >= 0 else 0.0)
                wa += a_right
                wb += b_right
                nearness += nearer_right


@njit(cache=True, nogil=True, error_model="numpy")
def rasterise(screen, static, shown, keys, edges, inverse_depth, number, occluder):
    """Nearest triangle of each pixel; `screen` is (V, 3): x, y, 1 / depth; for `keys` and `edges` see `_draw`.

    `occluder` marks pixels where an occluding object covers something of the head or body.
    """
    size = len(keys)
    last = len(static.triangles)
    first = np.searchsorted(static.object, FIRST_OCCLUDER)
    keys[:] = 0
    _draw(screen, static, shown, range(first), keys, edges)
    for y in range(size):
        for x in range(size):
            occluder[y, x] = keys[y, x] > 0
    _draw(screen, static, shown, range(first, last), keys, edges)
    for y in range(size):
        for x in range(size):
            key = f64(keys[y, x]).view(np.int64)
            inverse_depth[y, x] = np.int32(key >> 32).view(np.float32)
            number[y, x] = 0xFFFFFFFF - (key & 0xFFFFFFFF) if key > 0 else -1
            occluder[y, x] &= number[y, x] >= first


class Channels(NamedTuple):
    """Output arrays, (B, H, W, ...); a channel that is not wanted has B = 0."""

    images: np.ndarray
    number: np.ndarray
    barycentric: np.ndarray
    parts: np.ndarray
    occluder: np.ndarray
    depth: np.ndarray
    normals: np.ndarray
    uv: np.ndarray


@njit(cache=True, nogil=True, fastmath=True, error_model="numpy")
def _interpolate(i, y, static, screen, packed, edges, inverse_depth, number, values, channels):
    """`values` at each pixel of row y, see `shade_pixel`: `packed` holds them for the vertices, divided by their depth."""
    raw = len(channels.barycentric) > 0
    for x in range(number.shape[1]):
        if number[y, x] >= 0:
            t = np.uint32(number[y, x])
            a, b, c = static.triangles[t, 0], static.triangles[t, 1], static.triangles[t, 2]
            px, py, depth = f32(x), f32(y), f32(1) / inverse_depth[y, x]
            wa = (px - screen[b, 0]) * edges[t, 0] + (py - screen[b, 1]) * edges[t, 1]
            wb = (px - screen[c, 0]) * edges[t, 2] + (py - screen[c, 1]) * edges[t, 3]
            if raw:
                channels.barycentric[i, y, x, 0] = wa
                channels.barycentric[i, y, x, 1] = wb
            wa, wb, wc = wa * depth, wb * depth, (f32(1) - wa - wb) * depth
            for k in range(values.shape[1]):  # not PACKED: numba would unroll a constant number of steps and not vectorise them
                values[x, k] = wa * packed[a, k] + wb * packed[b, k] + wc * packed[c, k]


@njit(cache=True, nogil=True, fastmath=True, error_model="numpy")
def shade_face(i, static, screen, packed, look, boxes, edges, inverse_depth, number, occluder, planes, channels):
    """Colours and truth of face `i` from its z-buffer; for `packed` see `_interpolate`."""
    size = number.shape[0]
    values = np.zeros((size, packed.shape[1]), np.float32)
    truth = len(channels.parts) > 0
    for y in range(size):
        _interpolate(i, y, static, screen, packed, edges, inverse_depth, number, values, channels)
        for x in range(size):
            depth, s, u = f32(np.inf), f32(np.nan), f32(np.nan)
            nx, ny, nz = f32(0), f32(0), f32(0)
            if number[y, x] < 0:
                part = 0
                red, green, blue = background(f32((x + 0.5) / size), f32((y + 0.5) / size), look, boxes)
            else:
                t = np.uint32(number[y, x])
                value = values[x]
                nx, ny, nz = value[3], value[4], value[5]
                length = f32(1) / np.sqrt(nx * nx + ny * ny + nz * nz + f32(1e-18))
                if static.flat[t] and nx * value[0] + ny * value[1] + nz * (value[2] - look[0]) > 0:
                    length = -length
                nx, ny, nz = nx * length, ny * length, nz * length
                part, red, green, blue = shade_pixel(static.object[t], static.part[t], value, nx, ny, nz, look, static.atlas)
                depth = f32(1) / inverse_depth[y, x]
                if static.object[t] < FIRST_OCCLUDER:
                    s = min(max(f32(0.5) + f32(0.5) * value[12], f32(0)), f32(1))
                    u = min(max(f32(0.5) + f32(0.5) * value[13], f32(0)), f32(1))
            planes[0, y, x], planes[1, y, x], planes[2, y, x] = red, green, blue
            if truth:
                channels.parts[i, y, x] = part
                channels.occluder[i, y, x] = occluder[y, x]
                channels.depth[i, y, x] = depth
                channels.normals[i, y, x, 0] = nx
                channels.normals[i, y, x, 1] = ny
                channels.normals[i, y, x, 2] = nz
                channels.uv[i, y, x, 0] = s
                channels.uv[i, y, x, 1] = u


@njit(cache=True, nogil=True, error_model="numpy")
def render_faces(
    vertices, static, pose, looks, settings, shown, crop, framing, fixed_crop, channels, landmarks_3d, landmarks, visible, in_box
):
    """Renders a batch: `vertices` (B, V, 3) in head space are overwritten by camera space."""
    size = channels.images.shape[1]
    number = np.empty((size, size), np.int32)
    inverse_depth = np.empty((size, size), np.float32)
    keys, edges = np.empty((size, size), np.float64), np.empty((len(static.triangles), 4), np.float32)
    occluder = np.empty((size, size), np.bool_)
    planes, scratch = np.empty((3, size, size), np.float32), np.empty((size, size), np.float32)
    boxes = np.empty((BOXES, 5), np.float32)
    count = len(static.rest)
    screen, normals = np.empty((count, 3), np.float32), np.empty((count, 3), np.float32)
    attributes, packed = np.zeros((count, PACKED), np.float32), np.empty((count, PACKED), np.float32)
    landmark_depth = np.empty(98, np.float32)
    light_map = np.empty((LIGHT_SIDE, LIGHT_SIDE), np.float32)
    seen_by_light = np.empty((count, 3), np.float32)
    attributes[:, 6:9], attributes[:, 9], attributes[:, 10], attributes[:, 12:14] = static.rest, static.lip, static.shade, static.place
    posed = np.empty((98, 3), np.float32)
    for i in range(len(vertices)):
        points, distance = vertices[i], pose.distance[i]
        close_lids(points, attributes[:, 6:9], static, pose.lids[i], pose.gaze[i])
        find_landmarks(points, static, pose.unrolled[i], pose.gaze[i], distance, landmarks_3d[i])
        to_camera(points, static, pose.rotation[i], pose.body[i], pose.hand[i], pose.patch[i])
        for k in range(98):
            x, y, z = _turned(pose.rotation[i], landmarks_3d[i, k], static.pivot)
            posed[k, 0], posed[k, 1], posed[k, 2] = x / (distance - z), -y / (distance - z), distance - z
        if not fixed_crop[i]:
            low_x = low_y = f32(1e9)
            high_x = high_y = f32(-1e9)
            for k in range(98):
                if in_box[k]:
                    low_x, high_x = min(low_x, posed[k, 0]), max(high_x, posed[k, 0])
                    low_y, high_y = min(low_y, posed[k, 1]), max(high_y, posed[k, 1])
            side = f32(1.3) * max(high_x - low_x, high_y - low_y)
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
        cast_shadows(points, static, shown[i], looks[i], seen_by_light, light_map, attributes[:, 11])
        rasterise(screen, static, shown[i], keys, edges, inverse_depth, number, occluder)
        for v in range(count):
            for k in range(3):
                attributes[v, k] = points[v, k]
                attributes[v, 3 + k] = normals[v, k]
            for k in range(PACKED):
                packed[v, k] = attributes[v, k] * screen[v, 2]
        clutter(looks[i], boxes)
        shade_face(i, static, screen, packed, looks[i], boxes, edges, inverse_depth, number, occluder, planes, channels)
        expose(planes, scratch, settings[i], channels.images[i])
        for k in range(98):
            x, y = int(np.floor(landmarks[i, k, 0] + 0.5)), int(np.floor(landmarks[i, k, 1] + 0.5))
            visible[i, k] = False
            if 0 <= x < size and 0 <= y < size and not occluder[y, x]:
                deepest = f32(0)  # of what is seen at the pixel and beside it: a slope is no obstacle
                for row in range(max(y - 1, 0), min(y + 2, size)):
                    for column in range(max(x - 1, 0), min(x + 2, size)):
                        if inverse_depth[row, column] > 0:
                            deepest = max(deepest, 1 / inverse_depth[row, column])
                visible[i, k] = inverse_depth[y, x] == 0 or landmark_depth[k] <= deepest + f32(0.04)
        if len(channels.number) > 0:
            channels.number[i] = number

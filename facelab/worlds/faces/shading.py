"""Colours: what each pixel of each material looks like, and the background. Numba functions of one pixel, linear RGB."""

from pathlib import Path

import numpy as np
from numba import njit

from facelab.worlds.faces.anatomy import OBJECTS, PARTS
from facelab.worlds.faces.textures import CHANNELS as ATLAS_CHANNELS

LOOK = (
    *("distance", "key", "mirror", "light_x", "light_y", "light_z", "light_r", "light_g", "light_b", "ambient", "shine"),
    *("skin_r", "skin_g", "skin_b", "lip_r", "lip_g", "lip_b", "hair_r", "hair_g", "hair_b", "brow", "brow_thickness", "beard"),
    *("moustache", "freckles", "age", "makeup", "iris_r", "iris_g", "iris_b", "cloth_r", "cloth_g", "cloth_b", "hairline", "bald"),
    *("frame", "mask", "patch", "back", "back_r", "back_g", "back_b", "other_r", "other_g", "other_b", "back_scale", "back_angle"),
    *("shadow",),
)
"""Names of the columns of a face's look."""
DISTANCE, KEY, MIRROR, LIGHT_X, LIGHT_Y, LIGHT_Z, LIGHT_R, AMBIENT, SHINE = 0, 1, 2, 3, 4, 5, 6, 9, 10
SKIN, LIP, HAIR, BROW, BROW_THICKNESS, BEARD = 11, 14, 17, 20, 21, 22
MOUSTACHE, FRECKLES, AGE, MAKEUP, IRIS, CLOTH, HAIRLINE, BALD = 23, 24, 25, 26, 27, 30, 33, 34
FRAME, MASK, PATCH, BACK, BACK_R, OTHER_R, BACK_SCALE, BACK_ANGLE, SHADOW = 35, 36, 37, 38, 39, 42, 45, 46, 47
_SKIN, _EYES, _MOUTH, _TEETH, _EARS, _NECK, _CLOTHES, _HAIR, _LENSES, _FRAME, _MASK, _HAND, _PATCH = range(len(OBJECTS))
_RED, _LINES, _BROW, _BEARD, _MOUSTACHE, _SCALP, _TONE, _STUBBLE, _SPOTS = range(len(ATLAS_CHANNELS))
_BROWS = PARTS.index("brows")
_PART_SKIN, _PART_HAIR = PARTS.index("skin"), PARTS.index("hair")
f = np.float32


def _forget_stale_kernels() -> None:
    """Drops compiled kernels older than any source here: numba notices a change of their own file only, not of what they import."""
    folder = Path(__file__).parent
    newest = max(source.stat().st_mtime for source in folder.glob("*.py"))
    for index in (folder / "__pycache__").glob("*.nbi"):
        if index.stat().st_mtime < newest:
            index.unlink(missing_ok=True)


_forget_stale_kernels()
# numba: no reference counts (nothing is allocated per pixel), no checks for division by zero, always inlined into the loops
# over pixels: there the values stay in registers and loops over noise are vectorised
_PIXEL = {"cache": True, "nogil": True, "fastmath": True, "error_model": "numpy", "_nrt": False, "forceinline": True}


@njit("float32(int64, int64, int64)", **_PIXEL)
def noise_hash(x, y, key):
    """Uniform 0..1 from two integers and a key (a 32-bit finaliser in the manner of murmur)."""
    u = np.uint32  # numba multiplies 32 bits to 64; what fits into 32 is vectorised
    h = u(u(x) * u(0x9E3779B1)) ^ u(u(y) * u(0x85EBCA77)) ^ u(u(key) * u(0xC2B2AE3D))
    h = u(u(h ^ (h >> u(15))) * u(0x2C1B3C6D))
    h = u(u(h ^ (h >> u(12))) * u(0x297A2D39))
    h = u(h ^ (h >> u(15)))
    return f(np.int32(h >> u(8))) * f(1 / 16777216)


@njit("float32(float32, float32, int64)", **_PIXEL)
def value_noise(x, y, key):
    """Smooth noise 0..1 with one knot per unit."""
    low_x, low_y = np.floor(x), np.floor(y)
    ix, iy = int(low_x), int(low_y)
    fx, fy = x - low_x, y - low_y
    fx, fy = fx * fx * (f(3) - f(2) * fx), fy * fy * (f(3) - f(2) * fy)
    a, b = noise_hash(ix, iy, key), noise_hash(ix + 1, iy, key)
    c, d = noise_hash(ix, iy + 1, key), noise_hash(ix + 1, iy + 1, key)
    return (a + (b - a) * fx) * (f(1) - fy) + (c + (d - c) * fx) * fy


@njit("float32(float32, float32, float32)", **_PIXEL)
def step(low, high, x):
    """0 below `low`, 1 above `high`, smooth between."""
    t = min(max((x - low) / (high - low), f(0)), f(1))
    return t * t * (f(3) - f(2) * t)


BOXES = 9
"""Boxes and ovals of a cluttered background."""


@njit("void(float32[::1], float32[:, ::1])", **_PIXEL)
def clutter(look, boxes):
    """Centre, half width, half height and brightness of each box of a face's background, (BOXES, 5)."""
    key = int(look[KEY])
    for k in range(BOXES):
        boxes[k, 0], boxes[k, 1] = noise_hash(k, 1, key), noise_hash(k, 2, key)
        boxes[k, 2], boxes[k, 3] = f(0.05) + f(0.3) * noise_hash(k, 3, key), f(0.05) + f(0.3) * noise_hash(k, 4, key)
        boxes[k, 4] = noise_hash(k, 5, key) * f(1.3) - f(0.15)


@njit("UniTuple(float32, 3)(float32, float32, float32[::1], float32[:, ::1])", **_PIXEL)
def background(u, v, look, boxes):
    """Colour of the background at (u, v), 0..1 across the image; `boxes` come from `clutter`."""
    key = int(look[KEY])
    if look[MIRROR] > 0:
        u = f(1) - u
    kind, scale = int(look[BACK]), look[BACK_SCALE]
    share = f(0)
    if kind == 1 or kind == 3:
        share = np.cos(look[BACK_ANGLE]) * (u - f(0.5)) + np.sin(look[BACK_ANGLE]) * (v - f(0.5))
        share = share + f(0.5) if kind == 1 else step(f(-0.3), f(0.3), np.sin(share * scale * f(6.2832)))
    elif kind == 2:
        share = f(0.6) * value_noise(u * scale, v * scale, key) + f(0.4) * value_noise(u * scale * f(2.7), v * scale * f(2.7), key + 1)
    elif kind == 4:  # boxes and ovals over a soft ground
        share = value_noise(u * f(2), v * f(2), key)
        for k in range(BOXES):
            dx, dy, w, h = u - boxes[k, 0], v - boxes[k, 1], boxes[k, 2], boxes[k, 3]
            if (k % 2 == 0 and abs(dx) < w and abs(dy) < h) or (k % 2 == 1 and (dx / w) ** 2 + (dy / h) ** 2 < 1):
                share = boxes[k, 4]
    elif kind == 5:  # two walls, a shelf and a floor
        edge, shelf = noise_hash(1, 7, key), noise_hash(3, 7, key)
        share = f(0.75) - f(0.25) * (u - edge) if u > edge else f(0.35) + f(0.3) * v
        if v > f(0.55) + f(0.4) * noise_hash(2, 7, key):
            share = f(0.15)
        if abs(v - shelf) < f(0.03) and u < edge:
            share = f(1)
        share += f(0.15) * (value_noise(u * scale * f(3), v * scale * f(3), key + 2) - f(0.5))
    share = min(max(share, f(0)), f(1.2))
    return (
        look[BACK_R] + share * (look[OTHER_R] - look[BACK_R]),
        look[BACK_R + 1] + share * (look[OTHER_R + 1] - look[BACK_R + 1]),
        look[BACK_R + 2] + share * (look[OTHER_R + 2] - look[BACK_R + 2]),
    )


@njit("float32(float32[:, :, ::1], int64, int64, int64, float32, float32)", **_PIXEL)
def _painted(atlas, channel, i, j, fx, fy):
    """Bilinear look-up in a channel of the atlas, a share fx and fy beyond texel (i, j)."""
    above = atlas[i, j, channel] + fx * (atlas[i, j + 1, channel] - atlas[i, j, channel])
    below = atlas[i + 1, j, channel] + fx * (atlas[i + 1, j + 1, channel] - atlas[i + 1, j, channel])
    return above + fy * (below - above)


@njit("Tuple((int64, float32, float32, float32))(int64, int64, float32[::1], float32[::1], float32[:, :, ::1])", **_PIXEL)
def _skin(kind, part, value, look, atlas):
    """Part, which brows and scalp change, and albedo of skin with lips, brows, beard, scalp, freckles and lines."""
    red, green, blue = look[SKIN], look[SKIN + 1], look[SKIN + 2]
    if kind == _EARS:
        green, blue = green * f(0.9), blue * f(0.92)
    if kind != _SKIN:
        return part, red, green, blue
    lip, side = value[9], atlas.shape[0]
    x, y = (value[12] * f(0.5) + f(0.5)) * f(side - 1), (f(0.5) - value[13] * f(0.5)) * f(side - 1)
    i, j = min(max(int(y), 0), side - 2), min(max(int(x), 0), side - 2)
    fx, fy = x - f(j), y - f(i)
    flush = _painted(atlas, _RED, i, j, fx, fy)
    red *= f(1) + f(0.06) * flush
    green *= f(1) - f(0.13) * flush
    blue *= f(1) - f(0.10) * flush
    tone = (f(1) + _painted(atlas, _TONE, i, j, fx, fy)) * (f(1) - f(0.3) * look[AGE] * _painted(atlas, _LINES, i, j, fx, fy))
    if look[FRECKLES] > 0:
        flip = f(-1) if look[MIRROR] > 0 else f(1)
        row = min(max(int((f(0.5) - value[13] * f(0.5)) * (side - 1) + f(0.5)), 0), side - 1)
        column = min(max(int((flip * value[12] * f(0.5) + f(0.5)) * (side - 1) + f(0.5)), 0), side - 1)
        if atlas[row, column, _SPOTS] < look[FRECKLES]:
            green *= f(0.72)
            blue *= f(0.62)
            tone *= f(0.86)
    if lip > 0:
        share = step(f(0.45), f(0.95), lip)
        red += share * (look[LIP] - red)
        green += share * (look[LIP + 1] - green)
        blue += share * (look[LIP + 2] - blue)
        tone *= f(1) - f(0.45) * step(f(1.75), f(2.0), lip)
    elif lip < 0:
        tone *= f(1) + (f(0.4) + f(0.55) * look[MAKEUP]) * lip
    brow = f(1) - step(look[BROW_THICKNESS] - f(0.35), look[BROW_THICKNESS] + f(0.35), _painted(atlas, _BROW, i, j, fx, fy))
    brow *= f(0.5) + f(0.45) * look[BROW]
    hairs = f(0)
    if lip < f(0.9) and (look[BEARD] > 0 or look[MOUSTACHE] > 0):
        hairs = max(look[BEARD] * _painted(atlas, _BEARD, i, j, fx, fy), look[MOUSTACHE] * _painted(atlas, _MOUSTACHE, i, j, fx, fy))
        hairs = min(hairs * _painted(atlas, _STUBBLE, i, j, fx, fy), f(1)) * f(0.85)
    line = _painted(atlas, _SCALP, i, j, fx, fy) - f(0.2) * look[HAIRLINE]
    scalp = (f(1) - look[BALD]) * step(f(-0.02), f(0.12), line) * f(0.9)
    cover = max(brow, max(hairs, scalp))
    red = (red + cover * (look[HAIR] * f(0.9) - red)) * tone
    green = (green + cover * (look[HAIR + 1] * f(0.9) - green)) * tone
    blue = (blue + cover * (look[HAIR + 2] * f(0.9) - blue)) * tone
    if brow > f(0.35):
        part = _BROWS
    elif scalp > f(0.5) and part == _PART_SKIN:
        part = _PART_HAIR
    return part, red, green, blue


@njit(
    "Tuple((int64, float32, float32, float32))(int64, int64, float32[::1], float32, float32, float32, float32[::1], float32[:, :, ::1])",
    **_PIXEL,
)
def shade_pixel(kind, part, value, nx, ny, nz, look, atlas):
    """Part and colour of a surface point.

    Args:
        kind, part: object and part of the triangle.
        value: at the point: place in camera space (0-2), sum of normals (3-5), rest position (6-8), lip (9), ambient light (10),
            main light that is not shadowed (11), texture coordinates (12, 13).
        nx, ny, nz: unit normal.
    """
    shade, sun = value[10], value[11]
    gloss, squarings, soft = f(0), 4, f(0.15)
    if kind == _SKIN or kind == _EARS or kind == _NECK:
        part, red, green, blue = _skin(kind, part, value, look, atlas)
        gloss, soft = f(0.25) * look[SHINE], f(0.3)
        if value[9] > f(0.9):
            gloss *= f(1.6)
        elif part == _BROWS or part == _PART_HAIR:
            gloss = f(0)
    elif kind == _EYES:
        # instead of the rest position: place relative to the iris (x, y), height in the eye
        r = np.sqrt(value[6] ** 2 + value[7] ** 2)
        iris = f(1) - step(f(0.070), f(0.088), r)
        ring = f(0.5) + f(0.5) * (f(1) - step(f(0.05), f(0.080), r))
        pupil = f(1) - step(f(0.024), f(0.036), r)
        ring, dark = iris * (f(1) - pupil) * ring, iris * pupil * f(0.012)
        red = f(0.54) * (f(1) - iris) + ring * look[IRIS] + dark
        green = f(0.50) * (f(1) - iris) + ring * look[IRIS + 1] + dark
        blue = f(0.48) * (f(1) - iris) + ring * look[IRIS + 2] + dark
        shade *= f(1) - f(0.6) * step(f(-0.02), f(0.06), value[8])  # under the upper lid
        sun *= shade
        gloss, squarings, soft = f(0.45), 6, f(0.4)
    elif kind == _MOUTH:
        red, green, blue = f(0.20), f(0.05), f(0.05)
        sun *= shade
    elif kind == _TEETH:
        gap = abs(value[6] * f(14) - np.floor(value[6] * f(14) + f(0.5)))
        tone = f(0.8) + f(0.2) * step(f(0.0), f(0.12), gap)
        red, green, blue = f(0.62) * tone, f(0.58) * tone, f(0.49) * tone
        sun *= shade
        gloss = f(0.15)
    elif kind == _HAIR or kind == _CLOTHES or kind == _PATCH or kind == _HAND:
        flip = f(-1) if look[MIRROR] > 0 else f(1)
        key = int(look[KEY]) + kind
        if kind == _HAIR:
            x, y = flip * value[12] * f(40) + f(100), value[8] * f(4) + value[7] * f(3) + f(60)
            low, high, first = f(0.55), f(0.8), HAIR
        else:
            x, y = flip * value[6] * f(3) + f(60), value[7] * f(3) + f(60)
            low, high, first = f(0.8), f(0.4), SKIN if kind == _HAND else CLOTH
        tone = low + high * value_noise(x, y, key)
        if kind == _HAIR:
            gloss, squarings, soft = f(0.08) * tone, 3, f(0.3)
        elif kind == _HAND:
            gloss, soft = f(0.2) * look[SHINE], f(0.3)
        red, green, blue = look[first] * tone, look[first + 1] * tone, look[first + 2] * tone
        if kind == _PATCH:
            red = green = blue = look[PATCH] * tone
    elif kind == _LENSES:
        red = green = blue = f(0.02)
        gloss, squarings = f(0.6), 6
    elif kind == _FRAME:
        red = green = blue = f(0.02) + f(0.5) * look[FRAME]
        gloss, squarings = f(0.4), 5
    else:
        pleat = f(1) - f(0.16) * max(np.sin(value[7] * f(26)), f(0)) ** 4
        dark = f(1) if look[MASK] > f(1.5) else f(0)
        red = (f(0.42) + dark * f(-0.39)) * pleat
        green = (f(0.62) + dark * f(-0.59)) * pleat
        blue = (f(0.74) + dark * f(-0.71)) * pleat
    lx, ly, lz = look[LIGHT_X], look[LIGHT_Y], look[LIGHT_Z]
    facing = nx * lx + ny * ly + nz * lz
    diffuse = max((facing + soft) / (f(1) + soft), f(0)) * sun
    # light from everywhere, more of it from above
    around = look[AMBIENT] * shade * (f(0.82) + f(0.25) * ny + f(0.1) * nz)
    shine = f(0)
    if gloss > 0 and facing > 0:
        vx, vy, vz = -value[0], -value[1], look[DISTANCE] - value[2]
        length = f(1) / np.sqrt(vx * vx + vy * vy + vz * vz)
        hx, hy, hz = lx + vx * length, ly + vy * length, lz + vz * length
        shine = max((nx * hx + ny * hy + nz * hz) / np.sqrt(hx * hx + hy * hy + hz * hz + f(1e-9)), f(0))
        for _ in range(squarings):
            shine *= shine
        shine *= gloss * sun
    return (
        part,
        red * (around + look[LIGHT_R] * diffuse) + shine * look[LIGHT_R],
        green * (around + look[LIGHT_R + 1] * diffuse) + shine * look[LIGHT_R + 1],
        blue * (around + look[LIGHT_R + 2] * diffuse) + shine * look[LIGHT_R + 2],
    )

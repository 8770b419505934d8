"""Colours: what each pixel of each material looks like, and the background. Numba functions of one pixel, linear RGB."""

from pathlib import Path

import numpy as np
from numba import njit

from facelab.worlds.faces.anatomy import OBJECTS, PARTS

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
# numba: no reference counts (nothing is allocated per pixel), no checks for division by zero
_PIXEL = {"cache": True, "nogil": True, "fastmath": True, "error_model": "numpy", "_nrt": False}


@njit("float32(int64, int64, int64)", cache=True, nogil=True)
def noise_hash(x, y, key):
    """Uniform 0..1 from two integers and a key (a 32-bit finaliser in the manner of murmur)."""
    h = (x * 0x9E3779B1 ^ y * 0x85EBCA77 ^ key * 0xC2B2AE3D) & 0xFFFFFFFF
    h = ((h ^ (h >> 15)) * 0x2C1B3C6D) & 0xFFFFFFFF
    h = ((h ^ (h >> 12)) * 0x297A2D39) & 0xFFFFFFFF
    h = h ^ (h >> 15)
    return np.float32(h >> 8) * np.float32(1 / 16777216)


@njit("float32(float32, float32, int64)", **_PIXEL)
def value_noise(x, y, key):
    """Smooth noise 0..1 with one knot per unit."""
    ix, iy = int(np.floor(x)), int(np.floor(y))
    fx, fy = np.float32(x - ix), np.float32(y - iy)
    fx, fy = fx * fx * (f(3) - f(2) * fx), fy * fy * (f(3) - f(2) * fy)
    a, b = noise_hash(ix, iy, key), noise_hash(ix + 1, iy, key)
    c, d = noise_hash(ix, iy + 1, key), noise_hash(ix + 1, iy + 1, key)
    return (a + (b - a) * fx) * (f(1) - fy) + (c + (d - c) * fx) * fy


@njit("float32(float32, float32, float32)", **_PIXEL)
def step(low, high, x):
    """0 below `low`, 1 above `high`, smooth between."""
    t = min(max((x - low) / (high - low), f(0)), f(1))
    return t * t * (f(3) - f(2) * t)


@njit("void(float32, float32, float32[::1], float32[::1])", **_PIXEL)
def background(u, v, look, color):
    """Colour of the background at (u, v), 0..1 across the image."""
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
        for k in range(9):
            dx, dy = u - noise_hash(k, 1, key), v - noise_hash(k, 2, key)
            w, h = f(0.05) + f(0.3) * noise_hash(k, 3, key), f(0.05) + f(0.3) * noise_hash(k, 4, key)
            if (k % 2 == 0 and abs(dx) < w and abs(dy) < h) or (k % 2 == 1 and (dx / w) ** 2 + (dy / h) ** 2 < 1):
                share = noise_hash(k, 5, key) * f(1.3) - f(0.15)
    elif kind == 5:  # two walls, a shelf and a floor
        edge, shelf = noise_hash(1, 7, key), noise_hash(3, 7, key)
        share = f(0.75) - f(0.25) * (u - edge) if u > edge else f(0.35) + f(0.3) * v
        if v > f(0.55) + f(0.4) * noise_hash(2, 7, key):
            share = f(0.15)
        if abs(v - shelf) < f(0.03) and u < edge:
            share = f(1)
        share += f(0.15) * (value_noise(u * scale * f(3), v * scale * f(3), key + 2) - f(0.5))
    share = min(max(share, f(0)), f(1.2))
    for k in range(3):
        color[k] = look[BACK_R + k] + share * (look[OTHER_R + k] - look[BACK_R + k])


@njit("void(float32, float32, float32[:, :, ::1], float32[::1])", **_PIXEL)
def sample_atlas(s, t, atlas, out):
    """Bilinear look-up at texture coordinates -1..1."""
    side = atlas.shape[0]
    x, y = (s * f(0.5) + f(0.5)) * (side - 1), (f(0.5) - t * f(0.5)) * (side - 1)
    i, j = min(max(int(y), 0), side - 2), min(max(int(x), 0), side - 2)
    fx, fy = f(x - j), f(y - i)
    a, b, c, d = (f(1) - fx) * (f(1) - fy), fx * (f(1) - fy), (f(1) - fx) * fy, fx * fy
    for k in range(atlas.shape[2]):
        out[k] = a * atlas[i, j, k] + b * atlas[i, j + 1, k] + c * atlas[i + 1, j, k] + d * atlas[i + 1, j + 1, k]


@njit("int64(int64, int64, float32[::1], float32[::1], float32[:, :, ::1], float32[::1], float32[::1])", **_PIXEL)
def _skin(kind, part, value, look, atlas, paint, albedo):
    """Albedo of skin with lips, brows, beard, scalp, freckles and lines; returns the part, which brows and scalp change."""
    for c in range(3):
        albedo[c] = look[SKIN + c]
    if kind != _SKIN:
        if kind == _EARS:
            albedo[1] *= f(0.9)
            albedo[2] *= f(0.92)
        return part
    lip = value[9]
    sample_atlas(value[12], value[13], atlas, paint)
    red, lines, brow_at, scalp_at = paint[0], paint[1], paint[2], paint[5]
    albedo[0] *= f(1) + f(0.06) * red
    albedo[1] *= f(1) - f(0.13) * red
    albedo[2] *= f(1) - f(0.10) * red
    tone = (f(1) + paint[6]) * (f(1) - f(0.3) * look[AGE] * lines)
    if look[FRECKLES] > 0:
        flip = f(-1) if look[MIRROR] > 0 else f(1)
        side = atlas.shape[0]
        i = min(max(int((f(0.5) - value[13] * f(0.5)) * (side - 1) + f(0.5)), 0), side - 1)
        j = min(max(int((flip * value[12] * f(0.5) + f(0.5)) * (side - 1) + f(0.5)), 0), side - 1)
        if atlas[i, j, 8] < look[FRECKLES]:
            albedo[1] *= f(0.72)
            albedo[2] *= f(0.62)
            tone *= f(0.86)
    if lip > 0:
        share = step(f(0.45), f(0.95), lip)
        for c in range(3):
            albedo[c] += share * (look[LIP + c] - albedo[c])
        tone *= f(1) - f(0.45) * step(f(1.75), f(2.0), lip)
    elif lip < 0:
        tone *= f(1) + (f(0.4) + f(0.55) * look[MAKEUP]) * lip
    brow = (f(1) - step(look[BROW_THICKNESS] - f(0.35), look[BROW_THICKNESS] + f(0.35), brow_at)) * (f(0.5) + f(0.45) * look[BROW])
    hairs = f(0)
    if lip < f(0.9):
        hairs = min(max(look[BEARD] * paint[3], look[MOUSTACHE] * paint[4]) * paint[7], f(1)) * f(0.85)
    scalp = (f(1) - look[BALD]) * step(f(-0.02), f(0.12), scalp_at - f(0.2) * look[HAIRLINE]) * f(0.9)
    cover = max(brow, max(hairs, scalp))
    for c in range(3):
        albedo[c] = (albedo[c] + cover * (look[HAIR + c] * f(0.9) - albedo[c])) * tone
    if brow > f(0.35):
        return _BROWS
    if scalp > f(0.5) and part == _PART_SKIN:
        return _PART_HAIR
    return part


@njit("int64(int64, int64, float32[::1], float32[::1], float32[:, :, ::1], float32[::1], float32[::1])", **_PIXEL)
def shade_pixel(kind, part, value, look, atlas, paint, color):
    """Colour of a surface point; returns its part.

    Args:
        kind, part: object and part of the triangle.
        value: at the point: place and normal in camera space (0-2, 3-5), rest position (6-8), lip (9), ambient light (10),
            main light that is not shadowed (11), texture coordinates (12, 13).
        paint: room for a sample of the atlas.
    """
    shade, sun = value[10], value[11]
    gloss, squarings, soft = f(0), 4, f(0.15)
    if kind == _SKIN or kind == _EARS or kind == _NECK:
        part = _skin(kind, part, value, look, atlas, paint, color)
        gloss, soft = f(0.25) * look[SHINE], f(0.3)
        if value[9] > f(0.9):
            gloss *= f(1.6)
        elif part == _BROWS or part == _PART_HAIR:
            gloss = f(0)
    elif kind == _EYES:
        # instead of the rest position: place relative to the iris (x, y), height in the eye
        r = np.sqrt(value[6] ** 2 + value[7] ** 2)
        color[0], color[1], color[2] = f(0.54), f(0.50), f(0.48)
        iris = f(1) - step(f(0.070), f(0.088), r)
        ring = f(0.5) + f(0.5) * (f(1) - step(f(0.05), f(0.080), r))
        pupil = f(1) - step(f(0.024), f(0.036), r)
        for c in range(3):
            tint = look[IRIS + c] * ring
            tint += pupil * (f(0.012) - tint)
            color[c] += iris * (tint - color[c])
        shade *= f(1) - f(0.6) * step(f(-0.02), f(0.06), value[8])  # under the upper lid
        sun *= shade
        gloss, squarings, soft = f(0.45), 6, f(0.4)
    elif kind == _MOUTH:
        color[0], color[1], color[2] = f(0.20), f(0.05), f(0.05)
        sun *= shade
    elif kind == _TEETH:
        gap = abs(value[6] * f(14) - np.floor(value[6] * f(14) + f(0.5)))
        tone = f(0.8) + f(0.2) * step(f(0.0), f(0.12), gap)
        color[0], color[1], color[2] = f(0.62) * tone, f(0.58) * tone, f(0.49) * tone
        sun *= shade
        gloss = f(0.15)
    elif kind == _HAIR or kind == _CLOTHES or kind == _PATCH or kind == _HAND:
        flip = f(-1) if look[MIRROR] > 0 else f(1)
        key = int(look[KEY]) + kind
        first = CLOTH
        if kind == _HAIR:
            x, y = flip * value[12] * f(40) + f(100), value[8] * f(4) + value[7] * f(3) + f(60)
            tone = f(0.55) + f(0.8) * value_noise(x, y, key)
            gloss, squarings, soft, first = f(0.08) * tone, 3, f(0.3), HAIR
        else:
            tone = f(0.8) + f(0.4) * value_noise(flip * value[6] * f(3) + f(60), value[7] * f(3) + f(60), key)
            if kind == _HAND:
                gloss, soft, first = f(0.2) * look[SHINE], f(0.3), SKIN
        for c in range(3):
            color[c] = look[first + c] * tone if kind != _PATCH else look[PATCH] * tone
    elif kind == _LENSES:
        color[0] = color[1] = color[2] = f(0.02)
        gloss, squarings = f(0.6), 6
    elif kind == _FRAME:
        color[0] = color[1] = color[2] = f(0.02) + f(0.5) * look[FRAME]
        gloss, squarings = f(0.4), 5
    else:
        pleat = f(1) - f(0.16) * max(np.sin(value[7] * f(26)), f(0)) ** 4
        dark = f(1) if look[MASK] > f(1.5) else f(0)
        color[0] = (f(0.42) + dark * f(-0.39)) * pleat
        color[1] = (f(0.62) + dark * f(-0.59)) * pleat
        color[2] = (f(0.74) + dark * f(-0.71)) * pleat
    lx, ly, lz = look[LIGHT_X], look[LIGHT_Y], look[LIGHT_Z]
    facing = value[3] * lx + value[4] * ly + value[5] * lz
    diffuse = max((facing + soft) / (f(1) + soft), f(0)) * sun
    # light from everywhere, more of it from above
    around = look[AMBIENT] * shade * (f(0.82) + f(0.25) * value[4] + f(0.1) * value[5])
    shine = f(0)
    if gloss > 0 and facing > 0:
        vx, vy, vz = -value[0], -value[1], look[DISTANCE] - value[2]
        length = f(1) / np.sqrt(vx * vx + vy * vy + vz * vz)
        hx, hy, hz = lx + vx * length, ly + vy * length, lz + vz * length
        shine = max((value[3] * hx + value[4] * hy + value[5] * hz) / np.sqrt(hx * hx + hy * hy + hz * hz + f(1e-9)), f(0))
        for _ in range(squarings):
            shine *= shine
        shine *= gloss * sun
    for c in range(3):
        color[c] = color[c] * (around + look[LIGHT_R + c] * diffuse) + shine * look[LIGHT_R + c]
    return part

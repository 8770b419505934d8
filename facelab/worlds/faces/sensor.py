"""The camera's chip: blur, exposure, gamma, contrast, saturation, noise and block compression, linear RGB -> 8 bits.

One face at a time, one plane per colour: inner loops run along rows without branches or look-ups, so they are vectorised.
"""

import numpy as np
from numba import njit

from facelab.worlds.faces.shading import noise_hash

SENSOR = ("blur", "noise", "compression", "gamma", "exposure", "contrast", "saturation", "key", "mirror")
f = np.float32
_COSINES = np.cos(np.pi * np.outer(np.arange(8), np.arange(8) + 0.5) / 8) * np.sqrt(np.where(np.arange(8) == 0, 1, 2) / 8)[:, None]
_COSINES = _COSINES.astype(np.float32)
"""Basis of the discrete cosine transform: frequencies x places."""
_COSINES_TURNED = np.ascontiguousarray(_COSINES.T)


@njit(cache=True, nogil=True, fastmath=True, error_model="numpy")
def _blur(planes, sigma, scratch):
    """Separable Gaussian, in place, edges repeated."""
    size = planes.shape[1]
    radius = int(np.ceil(2.5 * sigma))
    weights = np.empty(radius + 1, np.float32)
    total = np.float32(0.0)
    for k in range(radius + 1):
        weights[k] = np.exp(-0.5 * (k / sigma) ** 2)
        total += weights[k] * (1 if k == 0 else 2)
    weights /= total
    padded = np.empty(size + 2 * radius, np.float32)
    for c in range(3):
        for y in range(size):
            row, blurred = planes[c, y], scratch[y]
            padded[:radius], padded[radius : radius + size], padded[radius + size :] = row[0], row, row[size - 1]
            for x in range(size):
                blurred[x] = weights[0] * row[x]
            for k in range(1, radius + 1):
                weight, left, right = weights[k], padded[radius - k :], padded[radius + k :]
                for x in range(size):
                    blurred[x] += weight * (left[x] + right[x])
        for y in range(size):
            row, blurred = planes[c, y], scratch[y]
            for x in range(size):
                row[x] = weights[0] * blurred[x]
            for k in range(1, radius + 1):
                weight, up, down = weights[k], scratch[max(y - k, 0)], scratch[min(y + k, size - 1)]
                for x in range(size):
                    row[x] += weight * (up[x] + down[x])


@njit(cache=True, nogil=True, fastmath=True, error_model="numpy")
def _multiply(matrix, blocks, product):
    """Product of an 8 x 8 matrix with each of the blocks (8, 8, number of blocks), transposed: twice gives M B M'."""
    product[:] = 0
    for j in range(8):
        for k in range(8):
            total = product[k, j]
            for y in range(8):
                weight, row = matrix[j, y], blocks[y, k]
                for b in range(len(total)):
                    total[b] += weight * row[b]


@njit(cache=True, nogil=True, fastmath=True, error_model="numpy")
def _compress(planes, strength):
    """Discrete cosine transform of 8 x 8 blocks with coarse quantisation, on the luminance; colours are averaged over 4 x 4."""
    side = planes.shape[1] // 8
    blocks, turned = np.empty((8, 8, side * side), np.float32), np.empty((8, 8, side * side), np.float32)
    red, green, blue = planes
    for y in range(8 * side):
        for x in range(8 * side):
            gray = f(0.299) * red[y, x] + f(0.587) * green[y, x] + f(0.114) * blue[y, x]
            blocks[y % 8, x % 8, y // 8 * side + x // 8] = gray
            red[y, x] -= gray
            green[y, x] -= gray
            blue[y, x] -= gray
    _multiply(_COSINES, blocks, turned)
    _multiply(_COSINES, turned, blocks)
    for j in range(8):
        for k in range(8):
            row, quantum = blocks[j, k], strength * f(0.05) * (f(1) + f(0.7) * f(j + k))
            for b in range(len(row)):
                row[b] = np.round(row[b] / quantum) * quantum
    _multiply(_COSINES_TURNED, blocks, turned)
    _multiply(_COSINES_TURNED, turned, blocks)
    for plane in (red, green, blue):
        for y in range(0, 8 * side, 4):
            for x in range(0, 8 * side, 4):
                mean = f(0)
                for j in range(4):
                    for i in range(4):
                        mean += plane[y + j, x + i]
                mean /= f(16)
                for j in range(4):
                    for i in range(4):
                        plane[y + j, x + i] = mean + blocks[(y + j) % 8, (x + i) % 8, y // 8 * side + x // 8]


@njit(cache=True, nogil=True, fastmath=True, error_model="numpy")
def expose(planes, scratch, settings, image):
    """Linear colours (3, H, W), overwritten, to an 8-bit sRGB image (H, W, 3) with the given sensor settings (len(SENSOR)).

    `scratch` is room for one plane.
    """
    size = planes.shape[1]
    sigma, noise, compression, gamma, exposure, contrast, saturation = settings[:7]
    key, mirror = int(settings[7]), settings[8] > 0
    sigma *= size
    if sigma > 0.15:
        _blur(planes, sigma, scratch)
    table = np.empty(258, np.float32)
    for k in range(258):
        value = (k / 256) ** np.float32(2.0)
        value = value ** (gamma / np.float32(2.2))
        table[k] = 0.5 + (value - 0.5) * contrast
    for y in range(size):
        for c in range(3):
            row = planes[c, y]
            for x in range(size):
                value = row[x] * exposure
                value = value / (f(1) + f(0.25) * value * value)  # soft shoulder
                row[x] = np.sqrt(min(max(value, f(0)), f(1))) * f(256)  # the table is even in the root
            for x in range(size):
                k = int(row[x])
                row[x] = table[k] + (row[x] - f(k)) * (table[k + 1] - table[k])
        red, green, blue = planes[0, y], planes[1, y], planes[2, y]
        for x in range(size):
            gray = f(0.299) * red[x] + f(0.587) * green[x] + f(0.114) * blue[x]
            red[x] = gray + saturation * (red[x] - gray)
            green[x] = gray + saturation * (green[x] - gray)
            blue[x] = gray + saturation * (blue[x] - gray)
    if compression > 0:
        _compress(planes, compression)
    first, step = (size - 1, -1) if mirror else (0, 1)
    for y in range(size):
        for c in range(3):
            row = planes[c, y]
            if noise > 0:  # the sum of two uniforms is near enough to a normal
                for x in range(size):
                    u = noise_hash(first + step * x, 4 * y + c, key) * f(4096)
                    high = np.floor(u)
                    row[x] += noise * f(2.45) * ((high + f(0.5)) * f(1 / 4096) + (u - high) - f(1))
            for x in range(size):
                image[y, x, c] = np.uint8(min(max(row[x] * f(255) + f(0.5), f(0)), f(255)))

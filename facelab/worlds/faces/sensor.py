"""The camera's chip: blur, exposure, gamma, contrast, saturation, noise and block compression, linear RGB -> 8 bits."""

import numpy as np
from numba import njit

from facelab.worlds.faces.shading import noise_hash

SENSOR = ("blur", "noise", "compression", "gamma", "exposure", "contrast", "saturation", "key", "mirror")


@njit(cache=True, nogil=True, fastmath=True, error_model="numpy")
def _blur(image, sigma, scratch):
    """Separable Gaussian, in place, edges repeated."""
    size = image.shape[0]
    radius = int(np.ceil(2.5 * sigma))
    weights = np.empty(radius + 1, np.float32)
    total = np.float32(0.0)
    for k in range(radius + 1):
        weights[k] = np.exp(-0.5 * (k / sigma) ** 2)
        total += weights[k] * (1 if k == 0 else 2)
    weights /= total
    for y in range(size):
        for x in range(size):
            for c in range(3):
                scratch[y, x, c] = weights[0] * image[y, x, c]
            for k in range(1, radius + 1):
                left, right = max(x - k, 0), min(x + k, size - 1)
                for c in range(3):
                    scratch[y, x, c] += weights[k] * (image[y, left, c] + image[y, right, c])
    for y in range(size):
        for x in range(size):
            for c in range(3):
                image[y, x, c] = weights[0] * scratch[y, x, c]
        for k in range(1, radius + 1):
            up, down = max(y - k, 0), min(y + k, size - 1)
            for x in range(size):
                for c in range(3):
                    image[y, x, c] += weights[k] * (scratch[up, x, c] + scratch[down, x, c])


@njit(cache=True, nogil=True, fastmath=True, error_model="numpy")
def _compress(image, strength):
    """Discrete cosine transform of 8 x 8 blocks with coarse quantisation, on the luminance; colours are averaged over 4 x 4."""
    size = image.shape[0]
    basis = np.empty((8, 8), np.float32)
    for k in range(8):
        for n in range(8):
            basis[k, n] = np.sqrt((1.0 if k == 0 else 2.0) / 8) * np.cos(np.pi * (n + 0.5) * k / 8)
    block, half = np.empty((8, 8), np.float32), np.empty((8, 8), np.float32)
    for by in range(0, size - 7, 8):
        for bx in range(0, size - 7, 8):
            for y in range(8):
                for x in range(8):
                    r, g, b = image[by + y, bx + x, 0], image[by + y, bx + x, 1], image[by + y, bx + x, 2]
                    block[y, x] = np.float32(0.299) * r + np.float32(0.587) * g + np.float32(0.114) * b
            for y in range(0, 8, 4):
                for x in range(0, 8, 4):
                    for c in range(3):
                        mean = np.float32(0.0)
                        for j in range(4):
                            for i in range(4):
                                mean += image[by + y + j, bx + x + i, c] - block[y + j, x + i]
                        mean /= 16
                        for j in range(4):
                            for i in range(4):
                                image[by + y + j, bx + x + i, c] = mean
            for y in range(8):
                for k in range(8):
                    value = np.float32(0.0)
                    for x in range(8):
                        value += basis[k, x] * block[y, x]
                    half[y, k] = value
            for j in range(8):
                for k in range(8):
                    value = np.float32(0.0)
                    for y in range(8):
                        value += basis[j, y] * half[y, k]
                    quantum = strength * np.float32(0.05) * (1 + np.float32(0.7) * (j + k))
                    block[j, k] = np.round(value / quantum) * quantum
            for j in range(8):
                for x in range(8):
                    value = np.float32(0.0)
                    for k in range(8):
                        value += basis[k, x] * block[j, k]
                    half[j, x] = value
            for y in range(8):
                for x in range(8):
                    value = np.float32(0.0)
                    for j in range(8):
                        value += basis[j, y] * half[j, x]
                    for c in range(3):
                        image[by + y, bx + x, c] += value


@njit(cache=True, nogil=True, fastmath=True, error_model="numpy")
def expose(colors, settings, images):
    """Linear colours (B, H, W, 3), overwritten, to 8-bit sRGB images with the given sensor settings (B, len(SENSOR))."""
    size = colors.shape[1]
    scratch = np.empty((size, size, 3), np.float32)
    table = np.empty(258, np.float32)
    for i in range(len(colors)):
        image = colors[i]
        sigma, noise, compression, gamma, exposure, contrast, saturation = settings[i, :7]
        key, mirror = int(settings[i, 7]), settings[i, 8] > 0
        sigma *= size
        if sigma > 0.15:
            _blur(image, sigma, scratch)
        for k in range(258):
            value = (k / 256) ** np.float32(2.0)
            value = value ** (gamma / np.float32(2.2))
            table[k] = 0.5 + (value - 0.5) * contrast
        for y in range(size):
            for x in range(size):
                for c in range(3):
                    value = image[y, x, c] * exposure
                    value = value / (1 + np.float32(0.25) * value * value)  # soft shoulder
                    place = np.sqrt(min(max(value, np.float32(0.0)), np.float32(1.0))) * np.float32(256)  # the table is even in the root
                    k = int(place)
                    image[y, x, c] = table[k] + (place - k) * (table[k + 1] - table[k])
                gray = np.float32(0.299) * image[y, x, 0] + np.float32(0.587) * image[y, x, 1] + np.float32(0.114) * image[y, x, 2]
                for c in range(3):
                    image[y, x, c] = gray + saturation * (image[y, x, c] - gray)
        if compression > 0:
            _compress(image, compression)
        for y in range(size):
            for x in range(size):
                column = size - 1 - x if mirror else x
                for c in range(3):
                    value = image[y, x, c]
                    if noise > 0:  # the sum of two uniforms is near enough to a normal
                        u = noise_hash(column, 4 * y + c, key)
                        high = np.floor(u * np.float32(4096))
                        value += (
                            noise
                            * np.float32(2.45)
                            * ((high + np.float32(0.5)) * np.float32(1 / 4096) + (u * np.float32(4096) - high) - np.float32(1.0))
                        )
                    images[i, y, x, c] = np.uint8(min(max(value * np.float32(255) + np.float32(0.5), np.float32(0.0)), np.float32(255.0)))

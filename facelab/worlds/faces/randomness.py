"""Counter-based random numbers: a hash of (seed, index, name) instead of a generator with a state."""

import zlib
from functools import cache

import numpy as np
from jaxtyping import Float


def _mixed(seed: np.ndarray, index: np.ndarray, keys: np.ndarray | np.uint64) -> np.ndarray:
    """Uniform numbers in (0, 1), two rounds of splitmix64 over seed, index and key (arrays that broadcast)."""
    with np.errstate(over="ignore"):
        z = np.asarray(seed, np.int64).astype(np.uint64) * np.uint64(0xD1342543DE82EF95) + keys * np.uint64(0x9E3779B97F4A7C15)
        z = z + np.asarray(index, np.int64).astype(np.uint64) * np.uint64(0x2545F4914F6CDD1D)
        for _ in range(2):
            z += np.uint64(0x9E3779B97F4A7C15)
            z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
            z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
            z ^= z >> np.uint64(31)
    return ((z >> np.uint64(11)).astype(np.float64) + 0.5) / 2.0**53


def _key(name: str, stream: int) -> np.uint64:
    return np.uint64((zlib.crc32(name.encode()) << 8) + stream)


def hashed(seed: np.ndarray, index: np.ndarray, name: str, stream: int = 0) -> Float[np.ndarray, " n"]:
    """Uniform numbers in (0, 1) that depend on seed, index, name and stream only."""
    return _mixed(seed, index, _key(name, stream))


@cache
def _keys(names: tuple[str, ...], streams: int) -> np.ndarray:
    return np.array([[_key(name, stream) for name in names] for stream in range(streams)])[..., None]


def hashed_table(seed: np.ndarray, index: np.ndarray, names: list[str], streams: int) -> Float[np.ndarray, "streams names n"]:
    """`hashed` for several names and streams at once."""
    return _mixed(seed, index, _keys(tuple(names), streams))

"""The public functions of the face world: sample factors, render, change, mirror, follow points, clips."""

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import cache

import numpy as np
from jaxtyping import Bool, Float

from facelab.batch import FaceBatch
from facelab.markups import conversion
from facelab.markups import markup as find_markup
from facelab.worlds.faces import geometry
from facelab.worlds.faces.anatomy import OBJECTS
from facelab.worlds.faces.expression import affect
from facelab.worlds.faces.factors import AU_NAMES, EXPRESSIONS, FACTORS, GLASSES, HAIR_STYLES, PERSON, check_name
from facelab.worlds.faces.looks import light_direction, looks, sensor_settings
from facelab.worlds.faces.randomness import hashed
from facelab.worlds.faces.rendering import Channels, Pose, Static, render_faces
from facelab.worlds.faces.sampling import draw
from facelab.worlds.faces.textures import atlas, projected

CHANNELS = ("parts", "occluder", "depth", "normals", "uv")
"""Images of truth that `render` can leave out."""
_CHUNK = 32
CROP = ("crop_scale", "crop_x", "crop_y")
"""Where a batch keeps its crop: image sides per unit of x / depth, and the image of the axis in image sides."""


@cache
def static_arrays() -> Static:
    rig = geometry.rig()
    world, group = rig.world, rig.world.group
    rings = np.array([[group[f"{side}eye_{k}"] for k in range(4)] for side in ("right_", "")])
    return Static(
        **{name: np.ascontiguousarray(getattr(world, name), np.float32) for name in ("rest", "head", "lip", "shade")},
        **{name: np.ascontiguousarray(getattr(world, name), np.int32) for name in ("kind", "part", "object")},
        triangles=np.ascontiguousarray(world.triangles, np.uint32),  # numba need not look for negative indices
        flat=np.ascontiguousarray(world.flat, np.bool_),
        rings=rings.astype(np.int32),
        eyeballs=np.array([group["right_eyeball"], group["left_eyeball"]], np.int32),
        eye_centres=np.array([group["right_eye_centre"][0], group["left_eye_centre"][0]], np.int32),
        **{name: getattr(rig, name) for name in ("landmark_vertex", "landmark_weight", "path_vertex", "path_weight", "path_outward")},
        pivot=geometry.PIVOT.astype(np.float32),
        place=projected(world.rest).astype(np.float32),
        atlas=atlas(),
    )


@cache
def in_crop_box() -> Bool[np.ndarray, " 98"]:
    """Which of the 98 landmarks are among the 68, which define the crop."""
    return conversion(98, 68).any(0)


def sample(n: int, seed: int = 0, start: int = 0, **factors: object) -> dict[str, np.ndarray]:
    """The factors of items start .. start + n - 1 of a seed, (n,) each; choices as indices.

    Raises:
        ValueError: n < 1, an unknown factor, or an impossible value.
    """
    if n < 1:
        raise ValueError(f"n = {n}: ask for at least one face.")
    if start < 0:
        raise ValueError(f"start = {start}: items are counted from 0.")
    return draw(np.full(n, int(seed)), np.arange(start, start + n), factors)


def pose_of(values: Mapping[str, np.ndarray], gaze: np.ndarray) -> Pose:
    v = values
    half = 0.5 * v["yaw"] + v["body_turn"]
    hand = np.stack([np.where(v["hand"] == 2, -1.0, 1.0), v["hand_x"], v["hand_y"]], 1)
    patch = np.stack([1.3 * v["patch"], 0.9 * v["patch_x"], v["patch_y"]], 1)
    arrays = (
        *(geometry.rotation(v["yaw"], v["pitch"], v["roll"]), geometry.rotation(v["yaw"], v["pitch"], 0 * v["roll"])),
        *(geometry.rotation(half, 0.15 * v["pitch"], 0.2 * v["roll"]), geometry.lids(v), gaze, hand, patch, v["camera_distance"]),
    )
    return Pose(*(np.ascontiguousarray(a, np.float32) for a in arrays))


def shown_objects(values: Mapping[str, np.ndarray]) -> Bool[np.ndarray, "n O"]:
    n = len(values["yaw"])
    shown = np.ones((n, len(OBJECTS)), bool)
    glasses = values["glasses"].astype(int)
    for name, show in {
        "hair": values["hair_style"] != HAIR_STYLES.index("bald"),
        "lenses": glasses == GLASSES.index("sunglasses"),
        "frame": glasses > 0,
        "mask": values["mask"] > 0,
        "hand": values["hand"] > 0,
        "patch": values["patch"] > 0,
    }.items():
        shown[:, OBJECTS.index(name)] = show
    return shown


def render_arrays(values: dict[str, np.ndarray], size: int, truth: bool, raw: bool = False, workers: int = 1) -> dict[str, np.ndarray]:
    """Images and truth of the faces with the given factors; adds the crop to `values`."""
    rig, static, n = geometry.rig(), static_arrays(), len(values["yaw"])
    gy, gp = np.radians(values["gaze_yaw"]), np.radians(values["gaze_pitch"])
    in_head = np.stack([np.sin(gy) * np.cos(gp), np.sin(gp), np.cos(gy) * np.cos(gp)], 1)
    pose, look, settings, shown = pose_of(values, in_head), looks(values), sensor_settings(values), shown_objects(values)
    fixed = np.isfinite(values["crop_scale"]) if "crop_scale" in values else np.zeros(n, bool)
    crop = np.stack([values[k] for k in CROP], 1).astype(np.float32) if fixed.any() else np.zeros((n, 3), np.float32)
    framing = np.stack([values["framing_scale"], values["framing_x"], values["framing_y"]], 1).astype(np.float32)
    coefficients = geometry.coefficients(values)
    labelled, kept = n if truth else 0, n if raw else 0
    # the kernels fill every element: all of the batch is allocated at once and touched once
    channels = Channels(
        images=np.empty((n, size, size, 3), np.uint8),
        number=np.empty((kept, size, size), np.int32),
        barycentric=np.empty((kept, size, size, 2), np.float32),
        parts=np.empty((labelled, size, size), np.uint8),
        occluder=np.empty((labelled, size, size), bool),
        depth=np.empty((labelled, size, size), np.float32),
        normals=np.empty((labelled, size, size, 3), np.float32),
        uv=np.empty((labelled, size, size, 2), np.float32),
    )
    landmarks_3d, landmarks, visible = np.empty((n, 98, 3), np.float32), np.empty((n, 98, 2), np.float32), np.empty((n, 98), bool)
    vertices = np.empty((kept, len(rig.world.rest), 3), np.float32)

    def work(start: int) -> None:
        piece = slice(start, start + _CHUNK)
        # always a product of _CHUNK rows: another number of rows would round otherwise, and an item must not depend on its batch
        rows = np.zeros((_CHUNK, len(rig.basis)), np.float32)
        count = len(coefficients[piece])
        rows[:count] = coefficients[piece]
        points = (rig.mean + (rows @ rig.basis)[:count]).reshape(count, -1, 3)
        render_faces(
            *(points, static, Pose(*(a[piece] for a in pose)), look[piece], settings[piece], shown[piece], crop[piece]),
            *(framing[piece], fixed[piece], Channels(*(a[piece] for a in channels))),
            *(landmarks_3d[piece], landmarks[piece], visible[piece], in_crop_box()),
        )
        if raw:
            vertices[piece] = points

    if workers > 1:
        with ThreadPoolExecutor(workers) as pool:
            list(pool.map(work, range(0, n, _CHUNK)))
    else:
        for start in range(0, n, _CHUNK):
            work(start)
    for name, column in zip(CROP, crop.T, strict=True):
        values[name] = column.copy()
    out = {"landmarks_3d": landmarks_3d, "landmarks": landmarks, "visible": visible, "images": channels.images}
    if truth:
        out |= {name: getattr(channels, name) for name in CHANNELS}
    if raw:
        out |= {"number": channels.number, "barycentric": channels.barycentric, "vertices": vertices, "shown": shown}
    # line of sight of the point between the eyes
    turn = pose.rotation.astype(np.float64)
    out["gaze"] = np.einsum("nij,nj->ni", turn, in_head)
    between = np.einsum("nij,nj->ni", turn, np.array([0.0, 0.0, 1.1]) - np.broadcast_to(geometry.PIVOT, (n, 3)))
    with np.errstate(divide="ignore", invalid="ignore"):
        reach = (values["camera_distance"] - between[:, 2]) / out["gaze"][:, 2]
    reach = np.where(out["gaze"][:, 2] > 1e-6, reach, np.nan)
    out["gaze_point"] = between[:, :2] + reach[:, None] * out["gaze"][:, :2]
    return out


def _batch(values: dict[str, np.ndarray], size: int, markup: int, channels: Sequence[str], workers: int) -> FaceBatch:
    out = render_arrays(values, size, bool(channels), workers=workers)
    units = np.stack([values[name] for name in AU_NAMES], 1)
    valence, arousal = affect(units)
    keep = set(channels)
    if markup == 98:
        landmarks, landmarks_3d, visible = out["landmarks"], out["landmarks_3d"], out["visible"]
    else:
        matrix = conversion(98, markup).astype(np.float32)
        landmarks, landmarks_3d = matrix @ out["landmarks"], matrix @ out["landmarks_3d"]
        visible = (out["visible"] @ matrix.T) > 0.5
    return FaceBatch(
        images=out["images"],
        landmarks=landmarks,
        identity=values["identity"],
        landmarks_3d=landmarks_3d,
        visible=visible,
        yaw=values["yaw"],
        pitch=values["pitch"],
        roll=values["roll"],
        gaze=out["gaze"],
        gaze_point=out["gaze_point"],
        action_units=units,
        expression=values["expression"].astype(np.int64),
        valence=valence,
        arousal=arousal,
        **{name: out[name] if name in keep else None for name in CHANNELS},
        light=light_direction(values),
        names=tuple(f"seed {s} face {i}" for s, i in zip(values["seed"], values["index"], strict=True)),
        factors=values,
    )


def _check_size(size: int) -> int:
    if size != int(size) or not 8 <= size <= 2048:
        raise ValueError(f"size = {size}: images can have 8 to 2048 whole pixels a side.")
    return int(size)


def _wanted(channels: str | Sequence[str]) -> tuple[str, ...]:
    if channels == "all":
        return CHANNELS
    channels = (channels,) if isinstance(channels, str) else tuple(channels)
    for name in channels:
        if name not in CHANNELS:
            raise ValueError(f"There is no channel {name!r}; choose from {list(CHANNELS)}, or 'all'.")
    return channels


def render(
    n: int,
    seed: int = 0,
    size: int = 64,
    *,
    start: int = 0,
    markup: int = 68,
    channels: str | Sequence[str] = "all",
    label_noise: float = 0.0,
    balance: str | None = None,
    workers: int = 1,
    **factors: object,
) -> FaceBatch:
    """Renders items start .. start + n - 1 of a seed.

    Args:
        n: number of faces.
        size: pixels a side.
        markup: number of landmarks: 5, 19, 29, 68 or 98.
        channels: which images of truth to fill (see `CHANNELS`); () is fastest.
        label_noise: share of the faces whose `expression` label is replaced by another class (labels only).
        balance: a factor with choices, e.g. "expression": its classes take turns by index instead of being drawn.
        workers: threads; changes nothing but the speed.
        factors: any of `FACTORS`, or `identity`: a number or choice (fixed), a (low, high) tuple (sampled uniformly),
            a tuple of choices (sampled), or one value per face (swept).

    Raises:
        ValueError: an unknown factor, channel, mark-up or choice, or a value out of range; the message says what is allowed.
    """
    size, wanted = _check_size(size), _wanted(channels)
    find_markup(markup)
    if workers < 1:
        raise ValueError(f"workers = {workers}: give the number of threads, 1 or more.")
    if not 0 <= label_noise <= 1:
        raise ValueError(f"label_noise = {label_noise} is no share; give 0 to 1.")
    if balance is not None:
        if balance not in FACTORS or not FACTORS[balance].choices:
            raise ValueError(f"balance = {balance!r}: choose one of {[f.name for f in FACTORS.values() if f.choices]}.")
        if balance in factors:
            raise ValueError(f"{balance} is both balanced and given; drop one of the two.")
        factors = {**factors, balance: np.arange(start, start + n) % len(FACTORS[balance].choices)}
    values = sample(n, seed, start, **factors)
    batch = _batch(values, size, markup, wanted, workers)
    if label_noise > 0:
        wrong = hashed(values["seed"], values["index"], "label noise") < label_noise
        other = 1 + (hashed(values["seed"], values["index"], "wrong label") * (len(EXPRESSIONS) - 1)).astype(int)
        noisy = np.where(wrong, (batch.expression + other) % len(EXPRESSIONS), batch.expression)
        batch = replace(batch, expression=noisy)
    return batch


def check_rendered(batch: FaceBatch) -> None:
    if "crop_scale" not in batch.factors:
        raise ValueError("These faces carry no factors, so facelab.worlds.faces did not render them; only rendered faces can be changed.")


def change(batch: FaceBatch, *, size: int | None = None, markup: int | None = None, **factors: object) -> FaceBatch:
    """The same faces with only the given factors changed and all else, noise and crop included, as it was.

    Changing `expression` or `intensity` draws the action units anew with the same random numbers; changing `identity`
    draws that person's shape and appearance; changing a `framing_*` factor lets the crop follow.

    Raises:
        ValueError: the batch was not rendered by this world, or as `render`.
    """
    check_rendered(batch)
    for name in factors:
        check_name(name)
    dropped = set(CROP if any(name.startswith("framing") for name in factors) else ())
    if {"expression", "intensity", "talking"} & set(factors):
        dropped |= set(AU_NAMES)
    if "identity" in factors:
        dropped |= set(PERSON)
    kept = {k: v for k, v in batch.factors.items() if k not in dropped and k not in ("seed", "index", *CROP)}
    values = draw(batch.factors["seed"], batch.factors["index"], {**kept, **factors})
    if not dropped & set(CROP):
        values |= {name: batch.factors[name] for name in CROP}
    wanted = tuple(name for name in CHANNELS if getattr(batch, name) is not None)
    size = _check_size(batch.images.shape[1] if size is None else size)
    return _batch(values, size, batch.markup.size if markup is None else markup, wanted, 1)


def project(batch: FaceBatch, points: Float[np.ndarray, "B K 3"] | None = None) -> Float[np.ndarray, "B K 2"]:
    """Pixel coordinates of points given in head space (by default the batch's own `landmarks_3d`).

    Raises:
        ValueError: the batch was not rendered by this world.
    """
    check_rendered(batch)
    points = batch.landmarks_3d if points is None else points
    f = batch.factors
    turned = np.einsum("nij,nkj->nki", geometry.rotation(f["yaw"], f["pitch"], f["roll"]), points - geometry.PIVOT)
    depth = f["camera_distance"][:, None] - turned[..., 2]
    x = f["crop_x"][:, None] + f["crop_scale"][:, None] * turned[..., 0] / depth
    y = f["crop_y"][:, None] - f["crop_scale"][:, None] * turned[..., 1] / depth
    return batch.images.shape[1] * np.stack([x, y], -1) - 0.5


_NEGATED = ("yaw", "roll", "body_turn", "gaze_yaw", "light_azimuth", "asymmetry", "skew", "patch_x", "framing_x")


def mirror(factors: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Factors of the mirror image: rendering them gives the flipped picture (landmarks flip with `markup.flip`)."""
    values = dict(factors)
    for name in _NEGATED:
        values[name] = -values[name]
    values["lid_right"], values["lid_left"] = factors["lid_left"], factors["lid_right"]
    values["hand"] = np.array([0.0, 2.0, 1.0])[factors["hand"].astype(int)]
    values["mirrored"] = 1.0 - factors["mirrored"]
    if "crop_x" in values:
        values["crop_x"] = 1.0 - values["crop_x"]
    return values


def from_factors(factors: Mapping[str, np.ndarray], size: int = 64, markup: int = 68, channels: str | Sequence[str] = "all") -> FaceBatch:
    """Renders complete factors, such as those of `sample`, `mirror` or a batch (with the crop, if they hold one)."""
    return _batch(dict(factors), _check_size(size), markup, _wanted(channels), 1)

"""From annotated photographs to a batch: decode, check, crop, count what could not be used, remember the result."""

import hashlib
import os
import tempfile
import warnings
import zipfile
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float, UInt8
from PIL import Image

from facelab.batch import FaceBatch
from facelab.datasets import catalogue
from facelab.datasets.cropping import WIDEN, bounding_box, crop_face
from facelab.markups import convert

OUTSIDE_LIMIT = 0.25
"""Landmarks may leave the picture by this share of their box's longer side (a chin below the frame); further is a fault."""
_CACHE_VERSION = 2
_TOO_LARGE = (Image.DecompressionBombError, Image.DecompressionBombWarning, MemoryError)


@dataclass(frozen=True)
class Annotation:
    """One annotated face.

    Attributes:
        file: the photograph.
        landmarks: (x, y) in pixels of the photograph.
        name: names the face within its data set.
        person: who it is; the name again where nobody knows.
        box: (left, top, right, bottom) that the annotators or a detector drew, pixels.
        flags: what else is said of it, such as "occlusion".
        fault: why the annotation cannot be used; empty if it can.
        visible: which landmarks are not hidden, where annotators said so.
        pose: yaw, pitch and roll in degrees, with the signs of `FaceBatch`.
        gaze: unit line of sight in the camera space of `FaceBatch`.
        pixels: the photograph, where a data set keeps it in a table; `file` is then that table.
    """

    file: Path
    landmarks: Float[np.ndarray, "K 2"]
    name: str
    person: str
    box: Float[np.ndarray, "4"] | None = None
    flags: frozenset[str] = frozenset()
    fault: str = ""
    visible: Bool[np.ndarray, " K"] | None = None
    pose: Float[np.ndarray, "3"] | None = None
    gaze: Float[np.ndarray, "3"] | None = None
    pixels: UInt8[np.ndarray, "H W 3"] | None = None


class SkippedFaces(UserWarning):
    """Some annotated faces could not be used; the message counts and names them."""


def read_image(file: Path) -> UInt8[np.ndarray, "H W 3"]:
    """A photograph as RGB, whatever its format says and its name pretends; transparency is dropped, 16 bits become 8.

    Raises:
        FileNotFoundError: there is no such file.
        PermissionError: it may not be read.
        ValueError: the file is not an image, is truncated, has other pixels than 8 or 16 bits, or too many for the memory.
    """
    try:
        with Image.open(file) as image:
            return np.array(to_rgb(image))
    except FileNotFoundError:
        raise FileNotFoundError(f"There is no image {file}.") from None
    except PermissionError:
        raise PermissionError(f"The image {file} may not be read; change its permissions.") from None
    except _TOO_LARGE as error:
        raise ValueError(f"The image {file} is too large to be decoded ({error}); shrink it together with its landmarks.") from error
    except Exception as error:  # Pillow raises nearly anything for broken files
        raise ValueError(f"The image {file} cannot be decoded ({error}); fetch it again.") from error


def to_rgb(image: Image.Image) -> Image.Image:
    """A picture of any mode in 8 bits per colour.

    Raises:
        ValueError: its pixels are other numbers than whole ones of 8 or 16 bits.
    """
    if image.mode in ("I", "F"):
        raise ValueError("its pixels are no whole numbers of 8 or 16 bits")
    if image.mode.startswith("I;16"):  # Pillow would cut off whatever exceeds 255
        image = Image.fromarray((np.array(image) >> 8).astype(np.uint8))
    return image.convert("RGB")


def read_text(file: Path) -> str:
    """A list or table as text, without the byte-order mark that some editors put before it.

    Raises:
        ValueError: it is not written in UTF-8.
    """
    try:
        return file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{file} is no text in UTF-8 ({error}); save it in this encoding.") from error


def _problem(image: np.ndarray, landmarks: np.ndarray) -> str:
    if not np.isfinite(landmarks).all():
        return "landmarks are not numbers"
    left, top, right, bottom = bounding_box(landmarks)
    side = max(right - left, bottom - top)
    if side < 2:
        return "all landmarks in one place"
    height, width = image.shape[:2]
    if max(-0.5 - left, -0.5 - top, right - width + 0.5, bottom - height + 0.5) > OUTSIDE_LIMIT * side:
        return "landmarks outside the image"
    return ""


def crop_all(annotations: Iterable[Annotation], size: int = 64, widen: float = WIDEN) -> tuple[FaceBatch, list[str]]:
    """The faces that can be used, cropped, and one line for each that cannot.

    Identity is the rank of the person's name among all the names annotated.

    Raises:
        ValueError: there is no annotation, none can be used, or `size` or `widen` is not positive.
    """
    annotations = list(annotations)
    people = sorted({annotation.person for annotation in annotations})
    images, landmarks, used, problems = [], [], [], []
    image, file = np.zeros((0, 0, 3), np.uint8), None
    for annotation in annotations:
        try:
            if annotation.pixels is not None:
                image, file = annotation.pixels, None
            elif annotation.file != file:  # a photograph may hold several faces, and their annotations follow each other
                image, file = read_image(annotation.file), annotation.file
            problem = annotation.fault or _problem(image, annotation.landmarks)
        except FileNotFoundError:
            problem = "image missing"
        except PermissionError:
            problem = "image may not be read"
        except ValueError as error:
            problem = "image too large" if isinstance(error.__cause__, _TOO_LARGE) else "image corrupt or truncated"
        if problem:
            problems.append(f"{annotation.name}: {problem}")
            continue
        framing = convert(annotation.landmarks, 68) if len(annotation.landmarks) > 68 else annotation.landmarks
        pixels, crop = crop_face(image, framing, size, widen)
        images.append(pixels)
        landmarks.append(crop.to_crop(annotation.landmarks))
        used.append(annotation)
    if not used:
        raise ValueError(f"None of {len(annotations)} annotated faces can be used: {'; '.join(problems[:3]) or 'there are none'}.")
    rank = {person: i for i, person in enumerate(people)}
    batch = FaceBatch(
        images=np.stack(images),
        landmarks=np.stack(landmarks).astype(np.float32),
        identity=np.array([rank[annotation.person] for annotation in used]),
        names=tuple(annotation.name for annotation in used),
    )
    return _with_truth(batch, annotations), problems


def _with_truth(batch: FaceBatch, annotations: Sequence[Annotation]) -> FaceBatch:
    """What is known of every face beside its landmarks; it is not kept with the crops, for it costs nothing to look up."""
    known = {annotation.name: annotation for annotation in annotations}
    used = [known[name] for name in batch.names]

    def together(field: str) -> np.ndarray | None:
        values = [getattr(annotation, field) for annotation in used]
        return None if any(value is None for value in values) else np.stack(values)

    pose = together("pose")
    yaw, pitch, roll = (None, None, None) if pose is None else pose.T
    return replace(batch, visible=together("visible"), gaze=together("gaze"), yaw=yaw, pitch=pitch, roll=roll)


def report(problems: Sequence[str], total: int, source: str) -> None:
    """One warning that counts the faces of `source` that were left out and names the first three; none if all are used."""
    if problems:
        more = ", ..." if len(problems) > 3 else ""
        first = ", ".join(problems[:3])
        warnings.warn(f"{len(problems)} of {total} faces of {source} skipped: {first}{more}.", SkippedFaces, stacklevel=4)


def cropped(annotations: Sequence[Annotation], size: int, widen: float, source: str) -> FaceBatch:
    """`crop_all`, remembered in the user's cache, with one counted warning for what was left out.

    The cached copy is used only while the annotations, the images' places, sizes and times of change, and the crop are the same.
    """
    file = catalogue.cache_folder() / "crops" / f"{source}_{size}_{_fingerprint(annotations, size, widen)}.npz"
    loaded = _load(file)
    if loaded is None:
        loaded = crop_all(annotations, size, widen)
        _save(file, *loaded)
    batch, problems = loaded
    batch = _with_truth(batch, annotations)
    report(problems, len(annotations), source)
    return batch


def _fingerprint(annotations: Sequence[Annotation], size: int, widen: float) -> str:
    digest = hashlib.sha256(f"{_CACHE_VERSION} {size} {widen}".encode())
    for annotation in annotations:
        state: tuple[int, ...] = ()
        with suppress(OSError):
            status = annotation.file.stat()
            state = (status.st_size, status.st_mtime_ns, status.st_ctime_ns)  # the last also tells a copy that kept the others
        place = os.path.realpath(annotation.file)
        digest.update(repr((annotation.name, annotation.person, annotation.fault, place, state)).encode(errors="surrogateescape"))
        digest.update(np.ascontiguousarray(annotation.landmarks).tobytes())
    return digest.hexdigest()[:16]


def _save(file: Path, batch: FaceBatch, problems: list[str]) -> None:
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=file.parent, suffix=".part", delete=False) as part:
            np.savez(
                part,
                images=batch.images,
                landmarks=batch.landmarks,
                identity=batch.identity,
                names=np.array(batch.names, dtype=str),
                problems=np.array(problems, dtype=str),
            )
        Path(part.name).replace(file)  # other processes see the whole file or none
    except OSError:  # a read-only home or a full disk costs time, not the result
        return


def _load(file: Path) -> tuple[FaceBatch, list[str]] | None:
    try:
        with np.load(file, allow_pickle=False) as arrays:
            batch = FaceBatch(
                images=arrays["images"],
                landmarks=arrays["landmarks"],
                identity=arrays["identity"],
                names=tuple(arrays["names"].tolist()),
            )
            return batch, arrays["problems"].tolist()
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):  # absent or corrupt: build it again
        return None

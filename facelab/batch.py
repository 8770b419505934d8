"""The batch type of every world and data set, and its fullest form, that of faces: images with whatever is known about them.

Pixel coordinates are (x, y), x to the right and y down, with the centre of the top-left pixel at (0, 0).
Head space is right-handed: x to the subject's left (image right), y up, z out of the face, in units of half a head width.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8

from facelab.markups import Markup, convert, markup

if TYPE_CHECKING:  # who only looks at images need not wait for it
    from torch import Tensor

AnyBatch = TypeVar("AnyBatch", bound="Batch")


@dataclass(frozen=True)
class Batch:
    """Images and their truth: `B` images of `H` x `W` pixels. Worlds and data sets add fields, None where a thing is not known.

    A field is an array with the samples on its first axis. A batch of one's own is a dataclass that inherits from this one:

        @dataclass(frozen=True)
        class Scans(Batch):
            labels: Int[np.ndarray, " B"] | None = None

        scans = Scans(images, labels)
        fit(model, loss, scans.take(slice(0, 800)).tensors("labels"), steps=300)
    """

    images: UInt8[np.ndarray, "B H W *colours"]
    """sRGB with a last axis of three, or gray without; 0..255."""
    names: tuple[str, ...] = field(default=(), kw_only=True)
    """Where each sample comes from: a file name, or seed and index."""
    factors: dict[str, np.ndarray] = field(default_factory=dict, kw_only=True)
    """World only: the value of every factor, (B,) each; a world renders the same samples from it again."""

    def __post_init__(self) -> None:
        """Refuses images of another kind, which would turn out black or of other colours, and fields of other lengths."""
        shape, kind = tuple(self.images.shape), self.images.dtype
        if kind != np.uint8 or not (len(shape) == 3 or (len(shape) == 4 and shape[-1] == 3)):
            raise ValueError(f"images are {kind} of shape {shape}; give numpy's uint8, 0 to 255, (B,H,W,3) or (B,H,W) if gray.")
        for name, value in [(f.name, getattr(self, f.name)) for f in fields(self)]:
            if isinstance(value, np.ndarray) and len(value) != len(self):
                raise ValueError(f"{name} holds {len(value)} samples and images {len(self)}; every field has the same samples.")

    def __len__(self) -> int:
        return len(self.images)

    @property
    def groups(self) -> Int[np.ndarray, " B"] | None:
        """One number per sample, equal for those that belong together and are no independent evidence; None where nothing does.

        `facelab.claims.claim(..., groups=batch.groups)` resamples groups and not samples.
        """
        return None

    def known(self, name: str) -> np.ndarray:
        """The field `name`, for whoever cannot do without it.

        Raises:
            ValueError: the batch has no such field, or does not know it.
        """
        value = getattr(self, name, None)
        if not isinstance(value, np.ndarray):
            has = [f.name for f in fields(self) if isinstance(getattr(self, f.name), np.ndarray)]
            raise ValueError(f"This batch does not know {name}, but {', '.join(has)}; take samples of a world or data set that does.")
        return value

    def take(self: AnyBatch, index) -> AnyBatch:
        """The samples at `index` (anything numpy indexes a first axis with; an integer gives a batch of one)."""
        index = np.atleast_1d(np.arange(len(self))[index])

        def cut(value: Any) -> Any:
            if isinstance(value, dict):
                return {name: cut(entry) for name, entry in value.items()}
            if isinstance(value, list | tuple):
                return type(value)(value[i] for i in index) if value else value
            return value[index] if hasattr(value, "__getitem__") and not isinstance(value, str) else value

        return replace(self, **{f.name: cut(getattr(self, f.name)) for f in fields(self)})

    def gray(self) -> Float[np.ndarray, "B 1 H W"]:
        """Luminance (Rec. 601 weights), float32, 0..1: what the networks of the course take."""
        if self.images.ndim == 3:
            return (self.images / np.float32(255.0))[:, None]
        return (self.images @ np.array([0.299, 0.587, 0.114], dtype=np.float32) / 255.0).astype(np.float32)[:, None]

    def colour(self) -> Float[np.ndarray, "B 3 H W"]:
        """sRGB, float32, 0..1, channels first; a gray image has three equal ones."""
        if self.images.ndim == 3:
            return np.repeat(self.gray(), 3, axis=1)
        return np.ascontiguousarray(self.images.transpose(0, 3, 1, 2), dtype=np.float32) / 255.0

    def tensors(self, *names: str, colour: bool = False) -> "dict[str, Tensor]":
        """What a training needs, as tensors that `facelab.training` takes: the images, and the fields called `names`.

        Args:
            names: of fields, such as "labels" or "landmarks".
            colour: images (B,3,H,W) as `colour` gives them, not (B,1,H,W) as `gray` does.

        Returns:
            "images" and each name -> tensor of equal length; real numbers in single precision, whole ones as int64, as losses want
            them, and masks as bool.

        Raises:
            ValueError: one of the fields is not known or holds no numbers.
        """
        import torch

        def tensor(values: np.ndarray) -> "Tensor":
            kinds = {"f": torch.float32, "i": torch.int64, "u": torch.int64, "b": torch.bool}
            if values.dtype.kind not in kinds:
                raise ValueError(f"A field of {values.dtype} is no tensor; number what is in it first, or leave it out.")
            return torch.tensor(values, dtype=kinds[values.dtype.kind])

        images = self.colour() if colour else self.gray()
        return {"images": torch.from_numpy(images)} | {name: tensor(self.known(name)) for name in names}


@dataclass(frozen=True)
class FaceBatch(Batch):
    """Faces and their truth; a field is None where it is not known (photographs know little).

    `B` faces of `H` x `W` pixels with `K` landmarks.
    """

    images: UInt8[np.ndarray, "B H W 3"]
    """sRGB, 0..255."""
    landmarks: Float[np.ndarray, "B K 2"] | None = None
    """(x, y) in pixels; may lie outside the image."""
    identity: Int[np.ndarray, " B"] | None = None
    """Number of the person; equal numbers, same person (within one source)."""
    landmarks_3d: Float[np.ndarray, "B K 3"] | None = None
    """Head space, expression included, pose not."""
    visible: Bool[np.ndarray, "B K"] | None = None
    """Neither hidden by the face itself, nor by an occluder, nor outside the image; of an averaged landmark, most of its points."""
    yaw: Float[np.ndarray, " B"] | None = None
    """Degrees, -90..90; positive when the subject turns to their own left (image right)."""
    pitch: Float[np.ndarray, " B"] | None = None
    """Degrees; positive when the subject looks up."""
    roll: Float[np.ndarray, " B"] | None = None
    """Degrees; positive when the head tilts clockwise in the image."""
    gaze: Float[np.ndarray, "B 3"] | None = None
    """Unit vector of the line of sight in camera space (x right, y up, z towards the camera)."""
    gaze_point: Float[np.ndarray, "B 2"] | None = None
    """Where the line of sight meets the camera's plane, in half head widths: (x right, y up); NaN if it never does."""
    action_units: Float[np.ndarray, "B A"] | None = None
    """Intensity 0..1 of each unit of `facelab.worlds.faces.ACTION_UNITS`."""
    expression: Int[np.ndarray, " B"] | None = None
    """Index into `facelab.worlds.faces.EXPRESSIONS`."""
    valence: Float[np.ndarray, " B"] | None = None
    """-1..1."""
    arousal: Float[np.ndarray, " B"] | None = None
    """-1..1."""
    parts: UInt8[np.ndarray, "B H W"] | None = None
    """Index into `facelab.worlds.faces.PARTS`; 0 is the background."""
    occluder: Bool[np.ndarray, "B H W"] | None = None
    """True where something lies in front of the face."""
    depth: Float[np.ndarray, "B H W"] | None = None
    """Distance from the camera along its axis in half head widths; inf on the background."""
    normals: Float[np.ndarray, "B H W 3"] | None = None
    """Unit surface normals in camera space; zero on the background."""
    uv: Float[np.ndarray, "B H W 2"] | None = None
    """Surface coordinates 0..1 of what is seen, the same point of the head for every face; NaN elsewhere."""
    light: Float[np.ndarray, "B 3"] | None = None
    """Unit vector towards the main light, camera space."""

    @property
    def groups(self) -> Int[np.ndarray, " B"] | None:
        """The person: photographs of one person are no independent evidence."""
        return self.identity

    @property
    def markup(self) -> Markup:
        """The mark-up of `landmarks`.

        Raises:
            ValueError: the landmarks are not known.
        """
        return markup(self.known("landmarks").shape[1])

    def landmarks_in(self, size: int) -> Float[np.ndarray, "B size 2"]:
        """The landmarks in a coarser mark-up, pixels.

        Raises:
            ValueError: the landmarks are not known, or `size` cannot be computed from their mark-up.
        """
        return convert(self.known("landmarks"), size)

    color = Batch.colour


def concatenate(batches: Sequence[AnyBatch]) -> AnyBatch:
    """One batch of all samples; what any of the batches lacks becomes None, identities are kept apart by source.

    Factors are left behind, for those of two sources differ.

    Args:
        batches: of one type, with images and mark-ups of one size.

    Raises:
        ValueError: no batch, batches of several types, or images or mark-ups of different sizes.
    """
    if not batches:
        raise ValueError("There is nothing to concatenate: give at least one batch.")
    kinds = sorted({type(batch).__name__ for batch in batches})
    if len(kinds) > 1:
        raise ValueError(f"Batches of the types {' and '.join(kinds)} do not know the same things; concatenate batches of one type.")
    joined: dict[str, Any] = {}
    for name in (f.name for f in fields(batches[0]) if f.name != "factors"):
        values = [getattr(batch, name) for batch in batches]
        if name == "names":
            joined[name] = sum(values, ()) if all(values) else ()
        elif any(value is None for value in values):
            joined[name] = None
        elif len(shapes := {value.shape[1:] for value in values}) > 1:
            raise ValueError(f"Batches differ in image size or mark-up: {name} has {sorted(shapes)}; crop and convert them alike first.")
        else:
            if name == "identity":
                offsets = np.cumsum([0] + [int(value.max(initial=-1)) + 1 for value in values[:-1]])
                values = [value + offset for value, offset in zip(values, offsets, strict=True)]
            joined[name] = np.concatenate(values)
    return type(batches[0])(**joined)

"""The one batch type for faces, rendered or photographed: images with whatever is known about them.

Pixel coordinates are (x, y), x to the right and y down, with the centre of the top-left pixel at (0, 0).
Head space is right-handed: x to the subject's left (image right), y up, z out of the face, in units of half a head width.
"""

from dataclasses import dataclass, field, fields, replace

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8

from facelab.markups import Markup, convert, markup


@dataclass(frozen=True)
class FaceBatch:
    """Faces and their truth; a field is None where it is not known (photographs know little).

    `B` faces of `H` x `W` pixels with `K` landmarks.
    """

    images: UInt8[np.ndarray, "B H W 3"]
    """sRGB, 0..255."""
    landmarks: Float[np.ndarray, "B K 2"]
    """(x, y) in pixels; may lie outside the image."""
    identity: Int[np.ndarray, " B"]
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
    names: tuple[str, ...] = ()
    """Where each face comes from: a file name, or seed and index."""
    factors: dict[str, np.ndarray] = field(default_factory=dict)
    """World only: the value of every factor, (B,) each; `facelab.worlds.faces` renders the same faces from it again."""

    def __len__(self) -> int:
        return len(self.images)

    @property
    def markup(self) -> Markup:
        """The mark-up of `landmarks`."""
        return markup(self.landmarks.shape[1])

    def take(self, index) -> "FaceBatch":
        """The faces at `index` (anything numpy indexes a first axis with; an integer gives a batch of one)."""
        index = np.atleast_1d(np.arange(len(self))[index])

        def cut(value):
            return value[index] if isinstance(value, np.ndarray) else value

        changed = {f.name: cut(getattr(self, f.name)) for f in fields(self)}
        changed["names"] = tuple(self.names[i] for i in index) if self.names else ()
        changed["factors"] = {name: cut(value) for name, value in self.factors.items()}
        return replace(self, **changed)

    def landmarks_in(self, size: int) -> Float[np.ndarray, "B size 2"]:
        """The landmarks in a coarser mark-up, pixels.

        Raises:
            ValueError: `size` cannot be computed from this batch's mark-up.
        """
        return convert(self.landmarks, size)

    def gray(self) -> Float[np.ndarray, "B 1 H W"]:
        """Luminance (Rec. 601 weights), float32, 0..1: what the networks of the course take."""
        return (self.images @ np.array([0.299, 0.587, 0.114], dtype=np.float32) / 255.0).astype(np.float32)[:, None]

    def color(self) -> Float[np.ndarray, "B 3 H W"]:
        """sRGB, float32, 0..1, channels first."""
        return np.ascontiguousarray(self.images.transpose(0, 3, 1, 2), dtype=np.float32) / 255.0


def concatenate(batches: list[FaceBatch]) -> FaceBatch:
    """One batch of all faces; fields that any of the batches lacks become None, identities are kept apart by source.

    Raises:
        ValueError: no batch, or images or mark-ups of different sizes.
    """
    if not batches:
        raise ValueError("There is nothing to concatenate: give at least one batch.")
    shapes = {(b.images.shape[1:], b.landmarks.shape[1]) for b in batches}
    if len(shapes) > 1:
        raise ValueError(f"Batches differ in image size or mark-up: {sorted(shapes)}; crop and convert them alike first.")
    joined = {}
    for f in fields(FaceBatch):
        values = [getattr(b, f.name) for b in batches]
        if f.name not in ("names", "factors", "identity"):
            joined[f.name] = np.concatenate(values) if all(v is not None for v in values) else None
    offsets = np.cumsum([0] + [int(b.identity.max(initial=-1)) + 1 for b in batches[:-1]])
    joined["identity"] = np.concatenate([b.identity + offset for b, offset in zip(batches, offsets, strict=True)])
    joined["names"] = sum((b.names for b in batches), ()) if all(b.names for b in batches) else ()
    return FaceBatch(**joined)

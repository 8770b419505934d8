"""What a pose estimate opens and closes inside a cascade, beside the landmarks that come of it."""

import numpy as np
from jaxtyping import Float, UInt8
from matplotlib.axes import Axes

from facelab.pictures.faces import draw_face, draw_landmarks
from facelab.pictures.maps import draw_map
from facelab.pictures.style import ESTIMATE, GRAY, GREEN, TRUTH, Picture, bare, styled


def _angles(pose: Float[np.ndarray, " 3"]) -> str:
    return f"yaw {pose[0]:+.0f}°, pitch {pose[1]:+.0f}°, roll {pose[2]:+.0f}°"


@styled
def show_pose_gate(
    image: UInt8[np.ndarray, "H W 3"],
    poses: dict[str, Float[np.ndarray, " 3"]],
    gates: dict[str, Float[np.ndarray, " C"]],
    landmarks: dict[str, Float[np.ndarray, "K 2"]],
    passed: Float[np.ndarray, "h w"],
    truth: Float[np.ndarray, "K 2"],
    *,
    title: str = "face",
) -> Picture:
    """A face three times: with its landmarks, with what reaches the next stage, and the gates as dots on lines.

    Args:
        image: the face, which the told pose does not change.
        poses: "own" and "told" -> yaw, pitch and roll, degrees.
        gates: "own" and "told" -> how far each feature map is open, 0..1.
        landmarks: "own" and "told" -> landmarks of the last stage, pixels of the image.
        passed: mean strength of the features that reach the next stage under the told pose.
        truth: the true landmarks, pixels.
        title: name of the face.
    """
    picture = Picture(figsize=(10.6, 4.1))  # places by hand: a layout engine would draw everything twice
    face, region = picture.add_axes((0.005, 0.2, 0.28, 0.68)), picture.add_axes((0.3, 0.2, 0.28, 0.68))
    bars = picture.add_axes((0.65, 0.2, 0.34, 0.68))
    draw_face(face, image)
    face.set_title(f"{title}\nit says {_angles(poses['own'])}")
    for points, color in ((truth, TRUTH), (landmarks["own"], GREEN), (landmarks["told"], ESTIMATE)):
        draw_landmarks(face, points, color, size=2.6)
    _key(face, [("truth", TRUTH), ("stage 2, own pose", GREEN), ("stage 2, told pose", ESTIMATE)])
    draw_map(region, image, passed)
    bare(region, f"what reaches stage 2, told\n{_angles(poses['told'])}")
    rows = np.arange(len(gates["own"]))
    bars.hlines(rows, gates["own"], gates["told"], color=GRAY, linewidth=1)
    bars.plot(gates["own"], rows, "o", color=GREEN, markersize=5, label="own pose")
    bars.plot(gates["told"], rows, "D", color=ESTIMATE, markersize=5, label="told pose")
    bars.set(xlim=(-0.03, 1.03), ylim=(len(rows) - 0.4, -0.6), yticks=rows[::5], yticklabels=rows[::5] + 1)
    bars.set(xlabel="gate (0 closed, 1 open)", ylabel="feature map")
    bars.set_title("the channel gates of stage 1")
    bars.legend(loc="upper center", bbox_to_anchor=(0.5, -0.13), ncols=2)
    return picture


def _key(axes: Axes, entries: list[tuple[str, str]]) -> None:
    """Names in their colours under an image."""
    for number, (text, color) in enumerate(entries):
        axes.text(0.0, -0.05 - 0.075 * number, f"● {text}", color=color, transform=axes.transAxes, va="top", fontsize=8.5)

"""Rendered faces that know everything about themselves.

    batch = render(64, seed=0, size=64, yaw=(-45, 45), expression="happiness")
    smile = change(batch, au_12=1.0)

Every name in `FACTORS` (and `identity`) can be fixed (a number or the name of a choice), sampled uniformly (a tuple) or
swept (one value per face); what is not given is drawn from its default distribution. Item i of seed s is the same image
whatever the batch, the order or the number of workers.

Conventions. Landmarks are fixed points of the surface, moved by identity and action units. The exception is the contour
of the jaw, which follows 2D annotation habits (300-W): where the face itself hides a contour point, the point slides
along the surface towards the middle of the face until it lies on the visible outline; `landmarks_3d` holds the point
that is meant. The head turns about `geometry.PIVOT`, first pitch, then yaw, then roll; the camera looks from
`camera_distance` along z, and the crop is the box of the 68 landmarks x 1.3 (`framing_*` factors move it). `change` and
`clip` hold the camera and the crop still. `uv` is the azimuthal equidistant projection of the mean head about the middle
of the face, scaled to 0..1: (0.5, 0.5) in front, v upwards. A landmark is visible if the depth buffer shows nothing in
front of it at its pixel, no occluder covers the pixel, and it lies inside the image.

How it is made: a closed-form head (`template`) and the other meshes (`anatomy`), displacement fields of shape factors and
action units (`motion`), a matrix product per batch (`geometry`), and numba kernels (`rendering`, `shading`, `sensor`).
"""

from facelab.worlds.faces.anatomy import PARTS
from facelab.worlds.faces.expression import AFFECT, PROTOTYPES
from facelab.worlds.faces.factors import ACTION_UNITS, BACKGROUNDS, EXPRESSIONS, FACTORS, GLASSES, HAIR_STYLES, HANDS, MASKS, Factor
from facelab.worlds.faces.head_pose import angle_between, estimate_pose, mean_head
from facelab.worlds.faces.sequences import clip, correspondence
from facelab.worlds.faces.world import CHANNELS, change, from_factors, mirror, project, render, sample

__all__ = [
    *("ACTION_UNITS", "AFFECT", "BACKGROUNDS", "CHANNELS", "EXPRESSIONS", "FACTORS", "GLASSES", "HAIR_STYLES", "HANDS", "MASKS"),
    *(
        "PARTS",
        "PROTOTYPES",
        "Factor",
        "angle_between",
        "change",
        "clip",
        "correspondence",
        "estimate_pose",
        "from_factors",
        "mean_head",
        "mirror",
    ),
    *("project", "render", "sample"),
]

"""How THIN is wired, and what one digit makes of the code of another."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, UInt8

from facelab.pictures.lettering import write
from facelab.pictures.style import BLUE, GRAY, GREEN, ORANGE, Picture, bare, styled
from facelab.pictures.trees import draw_leaf_bars, draw_tree, label_bars
from facelab.pictures.wiring import EDGE, _Sheet


@styled
def draw_thin(experts: int = 3) -> Picture:
    """Two encoders, a tree on the code of one that weighs experts on the code of the other, and the head that reads both.

    Args:
        experts: how many are drawn.
    """
    sheet = _Sheet(8.6, 3.1, "What should not decide the answer chooses who gives it")
    sheet.box(0.6, 1.5, "image", "image", 0.8)
    places = {"v": sheet.box(2.15, 0.75, "encoder ψ", "scores", 1.1), "z": sheet.box(2.15, 2.25, "encoder φ", "features", 1.1)}
    for _, y, _, _ in places.values():
        sheet.line((1.0, 1.5), (1.3, 1.5), (1.3, y), (1.58, y))
    codes = {
        name: sheet.box(3.45, box[1], name, places_kind, 0.45)
        for (name, box), places_kind in zip(places.items(), ("scores", "features"), strict=True)
    }
    for name, code in codes.items():
        sheet.right(places[name], code)
    tree = sheet.box(4.9, 0.75, "tree", "scores", 0.8)
    sheet.right(codes["v"], tree)
    total = sheet.node(6.5, 2.0, "Σ")
    for y in np.linspace(1.6, 2.4, experts):
        sheet.box(4.9, y, "expert", "maps", 0.95, 0.3)
        sheet.line((3.68, 2.25), (4.1, 2.25), (4.1, y), (4.41, y))
        sheet.line((5.38, y), (5.7, y), (6.36, 2.0 + 0.1 * (y - 2.0)), color=EDGE["maps"])
    sheet.line((5.3, 0.75), (6.5, 0.75), (6.5, 1.86), color=ORANGE)
    sheet.say(6.58, 1.1, "weights μ", color=ORANGE)
    sheet.right(total, sheet.box(7.55, 2.0, "logits\nof the task", "maps", 1.1, 0.5))
    head = sheet.box(3.45, 1.5, "head ρ", "scores", 0.8, 0.36)
    sheet.vertical(codes["v"], head)
    sheet.vertical(codes["z"], head)
    sheet.say(2.98, 1.5, "both readings\northogonal", align="right")
    sheet.say(
        0.2,
        2.85,
        "ψ and ρ are trained first, on the exogenous label, then frozen; the task teaches φ, tree and experts, dispelling teaches φ alone",
        size=7.5,
    )
    return sheet.picture


@styled
def show_routed_digit(
    images: Sequence[UInt8[np.ndarray, "H W 3"]],
    reach: Sequence[Float[np.ndarray, " all_nodes"]],
    probabilities: Sequence[Float[np.ndarray, " C"]],
    titles: tuple[str, str],
    truth: int,
) -> Picture:
    """A digit, the image whose code steers the tree, the flow through the tree, and the answers with the own code and with that one.

    Args:
        images: what the experts see, and whose code the tree gets.
        reach: probability to reach every node, leaves included, heap order: with the own code, and with the given one.
        probabilities: of the classes, with the own code and with the given one.
        titles: of the two images.
        truth: the right class.
    """
    picture = Picture(figsize=(10.6, 4.2))  # places by hand: a layout engine would draw everything twice
    for row, (image, title) in enumerate(zip(images, titles, strict=True)):
        axes = picture.add_axes((0.01, 0.53 - 0.5 * row, 0.17, 0.36))
        axes.imshow(image, interpolation="nearest")
        bare(axes, title)
    wide, tall = 4.6, 3.9
    sheet = picture.add_axes((0.19, 0.03, wide / 10.6, tall / 4.2), xlim=(0, wide), ylim=(tall, 0))
    sheet.set_axis_off()
    leaves = (len(reach[0]) + 1) // 2
    box = (0.5, 0.55, wide - 0.6, 1.75)
    draw_tree(sheet, reach[1], box)
    hang = (box[0], box[1] + box[3] + 0.15, box[2], 1.0)
    full = draw_leaf_bars(sheet, reach[1][leaves - 1 :], hang, reach[0][leaves - 1 :])
    label_bars(sheet, hang, full, leaves)
    write(sheet, 0.1, 0.12, "the tree with the given code; black, the leaves with the own code", size=9)
    bars = picture.add_axes((0.69, 0.13, 0.3, 0.72))
    rows = np.arange(len(probabilities[0]))
    for values, shift, color, label in ((probabilities[0], -0.2, GREEN, "own code"), (probabilities[1], 0.2, ORANGE, "given code")):
        bars.hlines(rows + shift, 0, values, color=color, linewidth=8, capstyle="butt", label=label)  # faster than patches
    bars.axhspan(truth - 0.48, truth + 0.48, color=BLUE, alpha=0.3, linewidth=0)
    bars.set(xlim=(0, 1), ylim=(len(rows) - 0.4, -0.6), yticks=rows, xlabel="probability", ylabel="answer")
    bars.set_title("what the mixture says (shaded: the truth)", color=GRAY)
    bars.legend(loc="lower right")
    return picture

"""How the networks are wired, drawn by code."""

from collections.abc import Sequence

import numpy as np
from matplotlib.patches import FancyBboxPatch

from facelab.pictures.style import BLACK, BLUE, GRAY, GREEN, ORANGE, Picture, styled

FILL = {"image": "#eeeeee", "features": "#d6e6f2", "scores": "#fbe6bf", "maps": "#cdebe0"}
EDGE = {"image": GRAY, "features": BLUE, "scores": ORANGE, "maps": GREEN}
Box = tuple[float, float, float, float]
"""Centre (x, y), width and height in inches."""
STEP = 0.78


class _Sheet:
    """A drawing in inches, y downwards: boxes, and arrows between them."""

    def __init__(self, width: float, height: float, title: str):
        self.picture = Picture(figsize=(width, height))
        self.axes = self.picture.add_axes((0, 0, 1, 1))
        self.axes.set(xlim=(0, width), ylim=(height, 0))
        self.axes.set_axis_off()
        self.say(0.1, 0.16, title, size=9.5, color=BLACK)

    def say(self, x: float, y: float, text: str, size: float = 7.5, color: str = GRAY, align: str = "left") -> None:
        self.axes.text(x, y, text, fontsize=size, color=color, va="center", ha=align, linespacing=1.15)

    def box(self, x: float, y: float, text: str, kind: str, width: float, height: float = 0.42) -> Box:
        shape = "round,pad=0,rounding_size=0.06"
        corner = (x - width / 2, y - height / 2)
        self.axes.add_patch(
            FancyBboxPatch(corner, width, height, boxstyle=shape, facecolor=FILL[kind], edgecolor=EDGE[kind], linewidth=1.1)
        )
        self.say(x, y, text, size=8, color=BLACK, align="center")
        return x, y, width, height

    def node(self, x: float, y: float, text: str) -> Box:
        self.axes.plot(x, y, "o", markersize=17, markerfacecolor="white", markeredgecolor=BLACK, markeredgewidth=1.1)
        self.say(x, y, text, size=10, color=BLACK, align="center")
        return x, y, 0.28, 0.28

    def line(self, *points: tuple[float, float], color: str = BLACK) -> None:
        """A line through the points, with an arrow head at the last."""
        self.axes.plot(*np.array(points[:-1]).T, color=color, linewidth=1.1, solid_joinstyle="round")
        arrow = {"arrowstyle": "-|>", "color": color, "linewidth": 1.1, "shrinkA": 0, "shrinkB": 1}
        self.axes.annotate("", points[-1], points[-2], arrowprops=arrow)

    def right(self, source: Box, target: Box) -> None:
        """From the right side of one box to the left side of another."""
        self.line((source[0] + source[2] / 2, source[1]), (target[0] - target[2] / 2, target[1]))

    def vertical(self, source: Box, target: Box) -> None:
        """From the top or bottom of one box to the other above or below it."""
        down = np.sign(target[1] - source[1])
        self.line((source[0], source[1] + down * source[3] / 2), (target[0], target[1] - down * target[3] / 2))


def _encoder(sheet: _Sheet, branches: int, size: int) -> list[Box]:
    """The image and the encoder's levels, finest on top."""
    image = sheet.box(0.65, 0.65, f"image\n{size}×{size}", "image", 0.95)
    levels: list[Box] = []
    for level in range(branches):
        y = 0.65 + level * STEP
        here = sheet.box(2.35, y, f"features {size >> level}×{size >> level}", "features", 1.55)
        if levels:
            sheet.vertical(levels[-1], here)
            sheet.say(2.43, y - STEP / 2, "max-pool, ÷2")
        else:
            sheet.right(image, here)
        levels.append(here)
    return levels


@styled
def draw_sumnet(branches: int = 4, size: int = 64, landmarks: int = 5) -> Picture:
    """SumNet: every level votes with its own score maps, and the votes are added up."""
    sheet = _Sheet(8.6, branches * STEP + 0.35, "SumNet: each level scores on its own, and the scores are added")
    levels = _encoder(sheet, branches, size)
    middle = (levels[0][1] + levels[-1][1]) / 2
    total = sheet.node(6.55, middle, "+")
    for level, here in enumerate(levels):
        scores = sheet.box(4.25, here[1], f"scores, {landmarks} maps", "scores", 1.3)
        sheet.right(here, scores)
        text = f"× ω{'₁₂₃₄₅₆₇₈'[level]}" + (f", up ×{1 << level}" if level else "")
        sheet.say(5.0, here[1] - 0.12, text)
        edge = 5.75, here[1]
        sheet.line((4.9, here[1]), edge, (total[0] - 0.16, middle + (level - (branches - 1) / 2) * 0.06))
    answer = sheet.box(7.75, middle, f"softmax over\npixels, {size}×{size}", "maps", 1.3, 0.52)
    sheet.right(total, answer)
    return sheet.picture


@styled
def draw_rcn(branches: int = 4, size: int = 64, landmarks: int = 5) -> Picture:
    """RCN: coarse features are brought up and concatenated with finer ones, level by level, before anything is scored."""
    sheet = _Sheet(
        8.6, branches * STEP + 0.35, "RCN: coarse features come up and are concatenated with finer ones; only the last are scored"
    )
    levels = _encoder(sheet, branches, size)
    below = sheet.box(5.2, levels[-1][1], "convolution", "features", 1.75)
    sheet.right(levels[-1], below)
    for here in reversed(levels[:-1]):
        joined = sheet.box(5.2, here[1], "concatenate, convolve", "features", 1.75)
        sheet.right(here, joined)
        sheet.vertical(below, joined)
        sheet.say(5.28, here[1] + STEP / 2, "up ×2")
        below = joined
    scores = sheet.box(7.6, levels[0][1], f"scores, {landmarks} maps", "scores", 1.3)
    answer = sheet.box(7.6, levels[0][1] + STEP + 0.05, f"softmax over\npixels, {size}×{size}", "maps", 1.3, 0.52)
    sheet.right(below, scores)
    sheet.vertical(scores, answer)
    return sheet.picture


@styled
def draw_decafa(stages: int = 3, markups: Sequence[int] = (68, 29, 19, 5), fusion: str = "deep") -> Picture:
    """DeCaFA: U-Nets in a row; chained transfer layers turn features into maps, and the maps tell the next stage where to look.

    Args:
        stages: number of U-Nets.
        markups: numbers of landmarks along the chain.
        fusion: "deep" attention x features, "mask" attention x image, "none" the maps themselves.
    """
    gap = 2.6
    sheet = _Sheet(0.9 + gap * stages, 1.6 + 0.6 * len(markups), "DeCaFA: every stage looks where the one before it found something")
    image = sheet.box(0.55, 1.0, "image", "image", 0.7)
    entry: Box = image
    for stage in range(stages):
        x = 1.85 + gap * stage
        net = sheet.box(x, 1.0, f"U-Net {stage + 1}", "features", 0.95)
        sheet.right(entry, net)
        if stage:
            sheet.line((0.55, 0.79), (0.55, 0.5), (x, 0.5), (x, 0.79), color=GRAY)
        source = net
        for row, size in enumerate(markups):
            maps = sheet.box(x, 1.65 + 0.6 * row, f"{size} maps", "maps", 0.95, 0.34)
            sheet.vertical(source, maps)
            sheet.say(x + 0.08, (source[1] + source[3] / 2 + maps[1] - maps[3] / 2) / 2, f"A{stage + 1},{row + 1}", size=7)
            source = maps
        if stage < stages - 1:
            entry = sheet.node(x + 1.35, 1.0, "×" if fusion != "none" else "‖")
            if fusion == "deep":
                sheet.right(net, entry)
                sheet.say(x + 0.85, 0.89, "features", size=7, align="center")
            elif fusion == "mask":
                sheet.line((x + 1.35, 0.5), (x + 1.35, 0.84), color=GRAY)
            sheet.line((x + 0.48, 1.65), (x + 1.35, 1.65), (x + 1.35, 1.16), color=GREEN)
            sheet.say(x + 1.42, 1.45, "sum says\nwhere to\nlook", size=7, color=GREEN)
    sheet.say(0.62, 0.4, "the image again" if stages > 1 else "", size=7)
    return sheet.picture


@styled
def draw_acdc(stages: int = 2) -> Picture:
    """AC-DC: every stage says landmarks and pose; the pose opens feature maps, the landmarks open regions, for the next stage.

    Args:
        stages: number of U-Nets.
    """
    gap = 3.5
    sheet = _Sheet(3.05 + gap * (stages - 1), 3.1, "AC-DC: the pose says which feature maps, the landmarks say which regions")
    image = sheet.box(0.55, 1.5, "image", "image", 0.7)
    entry: Box = image
    for stage in range(stages):
        x = 1.9 + gap * stage
        net = sheet.box(x, 1.5, f"U-Net {stage + 1}", "features", 0.95)
        sheet.right(entry, net)
        if stage:
            sheet.line((0.55, 1.29), (0.55, 0.42), (x - 0.3, 0.42), (x - 0.3, 1.29), color=GRAY)
        pose = sheet.box(x + 0.2, 0.85, "pose", "scores", 0.75, 0.36)
        maps = sheet.box(x + 0.2, 2.25, "landmark maps", "maps", 1.25, 0.36)
        sheet.line((x + 0.2, 1.29), (x + 0.2, 1.03))
        sheet.line((x + 0.2, 1.71), (x + 0.2, 2.07))
        if stage == stages - 1:
            continue
        gate, region = sheet.node(x + 1.35, 1.5, "×"), sheet.node(x + 2.15, 1.5, "×")
        sheet.right(net, gate)
        sheet.right(gate, region)
        sheet.line((pose[0] + 0.375, 0.85), (x + 1.35, 0.85), (x + 1.35, 1.36), color=ORANGE)
        sheet.line((maps[0] + 0.625, 2.25), (x + 2.15, 2.25), (x + 2.15, 1.64), color=GREEN)
        sheet.say(x + 1.43, 1.0, "gates g:\nwhich maps", size=7, color=ORANGE)
        sheet.say(x + 1.2, 2.5, "attention m: which regions", size=7, color=GREEN)
        entry = region
    sheet.say(0.62, 0.33, "the image again" if stages > 1 else "", size=7)
    sheet.say(0.1, 2.9, "Errors of stage 2 travel back through both gates, so that each task also teaches the other.", size=7.5)
    return sheet.picture


@styled
def draw_regressor_ensemble(regressors: int = 4) -> Picture:
    """A tree-gated ensemble: one trunk, small regressors that read it, and a tree over it that says whom to believe.

    Args:
        regressors: how many are drawn.
    """
    sheet = _Sheet(6.6, 2.9, "One trunk, several small regressors, and a tree that says how much to believe each")
    features = sheet.box(0.7, 1.6, "features", "image", 0.95)
    trunk = sheet.box(2.0, 1.6, "trunk", "features", 0.8)
    sheet.right(features, trunk)
    total = sheet.node(5.1, 1.6, "Σ")
    sheet.box(3.5, 0.65, "tree of gates", "scores", 1.2, 0.36)
    sheet.line((2.0, 1.39), (2.0, 0.65), (2.9, 0.65))
    sheet.line((4.1, 0.65), (5.1, 0.65), (5.1, 1.46), color=ORANGE)
    sheet.say(5.18, 1.0, "weights μ,\nsum one", size=7, color=ORANGE)
    for y in np.linspace(1.2, 2.6, regressors):
        sheet.box(3.5, y, "regressor", "maps", 1.0, 0.32)
        sheet.line((2.4, 1.6), (2.65, 1.6), (2.65, y), (3.0, y))
        sheet.line((4.0, y), (4.5, y), (4.96, 1.6 + 0.1 * (y - 1.9)), color=GREEN)
    step = sheet.box(6.05, 1.6, "step", "maps", 0.75)
    sheet.right(total, step)
    return sheet.picture


def draw_gated_stage(feature_experts: int = 3, regressors: int = 3) -> Picture:
    """A stage of a cascade with two mixtures: the pose weighs the extractors, the features weigh the regressors.

    Args:
        feature_experts, regressors: how many of each are drawn.
    """
    sheet = _Sheet(8.6, 2.9, "The pose says whose features count, the features say whose step counts")
    middle = 1.6
    patches = sheet.box(0.65, middle, "patches", "image", 0.85)
    source = patches
    for x, word, count, given, letter, kind in (
        (2.4, "extractor", feature_experts, "pose of the face", "μ", "features"),
        (5.75, "regressor", regressors, "features", "ν", "maps"),
    ):
        total = sheet.node(x + 1.3, middle, "Σ")
        begin, join = source[0] + source[2] / 2, x + 0.8
        for y in np.linspace(1.2, 2.5, count):
            sheet.box(x, y, word, kind, 0.95, 0.32)
            sheet.line((begin, middle), (x - 0.75, middle), (x - 0.75, y), (x - 0.48, y))
            sheet.line((x + 0.48, y), (join, y), (x + 1.16, middle + 0.1 * (y - middle)), color=EDGE[kind])
        tree = sheet.box(x, 0.6, "tree", "scores", 0.7, 0.36)
        sheet.line((x + 0.35, 0.6), (x + 1.3, 0.6), (x + 1.3, middle - 0.14), color=ORANGE)
        sheet.say(x + 1.38, 0.95, f"weights {letter}", size=7, color=ORANGE)
        if given == "features":
            sheet.line((source[0], middle - 0.21), (source[0], 0.6), (x - 0.35, 0.6))
        else:
            sheet.right(sheet.box(0.85, 0.6, given, "image", 1.3, 0.36), tree)
        source = sheet.box(x + 2.0, middle, "features" if word == "extractor" else "step", kind, 0.75)
        sheet.right(total, source)
    return sheet.picture

"""A drawing of the planted table: which columns decide, and which layers are heard."""

from matplotlib.axes import Axes

from facelab.pictures.style import BLUE, GRAY, GREEN, ORANGE, PINK, Picture, bare, new_picture, styled


@styled
def draw_planted_table(columns: int = 12, width: float = 8.5) -> Picture:
    """Columns, a stem, three branches of which one is multiplied by zero, and the classifier; the colour says who matters.

    Args:
        columns: of the table, a quarter of which decide and a quarter of which are shadows.
        width: inches.
    """
    picture, grid = new_picture(width, 3.1)
    axes = bare(grid[0, 0])
    axes.set(xlim=(0, 12.3), ylim=(-0.3, 6))
    quarter = columns // 4
    kinds = (
        (f"{quarter} columns decide", GREEN, 5),
        (f"{quarter} shadows of them", PINK, 3),
        (f"{columns - 2 * quarter} columns of noise", GRAY, 1),
    )
    for text, color, height in kinds:
        _box(axes, 0.1, height, 2.4, text, color)
        _arrow(axes, (2.5, height), (3.2, 3))
    _box(axes, 3.2, 3, 1.5, "stem", BLUE)
    for text, color, height in (("twin a", ORANGE, 5), ("twin b", ORANGE, 3), ("unheard", GRAY, 1)):
        _box(axes, 5.6, height, 1.6, text, color)
        _arrow(axes, (4.7, 3), (5.6, height))
    _box(axes, 7.8, 1, 1.2, "gate ×0", GRAY)
    _arrow(axes, (7.2, 1), (7.8, 1))
    for start in ((7.2, 5), (7.2, 3), (9.0, 1)):
        _arrow(axes, start, (9.7, 3))
    axes.text(9.85, 3, "+", ha="center", va="center", fontsize=15)
    _arrow(axes, (10.0, 3), (10.4, 3))
    _box(axes, 10.4, 3, 1.8, "classifier", BLUE)
    axes.text(3.95, 1.9, "critical", ha="center", color=BLUE)
    axes.text(6.4, 3.85, "either can go", ha="center", color=ORANGE)
    axes.text(7.4, -0.05, "nobody hears them", ha="center", color=GRAY)
    return picture


def _box(axes: Axes, left: float, middle: float, width: float, text: str, color: str) -> None:
    axes.bar(left + width / 2, 1.1, width, bottom=middle - 0.55, color="white", edgecolor=color, linewidth=2)
    axes.text(left + width / 2, middle, text, ha="center", va="center", fontsize=9)


def _arrow(axes: Axes, start: tuple[float, float], end: tuple[float, float]) -> None:
    axes.annotate("", xy=end, xytext=start, arrowprops={"arrowstyle": "->", "color": GRAY, "shrinkA": 0, "shrinkB": 1})

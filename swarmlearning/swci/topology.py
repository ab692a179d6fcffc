"""The picture of a swarm: its SNs in a row, and below each SN the SWOPs and SLs that are registered with it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Node = Mapping[str, str]
"""A row of LIST NODES, by column."""

SNS, BELOW = ("SENTINEL", "SN"), ("SWOP", "SL")
LEFT = "LEFT"  # a node that is away
COLUMN_ROWS = 16
TEXT_LIMIT_CHARACTERS = 48

# Inches.
LINE, PADDING, GAP, INDENT, MARGIN = 0.17, 0.18, 0.45, 0.5, 0.3
FONT_POINTS = 9
HINTED = 1.05  # on a screen, letter widths are rounded to whole pixels
LINE_COLOUR, ABSENT, ABSENT_TEXT = "#666666", "#F2F2F2", "#888888"


@dataclass(frozen=True)
class _Family:
    """An SN with the nodes below it, in columns; ``sn`` is None for nodes whose SN is not listed."""

    sn: Node | None
    columns: list[list[Node]]


def drawn(nodes: Sequence[Node], colours: Mapping[str, str], attrs: Sequence[str]) -> Any:
    """A matplotlib figure, large enough for all text. ``attrs``: columns of LIST NODES to write below each name."""
    from matplotlib.figure import Figure  # noqa: PLC0415  # an extra, for those who draw

    picture = _Picture(_families(nodes), colours, attrs)
    figure = Figure(figsize=(picture.width, picture.height))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_xlim(0, picture.width)
    axes.set_ylim(0, picture.height)
    axes.axis("off")
    picture.draw(axes)
    return figure


def _families(nodes: Sequence[Node]) -> list[_Family]:
    sns = [node for node in nodes if node.get("TYPE") in SNS]
    names = {node["NAME"] for node in sns}
    below = sorted((node for node in nodes if node.get("TYPE") in BELOW), key=lambda node: BELOW.index(node["TYPE"]))
    families = [_Family(sn, _columns([it for it in below if it.get("PARENT") == sn["NAME"]])) for sn in sns]
    alone = [node for node in below if node.get("PARENT") not in names]
    return [*families, _Family(None, _columns(alone))] if alone else families


def _columns(nodes: list[Node]) -> list[list[Node]]:
    return [nodes[at : at + COLUMN_ROWS] for at in range(0, len(nodes), COLUMN_ROWS)] or [[]]


def _width(line: str) -> float:
    """Inches."""
    from matplotlib.font_manager import FontProperties  # noqa: PLC0415  # an extra, for those who draw
    from matplotlib.textpath import text_to_path  # noqa: PLC0415

    points, _, _ = text_to_path.get_text_width_height_descent(line, FontProperties(size=FONT_POINTS), ismath=False)
    return float(points) / 72 * HINTED


class _Picture:
    def __init__(self, families: list[_Family], colours: Mapping[str, str], attrs: Sequence[str]) -> None:
        self._families, self._colours, self._attrs = families, colours, attrs
        shown = [node for it in families for column in [[it.sn] if it.sn else [], *it.columns] for node in column]
        widest = max((_width(line) for node in shown for line in self._text(node).splitlines()), default=0.0)
        self._box = (widest + PADDING, (1 + len(attrs)) * LINE + PADDING)
        self._column = self._box[0] + INDENT + GAP
        self._row = self._box[1] + PADDING
        columns = sum(len(it.columns) for it in families)
        rows = 1 + max((len(column) for it in families for column in it.columns), default=0)
        self.width = max(3.0, columns * self._column - GAP + 2 * MARGIN)
        self.height = max(1.0, rows * self._row - PADDING + 2 * MARGIN)
        self._top = self.height - MARGIN - self._box[1] / 2

    def draw(self, axes: "Axes") -> None:
        left, sns = MARGIN, list[float]()
        for family in self._families:
            width = len(family.columns) * self._column - GAP
            at = left + (width - INDENT) / 2
            if family.sn is not None:
                sns.append(at)
            self._draw_family(axes, family, at, left)
            left += width + GAP
        for one, other in pairwise(sns):
            axes.plot((one, other), (self._top, self._top), color=LINE_COLOUR, linewidth=2.5, zorder=1)

    def _draw_family(self, axes: "Axes", family: _Family, at: float, left: float) -> None:
        if family.sn is not None:
            self._draw_node(axes, family.sn, at, self._top)
        for number, column in enumerate(family.columns):
            x = left + number * self._column + INDENT + self._box[0] / 2
            trunk = x - self._box[0] / 2 - INDENT / 2
            for row, node in enumerate(column, start=1):
                y = self._top - row * self._row
                self._draw_node(axes, node, x, y)
                if family.sn is not None:
                    axes.plot((trunk, x), (y, y), color=LINE_COLOUR, linewidth=1, zorder=1)
            if family.sn is not None and column:
                self._draw_trunk(axes, at, trunk, self._top - len(column) * self._row)

    def _draw_trunk(self, axes: "Axes", sn: float, trunk: float, lowest: float) -> None:
        """Draws a line from an SN down to the last node of a column, first to the side if the column is not below."""
        if abs(trunk - sn) < self._box[0] / 2:
            xs, ys = (trunk, trunk), (self._top, lowest)
        else:
            side = self._top - (self._row - PADDING / 2) + self._box[1] / 2
            xs, ys = (sn, sn, trunk, trunk), (self._top, side, side, lowest)  # type: ignore[assignment]
        axes.plot(xs, ys, color=LINE_COLOUR, linewidth=1, zorder=1)

    def _draw_node(self, axes: "Axes", node: Node, x: float, y: float) -> None:
        from matplotlib.patches import FancyBboxPatch  # noqa: PLC0415  # an extra, for those who draw

        width, height = self._box
        away = node.get("STATE") == LEFT
        box = FancyBboxPatch(
            (x - width / 2, y - height / 2), width, height, boxstyle="round,pad=0,rounding_size=0.06", zorder=2,
            facecolor=ABSENT if away else self._colours[node["TYPE"]], edgecolor=LINE_COLOUR,
            linestyle="--" if away else "-",
        )  # fmt: skip
        axes.add_patch(box)
        colour = ABSENT_TEXT if away else "black"
        axes.text(
            x,
            y,
            self._text(node),
            ha="center",
            va="center",
            fontsize=FONT_POINTS,
            color=colour,
            zorder=3,
            parse_math=False,
        )

    def _text(self, node: Node) -> str:
        lines = [f"{node['TYPE']} {node['NAME']}", *(node.get(name, "") for name in self._attrs)]
        return "\n".join(
            it if len(it) <= TEXT_LIMIT_CHARACTERS else it[: TEXT_LIMIT_CHARACTERS - 1] + "…" for it in lines
        )

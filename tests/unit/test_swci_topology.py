"""The picture of a swarm can be read: every word lies in its box, and no box on another."""

from itertools import combinations
from typing import Any

import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from swarmlearning.swci.topology import Node, drawn

COLOURS = {"SENTINEL": "#ADD8E6", "SN": "#ADD8E6", "SWOP": "#33FF33", "SL": "#FFCCCB"}


def node(kind: str, name: str, parent: str = "-", state: str = "PRESENT") -> Node:
    return {"TYPE": kind, "NAME": name, "PARENT": parent, "STATE": state, "HOST": f"{name}.hospital.example.org"}


SWARM = [
    node("SENTINEL", "sn-1"), *(node("SN", f"sn-{number}", "sn-1") for number in (2, 3)),
    *(node("SL", f"sl-{number}", f"sn-{(number + 1) // 2}") for number in range(1, 7)),
    *(node("SWOP", f"swop-{number}", f"sn-{number}") for number in (1, 2, 3)),
    node("SWCI", "swci-1", "sn-1"),
]  # fmt: skip
MANY = [node("SENTINEL", "sn-1"), *(node("SL", f"sl-{number}", "sn-1") for number in range(64))]
LONG = [node("SENTINEL", "s" * 128), node("SL", "WWWWWWWW" * 16, "s" * 128), node("SL", "$lone_$", "nobody")]


@pytest.mark.parametrize("attrs", [[], ["HOST", "STATE", "NONE"]])
@pytest.mark.parametrize("nodes", [SWARM, MANY, LONG, []])
def test_every_node_is_drawn_where_it_can_be_read(nodes: list[Node], attrs: list[str]) -> None:
    axes = drawn(nodes, COLOURS, attrs).axes[0]
    renderer = FigureCanvasAgg(axes.figure).get_renderer()
    boxes = {id(box): box.get_window_extent(renderer) for box in axes.patches}
    assert len(boxes) == len(axes.texts) == len([it for it in nodes if it["TYPE"] in COLOURS])
    for one, other in combinations(boxes.values(), 2):
        assert not one.overlaps(other)
    for text, box in zip(axes.texts, boxes.values(), strict=True):
        written = text.get_window_extent(renderer)
        assert box.x0 <= written.x0 and written.x1 <= box.x1 and box.y0 <= written.y0 and written.y1 <= box.y1, text
    page = axes.get_window_extent(renderer)
    assert all(page.containsx(it.x0) and page.containsx(it.x1) and page.containsy(it.y0) for it in boxes.values())


def test_a_node_stands_below_its_sn_and_one_that_is_away_is_gray() -> None:
    axes = drawn([*SWARM, node("SL", "sl-7", "sn-2", "LEFT")], COLOURS, ["STATE"]).axes[0]
    at = {text.get_text().splitlines()[0]: text.get_position() for text in axes.texts}
    assert "SL sl-7\nLEFT" in {text.get_text() for text in axes.texts}
    for name, sn in {"SWOP swop-2": "SN sn-2", "SL sl-7": "SN sn-2", "SL sl-1": "SENTINEL sn-1"}.items():
        assert nearest_sn(at, at[name]) == sn and at[name][1] < at[sn][1]
    colours = {text.get_text(): text.get_color() for text in axes.texts}
    assert colours["SL sl-7\nLEFT"] != colours["SL sl-6\nPRESENT"]


def nearest_sn(at: dict[str, Any], place: tuple[float, float]) -> str:
    sns = [name for name in at if name.startswith(("SN ", "SENTINEL "))]
    return min(sns, key=lambda name: abs(at[name][0] - place[0]))

"""One name is one thing: who searches for a class finds one."""

import ast
from collections import defaultdict
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGES = ("services", "swarm_callback", "swarmlearning", "benchmarks")

# One for each framework.
ONE_EACH = {"SwarmCallback", "ProximalTerm"}
# What the REST API of an SWCI sends, in the words of who reads it: of tasks, nodes and rounds that others keep.
SCHEMA = "swarmlearning/swci/models.py"


def test_no_two_classes_have_one_name() -> None:
    found: dict[str, list[str]] = defaultdict(list)
    for path in (path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))):
        place = str(path.relative_to(ROOT))
        if place == SCHEMA or "node_modules" in path.parts:
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ClassDef):
                found[node.name].append(f"{place}:{node.lineno}")
    twice = {name: places for name, places in found.items() if len(places) > 1}
    assert {name: places for name, places in twice.items() if name not in ONE_EACH} == {}
    assert set(twice) == ONE_EACH  # a name on the list that is not needed there any more

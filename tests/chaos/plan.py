"""What a run will be, drawn from its seed: the shape of the training, and which faults hit it after how many rounds."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from random import Random
from typing import Any

from tests.chaos.ground import SHARED, Fault
from tests.chaos.nodes import Shape


@dataclass(frozen=True)
class Plan:
    """``before``: rounds before each fault. ``seed`` draws everything that is decided in the run itself."""

    seed: str
    shape: Shape
    faults: tuple[str, ...]
    before: tuple[int, ...]
    after: int

    def described(self) -> dict[str, Any]:
        return asdict(self)


def plan_of(seed: str, faults: Sequence[Fault]) -> Plan:
    """The plan of one run with the first of ``faults``, and sometimes a second one."""
    dice = Random(seed)
    chosen = [faults[0]]
    shared = chosen[0].shape.get("ballast_floats", 0) >= SHARED["ballast_floats"]
    others = [  # a run has one shape
        fault for fault in faults[1:] if not (fault.shape or fault.alone or (shared and fault.merges_alone))
    ]
    if others and not chosen[0].alone and dice.random() < 0.3:
        chosen.append(dice.choice(others))
    nodes = dice.choice([3, 3, 4, 4, 5])
    shape = Shape(
        nodes=nodes,
        min_peers=dice.randint(2, nodes - 1),
        ballast_floats=dice.choice([0, 0, 0, 50_000, 300_000]),
        weights=tuple(dice.randint(1, 100) for _ in range(nodes)),
        followers_only=dice.choice([0, 0, 0, 1]),
        checkin=dice.choice(["snapshot", "active", "inactive"]),
        batch_s=dice.choice([0.0, 0.02, 0.05]),
        first_merge=dice.choice(["leader", "average"]),
    )
    for fault in chosen:
        shape = replace(shape, **fault.shape)
    before = tuple(dice.randint(1, 3) for _ in chosen)
    return Plan(seed, shape, tuple(fault.name for fault in chosen), before, after=dice.randint(1, 3))

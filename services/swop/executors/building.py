"""The messages of a container engine during a build or pull, as lines for people and as errors."""

import re
from collections import deque
from collections.abc import Mapping
from typing import Any

from services.errors import BuildFailed, PullFailed, RuntimeDiskFull, SwarmError
from services.swop.executors.base import TAIL_LINES, joined, last_lines
from services.swop.executors.engine import Engine
from services.swop.executors.refusals import DISK_FULL
from services.swop.executors.spec import BuildSpec

LINE_BYTES = 2048

_STEP = re.compile(r"STEP (\d+/\d+)\s*: ?(.*)", re.IGNORECASE)


class BuildOutput:
    """Follows one build: its current step and its last lines."""

    def __init__(self, engine: Engine, spec: BuildSpec) -> None:
        self._engine = engine
        self._spec = spec
        self._step = "the first step"
        self._lines: deque[str] = deque(maxlen=TAIL_LINES)

    def heard(self, said: Mapping[str, Any]) -> list[str]:
        """The lines in one message of the engine. Raises BuildFailed or RuntimeDiskFull if the message is an error."""
        if problem := said.get("error"):
            raise self.failed(str(problem))
        text = str(said.get("stream") or said.get("status") or "")
        lines = last_lines(text.encode(), len(text), LINE_BYTES)
        for line in lines:
            if found := _STEP.match(line):
                self._step = f"step {found[1]}, {found[2]}"
            self._lines.append(line)
        return lines

    def failed(self, problem: str) -> SwarmError:
        """The error of a build that failed."""
        if DISK_FULL in problem.lower():
            return RuntimeDiskFull(runtime=self._engine.title, doing=f"build {self._spec.image}")
        return BuildFailed(
            image=self._spec.image, step=self._step, problem=" ".join(problem.split()), tail=joined(self._lines)
        )


def pulled(engine: Engine, image: str, said: Mapping[str, Any]) -> str:
    """The line in one message of a pull; "" for a mere progress message. Raises PullFailed or RuntimeDiskFull."""
    if problem := said.get("error"):
        raise pull_failed(engine, image, str(problem))
    status = str(said.get("status") or said.get("stream") or "")
    layer = f"{said['id']}: " if said.get("id") and status else ""
    return "" if said.get("progressDetail") else " ".join(last_lines(f"{layer}{status}".encode(), 1, LINE_BYTES))


def pull_failed(engine: Engine, image: str, problem: str) -> SwarmError:
    if DISK_FULL in problem.lower():
        return RuntimeDiskFull(runtime=engine.title, doing=f"pull {image}")
    return PullFailed(image=image, problem=" ".join(problem.split()))

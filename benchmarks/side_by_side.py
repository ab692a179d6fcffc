"""Several SLs in one process and one event loop: ``python -m benchmarks.side_by_side sl OPTION VALUE… -- sl …``."""

import asyncio
import sys
from collections.abc import Iterator, Sequence
from functools import partial
from itertools import groupby
from typing import Any

from services.runtime.process import run_node
from services.runtime.ready import ReadySocket
from services.sl.main import main as sl
from services.sl.settings import SLSettings


class _AllReady(ReadySocket):
    """The last SL that is ready says so for all."""

    def __init__(self, count: int, line: ReadySocket) -> None:
        self.health = line.health
        self._left = count
        self._line = line

    def report(self, **facts: Any) -> None:
        self._left -= 1
        if not self._left:
            self._line.report(**facts)


async def _run(all_of_them: Sequence[SLSettings], stop: asyncio.Event, ready: ReadySocket) -> None:
    together = _AllReady(len(all_of_them), ready)
    async with asyncio.TaskGroup() as group:
        for settings in all_of_them:
            group.create_task(sl(settings, stop, together))


def _settings(arguments: Sequence[str]) -> Iterator[SLSettings]:
    """Of each SL: ``sl``, as ``swarm`` would get it, then options that have a value."""
    for is_between, one in groupby(arguments, "--".__eq__):
        if not is_between:
            _, *options = one
            pairs = zip(options[::2], options[1::2], strict=True)
            yield SLSettings.load("sl", {name.removeprefix("--").replace("-", "_"): value for name, value in pairs})


if __name__ == "__main__":
    sys.exit(run_node(partial(_run, list(_settings(sys.argv[1:])))))

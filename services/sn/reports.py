"""Writes reports of loss and metric to the chain while nobody waits for it."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from services.errors import SwarmError
from services.runtime import logs

# With very short rounds, a block with reports would delay a check-in: this is long enough that reports come together
# and seldom. It is short compared to a round in which anything is learned.
HELD_S = 0.2

# When this node stops. Reports that no block has taken by then, as when the signers are out of reach, are dropped.
LAST_WITHIN_S = 2.0

_log = logs.get("sn")


@dataclass(frozen=True)
class NodeReport:
    """``round``: the accepted round whose model was evaluated. ``loss``, ``metric``: None if there is no value."""

    round: int
    name: str
    loss: float | None
    metric: float | None
    epochs_done: int
    epochs_total: int


class ReportWriter:
    """Holds the newest report of each participant and writes them together, one batch at a time."""

    def __init__(self, contract: str, write: Callable[[NodeReport], Awaitable[object]]) -> None:
        self._contract = contract
        self._write = write
        self._held: dict[str, NodeReport] = {}
        self._due = asyncio.Event()
        self._timer: asyncio.TimerHandle | None = None
        self._writing = asyncio.Lock()

    def put(self, report: NodeReport) -> None:
        """Takes a report; it replaces one of the same node that is still held."""
        self._held[report.name] = report
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(HELD_S, self._due.set)

    async def run(self) -> None:
        """Writes due reports until cancelled."""
        while True:
            await self._due.wait()
            await self.flush()

    async def finish(self, within_s: float = LAST_WITHIN_S) -> None:
        """The last flush. Gives up after ``within_s``, as the chain may stand still."""
        try:
            async with asyncio.timeout(within_s):
                await self.flush()
        except TimeoutError:
            _log.warning("the last reports were not recorded in time", contract=self._contract, seconds=within_s)

    async def flush(self) -> None:
        """Writes all held reports, after those being written. Failures are logged: a report is not worth a round."""
        async with self._writing:
            self._due.clear()
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None
            batch, self._held = list(self._held.values()), {}
            outcomes = await asyncio.gather(*(self._write(report) for report in batch), return_exceptions=True)
        for report, outcome in zip(batch, outcomes, strict=True):
            if isinstance(outcome, SwarmError):
                _log.warning(
                    "a report was not recorded",
                    contract=self._contract,
                    round=report.round,
                    by=report.name,
                    reason=str(outcome),
                )
            elif isinstance(outcome, BaseException):
                raise outcome

"""What happens to a training as time passes: a round is closed, a wait is logged, a node is given up."""

import asyncio
from collections.abc import Awaitable, Callable

from services.errors import TrainingError
from services.rpc.swarm_pb2 import RoundState
from services.runtime import logs
from services.runtime.background import Background
from services.sn.liveness import LOST, Streams, absent
from services.sn.quorum import Clock, Waiting, clock, waiting
from services.sn.training import TrainingView

# A healthy round waits far less; only longer waits are worth a line in the log.
QUIET_S = 2.0
REPEAT_S = 30.0

# Everybody waits for a leader. A broken connection is back in a fraction of this time; a leader that is deposed without
# need costs a merge.
LEADER_GRACE_S = 2.0

_log = logs.get("sn")


class QuorumTimer:
    """Closes a round once minPeers have waited for the others as long as the training's configuration says."""

    def __init__(
        self, contract: str, close_round: Callable[[int, int], Awaitable[object]], background: Background
    ) -> None:
        self._contract = contract
        self._close_round = close_round
        self._background = background
        self._clock: Clock | None = None
        self._timer: asyncio.TimerHandle | None = None

    def follow(self, view: TrainingView) -> None:
        """The training has changed: starts the clock, stops it, or lets it run."""
        wanted = clock(view)
        if wanted == self._clock:
            return
        self.stop()
        self._clock = wanted
        if wanted is not None:
            self._timer = asyncio.get_running_loop().call_later(wanted.wait_ms / 1000, self._ring, wanted, view)

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._clock = None

    def _ring(self, rung: Clock, view: TrainingView) -> None:
        awaited = ", ".join(view.awaited)
        _log.info("quorum clock ran out", contract=self._contract, round=rung.round, term=rung.term, without=awaited)
        self._background.run(self._close(rung), f"closing round {rung.round} of {self._contract}")

    async def _close(self, rung: Clock) -> None:
        try:
            await self._close_round(rung.round, rung.term)
        except TrainingError as error:  # closed, reopened or left meanwhile: the next change decides anew
            _log.debug(
                "the round was not closed by its clock",
                contract=self._contract,
                round=rung.round,
                term=rung.term,
                reason=str(error),
            )


class WaitingLog:
    """Logs for whom a round waits: after a while, then at every change, and at regular intervals."""

    def __init__(self, contract: str) -> None:
        self._contract = contract
        self._now: Waiting | None = None
        self._said: Waiting | None = None
        self._timer: asyncio.TimerHandle | None = None

    def follow(self, view: TrainingView) -> None:
        """The training has changed."""
        self._now = waiting(view)
        if self._now is None:
            self.stop()
        elif self._said is None:
            self._timer = self._timer or asyncio.get_running_loop().call_later(QUIET_S, self._say)
        elif self._said != self._now:
            self._say()

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._said = None

    def _say(self) -> None:
        now = self._now
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(REPEAT_S, self._say)
        self._said = now
        if now is None:
            return
        facts: dict[str, object] = {"in": f"{now.have} of at least {now.need}", "awaited": ", ".join(now.awaited)}
        if now.missing:
            facts["not_enrolled_yet"] = now.missing
        if now.leaderless:
            facts["but"] = "none of those that are in may lead: start one with SL_MAKE_ME_ADMIN=true"
        _log.info("round waits", contract=self._contract, round=now.round, term=now.term, **facts)


class LostTimers:
    """Marks a participant as lost if it has not watched for the grace period; a leader much sooner."""

    def __init__(
        self,
        contract: str,
        leave: Callable[[str, str], Awaitable[object]],
        background: Background,
        grace_s: float,
        is_ours: Callable[[str], bool],
    ) -> None:
        self._contract = contract
        self._leave = leave
        self._background = background
        self._grace_s = grace_s
        self._is_ours = is_ours
        self._streams = Streams()
        self._seen: set[str] = set()  # since this SN was started
        self._since: dict[str, float] = {}
        self._timers: dict[str, asyncio.TimerHandle] = {}

    @property
    def running(self) -> frozenset[str]:
        return frozenset(self._timers)

    def opened(self, name: str, view: TrainingView) -> None:
        """A node has begun to watch. It may hold several streams for a moment."""
        self._seen.add(name)
        self._streams.opened(name)
        self.follow(view)

    def closed(self, name: str, view: TrainingView) -> None:
        self._streams.closed(name)
        self.follow(view)

    def follow(self, view: TrainingView) -> None:
        """The training or the set of its watchers has changed."""
        loop = asyncio.get_running_loop()
        missing = {name for name in absent(view, self._streams) if self._is_ours(name)}
        for name in self._timers.keys() - missing:
            self._forget(name)
        for name in missing:
            since = self._since.setdefault(name, loop.time())
            due = since + self._grace_of(name, view)
            running = self._timers.get(name)
            if running is None or due < running.when():
                if running is not None:
                    running.cancel()
                self._timers[name] = loop.call_at(due, self._lost, name, view)

    def stop(self) -> None:
        for name in list(self._timers):
            self._forget(name)

    def _grace_of(self, name: str, view: TrainingView) -> float:
        leads = view.state == RoundState.MERGE and view.leader == name and name in self._seen
        return min(self._grace_s, LEADER_GRACE_S) if leads else self._grace_s

    def _lost(self, name: str, view: TrainingView) -> None:
        if not self._is_ours(name):  # it has moved to another SN, which looks after it
            self._forget(name)
            return
        where = {"contract": self._contract, "round": view.round, "term": view.term}
        silent_s = asyncio.get_running_loop().time() - self._since[name]
        _log.warning("participant lost", **where, name=name, silent_s=round(silent_s, 1))
        self._background.run(self._leave_for(name), f"marking {name} as lost in {self._contract}")

    async def _leave_for(self, name: str) -> None:
        try:
            await self._leave(name, LOST)
        finally:
            self._forget(name)

    def _forget(self, name: str) -> None:
        self._since.pop(name, None)
        timer = self._timers.pop(name, None)
        if timer is not None:
            timer.cancel()

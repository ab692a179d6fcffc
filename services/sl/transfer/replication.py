"""A result is published only when a second node holds it, so that it outlives the node that merged it."""

import asyncio
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from services.errors import NetworkError, NoSecondCopy
from services.identity.peers import TrustBundle
from services.rpc.result_copy import CopyClaim, may_hold
from services.rpc.swarm_pb2 import ResultCopy
from services.runtime import logs
from services.sl.transfer.peers import Peers
from services.sl.view import Model, TrainingMember, View

# If a node shows no sign of life for this long, the next one is asked too.
PATIENCE_S = 1.0

# Waits before all are asked again: one SN may report a merge to its nodes some 15 ms later than another.
AGAIN_S = (0.05, 0.1, 0.2, 0.5)

_log = logs.get("round")


@dataclass(frozen=True)
class UnpublishedResult:
    """``model``: the result of ``merging``, the view in which this node leads. ``left_out``: names. ``whole``: names of
    nodes that already hold all of it.
    """

    model: Model
    merging: View
    left_out: frozenset[str] = frozenset()
    whole: frozenset[str] = frozenset()

    def wanted(self, newest: View) -> bool:
        """Whether its term still lasts."""
        led = self.merging
        return (newest.phase, newest.round, newest.term) == (led.phase, led.round, led.term)

    def holders(self, newest: View) -> list[TrainingMember]:
        """The nodes to ask for a copy, in this order; the first one differs from round to round."""
        found = {entry.name: newest.member(entry.name) for entry in self.merging.check_ins}
        there = {name: member for name, member in found.items() if member is not None and member.active and member.host}
        names = may_hold(self.merging.leader, list(found), self.left_out, there.keys())
        start = self.merging.round % len(names) if names else 0
        turn = [*names[start:], *names[:start]]
        return [there[name] for name in sorted(turn, key=lambda name: (name in self.left_out, name not in self.whole))]

    def claim(self, holder: str) -> CopyClaim:
        led = self.merging
        return CopyClaim(led.location, led.round, led.term, self.model.digest, holder)


class ResultReplicator:
    """Has other nodes take a copy. ``moved(0)`` is called at each sign of progress.

    ``newest()``: the newest view of the training; ``trust()``: the trust bundle that this node uses now.
    """

    def __init__(
        self,
        peers: Peers,
        moved: Callable[[int], object],
        newest: Callable[[], View],
        trust: Callable[[], TrustBundle],
    ) -> None:
        self._peers = peers
        self._moved = moved
        self._newest = newest
        self._trust = trust
        self._sign = asyncio.Event()

    async def replicate(self, result: UnpublishedResult) -> ResultCopy | None:
        """The signed statement of another participant that holds ``result``; None if none is left that could, or the
        term is over.

        Goes on trying while no one can be reached: a leader that is cut off must not publish, and is voted out.
        """
        waits_s = itertools.chain(AGAIN_S, itertools.repeat(AGAIN_S[-1]))
        while result.wanted(self._newest()) and (holders := result.holders(self._newest())):
            copy = await self._one_of(holders, result)
            if copy is not None:
                return copy
            await asyncio.sleep(next(waits_s))
        return None

    async def _one_of(self, others: Sequence[TrainingMember], result: UnpublishedResult) -> ResultCopy | None:
        """The statement of the first node that took a copy. Asks the next one if the last one fails or is silent."""
        asked: set[asyncio.Task[ResultCopy | None]] = set()
        try:
            for number, other in enumerate(others, 1):
                asked.add(asyncio.create_task(self._ask(other, result)))
                while asked:
                    self._sign.clear()
                    patience = PATIENCE_S if number < len(others) else None
                    done, asked = await asyncio.wait(asked, timeout=patience, return_when=asyncio.FIRST_COMPLETED)
                    if copy := next((copy for task in done if (copy := task.result()) is not None), None):
                        return copy
                    if number < len(others) and (done or not self._sign.is_set()):
                        break
            return None
        finally:
            for task in asked:
                task.cancel()
            await asyncio.gather(*asked, return_exceptions=True)

    async def _ask(self, other: TrainingMember, result: UnpublishedResult) -> ResultCopy | None:
        try:
            copy = await self._peers.give_copy(other, result.model.digest, self._alive)
            keys = (self._newest().member(other.name) or other).keys
            result.claim(other.name).check(copy, keys, self._trust())
        except (NetworkError, NoSecondCopy) as error:
            _log.info("no copy taken", by=other.name, why=str(error))
            return None
        except Exception:
            _log.exception("no copy taken", by=other.name)
            return None
        _log.debug("copy taken", by=other.name, digest=result.model.digest[:16])
        return copy

    def _alive(self) -> None:
        self._sign.set()
        self._moved(0)

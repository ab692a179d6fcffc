"""A result is published only when a second node holds it: an accepted round outlives the node that merged it."""

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

# A node that shows no sign for this long is not waited for alone: the next one is asked too.
PATIENCE_S = 1.0

# Before everybody is asked again: an SN tells its nodes of a merge some 15 ms after another one may.
AGAIN_S = (0.05, 0.1, 0.2, 0.5)

_log = logs.get("round")


@dataclass(frozen=True)
class UnpublishedResult:
    """``model`` is what came of ``merging``, the view in which this node leads; ``left_out``: names. ``whole``: who
    holds all of it already.
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
        """Who is to be asked for a copy, in this order; not always the same one first."""
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
    """Has others take a copy. ``moved(0)`` is called at each sign of life of one that does.

    ``newest()``: the training as it stands now; ``trust()``: what this node judges others by now.
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
        """What another participant has signed that holds ``result``; None where none is left that could, or the term
        is over.

        Where nobody can be reached it goes on trying: a leader that cannot be reached either must not publish, and is
        voted out.
        """
        waits_s = itertools.chain(AGAIN_S, itertools.repeat(AGAIN_S[-1]))
        while result.wanted(self._newest()) and (holders := result.holders(self._newest())):
            copy = await self._one_of(holders, result)
            if copy is not None:
                return copy
            await asyncio.sleep(next(waits_s))
        return None

    async def _one_of(self, others: Sequence[TrainingMember], result: UnpublishedResult) -> ResultCopy | None:
        """Of the first that has taken it. Asks the next one where the last one fails or is silent."""
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

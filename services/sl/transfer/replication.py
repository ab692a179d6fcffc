"""A result is published only when a second node holds it: an accepted round outlives the node that merged it."""

import asyncio
import itertools
from collections.abc import Callable, Sequence

from services.errors import NetworkError
from services.runtime import logs
from services.sl.transfer.peers import Peers
from services.sl.view import Model, TrainingMember, View

# A node that shows no sign for this long is not waited for alone: the next one is asked too.
PATIENCE_S = 1.0

# Before everybody is asked again: an SN tells its nodes of a merge some 15 ms after another one may.
AGAIN_S = (0.05, 0.1, 0.2, 0.5)

_log = logs.get("round")


class ResultReplicator:
    """Has others take a copy. ``moved(0)`` is called at each sign of life of one that does."""

    def __init__(self, peers: Peers, moved: Callable[[int], object]) -> None:
        self._peers = peers
        self._moved = moved
        self._sign = asyncio.Event()

    async def replicate(self, model: Model, name: str, merging: View, newest: Callable[[], View]) -> None:
        """Returns once another participant of the merge holds ``model``, or none is left that could.

        ``name``: this node. Where nobody can be reached it goes on trying: a leader that cannot be reached either must
        not publish, and is voted out.
        """
        waits_s = itertools.chain(AGAIN_S, itertools.repeat(AGAIN_S[-1]))
        while others := _others(name, merging, newest()):
            start = merging.round % len(others)  # not always the same one
            if await self._one_of([*others[start:], *others[:start]], model):
                return
            await asyncio.sleep(next(waits_s))

    async def _one_of(self, others: Sequence[TrainingMember], model: Model) -> bool:
        """Whether one of them has taken it. Asks the next one where the last one fails or is silent."""
        asked: set[asyncio.Task[bool]] = set()
        try:
            for number, other in enumerate(others, 1):
                asked.add(asyncio.create_task(self._ask(other, model)))
                while asked:
                    self._sign.clear()
                    patience = PATIENCE_S if number < len(others) else None
                    done, asked = await asyncio.wait(asked, timeout=patience, return_when=asyncio.FIRST_COMPLETED)
                    if any(task.result() for task in done):
                        return True
                    if number < len(others) and (done or not self._sign.is_set()):
                        break
            return False
        finally:
            for task in asked:
                task.cancel()
            await asyncio.gather(*asked, return_exceptions=True)

    async def _ask(self, other: TrainingMember, model: Model) -> bool:
        try:
            await self._peers.give_copy(other, model.digest, self._alive)
        except NetworkError as error:
            _log.info("no copy taken", by=other.name, why=str(error))
            return False
        except Exception:
            _log.exception("no copy taken", by=other.name)
            return False
        _log.debug("copy taken", by=other.name, digest=model.digest[:16])
        return True

    def _alive(self) -> None:
        self._sign.set()
        self._moved(0)


def _others(name: str, merging: View, newest: View) -> list[TrainingMember]:
    """Who is in the merge and still there, in the order of check-in."""
    found = [newest.member(entry.name) for entry in merging.check_ins if entry.name != name]
    return [member for member in found if member is not None and member.active and member.host]

"""Which process runs under a name: a second one is refused while the first one answers."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field

from services.errors import NameInUse, TooManySlots
from services.runtime import logs
from services.runtime.signals import ChangeSignal
from services.sn.membership import SLOTS_LIMIT, Caller

# A process that is there answers within milliseconds, also where its machine is busy within this.
ANSWER_S = 2.0

# Of those that were silent and may wake up, or whose last words may have crossed with the news.
BEATEN_KEPT = 15

_log = logs.get("sn")


@dataclass(eq=False)
class Holder:
    """A process, for as long as its stream is open. ``address``: where it is, for people.

    ``confirmed``: nobody else was found to hold the name. ``beaten``: processes that it has taken the name from.
    ``taken_by``: address of the process that has taken it from this one.
    """

    who: Caller
    process: bytes
    address: str
    beaten: frozenset[bytes] = frozenset()
    confirmed: bool = False
    ended: bool = False
    taken_by: str = ""
    _asked: int = 0
    _answered: int = 0
    _news: int = 0
    _changed: ChangeSignal = field(default_factory=ChangeSignal)

    async def is_there(self) -> bool:
        """Whether it answers, for which it has ``ANSWER_S``."""
        self._asked += 1
        question = self._asked
        self._notify()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(ANSWER_S):
                while self._answered < question and not self.ended:
                    await self._changed.wait()
        return self._answered >= question and not self.ended

    def tell(self) -> None:
        """There is news for the process."""
        self._news += 1
        self._notify()

    async def questions(self) -> AsyncIterator[int]:
        """To be put to the process, until it has ended; 0 where there is only news for it."""
        put, told = 0, self._news
        while not self.ended:
            if told < self._news:
                told = self._news
                yield 0
            elif put < self._asked:
                put = self._asked
                yield put
            else:
                await self._changed.wait()

    def answered(self, question: int) -> None:
        self._answered = max(self._answered, min(question, self._asked))
        self._notify()

    def end(self) -> None:
        self.ended = True
        self._notify()

    def _notify(self) -> None:
        self._changed.notify()


class Names:
    """``elsewhere(claim)``: address of another process that holds the name with another SN, empty for none."""

    def __init__(self, elsewhere: Callable[[Holder], Awaitable[str]]) -> None:
        self._elsewhere = elsewhere
        self._holders: dict[tuple[str, str], Holder] = {}

    async def claim(self, who: Caller, process: bytes, address: str) -> Holder:
        """From now on the process holds the name, until ``drop``. Raises NameInUse, TooManySlots."""
        while (before := self._holders.get((who.role, who.name))) is not None and before.process != process:
            if process in before.beaten or await before.is_there():
                raise NameInUse(name=who.name, address=before.address)
            if self._holders.get((who.role, who.name)) is before:
                break  # it may be frozen, and is told should it wake up
        self._check_number(who)
        holder = Holder(who, process, address)
        if before is not None:
            holder.beaten = self._end(before, process, address)
        self._holders[who.role, who.name] = holder
        try:
            found = await self._elsewhere(holder)
            if found:
                raise NameInUse(name=who.name, address=found)
        except BaseException:
            self.drop(holder)
            raise
        holder.confirmed = True
        return holder

    def drop(self, holder: Holder) -> None:
        """Its stream has ended."""
        holder.end()
        key = (holder.who.role, holder.who.name)
        if self._holders.get(key) is holder:
            del self._holders[key]

    def tell(self) -> None:
        """There is news for all who hold a name here."""
        for holder in self._holders.values():
            holder.tell()

    def is_held(self, role: str, name: str) -> bool:
        return (role, name) in self._holders

    def require(self, who: Caller, process: bytes) -> None:
        """Raises NameInUse where another process holds the name here: what this one still wants to write is void."""
        holder = self._holders.get((who.role, who.name))
        if holder is not None and holder.confirmed and holder.process != process:
            raise NameInUse(name=who.name, address=holder.address)

    async def found(self, role: str, name: str, process: bytes, address: str) -> str:
        """Address of a process that is not this one and holds the name here; empty for none, or one that is silent.

        Of two that claim it at the same time with two SNs, one is refused.
        """
        holder = self._holders.get((role, name))
        if holder is None or holder.process == process:
            return ""
        if not holder.confirmed:
            return holder.address if holder.process < process else ""
        if await holder.is_there():
            return holder.address
        self._end(holder, process, address)
        self.drop(holder)
        return ""

    async def compare(self) -> None:
        """Says which names are held twice: while SNs were cut off from each other, each side took a process.

        It ends neither. An SN that lies could end all nodes so, and which of two is meant to be only people know.
        """
        for holder in list(self._holders.values()):
            if holder.confirmed and not holder.ended and (other := await self._elsewhere(holder)):
                _log.warning(
                    "a name is held by two processes: stop one", name=holder.who.name, one=holder.address, other=other
                )

    def end_streams(self) -> None:
        for holder in self._holders.values():
            holder.end()

    def _end(self, before: Holder, process: bytes, address: str) -> frozenset[bytes]:
        """Another stream of its process takes its place, or another process; gives whom that one has beaten."""
        beaten = before.beaten
        if before.process != process and not before.ended:
            _log.warning(
                "a name was taken over by another process", name=before.who.name, left=before.address, at=address
            )
            before.taken_by = address
            beaten = frozenset([*list(beaten)[-BEATEN_KEPT:], before.process])
        before.end()
        return beaten

    def _check_number(self, who: Caller) -> None:
        held = sum(holder.who.fingerprint == who.fingerprint for holder in self._holders.values())
        if held >= SLOTS_LIMIT and not self.is_held(who.role, who.name):
            raise TooManySlots(name=who.name, limit=SLOTS_LIMIT)

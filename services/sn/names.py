"""Which process runs under a name: a second one is refused as long as the first one answers."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field

from services.errors import NameInUse, TooManySlots
from services.runtime import logs
from services.runtime.signals import ChangeSignal
from services.sn.membership import SLOTS_LIMIT, Caller

# A live process answers within milliseconds; on a busy machine, within this time.
ANSWER_S = 2.0

# Beaten processes to remember: one may wake up, or may have called just before it heard that it lost the name.
BEATEN_KEPT = 15

_log = logs.get("sn")


@dataclass(eq=False)
class Holder:
    """A process, as long as its stream is open. ``address``: where it runs, for people.

    ``confirmed``: no other holder was found. ``beaten``: processes from which it has taken the name.
    ``taken_by``: address of the process that has taken the name from this one.
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
        """Whether the process answers within ``ANSWER_S``."""
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
        """Questions for the process, until it has ended; 0 if there is only news."""
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
    """``elsewhere(claim)``: address of another process that holds the name with another SN; empty if there is none."""

    def __init__(self, elsewhere: Callable[[Holder], Awaitable[str]]) -> None:
        self._elsewhere = elsewhere
        self._holders: dict[tuple[str, str], Holder] = {}

    async def claim(self, who: Caller, process: bytes, address: str) -> Holder:
        """From now on the process holds the name, until ``drop``. Raises NameInUse, TooManySlots."""
        while (before := self._holders.get((who.role, who.name))) is not None and before.process != process:
            if process in before.beaten or await before.is_there():
                raise NameInUse(name=who.name, address=before.address)
            if self._holders.get((who.role, who.name)) is before:
                break  # it may be frozen; it is told if it wakes up
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
        """Raises NameInUse if another process holds the name here: this one may not write any more."""
        holder = self._holders.get((who.role, who.name))
        if holder is not None and holder.confirmed and holder.process != process:
            raise NameInUse(name=who.name, address=holder.address)

    async def found(self, role: str, name: str, process: bytes, address: str) -> str:
        """Address of another process that holds the name here; empty if there is none or it is silent.

        If two processes claim the name at the same time with two SNs, one is refused.
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
        """Logs names that are held twice: while SNs were cut off from each other, each side accepted a process.

        It ends neither of the two: otherwise a lying SN could end all nodes, and only people know which one is meant to
        run.
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
        """Replaced by another stream of its process, or by another process; returns whom the new holder has beaten."""
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

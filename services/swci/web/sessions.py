"""Sessions of programs: each has its own contexts and current directory."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from services.errors import TooManySessions
from services.swci.session import CommandSession

LIMIT = 256
IDLE_S = 3600.0

Key = tuple[str, str]


@dataclass
class _KeptSession:
    session: CommandSession
    used_at: float
    in_use: int = 0


@dataclass
class Sessions:
    """Sessions by the caller's certificate and the session's name.

    ``first``: what all sessions begin as. Sessions unused for an hour are dropped; if there are too many, the longest
    unused too; never one that runs a command.
    """

    first: CommandSession
    clock: Callable[[], float] = time.monotonic
    _kept: dict[Key, _KeptSession] = field(default_factory=dict)

    async def enter(self, fingerprint: str, name: str) -> CommandSession:
        """The session, for one command; ``leave`` it afterwards. Raises TooManySessions."""
        key = (fingerprint, name)
        await self._drop_old(key)
        if key not in self._kept:
            if len(self._kept) >= LIMIT:
                raise TooManySessions(limit=LIMIT)
            self._kept[key] = _KeptSession(self.first.another(), self.clock())
        kept = self._kept[key]
        kept.in_use += 1
        return kept.session

    async def leave(self, fingerprint: str, name: str) -> None:
        """Ends the use of a session. One that EXIT has ended is dropped, so that its name begins a new one."""
        key = (fingerprint, name)
        kept = self._kept.get(key)
        if kept is None:
            return
        kept.in_use -= 1
        kept.used_at = self.clock()
        if kept.session.ended and not kept.in_use:
            await self._drop(key)

    async def close(self) -> None:
        for key in list(self._kept):
            await self._drop(key)

    def __len__(self) -> int:
        return len(self._kept)

    async def _drop_old(self, wanted: Key) -> None:
        idle = sorted((kept.used_at, key) for key, kept in self._kept.items() if not kept.in_use and key != wanted)
        too_many = len(self._kept) + (wanted not in self._kept) - LIMIT
        for number, (used_at, key) in enumerate(idle):
            if number < too_many or self.clock() - used_at > IDLE_S:
                await self._drop(key)

    async def _drop(self, key: Key) -> None:
        await self._kept.pop(key).session.close()

"""Follows a state of the swarm by an SN's stream, which is reopened if it breaks."""

import asyncio
import time
from collections.abc import AsyncGenerator, Callable
from typing import Protocol, TypeVar

from services.errors import EXPIRED, SNUnreachable, SwarmError
from services.swci.wording import age

# A restarting SN is back sooner; what it coordinates goes on without it.
PATIENCE_S = 60.0
RETRY_S = 1.0

_AWAY: tuple[type[SwarmError], ...] = (SNUnreachable, *EXPIRED)


class Versioned(Protocol):
    @property
    def version(self) -> int: ...


State = TypeVar("State", bound=Versioned)


async def follow(
    opened: Callable[[int], AsyncGenerator[State]], address: str, say: Callable[[str], None], seen: int = 0
) -> AsyncGenerator[State]:
    """Yields the state now, then after each change. Waits for an SN that goes away, and says so.

    ``opened``: opens a stream of states newer than a version. Raises the SN's errors; SNUnreachable if it is not there
    at the beginning, or later away for PATIENCE_S.
    """
    began, away_since = False, 0.0
    while True:
        stream = opened(seen)
        try:
            async for state in stream:
                seen, began, away_since = state.version, True, 0.0
                yield state
            problem: SwarmError = SNUnreachable(address=address, problem="it closed the connection")
        except _AWAY as error:
            problem = error
        finally:
            await stream.aclose()
        if not began:
            raise problem
        now = time.monotonic()
        if not away_since:
            away_since = now
            say(f"The SN at {address} does not answer; trying again for {age(PATIENCE_S)}")
        if now - away_since > PATIENCE_S:
            raise problem
        await asyncio.sleep(RETRY_S)

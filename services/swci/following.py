"""A state of the swarm, as soon as it changes: streams of an SN, opened again where one breaks."""

import asyncio
import time
from collections.abc import AsyncGenerator, Callable
from typing import Protocol, TypeVar

from services.errors import EXPIRED, SNUnreachable, SwarmError
from services.swci.wording import age

# An SN that restarts is back sooner; what it coordinates goes on without it.
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
    """The state now, then after each change; an SN that goes away is waited for, which is said.

    ``opened``: a stream of states that are newer than a version. Raises what the SN answers; SNUnreachable where it is
    not there at the beginning, and after PATIENCE_S.
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

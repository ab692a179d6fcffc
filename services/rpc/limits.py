"""How often a member may call, and how many streams it may keep open, so that none can crowd out the others."""

import contextlib
import math
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from services.errors import TooManyCalls

# Above this, buckets are dropped that have not been used for as long as the slowest takes to refill: they are full.
MOST_BUCKETS = 10_000


@dataclass(frozen=True)
class CallLimit:
    """Limits for one certificate: ``at_once`` calls in a burst, then ``per_s`` a second. ``open``: streams at a time.

    Calls of the same ``kind`` count together.
    """

    kind: str
    at_once: int
    per_s: float
    open: int = 0


class CallLimits:
    """``limits``: by ``/package.Service/Method``; other methods have no limit. Use it in one event loop only."""

    def __init__(self, limits: Mapping[str, CallLimit], now: Callable[[], float] = time.monotonic) -> None:
        self._limits = limits
        self._now = now
        self._buckets: dict[tuple[str, str], tuple[float, float]] = {}  # calls left, and when that was
        self._open: Counter[tuple[str, str]] = Counter()

    @contextlib.contextmanager
    def counting(self, method: str, caller: str, name: str) -> Iterator[None]:
        """Counts a call of ``caller``, a fingerprint; ``name`` is for the message. Raises TooManyCalls."""
        limit = self._limits.get(method)
        if limit is None:
            yield
            return
        key = caller, limit.kind
        if limit.open and self._open[key] >= limit.open:
            problem = f"it has {limit.open} calls of this kind open already"
            raise TooManyCalls(name=name, action=limit.kind, problem=problem, seconds=1)
        self._take(key, limit, name)
        self._open[key] += 1
        try:
            yield
        finally:
            self._open[key] -= 1
            if not self._open[key]:
                del self._open[key]

    def _take(self, key: tuple[str, str], limit: CallLimit, name: str) -> None:
        now = self._now()
        left, at = self._buckets.get(key, (float(limit.at_once), now))
        left = min(left + (now - at) * limit.per_s, float(limit.at_once))
        if left < 1:
            problem = f"it may make {limit.at_once} in a moment, then {limit.per_s:g} a second"
            seconds = math.ceil(10 * (1 - left) / limit.per_s) / 10
            raise TooManyCalls(name=name, action=limit.kind, problem=problem, seconds=seconds)
        if len(self._buckets) >= MOST_BUCKETS and key not in self._buckets:
            oldest = now - max(known.at_once / known.per_s for known in self._limits.values())
            self._buckets = {kept: bucket for kept, bucket in self._buckets.items() if bucket[1] >= oldest}
        self._buckets[key] = (left - 1, now)

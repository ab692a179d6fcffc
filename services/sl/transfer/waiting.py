"""How long to wait for a result, and the callbacks of its transfer."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from time import monotonic

# Waits between attempts at all holders of a result; the last one repeats.
WAITS_S = (0.2, 0.5, 1.0, 2.0, 4.0)

Moved = Callable[[int], None]


@dataclass(frozen=True)
class Arriving:
    """Callbacks of a transfer: ``moved`` gets bytes, in a thread; ``on_segment`` is called for each correct segment."""

    moved: Moved
    on_segment: Callable[[], object]


@dataclass
class ResultWait:
    """The wait for a result: until no segment has come for ``patience_s``, or a newer result has ``overtaken`` it.
    ``failed(attempt)`` is called before each wait; ``attempt`` counts from 0 since the last segment.
    """

    patience_s: float
    overtaken: Callable[[], bool] = lambda: False
    failed: Callable[[int], object] = lambda _: None
    _since: float = field(default_factory=monotonic)
    _attempt: int = -1

    def on_segment(self) -> None:
        """A correct segment restarts the wait: a link that breaks often still delivers all."""
        self._since, self._attempt = monotonic(), -1

    def waits_s(self) -> Iterator[float]:
        while True:
            self._attempt += 1
            self.failed(self._attempt)
            left = self._since + self.patience_s - monotonic()
            if left <= 0 or self.overtaken():
                return
            yield min(WAITS_S[min(self._attempt, len(WAITS_S) - 1)], left)

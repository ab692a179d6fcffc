"""How long a result is waited for, and who hears of what comes of it."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from time import monotonic

# Between attempts at all holders of a result, the last again and again.
WAITS_S = (0.2, 0.5, 1.0, 2.0, 4.0)

Moved = Callable[[int], None]


@dataclass(frozen=True)
class Arriving:
    """Who hears of a transfer: ``moved`` gets bytes, in a thread; ``on_segment`` each segment that is right."""

    moved: Moved
    on_segment: Callable[[], object]


@dataclass
class ResultWait:
    """For a result: ``patience_s`` since a part of it last came, or until it is ``overtaken``. ``failed(attempt)``,
    from 0 since then, before each wait.
    """

    patience_s: float
    overtaken: Callable[[], bool] = lambda: False
    failed: Callable[[int], object] = lambda _: None
    _since: float = field(default_factory=monotonic)
    _attempt: int = -1

    def on_segment(self) -> None:
        """A part of it that is right: a link that breaks often still brings all."""
        self._since, self._attempt = monotonic(), -1

    def waits_s(self) -> Iterator[float]:
        while True:
            self._attempt += 1
            self.failed(self._attempt)
            left = self._since + self.patience_s - monotonic()
            if left <= 0 or self.overtaken():
                return
            yield min(WAITS_S[min(self._attempt, len(WAITS_S) - 1)], left)

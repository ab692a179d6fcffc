"""What the views of the contracts have in common: they fold each event once."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Generic, TypeVar

from services.chain.events import ChainEvent
from services.chain.receipts import Position
from services.rpc.version import version_of

NOWHERE = Position(-1, -1)  # before the first event

E = TypeVar("E", bound=ChainEvent)


@dataclass(kw_only=True)
class EventFold(ABC, Generic[E]):
    """Folds the events of one contract, in the order of the chain. Watchers see a new ``version`` after each change.

    ``position``: of the last folded event. ``ticks``: changes since then that are not events.
    """

    position: Position = NOWHERE
    events: int = 0
    ticks: int = 0

    @property
    def version(self) -> int:
        return version_of(self.events, self.ticks)

    def apply(self, event: E) -> bool:
        """Folds one event; returns False if it was folded before. Raises what ``_fold`` raises."""
        if event.position <= self.position:
            return False
        self._fold(event)
        self.position = event.position
        self.events += 1
        self.ticks = 0
        return True

    def touch(self) -> None:
        """Something that watchers see has changed without an event."""
        self.ticks += 1

    @abstractmethod
    def _fold(self, event: E) -> None: ...

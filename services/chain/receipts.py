"""What a chain answers: where something stands on it, its events, what became of a transaction."""

from dataclasses import dataclass
from typing import NamedTuple


class Position(NamedTuple):
    """Where an event stands on the chain; later events compare greater."""

    block: int
    log_index: int


@dataclass(frozen=True)
class Log:
    """One undecoded event. ``address`` is checksummed, ``topics`` are 32 bytes each."""

    address: str
    topics: tuple[bytes, ...]
    data: bytes
    position: Position
    transaction: str


@dataclass(frozen=True)
class Receipt:
    """A transaction that did what it says. ``contract`` is the address it created, if it created one."""

    transaction: str
    block: int
    gas_used: int
    contract: str | None
    logs: tuple[Log, ...]

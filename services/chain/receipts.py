"""What a chain returns: positions, events, and the outcome of a transaction."""

from dataclasses import dataclass
from typing import NamedTuple


class Position(NamedTuple):
    """The place of an event on the chain; later events compare greater."""

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
    """A transaction that succeeded. ``contract`` is the address of the contract that it created, if any."""

    transaction: str
    block: int
    gas_used: int
    contract: str | None
    logs: tuple[Log, ...]

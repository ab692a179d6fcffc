"""What every chain guarantees, whichever program runs it."""

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable
from types import TracebackType
from typing import ClassVar, Self

from services.chain.federation import Federation
from services.chain.receipts import Log, Position, Receipt
from services.chain.subscriptions import Subscription


class ChainBackend(ABC):
    """One chain, and the account of this node on it.

    Addresses are checksummed hex. Every method may be called by many tasks at once. A refused transaction or
    call raises the SwarmError class of the contract's error. A chain that fails raises ChainError (GethFailed,
    GethNotFound); a data directory that cannot be written raises StorageError.
    """

    kind: ClassVar[str]
    account: str
    chain_id: int
    federation: Federation | None
    """What lets several SNs share this chain; None where it serves one SN only."""
    # Called after each write to a contract, with the function and the seconds from the call to the receipt.
    on_transaction: Callable[[str, float], None] | None = None

    @property
    def trouble(self) -> str:
        """Why the chain cannot answer now, as far as this node knows; empty if it knows no reason."""
        return ""

    # --- life ---------------------------------------------------------------------------------------

    @abstractmethod
    async def start(self) -> None:
        """Opens the chain in its data directory, or makes it; returns when transactions can be sent."""

    @abstractmethod
    async def close(self) -> None:
        """Stops everything that was started; subscriptions end. Acknowledged writes are on disk."""

    async def __aenter__(self) -> Self:
        """For a chain that is already started; it is closed at the end."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    # --- writing ------------------------------------------------------------------------------------

    @abstractmethod
    async def transact(self, to: str, data: bytes) -> Receipt:
        """Sends a transaction and returns once it is in a final block.

        Transactions take effect in the order in which ``transact`` was called, and need not be awaited one by one.
        """

    @abstractmethod
    async def deploy(self, code: bytes) -> Receipt:
        """Creates a contract from bytecode and encoded arguments; ``contract`` of the receipt is its address."""

    # --- reading ------------------------------------------------------------------------------------

    @abstractmethod
    async def block_number(self) -> int:
        """The newest block."""

    @abstractmethod
    async def block_hash(self, number: int) -> str:
        """The hash of a block, unlike that of any other, even on another chain; empty if there is no such block."""

    @abstractmethod
    async def call(self, to: str, data: bytes, block: int | None = None) -> bytes:
        """The answer of a view, in the state after ``block`` (default: the newest)."""

    @abstractmethod
    def logs(
        self, address: str, from_block: int = 0, to_block: int | None = None, *, settled: bool = True
    ) -> AsyncIterator[list[Log]]:
        """The events of a contract from one block to another (default: the newest), both included, in order.
        ``settled``: only final blocks; otherwise also blocks that may still be replaced.

        In pages, none of them empty, whose size does not depend on the history: reading takes no more memory, and
        blocks nothing else, however long the history is.
        """

    @abstractmethod
    def subscribe(self, address: str) -> Subscription[Log]:
        """The events of a contract from now on: each once, in order, even across a restart of the chain."""

    async def follow(self, address: str, from_block: int = 0) -> AsyncIterator[Log]:
        """All events of a contract from a block on: the existing ones, then each new one, without a gap."""
        with self.subscribe(address) as news:
            last = Position(-1, -1)
            async for page in self.logs(address, from_block):
                for log in page:
                    last = log.position
                    yield log
            async for log in news:
                if log.position > last and log.position.block >= from_block:
                    yield log

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
    call raises the SwarmError class of the contract's error; a chain that fails raises ChainError (GethFailed,
    GethNotFound) and a data directory that cannot be written StorageError.
    """

    kind: ClassVar[str]
    account: str
    chain_id: int
    federation: Federation | None
    """What lets several SNs share this chain; None where it serves one SN only."""
    # Told of each write of a contract: its function, and the seconds from the call to the receipt.
    on_transaction: Callable[[str, float], None] | None = None

    # --- life ---------------------------------------------------------------------------------------

    @abstractmethod
    async def start(self) -> None:
        """Opens the chain in its data directory, or makes it; returns when transactions can be sent."""

    @abstractmethod
    async def close(self) -> None:
        """Stops everything that was started; subscriptions end. What was acknowledged is on disk."""

    async def __aenter__(self) -> Self:
        """For a chain that is started already; it is closed at the end."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    # --- writing ------------------------------------------------------------------------------------

    @abstractmethod
    async def transact(self, to: str, data: bytes) -> Receipt:
        """Sends a transaction and returns once it is in a block, for good.

        Transactions take effect in the order in which ``transact`` was called, and need not be awaited one by one.
        """

    @abstractmethod
    async def deploy(self, code: bytes) -> Receipt:
        """Creates a contract from its bytecode and encoded arguments; ``contract`` of the receipt is its address."""

    # --- reading ------------------------------------------------------------------------------------

    @abstractmethod
    async def block_number(self) -> int:
        """The newest block."""

    @abstractmethod
    async def block_hash(self, number: int) -> str:
        """By which this block is told from every other one, also of another chain; empty where there is none."""

    @abstractmethod
    async def call(self, to: str, data: bytes, block: int | None = None) -> bytes:
        """The answer of a view, in the state after ``block`` (default: the newest)."""

    @abstractmethod
    def logs(
        self, address: str, from_block: int = 0, to_block: int | None = None, *, settled: bool = True
    ) -> AsyncIterator[list[Log]]:
        """The events of a contract from one block to another (default: the newest), both included, in order.
        ``settled``: of final blocks only; without, also of those that may be replaced yet.

        In pages, none of them empty, that never grow with the history: to read it takes no more memory, and holds up
        nothing else, however long it is.
        """

    @abstractmethod
    def subscribe(self, address: str) -> Subscription[Log]:
        """The events of a contract from now on: each once, in order, also across a restart of the chain."""

    async def follow(self, address: str, from_block: int = 0) -> AsyncIterator[Log]:
        """All events of a contract since a block: those that are there, then each new one, without a gap."""
        with self.subscribe(address) as news:
            last = Position(-1, -1)
            async for page in self.logs(address, from_block):
                for log in page:
                    last = log.position
                    yield log
            async for log in news:
                if log.position > last and log.position.block >= from_block:
                    yield log

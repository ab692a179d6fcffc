"""What the gateways of all contracts share: a contract at an address, called by name."""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator
from time import monotonic
from typing import Any, Generic, Self, TypeVar

from services.chain.abi import ContractAbi, checksummed, contract_abi
from services.chain.backend import ChainBackend
from services.chain.events import NotAnEvent
from services.chain.receipts import Log, Receipt
from services.errors import ChainError
from services.runtime import logs

E = TypeVar("E")

_log = logs.get("chain")


class Gateway(ABC, Generic[E]):
    """One deployed contract, whose events are ``E``. Subclasses name it and give its functions Python signatures."""

    contract: str

    @abstractmethod
    def _event(self, log: Log) -> E:
        """The event in a log. Raises NotAnEvent."""

    def __init__(self, chain: ChainBackend, address: str) -> None:
        self.chain = chain
        self.address = checksummed(address)
        self._abi: ContractAbi = contract_abi(self.contract)
        self._said_what_it_is_not = False

    @classmethod
    def at(cls, chain: ChainBackend, address: str) -> Self:
        """The existing contract at ``address``."""
        return cls(chain, address)

    @classmethod
    async def _deploy(cls, chain: ChainBackend, *arguments: Any) -> Self:
        abi = contract_abi(cls.contract)
        receipt = await chain.deploy(abi.bytecode + abi.constructor.encode(*arguments))
        assert receipt.contract is not None  # noqa: S101 - every backend guarantees it for a deployment
        return cls(chain, receipt.contract)

    async def _send(self, function: str, *arguments: Any) -> Receipt:
        began = monotonic()
        receipt = await self.chain.transact(self.address, self._abi.functions[function].encode(*arguments))
        took = monotonic() - began
        _log.debug("transaction", function=function, seconds=round(took, 4), block=receipt.block)
        if self.chain.on_transaction is not None:
            self.chain.on_transaction(function, took)
        return receipt

    async def _read(self, function: str, *arguments: Any, block: int | None = None) -> Any:
        signature = self._abi.functions[function]
        answer = await self.chain.call(self.address, signature.encode(*arguments), block)
        if not answer:  # the answer of an address without code
            raise ChainError(problem=f"there is no contract at {self.address}", log="the node's log")
        return signature.decode(answer)

    async def _read_pages(self, function: str, page: int) -> list[Any]:
        rows: list[Any] = []
        while True:
            found = await self._read(function, len(rows), page)
            rows.extend(found)
            if len(found) < page:
                return rows

    async def history(
        self, from_block: int = 0, to_block: int | None = None, *, settled: bool = True
    ) -> AsyncIterator[list[E]]:
        """The events from one block to another (default: the newest), both included, in order, page by page.
        ``settled``: only final blocks; see ``ChainBackend.logs``.

        A thread decodes them, because many events take long and would block the event loop.
        """
        async for page in self.chain.logs(self.address, from_block, to_block, settled=settled):
            yield await asyncio.to_thread(lambda logs: [one for log in logs if (one := self._known(log))], page)

    async def events(self, from_block: int = 0) -> list[E]:
        """All events at once, for a history that is known to be short."""
        return [event async for page in self.history(from_block) for event in page]

    async def follow(self, from_block: int = 0) -> AsyncIterator[E]:
        """The events from a block on, then each new one, without a gap; ends when the chain is closed."""
        async for log in self.chain.follow(self.address, from_block):
            if (event := self._known(log)) is not None:
                yield event

    def _known(self, log: Log) -> E | None:
        """None if the log is not an event of this contract; logs a warning the first time."""
        try:
            return self._event(log)
        except NotAnEvent as error:
            if not self._said_what_it_is_not:
                self._said_what_it_is_not = True
                _log.warning(f"this is no {self.contract}", location=self.address, why=str(error))
            return None

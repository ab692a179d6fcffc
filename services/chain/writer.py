"""Sends transactions of one account without waiting one by one, and loses none when geth goes away."""

import asyncio
from dataclasses import dataclass, field

from services.chain.account import Account, SignedTransaction, require_fits
from services.chain.backend import Receipt
from services.chain.ipc import ConnectionLost, IpcConnection, RpcError
from services.errors import ChainError, SwarmError
from services.runtime import logs as log_setup

RECEIPT_TIMEOUT_S = 60.0


@dataclass
class _Pending:
    """Sent, and not yet seen in a block."""

    signed: SignedTransaction
    outcome: asyncio.Future[Receipt] = field(default_factory=lambda: asyncio.get_running_loop().create_future())


class Writer:
    """Counts nonces itself. Every transaction stays with it until it was seen in a block.

    ``resume`` gives it a connection; ``pause`` takes it away: what is sent meanwhile waits.
    """

    def __init__(self, account: Account) -> None:
        self._account = account
        self._chain_id = 0
        self._next_nonce = 0
        self._pending: dict[str, _Pending] = {}
        self._connection: IpcConnection | None = None
        self._ready = asyncio.Event()
        self._closed: SwarmError | None = None
        self._log = log_setup.get("chain")

    async def transact(self, to: str | None, data: bytes) -> Receipt:
        """Returns with the receipt. Raises the contract's error, or ChainError where no block takes it in time."""
        require_fits(data)
        try:
            async with asyncio.timeout(RECEIPT_TIMEOUT_S):
                await self._ready.wait()
                if self._closed is not None:
                    raise self._closed
                pending = _Pending(self._account.sign(self._next_nonce, self._chain_id, to, data))
                self._next_nonce += 1
                self._pending[pending.signed.hash] = pending
                await self._send(pending)
                return await pending.outcome
        except TimeoutError:
            problem = f"no block took a transaction in {RECEIPT_TIMEOUT_S:.0f} s"
            raise ChainError(problem=problem, log="geth.log") from None

    def awaits(self, transaction: str) -> bool:
        """Whether this transaction is one of ours that was not settled yet."""
        return transaction in self._pending

    def settle(self, transaction: str, outcome: Receipt | SwarmError) -> None:
        """A block holds this transaction; its sender learns what came of it."""
        pending = self._pending.pop(transaction, None)
        if pending is None or pending.outcome.done():
            return
        if isinstance(outcome, Receipt):
            pending.outcome.set_result(outcome)
        else:
            pending.outcome.set_exception(outcome)

    def pause(self) -> None:
        """The connection is gone."""
        self._ready.clear()

    async def resume(self, connection: IpcConnection, chain_id: int, block: int) -> None:
        """Goes on over a new connection. What the blocks up to ``block`` do not hold is sent again, in order."""
        self._connection, self._chain_id = connection, chain_id
        count = await connection.request("eth_getTransactionCount", self._account.address, hex(block))
        nonce = int(count, 16)
        waiting = sorted(self._pending.values(), key=lambda pending: pending.signed.nonce)
        self._pending.clear()
        for pending in waiting:  # under the nonces they had, unless geth lost blocks
            old = pending.signed
            pending.signed = self._account.sign(nonce, chain_id, old.to, old.data)
            self._pending[pending.signed.hash] = pending
            nonce += 1
        self._next_nonce = nonce
        if waiting:
            self._log.warning("sending transactions again that no block holds", count=len(waiting))
        self._ready.set()
        for pending in waiting:
            await self._send(pending)

    def close(self, error: SwarmError) -> None:
        """Nothing will be sent or settled any more."""
        self._closed = error
        self._ready.set()
        for pending in self._pending.values():
            if not pending.outcome.done():
                pending.outcome.set_exception(error)
        self._pending.clear()

    async def _send(self, pending: _Pending) -> None:
        assert self._connection is not None  # noqa: S101 - ready means connected
        try:
            await self._connection.request("eth_sendRawTransaction", "0x" + pending.signed.raw.hex())
        except ConnectionLost:
            pass  # resume() sends it again
        except RpcError as error:
            if "already known" not in str(error):
                await self._refused(pending, error)

    async def _refused(self, pending: _Pending, error: RpcError) -> None:
        """Keeps the nonces without a gap after geth did not take a transaction."""
        assert self._connection is not None  # noqa: S101 - it has just answered
        signed = pending.signed
        try:
            if "nonce too low" in str(error):
                if await self._connection.request("eth_getTransactionReceipt", signed.hash):
                    return  # a block holds it already and will be seen
                count = await self._connection.request("eth_getTransactionCount", self._account.address, "pending")
                self._next_nonce = max(self._next_nonce, int(count, 16))
            elif signed.nonce == self._next_nonce - 1:
                self._next_nonce -= 1
            else:  # later ones wait behind this nonce: something has to use it
                filler = self._account.sign(signed.nonce, self._chain_id, self._account.address, b"", gas=21_000)
                await self._connection.request("eth_sendRawTransaction", "0x" + filler.raw.hex())
        except (ConnectionLost, RpcError) as second:
            self._log.error("nonces could not be put in order", error=str(second))
        self._log.error("geth refused a transaction", nonce=signed.nonce, error=str(error))
        self.settle(signed.hash, ChainError(problem=f"geth refused a transaction: {error}", log="geth.log"))

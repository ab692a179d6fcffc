"""Sends transactions of one account without waiting one by one, and loses none when geth goes away."""

import asyncio
from dataclasses import dataclass, field

from services.chain.account import GAS_LIMIT, Account, SignedTransaction, require_fits
from services.chain.backend import Receipt
from services.chain.ipc import ConnectionLost, IpcConnection, RpcError
from services.errors import ChainError, SwarmError
from services.runtime import logs as log_setup

RECEIPT_TIMEOUT_S = 60.0
TRANSFER_GAS = 21_000


@dataclass
class _Pending:
    """Sent, and not yet seen in a block."""

    signed: SignedTransaction
    idle: bool  # it does nothing but move the chain on, and nobody waits for it
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

    @property
    def owes(self) -> bool:
        """Whether anybody waits for a receipt."""
        return any(not pending.idle for pending in self._pending.values())

    @property
    def busy(self) -> bool:
        """Whether anything was sent that no block was seen to hold."""
        return bool(self._pending)

    async def transact(self, to: str | None, data: bytes, value: int = 0) -> Receipt:
        """Returns with the receipt. Raises the contract's error, or ChainError where no block takes it in time."""
        require_fits(data)
        try:
            async with asyncio.timeout(RECEIPT_TIMEOUT_S):
                await self._ready.wait()
                if self._closed is not None:
                    raise self._closed
                pending = self._next(to, data, value=value)
                await self._send(pending)
                return await pending.outcome
        except TimeoutError:
            problem = f"no block took a transaction in {RECEIPT_TIMEOUT_S:.0f} s"
            raise ChainError(problem=problem, log="geth.log") from None

    async def push(self) -> None:
        """Sends a transaction that does nothing, so that there is another block."""
        if self._ready.is_set() and self._closed is None:
            await self._send(self._next(self._account.address, b"", gas=TRANSFER_GAS, idle=True))

    def _next(
        self, to: str | None, data: bytes, *, gas: int = GAS_LIMIT, value: int = 0, idle: bool = False
    ) -> _Pending:
        pending = _Pending(self._account.sign(self._next_nonce, self._chain_id, to, data, gas, value), idle)
        self._next_nonce += 1
        self._pending[pending.signed.hash] = pending
        return pending

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
        counts = await asyncio.gather(
            connection.request("eth_getTransactionCount", self._account.address, hex(block)),
            # An earlier run may have sent more than the blocks hold.
            connection.request("eth_getTransactionCount", self._account.address, "pending"),
        )
        nonce, known = (int(count, 16) for count in counts)
        waiting = sorted(self._pending.values(), key=lambda pending: pending.signed.nonce)
        self._pending.clear()
        self._next_nonce = self._renumber(waiting, nonce, known)
        for pending in waiting:
            self._pending[pending.signed.hash] = pending
        if waiting:
            self._log.warning("sending transactions again that no block holds", count=len(waiting))
        self._ready.set()
        for pending in waiting:
            await self._send(pending)

    def _renumber(self, waiting: list[_Pending], used: int, known: int) -> int:
        """Keeps nonces wherever possible, so that nothing is done twice; gives the next free one.

        ``used``: nonces below it are used up for good, if not by these then by others. ``known``: geth knows of
        transactions below it; where that leaves a gap to the first of these, geth lost blocks.
        """
        kept = [pending for pending in waiting if pending.signed.nonce >= used]
        gap = max(0, kept[0].signed.nonce - max(used, known)) if kept else 0
        free = max(known, kept[-1].signed.nonce - gap + 1 if kept else used)
        for pending in waiting:
            old = pending.signed
            if old.nonce < used:
                nonce, free = free, free + 1
            else:
                nonce = old.nonce - gap
            if nonce != old.nonce:
                pending.signed = self._account.sign(nonce, self._chain_id, old.to, old.data, old.gas, old.value)
        return free

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
            if "nonce too low" in str(error) or "replacement transaction" in str(error):
                # A block holds it, or what an earlier run sent under this nonce: either will be seen.
                return
            if signed.nonce == self._next_nonce - 1:
                self._next_nonce -= 1
            else:  # later ones wait behind this nonce: something has to use it
                filler = self._account.sign(signed.nonce, self._chain_id, self._account.address, b"", gas=21_000)
                await self._connection.request("eth_sendRawTransaction", "0x" + filler.raw.hex())
        except (ConnectionLost, RpcError) as second:
            self._log.error("nonces could not be put in order", error=str(second))
        self._log.error("geth refused a transaction", nonce=signed.nonce, error=str(error))
        self.settle(signed.hash, ChainError(problem=f"geth refused a transaction: {error}", log="geth.log"))

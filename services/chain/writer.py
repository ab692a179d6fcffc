"""Sends the transactions of one account without waiting for each, and loses none when geth goes away."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from services.chain.account import GAS_LIMIT, Account, SignedTransaction, require_fits
from services.chain.pool import PendingTransaction
from services.chain.receipts import Receipt
from services.errors import ChainError, SwarmError
from services.runtime import logs as log_setup

if TYPE_CHECKING:
    from services.chain.ipc import IpcConnection

RECEIPT_TIMEOUT_S = 60.0
TRANSFER_GAS = 21_000

# geth's errors for a used nonce: a block contains this transaction, or one that an earlier run sent.
NONCE_USED = ("nonce too low", "replacement transaction")
KNOWN = "already known"


@dataclass
class _Pending:
    """A transaction that was sent and not yet seen in a final block."""

    signed: SignedTransaction
    idle: bool  # it only causes a further block, and nobody waits for it
    outcome: asyncio.Future[Receipt] = field(default_factory=lambda: asyncio.get_running_loop().create_future())


class Writer:
    """Counts nonces itself, and keeps every transaction until it was seen in a final block.

    ``resume`` lets it send; after ``pause``, new transactions wait. ``submit`` puts a transaction into the pool,
    ``withdraw`` removes it.
    """

    def __init__(
        self, account: Account, submit: Callable[[PendingTransaction], None], withdraw: Callable[[str], None]
    ) -> None:
        self._account = account
        self._submit = submit
        self._withdraw = withdraw
        self._chain_id = 0
        self._next_nonce = 0
        self._pending: dict[str, _Pending] = {}
        self._ready = asyncio.Event()
        self._closed: SwarmError | None = None
        self._log = log_setup.get("chain")

    @property
    def owes(self) -> bool:
        """Whether anybody waits for a receipt."""
        return any(not pending.idle for pending in self._pending.values())

    @property
    def busy(self) -> bool:
        """Whether anything was sent that was not yet seen in a final block."""
        return bool(self._pending)

    async def transact(self, to: str | None, data: bytes, value: int = 0) -> Receipt:
        """Returns with the receipt. Raises the contract's error, or ChainError if no block includes it in time."""
        require_fits(data)
        try:
            async with asyncio.timeout(RECEIPT_TIMEOUT_S):
                await self._ready.wait()
                if self._closed is not None:
                    raise self._closed
                return await self._next(to, data, value=value).outcome
        except TimeoutError:
            problem = f"no block took a transaction in {RECEIPT_TIMEOUT_S:.0f} s"
            raise ChainError(problem=problem, log="geth.log") from None

    def push(self) -> None:
        """Sends a transaction that does nothing, to cause a further block."""
        if self._ready.is_set() and self._closed is None:
            self._next(self._account.address, b"", gas=TRANSFER_GAS, idle=True)

    def awaits(self, transaction: str) -> bool:
        """Whether this is one of our transactions that is not settled yet."""
        return transaction in self._pending

    def settle(self, transaction: str, outcome: Receipt | SwarmError) -> None:
        """A final block contains this transaction; its sender gets the outcome."""
        pending = self._pending.pop(transaction, None)
        if pending is None or pending.outcome.done() or pending.idle:
            return
        if isinstance(outcome, Receipt):
            pending.outcome.set_result(outcome)
        else:
            pending.outcome.set_exception(outcome)

    def refused(self, transaction: str, problem: str) -> None:
        """geth refused it. Nonces must not have a gap."""
        pending = self._pending.get(transaction)
        if pending is None or KNOWN in problem or any(text in problem for text in NONCE_USED):
            return  # the transaction with this nonce will be seen in a block
        signed = pending.signed
        self._log.error("geth refused a transaction", nonce=signed.nonce, error=problem)
        self.settle(transaction, ChainError(problem=f"geth refused a transaction: {problem}", log="geth.log"))
        self._withdraw(transaction)
        if signed.nonce == self._next_nonce - 1:
            self._next_nonce -= 1
            return
        # Later transactions wait for this nonce, so something has to use it.
        filler = self._account.sign(signed.nonce, self._chain_id, self._account.address, b"", gas=TRANSFER_GAS)
        self._send(_Pending(filler, idle=True))

    def pause(self) -> None:
        """geth is gone."""
        self._ready.clear()

    async def resume(self, connection: "IpcConnection", chain_id: int, block: int) -> None:
        """Continues: sends again, in order, whatever the blocks up to ``block`` do not contain."""
        self._chain_id = chain_id
        counts = await asyncio.gather(
            connection.request("eth_getTransactionCount", self._account.address, hex(block)),
            # An earlier run may have sent more than the blocks contain.
            connection.request("eth_getTransactionCount", self._account.address, "pending"),
        )
        waiting = sorted(self._pending.values(), key=lambda pending: pending.signed.nonce)
        before = list(self._pending)
        self._pending.clear()
        self._next_nonce = self._renumber(waiting, *(int(count, 16) for count in counts))
        for pending in waiting:
            self._send(pending)
        for transaction in before:
            if transaction not in self._pending:
                self._withdraw(transaction)
        self._ready.set()

    def close(self, error: SwarmError) -> None:
        """Nothing will be sent or settled any more."""
        self._closed = error
        self._ready.set()
        for pending in self._pending.values():
            if not pending.outcome.done():
                pending.outcome.set_exception(error)
                pending.outcome.exception()  # nobody may be waiting for it
        self._pending.clear()

    def _next(
        self, to: str | None, data: bytes, *, gas: int = GAS_LIMIT, value: int = 0, idle: bool = False
    ) -> _Pending:
        pending = _Pending(self._account.sign(self._next_nonce, self._chain_id, to, data, gas, value), idle)
        self._next_nonce += 1
        self._send(pending)
        return pending

    def _send(self, pending: _Pending) -> None:
        self._pending[pending.signed.hash] = pending
        self._submit(PendingTransaction(pending.signed.hash, pending.signed.raw))

    def _renumber(self, waiting: list[_Pending], used: int, known: int) -> int:
        """Keeps nonces wherever possible, so that nothing is done twice; returns the next free one.

        ``used``: nonces below it are used for good, by these transactions or others. ``known``: geth knows
        transactions below it; if there is a gap between it and the first of these, geth lost blocks.
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

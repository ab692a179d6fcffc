"""Has geth seal one block at a time, with all waiting transactions, and records what it may have sealed in vain."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from services.chain.clique import ChainBlock, difficulty
from services.chain.finality import Exposure
from services.chain.pool import PendingTransaction, Pool
from services.chain.rpc import RpcError
from services.chain.sealing import Seat
from services.chain.writer import KNOWN, Writer
from services.runtime import logs as log_setup

# For a block that should come at once; geth waits up to a second to seal one out of turn.
GIVE_UP_AFTER_S = 2.0

# geth answers a request or two between the arrival of a transaction and the time when it is executable. One that
# waits for an earlier nonce does not become executable.
LOOKS = 10

Request = Callable[..., Awaitable[Any]]


class Sealer:
    """geth seals only between ``miner_start`` and ``miner_stop``, and gets transactions only outside that time, so it
    makes one block of each height.

    While sealing, geth moves on to any new head by itself. It is stopped at once, but may have begun a block there,
    which is recorded as if geth had been told to seal it.
    """

    def __init__(  # ``wall_clock``: what geth dates its blocks by
        self,
        account: str,
        request: Request,
        pool: Pool,
        writer: Writer,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self._wall_clock = wall_clock
        self._me = account
        self._request = request
        self._pool = pool
        self._writer = writer
        self._started_at: float | None = None  # None: geth does not seal
        self._started_on = ""
        self._started_in = 0  # in which second, by the wall clock
        self._ran_until = -1  # geth may have begun to seal on blocks up to this number by itself
        self._noted = ""  # the head for which that is recorded
        self._log = log_setup.get("chain")
        self.exposure = Exposure()

    async def opened(self) -> None:
        """Stops a geth that has just started: it seals, though it has no transaction yet."""
        await self._stop()

    async def act(
        self, seat: Seat, head: ChainBlock, signers: Sequence[str], waited_from: float, *, able: bool
    ) -> float | None:
        """Seals on ``head`` or not; returns the time of the next decision.

        ``waited_from``: since when transactions may have been waiting for a block. ``able``: Clique lets this node
        seal the next block.
        """
        now = asyncio.get_running_loop().time()
        if self._started_at is not None:
            if head.hash == self._started_on and now < self._started_at + GIVE_UP_AFTER_S:
                return self._started_at + GIVE_UP_AFTER_S
            if head.hash == self._started_on:
                self._log.info("geth was to seal a block and has not", block=head.number + 1, after_s=GIVE_UP_AFTER_S)
            await self._stop()
        if able and head.number <= self._ran_until and head.hash not in (self._started_on, self._noted):
            self._noted = head.hash
            self._note(head, signers)
        waiting = self._pool.next_block
        if not waiting or (not seat.now and seat.after_s is None):
            return None
        due = waited_from if seat.after_s is None else waited_from + seat.after_s
        if now < due:
            return due
        executable, queued = await self._feed(waiting)
        if not executable:
            return None
        self._note(head, signers)
        if queued:
            self._note(head, signers)
        if not seat.now:
            self._log.debug("sealing in another's turn", block=head.number + 1, after_s=seat.after_s)
        self._started_on, self._started_at = head.hash, now
        self._started_in = int(self._wall_clock())
        await self._request("miner_start")
        return now + GIVE_UP_AFTER_S

    def moved(self, number: int, mine: bool) -> None:
        """The chain now has block ``number``; ``mine``: this signer sealed it."""
        self._note_a_later_second()
        self.exposure.moved(number, mine)

    def vote_changed(self, head: ChainBlock, signers: Sequence[str]) -> None:
        """geth puts its vote into its block: if geth remakes it with the new vote, that is another block."""
        if self._started_at is not None:
            self._note(head, signers)

    def _note(self, head: ChainBlock, signers: Sequence[str]) -> None:
        number = head.number + 1
        self.exposure.may_seal(number, head.total + difficulty(signers, number, self._me))

    def _note_a_later_second(self) -> None:
        """geth remakes its block for each transaction that becomes executable meanwhile. With the same transactions, in
        the same second, that is the same block; otherwise it is another one.
        """
        if self._started_at is not None and int(self._wall_clock()) != self._started_in:
            self.exposure.may_seal_again()

    async def _stop(self) -> None:
        self._note_a_later_second()
        mining = True
        while mining:  # a start takes effect a moment after its answer
            await self._request("miner_stop")
            mining = await self._request("eth_mining")
        # Ask only now, not meanwhile: geth may have moved on to a head that came while it was being stopped.
        number, pool = await asyncio.gather(self._request("eth_blockNumber"), self._request("txpool_status"))
        # Without a transaction geth cannot have begun on the newest block.
        newest = int(number, 16)
        self._ran_until = newest if int(pool["pending"], 16) else newest - 1
        self._started_at = None

    async def _feed(self, waiting: Sequence[PendingTransaction]) -> tuple[bool, bool]:
        """Whether geth can execute any of these now, and whether more may become executable while it seals."""
        taken = sum(await asyncio.gather(*(self._give(transaction) for transaction in waiting)))
        if len(waiting) == taken == 1 and self._writer.awaits(waiting[0].hash):
            return True, False  # it is next: no other one can block or follow it
        executable = queued = 0
        for _ in range(LOOKS):
            pool = await self._request("txpool_status")
            executable, queued = int(pool["pending"], 16), int(pool["queued"], 16)
            if executable >= taken and not queued:
                break
        return executable > 0, executable < taken or queued > 0

    async def _give(self, transaction: PendingTransaction) -> bool:
        try:
            await self._request("eth_sendRawTransaction", "0x" + transaction.raw.hex())
        except RpcError as error:
            if KNOWN in str(error):
                return True
            if self._writer.awaits(transaction.hash):
                self._writer.refused(transaction.hash, str(error))
            else:
                self._pool.remove([transaction.hash])  # its SN gets the same error from its own geth
            return False
        return True

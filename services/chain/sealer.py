"""Has geth seal one block at a time, with all transactions that wait, and remembers what it may have sealed in vain."""

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

# A block that was to come at once; geth waits up to a second for one that is out of turn.
GIVE_UP_AFTER_S = 2.0

# Between a transaction's coming and its being executable geth answers a request or two; one that waits for an earlier
# nonce does not become so.
LOOKS = 10

# geth makes its block anew for each transaction that becomes executable meanwhile. Of the same transactions in the same
# second that is the same block, of others, or in the next second, another one; so close to its end it may be either.
END_OF_SECOND_S = 0.05

Request = Callable[..., Awaitable[Any]]


class Sealer:
    """geth seals between ``miner_start`` and ``miner_stop`` only; transactions reach it outside of that time only, so
    that it makes one block of each height.

    While it seals, geth goes on to any new head of its own accord. It is stopped at once, but may have begun: that is
    noted as if it had been told to.
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
        self._ran_until = -1  # it may have begun to seal on blocks up to this number by itself
        self._noted = ""  # the head for which that is noted
        self._log = log_setup.get("chain")
        self.exposure = Exposure()

    async def opened(self) -> None:
        """A geth that has just started seals, but has no transaction."""
        await self._stop()

    async def act(
        self, seat: Seat, head: ChainBlock, signers: Sequence[str], waited_from: float, *, able: bool
    ) -> float | None:
        """Seals on ``head`` or not; gives the time at which to think again.

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
        if queued or self._wall_clock() % 1 > 1 - END_OF_SECOND_S:
            self._note(head, signers)
        if not seat.now:
            self._log.debug("sealing in another's turn", block=head.number + 1, after_s=seat.after_s)
        self._started_on, self._started_at = head.hash, now
        await self._request("miner_start")
        return now + GIVE_UP_AFTER_S

    def vote_changed(self, head: ChainBlock, signers: Sequence[str]) -> None:
        """geth puts its vote into the block that it makes: made anew meanwhile, it is another one."""
        if self._started_at is not None:
            self._note(head, signers)

    def _note(self, head: ChainBlock, signers: Sequence[str]) -> None:
        number = head.number + 1
        self.exposure.may_seal(number, head.total + difficulty(signers, number, self._me))

    async def _stop(self) -> None:
        mining = True
        while mining:  # a start takes effect a moment after its answer
            await self._request("miner_stop")
            mining = await self._request("eth_mining")
        # Asked now, and not beside: it may have gone on to a head that came while it was being stopped.
        number, pool = await asyncio.gather(self._request("eth_blockNumber"), self._request("txpool_status"))
        # Without a transaction it cannot have begun on the newest block.
        newest = int(number, 16)
        self._ran_until = newest if int(pool["pending"], 16) else newest - 1
        self._started_at = None

    async def _feed(self, waiting: Sequence[PendingTransaction]) -> tuple[bool, bool]:
        """Whether geth has any of these that it can execute now; and whether more may become so while it seals."""
        taken = sum(await asyncio.gather(*(self._give(transaction) for transaction in waiting)))
        if len(waiting) == taken == 1 and self._writer.awaits(waiting[0].hash):
            return True, False  # it is next: no other one can be in its way, or come after it
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
                self._pool.remove([transaction.hash])  # the SN that it comes from hears the same of its own geth
            return False
        return True

"""How several SNs share one chain on geth: who is in touch, when this one seals, what is final, who should seal."""

import asyncio
import contextlib
import socket
from collections.abc import Awaitable, Callable, Container, Iterable, Iterator, Mapping, Sequence
from typing import Any

from services.chain.account import Account
from services.chain.attestations import Attestations, Standing
from services.chain.clique import BlockHeader, ChainBlock, majority, waiting
from services.chain.finality import final_number
from services.chain.geth_peers import GethPeers
from services.chain.geth_process import GethProcess
from services.chain.latest_value import LatestValue
from services.chain.pool import PendingTransaction, Pool
from services.chain.receipts import Receipt
from services.chain.recent_blocks import RecentBlocks
from services.chain.sealer import Sealer
from services.chain.sealing import seat
from services.chain.voting import Voting
from services.chain.writer import Writer
from services.runtime import logs as log_setup

SHARE_BITS = 16  # a joining SN gets 1/65536 of the balance: enough for a long chain of admissions

# If attestations do not make a block final, further blocks on top of it do. The SN whose transaction is in the block
# asks for them first; if it is silent, another SN does.
OWNER_PUSHES_AFTER_S = 0.15
OTHERS_PUSH_AFTER_S = 0.5
PUSHES_AT_SPEED = 12
SLOW_PUSH_S = 1.0

# The only signer of a swarm asks the others before it seals, in case its geth lost blocks that they have, but does
# not wait long for them.
ALONE_AFTER_S = 3.0

# Blocks normally arrive from geth to geth. But geth looks for old blocks only every 10 s and redials a lost peer only
# every 35 s, so blocks that do not arrive are fetched from an SN.
FETCH_AFTER_S = 0.25
FETCH_AGAIN_S = 0.5

Request = Callable[..., Awaitable[Any]]


class Federation:
    """The SN tells it which SNs are in touch and what they say, and the chain tells it of new blocks. It acts only in
    ``act``, and calls ``wake`` to have the chain call that.
    """

    def __init__(self, account: Account, process: GethProcess, request: Request, wake: Callable[[], None]) -> None:
        self.account = self._me = account.address
        self._process = process
        self._request = request
        self._wake = wake
        self._log = log_setup.get("chain")
        self.pool = Pool()
        self.writer = Writer(account, self._submit, lambda transaction: self.pool.remove([transaction]))
        self.tail = RecentBlocks(request)
        self.geth_peers = GethPeers(request)
        self.voting = Voting(request)
        self._sealer = Sealer(self._me, request, self.pool, self.writer)
        self._exposure = self._sealer.exposure
        self.attestations = Attestations(self._me, self._exposure)
        self.finals: LatestValue[int] = LatestValue()  # the newest final block
        self.reopened: LatestValue[bool] = LatestValue()  # geth was started, perhaps again
        self.lagging: LatestValue[str] = LatestValue()  # accounts of SNs whose blocks do not arrive here
        self._in_touch: LatestValue[bool] = LatestValue()  # the set of SNs in touch has changed
        self._receipts: dict[str, list[Any]] = {}
        self._connected: set[str] = {self._me}
        self._live: tuple[str, ...] = ()
        self._organizations: dict[str, str] | None = None
        self._caught_up = False
        self.passes_over_heads = False  # see importing()
        self.remembered = 0  # the newest final block that this node knew: no block below it is sealed
        self._expects_others = False
        self._alone_at = 0.0
        self._behind_since: float | None = None
        self._awaited = 0
        self._moved_at = 0.0
        self._waiting_since = 0.0
        self._pushes = 0
        self._pushed_on = ""
        self._pushed_at = 0.0
        self._timer: asyncio.TimerHandle | None = None

    # --- what the SN says ---------------------------------------------------------------------------

    def expect_others(self) -> None:
        """This chain has other SNs: ask them before sealing."""
        self._expects_others = True

    def await_final(self, block: int) -> None:
        """This SN waits until this block is final. It may have missed the attestations that made the block final for
        the others, who attest only to their newest blocks and need no further blocks themselves.
        """
        self._awaited = block
        self._wake()

    def connected(self, account: str) -> None:
        """An SN has come in touch."""
        self._expects_others = True
        self._connected.add(account)
        self._in_touch.put(True)
        self._wake()

    def disconnected(self, account: str) -> None:
        self._connected.discard(account)
        self.attestations.totals.pop(account, None)
        self._in_touch.put(True)
        self._wake()

    def heard(self, account: str, standing: Standing) -> None:
        """Takes what an SN says about its chain."""
        self.attestations.heard(account, standing)
        self._wake()

    def take(self, transaction: PendingTransaction) -> None:
        """Takes a transaction from another SN."""
        self._add(transaction, own=False)

    @contextlib.contextmanager
    def importing(self) -> Iterator[None]:
        """While a whole chain is imported into geth: skips its blocks; only the newest is processed afterwards."""
        self.passes_over_heads = True
        try:
            yield
        finally:
            self.passes_over_heads = False
            self._wake()

    async def handed_over(self) -> None:
        """Returns once no signer is in touch: signers disconnect an SN that was voted out when they do not need it."""
        async for _ in self._in_touch.follow():
            if not any(signer in self._connected for signer in self.signers):
                return

    def await_signers(self) -> None:
        """This SN waits until the block that determined the current signers is final."""
        self.await_final(self.voting.eras[-1].start - 1)

    def needs_others_than(self, accounts: Container[str]) -> bool:
        """Whether an SN not among these seals, or may have to attest to the block that ended its time as a signer."""
        newest = self.voting.eras[-1]
        ended = self.final_number >= newest.start - 1
        return not ended or any(signer not in accounts for signer in newest.signers)

    def elect_from(self, live: Sequence[str], organizations: Mapping[str, str] | None = None) -> None:
        """``live``: accounts of the SNs that are present, in the order of joining; signers are chosen from them.
        ``organizations``: by account, for all SNs that may write; None: all belong to the same one.
        """
        of = None if organizations is None else dict(organizations)
        if (tuple(live), of) != (self._live, self._organizations):
            self._live, self._organizations = tuple(live), of
            self._wake()

    @property
    def signers(self) -> tuple[str, ...]:
        """Who seals the next block, in the order of turns."""
        return self.voting.signers

    @property
    def seals_alone(self) -> bool:
        """Whether this node is the only signer and has decided to continue from the blocks that it has."""
        return self.voting.one_signer and self.signers[0] == self._me and self._caught_up

    @property
    def genesis(self) -> str:
        """The first block, from which geth makes its database (JSON)."""
        return self._process.genesis

    def is_geth(self, connection: socket.socket) -> bool:
        """Whether this SN's geth holds the other end of a connection on loopback."""
        return self._process.is_at(connection)

    async def is_behind(self, account: str) -> bool:
        """Whether an SN has more blocks than geth itself, which may have blocks that were not processed here yet."""
        return self.attestations.totals.get(account, 0) > (await self._head())[1]

    async def head_number(self) -> int:
        """Number of geth's newest block."""
        return (await self._head())[0]

    async def _head(self) -> tuple[int, int]:
        """Number and total difficulty of geth's newest block."""
        head = await self._request("eth_getHeaderByNumber", "latest")
        return int(head["number"], 16), int(head["totalDifficulty"], 16)

    async def doubt(self, account: str, claimed: int) -> None:
        """An SN claimed a total difficulty and sent all it has: if geth still has less, nothing waits for the rest."""
        has = (await self._head())[1]
        if min(claimed, self.attestations.totals.get(account, 0)) > has:
            self._log.error("an SN does not have the blocks that it announced", account=account)
            self.attestations.unfounded(account)
            self._wake()

    async def fund(self, account: str) -> Receipt:
        """Gives another SN's account more than it can ever spend, and keeps even more."""
        return await self.writer.transact(account, b"", value=await self.balance(self._me) >> SHARE_BITS)

    async def balance(self, account: str) -> int:
        return int(await self._request("eth_getBalance", account, "latest"), 16)

    # --- what the chain says ------------------------------------------------------------------------

    async def opened(self, remembered: int) -> None:
        """geth has started or restarted, with the blocks that it has. ``remembered``: the newest block that this node
        knew to be final among several signers; a geth that has lost it must not seal another one in its place.
        """
        self.remembered = remembered
        await self._sealer.opened()
        await self.tail.load()
        await self.voting.read(self.tail)
        self._caught_up, self.voting.proposed, self._pushed_on = False, None, ""
        self._moved_at = self._now()
        self._exposure.cut_off()
        if len(self.signers) > 1:  # what it sealed before is no longer known
            self._exposure.lost(self.tail.head.total + 2)
        self._alone_at = self._now() + (ALONE_AFTER_S if self._expects_others else 0.0)
        self.reopened.put(True)
        self.attestations.tell(self.tail, self.signers)
        if self.tail.head.number < remembered:
            self._log.error(
                "geth lost final blocks; waiting for an SN that has them", has=self.tail.head.number, had=remembered
            )

    async def moved(self, header: BlockHeader) -> list[ChainBlock]:
        """Processes a new head; returns the blocks that were dropped for it."""
        if header.parent != self.tail.head.hash:  # another branch, or announced before the newest blocks were loaded
            header = BlockHeader.of(await self._request("eth_getHeaderByNumber", "latest"))
        before = self.tail.head.hash
        fresh, given_up = await self.tail.take(header)
        if not fresh:
            return given_up
        passed_over = fresh[0].header.parent != before  # blocks that may contain votes, or that were dropped
        self._moved_at = self._now()
        if given_up:
            self._log.info("the chain switched to another branch", block=fresh[0].number, given_up=len(given_up))
        if (passed_over or any(link.header.votes for link in fresh)) and await self.voting.read(self.tail):
            self._pushes = 0
        if not self.voting.one_signer:
            for link in given_up:
                if link.header.signer == self._me:
                    self._exposure.lost(link.total)
        for link in fresh:
            self._sealer.moved(link.number, self.voting.one_signer or link.header.signer == self._me)
        self.attestations.tell(self.tail, self.signers)
        # After a gap (a fetched chain): geth refuses waiting transactions that are in these blocks (used nonces).
        await self._include([] if passed_over and not given_up else fresh, given_up)
        return given_up

    async def receipts(self, number: int) -> tuple[str, list[Any]]:
        """The hash and the receipts of a block of this chain, as geth returns them."""
        link = self.tail.at(number)
        if link is None:
            return "", await self._request("eth_getBlockReceipts", hex(number)) or []
        if link.hash not in self._receipts:
            self._receipts[link.hash] = await self._request("eth_getBlockReceipts", link.hash) or []
        return link.hash, self._receipts[link.hash]

    @property
    def final_number(self) -> int:
        """The newest final block that was processed."""
        return self.finals.value or 0

    def settled(self, final: int) -> None:
        """The blocks up to ``final`` were processed: their transactions leave the pool."""
        if final != self.finals.value:
            self.finals.put(final)
        unsettled = {link.hash for link in self.tail.since(final + 1)}
        for block_hash in [known for known in self._receipts if known not in unsettled]:
            self.pool.remove(_hashes(self._receipts.pop(block_hash)))

    async def _include(self, fresh: Sequence[ChainBlock], given_up: Sequence[ChainBlock]) -> None:
        for link in given_up:
            self.pool.given_up(_hashes(self._receipts.pop(link.hash, ())))
        for link in fresh:
            if self.tail.holds(link.number, link.hash):
                self.pool.included(_hashes((await self.receipts(link.number))[1]))
        self._waiting_since = self._now()

    def final(self, known: int) -> int:
        """The newest final block, as far as this SN can tell; ``known``: a block that is final."""
        chain = self.tail.since(known)
        if not chain:
            return self.tail.head.number
        words = self.attestations.on(self.tail)
        number = final_number(
            chain, self.voting.eras, words, voting=self.voting.under_way, candidates=self.voting.candidates
        )
        found = self.tail.at(number)
        if found is not None:
            self._exposure.forget_below(found.total, self.signers)
        return number

    async def act(self, final: int) -> None:
        """Seals, votes and sends empty transactions as far as needed now. ``final``: the newest final block."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        due = [self._catch_up(), self.pool.tell_again()]
        # Before sealing: geth puts the vote into the block, and a vote that comes later would make another block.
        live = self._live if self._me in self.signers and self._caught_up else ()
        if await self.voting.vote(live, self._organizations):
            self._pushes = 0
            self._sealer.vote_changed(self.tail.head, self.signers)
        due += [await self._seal(), self._push(final)]
        soonest = min((at for at in due if at is not None), default=None)
        if soonest is not None:
            delay = max(0.0, soonest - self._now())
            self._timer = asyncio.get_running_loop().call_later(delay, self._wake)

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self.attestations.own.close()
        self._in_touch.close()
        self.lagging.close()
        self.finals.close()
        self.reopened.close()
        self.voting.changed.close()

    # --- sealing ------------------------------------------------------------------------------------

    def _catch_up(self) -> float | None:
        """Decides whether to seal yet: a geth that was down may have lost blocks, and must not seal others instead.

        Returns the time at which to ask another SN for blocks that do not arrive by themselves.
        """
        mine = self.tail.head.total
        totals = self.attestations.totals
        ahead = max(totals, key=totals.__getitem__, default=None)
        behind = ahead is not None and totals[ahead] > mine
        lost = self.tail.head.number < self.remembered
        if not self._caught_up and not behind and not lost and mine >= self.attestations.attested:
            asked = sum(signer == self._me or signer in totals for signer in self.signers)
            alone = len(self.signers) == 1 and self._now() >= self._alone_at
            self._caught_up = alone or (bool(totals) and asked >= majority(self.signers))
        if not behind or ahead is None:
            self._behind_since = None
            return None
        if self._behind_since is None:
            self._behind_since = self._now()
        due = max(self._behind_since, self._moved_at) + FETCH_AFTER_S
        if self._now() < due:
            return due
        self._behind_since = self._now() + FETCH_AGAIN_S - FETCH_AFTER_S
        self.lagging.put(ahead)
        return self._now() + FETCH_AGAIN_S

    async def _seal(self) -> float | None:
        """Lets geth seal or not; returns the time of the next decision."""
        number = self.tail.head.number + 1
        recent = self.tail.links[-len(self.signers) :]
        held_back = waiting(self.signers, [link.header for link in recent])
        mine = seat(self._me, self.signers, held_back, number, self._connected, caught_up=self._caught_up)
        able = self._me in self.signers and self._me not in held_back
        since = max(self._moved_at, self._waiting_since)
        due = await self._sealer.act(mine, self.tail.head, self.signers, since, able=able)
        if not self._caught_up and self._alone_at > self._now():
            return self._alone_at
        return due

    def _submit(self, transaction: PendingTransaction) -> None:
        self._add(transaction, own=True)

    def _add(self, transaction: PendingTransaction, *, own: bool) -> None:
        idle = not self.pool.waiting
        if self.pool.add(transaction, own=own):
            if idle:
                self._waiting_since = self._now()
            self._wake()

    # --- moving on ----------------------------------------------------------------------------------

    def _push(self, final: int) -> float | None:
        """Sends a transaction that does nothing, if a block is needed and nobody else makes one."""
        delay = self._push_after(final)
        if delay is None:
            self._pushes = 0
            return None
        if self._pushes >= PUSHES_AT_SPEED:
            delay = max(delay, SLOW_PUSH_S)
        due = self._moved_at + delay
        if self._pushed_on == self.tail.head.hash:
            due = max(due, self._pushed_at + SLOW_PUSH_S)
        if self._now() < due:
            return due
        self._pushed_on, self._pushed_at = self.tail.head.hash, self._now()
        self._pushes += 1
        self.writer.push()
        return self._now() + SLOW_PUSH_S

    def _push_after(self, final: int) -> float | None:
        """Seconds after the last block; None if no further block is needed."""
        rank = self._rank()
        if self.voting.proposed is not None and rank is not None:
            return rank * OTHERS_PUSH_AFTER_S
        open_ = self.tail.since(final + 1)
        if not open_:
            return None
        if self.writer.owes:
            in_touch = [signer for signer in self.signers if signer in self._connected]
            return 0.0 if self.attestations.all_spoke(self.tail, in_touch) else OWNER_PUSHES_AFTER_S
        if rank is not None and not all(link.header.only_transfers for link in open_):
            return (rank + 1) * OTHERS_PUSH_AFTER_S
        waits = final < self._awaited <= self.tail.head.number
        return (len(self.signers) + 1) * OTHERS_PUSH_AFTER_S if waits else None

    def _rank(self) -> int | None:
        """This node's place among the signers that are in touch; None if it is not one of them."""
        present = [signer for signer in self.signers if signer in self._connected]
        return present.index(self._me) if self._me in present else None

    def _now(self) -> float:
        return asyncio.get_running_loop().time()


def _hashes(receipts: Iterable[Mapping[str, Any]]) -> list[str]:
    return [str(receipt["transactionHash"]) for receipt in receipts]

"""How several SNs share one chain on geth: who is in touch, when this one seals, what is final, who shall seal."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

from services.chain.abi import checksummed
from services.chain.backend import Receipt
from services.chain.clique import Header, Link, difficulty, ordered, waiting
from services.chain.electorate import Vote, next_vote
from services.chain.finality import Era, Exposure, Vouch, final_number
from services.chain.geth_process import GethProcess
from services.chain.newest import Newest
from services.chain.sealing import Seat, seat
from services.chain.tail import Tail
from services.chain.writer import Writer
from services.runtime import logs as log_setup

VOUCHES_KEPT = 64
SHARE_BITS = 16  # a joining SN is given the 65536th part: enough for a long chain of admissions

# A block whose fate the vouches leave open is settled by more blocks. The SN whose transaction is in it sends for them
# first, another one where that one is silent.
OWNER_PUSHES_AFTER_S = 0.06
OTHERS_PUSH_AFTER_S = 0.5
PUSHES_AT_SPEED = 12
SLOW_PUSH_S = 1.0

# The only signer of a swarm asks the others before it seals, in case its geth lost blocks that they have; but it
# does not wait long for them.
ALONE_AFTER_S = 3.0

Request = Callable[..., Awaitable[Any]]


@dataclass(frozen=True)
class Standing:
    """What an SN tells the others of its chain: the total difficulty of its head, and what it vouches for."""

    total: int
    vouch: Vouch | None


class Federation:
    """Told by the SN who is in touch and what they say, and by the chain how it moves. Changes nothing of its own
    accord between two calls of ``act``, which ``wake`` asks the chain to make.
    """

    def __init__(
        self, account: str, process: GethProcess, request: Request, writer: Writer, wake: Callable[[], None]
    ) -> None:
        self._me = account
        self._process = process
        self._request = request
        self._writer = writer
        self._wake = wake
        self._log = log_setup.get("chain")
        self.tail = Tail(request)
        self.standing: Newest[Standing] = Newest()
        self.signers_changed: Newest[tuple[str, ...]] = Newest()
        self._eras: list[Era] = []
        self._exposure = Exposure()
        self._connected: set[str] = {account}
        self._said: dict[str, deque[Vouch]] = {}
        self._totals: dict[str, int] = {}
        self._live: tuple[str, ...] = ()
        self._mining = True
        self._caught_up = False
        self._alone_at: float | None = 0.0
        self._proposed: Vote | None = None
        self._vouched_total = -1
        self._moved_at = 0.0
        self._waiting_since: float | None = None
        self._pushes = 0
        self._pushed_on = ""
        self._pushed_at = 0.0
        self._timer: asyncio.TimerHandle | None = None

    # --- what the SN says ---------------------------------------------------------------------------

    def expect_others(self) -> None:
        """This chain has more SNs than this one: ask them before sealing."""
        self._alone_at = None

    def connected(self, account: str) -> None:
        """An SN is in touch."""
        self._connected.add(account)
        self._wake()

    def disconnected(self, account: str) -> None:
        self._connected.discard(account)
        self._totals.pop(account, None)
        self._wake()

    def heard(self, account: str, standing: Standing) -> None:
        """What an SN says of its chain."""
        self._totals[account] = standing.total
        if standing.vouch is not None:
            self._said.setdefault(account, deque(maxlen=VOUCHES_KEPT)).append(standing.vouch)
        self._wake()

    def elect_from(self, live: Sequence[str]) -> None:
        """Accounts of the SNs that are present, in the order of their joining: the signers shall come from them."""
        if tuple(live) != self._live:
            self._live = tuple(live)
            self._wake()

    @property
    def signers(self) -> tuple[str, ...]:
        """Who seals the next block, in the order of turns."""
        return self._eras[-1].signers

    @property
    def one_signer(self) -> bool:
        """What it seals is final, and has been for a while."""
        return len(self._eras) == 1 and len(self.signers) == 1

    @property
    def seals_alone(self) -> bool:
        """This node is the only signer and has decided to go on from the blocks it has."""
        return self.one_signer and self.signers[0] == self._me and self._caught_up

    async def trust(self, enode: str) -> None:
        """Lets the geth of another SN connect. Both do so before either dials: geth repeats no refused call soon."""
        await self._request("admin_addTrustedPeer", enode)

    async def dial(self, enode: str) -> None:
        await self._request("admin_addPeer", enode)

    async def forget(self, enode: str) -> None:
        """It has another one now."""
        await self._request("admin_removePeer", enode)
        await self._request("admin_removeTrustedPeer", enode)

    async def enode(self, host: str) -> str:
        """Where the others' geth find this one, which is on ``host``."""
        info = await self._request("admin_nodeInfo")
        return f"{info['enode'].split('@')[0]}@{host}:{info['ports']['listener']}"

    @property
    def genesis(self) -> str:
        """The first block, as geth makes its database from it (JSON)."""
        return self._process.genesis

    async def fund(self, account: str) -> Receipt:
        """Gives another SN's account more than it can ever spend, and keeps more than that."""
        balance = int(await self._request("eth_getBalance", self._me, "latest"), 16)
        return await self._writer.transact(account, b"", value=balance >> SHARE_BITS)

    async def peers(self) -> int:
        return int(await self._request("net_peerCount"), 16)

    # --- what the chain says ------------------------------------------------------------------------

    def transaction_waits(self) -> None:
        """geth heard of one."""
        if self._waiting_since is None:
            self._waiting_since = self._now()
            self._wake()

    async def opened(self) -> None:
        """geth is there, perhaps again, with the blocks it has."""
        await self.tail.load()
        await self._read_eras()
        self._mining = bool(await self._request("eth_mining"))
        self._waiting_since = self._now()
        self._caught_up, self._proposed, self._pushed_on = False, None, ""
        self._moved_at = self._now()
        if len(self.signers) > 1:  # what it sealed before is not known any more
            self._exposure.lost(self.tail.head.total + 2)
        if self._alone_at is None:
            self._alone_at = self._now() + ALONE_AFTER_S
        self._tell()

    async def moved(self, header: Header) -> list[Link]:
        """Takes a new head; gives the blocks that were given up for it."""
        fresh, given_up = await self.tail.take(header)
        if not fresh:
            return given_up
        self._moved_at = self._now()
        if given_up:
            self._log.info("the chain took another branch", block=fresh[0].number, given_up=len(given_up))
        if given_up or any(link.header.votes for link in fresh):
            await self._read_eras()
        if not self.one_signer:
            for link in given_up:
                if link.header.signer == self._me:
                    self._exposure.lost(link.total)
            for link in fresh:
                self._exposure.moved(link.number, link.header.signer == self._me)
            self._note_what_may_be_sealed()
        self._tell()
        return given_up

    def final(self) -> int:
        """The newest block that stays for good, as far as this SN can know; -1 where it knows of none."""
        if self.one_signer:
            return self.tail.head.number
        vouches = {account: vouch for account in self._said if (vouch := self._newest_vouch(account)) is not None}
        number = final_number(self.tail.links, self._eras, vouches, voting=self._proposed is not None)
        found = self.tail.at(number)
        if found is not None:
            self._exposure.forget_below(found.total, self.signers)
        return number

    async def act(self, final: int) -> None:
        """Seals or not, votes, and moves the chain on, as things stand. ``final``: the newest final block."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._catch_up()
        due = [await self._seal(), await self._vote(), await self._push(final)]
        soonest = min((at for at in due if at is not None), default=None)
        if soonest is not None:
            delay = max(0.0, soonest - self._now())
            self._timer = asyncio.get_running_loop().call_later(delay, self._wake)

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self.standing.close()
        self.signers_changed.close()

    # --- sealing ------------------------------------------------------------------------------------

    def _catch_up(self) -> None:
        """A geth that was away may have lost blocks it had sealed; it must not seal others in their place."""
        if self._caught_up:
            return
        mine = self.tail.head.total
        behind = any(total > mine for total in self._totals.values()) or mine < self._vouched_total
        if len(self.signers) > 1:
            self._caught_up = not behind  # seat() asks for most of the others to be in touch, too
            asked = sum(signer == self._me or signer in self._totals for signer in self.signers)
            self._caught_up = self._caught_up and asked > len(self.signers) // 2
        else:
            alone = self._alone_at is not None and self._now() >= self._alone_at
            self._caught_up = not behind and (alone or len(self._totals) > 0)

    async def _seal(self) -> float | None:
        """Lets geth seal or not; gives the time at which to think again."""
        number = self.tail.head.number + 1
        held_back = waiting(self.signers, [link.header for link in self.tail.links])
        mine = seat(self._me, self.signers, held_back, number, self._connected, caught_up=self._caught_up)
        if not self._caught_up and len(self.signers) == 1 and self._me in self.signers:
            await self._let_mine(on=False)
            return self._alone_at
        due = None
        if mine.after_s is not None and self._waiting_since is not None:
            due = max(self._moved_at, self._waiting_since) + mine.after_s
            if self._now() >= due:
                due = None
                mine = Seat(now=await self._transactions_wait())
        await self._let_mine(mine.now)
        return due

    async def _transactions_wait(self) -> bool:
        waits = int((await self._request("txpool_status"))["pending"], 16) > 0
        if not waits:
            self._waiting_since = None
        return waits

    async def _let_mine(self, on: bool) -> None:
        if on == self._mining:
            return
        self._mining = on
        if on:
            self._note_what_may_be_sealed()
            await self._request("miner_start")
            return
        await self._request("miner_stop")
        while await self._request("eth_mining"):  # an earlier start takes effect a moment after its answer
            await self._request("miner_stop")

    def _note_what_may_be_sealed(self) -> None:
        head = self.tail.head
        if not self._mining or self._me not in self.signers or len(self.signers) == 1:
            return
        if self._me in waiting(self.signers, [link.header for link in self.tail.links]):
            return
        number = head.number + 1
        self._exposure.may_seal(number, head.total + difficulty(self.signers, number, self._me))

    # --- vouching -----------------------------------------------------------------------------------

    def _tell(self) -> None:
        """Tells the others of a new head, and vouches for it where nothing sealed elsewhere is in the way."""
        head, floor = self.tail.head, self._exposure.floor(self.signers)
        vouch = None
        if head.total >= floor:
            vouch = Vouch(head.number, head.hash, floor)
            self._said.setdefault(self._me, deque(maxlen=VOUCHES_KEPT)).append(vouch)
            self._vouched_total = head.total
        self.standing.put(Standing(head.total, vouch))

    def _newest_vouch(self, account: str) -> Vouch | None:
        """What it vouches for on our chain."""
        said = reversed(self._said[account])
        return next((vouch for vouch in said if self.tail.holds(vouch.number, vouch.hash)), None)

    # --- voting -------------------------------------------------------------------------------------

    async def _vote(self) -> float | None:
        wanted = next_vote(self.signers, self._live) if self._me in self.signers and self._caught_up else None
        if wanted == self._proposed:
            return None
        if self._proposed is not None:
            await self._request("clique_discard", self._proposed.account)
        self._proposed, self._pushes = wanted, 0
        if wanted is not None:
            self._log.info("voting on who seals", account=wanted.account, authorize=wanted.authorize)
            await self._request("clique_propose", wanted.account, wanted.authorize)
        return None

    async def _read_eras(self) -> None:
        """Who seals each block of the tail, and the next one."""
        links = self.tail.links
        before = self._eras[-1].signers if self._eras else ()
        eras = [Era(links[0].number + 1, await self._signers_after(links[0]))]
        for link in links[1:]:
            if link.header.votes and (signers := await self._signers_after(link)) != eras[-1].signers:
                eras.append(Era(link.number + 1, signers))
        self._eras = eras
        if self.signers != before:
            self._pushes = 0
            self._log.info("signers", block=self.tail.head.number, accounts=", ".join(self.signers))
            self.signers_changed.put(self.signers)

    async def _signers_after(self, link: Link) -> tuple[str, ...]:
        found = await self._request("clique_getSignersAtHash", link.hash)
        return tuple(ordered([checksummed(account) for account in found]))

    # --- moving on ----------------------------------------------------------------------------------

    async def _push(self, final: int) -> float | None:
        """Sends a transaction that does nothing where blocks are needed and nobody else makes one."""
        delay = self._push_after(final)
        if delay is None:
            self._pushes = 0 if self._proposed is None else self._pushes
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
        await self._writer.push()
        return self._now() + SLOW_PUSH_S

    def _push_after(self, final: int) -> float | None:
        """Seconds after the last block; None where nothing is to be moved on."""
        rank = self._rank()
        if self._proposed is not None and rank is not None:
            return rank * OTHERS_PUSH_AFTER_S
        if self.one_signer:
            return None
        open_ = [link for link in self.tail.links if link.number > final]
        if not open_:
            return None
        if self._writer.owes:
            return 0.0 if self._all_have_spoken() else OWNER_PUSHES_AFTER_S
        if rank is None or all(link.header.only_transfers for link in open_):
            return None
        return (rank + 1) * OTHERS_PUSH_AFTER_S

    def _all_have_spoken(self) -> bool:
        head = self.tail.head
        return all(
            account in self._said and any(vouch.hash == head.hash for vouch in self._said[account])
            for account in self.signers
            if account in self._connected
        )

    def _rank(self) -> int | None:
        """This node's place among the signers that are in touch; None where it is none of them."""
        present = [signer for signer in self.signers if signer in self._connected]
        return present.index(self._me) if self._me in present else None

    def _now(self) -> float:
        return asyncio.get_running_loop().time()

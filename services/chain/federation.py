"""How several SNs share one chain on geth: who is in touch, when this one seals, what is final, who shall seal."""

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from services.chain.abi import checksummed
from services.chain.account import Account
from services.chain.backend import Receipt
from services.chain.clique import Header, Link, majority, ordered, waiting
from services.chain.electorate import Vote, next_vote
from services.chain.finality import Era, Vouch, final_number
from services.chain.geth_process import GethProcess
from services.chain.ipc import RpcError
from services.chain.newest import Newest
from services.chain.pool import Pool, Transaction
from services.chain.sealer import Sealer
from services.chain.sealing import seat
from services.chain.tail import Tail
from services.chain.writer import Writer
from services.errors import ChainError, StorageError
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

# Blocks come from geth to geth. Where they do not, as geth looks for old ones every 10 s only and dials a peer it lost
# every 35 s, they are fetched from an SN.
FETCH_AFTER_S = 0.3
FETCH_AGAIN_S = 3.0

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

    def __init__(self, account: Account, process: GethProcess, request: Request, wake: Callable[[], None]) -> None:
        self.account = self._me = account.address
        self._process = process
        self._request = request
        self._wake = wake
        self.pool = Pool()
        self.writer = Writer(account, self._submit, lambda transaction: self.pool.remove([transaction]))
        self._sealer = Sealer(self._me, request, self.pool)
        self._sealer.writer = self.writer
        self._log = log_setup.get("chain")
        self.tail = Tail(request)
        self.standing: Newest[Standing] = Newest()
        self.finals: Newest[int] = Newest()  # the newest final block
        self.reopened: Newest[bool] = Newest()  # geth was started, perhaps again
        self.lagging: Newest[str] = Newest()  # accounts of SNs that have blocks which do not come
        self.signers_changed: Newest[tuple[str, ...]] = Newest()
        self._eras: list[Era] = []
        self._exposure = self._sealer.exposure
        self._receipts: dict[str, list[Any]] = {}
        self._connected: set[str] = {self._me}
        self._said: dict[str, deque[Vouch]] = {}
        self._totals: dict[str, int] = {}
        self._live: tuple[str, ...] = ()
        self._behind_since: float | None = None
        self._caught_up = False
        self._alone_at: float | None = 0.0
        self._proposed: Vote | None = None
        self._vouched_total = -1
        self._moved_at = 0.0
        self._waiting_since = 0.0
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

    def take(self, transaction: Transaction) -> None:
        """What another SN sends."""
        self._add(transaction, own=False)

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
        """One account seals, and has for a while."""
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
        return await self.writer.transact(account, b"", value=await self.balance(self._me) >> SHARE_BITS)

    async def balance(self, account: str) -> int:
        return int(await self._request("eth_getBalance", account, "latest"), 16)

    async def peers(self) -> int:
        return int(await self._request("net_peerCount"), 16)

    # --- what the chain says ------------------------------------------------------------------------

    async def opened(self) -> None:
        """geth is there, perhaps again, with the blocks it has."""
        await self.tail.load()
        await self._read_eras()
        await self._sealer.opened()
        self._caught_up, self._proposed, self._pushed_on = False, None, ""
        self._moved_at = self._now()
        if len(self.signers) > 1:  # what it sealed before is not known any more
            self._exposure.lost(self.tail.head.total + 2)
        if self._alone_at is None:
            self._alone_at = self._now() + ALONE_AFTER_S
        self.reopened.put(True)
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
            self._exposure.moved(link.number, self.one_signer or link.header.signer == self._me)
        self._tell()
        await self._include(fresh, given_up)
        return given_up

    async def receipts(self, number: int) -> tuple[str, list[Any]]:
        """The hash and the receipts of a block of this chain, as geth shows them."""
        link = self.tail.at(number)
        if link is None:
            return "", await self._request("eth_getBlockReceipts", hex(number)) or []
        if link.hash not in self._receipts:
            self._receipts[link.hash] = await self._request("eth_getBlockReceipts", link.hash) or []
        return link.hash, self._receipts[link.hash]

    @property
    def final_number(self) -> int:
        """The newest final block that was seen."""
        return self.finals.value or 0

    def settled(self, final: int) -> None:
        """The blocks up to ``final`` were seen: what is in them is not on its way any more."""
        if final != self.finals.value:
            self.finals.put(final)
        for link in self.tail.links:
            if link.number <= final and link.hash in self._receipts:
                self.pool.remove(_hashes(self._receipts.pop(link.hash)))

    async def _include(self, fresh: Sequence[Link], given_up: Sequence[Link]) -> None:
        for link in given_up:
            self.pool.given_up(_hashes(self._receipts.pop(link.hash, ())))
        for link in fresh:
            if self.tail.holds(link.number, link.hash):
                self.pool.included(_hashes((await self.receipts(link.number))[1]))
        self._waiting_since = self._now()

    def final(self, known: int) -> int:
        """The newest block that stays for good, as far as this SN can know; ``known``: one that does."""
        chain = [link for link in self.tail.links if link.number >= known]
        if not chain:
            return self.tail.head.number
        vouches = {account: vouch for account in self._said if (vouch := self._newest_vouch(account)) is not None}
        number = final_number(chain, self._eras, vouches, voting=self._proposed is not None)
        found = self.tail.at(number)
        if found is not None:
            self._exposure.forget_below(found.total, self.signers)
        return number

    async def act(self, final: int) -> None:
        """Seals or not, votes, and moves the chain on, as things stand. ``final``: the newest final block."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        due = [self._catch_up(), await self._seal(), await self._vote(), await self._push(final)]
        soonest = min((at for at in due if at is not None), default=None)
        if soonest is not None:
            delay = max(0.0, soonest - self._now())
            self._timer = asyncio.get_running_loop().call_later(delay, self._wake)

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self.standing.close()
        self.lagging.close()
        self.finals.close()
        self.reopened.close()
        self.signers_changed.close()

    # --- sealing ------------------------------------------------------------------------------------

    def _catch_up(self) -> float | None:
        """Whether to seal yet: a geth that was away may have lost blocks, and must not seal others in their place.

        Gives the time at which to ask another SN for blocks that do not come by themselves.
        """
        mine = self.tail.head.total
        ahead = max(self._totals, key=self._totals.__getitem__, default=None)
        behind = ahead is not None and self._totals[ahead] > mine
        if not self._caught_up and not behind and mine >= self._vouched_total:
            asked = sum(signer == self._me or signer in self._totals for signer in self.signers)
            alone = len(self.signers) == 1 and self._alone_at is not None and self._now() >= self._alone_at
            self._caught_up = alone or (bool(self._totals) and asked >= majority(self.signers))
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

    async def raw_blocks(self, since: int) -> AsyncIterator[bytes]:
        """The blocks after number ``since``, as geth writes them to a file."""
        number = since + 1
        while number <= self.tail.head.number:
            yield bytes.fromhex((await self._request("debug_getRawBlock", hex(number)))[2:])
            number += 1

    async def import_blocks(self, path: Path, pieces: Iterable[bytes]) -> None:
        """Takes blocks as ``raw_blocks`` gives them, by way of a file at ``path``, which is removed."""
        with _file_of(path, pieces):
            try:
                await self._request("admin_importChain", str(path))
            except RpcError as error:
                raise ChainError(problem=f"geth did not take blocks: {error}", log="geth.log") from None

    async def _seal(self) -> float | None:
        """Lets geth seal or not; gives the time at which to think again."""
        number = self.tail.head.number + 1
        held_back = waiting(self.signers, [link.header for link in self.tail.links])
        mine = seat(self._me, self.signers, held_back, number, self._connected, caught_up=self._caught_up)
        due = await self._sealer.act(mine, self.tail.head, self.signers, max(self._moved_at, self._waiting_since))
        if not self._caught_up and self.one_signer and self._me in self.signers:
            return self._alone_at
        return due

    def _submit(self, transaction: Transaction) -> None:
        self._add(transaction, own=True)

    def _add(self, transaction: Transaction, *, own: bool) -> None:
        idle = not self.pool.waiting
        if self.pool.add(transaction, own=own):
            if idle:
                self._waiting_since = self._now()
            self._wake()

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
            self._log.debug("signers", block=self.tail.head.number, accounts=", ".join(self.signers))
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
        self.writer.push()
        return self._now() + SLOW_PUSH_S

    def _push_after(self, final: int) -> float | None:
        """Seconds after the last block; None where nothing is to be moved on."""
        rank = self._rank()
        if self._proposed is not None and rank is not None:
            return rank * OTHERS_PUSH_AFTER_S
        open_ = [link for link in self.tail.links if link.number > final]
        if not open_:
            return None
        if self.writer.owes:
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


def _hashes(receipts: Iterable[Mapping[str, Any]]) -> list[str]:
    return [str(receipt["transactionHash"]) for receipt in receipts]


@contextlib.contextmanager
def _file_of(path: Path, pieces: Iterable[bytes]) -> Iterator[None]:
    """Raises StorageError where it cannot be written."""
    try:
        with path.open("wb") as file:
            file.writelines(pieces)
        yield
    except OSError as error:
        raise StorageError(path=path, problem=error.strerror or str(error)) from None
    finally:
        path.unlink(missing_ok=True)

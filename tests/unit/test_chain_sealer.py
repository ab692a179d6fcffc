"""geth seals one block of each height, and what it may have begun of its own accord is not attested against."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from clock import Clock

from services.chain import sealer as module
from services.chain.abi import checksummed
from services.chain.attestations import Standing
from services.chain.clique import NOBODY, BlockHeader, ChainBlock
from services.chain.federation import Federation
from services.chain.finality import Era
from services.chain.pool import PendingTransaction, Pool
from services.chain.rpc import RpcError
from services.chain.sealer import Sealer
from services.chain.sealing import Seat

SIGNERS = ["a", "b", "c"]
NOW, LATER, NEVER = Seat(now=True), Seat(now=False, after_s=3600.0), Seat(now=False)


class Geth:
    """What a sealer asks of geth: a pool, and a miner that runs or not."""

    def __init__(self) -> None:
        self.mining = True
        self.head = 0
        self.pool: list[str] = []
        self.queued = 0
        self.comes_while_stopping: int | None = None
        self.refuses: dict[str, str] = {}
        self.asked: list[str] = []

    async def request(self, method: str, *parameters: Any) -> Any:
        self.asked.append(method)
        match method:
            case "miner_start" | "miner_stop":
                self.mining = method == "miner_start"
            case "eth_mining":
                await _others_first()
                self.head = self.comes_while_stopping or self.head
                return self.mining
            case "eth_blockNumber":
                return hex(self.head)
            case "txpool_status":
                return {"pending": hex(len(self.pool)), "queued": hex(self.queued)}
            case "eth_sendRawTransaction":
                assert not self.mining, "a transaction came while geth sealed"
                if parameters[0] in self.refuses:
                    raise RpcError(self.refuses[parameters[0]])
                self.pool.append(parameters[0])
        return None


async def _others_first() -> None:
    """Whoever asked something at the same time gets its answer before."""
    answered = asyncio.Event()
    asyncio.get_running_loop().call_soon(answered.set)
    await answered.wait()


class Nobody:
    """A writer that sent nothing."""

    def awaits(self, _transaction: str) -> bool:
        return False


@pytest.fixture
def geth() -> Geth:
    return Geth()


@pytest.fixture
def pool() -> Pool:
    return Pool()


@pytest.fixture
def clock() -> Clock:
    return Clock(1000.5)


@pytest.fixture
async def sealer(geth: Geth, pool: Pool, clock: Clock) -> Sealer:
    writer: Any = Nobody()
    made = Sealer("a", geth.request, pool, writer, clock)
    await made.opened()
    return made


def head(number: int, name: str = "") -> ChainBlock:
    raw = {"miner": "0x" + "00" * 20}
    return ChainBlock(BlockHeader(number, name or f"h{number}", f"h{number - 1}", 2, 0, raw), 2 * number + 1)


def waiting(pool: Pool, *names: str) -> None:
    for name in names:
        pool.add(PendingTransaction(name, name.encode()), own=False)


async def test_geth_gets_all_that_waits_then_seals_until_the_block_is_there(
    geth: Geth, pool: Pool, sealer: Sealer
) -> None:
    waiting(pool, "t1", "t2")
    await sealer.act(NOW, head(2), SIGNERS, 0.0, able=True)
    assert geth.mining and len(geth.pool) == 2

    waiting(pool, "t3")  # comes while the block is made
    await sealer.act(NOW, head(2), SIGNERS, 0.0, able=True)
    assert len(geth.pool) == 2

    geth.head, geth.pool = 3, []
    pool.included(["t1", "t2"])
    sealer.moved(3, mine=True)
    await sealer.act(NEVER, head(3), SIGNERS, 0.0, able=False)
    assert not geth.mining
    assert sealer.exposure.floor(SIGNERS) == 0


@pytest.mark.parametrize("seat", [NEVER, LATER])
async def test_without_the_turn_geth_gets_nothing(geth: Geth, pool: Pool, sealer: Sealer, seat: Seat) -> None:
    waiting(pool, "t1")
    await sealer.act(seat, head(2), SIGNERS, 1e9, able=True)
    assert not geth.mining and not geth.pool


async def test_what_cannot_be_executed_does_not_start_geth(geth: Geth, pool: Pool, sealer: Sealer) -> None:
    waiting(pool, "t1")
    geth.refuses = {"0x" + b"t1".hex(): "insufficient funds"}
    await sealer.act(NOW, head(2), SIGNERS, 0.0, able=True)
    assert not geth.mining
    assert pool.waiting == []


async def test_a_block_that_geth_may_have_begun_by_itself_counts_as_a_second_one(
    geth: Geth, pool: Pool, sealer: Sealer
) -> None:
    waiting(pool, "t1")
    await sealer.act(NOW, head(2), SIGNERS, 0.0, able=True)
    geth.head = 3  # another signer's block comes first; the transaction is still there, and geth goes on with it
    sealer.moved(3, mine=False)

    await sealer.act(NOW, head(3), SIGNERS, 0.0, able=True)
    sealer.moved(4, mine=True)

    begun = head(3).total + 1  # block 4 is b's turn
    assert sealer.exposure.floor(SIGNERS) == begun + 2 + 1


async def test_without_a_transaction_geth_has_begun_nothing(geth: Geth, pool: Pool, sealer: Sealer) -> None:
    waiting(pool, "t1")
    await sealer.act(NOW, head(2), SIGNERS, 0.0, able=True)
    geth.head, geth.pool = 3, []
    sealer.moved(3, mine=True)
    pool.included(["t1"])
    waiting(pool, "t2")

    await sealer.act(NOW, head(3), SIGNERS, 0.0, able=True)
    sealer.moved(4, mine=True)

    assert sealer.exposure.floor(SIGNERS) == 0


async def test_a_head_that_comes_while_geth_is_stopped_is_one_that_it_may_have_sealed_on(
    geth: Geth, pool: Pool, sealer: Sealer
) -> None:
    waiting(pool, "t1")
    await sealer.act(NOW, head(2), SIGNERS, 0.0, able=True)
    sealer.moved(3, mine=False)
    geth.head, geth.comes_while_stopping = 3, 4
    await sealer.act(NEVER, head(3), SIGNERS, 0.0, able=False)
    geth.head, geth.comes_while_stopping = 4, None

    await sealer.act(NEVER, head(4), SIGNERS, 0.0, able=True)
    sealer.moved(5, mine=False)

    assert sealer.exposure.floor(SIGNERS) == head(4).total + 1 + 2 + 1  # block 5 is c's turn


async def test_a_transaction_that_may_become_executable_meanwhile_may_give_a_second_block(
    geth: Geth, pool: Pool, sealer: Sealer
) -> None:
    waiting(pool, "t1", "t2")
    geth.queued = 1
    await sealer.act(NOW, head(2), SIGNERS, 0.0, able=True)
    assert geth.mining
    sealer.moved(3, mine=True)
    assert sealer.exposure.floor(SIGNERS) == head(2).total + 2 + 2 + 1


@pytest.mark.parametrize(("seen_at", "blocks"), [(1000.999, 1), (1001.001, 2)])
async def test_a_block_that_is_seen_in_a_later_second_than_it_was_begun_may_have_been_made_again(
    pool: Pool, sealer: Sealer, clock: Clock, seen_at: float, blocks: int
) -> None:
    waiting(pool, "t1")
    clock.now = 1000.99
    await sealer.act(NOW, head(2), SIGNERS, 0.0, able=True)
    clock.now = seen_at
    sealer.moved(3, mine=True)
    assert sealer.exposure.floor(SIGNERS) == (head(2).total + 2 + 2 + 1 if blocks == 2 else 0)


async def test_a_block_that_does_not_come_within_its_second_may_be_two(
    geth: Geth, pool: Pool, sealer: Sealer, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "GIVE_UP_AFTER_S", 0.0)
    waiting(pool, "t1")
    await sealer.act(NOW, head(2), SIGNERS, 0.0, able=True)
    clock.now += 2
    await sealer.act(NEVER, head(2), SIGNERS, 0.0, able=True)
    assert not geth.mining
    sealer.moved(3, mine=True)
    assert sealer.exposure.floor(SIGNERS) == head(2).total + 2 + 2 + 1


async def test_a_vote_that_changes_while_geth_seals_may_give_a_second_block(pool: Pool, sealer: Sealer) -> None:
    waiting(pool, "t1")
    await sealer.act(NOW, head(2), SIGNERS, 0.0, able=True)
    sealer.vote_changed(head(2), SIGNERS)
    sealer.moved(3, mine=True)
    assert sealer.exposure.floor(SIGNERS) == head(2).total + 2 + 2 + 1


async def test_a_vote_that_changes_before_is_in_the_only_block(pool: Pool, sealer: Sealer) -> None:
    sealer.vote_changed(head(2), SIGNERS)
    waiting(pool, "t1")
    await sealer.act(NOW, head(2), SIGNERS, 0.0, able=True)
    sealer.moved(3, mine=True)
    assert sealer.exposure.floor(SIGNERS) == 0


ACCOUNTS = [checksummed("0x" + octet * 20) for octet in ("11", "22", "33")]


def header_row(number: int) -> dict[str, Any]:
    """As geth shows it. The second and the third block vote."""
    return {
        "number": hex(number), "hash": f"0x{number}", "parentHash": f"0x{number - 1}", "difficulty": "0x2",
        "totalDifficulty": hex(1 + 2 * number), "gasUsed": "0x0", "miner": ACCOUNTS[1] if number in (2, 3) else NOBODY,
    }  # fmt: skip


class Shared:
    """A chain of three SNs that wait for this one, "b", to seal block 1."""

    def __init__(self, geth: Geth) -> None:
        account: Any = SimpleNamespace(address="b")
        process: Any = SimpleNamespace(genesis="")
        self.federation = Federation(account, process, geth.request, lambda: None)
        self.federation._sealer._wall_clock = Clock(1000.5)  # in a later second, geth may have made another block
        self.federation.tail.links = [head(0)]
        vars(self.federation.tail.head.header)["signer"] = "nobody"  # else it would be read from the seal
        self.federation.voting.eras = [Era(0, ("a", "b", "c"))]
        for name in ("a", "c"):
            self.federation.connected(name)
            self.federation.heard(name, Standing(head(0).total, None))
        self.federation.elect_from(["a", "b", "c"])

    def floor(self) -> int:
        """Once its block has come."""
        sealer = self.federation._sealer
        sealer.moved(1, mine=True)
        return sealer.exposure.floor(SIGNERS)


@pytest.mark.parametrize("blocks", [5, 400])
async def test_who_seals_is_known_however_many_blocks_come_at_once(
    blocks: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where a whole chain was fetched: block 3 has voted others in, and may be far behind the newest ones."""
    rows = {hex(number): header_row(number) for number in range(blocks + 1)}
    by_hash = {row["hash"]: row for row in rows.values()}

    async def request(method: str, *parameters: Any) -> Any:
        match method:
            case "eth_blockNumber":
                return hex(blocks)
            case "eth_getHeaderByNumber":
                return rows[hex(blocks) if parameters[0] == "latest" else parameters[0]]
            case "eth_getHeaderByHash":
                return by_hash[parameters[0]]
            case "clique_getSnapshotAtHash":
                voted_in = int(by_hash[parameters[0]]["number"], 16) >= 3
                return {"signers": ACCOUNTS if voted_in else ACCOUNTS[:1], "tally": {}}
        return []

    monkeypatch.setattr(BlockHeader, "signer", ACCOUNTS[0])
    account: Any = SimpleNamespace(address="another")
    process: Any = SimpleNamespace(genesis="")
    federation = Federation(account, process, request, lambda: None)
    federation.tail.links = [ChainBlock(BlockHeader.of(rows["0x0"]), 1)]
    federation.voting.eras = [Era(1, tuple(ACCOUNTS[:1]))]
    await federation.moved(BlockHeader.of(rows[hex(blocks)]))
    assert list(federation.signers) == ACCOUNTS
    federation.close()


async def test_geth_knows_what_to_vote_before_it_seals(geth: Geth) -> None:
    shared = Shared(geth)
    geth.mining = False
    shared.federation.elect_from(["a", "b"])
    shared.federation.take(PendingTransaction("t1", b"t1"))
    await shared.federation.act(0)
    assert geth.asked.index("clique_propose") < geth.asked.index("miner_start")
    assert shared.floor() == 0
    shared.federation.close()


async def test_who_votes_otherwise_while_it_seals_does_not_attest_to_its_block(geth: Geth) -> None:
    shared = Shared(geth)
    geth.mining = False
    shared.federation.take(PendingTransaction("t1", b"t1"))
    await shared.federation.act(0)
    assert "miner_start" in geth.asked
    shared.federation.elect_from(["a", "b"])
    await shared.federation.act(0)
    assert "clique_propose" in geth.asked
    assert shared.floor() > head(0).total + 2
    shared.federation.close()


async def test_who_waits_for_a_block_to_be_final_has_another_one_made(
    geth: Geth, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As an SN that joins does: to those that seal the chain is in order, and none of them goes on by itself."""
    federation = Shared(geth).federation
    pushed: list[str] = []
    geth.mining = False
    monkeypatch.setattr(federation.writer, "push", lambda: pushed.append("a block"))
    federation.voting.eras = [Era(0, ("a",))]
    federation.tail.links = [head(0), head(1)]
    federation._moved_at = federation._now() - 60
    for awaited, made in ((0, 0), (2, 0), (1, 1)):  # none, one that has not come, one that is here
        federation.await_final(awaited)
        await federation.act(0)
        assert len(pushed) == made
    await federation.act(1)
    assert len(pushed) == 1
    federation.close()

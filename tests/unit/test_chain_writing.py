"""Transactions on their way: nonces, the pool in front of geth, and what comes of a refusal."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from clock import Clock

from services.chain import account as account_module
from services.chain import pool as pool_module
from services.chain.account import DATA_LIMIT_BYTES, GAS_LIMIT, Account
from services.chain.pool import PendingTransaction, Pool
from services.chain.receipts import Receipt
from services.chain.relayed import gas_of
from services.chain.writer import Writer
from services.errors import ChainError

SOMEBODY = "0x" + "ab" * 20


class Counts:
    """The one thing that the writer asks geth for."""

    def __init__(self, final: int, pending: int) -> None:
        self.final, self.pending = final, pending

    async def request(self, _method: str, _account: str, block: str) -> str:
        return hex(self.pending if block == "pending" else self.final)


class Desk:
    """A writer in front of a pool."""

    def __init__(self, directory: Path) -> None:
        self.pool = Pool()
        account = Account.load_or_create(directory / "account.key")
        self.writer = Writer(account, self._submit, lambda transaction: self.pool.remove([transaction]))
        self._sent = asyncio.Event()

    def _submit(self, transaction: PendingTransaction) -> None:
        self.pool.add(transaction, own=True)
        self._sent.set()

    async def resume(self, final: int, pending: int) -> None:
        connection: Any = Counts(final, pending)
        await self.writer.resume(connection, 7, 100)

    async def write(self, data: bytes) -> tuple["asyncio.Task[Receipt]", str]:
        """A write under way, and the hash it has now."""
        self._sent.clear()
        task = asyncio.create_task(self.writer.transact(SOMEBODY, data))
        await self._sent.wait()
        return task, self.pool.waiting[-1].hash

    def settle(self, transaction: str) -> None:
        self.writer.settle(transaction, Receipt(transaction, 1, 21_000, None, ()))


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


async def test_what_was_sent_before_keeps_its_nonce_and_is_not_done_twice(desk: Desk) -> None:
    await desk.resume(final=3, pending=3)
    first, first_hash = await desk.write(b"a")
    second, second_hash = await desk.write(b"b")

    await desk.resume(final=4, pending=5)  # a block has the first, which was not seen yet
    assert {entry.hash for entry in desk.pool.waiting} >= {second_hash}
    desk.settle(second_hash)
    await second
    assert not first.done()
    first.cancel()
    assert first_hash


async def test_what_lost_its_nonce_to_an_earlier_run_gets_a_new_one(desk: Desk) -> None:
    await desk.resume(final=3, pending=3)
    write, before = await desk.write(b"a")

    await desk.resume(final=4, pending=4)

    (now,) = desk.pool.waiting
    assert now.hash != before
    desk.settle(now.hash)
    assert (await write).transaction == now.hash


async def test_nonces_close_up_where_geth_lost_blocks(desk: Desk) -> None:
    await desk.resume(final=5, pending=5)
    write, before = await desk.write(b"a")

    await desk.resume(final=3, pending=3)

    (now,) = desk.pool.waiting
    assert now.hash != before
    desk.settle(now.hash)
    await write


async def test_a_refused_transaction_fails_and_the_next_one_takes_its_nonce(desk: Desk) -> None:
    await desk.resume(final=0, pending=0)
    write, sent = await desk.write(b"a")
    desk.writer.refused(sent, "insufficient funds")
    with pytest.raises(ChainError, match="insufficient funds"):
        await write
    assert desk.pool.waiting == []


async def test_a_refused_transaction_among_others_leaves_no_gap(desk: Desk) -> None:
    await desk.resume(final=0, pending=0)
    write, sent = await desk.write(b"a")
    later, _ = await desk.write(b"b")
    desk.writer.refused(sent, "intrinsic gas too low")
    with pytest.raises(ChainError):
        await write
    assert len(desk.pool.waiting) == 2  # the later one, and one that does nothing under the nonce before it
    later.cancel()


async def test_a_nonce_that_is_used_already_is_waited_for(desk: Desk) -> None:
    await desk.resume(final=0, pending=0)
    write, sent = await desk.write(b"a")
    desk.writer.refused(sent, "nonce too low: next nonce 1, tx nonce 0")
    assert not write.done()
    desk.settle(sent)
    await write


async def test_what_only_moves_the_chain_on_is_owed_to_nobody(desk: Desk) -> None:
    await desk.resume(final=0, pending=0)
    desk.writer.push()
    assert desk.writer.busy and not desk.writer.owes
    desk.settle(desk.pool.waiting[0].hash)
    assert not desk.writer.busy


def test_a_transaction_waits_until_a_block_has_it_and_again_when_that_is_given_up() -> None:
    pool, transaction = Pool(), PendingTransaction("0x1", b"1")
    assert pool.add(transaction, own=False)
    assert not pool.add(transaction, own=False)
    pool.included(["0x1"])
    assert pool.waiting == []
    pool.given_up(["0x1"])
    assert pool.waiting == [transaction]
    pool.remove(["0x1"])
    assert pool.waiting == []


async def test_a_reader_gets_what_this_sn_sent_and_is_not_final_then_what_is_new() -> None:
    pool = Pool()
    pool.add(PendingTransaction("0x1", b"1"), own=True)
    pool.add(PendingTransaction("0x2", b"2"), own=False)
    reader = pool.open_reader()
    pool.add(PendingTransaction("0x3", b"3"), own=True)
    assert [reader.get_nowait().hash for _ in range(reader.qsize())] == ["0x1", "0x3"]
    pool.close_reader(reader)
    pool.add(PendingTransaction("0x4", b"4"), own=True)
    assert reader.empty()


def test_what_another_sn_has_given_up_does_not_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    pool = Pool()
    pool.add(PendingTransaction("0x1", b"1"), own=False)
    pool.add(PendingTransaction("0x2", b"2"), own=True)
    monkeypatch.setattr(pool_module, "OTHERS_KEPT_S", -1.0)
    assert [entry.hash for entry in pool.waiting] == ["0x2"]


def test_what_another_sn_has_dropped_is_told_to_it_again() -> None:
    """Its geth was away for two minutes; later transactions of the account would wait for this one for ever."""
    clock = Clock()
    here, there = Pool(clock), Pool(clock)
    reader = here.open_reader()
    here.add(PendingTransaction("0x1", b"1"), own=True)
    there.add(reader.get_nowait(), own=False)
    clock.now += pool_module.OTHERS_KEPT_S + 1
    assert not there.waiting
    again = here.tell_again()
    there.add(reader.get_nowait(), own=False)
    assert [entry.hash for entry in there.waiting] == ["0x1"]
    assert again == clock.now + pool_module.TELL_AGAIN_S and reader.empty()


def test_what_is_told_again_is_kept_by_the_others_as_long_as_that() -> None:
    clock = Clock()
    here, there = Pool(clock), Pool(clock)
    reader = here.open_reader()
    here.add(PendingTransaction("0x1", b"1"), own=True)
    for _ in range(10):
        there.add(reader.get_nowait(), own=False)
        clock.now += pool_module.TELL_AGAIN_S
        here.tell_again()
        assert [entry.hash for entry in there.waiting] == ["0x1"]
    here.remove(["0x1"])
    clock.now += pool_module.OTHERS_KEPT_S
    assert here.tell_again() is None and not there.waiting


def test_what_a_block_has_is_not_told_again_until_the_block_is_given_up() -> None:
    clock = Clock()
    pool = Pool(clock)
    reader = pool.open_reader()
    pool.add(PendingTransaction("0x1", b"1"), own=True)
    reader.get_nowait()
    pool.included(["0x1"])
    clock.now += pool_module.TELL_AGAIN_S
    pool.tell_again()
    assert reader.empty()
    pool.given_up(["0x1"])
    clock.now += pool_module.TELL_AGAIN_S
    pool.tell_again()
    assert reader.get_nowait().hash == "0x1"


def test_the_hash_of_what_comes_from_another_sn_is_computed_here(tmp_path: Path) -> None:
    signed = Account.load_or_create(tmp_path / "key").sign(0, 7, SOMEBODY, b"data")
    assert PendingTransaction.of(signed.raw) == PendingTransaction(signed.hash, signed.raw)


# --- what another SN relays --------------------------------------------------------------------------------------


def relayed(number: int, by: str = "sn-2", size: int = 1, gas: int = 0) -> PendingTransaction:
    return PendingTransaction(f"0x{number}", bytes(size), by, gas)


def test_one_sn_has_so_many_waiting_here_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool_module, "WAITING_LIMIT", 2)
    monkeypatch.setattr(pool_module, "WAITING_LIMIT_BYTES", 100)
    pool = Pool()
    assert [pool.add(relayed(number), own=False) for number in range(3)] == [True, True, False]
    assert pool.add(relayed(10, by="sn-3", size=100), own=False)
    assert not pool.add(relayed(11, by="sn-3"), own=False)
    assert all(
        pool.add(PendingTransaction(f"0xa{number}", b"1"), own=True) for number in range(9)
    )  # for itself it has room
    pool.remove(["0x0"])
    assert pool.add(relayed(2), own=False)


@pytest.mark.parametrize(
    ("limit", "value", "given"),
    [("BLOCK_LIMIT", 2, {}), ("BLOCK_LIMIT_BYTES", 20, {"size": 10}), ("BLOCK_LIMIT_GAS", 20, {"gas": 10})],
)
def test_one_sn_has_a_share_of_each_block_and_the_rest_goes_into_the_next(
    monkeypatch: pytest.MonkeyPatch, limit: str, value: int, given: dict[str, int]
) -> None:
    monkeypatch.setattr(pool_module, limit, value)
    pool = Pool()
    for number in range(3):
        pool.add(relayed(number, **given), own=False)
    pool.add(relayed(9, by="sn-3"), own=False)
    for number in range(3):
        pool.add(PendingTransaction(f"0xa{number}", bytes(10)), own=True)
    block = [entry.hash for entry in pool.next_block]
    assert block == ["0x0", "0x1", "0x9", "0xa0", "0xa1", "0xa2"]
    assert len(pool.waiting) == 7
    pool.included(block)
    assert [entry.hash for entry in pool.next_block] == ["0x2"]


def test_whoever_seals_a_transaction_gets_nothing_for_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Else a block would depend on who geth thinks seals it, which it may not have decided when it begins."""
    account = Account.load_or_create(tmp_path / "key")
    assert gas_of(account.sign(0, 7, SOMEBODY, b"data").raw)
    monkeypatch.setattr(account_module, "PRIORITY_FEE_WEI", 1)
    with pytest.raises(ValueError, match="it gives 1 wei per gas to whoever seals it"):
        gas_of(account.sign(0, 7, SOMEBODY, b"data").raw)


def test_only_what_an_sn_would_make_is_relayed(tmp_path: Path) -> None:
    account = Account.load_or_create(tmp_path / "key")
    assert gas_of(account.sign(0, 7, SOMEBODY, b"data").raw) == GAS_LIMIT
    assert gas_of(account.sign(0, 7, None, bytes(DATA_LIMIT_BYTES)).raw) == GAS_LIMIT
    with pytest.raises(ValueError, match="20000001 gas"):
        gas_of(account.sign(0, 7, SOMEBODY, b"data", gas=GAS_LIMIT + 1).raw)
    with pytest.raises(ValueError, match="size"):
        gas_of(account.sign(0, 7, SOMEBODY, bytes(DATA_LIMIT_BYTES + 1025)).raw)
    for raw in (b"", b"\x02", b"\x01\xc0", b"\x02\xc0", b"\x02\x83abc", b"\x02\xc1\xc1", b"\x02\xcc" + b"\xc0" * 12):
        with pytest.raises(ValueError, match=r"its? "):
            gas_of(raw)

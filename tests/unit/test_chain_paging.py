"""How many blocks a page has, and an answer that is longer than it may be."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.chain.ipc import READ_BYTES, IpcConnection
from services.chain.paging import PageSize, Stride
from services.chain.rpc import AnswerTooLong
from services.errors import ChainError

WITHIN_S = 30.0


@given(blocks=st.lists(st.integers(0, 2_000_000), min_size=1, max_size=400))
def test_pages_stay_within_their_bounds_whatever_the_blocks_hold(blocks: list[int]) -> None:
    size = PageSize(wanted_bytes=500_000, most_bytes=4_000_000, most_blocks=100)
    stride, at, asked = Stride(size), 0, 0
    while at < len(blocks):
        asked += 1
        page = blocks[at : at + stride.blocks]
        assert 1 <= stride.blocks <= size.most_blocks
        if sum(page) > size.most_bytes:
            stride.too_long(at)
            continue
        at += len(page)
        stride.came(sum(page))
    assert asked <= 20 + sum(blocks) // size.wanted_bytes * 8 + len(blocks)


def test_a_dense_history_comes_in_pages_of_the_wanted_size_and_an_empty_one_in_few() -> None:
    size = PageSize(wanted_bytes=1000, most_bytes=10_000, most_blocks=500)
    stride = Stride(size)
    for _ in range(4):
        stride.came(stride.blocks * 100)
    assert stride.blocks == 10
    for _ in range(4):
        stride.came(0)
    assert stride.blocks == 500


def test_a_block_that_alone_is_too_long_is_named() -> None:
    stride = Stride(PageSize())
    with pytest.raises(ChainError, match="the events of block 7 are more than"):
        for _ in range(20):
            stride.too_long(7)


class Geth:
    """Answers each request on a Unix socket with as many bytes as its method says, after a notification."""

    def __init__(self) -> None:
        self.notified: list[Any] = []
        self.over = asyncio.Event()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while line := await reader.readline():
            request = json.loads(line)
            news = {"jsonrpc": "2.0", "method": "eth_subscription", "params": {"result": request["id"]}}
            answer = {"jsonrpc": "2.0", "id": request["id"], "result": "x" * int(request["method"])}
            for message in (news, answer):
                writer.write(json.dumps(message, separators=(",", ":")).encode() + b"\n")
            await writer.drain()
        writer.close()
        self.over.set()


@pytest.fixture
def geth() -> Geth:
    return Geth()


@pytest.fixture
async def connection(geth: Geth, tmp_path: Path) -> AsyncIterator[IpcConnection]:
    async with await asyncio.start_unix_server(geth.serve, tmp_path / "ipc"):
        opened = await IpcConnection.open(tmp_path / "ipc", geth.notified.append)
        yield opened
        await opened.close()
        async with asyncio.timeout(WITHIN_S):
            await geth.over.wait()


async def test_an_answer_that_is_too_long_costs_its_request_only(connection: IpcConnection, geth: Geth) -> None:
    sizes = [0, 10, 5_000, READ_BYTES - 40, READ_BYTES, 3 * READ_BYTES, 1, 9 * READ_BYTES, 100]
    async with asyncio.timeout(WITHIN_S):
        answers = await asyncio.gather(
            *(connection.request(str(size), most_bytes=2 * READ_BYTES) for size in sizes), return_exceptions=True
        )
        short = await asyncio.gather(connection.request("5000", most_bytes=1000), return_exceptions=True)
        long = await connection.request(str(9 * READ_BYTES))
    told = [len(it) if isinstance(it, str) else type(it) for it in answers]
    assert told == [size if size < 2 * READ_BYTES else AnswerTooLong for size in sizes]
    assert isinstance(short[0], AnswerTooLong) and len(long) == 9 * READ_BYTES
    assert geth.notified == list(range(len(sizes) + 2))


async def test_a_request_that_nobody_waits_for_any_more_is_passed_over(connection: IpcConnection) -> None:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0):
            await connection.request(str(9 * READ_BYTES), most_bytes=READ_BYTES)
    async with asyncio.timeout(WITHIN_S):
        assert await connection.request("7") == "x" * 7

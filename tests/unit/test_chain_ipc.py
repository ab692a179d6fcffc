"""The connection to geth: errors cost their request only, and the end of the connection is told to all who wait."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from services.chain.ipc import IpcConnection
from services.chain.rpc import ConnectionLost, RpcError

WITHIN_S = 30.0


class Geth:
    """Answers ``good`` with true, ``bad`` with an error, goes at ``die``, says nonsense at ``nonsense``."""

    def __init__(self) -> None:
        self.connections = 0
        self.gone = asyncio.Event()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        while line := await reader.readline():
            request = json.loads(line)
            head = f'{{"jsonrpc":"2.0","id":{request["id"]},'
            answers = {
                "good": head + '"result":true}',
                "bad": head + '"error":{"code":3,"message":"execution reverted","data":"0x1234"}}',
                "nonsense": "[1]",
            }
            if request["method"] == "die":
                break
            if request["method"] in answers:
                writer.write(answers[request["method"]].encode() + b"\n")
        writer.close()
        self.gone.set()


@pytest.fixture
def geth() -> Geth:
    return Geth()


@pytest.fixture
async def connection(geth: Geth, tmp_path: Path) -> AsyncIterator[IpcConnection]:
    async with await asyncio.start_unix_server(geth.serve, tmp_path / "ipc"):
        opened = await IpcConnection.open(tmp_path / "ipc", lambda _: None)
        yield opened
        await opened.close()
        async with asyncio.timeout(WITHIN_S):
            await geth.gone.wait()


async def test_an_error_comes_with_its_data_and_costs_its_request_only(connection: IpcConnection) -> None:
    async with asyncio.timeout(WITHIN_S):
        refused, good = await asyncio.gather(
            connection.request("bad"), connection.request("good"), return_exceptions=True
        )
        assert isinstance(refused, RpcError)
        assert (str(refused), refused.data, good) == ("execution reverted", "0x1234", True)
        assert await connection.request("good") is True


@pytest.mark.parametrize("end", ["die", "nonsense"])
async def test_whoever_waits_when_the_connection_ends_is_told_and_no_other_one_is_opened(
    connection: IpcConnection, geth: Geth, end: str
) -> None:
    async with asyncio.timeout(WITHIN_S):
        told = await asyncio.gather(connection.request("silence"), connection.request(end), return_exceptions=True)
        await connection.lost.wait()
    assert [type(error) for error in told] == [ConnectionLost, ConnectionLost]
    with pytest.raises(ConnectionLost):
        await connection.request("good")
    assert geth.connections == 1


async def test_where_nobody_listens_the_connection_is_lost(tmp_path: Path) -> None:
    with pytest.raises(ConnectionLost):
        await IpcConnection.open(tmp_path / "nobody", lambda _: None)

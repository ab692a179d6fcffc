"""A geth that makes blocks one by one is asked nothing while it is waited for."""

import asyncio
from typing import Any

import pytest
import rlp

from services.chain import lone_geth
from services.chain.lone_geth import LoneGeth, Notifications
from services.errors import ChainError

TRANSACTIONS = [b"first", b"second"]
HEAD = {"number": "0x1", "hash": "0x11", "parentHash": "0x10", "difficulty": "0x2", "gasUsed": "0x0", "miner": "0x0"}


class Geth:
    """What is asked of it, and ``quiet`` once nothing more is."""

    def __init__(self) -> None:
        self.news = Notifications()
        self.asked: list[str] = []
        self.mining = False
        self.geth = LoneGeth(self.request, self.news)

    async def request(self, method: str, *parameters: Any) -> Any:
        self.asked.append(method)
        match method:
            case "eth_sendRawTransaction":
                return parameters[0]
            case "miner_start":
                self.mining = True
            case "miner_stop":
                self.mining = False
            case "eth_mining":
                return self.mining
            case "debug_getRawBlock":
                return "0x" + rlp.encode([[], TRANSACTIONS]).hex()
        return None

    async def turns(self) -> None:
        """As many as whoever asks again and again would use."""
        for _ in range(100):
            turned = asyncio.Event()
            asyncio.get_running_loop().call_soon(turned.set)
            await turned.wait()


async def test_a_block_is_sealed_once_all_of_its_transactions_can_be_executed() -> None:
    fake = Geth()
    sealing = asyncio.create_task(fake.geth.seal(TRANSACTIONS))
    await fake.turns()
    assert fake.asked == ["eth_sendRawTransaction"] * 2

    fake.news.take("0x" + TRANSACTIONS[1].hex())
    await fake.turns()
    assert "miner_start" not in fake.asked

    fake.news.take("0x" + TRANSACTIONS[0].hex())
    await fake.turns()
    assert fake.asked[2:] == ["miner_start"]

    fake.news.take(HEAD)
    assert (await sealing)[1] == TRANSACTIONS
    assert not fake.mining


async def test_a_block_that_does_not_come_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lone_geth, "BLOCK_WITHIN_S", 0.0)
    with pytest.raises(ChainError, match="geth made no block in 0 s"):
        await Geth().geth.seal(TRANSACTIONS)

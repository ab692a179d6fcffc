"""Lost final blocks, transactions that others have dropped, and a full disk, on real geth."""

import asyncio
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sn_network import SNNetwork

from services.chain import geth_process, pool, writer
from services.chain.geth import GethChain
from services.chain.network import NetworkGateway
from services.chain.paths import GETH_FINAL
from services.errors import ChainError
from services.local.status import first_answer
from services.local.swarm import CONTRACT

pytestmark = [pytest.mark.timeout(120), pytest.mark.needs("geth")]

WITHIN_S = 30.0


async def test_a_signer_seals_nothing_in_the_place_of_a_final_block_that_is_lost(tmp_path: Path) -> None:
    async with GethChain(tmp_path / "sn") as chain:
        await chain.start()
        network = await NetworkGateway.deploy(chain)
        await network.add_sn_account("0x" + "11" * 20, "sn-2")
        older = chain.federation.tail.head.number
    shutil.copytree(tmp_path / "sn", tmp_path / "older")
    async with GethChain(tmp_path / "sn") as chain:
        await chain.start()
        await NetworkGateway.at(chain, network.address).add_sn_account("0x" + "22" * 20, "sn-3")
        newest = chain.federation.tail.head
        blocks = [raw async for raw in chain.federation.geth_peers.raw_blocks(0)]
    final = {"number": newest.number, "hash": newest.hash}  # as if several signers had settled it
    (tmp_path / "older" / GETH_FINAL).write_text(json.dumps(final))

    async with GethChain(tmp_path / "older") as chain, asyncio.timeout(WITHIN_S):
        await chain.start()
        assert chain.federation.tail.head.number == older
        assert not chain.federation.seals_alone
        writing = asyncio.create_task(
            NetworkGateway.at(chain, network.address).add_sn_account("0x" + "33" * 20, "sn-4")
        )
        # Once it gets the block from another SN, this one seals on top of it.
        await chain.federation.geth_peers.import_blocks(tmp_path / "blocks.rlp", blocks)
        receipt = await writing
        assert receipt.block == newest.number + 1
        assert chain.federation.tail.holds(newest.number, newest.hash)


async def test_an_sn_tells_the_others_again_of_what_no_block_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool, "TELL_AGAIN_S", 0.1)
    async with GethChain(tmp_path / "first") as first:
        await first.start()
        genesis = json.loads(first.federation.genesis)
    async with GethChain(tmp_path / "other", genesis=genesis, has_others=True) as other, asyncio.timeout(WITHIN_S):
        await other.start()
        reader = other.federation.pool.open_reader()
        other.federation.writer.push()
        told = [(await reader.get()).hash for _ in range(3)]
        assert len(set(told)) == 1


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 192 MiB."""
    mounted = tmp_path / "small"
    mounted.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=192m", "tmpfs", str(mounted)], check=True)
    try:
        yield mounted
    finally:
        subprocess.run(["umount", str(mounted)], check=True)


async def test_geth_waits_on_a_full_disk_until_there_is_room(small_disk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(geth_process, "LOOK_FOR_ROOM_EVERY_S", 0.1)
    monkeypatch.setattr(writer, "RECEIPT_TIMEOUT_S", 3.0)
    async with GethChain(small_disk / "sn") as chain, asyncio.timeout(WITHIN_S):
        await chain.start()
        network = await NetworkGateway.deploy(chain)
        filler = small_disk / "filler"
        with filler.open("wb") as file:
            os.posix_fallocate(
                file.fileno(), 0, shutil.disk_usage(small_disk).free - geth_process.LEAST_FREE_BYTES // 2
            )
        ended = chain._process.exited()
        await ended
        with pytest.raises(ChainError, match=r"the disk of .*eth is full: 64 MiB are needed, \d+ MiB are free"):
            await network.add_sn_account("0x" + "11" * 20, "sn-2")

        filler.unlink()
        await network.add_sn_account("0x" + "22" * 20, "sn-3")

        assert await network.is_sn("0x" + "22" * 20)


async def test_status_answers_while_the_disk_of_an_sn_is_full_and_says_what_it_lacks(
    small_disk: Path, pki: Any
) -> None:
    network = SNNetwork(pki, small_disk)
    try:
        await network.license_server()
        await network.sentinel()
        with (small_disk / "filler").open("wb") as file:
            os.posix_fallocate(
                file.fileno(), 0, shutil.disk_usage(small_disk).free - geth_process.LEAST_FREE_BYTES // 2
            )
        await network.said("sn-1", "geth is stopped until the disk has room again")
        found = await first_answer([f"localhost:{network.ports['sn-1']}"], pki.identity("admin", "op"))
    finally:
        (small_disk / "filler").unlink(missing_ok=True)
        await network.stop()
    assert [(sn["name"], sn["present"]) for sn in found["sns"]] == [("sn-1", True)]
    assert found["training"]["contract"] == CONTRACT
    assert found["missing"].startswith("Open proposals are not known now. The chain failed: the disk of ")
    assert "64 MiB are needed" in found["missing"] and "the log of sn-1" in found["missing"]

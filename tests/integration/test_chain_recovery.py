"""A swarm whose only signer is lost: recovery with its account key alone, and from another SN's copy of the chain."""

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from sn_network import SNNetwork
from sn_swarm import Sl, config, play_round, scripted_sl

from services.audit.reading import read_record
from services.local.plan import CODE_ROOT
from services.rpc import swarm_pb2 as pb
from services.sn.directory import DEFAULT_TRAINING

pytestmark = [pytest.mark.timeout(300), pytest.mark.needs("geth")]

SLS = ("sl-1", "sl-2")
ACCOUNT = "account.key"


@pytest.fixture
async def network(pki: Any, tmp_path: Path) -> AsyncIterator[SNNetwork]:
    started = SNNetwork(pki, tmp_path)
    try:
        yield started
    finally:
        await started.stop()


def keep_account_alone(directory: Path) -> None:
    """Deletes all data but the account key, as if nothing else had been backed up."""
    key = (directory / ACCOUNT).read_bytes()
    for path in sorted(directory.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() and not path.is_symlink() else path.unlink()
    (directory / ACCOUNT).write_bytes(key)


async def recover(*arguments: str) -> tuple[int, str]:
    """Exit code and output of `swarm chain recover`."""
    command = (sys.executable, "-m", "services.cli", "chain", "recover", *arguments)
    pipes = {"stdout": asyncio.subprocess.PIPE, "stderr": asyncio.subprocess.STDOUT}
    process = await asyncio.create_subprocess_exec(*command, cwd=CODE_ROOT, **pipes)  # type: ignore[arg-type]
    output, _ = await process.communicate()
    return process.returncode or 0, output.decode()


async def record_of(network: SNNetwork, sn: str) -> tuple[list[bytes], list[str]]:
    """The events as this SN reports them, and what is wrong with them."""
    events: list[bytes] = []
    address, admin = f"localhost:{network.ports[sn]}", network.pki.identity("admin", "op")
    record = await read_record(
        address, admin, DEFAULT_TRAINING, lambda event: events.append(event.SerializeToString(deterministic=True))
    )
    return events, record.problems


async def sls_at(stack: AsyncExitStack, network: SNNetwork, sn: str) -> list[Sl]:
    sls = [
        await stack.enter_async_context(scripted_sl(network.pki.identity("sl", name), network.ports[sn]))
        for name in SLS
    ]
    for sl in sls:
        await sl.enrol(config(2))
    return sls


async def test_the_account_key_of_the_only_signer_is_all_of_it_that_the_swarm_needs(network: SNNetwork) -> None:
    await network.license_server()
    await network.sentinel("sn-1")
    await network.join("sn-2", "sn-1")
    before = await network.create("sn-2", "before")
    await network.shows("sn-2", "before", before)
    await network.kill("sn-1")
    keep_account_alone(network.directory / "sn-1")

    await network.join("sn-1", "sn-2")

    after = await network.create("sn-2", "after")
    await network.shows("sn-1", "before", before)
    await network.shows("sn-1", "after", after)


async def test_a_swarm_is_founded_anew_from_the_copy_of_an_sn_that_did_not_seal(network: SNNetwork) -> None:
    await network.license_server()
    await network.sentinel("sn-1")
    await network.join("sn-2", "sn-1")
    async with AsyncExitStack() as stack:
        sls = await sls_at(stack, network, "sn-2")
        for number in (1, 2):
            await play_round(sls, number)
    before, problems = await record_of(network, "sn-2")
    assert len(before) >= 12 and not problems
    await network.kill("sn-1")
    await network.kill("sn-2")
    data_dir = network.directory / "sn-2"

    code, said = await recover("--data-dir", str(data_dir))
    assert code == 2 and "say so if they are" in said
    code, said = await recover("--data-dir", str(data_dir), "--signers-are-lost")
    assert code == 0, said

    await network.again("sn-2")
    after, problems = await record_of(network, "sn-2")
    assert after[: len(before)] == before and not problems
    async with AsyncExitStack() as stack:
        await play_round(await sls_at(stack, network, "sn-2"), 3)
    await network.join("sn-1", "sn-2")  # it had its data after all: they are of the chain before
    await network.said("sn-1", "sn-2 belongs to another swarm: its chain is")
    await network.kill("sn-1")
    keep_account_alone(network.directory / "sn-1")
    await network.join("sn-1", "sn-2")
    ours, theirs = await record_of(network, "sn-2"), await record_of(network, "sn-1")
    assert ours[0][: len(theirs[0])] == theirs[0] and len(theirs[0]) > len(before)
    await network.shows("sn-2", "since", await network.create("sn-1", "since"))


async def test_nothing_is_recovered_where_there_is_no_need_or_nothing_to_do_it_from(network: SNNetwork) -> None:
    await network.license_server()
    await network.sentinel("sn-1")
    data_dir = network.directory / "sn-1"
    code, said = await recover("--data-dir", str(data_dir), "--signers-are-lost")
    assert code == 17 and "another running node uses it" in said
    await network.kill("sn-1")
    code, said = await recover("--data-dir", str(data_dir), "--signers-are-lost")
    assert code == 13 and "seals its chain alone, and needs no recovery" in said
    assert sorted(path.name for path in data_dir.iterdir() if "recover" in path.name) == []
    code, said = await recover("--data-dir", str(network.directory), "--signers-are-lost")
    assert code == 2 and "is no data directory of an SN with a chain on geth" in said
    await network.again("sn-1")
    async with network.client("sn-1") as client:
        assert (await client.network.GetInfo(pb.GetInfoRequest())).chain == "geth"

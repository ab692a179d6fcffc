"""Real SNs on geth with real SLs: the sentinel dies for good in the middle of a round, and then the leader."""

import asyncio
import contextlib
import sys
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sl_swarm import ML, WITHIN_S, Arrays, add, running
from sn_network import SNNetwork

from services.audit.models import require_same, verify
from services.audit.reading import read_record, require_sound
from services.local.plan import CODE_ROOT
from services.local.process import Child, Launch, node_environment
from services.rpc import swarm_pb2 as pb
from services.sl.main import main as sl_main
from services.sl.memory import Memory
from services.sl.settings import SLSettings
from services.sn.directory import DEFAULT_TRAINING

pytestmark = [pytest.mark.timeout(300), pytest.mark.needs("geth")]

NAMES = ("sl-1", "sl-2", "sl-3", "sl-4")


def model(value: float) -> Arrays:
    return {"w": np.full((3, 4), value, np.float32)}


@pytest.fixture
async def network(pki: Any, tmp_path: Path) -> AsyncIterator[SNNetwork]:
    network = SNNetwork(pki, tmp_path)
    try:
        await network.three()
        yield network
    finally:
        await network.stop()


def settings(network: SNNetwork, name: str, sn: str) -> SLSettings:
    files = network.pki.issue("sl", name)
    given = {
        "cert": files.cert, "key": files.key, "cacert": files.cacert, "host": "127.0.0.1", "host_ip": "localhost",
        "sl_fs_port": 0, "sn_ip": "127.0.0.1", "sn_api_port": network.ports[sn], "apls_ip": "127.0.0.1",
        "apls_port": network._license_port, "data_dir": network.directory / name, "quorum_wait_s": 60.0,
    }  # fmt: skip
    return SLSettings.load("sl", given)


async def test_the_sentinel_dies_in_the_middle_of_a_round(network: SNNetwork) -> None:
    """Two SLs use the sentinel, one uses each of the other SNs."""
    homes = {"sl-1": "sn-1", "sl-2": "sn-1", "sl-3": "sn-2", "sl-4": "sn-3"}
    gone, programs = threading.Event(), []
    async with contextlib.AsyncExitStack() as stack:
        for number, name in enumerate(NAMES):
            node = await stack.enter_async_context(running(sl_main, settings(network, name, homes[name])))
            channels = (Path(node.facts["request_channel"]), Path(node.facts["response_channel"]))
            programs.append(ML(*channels, model(number), add(number), rounds=3, min_peers=4))
        async with asyncio.timeout(WITHIN_S):
            while any(len(Memory(network.directory / name).sns) < 3 for name in NAMES):
                await asyncio.wait([asyncio.ensure_future(asyncio.to_thread(lambda: None))])
        programs[3].between = lambda number: number == 0 or gone.wait(WITHIN_S)
        runs = [asyncio.create_task(program.run()) for program in programs]
        watching = await stack.enter_async_context(network.client("sn-2"))
        async with asyncio.timeout(WITHIN_S):
            async for status in watching.watch(DEFAULT_TRAINING):
                if status.round == 3 and len(status.check_ins) == 3:
                    break
        await network.kill("sn-1")
        gone.set()
        digests = await asyncio.gather(*runs)
        async with asyncio.timeout(WITHIN_S):  # sn-2 learns of it a moment after the SN that told the nodes
            async for status in watching.watch(DEFAULT_TRAINING):
                if status.last_result.round == 5:
                    break
    assert set(digests) == {status.last_result.digest.hex()}
    assert all([answer.round for answer in program.answers] == [1, 2, 3, 4, 5] for program in programs)
    assert all(answer.contributed for program in programs for answer in program.answers)


LARGE = 8_000_000  # parameters: a shared merge that takes a while
FAILURE_TIMEOUT_S = 2


def large(value: float) -> Arrays:
    return {"w": np.full(LARGE, value, np.float32)}


def start(network: SNNetwork, name: str, sn: str) -> Child:
    """An SL as a process, which can be killed."""
    files = network.pki.issue("sl", name)
    argv = (
        sys.executable, "-m", "services.cli", "sl", "--host", "127.0.0.1", "--host-ip", "localhost", "--sl-fs-port",
        "0",
        "--sn-ip", "127.0.0.1", "--sn-api-port", str(network.ports[sn]), "--apls-ip", "127.0.0.1",
        "--apls-port", str(network._license_port), "--data-dir", str(network.directory / name),
        "--cert", str(files.cert), "--key", str(files.key), "--cacert", str(files.cacert),
    )  # fmt: skip
    environment = node_environment(SL_LEADER_FAILURE_BASE_TIMEOUT=str(FAILURE_TIMEOUT_S))
    return Child.start(Launch(name, argv, network.directory / f"{name}.log", environment, cwd=CODE_ROOT))


async def test_the_sentinel_and_a_leader_die_and_all_is_found_again_on_disk(network: SNNetwork) -> None:
    """The three remaining nodes end with one model. After all SNs were killed, each still has the whole record, which
    passes verification.
    """
    homes = {"sl-1": "sn-1", "sl-2": "sn-2", "sl-3": "sn-2", "sl-4": "sn-3"}
    gone = threading.Event()
    async with contextlib.AsyncExitStack() as stack:
        sls, programs = {}, {}
        for number, name in enumerate(NAMES):
            sls[name] = start(network, name, homes[name])
            stack.push_async_callback(sls[name].stop)
            facts = await sls[name].ready()
            channels = (Path(facts["request_channel"]), Path(facts["response_channel"]))
            programs[name] = ML(*channels, large(number), add(number), rounds=3, min_peers=3)
        programs["sl-4"].between = lambda number: number == 0 or gone.wait(WITHIN_S)
        runs = {name: asyncio.create_task(program.run()) for name, program in programs.items()}
        watching = await stack.enter_async_context(network.client("sn-2"))
        leader = ""
        async with asyncio.timeout(WITHIN_S):
            async for status in watching.watch(DEFAULT_TRAINING):
                if not gone.is_set() and status.round == 3 and len(status.check_ins) == 3:
                    await network.kill("sn-1")
                    gone.set()
                if gone.is_set() and status.state == pb.MERGE and status.round >= 3:
                    leader = status.leader
                    sls[leader].kill()
                    break
        living = [run for name, run in runs.items() if name != leader]
        digests = set(await asyncio.gather(*living))
        await asyncio.wait([runs[leader]])
        with pytest.raises(Exception, match="SL sidecar"):
            runs[leader].result()

    for name in ("sn-2", "sn-3"):
        await network.kill(name)
    await network.again("sn-1")
    for name in ("sn-2", "sn-3"):
        await network.join(name, "sn-1")
    auditor = network.pki.identity("admin", "auditor")
    models = next((network.directory / next(name for name in NAMES if name != leader)).rglob("*.safetensors"))
    for name in ("sn-1", "sn-2", "sn-3"):
        # It serves what it already has while it fetches the rest.
        async with network.client(name) as back, asyncio.timeout(WITHIN_S):
            async for status in back.watch(DEFAULT_TRAINING):
                if status.last_result.round == 5:
                    break
        record = await read_record(f"localhost:{network.ports[name]}", auditor, DEFAULT_TRAINING)
        require_sound(record)
        require_same(verify(record, models.parent), record, models.parent)
        assert record.final is not None and record.final.result is not None
        assert {record.final.result.digest} == digests
        assert leader not in {entry.name for entry in record.final.merged}

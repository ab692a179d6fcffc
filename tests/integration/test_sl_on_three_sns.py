"""Real SNs on geth under real SLs: the sentinel dies in the middle of a round, for good, and nobody's ML notices."""

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sl_swarm import ML, WITHIN_S, Arrays, running
from sn_network import SNNetwork

from services.rpc import swarm_pb2 as pb
from services.sl.main import main as sl_main
from services.sl.memory import Memory
from services.sl.settings import SLSettings
from services.sn.directory import DEFAULT_TRAINING

pytestmark = pytest.mark.timeout(180)

NAMES = ("sl-1", "sl-2", "sl-3", "sl-4")


def model(value: float) -> Arrays:
    return {"w": np.full((3, 4), value, np.float32)}


def add(amount: float) -> Any:
    return lambda arrays, _number: {"w": arrays["w"] + np.float32(amount)}


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
    """Two SLs are with the sentinel, one with each other SN."""
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
        status = await watching.training.GetStatus(pb.GetStatusRequest(contract=DEFAULT_TRAINING))
    assert set(digests) == {status.last_result.digest.hex()}
    assert all([answer.round for answer in program.answers] == [1, 2, 3, 4, 5] for program in programs)
    assert all(answer.contributed for program in programs for answer in program.answers)

"""An SN of some SLs dies: they go on through another SN in the same round, and their ML programs do not notice."""

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sl_swarm import WITHIN_S, Arrays, Swarm, add, running

from services import errors
from services.chain.factory import open_chain
from services.license_server.main import main as license_server_main
from services.license_server.settings import LicenseServerSettings
from services.sl import gateway
from services.sl.main import main as sl_main
from services.sl.memory import Memory
from services.sn.directory import DEFAULT_TRAINING
from services.sn.node import Announcement, RunningSN, serving
from swarm_callback.errors import Refused


def model(value: float) -> Arrays:
    return {"w": np.full((3, 4), value, np.float32)}


@dataclass
class SN:
    running: RunningSN
    stack: contextlib.AsyncExitStack

    async def stop(self) -> None:
        await self.stack.aclose()


@dataclass
class Swarms:
    """Two SNs on one chain; ``swarm`` gives its SLs the first one's address, but watches the training through the
    second.
    """

    swarm: Swarm
    first: SN
    second: SN


async def start_sn(pki: Any, name: str, chain: Any, data_dir: Path, outer: contextlib.AsyncExitStack) -> SN:
    stack = await outer.enter_async_context(contextlib.AsyncExitStack())
    where = Announcement("127.0.0.1", 0, "localhost")
    return SN(await stack.enter_async_context(serving(pki.identity("sn", name), chain, data_dir, where, 5.0)), stack)


@contextlib.asynccontextmanager
async def two_sns(pki: Any, directory: Path) -> AsyncIterator[Swarms]:
    async with contextlib.AsyncExitStack() as stack:
        files = pki.issue("license", "apls")
        licenses = LicenseServerSettings.load(
            "license-server",
            {
                "data_dir": directory / "apls", "host": "127.0.0.1", "port": 0,
                "cert": files.cert, "key": files.key, "cacert": files.cacert,
            },
        )  # fmt: skip
        apls = await stack.enter_async_context(running(license_server_main, licenses))
        (directory / "sn").mkdir()
        chain = await open_chain("embedded", directory / "sn")
        stack.push_async_callback(chain.close)
        second = await start_sn(pki, "sn-2", chain, directory / "sn", stack)
        first = await start_sn(pki, "sn-1", chain, directory / "sn", stack)
        swarm = Swarm(
            pki, directory, first.running.port, apls.facts["port"], second.running.trainings, stack, first.stack
        )
        yield Swarms(swarm, first, second)


async def knowing_both(swarm: Swarm, *names: str) -> None:
    """Starts SLs that have read the list of SNs."""
    for name in names:
        await swarm.sl(name)
    async with asyncio.timeout(WITHIN_S):
        for name in names:
            while len(Memory(swarm.directory / name).sns) < 2:
                await asyncio.wait([asyncio.ensure_future(asyncio.to_thread(lambda: None))])


async def test_an_sn_dies_in_the_middle_of_a_round_and_no_ml_program_notices(pki: Any, tmp_path: Path) -> None:
    names = ["sl-1", "sl-2", "sl-3"]
    async with two_sns(pki, tmp_path) as sns:
        swarm, gone = sns.swarm, threading.Event()
        await knowing_both(swarm, *names)
        programs = [swarm.ml(name, model(i), add(i)) for i, name in enumerate(names)]
        programs[2].between = lambda number: number == 0 or gone.wait(WITHIN_S)
        runs = [asyncio.create_task(program.run()) for program in programs]
        await swarm.until(lambda view: view.round == 3 and len(view.check_ins) == 2)
        await sns.first.stop()
        gone.set()
        digests = await asyncio.gather(*runs)
        assert len(set(digests)) == 1
        assert swarm.view.last_result.digest.hex() == digests[0]
        for name, program in zip(names, programs, strict=True):
            assert await swarm.nodes[name].ended() is None
            assert [answer.round for answer in program.answers] == [1, 2, 3, 4]
            assert all(answer.contributed for answer in program.answers)
            assert not [text for text in program.notices if "SN" in text]
        parents = {name: sns.second.running.trainings.membership.parent("sl", name) for name in names}
        assert set(parents.values()) == {"sn-2"}
        left = [event for event in await swarm.events() if type(event).__name__ == "Left"]
        assert {event.reason for event in left} == {"finished"}


async def test_a_node_starts_through_an_sn_that_it_remembers(pki: Any, tmp_path: Path) -> None:
    async with two_sns(pki, tmp_path) as sns:
        await knowing_both(sns.swarm, "sl-1")
        sns.swarm.nodes["sl-1"].stop.set()
        await sns.swarm.nodes["sl-1"].ended()
        await sns.first.stop()
        await sns.swarm.sl("sl-1")
        program = sns.swarm.ml("sl-1", model(1), add(1), min_peers=1)
        assert await program.run() == sns.swarm.view.last_result.digest.hex()


async def test_a_node_that_knows_no_sn_that_is_there_does_not_start(pki: Any, tmp_path: Path) -> None:
    async with two_sns(pki, tmp_path) as sns:
        await sns.first.stop()
        with pytest.raises(errors.SNUnreachable, match=f"localhost:{sns.first.running.port}"):
            async with running(sl_main, sns.swarm.settings("sl-1")):
                pass


async def test_when_the_last_sn_is_gone_it_is_waited_for_and_then_said(pki: Any, tmp_path: Path) -> None:
    async with two_sns(pki, tmp_path) as sns:
        await sns.swarm.sl("sl-1", sn_patience_s=1.0)
        program = asyncio.create_task(sns.swarm.ml("sl-1", model(1), add(1), min_peers=2).run())
        await sns.swarm.until(lambda view: len(view.check_ins) == 1)
        await sns.first.stop()
        await sns.second.stop()
        with pytest.raises(Refused, match=r"The SN at localhost:\d+ cannot be reached"):
            await program


async def test_an_sn_that_is_cut_off_from_the_others_is_left(
    pki: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It answers, but shows nothing new."""
    monkeypatch.setattr(gateway, "COMPARE_EVERY_S", 0.3)
    monkeypatch.setattr(gateway, "CATCH_UP_S", 0.3)
    async with two_sns(pki, tmp_path) as sns:
        await knowing_both(sns.swarm, "sl-1", "sl-2")
        cut_off = sns.first.running.trainings.named(DEFAULT_TRAINING).view
        programs = [sns.swarm.ml(f"sl-{i}", model(i), add(i), min_peers=2) for i in (1, 2)]
        programs[0].between = lambda number: number or setattr(cut_off, "apply", lambda event: False)
        digests = await asyncio.gather(*(program.run() for program in programs))
        assert set(digests) == {sns.swarm.view.last_result.digest.hex()}
        assert cut_off.last_result is None or cut_off.last_result.round < sns.swarm.view.last_result.round


async def test_trainings_on_one_sn_do_not_touch_each_other(pki: Any, tmp_path: Path) -> None:
    async with two_sns(pki, tmp_path) as sns:
        swarm = sns.swarm
        await sns.first.running.trainings.create("other.training")
        names = ["sl-1", "sl-2", "sl-3", "sl-4"]
        for name in names:
            await swarm.sl(name)
        one = [swarm.ml(name, model(i), add(i), min_peers=2) for i, name in enumerate(names[:2])]
        two = [
            swarm.ml(name, model(i), add(i), min_peers=2, rounds=4, contract="other.training")
            for i, name in enumerate(names[2:], 2)
        ]
        digests = await asyncio.gather(*(program.run() for program in (*one, *two)))
        assert len(set(digests[:2])) == len(set(digests[2:])) == 1
        assert digests[0] != digests[2]
        views = {view.contract: view for view in sns.second.running.trainings.views}
        assert {name: sorted(view.participants) for name, view in views.items()} == {
            swarm.view.contract: ["sl-1", "sl-2"],
            "other.training": ["sl-3", "sl-4"],
        }
        assert [view.last_result.round for view in views.values()] == [4, 6]

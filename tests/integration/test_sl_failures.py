"""Failures in a training, and the words in which each side learns of them."""

import asyncio
import contextlib
import errno
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sl_swarm import ML, WITHIN_S, Arrays, running, same, swarm_of
from sn_swarm import running_sn

from services import errors
from services.runtime.ready import READY_FD_VARIABLE
from services.sl.main import main as sl_main
from services.sl.round import tasks
from services.sl.round.states import HeldModel
from services.sl.sharding.leader_merge import LeaderMerge, MergeOutcome
from swarm_callback.errors import ChannelClosed, Refused
from swarm_callback.params import decode
from tests.pacing import pause

ROOT = Path(__file__).parents[2]

DIES_MID_WRITE = """
import os, signal, sys
from pathlib import Path
from swarm_callback import wire
from swarm_callback.channel import MLEnd
channel = MLEnd.connect(Path(sys.argv[1]), Path(sys.argv[2]), print)
open_ = wire.Open("defaultbb.cqdb.sml.hpe", 16, 1, "mean", 1, "snapshot", False, 1, "NUMPY", os.getpid())
channel.send(open_, doing="")
channel.receive("")
os.set_blocking(channel._write_fd, True)
os.write(channel._write_fd, wire.pack(wire.Sync(1, 0), 1_000_000) + bytes(1000))
os.kill(os.getpid(), signal.SIGKILL)
"""


def model(value: float, columns: int = 4) -> Arrays:
    return {"n": np.array(int(value), np.int64), "w": np.full((3, columns), value, np.float32)}


async def test_a_model_that_differs_is_refused_with_tensor_shapes_and_node(pki: Any, tmp_path: Path) -> None:
    async with swarm_of(pki, tmp_path, "sl-1", "sl-2", "sl-3") as swarm:
        good = [swarm.ml(name, model(1), same, min_peers=2) for name in ("sl-1", "sl-2")]
        running_ones = [asyncio.create_task(program.run()) for program in good[:1]]
        await swarm.until(lambda view: len(view.check_ins) == 1)
        with pytest.raises(Refused) as refused:
            await swarm.ml("sl-3", model(1, columns=5), same, min_peers=2).run()
        words = "Tensor w has the shape [3, 5] on sl-3, but [3, 4] on sl-1"
        assert words in str(refused.value)
        error = await swarm.nodes["sl-3"].ended()
        assert isinstance(error, errors.ModelDiffers)
        assert words in str(error)
        assert error.exit_code == 14
        digests = await asyncio.gather(good[1].run(), *running_ones)
        assert len(set(digests)) == 1
        assert swarm.view.participants["sl-3"].left_reason == words


async def test_nan_in_the_very_first_round_ends_the_node_where_all_are_needed(pki: Any, tmp_path: Path) -> None:
    async with swarm_of(pki, tmp_path, "sl-1", "sl-2", "sl-3") as swarm:
        good = [asyncio.create_task(swarm.ml(name, model(1), same, min_peers=2).run()) for name in ("sl-1",)]
        await swarm.until(lambda view: len(view.check_ins) == 1)
        spoiled = {**model(1), "w": np.full((3, 4), np.inf, np.float32)}
        with pytest.raises(Refused, match="sl-3 was left out of round 1: non-finite values in tensor w"):
            await swarm.ml("sl-3", spoiled, same, min_peers=2).run()
        assert isinstance(await swarm.nodes["sl-3"].ended(), errors.ModelNotFinite)
        assert len(set(await asyncio.gather(swarm.ml("sl-2", model(1), same, min_peers=2).run(), *good))) == 1


async def test_waiting_says_for_whom(pki: Any, tmp_path: Path) -> None:
    async with swarm_of(pki, tmp_path, "sl-1", "sl-2") as swarm:
        said = threading.Event()
        first = swarm.ml("sl-1", model(1), same, rounds=0, min_peers=2)
        second = swarm.ml("sl-2", model(1), same, rounds=0, min_peers=2, before_first=lambda: said.wait(WITHIN_S))
        second_run = asyncio.create_task(second.run())
        await swarm.until(lambda view: "sl-2" in view.participants)
        first.noticed = lambda text: said.set() if text == "waiting for sl-2: 1 of 2 in" else None
        await asyncio.gather(first.run(), second_run)
        assert "waiting for sl-2: 1 of 2 in" in first.notices


@pytest.mark.parametrize(
    ("options", "code"),
    [
        ({"merge_method": "median"}, "unknown-merge-method"),
        ({"contract": "another.training"}, "unknown-contract"),
    ],
)
async def test_what_cannot_be_opened_is_refused_in_words(
    pki: Any, tmp_path: Path, options: dict[str, Any], code: str
) -> None:
    async with swarm_of(pki, tmp_path, "sl-1") as swarm:
        with pytest.raises(Refused) as refused:
            await swarm.ml("sl-1", model(1), same, min_peers=1, **options).run()
        assert refused.value.facts["code"] == code
        error = await swarm.nodes["sl-1"].ended()
        assert isinstance(error, errors.TrainingError)
        assert str(error) == str(refused.value)


async def test_a_configuration_that_differs_names_the_field(pki: Any, tmp_path: Path) -> None:
    async with swarm_of(pki, tmp_path, "sl-1", "sl-2") as swarm:
        first = asyncio.create_task(swarm.ml("sl-1", model(1), same, min_peers=2).run())
        await swarm.until(lambda view: "sl-1" in view.participants)
        with pytest.raises(Refused, match="This node's minPeers is 1, but the training was agreed with 2"):
            await swarm.ml("sl-2", model(1), same, min_peers=1).run()
        swarm.nodes["sl-1"].stop.set()
        with pytest.raises(Refused):
            await first


async def test_ml_killed_in_the_middle_of_a_write_leaves_nothing_and_says_so(pki: Any, tmp_path: Path) -> None:
    async with swarm_of(pki, tmp_path, "sl-1") as swarm:
        node = swarm.nodes["sl-1"]
        command = [sys.executable, "-c", DIES_MID_WRITE, node.facts["request_channel"], node.facts["response_channel"]]
        program = await asyncio.create_subprocess_exec(*command, cwd=ROOT)
        error = await node.ended()
        assert await program.wait() == -signal.SIGKILL
        assert isinstance(error, errors.MLGone)
        assert error.exit_code == 16
        assert "The ML program of sl-1 ended in the middle of sending its parameters" in str(error)
        assert list((tmp_path / "sl-1" / "fs").iterdir()) == []
        assert "in the middle of sending" in swarm.view.participants["sl-1"].left_reason


async def test_ml_killed_while_it_trains_frees_the_round_and_leaves_its_last_model(pki: Any, tmp_path: Path) -> None:
    async with swarm_of(pki, tmp_path, "sl-1", "sl-2", "sl-3") as swarm:
        going = [
            asyncio.create_task(swarm.ml(name, model(1), same, rounds=1, min_peers=2).run())
            for name in ("sl-1", "sl-2")
        ]
        dying = swarm.ml("sl-3", model(1), same, min_peers=2, between=_give_up)
        with pytest.raises(GaveUpError):
            await dying.run()
        error = await swarm.nodes["sl-3"].ended()
        assert isinstance(error, errors.MLGone)
        assert "while it trained" in str(error)
        assert len(set(await asyncio.gather(*going))) == 1
        merged = next(event.digest.hex() for event in await swarm.events() if type(event).__name__ == "RoundAccepted")
        left = decode((tmp_path / "sl-3" / "fs" / f"{merged}.safetensors").read_bytes())
        assert [array.tobytes() for array in left.values()] == [array.tobytes() for array in dying.seen[-1].values()]


class GaveUpError(Exception):
    pass


def _give_up(_number: int) -> None:
    raise GaveUpError


async def test_stopping_tells_ml_and_is_no_error(pki: Any, tmp_path: Path) -> None:
    async with swarm_of(pki, tmp_path, "sl-1") as swarm:
        program = asyncio.create_task(swarm.ml("sl-1", model(1), same, min_peers=2).run())
        await swarm.until(lambda view: len(view.check_ins) == 1)
        swarm.nodes["sl-1"].stop.set()
        with pytest.raises(Refused, match="The SL sl-1 was stopped"):
            await program
        assert await swarm.nodes["sl-1"].ended() is None
        assert not swarm.view.participants["sl-1"].active


async def test_a_full_disk_ends_the_node_with_one_sentence(pki: Any, tmp_path: Path) -> None:
    mounted = tmp_path / "sl-1"
    mounted.mkdir()
    await asyncio.to_thread(
        subprocess.run, ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(mounted)], check=True
    )
    try:
        async with swarm_of(pki, tmp_path, "sl-1") as swarm:
            large = {"w": np.zeros(1_000_000, np.float32)}
            with pytest.raises(Refused, match=r"The disk of .*/fs is full: 4000\d+ bytes are needed"):
                await swarm.ml("sl-1", large, same, min_peers=1).run()
            assert isinstance(await swarm.nodes["sl-1"].ended(), errors.DiskFull)
            assert list((mounted / "fs").iterdir()) == []
    finally:
        await asyncio.to_thread(subprocess.run, ["umount", str(mounted)], check=True)


async def test_an_sl_that_is_killed_while_ml_waits_is_noticed_at_once(pki: Any, tmp_path: Path) -> None:
    async with swarm_of(pki, tmp_path) as swarm:
        settings = swarm.settings("sl-1")
        environment = {
            **os.environ, "SWARM_ID_CERT": str(settings.cert), "SWARM_ID_KEY": str(settings.key),
            "SWARM_ID_CACERT": str(settings.cacert),
        }  # fmt: skip
        flags = {
            "--host": "127.0.0.1", "--host-ip": "localhost", "--sl-fs-port": 0, "--sn-ip": "localhost",
            "--sn-api-port": swarm.sn_port, "--apls-ip": "localhost", "--apls-port": swarm.licenses_port,
            "--data-dir": settings.data_dir,
        }  # fmt: skip
        arguments = [str(part) for pair in flags.items() for part in pair]
        environment.pop(READY_FD_VARIABLE, None)
        sl = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "services.cli", "sl", *arguments, cwd=ROOT, env=environment
        )
        program = ML(*settings.channels, model(1), same, min_peers=2)
        running_program = asyncio.create_task(program.run())
        await swarm.until(lambda view: len(view.check_ins) == 1)
        sl.kill()
        with pytest.raises(ChannelClosed, match="The SL sidecar ended while this program waited for the merged model"):
            await running_program
        await sl.wait()
        await swarm.until(lambda view: not view.participants["sl-1"].active)


@contextlib.contextmanager
def _first_leader_hangs(monkeypatch: pytest.MonkeyPatch, release: asyncio.Event) -> Any:
    """The very first merge waits for ``release``, then goes on as if nothing had happened."""
    hung: list[LeaderMerge] = []

    class Hanging(LeaderMerge):
        async def run(self, held: HeldModel | None) -> MergeOutcome:
            outcome = await super().run(held)
            if not hung:
                hung.append(self)
                await asyncio.shield(release.wait())
            return outcome

    monkeypatch.setattr(tasks, "LeaderMerge", Hanging)
    yield hung


async def test_a_leader_without_progress_is_voted_out_and_another_merges(
    pki: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with _first_leader_hangs(monkeypatch, asyncio.Event()) as hung:
        async with swarm_of(pki, tmp_path, "sl-1", "sl-2", "sl-3", leader_timeout_s=1.0) as swarm:
            programs = [swarm.ml(name, model(i), same, rounds=0) for i, name in enumerate(["sl-1", "sl-2", "sl-3"])]
            digests = await asyncio.gather(*(program.run() for program in programs))
            assert len(set(digests)) == 1
            kinds = [type(event).__name__ for event in await swarm.events()]
            assert kinds.count("LeaderDeposed") == 1
            assert kinds.count("RoundAccepted") == 2
            assert len(hung) == 1
            assert all(answer.contributed for program in programs for answer in program.answers)


async def test_a_leader_that_only_says_that_it_makes_progress_is_voted_out_in_the_end(
    pki: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lied: list[LeaderMerge] = []

    class Lying(LeaderMerge):
        @property
        def idle_s(self) -> float:
            return 0.0

        async def run(self, held: HeldModel | None) -> MergeOutcome:
            if not lied:
                lied.append(self)
                while True:  # until it is deposed
                    self._progress._report(1, 2)
                    await pause(0.1)
            return await super().run(held)

    monkeypatch.setattr(tasks, "LeaderMerge", Lying)
    names = ["sl-1", "sl-2", "sl-3"]
    async with swarm_of(pki, tmp_path, *names, leader_timeout_s=1.0, longest_merge_s=2.0) as swarm:
        programs = [swarm.ml(name, model(i), same, rounds=0) for i, name in enumerate(names)]
        assert len(set(await asyncio.gather(*(program.run() for program in programs)))) == 1
        deposed = [event for event in await swarm.events() if type(event).__name__ == "LeaderDeposed"]
    assert [event.leader for event in deposed] == [lied[0]._view.leader]


async def test_an_sn_that_comes_back_is_found_again(pki: Any, tmp_path: Path) -> None:
    async with swarm_of(pki, tmp_path, "sl-1") as swarm:
        restarted = threading.Event()
        program = swarm.ml("sl-1", model(1), same, rounds=2, min_peers=1)
        program.between = lambda number: number == 0 or restarted.wait(WITHIN_S)
        program_run = asyncio.create_task(program.run())
        await swarm.until(lambda view: view.last_result is not None and view.last_result.round == 2)
        await swarm.stop_sn()
        restarted.set()
        async with running_sn(pki.identity("sn", "sn-1"), tmp_path / "sn", lost_after_s=60, port=swarm.sn_port):
            await program_run
            assert await swarm.nodes["sl-1"].ended() is None


async def test_an_sn_that_stays_away_is_given_up_in_words(pki: Any, tmp_path: Path) -> None:
    async with swarm_of(pki, tmp_path, "sl-1", sn_patience_s=1.0) as swarm:
        program = asyncio.create_task(swarm.ml("sl-1", model(1), same, min_peers=2).run())
        await swarm.until(lambda view: len(view.check_ins) == 1)
        await swarm.stop_sn()
        with pytest.raises(Refused, match=f"The SN at localhost:{swarm.sn_port} cannot be reached"):
            await program
        error = await swarm.nodes["sl-1"].ended()
        assert isinstance(error, errors.SNUnreachable)


async def test_without_an_sn_or_a_license_server_an_sl_does_not_start(pki: Any, tmp_path: Path) -> None:
    async with swarm_of(pki, tmp_path) as swarm:
        for changes, kind in (
            ({"sn_api_port": 1}, errors.SNUnreachable),
            ({"apls_port": 1}, errors.LicenseServerUnreachable),
        ):
            with pytest.raises(kind):
                async with running(sl_main, swarm.settings("sl-1", **changes)):
                    pass
        assert not (tmp_path / "sl-1" / "request.channel").exists()


async def test_an_sl_does_not_start_where_there_can_be_no_pipes(
    pki: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unsupported(*_: object) -> None:
        raise OSError(errno.ENOTSUP, "Operation not supported")

    async with swarm_of(pki, tmp_path) as swarm:
        monkeypatch.setattr(os, "mkfifo", unsupported)
        with pytest.raises(errors.NoPipes, match=r"has no named pipes .*--dir of `swarm up`"):
            await swarm.sl("sl-1")

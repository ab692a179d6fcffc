"""Killed nodes that are restarted under the same name go on from the last merged model, in their epoch."""

import asyncio
import os
import signal
import sys
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sl_swarm import WITHIN_S, Arrays, Swarm, same, swarm_of

from services.local.process import Child, Launch, node_environment
from services.rpc.swarm_pb2 import RoundState
from swarm_callback.digest import digest_of_file
from swarm_callback.errors import ChannelClosed, Refused

ROOT = Path(__file__).parents[2]
EPOCHS = 8

PROGRAM = """
import sys
from pathlib import Path
import numpy as np
from swarm_callback.base import SwarmCallbackBase

class Numbers(SwarmCallbackBase):
    PLATFORMS = ("NUMPY",)
    def verify_platform(self, options):
        self.tensors = {"w": np.random.default_rng().normal(size=(3, 4)).astype(np.float32)}
    def set_validation_data(self, data, batch_size):
        pass
    def extract_parameters(self):
        return self.tensors
    def load_parameters(self, tensors):
        self.tensors = {name: np.array(values) for name, values in tensors.items()}
    def evaluate(self):
        return 1.0, 0.5

out, epochs = Path(sys.argv[1]), int(sys.argv[2])
swarm = Numbers(16, 2, adsValData="any", totalEpochs=epochs, firstMerge="average")
with (out.parent / "began").open("a") as began:
    began.write(f"{swarm.initial_epoch}\\n")
swarm.on_train_begin()
for _ in range(swarm.initial_epoch, epochs):
    swarm.tensors["w"] += np.float32(1)
    swarm.on_epoch_end()
    swarm.count_batches(16)
swarm.on_train_end()
swarm.save_parameters(out)
"""


def model(value: float) -> Arrays:
    return {"w": np.full((3, 4), value, np.float32)}


@dataclass
class Pair:
    """A node as two processes: an SL and its ML program."""

    sl: Child
    ml: Child

    @classmethod
    async def start(cls, swarm: Swarm, name: str) -> "Pair":
        settings, out = swarm.settings(name), swarm.directory / "final.safetensors"
        flags = {
            "--host": "127.0.0.1", "--host-ip": "localhost", "--sl-fs-port": 0, "--sn-ip": "localhost",
            "--sn-api-port": swarm.sn_port, "--apls-ip": "localhost", "--apls-port": swarm.licenses_port,
            "--data-dir": settings.data_dir, "--cert": settings.cert, "--key": settings.key,
            "--cacert": settings.cacert,
        }  # fmt: skip
        argv = (sys.executable, "-m", "services.cli", "sl", *(str(part) for pair in flags.items() for part in pair))
        log = swarm.directory / "logs"
        sl = Child.start(Launch(name, argv, log / "sl.log", node_environment(), cwd=ROOT))
        channels = dict(zip(("SL_REQUEST_CHANNEL", "SL_RESPONSE_CHANNEL"), map(str, settings.channels), strict=True))
        program = (sys.executable, "-c", PROGRAM, str(out), str(EPOCHS))
        environment = node_environment(**channels)
        ml = Child.start(Launch("ml", program, log / "ml.log", environment, cwd=ROOT, is_node=False))
        return cls(sl, ml)

    async def end(self) -> tuple[int, int]:
        """Waits for the end; returns both exit codes."""
        async with asyncio.timeout(WITHIN_S):
            return await self.sl.wait(), await self.ml.wait()


@pytest.mark.parametrize(
    ("victims", "chain"),
    [(("sl",), "embedded"), (("ml",), "embedded"), (("sl", "ml"), "embedded"), (("sl", "ml"), "geth")],
    ids=lambda value: value if isinstance(value, str) else "+".join(value),
)
async def test_a_killed_node_goes_on_where_it_was(
    pki: Any, tmp_path: Path, victims: tuple[str, ...], chain: Any
) -> None:
    async with swarm_of(pki, tmp_path, "sl-2", chain=chain) as swarm:
        pair = await Pair.start(swarm, "sl-1")
        other = swarm.ml("sl-2", model(1), same, rounds=EPOCHS, min_peers=2)
        others_run = asyncio.create_task(other.run())
        await swarm.until(lambda view: view.last_result is not None and view.last_result.round >= 4)
        for name in victims:
            os.kill(getattr(pair, name).pid, signal.SIGKILL)
        codes = await pair.end()
        if victims == ("sl",):
            assert codes == (-signal.SIGKILL, 1)
            assert "The SL sidecar ended while this program" in pair.ml.tail()
        elif victims == ("ml",):
            assert codes == (16, -signal.SIGKILL)
            assert "The ML program of sl-1 ended" in pair.sl.tail()
        again = await Pair.start(swarm, "sl-1")
        assert await again.end() == (0, 0), (swarm.directory / "logs" / "ml.log").read_text()
        digest = await others_run
        assert digest_of_file(tmp_path / "final.safetensors").digest().hex() == digest
        assert swarm.view.last_result.digest.hex() == digest
        first, second = (tmp_path / "began").read_text().split()
        assert first == "0"
        assert 2 <= int(second) <= EPOCHS
        # Reports reach the chain a moment after the fact.
        await swarm.until(lambda view: view.participants["sl-1"].epochs_done == EPOCHS)


async def test_a_node_that_was_down_at_the_end_gets_the_final_model(pki: Any, tmp_path: Path) -> None:
    async with swarm_of(pki, tmp_path, "sl-1", "sl-2", "sl-3", lost_after_s=0.5, quorum_wait_s=0.5) as swarm:
        stopped, back, served = threading.Event(), threading.Event(), threading.Event()

        def wait_for_it(number: int) -> None:
            """Waits before the last round until the SL is back."""
            if number > 1:
                back.wait(WITHIN_S)

        def stay(number: int) -> tuple[float, float]:
            """After the last round: an SL whose program has ended stays only for a moment."""
            if number == 4:
                served.wait(WITHIN_S)
            return 0.5, 0.25

        going = [
            asyncio.create_task(
                swarm.ml(f"sl-{i}", model(i), same, min_peers=2, between=wait_for_it, measured=stay).run()
            )
            for i in (1, 2)
        ]
        late = swarm.ml("sl-3", model(3), same, min_peers=2, between=lambda _: stopped.wait(WITHIN_S))
        late_run = asyncio.create_task(late.run())
        await swarm.until(lambda view: "sl-3" in view.participants and view.last_result is not None)
        swarm.nodes["sl-3"].stop.set()
        await swarm.nodes["sl-3"].ended()
        stopped.set()
        with pytest.raises((Refused, ChannelClosed)):
            await late_run
        await swarm.sl("sl-3")
        back.set()
        await swarm.until(lambda view: view.state == RoundState.COMPLETE)
        comes_back = swarm.ml("sl-3", model(3), same, min_peers=2)
        digest = await comes_back.run()
        served.set()
        assert {digest, *await asyncio.gather(*going)} == {swarm.view.last_result.digest.hex()}
        assert [(answer.training_over, answer.contributed) for answer in comes_back.answers] == [(True, False)]
        assert await swarm.nodes["sl-3"].ended() is None


async def test_a_stranger_that_comes_after_the_end_is_told_so(pki: Any, tmp_path: Path) -> None:
    async with swarm_of(pki, tmp_path, "sl-1", "sl-2") as swarm:
        await swarm.ml("sl-1", model(1), same, min_peers=1).run()
        with pytest.raises(Refused, match="The training is complete since round"):
            await swarm.ml("sl-2", model(2), same, min_peers=1).run()


async def test_a_holder_that_comes_back_at_another_address_is_found_there(pki: Any, tmp_path: Path) -> None:
    """Both nodes with the last merged model are gone when a third one needs it."""
    async with swarm_of(pki, tmp_path, "sl-1", "sl-2", "sl-3") as swarm:
        gone, missed = threading.Event(), asyncio.Event()
        loop = asyncio.get_running_loop()
        early = [
            asyncio.create_task(swarm.ml(name, model(1), same, min_peers=2, between=lambda _: gone.wait(30)).run())
            for name in ("sl-1", "sl-2")
        ]
        await swarm.until(lambda view: view.last_result is not None)
        before = swarm.nodes["sl-1"].facts["port"]
        for name in ("sl-1", "sl-2"):
            swarm.nodes[name].stop.set()
            await swarm.nodes[name].ended()
        gone.set()
        assert all(isinstance(error, Refused) for error in await asyncio.gather(*early, return_exceptions=True))
        late = swarm.ml("sl-3", model(3), same, rounds=0, min_peers=2)
        words = "the result of round 1 cannot be had from"
        late.noticed = lambda text: loop.call_soon_threadsafe(missed.set) if text.startswith(words) else None
        late_run = asyncio.create_task(late.run())
        async with asyncio.timeout(WITHIN_S):
            await missed.wait()
        await swarm.sl("sl-1")
        assert swarm.nodes["sl-1"].facts["port"] != before
        digests = await asyncio.gather(late_run, swarm.ml("sl-1", model(1), same, rounds=0, min_peers=2).run())
        assert set(digests) == {swarm.view.last_result.digest.hex()}

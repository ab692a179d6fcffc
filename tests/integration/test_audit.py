"""The record of a training, as anyone can read it from a real SN: whole, in the order of the chain, checked against
models.
"""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sn_swarm import Sl, config, digest_of, play_round, running_sn, scripted_sl
from test_sn_history import History, Step, chain, step  # noqa: F401  # chain is a fixture
from training_reader import TrainingReader

from services.audit.fold import fold
from services.chain.events import RoundAccepted
from services.chain.factory import Choice
from services.cli.main import main
from services.errors import NotRunning, UnknownContract
from services.identity.identity import Identity
from services.local.certificates import certificates
from services.local.plan import SN, SwarmPlan
from services.local.state import Running, SwarmState
from services.rpc import swarm_pb2 as pb
from services.rpc.client import SNClient
from services.sn.directory import DEFAULT_TRAINING
from services.sn.node import RunningSN
from services.sn.record import entry
from swarm_callback.digest import digest_of_file
from swarm_callback.params import encode

NAMES = ("sl-1", "sl-2", "sl-3")


@contextlib.asynccontextmanager
async def training(
    pki: Any, directory: Path, *names: str, kind: Choice = "embedded"
) -> AsyncIterator[tuple[RunningSN, list[Sl]]]:
    async with contextlib.AsyncExitStack() as stack:
        sn = await stack.enter_async_context(running_sn(pki.identity("sn", "sn-1"), directory / "sn", chain=kind))
        sls = [await stack.enter_async_context(scripted_sl(pki.identity("sl", name), sn.port)) for name in names]
        for sl in sls:
            await sl.enrol(config())
        yield sn, sls


async def eventful(sls: list[Sl]) -> None:
    """A plain round, then one with a deposed leader, a left-out node and reports."""
    await play_round(sls, 1)
    for sl in sls:
        await sl.client.training.Report(
            pb.ReportRequest(contract=sl.contract, round=1, loss=0.5, metric=0.25, epochs_done=1, epochs_total=3)
        )
    await asyncio.gather(*(sl.check_in(2) for sl in sls))
    first = await sls[0].until(lambda status: status.state == pb.MERGE and status.round == 2)
    for sl in sls:
        if sl.name != first.leader:
            await sl.client.training.VoteOut(pb.VoteOutRequest(contract=sl.contract, round=2, term=1))
    second = await sls[0].until(lambda status: status.state == pb.MERGE and status.term == 2)
    leader = next(sl for sl in sls if sl.name == second.leader)
    out = next(sl for sl in sls if sl.name not in (first.leader, second.leader))
    await leader.publish(second, [pb.LeftOut(name=out.name, reason="non-finite values in tensor w", not_finite=True)])


async def audit(pki: Any, port: int, capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    """``swarm audit`` by a non-participant: exit code, output, errors."""
    files = pki.issue("swci", "auditor")
    identity = ["--cert", str(files.cert), "--key", str(files.key), "--cacert", str(files.cacert)]
    command = ["audit", *arguments, "--sn-ip", "localhost", "--sn-api-port", str(port), *identity]
    capsys.readouterr()
    code = await asyncio.to_thread(main, command)
    out, err = capsys.readouterr()
    return code, out, err


@pytest.mark.parametrize("kind", ["embedded", "geth"])
async def test_the_record_tells_every_round_in_the_order_of_the_chain(
    pki: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str], kind: Choice
) -> None:
    async with training(pki, tmp_path, *NAMES, kind=kind) as (sn, sls):
        await eventful(sls)
        gateway = sn.trainings.named(DEFAULT_TRAINING).gateway
        await sn.trainings.named(DEFAULT_TRAINING).reports.flush()
        code, out, err = await audit(pki, sn.port, capsys, DEFAULT_TRAINING, "--json")
        on_chain = [(event.position.block, event.position.log_index) for event in await gateway.events()]
    assert (code, err) == (0, "")
    found = json.loads(out)
    assert [(it["block"], it["log_index"]) for it in found["events"]] == on_chain == sorted(on_chain)
    assert found["sound"] and found["location"] == gateway.address
    first, second = found["rounds"]
    assert first["result"]["digest"] == digest_of("merged", 1).hex()
    assert {it["name"]: (it["digest"], it["weight"], it["size"], it["fate"]) for it in first["check_ins"]} == {
        name: (digest_of(name, 1).hex(), 100, 1024, "merged") for name in NAMES
    }
    assert {it["name"]: it["loss"] for it in first["reports"]} == dict.fromkeys(NAMES, 0.5)
    assert [(it["term"], it["ended"], len(it["votes"])) for it in second["terms"]] == [
        (1, "deposed", 2), (2, "accepted", 0)
    ]  # fmt: skip
    assert second["result"]["leader"] == second["terms"][1]["leader"] != second["terms"][0]["leader"]
    assert [it["reason"] for it in second["left_out"]] == ["non-finite values in tensor w"]


async def test_people_read_a_table(pki: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    async with training(pki, tmp_path, *NAMES) as (sn, sls):
        await eventful(sls)
        code, out, _ = await audit(pki, sn.port, capsys)
    assert code == 0
    for word in (DEFAULT_TRAINING, "deposed", "non-finite values in tensor w", digest_of("merged", 2).hex()[:16]):
        assert word in out
    assert "none against the rules of a round" in out


async def test_the_record_is_the_same_after_a_restart_and_for_every_role(pki: Any, tmp_path: Path) -> None:
    async with training(pki, tmp_path, *NAMES[:2]) as (sn, sls):
        await play_round(sls, 1)
        before = await pages_of(pki.identity("sl", "sl-1"), sn.port)
        with pytest.raises(UnknownContract, match="other"):
            await pages_of(pki.identity("sl", "sl-1"), sn.port, "other")
    async with running_sn(pki.identity("sn", "sn-1"), tmp_path / "sn") as sn:
        for role, name in (("sl", "sl-1"), ("admin", "admin"), ("swop", "swop-1"), ("swci", "swci-1"), ("sn", "sn-2")):
            assert (await pages_of(pki.identity(role, name), sn.port))[: len(before)] == before


async def pages_of(identity: Identity, port: int, contract: str = DEFAULT_TRAINING) -> list[pb.RecordEvent]:
    async with SNClient(f"localhost:{port}", identity) as client:
        return [event async for page in client.record(contract) for event in page.events]


async def test_models_are_held_to_the_record(pki: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    models = tmp_path / "models"
    models.mkdir()
    final = write(models / "final.safetensors", 1.0)
    async with training(pki, tmp_path, *NAMES[:2]) as (sn, sls):
        await asyncio.gather(*(sl.check_in(1, finished=True) for sl in sls))
        merging = await sls[0].until(lambda status: status.state == pb.MERGE)
        leader = next(sl for sl in sls if sl.name == merging.leader)
        await leader.publish(merging, digest=final)
        good = await audit(pki, sn.port, capsys, "--json", "--verify", str(models))
        assert good[0] == 0, good
        assert json.loads(good[1])["files"][0]["kind"] == "final model"
        write(models / "sl-2" / "mine.safetensors", 2.0)
        code, out, err = await audit(pki, sn.port, capsys, "--verify", str(models))
    assert code == 19
    assert "differs" in out and "sl-2/mine.safetensors" in out
    assert err.startswith("ERROR: 1 of 2 model files") and final.hex() in err


async def test_a_local_swarm_is_audited_by_its_directory(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plan = SwarmPlan(tmp_path, 1)
    mine = certificates(plan)[SN]
    identity = Identity.load(cert=mine.cert, key=mine.key, cacert=mine.cacert)
    async with running_sn(identity, tmp_path / "sn") as sn:
        SwarmState(Running.this_process(), sn_address=f"127.0.0.1:{sn.port}", chain="embedded").write(tmp_path)
        capsys.readouterr()
        code = await asyncio.to_thread(main, ["audit", "--dir", str(tmp_path), "--json"])
        found = json.loads(capsys.readouterr().out)
    assert (code, found["events"], found["state"]) == (0, [], "UNCONFIGURED")
    SwarmState.forget(tmp_path)
    assert await asyncio.to_thread(main, ["audit", "--dir", str(tmp_path)]) == NotRunning.exit_code


def write(path: Path, value: float) -> bytes:
    path.parent.mkdir(exist_ok=True)
    header, data = encode({"w": np.full(5, value, np.float32)})
    path.write_bytes(header + b"".join(data))
    return digest_of_file(path).digest()


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(steps=st.lists(step, min_size=8, max_size=30))
def test_what_the_contract_lets_happen_is_a_sound_record(chain: Any, steps: list[Step]) -> None:  # noqa: F811
    runner, backend, network = chain

    async def play() -> None:
        gateway = await TrainingReader.deploy(backend, network.address)
        await History(gateway).play(steps)
        events = await gateway.events()
        record = fold("test", [entry(event) for event in events])
        assert record.problems == []
        people = [who.name for who in await gateway.participants()]
        blocks = {event.round: event.position.block for event in events if isinstance(event, RoundAccepted)}
        for number, found in record.rounds.items():
            block = blocks.get(number)  # later ones are written over it
            result = await gateway.result(number, block)
            told = found.result
            assert (result and (result.digest.hex(), result.size, result.term)) == (
                told and (told.digest, told.size, told.term)
            )
            merged = sorted(people[it.participant] for it in await gateway.check_ins(number, block))
            assert merged == sorted(found.standing)

    runner.run(play())

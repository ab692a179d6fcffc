"""Who may do what at an SN, and what others are told."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sn_swarm import LAYOUT, config, play_round, running_sn, scripted_sl

from services.errors import (
    AlreadyCheckedIn,
    ConfigurationDiffers,
    ContractNameTaken,
    MalformedCall,
    ModelDiffers,
    NameTaken,
    NoSecondCopy,
    NotAMember,
    NotEnrolled,
    NotTheLeader,
    StaleRound,
    TrainingNotComplete,
    UnknownContract,
    WrongRole,
)
from services.identity.identity import Identity
from services.rpc import swarm_pb2 as pb
from services.rpc.client import SNClient
from services.sn.directory import DEFAULT_RUNNER, DEFAULT_TRAINING, TASK_REGISTRY
from services.sn.node import RunningSN
from services.swci import translation
from services.swci.commands.general import ListNodes


@pytest.fixture
async def sn(pki: Any, tmp_path: Path) -> AsyncIterator[RunningSN]:
    async with running_sn(pki.identity("sn", "sn-1"), tmp_path / "sn") as running:
        yield running


def client(pki: Any, sn: RunningSN, role: str, name: str) -> SNClient:
    return SNClient(f"localhost:{sn.port}", pki.identity(role, name))


def second_certificate(pki: Any, role: str, name: str) -> Identity:
    files = pki.issue(role, name)
    return Identity.load(cert=files.cert, key=files.key, cacert=files.cacert)


async def test_an_sl_may_not_create_a_contract(pki: Any, sn: RunningSN) -> None:
    async with client(pki, sn, "sl", "sl-1") as sl:
        with pytest.raises(WrongRole, match="sl-1 has the role sl, but CreateContract needs admin or swci"):
            await sl.admin.CreateContract(pb.CreateContractRequest(name="mine"))


async def test_an_administrator_may_not_check_in(pki: Any, sn: RunningSN) -> None:
    async with client(pki, sn, "admin", "root") as admin:
        with pytest.raises(WrongRole, match="CheckIn needs sl"):
            await admin.training.CheckIn(pb.CheckInRequest(contract=DEFAULT_TRAINING))


async def test_an_administrator_creates_a_contract_that_is_listed_and_taken(pki: Any, sn: RunningSN) -> None:
    async with client(pki, sn, "admin", "root") as admin:
        created = await admin.admin.CreateContract(pb.CreateContractRequest(name="second.cqdb.sml.hpe"))
        listed = await admin.network.ListContracts(pb.ListContractsRequest())
        assert {entry.name: entry.kind for entry in listed.contracts} == {
            DEFAULT_TRAINING: "training",
            TASK_REGISTRY: "tasks",
            DEFAULT_RUNNER: "taskrunner",
            "second.cqdb.sml.hpe": "training",
        }
        assert created.location in [entry.location for entry in listed.contracts]
        status = await admin.training.GetStatus(pb.GetStatusRequest(contract="second.cqdb.sml.hpe"))
        assert (status.state, status.location) == (pb.UNCONFIGURED, created.location)
        with pytest.raises(ContractNameTaken, match="second"):
            await admin.admin.CreateContract(pb.CreateContractRequest(name="second.cqdb.sml.hpe"))


async def test_an_unknown_contract_is_named_with_those_that_exist(pki: Any, sn: RunningSN) -> None:
    async with scripted_sl(pki.identity("sl", "sl-1"), sn.port, contract="nothing", watching=False) as sl:
        with pytest.raises(UnknownContract, match=f"no training contract nothing; there are {DEFAULT_TRAINING}"):
            await sl.enrol(config())
        with pytest.raises(UnknownContract):
            async for _ in sl.client.watch("nothing"):
                pass


async def test_what_changes_nothing_is_no_transaction(pki: Any, sn: RunningSN) -> None:
    async with scripted_sl(pki.identity("sl", "sl-1"), sn.port) as sl:
        await sl.enrol(config())
        block = (await sl.client.network.GetInfo(pb.GetInfoRequest())).block
        for _ in range(3):
            assert (await sl.enrol(config())).participants[0].active
            await sl.register()
        assert (await sl.client.network.GetInfo(pb.GetInfoRequest())).block == block


async def test_more_peers_than_a_round_can_have_are_refused(pki: Any, sn: RunningSN) -> None:
    async with scripted_sl(pki.identity("sl", "sl-1"), sn.port) as sl:
        with pytest.raises(MalformedCall, match=r"minPeers \(at most 1000\)"):
            await sl.enrol(config(min_peers=1001))


async def test_a_round_that_would_wait_for_weeks_is_refused(pki: Any, sn: RunningSN) -> None:
    async with scripted_sl(pki.identity("sl", "sl-1"), sn.port) as sl:
        with pytest.raises(MalformedCall, match=r"at most 86400 s"):
            await sl.enrol(config(quorum_wait_ms=86_400_001))


async def test_a_node_that_is_not_registered_may_not_enrol(pki: Any, sn: RunningSN) -> None:
    async with client(pki, sn, "sl", "stranger") as stranger:
        with pytest.raises(NotAMember, match="stranger is not registered"):
            await stranger.training.Enrol(pb.EnrolRequest(contract=DEFAULT_TRAINING, config=config()))


async def test_a_name_belongs_to_the_key_that_registered_it(pki: Any, sn: RunningSN) -> None:
    async with scripted_sl(pki.identity("sl", "sl-1"), sn.port, watching=False) as sl:
        await sl.enrol(config())
        async with SNClient(f"localhost:{sn.port}", second_certificate(pki, "sl", "sl-1")) as other:
            with pytest.raises(NameTaken, match="The name sl-1 is enrolled with another key"):
                await other.network.Register(pb.RegisterRequest(host="127.0.0.1", port=1))
            with pytest.raises(NameTaken):
                await other.training.CheckIn(pb.CheckInRequest(contract=DEFAULT_TRAINING, round=1))


async def test_the_same_name_in_another_role_is_another_member(pki: Any, sn: RunningSN) -> None:
    async with scripted_sl(pki.identity("sl", "x"), sn.port), client(pki, sn, "swop", "x") as swop:
        await swop.network.Register(pb.RegisterRequest(host="127.0.0.1", port=2))
        nodes = (await swop.network.ListNodes(pb.ListNodesRequest())).nodes
    assert sorted((node.role, node.name) for node in nodes) == [("sl", "x"), ("sn", "sn-1"), ("swop", "x")]


async def test_a_configuration_that_differs_is_refused_with_the_field(pki: Any, sn: RunningSN) -> None:
    async with (
        scripted_sl(pki.identity("sl", "sl-1"), sn.port) as first,
        scripted_sl(pki.identity("sl", "sl-2"), sn.port) as second,
    ):
        await first.enrol(config(sync_frequency=16))
        with pytest.raises(ConfigurationDiffers, match="syncFrequency is 32, but the training was agreed with 16"):
            await second.enrol(config(sync_frequency=32))
        with pytest.raises(ConfigurationDiffers, match="minPeers is 3, but"):
            await second.enrol(config(min_peers=3))
        assert [who.name for who in (await first.status()).participants] == ["sl-1"]


@pytest.mark.parametrize(
    ("agreed", "field"),
    [
        ({"min_peers": 0}, "minPeers"),
        ({"sync_frequency": 0}, "syncFrequency"),
        ({"merge_method": ""}, "mergeMethod"),
        ({"merge_method": "m" * 33}, "mergeMethod"),
        ({"transfer_compression": ""}, "transferCompression"),
        ({"transfer_compression": "m" * 33}, "transferCompression"),
        ({"first_merge": ""}, "firstMerge"),
        ({"first_merge": "m" * 33}, "firstMerge"),
        ({"model_version": "m" * 201}, "modelVersion"),
    ],
)
async def test_a_configuration_that_makes_no_sense_is_refused(
    pki: Any, sn: RunningSN, agreed: dict[str, Any], field: str
) -> None:
    async with scripted_sl(pki.identity("sl", "sl-1"), sn.port) as sl:
        with pytest.raises(MalformedCall, match=f"The value of {field} is not allowed"):
            await sl.enrol(config(**agreed))
        assert (await sl.status()).state == pb.UNCONFIGURED


@pytest.mark.parametrize(
    ("said", "field"),
    [
        ({"digest": b"short"}, "digest"),
        ({"layout": b""}, "layout"),
        ({"size": 0}, "size"),
        ({"weight": 101}, "weight"),
        ({"host": ""}, "host"),
        ({"host": "a\nb"}, "host"),
        ({"port": 65536}, "port"),
    ],
)
async def test_a_check_in_that_makes_no_sense_is_refused(
    pki: Any, sn: RunningSN, said: dict[str, Any], field: str
) -> None:
    async with scripted_sl(pki.identity("sl", "sl-1"), sn.port) as sl:
        await sl.enrol(config())
        with pytest.raises(MalformedCall, match=f"The value of {field} is not allowed"):
            await sl.check_in(1, **said)
        assert not (await sl.status()).check_ins


async def test_check_ins_are_fenced(pki: Any, sn: RunningSN) -> None:
    async with scripted_sl(pki.identity("sl", "sl-1"), sn.port) as sl:
        await sl.enrol(config())
        async with scripted_sl(pki.identity("sl", "sl-2"), sn.port, watching=False) as outsider:
            with pytest.raises(NotEnrolled, match="sl-2 is not enrolled"):
                await outsider.check_in(1)
        await sl.check_in(1)
        await sl.check_in(1)  # a repetition changes nothing
        with pytest.raises(AlreadyCheckedIn, match="sl-1 already checked in other parameters for round 1"):
            await sl.check_in(1, digest=LAYOUT)
        with pytest.raises(StaleRound, match="round 7, but the training is in round 1"):
            await sl.check_in(7)


async def test_a_model_that_differs_is_refused_with_who_set_it(pki: Any, sn: RunningSN) -> None:
    async with (
        scripted_sl(pki.identity("sl", "sl-1"), sn.port) as first,
        scripted_sl(pki.identity("sl", "sl-2"), sn.port) as second,
    ):
        await first.enrol(config())
        await second.enrol(config())
        await first.check_in(1)
        with pytest.raises(ModelDiffers) as refused:
            await second.check_in(1, layout=b"\7" * 32)
        assert refused.value.facts["agreedBy"] == "sl-1"


async def test_only_the_leader_publishes_and_reports_progress(pki: Any, sn: RunningSN) -> None:
    async with (
        scripted_sl(pki.identity("sl", "sl-1"), sn.port) as first,
        scripted_sl(pki.identity("sl", "sl-2"), sn.port) as second,
    ):
        await first.enrol(config())
        await second.enrol(config())
        await first.check_in(1)
        await second.check_in(1)
        merging = await first.until(lambda status: status.state == pb.MERGE)
        follower = second if merging.leader == "sl-1" else first
        leader = first if follower is second else second
        with pytest.raises(NotTheLeader, match=f"{leader.name} does"):
            await follower.publish(merging)
        with pytest.raises(NoSecondCopy, match="nobody has signed for it"):  # perhaps nobody can fetch it
            await leader.publish(merging, copy=None)
        moved = pb.ProgressRequest(contract=leader.contract, round=1, term=merging.term, bytes_done=5, bytes_total=9)
        with pytest.raises(NotTheLeader):
            await follower.client.training.ReportProgress(moved)
        await leader.client.training.ReportProgress(moved)
        seen = await follower.until(lambda status: status.progress.bytes_done == 5)
        assert seen.progress.bytes_total == 9
        await leader.publish(merging)


async def test_a_node_registers_moves_leaves_and_comes_back(pki: Any, sn: RunningSN) -> None:
    async with client(pki, sn, "sl", "sl-1") as sl:

        async def me() -> pb.Node:
            nodes = (await sl.network.ListNodes(pb.ListNodesRequest())).nodes
            return next(node for node in nodes if node.name == "sl-1")

        await sl.network.Register(pb.RegisterRequest(host="host-a", port=1))
        block = (await sl.network.GetInfo(pb.GetInfoRequest())).block
        await sl.network.Register(pb.RegisterRequest(host="host-a", port=1))
        assert (await sl.network.GetInfo(pb.GetInfoRequest())).block == block  # nothing new, nothing written
        await sl.network.Register(pb.RegisterRequest(host="host-b", port=2))
        found = await me()
        assert (found.host, found.port, found.parent, found.present) == ("host-b", 2, "sn-1", True)
        assert found.fingerprint.hex() == pki.identity("sl", "sl-1").fingerprint and found.last_seen > 0
        await sl.network.Deregister(pb.DeregisterRequest(reason="done"))
        assert not (await me()).present
        with pytest.raises(NotAMember):
            await sl.training.Enrol(pb.EnrolRequest(contract=DEFAULT_TRAINING, config=config()))
        await sl.network.Register(pb.RegisterRequest(host="host-b", port=2))
        assert (await me()).present


async def test_an_sn_tells_whose_certificate_ends(pki: Any, sn: RunningSN) -> None:
    ends = datetime.now(UTC) + timedelta(days=5, hours=1)
    files = pki.issue("sl", "sl-1", not_after=ends)
    identity = Identity.load(cert=files.cert, key=files.key, cacert=files.cacert)
    async with SNClient(f"localhost:{sn.port}", identity) as sl:
        await sl.network.Register(pb.RegisterRequest(host="host-a", port=1))
        reply = await sl.network.ListNodes(pb.ListNodesRequest())
    told = {node.name: node.certificate_ends for node in reply.nodes}
    assert told["sl-1"] == int(ends.timestamp()) and told["sn-1"] > ends.timestamp()
    shown = ListNodes().show(translation.nodes(reply, pb.ListOrganizationsReply()))
    said = [line for line in shown if line.startswith("The certificate")]
    assert said == [f"The certificate of SL sl-1 ends in 5 days, at {ends:%Y-%m-%d %H:%M} UTC."]


async def test_a_training_is_reset_by_an_administrator_when_complete_or_left_by_all(pki: Any, sn: RunningSN) -> None:
    reset = pb.ResetContractRequest(name=DEFAULT_TRAINING)
    async with (
        scripted_sl(pki.identity("sl", "sl-1"), sn.port) as first,
        scripted_sl(pki.identity("sl", "sl-2"), sn.port) as second,
        client(pki, sn, "swci", "swci-1") as swci,
    ):
        await swci.admin.ResetContract(
            reset
        )  # as in an init script, before anybody has enrolled: there is nothing to do
        for sl in (first, second):
            await sl.enrol(config())
        with pytest.raises(TrainingNotComplete):
            await swci.admin.ResetContract(reset)
        await play_round([first, second], 1, finished=True)
        await swci.admin.ResetContract(reset)
        again = await first.until(lambda status: status.state == pb.UNCONFIGURED and status.first_round == 2)
        assert not any(who.active for who in again.participants) and not again.HasField("last_result")
        assert (await second.enrol(config(1, sync_frequency=99))).config.sync_frequency == 99
        # Everyone leaves after a merge, so nobody can complete the training.
        await second.check_in(2, base=0)
        await second.publish(await second.until(lambda status: status.state == pb.MERGE))
        with pytest.raises(TrainingNotComplete):
            await swci.admin.ResetContract(reset)
        await second.leave("no time")
        await swci.admin.ResetContract(reset)
        await first.until(lambda status: status.state == pb.UNCONFIGURED and status.first_round == 4)

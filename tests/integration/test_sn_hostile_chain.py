"""An SN that writes to the chain with its own account but other software, and the effect on SNs that read the chain.

The contracts accept what a registered SN sends: any bytes as a name, any address as that of a training.
"""

from pathlib import Path
from typing import Any

import pytest
from eth_abi.abi import encode
from sn_swarm import config, play_round, running_sn, scripted_sl

from services.chain.abi import contract_abi
from services.chain.events import ROLES
from services.errors import UnknownContract, UnknownRunner
from services.rpc import swarm_pb2 as pb
from services.rpc.client import SNClient
from services.sn.directory import RUNNER_KIND, TASKS_KIND, TRAINING_KIND
from services.sn.node import RunningSN

NO_TEXT = b"\xff\xfe \x80"
AS_SHOWN = "\\xff\\xfe \\x80"
FINGERPRINT = b"\x07" * 32

# The code of a contract that emits its call data as an event: a topic of 32 bytes, then the data.
SAYS_ANYTHING = bytes.fromhex("6011600c60003960116000f3" + "366000600037600051602036036020a100")


async def call(sn: RunningSN, contract: str, address: str, function: str, *arguments: object) -> None:
    """Calls a function as the software would, except that texts may be any bytes."""
    known = contract_abi(contract).functions[function]
    types = [kind.replace("string", "bytes") for kind in known.inputs]
    await sn.trainings.chain.transact(address, known.selector + encode(types, arguments))


async def says(sn: RunningSN, address: str, contract: str, event: str, data: bytes) -> None:
    """The contract at ``address``, which is not ours, emits an event of one of ours."""
    topic = next(topic for topic, known in contract_abi(contract).events.items() if known.name == event)
    await sn.trainings.chain.transact(address, topic + data)


async def trains(pki: Any, sn: RunningSN, number: int) -> None:
    async with (
        scripted_sl(pki.identity("sl", "sl-1"), sn.port) as first,
        scripted_sl(pki.identity("sl", "sl-2"), sn.port) as second,
    ):
        for sl in (first, second):
            await sl.enrol(config())
        await play_round([first, second], number)


async def test_names_that_are_no_text_end_no_sn(pki: Any, tmp_path: Path) -> None:
    """Neither a running SN nor one that reads the chain later."""
    async with running_sn(pki.identity("sn", "sn-1"), tmp_path / "sn") as sn:
        network = sn.trainings.network.address
        for role in ROLES[1:]:
            member = (NO_TEXT, ROLES.index(role), NO_TEXT, 1, FINGERPRINT, NO_TEXT, b"")
            await call(sn, "SwarmNetwork", network, "registerMember", *member)
        await call(sn, "SwarmNetwork", network, "registerContract", NO_TEXT, NO_TEXT, network, [])
        await call(sn, "SwarmNetwork", network, "addSNAccount", "0x" + "ab" * 20, NO_TEXT, b"")
        training = await sn.trainings.create("other")
        agreed = (1, 16, b"mean", False, 0, b"none", b"leader", NO_TEXT, b"fixed", 0, False)
        await trains(pki, sn, 1)
        await call(sn, "TrainingContract", training, "enrol", NO_TEXT, FINGERPRINT, True, agreed)
        await call(sn, "TrainingContract", training, "leave", NO_TEXT, NO_TEXT)
        registry = next(entry.location for entry in sn.trainings.entries if entry.kind == TASKS_KIND)
        for name in (NO_TEXT, AS_SHOWN.encode()):  # two tasks whose names look the same to us
            header = (name, b"RUN_SWARM", b"", b"ROOTTASK", b"")
            await call(sn, "TaskRegistry", registry, "createTask", header, b"", FINGERPRINT, b"", False, 1)
        for name in (NO_TEXT, AS_SHOWN.encode()):
            await call(sn, "TaskRegistry", registry, "removeTask", name)
    async with (
        running_sn(pki.identity("sn", "sn-1"), tmp_path / "sn") as sn,
        SNClient(f"localhost:{sn.port}", pki.identity("admin", "op")) as admin,
    ):
        nodes = (await admin.network.ListNodes(pb.ListNodesRequest())).nodes
        assert {node.name for node in nodes} == {"sn-1", "sl-1", "sl-2", AS_SHOWN}
        pages = [page async for page in admin.record("other")]
        assert any(AS_SHOWN.encode() in event.SerializeToString() for page in pages for event in page.events)
        await trains(pki, sn, 2)


@pytest.mark.parametrize("when", ["before", "after"])
async def test_a_contract_that_is_none_of_ours_ends_no_sn(pki: Any, tmp_path: Path, when: str) -> None:
    """``when``: whether it emits impossible events before or after it is registered in the directory."""
    async with running_sn(pki.identity("sn", "sn-1"), tmp_path / "sn") as sn:
        chain, network = sn.trainings.chain, sn.trainings.network
        odd = {
            "other topic": ("SwarmNetwork", "CarriedOut", bytes(32)),
            "short": ("TrainingContract", "CheckedIn", b"\x01"),
            "endless": ("TrainingContract", "Left", b"\xff" * 96),
            "of nobody": ("TrainingContract", "Left", encode(["string", "string", "uint64"], ["sl-9", "", 1])),
            "of no SWOP": ("TaskRunner", "AgentReleased", encode(["uint64", "string"], [1, "swop-9"])),
            "very many": ("TaskRunner", "AgentEnrolled", encode(["uint64", "string", "uint32"], [1, "x", 2**32 - 1])),
        }
        for name, (contract, event, data) in odd.items():
            address = (await chain.deploy(SAYS_ANYTHING)).contract
            assert address is not None
            kind = RUNNER_KIND if contract == "TaskRunner" else TRAINING_KIND
            steps = [says(sn, address, contract, event, data), network.register_contract(name, kind, address)]
            for step in steps if when == "before" else reversed(steps):
                await step
        await trains(pki, sn, 1)
    async with (
        running_sn(pki.identity("sn", "sn-1"), tmp_path / "sn") as sn,
        SNClient(f"localhost:{sn.port}", pki.identity("admin", "op")) as admin,
    ):
        await trains(pki, sn, 2)
        with pytest.raises(UnknownContract):
            await admin.training.GetStatus(pb.GetStatusRequest(contract="of nobody"))
        with pytest.raises(UnknownRunner):
            await admin.runners.GetRunner(pb.GetRunnerRequest(runner="of no SWOP"))

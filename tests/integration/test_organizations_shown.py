"""The organization of each node, as found by the SN that admitted it: in the directory, the list of nodes, logs and
audit.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from sn_swarm import config, running_sn, scripted_sl
from structlog.testing import capture_logs
from two_organizations import TwoOrganizations

from services.audit.data import record_data
from services.audit.reading import read_record
from services.audit.table import record_view
from services.identity.identity import Identity
from services.rpc import swarm_pb2 as pb
from services.rpc.client import SNClient
from services.sn.directory import DEFAULT_TRAINING
from services.swci import translation
from services.swci.commands.contract import GetContractStatus
from services.swci.commands.general import ListNodes


@dataclass(frozen=True)
class Shown:
    """What is shown of a training with participants: ``found`` is the audit as data, the rest is for people."""

    nodes: list[str]
    status: list[str]
    audit: str
    found: Any


async def shown(sn: Identity, sls: list[Identity], reader: Identity, directory: Path) -> Shown:
    async with running_sn(sn, directory / sn.name) as running:
        for sl in sls:
            async with scripted_sl(sl, running.port) as scripted:
                await scripted.enrol(config())
        address = f"localhost:{running.port}"
        async with SNClient(address, reader) as client:
            reply = await client.network.ListNodes(pb.ListNodesRequest())
            stands = await client.training.GetStatus(pb.GetStatusRequest(contract=DEFAULT_TRAINING))
        record = await read_record(address, reader, DEFAULT_TRAINING)
    console = Console(width=200)
    with console.capture() as printed:
        console.print(record_view(record))
    return Shown(
        ListNodes().show(translation.nodes(reply, pb.ListOrganizationsReply())),
        GetContractStatus(name=DEFAULT_TRAINING).show(translation.contract_status(stands)),
        printed.get(),
        record_data(record),
    )


async def test_members_are_shown_with_their_organization(tmp_path: Path) -> None:
    two = TwoOrganizations.create(tmp_path / "two")
    sls = [two.identity("sl", name) for name in ("a-1", "b-1", "a-2")]
    with capture_logs() as logs:
        seen = await shown(two.identity("sn", "b-0"), sls, two.identity("admin", "b-9"), tmp_path)
    organizations = {"b-0": "hospital-b", "a-1": "hospital-a", "b-1": "hospital-b", "a-2": "hospital-a"}
    for name, organization in organizations.items():
        assert any(f" {name} " in line and line.rstrip(" |").endswith(organization) for line in seen.nodes)
        if name != "b-0":
            assert any(line.startswith(name) and line.rstrip().endswith(organization) for line in seen.status)
    registered = {it["name"]: it["organization"] for it in logs if it["event"] == "registered" and "role" in it}
    assert registered == organizations
    assert "hospital-a: a-1, a-2" in seen.audit
    assert "hospital-b: b-1" in seen.audit
    assert {it["name"]: it["organization"] for it in seen.found["participants"]} == {
        name: organizations[name] for name in ("a-1", "b-1", "a-2")
    }


async def test_without_a_trust_file_nobody_has_one(pki: Any, tmp_path: Path) -> None:
    sn, sl, admin = (pki.identity(*who) for who in (("sn", "sn-1"), ("sl", "sl-1"), ("admin", "ada")))
    with capture_logs() as logs:
        seen = await shown(sn, [sl], admin, tmp_path)
    assert "ORGANIZATION" not in "".join((*seen.nodes, *seen.status))
    assert "organization" not in seen.audit
    assert not any("organization" in it for it in logs)
    assert [it["organization"] for it in seen.found["participants"]] == [""]

"""Reads the record of a training from an SN."""

from collections.abc import Callable

from services.audit.fold import Folding
from services.audit.record import Record
from services.errors import AuditError
from services.identity.identity import Identity
from services.rpc import swarm_pb2 as pb
from services.rpc.client import SNClient


async def read_record(
    address: str, identity: Identity, contract: str, told: Callable[[pb.RecordEvent], object] = lambda _: None
) -> Record:
    """The record as the SN at ``address`` (host:port) knows it; ``told`` gets each event as it arrives.

    Raises UnknownContract, and the errors of a call.
    """
    folding = Folding(contract)
    record = folding.record
    async with SNClient(address, identity) as client:
        async for page in client.record(contract):
            record.location, record.block = page.location, max(record.block, page.block)
            for event in page.events:
                folding.take(event)
                told(event)
        nodes = (await client.network.ListNodes(pb.ListNodesRequest())).nodes
    keys = {who.name: who.fingerprint for who in record.participants.values()}
    record.organizations = {
        node.name: node.organization
        for node in nodes
        if node.organization and (node.role, node.fingerprint.hex()) == ("sl", keys.get(node.name))
    }
    return record


def require_sound(record: Record) -> None:
    """Raises AuditError if the record contradicts itself."""
    if record.problems:
        more = f", and {len(record.problems) - 1} more" if len(record.problems) > 1 else ""
        raise AuditError(contract=record.contract, problem=record.problems[0] + more)

"""Reads the record of a training from an SN."""

from services.audit.fold import fold
from services.audit.record import Record
from services.errors import AuditError
from services.identity.identity import Identity
from services.rpc import swarm_pb2 as pb
from services.rpc.client import SNClient


async def read_record(address: str, identity: Identity, contract: str) -> Record:
    """What the SN at ``address`` (host:port) knows. Raises UnknownContract, and as a call does."""
    events: list[pb.RecordEvent] = []
    location, block = "", 0
    async with SNClient(address, identity) as client:
        async for page in client.record(contract):
            location, block = page.location, max(block, page.block)
            events.extend(page.events)
    record = fold(contract, events)
    record.location, record.block = location, block
    return record


def require_sound(record: Record) -> None:
    """Raises AuditError where the record contradicts itself."""
    if record.problems:
        more = f", and {len(record.problems) - 1} more" if len(record.problems) > 1 else ""
        raise AuditError(contract=record.contract, problem=record.problems[0] + more)

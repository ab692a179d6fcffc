"""TaskRunner in Python: one taskrunner, the SWOPs that attend it, and the tasks assigned to it."""

from dataclasses import astuple
from typing import Self

from services.chain.backend import ChainBackend
from services.chain.gateway import Gateway
from services.chain.receipts import Log, Receipt
from services.chain.task_events import Assigned, PeerReport, RunnerEvent, runner_event

DESCRIPTION_LIMIT_BYTES = 8192
PEERS_LIMIT = 1000


class TaskRunnerGateway(Gateway[RunnerEvent]):
    """Writes return after their receipt, and raise the error class with the name of the contract's error.

    Times (``at``) are milliseconds since 1970.
    """

    contract = "TaskRunner"

    @classmethod
    async def deploy(cls, chain: ChainBackend, network_address: str) -> Self:
        """A new taskrunner of the swarm whose SwarmNetwork is at ``network_address``."""
        return await cls._deploy(chain, network_address)

    async def attend(self, name: str, group: str, peers: int, fingerprint: bytes) -> Receipt:
        """Raises TooLong, MalformedCall."""
        return await self._send("attend", name, group, peers, fingerprint)

    async def quit(self, name: str, reason: str, at: int) -> Receipt:
        """Raises UnknownAgent; changes nothing if the SWOP does not attend."""
        return await self._send("quit", name, reason, at)

    async def assign(self, assigned: Assigned, at: int) -> Receipt:
        """With a target, as many peers are needed as it has. Raises RunnerBusy, NotEnoughPeers, UnknownAgent."""
        return await self._send("assign", astuple(assigned), at)

    async def add_target(self, assignment: int, target: str, by: str) -> Receipt:
        """Raises StaleAssignment, RunnerIdle, RunnerBusy if it has ended, UnknownAgent, AlreadyEnrolled."""
        return await self._send("addTarget", assignment, target, by)

    async def enrol(self, assignment: int, name: str, peers: int, at: int) -> Receipt:
        """Raises StaleAssignment, AgentNotAdmitted, AlreadyEnrolled, EnoughEnrolled, UnknownAgent, MalformedCall."""
        return await self._send("enrol", assignment, name, peers, at)

    async def report(self, assignment: int, report: PeerReport, at: int) -> Receipt:
        """Raises StaleAssignment, RunnerIdle, AgentNotEnrolled, PeerHasEnded, TooLong, MalformedCall."""
        return await self._send("report", assignment, astuple(report), at)

    async def reset(self, assignment: int, by: str) -> Receipt:
        """Raises StaleAssignment, RunnerIdle."""
        return await self._send("reset", assignment, by)

    async def release(self, assignment: int, name: str) -> Receipt:
        """Raises StaleAssignment if the assignment does not exist yet; changes nothing if it is already released."""
        return await self._send("release", assignment, name)

    def _event(self, log: Log) -> RunnerEvent:
        return runner_event(log)

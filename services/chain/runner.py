"""TaskRunner as Python: one taskrunner, the SWOPs that attend to it, and what it is assigned."""

from collections.abc import AsyncIterator
from dataclasses import astuple, dataclass
from typing import Self

from services.chain.backend import ChainBackend
from services.chain.gateway import Gateway
from services.chain.receipts import Receipt
from services.chain.task_events import Assigned, PeerReport, PeerState, RunnerEvent, RunnerState, runner_event

DESCRIPTION_LIMIT_BYTES = 8192
PEERS_LIMIT = 1000


@dataclass(frozen=True)
class RunnerStatus:
    """``open``: peers that may still enrol; ``completed`` and ``failed`` of the enrolled ones have ended."""

    state: RunnerState
    assignment: int
    runs_pairs: bool
    targeted: bool
    needed: int
    open: int
    enrolled: int
    completed: int
    failed: int
    task: str
    content_hash: bytes


@dataclass(frozen=True)
class Agent:
    """A SWOP, as the contract has it: assignments that it enrolled in, is admitted to, and has released last."""

    group: str
    fingerprint: bytes
    peers: int
    attends: bool
    enrolled_in: int
    brought: int
    admitted_to: int
    released: int


class TaskRunnerGateway(Gateway):
    """Writes return after their receipt and raise the error class named like the contract's error.

    Times (``at``) are milliseconds since 1970.
    """

    contract = "TaskRunner"

    @classmethod
    async def deploy(cls, chain: ChainBackend, network_address: str) -> Self:
        """A new taskrunner of the swarm whose SwarmNetwork stands at ``network_address``."""
        return await cls._deploy(chain, network_address)

    async def attend(self, name: str, group: str, peers: int, fingerprint: bytes) -> Receipt:
        """Raises TooLong, MalformedCall."""
        return await self._send("attend", name, group, peers, fingerprint)

    async def quit(self, name: str, reason: str, at: int) -> Receipt:
        """Raises UnknownAgent; nothing changes for one that does not attend."""
        return await self._send("quit", name, reason, at)

    async def assign(self, assigned: Assigned, at: int) -> Receipt:
        """With a target, as many peers are needed as it brings. Raises RunnerBusy, NotEnoughPeers, UnknownAgent."""
        return await self._send("assign", astuple(assigned), at)

    async def add_target(self, assignment: int, target: str, by: str) -> Receipt:
        """Raises StaleAssignment, RunnerIdle, RunnerBusy for one that has ended, UnknownAgent, AlreadyEnrolled."""
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
        """Raises StaleAssignment for one that is not there yet; nothing changes for one that is released."""
        return await self._send("release", assignment, name)

    async def status(self) -> RunnerStatus:
        state, *others = await self._read("status")
        return RunnerStatus(RunnerState(state), *others)

    async def agent_named(self, name: str) -> Agent:
        """Raises UnknownAgent."""
        return Agent(*await self._read("agentNamed", name))

    async def peer_state(self, assignment: int, name: str, index: int) -> PeerState:
        return PeerState(await self._read("peerState", assignment, name, index))

    def history(self, from_block: int = 0, to_block: int | None = None) -> AsyncIterator[list[RunnerEvent]]:
        """What happened from one block to another (default: the newest), both included, in order, page by page."""
        return self._pages(runner_event, from_block, to_block)

    async def events(self, from_block: int = 0) -> list[RunnerEvent]:
        """All of it at once, for a history that is known to be short."""
        return [event async for page in self.history(from_block) for event in page]

    async def follow(self, from_block: int = 0) -> AsyncIterator[RunnerEvent]:
        """What happened since a block, then everything new, without a gap; ends with the chain."""
        async for log in self._follow(from_block):
            yield runner_event(log)

"""Tasks and taskrunners as messages of the API."""

from collections.abc import Callable, Iterable

from services.rpc import swarm_pb2 as pb
from services.sn.runner_view import AGENTS_LIMIT, Agent, Peer, RunnerView
from services.sn.task_book import Task
from services.sn.task_requests import shortened

# Less than the limit of a message, as other fields surround the status.
STATUS_BYTES = 3 * 2**20


def task_entry(task: Task) -> pb.TaskEntry:
    header = task.header
    return pb.TaskEntry(
        header=pb.TaskHeader(
            name=header.name,
            type=header.task_type,
            author=header.author,
            prereq=header.prereq,
            outcome=header.outcome,
        ),
        finalized=task.finalized,
        registrant=task.registrant,
        fingerprint=task.fingerprint,
        body_hash=task.body_hash,
        content_hash=task.content_hash,
        body_size=len(task.body),
        created_at=task.created_at,
    )


def runner_status(
    view: RunnerView, is_present: Callable[[str], bool], last_seen: Callable[[str], float]
) -> pb.RunnerStatus:
    """``last_seen``: seconds since 1970, 0 if this SN has not heard from a SWOP.

    If there are more SWOPs than ``AGENTS_LIMIT``, those that no longer attend are left out.
    """
    assigned = view.assigned
    agents = list(view.agents.values())
    if len(agents) > AGENTS_LIMIT:
        agents = [agent for agent in agents if agent.attends][:AGENTS_LIMIT]
    status = pb.RunnerStatus(
        runner=view.runner,
        location=view.location,
        version=view.version,
        block=max(0, view.position.block),
        state=pb.RunnerState.Name(view.state),
        assignment=view.assignment,
        task=assigned.task if assigned else "",
        task_type=assigned.task_type if assigned else "",
        content_hash=assigned.content_hash if assigned else b"",
        assigned_by=assigned.by if assigned else "",
        targets=view.targets,
        peers_needed=view.needed,
        agents=[_agent(agent, view, is_present, last_seen) for agent in agents],
        peers=[peer_entry(peer) for peer in view.peers.values()],
        assigned_at=view.assigned_at,
        started_at=view.started_at,
        ended_at=view.ended_at,
    )
    return _bounded(status)


def _agent(
    agent: Agent, view: RunnerView, is_present: Callable[[str], bool], last_seen: Callable[[str], float]
) -> pb.TaskAgent:
    return pb.TaskAgent(
        name=agent.name,
        group=agent.group,
        sl_peers=agent.peers,
        attends=agent.attends,
        present=is_present(agent.name),
        enrolled_in=agent.enrolled_in,
        enrolled_peers=agent.brought,
        released=agent.released,
        last_seen=last_seen(agent.name),
        fingerprint=agent.fingerprint,
        admissible=view.is_admissible(agent.name),
    )


def largest(sizes: Iterable[int], most: int) -> int:
    """The limit for each of these sizes with which their sum is at most ``most``."""
    growing = sorted(sizes)
    for number, size in enumerate(growing):
        left = len(growing) - number
        if size * left > most:
            return most // left
        most -= size
    return growing[-1] if growing else 0


def _bounded(status: pb.RunnerStatus) -> pb.RunnerStatus:
    """Shortens the longest descriptions if the message would become too large."""
    size = status.ByteSize()
    if size > STATUS_BYTES:
        sizes = [len(peer.description.encode()) for peer in status.peers]
        limit = largest(sizes, max(0, STATUS_BYTES - (size - sum(sizes))))
        for peer in status.peers:
            peer.description = shortened(peer.description, limit)
    return status


def peer_entry(peer: Peer) -> pb.TaskPeer:
    return pb.TaskPeer(
        agent=peer.agent,
        index=peer.index,
        name=peer.name,
        state=pb.PeerState.Name(peer.state),
        description=peer.description,
        updated_at=peer.updated_at,
    )

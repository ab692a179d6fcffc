"""Converts answers of an SN to the plain data of swarmlearning.swci.models."""

from collections.abc import Iterable

from services.rpc import swarm_pb2 as pb
from services.rpc.measures import measure, measure_in_json
from services.rpc.wording import doing, headline
from swarmlearning.swci import models

RUN_SWARM = "RUN_SWARM"
_RUNNER_STATES = {
    pb.RUNNER_IDLE: "IDLE",
    pb.RUNNER_ASSIGNED: "ASSIGNED",
    pb.RUNNER_RUNNING: "RUNNING",
    pb.RUNNER_COMPLETE: "COMPLETE",
    pb.RUNNER_ERROR: "ERROR",
}
_PEER_STATES = {
    pb.PEER_NONE: "NONE",
    pb.PEER_ENROLLED: "ENROLLED",
    pb.PEER_RUNNING: "RUNNING",
    pb.PEER_COMPLETE: "COMPLETE",
    pb.PEER_ERROR: "ERROR",
}
UNKNOWN = "UNKNOWN"


# --- nodes ----------------------------------------------------------------------------------------------


def nodes(reply: pb.ListNodesReply, voting: pb.ListOrganizationsReply) -> models.Nodes:
    """The SN that registered first is the sentinel."""
    first = next((node.name for node in reply.nodes if node.role == "sn"), None)
    return models.Nodes(
        [_node(node, sentinel=node.role == "sn" and node.name == first) for node in reply.nodes],
        [proposal.number for proposal in voting.proposals],
    )


def _node(node: pb.Node, *, sentinel: bool) -> models.Node:
    return models.Node(
        name=node.name,
        type="SENTINEL" if sentinel else node.role.upper(),
        host=node.host,
        port=node.port,
        parent=node.parent,
        present=node.present,
        last_seen=node.last_seen,
        fingerprint=node.fingerprint.hex(),
        organization=node.organization,
        certificate_ends=node.certificate_ends,
    )


def organizations(reply: pb.ListOrganizationsReply) -> models.Organizations:
    voting = [one.name for one in reply.organizations if one.sns]
    return models.Organizations(
        [models.Organization(one.name, [ca.hex() for ca in one.cas], one.sns) for one in reply.organizations],
        [proposal(one, reply.votes_needed, voting) for one in reply.proposals],
    )


def proposal(it: pb.Proposal, needed: int, voting: Iterable[str]) -> models.Proposal:
    """``voting``: the organizations that have an SN."""
    votes = [models.Vote(vote.organization, vote.by) for vote in it.votes]
    voted = {vote.organization for vote in votes}
    return models.Proposal(
        number=it.number,
        change=it.change,
        organization=it.organization,
        proposer=it.proposer,
        at=it.at,
        cas=[ca.hex() for ca in it.cas],
        role=it.role,
        node=it.node,
        account=it.account,
        votes=votes,
        votes_needed=needed,
        missing=[name for name in voting if name not in voted],
        open=it.open,
    )


def contract(entry: pb.ContractEntry) -> models.Contract:
    return models.Contract(entry.name, entry.kind, entry.location, list(entry.organizations))


# --- trainings ------------------------------------------------------------------------------------------


def contract_info(status: pb.TrainingStatus) -> models.ContractInfo:
    agreed = status.config
    return models.ContractInfo(
        name=status.contract,
        location=status.location,
        configured=status.HasField("config"),
        min_peers=agreed.min_peers,
        sync_frequency=agreed.sync_frequency,
        adaptive_sync=agreed.adaptive_sync,
        merge_method=agreed.merge_method,
        transfer_compression=agreed.transfer_compression,
        quorum_wait_s=agreed.quorum_wait_ms / 1000,
        layout=status.layout.hex(),
        layout_by=status.layout_by,
        participants=[who.name for who in status.participants],
    )


def contract_status(status: pb.TrainingStatus) -> models.ContractStatus:
    return models.ContractStatus(
        name=status.contract,
        version=status.version,
        state=pb.RoundState.Name(status.state) if status.state in pb.RoundState.values() else UNKNOWN,
        summary=headline(status),
        round=status.round,
        term=status.term,
        leader=status.leader,
        min_peers=status.config.min_peers,
        checked_in=[entry.name for entry in status.check_ins],
        awaited=list(status.awaited),
        progress=_progress(status),
        last_round=_result(status.last_result) if status.HasField("last_result") else None,
        participants=[_participant(who, status) for who in status.participants],
    )


def performance(status: pb.TrainingStatus) -> models.PerformanceData:
    return models.PerformanceData(
        contract=status.contract,
        pairs=[
            models.Performance(
                uid=who.name,
                sl_admin=bool(status.leader) and who.name == status.leader,
                round=who.report_round,
                loss=measure_in_json(measure(who, "loss")),
                metric=measure_in_json(measure(who, "metric")),
                epochs_total=who.epochs_total,
                epochs_done=who.epochs_done,
            )
            for who in status.participants
        ],
    )


def rounds(contract_name: str, events: Iterable[pb.RecordEvent]) -> models.Rounds:
    """The accepted rounds in a record, in the order of the chain."""
    fold = _RoundFold()
    for event in events:
        fold.take(event)
    return models.Rounds(contract_name, fold.accepted)


class _RoundFold:
    """Tracks who is in the running round, as the SN's own view does, and the accepted rounds."""

    def __init__(self) -> None:
        self.accepted: list[models.Round] = []
        self._active: set[str] = set()
        self._checked_in: dict[str, None] = {}
        self._left_out: dict[str, str] = {}
        self._merging = False

    def take(self, event: pb.RecordEvent) -> None:
        match event.WhichOneof("event"):
            case "enrolled":
                self._active.add(event.enrolled.name)
            case "checked_in":
                self._checked_in[event.checked_in.name] = None
                self._left_out.pop(event.checked_in.name, None)
            case "merge_started":
                self._merging = True
            case "left_out":
                self._checked_in.pop(event.left_out.name, None)
                self._left_out[event.left_out.name] = event.left_out.reason
            case "left":
                self._active.discard(event.left.name)
                if not self._merging:
                    self._checked_in.pop(event.left.name, None)
            case "round_reopened":
                self._merging = False
                self._checked_in = {name: None for name in self._checked_in if name in self._active}
            case "round_accepted":
                self.accepted.append(_accepted(event.round_accepted, list(self._checked_in), self._left_out))
                self._begin_round()
            case "reset":
                self._active.clear()
                self._begin_round()

    def _begin_round(self) -> None:
        self._merging, self._checked_in, self._left_out = False, {}, {}


def _accepted(event: pb.RecordEvent.RoundAccepted, merged: list[str], left_out: dict[str, str]) -> models.Round:
    return models.Round(
        round=event.round,
        term=event.term,
        leader=event.leader,
        digest=event.digest.hex(),
        size=event.size,
        merged=merged,
        left_out=[models.LeftOut(name, reason) for name, reason in left_out.items()],
    )


def _result(result: pb.RoundResult) -> models.Round:
    return models.Round(
        round=result.round,
        term=result.term,
        leader=result.leader,
        digest=result.digest.hex(),
        size=result.size,
        merged=list(result.merged),
        left_out=[models.LeftOut(entry.name, entry.reason) for entry in result.left_out],
    )


def _progress(status: pb.TrainingStatus) -> models.MergeProgress | None:
    if not status.HasField("progress"):
        return None
    moved = status.progress
    return models.MergeProgress(moved.bytes_done, moved.bytes_total, moved.age_s)


def _participant(who: pb.Participant, status: pb.TrainingStatus) -> models.Participant:
    return models.Participant(
        uid=who.name,
        doing=doing(who, status),
        active=who.active,
        may_lead=who.may_lead,
        host=who.host,
        port=who.port,
        round=who.report_round,
        loss=measure_in_json(measure(who, "loss")),
        metric=measure_in_json(measure(who, "metric")),
        epochs_done=who.epochs_done,
        epochs_total=who.epochs_total,
        organization=who.organization,
    )


# --- tasks and taskrunners ------------------------------------------------------------------------------


def task(entry: pb.TaskEntry) -> models.Task:
    head = entry.header
    return models.Task(
        name=head.name,
        type=head.type,
        author=head.author,
        prereq=head.prereq,
        outcome=head.outcome,
        finalized=entry.finalized,
        registered_by=entry.registrant,
        created_at=entry.created_at,
        body_size=entry.body_size,
        body_hash=entry.body_hash.hex(),
        content_hash=entry.content_hash.hex(),
    )


def runner_status(status: pb.RunnerStatus) -> models.TaskRunnerStatus:
    states = [peer.state for peer in status.peers]
    return models.TaskRunnerStatus(
        name=status.runner,
        location=status.location,
        version=status.version,
        state=_RUNNER_STATES.get(status.state, UNKNOWN),
        assignment=status.assignment,
        task=status.task,
        task_type=status.task_type,
        peer_type=_peer_type(status.task_type),
        content_hash=status.content_hash.hex(),
        assigned_by=status.assigned_by,
        targets=list(status.targets),
        peers_needed=status.peers_needed,
        peers_active=sum(state in (pb.PEER_ENROLLED, pb.PEER_RUNNING) for state in states),
        peers_completed=states.count(pb.PEER_COMPLETE),
        peers_failed=states.count(pb.PEER_ERROR),
        assigned_at=status.assigned_at,
        started_at=status.started_at,
        ended_at=status.ended_at,
        agents=[_agent(agent, status.assignment) for agent in status.agents],
        peers=[peer(number, it) for number, it in enumerate(status.peers)],
    )


def runner_info(status: pb.RunnerStatus) -> models.TaskRunnerInfo:
    agents = [_agent(agent, status.assignment) for agent in status.agents]
    return models.TaskRunnerInfo(name=status.runner, location=status.location, agents=agents)


def _peer_type(task_type: str) -> str:
    if not task_type:
        return ""
    return "SL" if task_type == RUN_SWARM else "SWOP"


def _agent(agent: pb.TaskAgent, assignment: int) -> models.Agent:
    return models.Agent(
        uid=agent.name,
        group=agent.group,
        sl_peers=agent.sl_peers,
        attends=agent.attends,
        present=agent.present,
        admissible=agent.admissible,
        enrolled=assignment > 0 and agent.enrolled_in == assignment,
        enrolled_peers=agent.enrolled_peers,
        released=assignment > 0 and agent.released >= assignment,
        last_seen=agent.last_seen,
    )


def peer(number: int, it: pb.TaskPeer) -> models.Peer:
    """``number``: its index among all peers of the task."""
    return models.Peer(
        index=number,
        agent=it.agent,
        agent_index=it.index,
        uid=it.name or it.agent,
        state=_PEER_STATES.get(it.state, UNKNOWN),
        description=it.description,
        updated_at=it.updated_at,
    )

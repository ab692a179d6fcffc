"""Commands about taskrunners: the task of a group of SWOPs, and their progress."""

from abc import abstractmethod
from typing import ClassVar

from services.errors import UnknownPeer
from services.rpc import swarm_pb2 as pb
from services.swci import translation
from services.swci.grammar.command import Command, Group, Say
from services.swci.grammar.kinds import PEER, PEERS, SWOP, TASK, TASKRUNNER, argument
from services.swci.session import CommandSession
from services.swci.waiting import WaitForRelease, WaitForRunner, finished
from services.swci.wording import facts, heard, lines_of, moment, table, yes
from swarmlearning.swci import models

NONE = "-"
EMPTY = "Empty"


class TaskRunnerCommand(Command):
    group = Group.TASKRUNNER


class CreateTaskRunner(TaskRunnerCommand):
    """Deploy and register a taskrunner for another group of SWOPs. It is permanent."""

    syntax: ClassVar[str] = "CREATE TASKRUNNER <name>"

    name: str = argument(TASKRUNNER)

    async def run(self, session: CommandSession, say: Say) -> models.Contract:
        client = await session.sn()
        reply = await client.runners.CreateRunner(pb.CreateRunnerRequest(name=self.name))
        return models.Contract(self.name, "taskrunner", reply.location)

    def show(self, result: models.Contract) -> list[str]:
        return [f"TASKRUNNER CREATED : {result.name}", f"LOCATION : {result.location}"]


class ListTaskRunners(TaskRunnerCommand):
    """List the taskrunners of the swarm."""

    syntax: ClassVar[str] = "LIST TASKRUNNERS"

    async def run(self, session: CommandSession, say: Say) -> models.TaskRunners:
        client = await session.sn()
        entries = (await client.runners.ListRunners(pb.ListRunnersRequest())).runners
        return models.TaskRunners([translation.contract(entry) for entry in entries])

    def show(self, result: models.TaskRunners) -> list[str]:
        return table(("TASKRUNNER", "LOCATION"), [(it.name, it.location) for it in result.taskrunners])


class GetTaskRunnerInfo(TaskRunnerCommand):
    """Show a taskrunner and how many SWOPs attend it."""

    syntax: ClassVar[str] = "GET TASKRUNNER INFO <name>"

    name: str = argument(TASKRUNNER)

    async def run(self, session: CommandSession, say: Say) -> models.TaskRunnerInfo:
        return translation.runner_info(await runner(session, self.name))

    def show(self, result: models.TaskRunnerInfo) -> list[str]:
        present = [it for it in result.agents if it.present]
        return facts(
            [
                ("TASKRUNNER", result.name),
                ("LOCATION", result.location),
                ("SWOPS PRESENT", f"{len(present)} of {len(result.agents)}"),
                ("SL PEERS PRESENT", sum(it.sl_peers for it in present)),
            ]
        )


class ListTaskRunnerPeers(TaskRunnerCommand):
    """List the SWOPs of a taskrunner, with the number of SL-ML pairs of each. A UID is what TARGET takes."""

    syntax: ClassVar[str] = "LIST TASKRUNNER PEERS <name>"

    name: str = argument(TASKRUNNER)

    async def run(self, session: CommandSession, say: Say) -> models.TaskRunnerInfo:
        return translation.runner_info(await runner(session, self.name))

    def show(self, result: models.TaskRunnerInfo) -> list[str]:
        if not result.agents:
            return [f"No SWOP attends {result.name}."]
        columns = ("SWOP UID", "NAME", "SL PEERS", "PRESENT", "LAST I-AM-ALIVE")
        return table(
            columns, [(it.uid, it.group, it.sl_peers, yes(it.present), heard(it.last_seen)) for it in result.agents]
        )


class GetTaskRunnerStatus(TaskRunnerCommand):
    """Show the task of a taskrunner, its state, and how many peers are running, complete or failed."""

    syntax: ClassVar[str] = "GET TASKRUNNER STATUS <name>"

    name: str = argument(TASKRUNNER)

    async def run(self, session: CommandSession, say: Say) -> models.TaskRunnerStatus:
        return translation.runner_status(await runner(session, self.name))

    def show(self, result: models.TaskRunnerStatus) -> list[str]:
        lines = facts(
            [
                ("TASKRUNNER", result.name),
                ("TASK NAME", result.task or EMPTY),
                ("TASK TYPE", result.task_type or NONE),
                ("PEER TYPE", result.peer_type or NONE),
                ("TASK STATE", result.state),
                ("PEERS NEEDED", result.peers_needed),
                ("ACTIVE PEERS", result.peers_active),
                ("COMPLETED PEERS", result.peers_completed),
                ("FAILED PEERS", result.peers_failed),
                ("TARGETS", ", ".join(result.targets) or NONE),
                ("ASSIGNED BY", result.assigned_by or NONE),
                ("ASSIGNED", moment(result.assigned_at)),
                ("STARTED", moment(result.started_at)),
                ("ENDED", moment(result.ended_at)),
            ]
        )
        return [*lines, "", *peers_table(result.peers)] if result.peers else lines


class GetTaskRunnerPeerStatus(TaskRunnerCommand):
    """Show the state of one peer of a task, with its last output.

    A peer is named by its index in GET TASKRUNNER STATUS, or by the UID of its SWOP or SL.
    """

    syntax: ClassVar[str] = "GET TASKRUNNER PEER STATUS <name> <peer>"

    name: str = argument(TASKRUNNER)
    peer: str = argument(PEER)

    async def run(self, session: CommandSession, say: Say) -> models.PeerStatus:
        status = translation.runner_status(await runner(session, self.name))
        found = await self._whole(self._found(status), session)
        peers = [it for it in status.peers if it.agent == found.agent]
        agent = next((it for it in status.agents if it.uid == found.agent), None)
        return models.PeerStatus(status.name, status.assignment, agent, found, peers)

    def show(self, result: models.PeerStatus) -> list[str]:
        peer, agent = result.peer, result.agent
        head = facts(
            [
                ("NAME", agent.group if agent else NONE),
                ("SWOP_UID", peer.agent),
                ("OPERATION_ID", result.assignment),
                ("PEER_COUNT", len(result.peers)),
                ("UPDATE_TS", moment(peer.updated_at)),
                ("SWOP_PEER_INDEX", peer.index),
                ("SWOP_PEER_STATUS", peer.state),
            ]
        )
        lines = [*head, "SWOP_PEER_STATUS_DESC :", *(f"  {line}" for line in lines_of(peer.description))]
        if len(result.peers) == 1 and peer.uid == peer.agent:
            return lines
        return [*lines, "", f"NUMBER OF SL PEERS : {len(result.peers)}", *peers_table(result.peers)]

    async def _whole(self, found: models.Peer, session: CommandSession) -> models.Peer:
        """The peer with its whole description, which is cut in the status of a large task."""
        client = await session.sn()
        request = pb.GetPeerRequest(runner=self.name, agent=found.agent, index=found.agent_index)
        return translation.peer(found.index, await client.runners.GetPeer(request))

    def _found(self, status: models.TaskRunnerStatus) -> models.Peer:
        """Finds the peer by index or its UID, then by its SWOP's UID. Raises UnknownPeer."""
        for peer in status.peers:
            if self.peer in (str(peer.index), peer.uid):
                return peer
        for peer in status.peers:
            if self.peer == peer.agent:
                return peer
        known = ", ".join(f"{it.index} ({it.uid})" for it in status.peers) or "none, as it has no task"
        raise UnknownPeer(taskrunner=status.name, peer=self.peer, known=known)


class _AssignTask(TaskRunnerCommand):
    task: str = argument(TASK)
    taskrunner: str = argument(TASKRUNNER)

    async def run(self, session: CommandSession, say: Say) -> models.TaskRunnerStatus:
        client = await session.sn()
        await client.runners.AssignTask(self._request())
        return translation.runner_status(await runner(session, self.taskrunner))

    def show(self, result: models.TaskRunnerStatus) -> list[str]:
        return [f"Task assigned to TaskRunner : {result.peers_needed} {result.peer_type} peers are needed"]

    @abstractmethod
    def _request(self) -> pb.AssignTaskRequest:
        """The request that names the task and who does it."""


class AssignTask(_AssignTask):
    """Assign a task to a number of peers: SL-ML pairs for RUN_SWARM, otherwise SWOPs. The taskrunner must be free."""

    syntax: ClassVar[str] = "ASSIGN TASK <task> TO <taskrunner> WITH <peers> PEERS"

    peers: int = argument(PEERS)

    def _request(self) -> pb.AssignTaskRequest:
        return pb.AssignTaskRequest(runner=self.taskrunner, task=self.task, peers=self.peers)


class AssignTaskToAll(_AssignTask):
    """Assign a task to all peers of the SWOPs that are present at this moment."""

    syntax: ClassVar[str] = "ASSIGN TASK <task> TO <taskrunner> WITH ALL PEERS"

    def _request(self) -> pb.AssignTaskRequest:
        return pb.AssignTaskRequest(runner=self.taskrunner, task=self.task, all_peers=True)


class AssignTaskToTarget(_AssignTask):
    """Assign a task to one SWOP, named by its UID. It may join a task that already runs."""

    syntax: ClassVar[str] = "ASSIGN TASK <task> TO <taskrunner> TARGET <swop>"

    swop: str = argument(SWOP)

    def _request(self) -> pb.AssignTaskRequest:
        return pb.AssignTaskRequest(runner=self.taskrunner, task=self.task, target=self.swop)


AnyAssignment = AssignTask | AssignTaskToAll | AssignTaskToTarget


class WaitForTaskRunner(TaskRunnerCommand):
    """Wait until the task of a taskrunner has ended, and show the progress of its peers.

    Fails where the task does, and after SWCI_RUN_TASK_MAX_WAIT_TIME minutes (other types of task:
    SWCI_GENERIC_TASK_MAX_WAIT_TIME); the task itself goes on then. Ctrl-C ends the wait alone.
    """

    syntax: ClassVar[str] = "WAIT FOR TASKRUNNER <name>"

    name: str = argument(TASKRUNNER)

    async def run(self, session: CommandSession, say: Say) -> models.TaskRunnerStatus:
        return await WaitForRunner(await session.sn(), self.name, session.limits, say).until_over()

    def show(self, result: models.TaskRunnerStatus) -> list[str]:
        if result.state == "IDLE":
            return [f"TASKRUNNER IDLE : {result.name} has no task"]
        return finished(result)


class ResetTaskRunner(TaskRunnerCommand):
    """Free a taskrunner, and wait until its SWOPs have removed what they started for the task.

    They remove nothing else. A program that is still saving its model may end first. Ctrl-C, or
    SWCI_GENERIC_TASK_MAX_WAIT_TIME minutes, end the wait alone; SWOPs that are away are not waited for.
    """

    syntax: ClassVar[str] = "RESET TASKRUNNER <name>"

    name: str = argument(TASKRUNNER)

    async def run(self, session: CommandSession, say: Say) -> models.TaskRunnerStatus:
        client = await session.sn()
        await client.runners.ResetRunner(pb.ResetRunnerRequest(runner=self.name))
        return await WaitForRelease(client, self.name, session.limits, say).until_released()

    def show(self, result: models.TaskRunnerStatus) -> list[str]:
        return [f"TASKRUNNER RESET : {result.name}"]


async def runner(session: CommandSession, name: str) -> pb.RunnerStatus:
    """Raises UnknownRunner, and the SN's errors."""
    client = await session.sn()
    return await client.runners.GetRunner(pb.GetRunnerRequest(runner=name))


def peers_table(peers: list[models.Peer]) -> list[str]:
    columns = ("INDEX", "UID", "SWOP UID", "STATUS", "UPDATED", "DESCRIPTION")
    return table(columns, [(it.index, it.uid, it.agent, it.state, moment(it.updated_at), _short(it)) for it in peers])


def _short(peer: models.Peer) -> str:
    first = next(iter(lines_of(peer.description)), "")
    return first if len(first) <= 60 else first[:57] + "..."

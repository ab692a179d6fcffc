"""Services Tasks and Runners of the API on port 30304. A handler parses, asks and answers."""

from collections.abc import AsyncIterator
from itertools import islice
from typing import Any

from services.chain.receipts import Receipt
from services.chain.task_events import Assigned
from services.errors import AgentAbsent, MalformedCall, TaskNotFinalized, UnknownAgent, UnknownPeer
from services.rpc import swarm_pb2 as pb
from services.runtime import logs
from services.sn import requests, task_requests
from services.sn.api import ApiContext
from services.sn.membership import Caller
from services.sn.runner_status import peer_entry, task_entry
from services.sn.runner_view import RunnerView
from services.sn.task_book import Task
from services.sn.taskrunners import ROLE, LiveRunner, TaskRunners, now_ms

PEERS_NAMED = 20  # in an error message

_log = logs.get("sn")


class TasksApi:
    """Service Tasks."""

    def __init__(self, context: ApiContext) -> None:
        self._context = context

    @property
    def _runners(self) -> TaskRunners:
        return self._context.runners

    async def CreateTask(self, request: pb.CreateTaskRequest, _context: Any) -> pb.CreateTaskReply:
        who = self._context.caller()
        header, body = task_requests.header(request.header), task_requests.body(request.body)
        receipt = await self._runners.registry.create(
            header, _title(who), who.fingerprint, body, request.finalize, now_ms()
        )
        _log.info("task created", task=header.name, type=header.task_type, by=_title(who))
        return pb.CreateTaskReply(task=task_entry(await self._seen(header.name, receipt.block)))

    async def SetTaskBody(self, request: pb.SetTaskBodyRequest, _context: Any) -> pb.SetTaskBodyReply:
        self._context.caller()
        body, expected = task_requests.body(request.body), requests.digest(request.expected_hash, "expected_hash")
        receipt = await self._runners.registry.set_body(task_requests.known_name(request.name), expected, body)
        return pb.SetTaskBodyReply(task=task_entry(await self._seen(request.name, receipt.block)))

    async def FinalizeTask(self, request: pb.FinalizeTaskRequest, _context: Any) -> pb.FinalizeTaskReply:
        self._context.caller()
        expected = requests.digest(request.expected_hash or bytes(32), "expected_hash")
        receipt = await self._runners.registry.finalize(task_requests.known_name(request.name), expected)
        return pb.FinalizeTaskReply(task=task_entry(await self._seen(request.name, receipt.block)))

    async def DeleteTask(self, request: pb.DeleteTaskRequest, _context: Any) -> pb.DeleteTaskReply:
        who = self._context.caller()
        receipt = await self._runners.registry.remove(task_requests.known_name(request.name))
        await self._runners.until(receipt.block)
        _log.info("task deleted", task=request.name, by=_title(who))
        return pb.DeleteTaskReply()

    async def ListTasks(self, request: pb.ListTasksRequest, _context: Any) -> pb.ListTasksReply:
        self._context.caller()
        found = self._runners.book.page(task_requests.page(request.page_token), task_requests.PAGE_TASKS + 1)
        tasks, more = found[: task_requests.PAGE_TASKS], len(found) > task_requests.PAGE_TASKS
        return pb.ListTasksReply(
            tasks=[task_entry(task) for task in tasks], next_page_token=str(tasks[-1].number) if more else ""
        )

    async def GetTask(self, request: pb.GetTaskRequest, _context: Any) -> pb.GetTaskReply:
        self._context.caller()
        task = self._runners.book.named(request.name)
        return pb.GetTaskReply(task=task_entry(task), body=task.body.decode(errors="replace"))

    async def _seen(self, name: str, block: int) -> Task:
        await self._runners.until(block)
        return self._runners.book.named(name)


class RunnersApi:
    """Service Runners. A SWOP writes in its own name."""

    def __init__(self, context: ApiContext) -> None:
        self._context = context

    async def CreateRunner(self, request: pb.CreateRunnerRequest, _context: Any) -> pb.CreateRunnerReply:
        who = self._context.caller()
        location = await self._context.trainings.create_runner(task_requests.name(request.name, "taskrunner name"))
        _log.info("taskrunner created", runner=request.name, by=_title(who))
        return pb.CreateRunnerReply(location=location)

    async def AssignTask(self, request: pb.AssignTaskRequest, _context: Any) -> pb.AssignTaskReply:
        who, runner = self._context.caller(), self._context.runners.named(request.runner)
        task = self._context.runners.book.named(request.task)
        if not task.finalized or not task.body:
            raise TaskNotFinalized(name=request.task)
        if request.WhichOneof("who") is None:
            raise MalformedCall(field="who (peers, all_peers or target)")
        receipt = await self._assign(request, runner, task, _title(who))
        status = await runner.status_at(receipt)
        _log.info("task assigned", task=request.task, runner=request.runner, peers=status.peers_needed, by=_title(who))
        return pb.AssignTaskReply(assignment=status.assignment, peers_needed=status.peers_needed)

    async def _assign(self, request: pb.AssignTaskRequest, runner: LiveRunner, task: Task, by: str) -> int:
        """Assigns the task; returns the block of the assignment."""
        view, runs_pairs = runner.view, task.header.task_type == task_requests.RUN_SWARM
        if request.target:
            _present(view, runner, request.target)
            if view.under_way and view.assigned is not None and view.assigned.content_hash == task.content_hash:
                return (await runner.gateway.add_target(view.assignment, request.target, by)).block
            need = 0
        else:
            there = [name for name in view.agents if runner.is_present(name)]
            need = 0 if view.assigned else task_requests.needed(request, view, runs_pairs, there)
        header = task.header
        assigned = Assigned(header.name, header.task_type, runs_pairs, task.content_hash, need, request.target, by)
        return (await runner.gateway.assign(assigned, now_ms())).block

    async def ResetRunner(self, request: pb.ResetRunnerRequest, _context: Any) -> pb.ResetRunnerReply:
        who, runner = self._context.caller(), self._context.runners.named(request.runner)
        if runner.view.assigned is None:
            return pb.ResetRunnerReply()
        assignment = runner.view.assignment
        receipt = await runner.gateway.reset(assignment, _title(who))
        await runner.status_at(receipt.block)
        _log.info("taskrunner reset", runner=request.runner, by=_title(who))
        return pb.ResetRunnerReply(assignment=assignment)

    async def ListRunners(self, _request: pb.ListRunnersRequest, _context: Any) -> pb.ListRunnersReply:
        self._context.caller()
        entries = {entry.name: entry for entry in self._context.trainings.entries}
        return pb.ListRunnersReply(
            runners=[
                pb.ContractEntry(name=name, kind=entries[name].kind, location=entries[name].location)
                for name in self._context.runners.names
            ]
        )

    async def GetRunner(self, request: pb.GetRunnerRequest, _context: Any) -> pb.RunnerStatus:
        self._context.caller()
        return self._context.runners.named(request.runner).status()

    async def GetPeer(self, request: pb.GetPeerRequest, _context: Any) -> pb.TaskPeer:
        self._context.caller()
        view = self._context.runners.named(request.runner).view
        peer = view.peers.get((request.agent, request.index))
        if peer is None:
            known = ", ".join(f"{agent} {index}" for agent, index in islice(view.peers, PEERS_NAMED)) or "none"
            raise UnknownPeer(taskrunner=request.runner, peer=f"{request.agent} {request.index}", known=known)
        return peer_entry(peer)

    async def WatchRunner(self, request: pb.WatchRunnerRequest, context: Any) -> AsyncIterator[bytes]:
        who, runner = self._context.caller(), self._context.runners.named(request.runner)
        if who.role == ROLE:
            self._context.trainings.membership.admit(who)
            runner.stream_opened(who.name)
            context.add_done_callback(lambda _context: runner.stream_closed(who.name))
        async for message in runner.watch(request.seen):
            yield message

    async def Attend(self, request: pb.AttendRequest, _context: Any) -> pb.AttendReply:
        who, runner = self._agent(request.runner)
        peers = task_requests.pairs(request.sl_peers)
        task_requests.name(request.group, "group")
        known = runner.view.agents.get(who.name)
        wanted = (request.group, peers, who.fingerprint, True)
        if known is not None and (known.group, known.peers, known.fingerprint, known.attends) == wanted:
            return pb.AttendReply(status=runner.status())
        task_requests.check_room(runner.view, who.name, peers)
        receipt = await runner.gateway.attend(who.name, request.group, peers, who.fingerprint)
        return pb.AttendReply(status=await runner.status_at(receipt.block))

    async def Quit(self, request: pb.QuitRequest, _context: Any) -> pb.QuitReply:
        who, runner = self._agent(request.runner)
        receipt = await runner.gateway.quit(who.name, requests.reason(request.reason), now_ms())
        await _seen(runner, receipt)
        return pb.QuitReply()

    async def EnrolInTask(self, request: pb.EnrolInTaskRequest, _context: Any) -> pb.EnrolInTaskReply:
        who, runner = self._agent(request.runner)
        receipt = await runner.gateway.enrol(request.assignment, who.name, request.peers, now_ms())
        return pb.EnrolInTaskReply(status=await runner.status_at(receipt.block))

    async def ReportPeer(self, request: pb.ReportPeerRequest, _context: Any) -> pb.ReportPeerReply:
        who, runner = self._agent(request.runner)
        said = task_requests.report(request, who.name)
        receipt = await runner.gateway.report(request.assignment, said, now_ms())
        return pb.ReportPeerReply(status=await runner.status_at(receipt.block))

    async def Release(self, request: pb.ReleaseRequest, _context: Any) -> pb.ReleaseReply:
        who, runner = self._agent(request.runner)
        receipt = await runner.gateway.release(request.assignment, who.name)
        await _seen(runner, receipt)
        return pb.ReleaseReply()

    def _agent(self, runner: str) -> tuple[Caller, LiveRunner]:
        """A registered SWOP and the taskrunner it names. Raises NotAMember, NameTaken, NameInUse, UnknownRunner."""
        who = self._context.node()
        self._context.trainings.membership.admit(who)
        return who, self._context.runners.named(runner)


async def _seen(runner: LiveRunner, receipt: Receipt) -> None:
    """Returns once the runner's view has the outcome. A transaction that changed nothing has no event to wait for."""
    if receipt.logs:
        await runner.status_at(receipt.block)


def _title(who: Caller) -> str:
    return f"{who.role}/{who.name}"


def _present(view: RunnerView, runner: LiveRunner, target: str) -> None:
    """Raises UnknownAgent, AgentAbsent."""
    if target not in view.agents:
        raise UnknownAgent(name=target)
    if not runner.is_present(target):
        raise AgentAbsent(name=target)

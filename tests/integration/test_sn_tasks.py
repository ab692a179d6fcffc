"""Tasks and taskrunners at a real SN: who may do what, every state, every refusal, and nothing lost by a restart."""

import asyncio
import contextlib
import hashlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from scripted_swop import Swop
from sn_swarm import running_sn

from services import errors
from services.chain.factory import Choice
from services.chain.runner import TaskRunnerGateway
from services.chain.task_events import TaskHeader
from services.chain.tasks import content_hash
from services.rpc import swarm_pb2 as pb
from services.rpc.client import SNClient
from services.sn.directory import DEFAULT_RUNNER
from services.sn.node import RunningSN
from services.swci.commands.taskrunner import ResetTaskRunner
from services.swci.contexts import SnContext
from services.swci.session import CommandSession, WaitLimits
from services.swci.usr_dir import UsrDir

WITHIN_S = 60.0
BODY = "Command: train.py\nEntrypoint: python3\nWorkingDir: /\n"
RUN, BUILD = "RUN_SWARM", "MAKE_USER_CONTAINER"


@pytest.fixture
async def sn(pki: Any, tmp_path: Path) -> AsyncIterator[RunningSN]:
    async with running_sn(pki.identity("sn", "sn-1"), tmp_path / "sn", lost_after_s=0.3) as running:
        yield running


class Desk:
    """Clients of one SN, by role."""

    def __init__(self, pki: Any, port: int, stack: contextlib.AsyncExitStack) -> None:
        self._pki, self._port, self._stack = pki, port, stack

    async def client(self, role: str, name: str) -> SNClient:
        identity = self._pki.identity(role, name)
        return await self._stack.enter_async_context(SNClient(f"localhost:{self._port}", identity))

    async def swop(self, name: str, pairs: int = 1) -> Swop:
        swop = Swop(await self.client("swop", name), name)
        self._stack.push_async_callback(swop.stop_watching)
        await swop.attend(pairs)
        return swop


@pytest.fixture
async def desk(pki: Any, sn: RunningSN) -> AsyncIterator[Desk]:
    async with contextlib.AsyncExitStack() as stack:
        yield Desk(pki, sn.port, stack)


@pytest.fixture
async def swci(desk: Desk) -> SNClient:
    return await desk.client("swci", "swci-1")


def header(name: str = "train", kind: str = RUN, **changes: str) -> pb.TaskHeader:
    return pb.TaskHeader(
        **{"name": name, "type": kind, "author": "Ada", "prereq": "ROOTTASK", "outcome": "x", **changes}
    )


async def create(swci: SNClient, name: str = "train", kind: str = RUN, body: str = BODY) -> pb.TaskEntry:
    request = pb.CreateTaskRequest(header=header(name, kind), body=body, finalize=True)
    return (await swci.tasks.CreateTask(request)).task


async def assign(swci: SNClient, task: str = "train", **who: Any) -> pb.AssignTaskReply:
    return await swci.runners.AssignTask(pb.AssignTaskRequest(runner=DEFAULT_RUNNER, task=task, **who))


async def reset(swci: SNClient) -> int:
    return (await swci.runners.ResetRunner(pb.ResetRunnerRequest(runner=DEFAULT_RUNNER))).assignment


async def status(client: SNClient) -> pb.RunnerStatus:
    return await client.runners.GetRunner(pb.GetRunnerRequest(runner=DEFAULT_RUNNER))


# --- tasks -------------------------------------------------------------------------------------------


async def test_a_task_is_there_as_it_was_written(swci: SNClient) -> None:
    body = "Command: «träining» 訓練\n" + "# " + "x" * (64 * 1024 - 60)
    entry = await create(swci, "größe", body=body)
    found = await swci.tasks.GetTask(pb.GetTaskRequest(name="größe"))
    assert found.body == body
    assert entry.finalized and entry.registrant == "swci/swci-1"
    assert entry.body_hash == hashlib.sha256(body.encode()).digest()
    assert entry.content_hash == content_hash(TaskHeader("größe", RUN, "Ada", "ROOTTASK", "x"), body.encode())
    listed = (await swci.tasks.ListTasks(pb.ListTasksRequest())).tasks
    assert [task.header.name for task in listed] == ["ROOTTASK", "größe"]


async def test_a_task_changes_until_it_is_finalized_and_never_behind_somebodys_back(swci: SNClient) -> None:
    task = (await swci.tasks.CreateTask(pb.CreateTaskRequest(header=header()))).task
    with pytest.raises(errors.TaskHasNoBody):
        await swci.tasks.FinalizeTask(pb.FinalizeTaskRequest(name="train"))
    with pytest.raises(errors.TaskNotFinalized):
        await assign(swci, peers=1)
    set_body = pb.SetTaskBodyRequest(name="train", expected_hash=task.body_hash, body=BODY)
    task = (await swci.tasks.SetTaskBody(set_body)).task
    with pytest.raises(errors.TaskChanged):
        await swci.tasks.SetTaskBody(set_body)
    assert (await swci.tasks.FinalizeTask(pb.FinalizeTaskRequest(name="train", expected_hash=task.body_hash))).task
    with pytest.raises(errors.TaskIsFinalized):
        await swci.tasks.SetTaskBody(pb.SetTaskBodyRequest(name="train", expected_hash=task.body_hash, body="other"))
    with pytest.raises(errors.TaskIsFinalized):
        await swci.tasks.DeleteTask(pb.DeleteTaskRequest(name="train"))


async def test_a_deleted_task_frees_its_name(swci: SNClient) -> None:
    await swci.tasks.CreateTask(pb.CreateTaskRequest(header=header(), body="old"))
    await swci.tasks.DeleteTask(pb.DeleteTaskRequest(name="train"))
    with pytest.raises(errors.UnknownTask):
        await swci.tasks.GetTask(pb.GetTaskRequest(name="train"))
    await create(swci)
    with pytest.raises(errors.TaskNameTaken):
        await create(swci)


async def test_many_tasks_are_listed_page_by_page(swci: SNClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.sn.task_requests.PAGE_TASKS", 2)
    names = ["ROOTTASK", *(f"task-{number}" for number in range(5))]
    for name in names[1:]:
        await swci.tasks.CreateTask(pb.CreateTaskRequest(header=header(name), body=BODY))
    assert [entry.header.name for entry in await swci.list_tasks()] == names
    first = await swci.tasks.ListTasks(pb.ListTasksRequest())
    assert [entry.header.name for entry in first.tasks] == names[:2]
    await swci.tasks.DeleteTask(pb.DeleteTaskRequest(name=names[1]))  # where the next page would begin
    second = await swci.tasks.ListTasks(pb.ListTasksRequest(page_token=first.next_page_token))
    assert [entry.header.name for entry in second.tasks] == names[2:4]
    await create(swci, names[1])  # again, so that it is now the last
    assert [entry.header.name for entry in await swci.list_tasks()] == ["ROOTTASK", *names[2:], names[1]]
    for token in ("-1", "x", "9" * 30, "²"):
        with pytest.raises(errors.MalformedCall, match="page_token"):
            await swci.tasks.ListTasks(pb.ListTasksRequest(page_token=token))


@pytest.mark.parametrize(
    ("changes", "body", "error"),
    [
        ({"name": ""}, BODY, errors.MalformedCall),
        ({"name": "n" * 129}, BODY, errors.MalformedCall),
        ({"name": "line\nbreak"}, BODY, errors.MalformedCall),
        ({"name": "ROOTTASK"}, BODY, errors.TaskNameTaken),
        ({"kind": "DANCE"}, BODY, errors.MalformedCall),
        ({"outcome": "o" * 1025}, BODY, errors.TooLong),
        ({"author": "ü" * 513}, BODY, errors.TooLong),
        ({"author": "Ada\x1b[2J"}, BODY, errors.MalformedCall),
        ({"outcome": "image\nTASK NAME : another"}, BODY, errors.MalformedCall),
        ({"prereq": "\u202eKSATTOOR"}, BODY, errors.MalformedCall),
        ({}, "b" * (64 * 1024 + 1), errors.TooLong),
        ({}, "", errors.TaskHasNoBody),
    ],
)
async def test_a_task_that_cannot_be_is_refused_in_words(
    changes: dict[str, str], body: str, error: type[errors.SwarmError], swci: SNClient
) -> None:
    with pytest.raises(error):
        await swci.tasks.CreateTask(pb.CreateTaskRequest(header=header(**changes), body=body, finalize=True))
    assert len((await swci.tasks.ListTasks(pb.ListTasksRequest())).tasks) == 1


# --- a run -------------------------------------------------------------------------------------------


async def test_a_task_runs_from_assignment_to_release(desk: Desk, swci: SNClient) -> None:
    await create(swci)
    one, two = await desk.swop("swop-1", pairs=2), await desk.swop("swop-2")
    reply = await assign(swci, all_peers=True)
    assert reply.peers_needed == 3
    assert (await one.until(lambda seen: seen.assignment == 1)).state == pb.RUNNER_ASSIGNED
    assert (await one.enrol(1, 2)).state == pb.RUNNER_ASSIGNED
    assert (await two.enrol(1, 1)).state == pb.RUNNER_RUNNING
    await one.report(1, 0, pb.PEER_RUNNING, name="sl-1", description="Created containers")
    await one.report(1, 0, pb.PEER_COMPLETE, name="sl-1")
    await one.report(1, 1, pb.PEER_COMPLETE, name="sl-2")
    assert (await two.report(1, 0, pb.PEER_COMPLETE, name="sl-3")).state == pb.RUNNER_COMPLETE
    ended = await one.until(lambda seen: seen.state == pb.RUNNER_COMPLETE)
    assert {(peer.agent, peer.index, peer.name) for peer in ended.peers} == {
        ("swop-1", 0, "sl-1"), ("swop-1", 1, "sl-2"), ("swop-2", 0, "sl-3"),
    }  # fmt: skip
    request = pb.GetPeerRequest(runner=DEFAULT_RUNNER, agent="swop-1", index=1)
    assert await swci.runners.GetPeer(request) in ended.peers
    assert 0 < ended.assigned_at <= ended.started_at <= ended.ended_at
    with pytest.raises(errors.RunnerBusy):
        await assign(swci, peers=1)
    assert await reset(swci) == 1
    await one.release(1)
    after = await one.until(lambda seen: any(agent.released == 1 for agent in seen.agents))
    assert after.state == pb.RUNNER_IDLE and not after.peers
    with pytest.raises(errors.UnknownPeer):
        await swci.runners.GetPeer(pb.GetPeerRequest(runner=DEFAULT_RUNNER, agent="swop-1", index=1))
    assert await reset(swci) == 0
    assert (await assign(swci, peers=1)).assignment == 2


async def test_a_task_fails_at_once_when_nobody_can_succeed_any_more(desk: Desk, swci: SNClient) -> None:
    await create(swci)
    one, two = await desk.swop("swop-1"), await desk.swop("swop-2")
    await assign(swci, peers=2)
    await one.enrol(1, 1)
    await two.enrol(1, 1)
    why = "exit code 1\n" + "é" * 8000 + "\nKeyError: 'label'"
    failed = await one.report(1, 0, pb.PEER_ERROR, description=why)
    assert failed.state == pb.RUNNER_ERROR
    (peer,) = [peer for peer in failed.peers if peer.state == pb.PEER_ERROR]
    assert peer.description.startswith("exit code 1") and peer.description.endswith("KeyError: 'label'")
    with pytest.raises(errors.PeerHasEnded):
        await one.report(1, 0, pb.PEER_COMPLETE)
    with pytest.raises(errors.MalformedCall, match="name"):
        await two.report(1, 0, pb.PEER_RUNNING, name="sl-1\x1b[2J")
    said = await two.report(1, 0, pb.PEER_RUNNING, description="first\r\n\x1b[31mKeyError: 'größe'\x9b2J\tend\n")
    (peer,) = [peer for peer in said.peers if peer.agent == "swop-2"]
    assert peer.description == "first\n?[31mKeyError: 'größe'?2J end"
    await two.report(1, 0, pb.PEER_COMPLETE)  # later results of others are still recorded


async def test_while_another_one_could_help_a_failure_is_not_the_end(desk: Desk, swci: SNClient) -> None:
    await create(swci, kind=BUILD)
    one, two = await desk.swop("swop-1"), await desk.swop("swop-2")
    await assign(swci, peers=1)
    await one.enrol(1, 1)
    assert (await one.report(1, 0, pb.PEER_ERROR)).state == pb.RUNNER_RUNNING
    await two.enrol(1, 1)
    assert (await two.report(1, 0, pb.PEER_COMPLETE)).state == pb.RUNNER_COMPLETE


async def test_a_target_runs_alone_and_others_are_added(desk: Desk, swci: SNClient) -> None:
    await create(swci)
    one, two = await desk.swop("swop-1", pairs=2), await desk.swop("swop-2")
    assert (await assign(swci, target="swop-1")).peers_needed == 2
    with pytest.raises(errors.AgentNotAdmitted):
        await two.enrol(1, 1)
    await one.enrol(1, 2)
    added = await assign(swci, target="swop-2")
    assert (added.assignment, added.peers_needed) == (1, 3)
    with pytest.raises(errors.AlreadyEnrolled):
        await assign(swci, target="swop-1")
    assert (await two.enrol(1, 1)).targets == ["swop-1", "swop-2"]


async def test_more_peers_than_there_are_is_refused(desk: Desk, swci: SNClient) -> None:
    await create(swci)
    with pytest.raises(errors.NotEnoughPeers, match=r"needs 1 peers, but .* have 0"):
        await assign(swci, all_peers=True)
    await desk.swop("swop-1", pairs=2)
    with pytest.raises(errors.NotEnoughPeers, match=r"needs 5 peers, but .* have 2"):
        await assign(swci, peers=5)
    with pytest.raises(errors.UnknownAgent):
        await assign(swci, target="swop-9")
    with pytest.raises(errors.UnknownTask):
        await assign(swci, task="nothing", peers=1)
    with pytest.raises(errors.UnknownRunner, match="there are"):
        await swci.runners.AssignTask(pb.AssignTaskRequest(runner="nobody", task="train", peers=1))
    assert (await status(swci)).state == pb.RUNNER_IDLE


async def test_a_swop_that_goes_does_not_count_and_one_that_comes_back_does(desk: Desk, swci: SNClient) -> None:
    await create(swci)
    one, two = await desk.swop("swop-1"), await desk.swop("swop-2")
    await two.stop_watching()
    gone = await one.until(lambda seen: [agent.attends for agent in seen.agents if agent.name == "swop-2"] == [False])
    assert [agent.present for agent in gone.agents] == [True, False]
    with pytest.raises(errors.AgentAbsent):
        await assign(swci, target="swop-2")
    await two.attend()
    assert (await assign(swci, peers=2)).peers_needed == 2


async def test_a_swop_that_is_back_while_it_is_given_up_counts_once_it_attends_again(
    desk: Desk, swci: SNClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, goes_on, written = asyncio.Event(), asyncio.Event(), TaskRunnerGateway.quit

    async def held(*arguments: Any) -> Any:
        begun.set()
        await goes_on.wait()
        return await written(*arguments)

    monkeypatch.setattr(TaskRunnerGateway, "quit", held)
    await create(swci)
    one = await desk.swop("swop-1")
    await one.stop_watching()
    async with asyncio.timeout(WITHIN_S):
        await begun.wait()
    assert [(agent.attends, agent.present) for agent in (await one.attend()).agents] == [(True, False)]
    with pytest.raises(errors.AgentAbsent):
        await assign(swci, target="swop-1")
    goes_on.set()
    await one.until(lambda seen: not seen.agents[0].attends)
    request = pb.AttendRequest(runner=DEFAULT_RUNNER, group="hospital", sl_peers=1)
    again = (await one.client.runners.Attend(request)).status
    assert [(agent.attends, agent.present) for agent in again.agents] == [(True, True)]


async def test_a_busy_swop_may_come_back_to_what_it_has_begun(desk: Desk, swci: SNClient, sn: RunningSN) -> None:
    await create(swci)
    one, two = await desk.swop("swop-1"), await desk.swop("swop-2")
    await assign(swci, peers=2)
    await one.enrol(1, 1)
    await one.stop_watching()
    await two.stop_watching()
    async with asyncio.timeout(WITHIN_S):  # swop-2 had begun nothing, so nobody waits for it
        async for seen in swci.watch_runner(DEFAULT_RUNNER):
            if seen.state == pb.RUNNER_ERROR:
                break
    agents = {agent.name: agent for agent in (await status(swci)).agents}
    assert agents["swop-1"].attends and not agents["swop-1"].present
    assert not agents["swop-2"].attends
    await one.report(1, 0, pb.PEER_COMPLETE)


async def test_a_busy_swop_that_does_not_come_back_is_given_up_after_a_reset(desk: Desk, swci: SNClient) -> None:
    await create(swci)
    one, two = await desk.swop("swop-1"), await desk.swop("swop-2")
    await assign(swci, peers=2)
    await one.enrol(1, 1)
    await one.stop_watching()
    await two.stop_watching()
    async with asyncio.timeout(WITHIN_S):
        async for seen in swci.watch_runner(DEFAULT_RUNNER):
            if not seen.agents[1].attends:  # so swop-1 has been silent just as long
                break
        assert seen.agents[0].attends
        await reset(swci)
        async for seen in swci.watch_runner(DEFAULT_RUNNER):
            if not seen.agents[0].attends:
                break


async def test_a_swop_that_does_not_come_back_to_a_restarted_sn_is_given_up(pki: Any, tmp_path: Path) -> None:
    identity, directory = pki.identity("sn", "sn-1"), tmp_path / "sn"
    async with contextlib.AsyncExitStack() as stack:
        sn = await stack.enter_async_context(running_sn(identity, directory))
        await Desk(pki, sn.port, stack).swop("swop-1")
    async with running_sn(identity, directory, lost_after_s=0.3) as sn, contextlib.AsyncExitStack() as stack:
        swci = await Desk(pki, sn.port, stack).client("swci", "swci-1")
        async with asyncio.timeout(WITHIN_S):
            async for seen in swci.watch_runner(DEFAULT_RUNNER):
                if not seen.agents[0].attends:
                    break


async def test_writes_of_an_earlier_assignment_are_refused(desk: Desk, swci: SNClient) -> None:
    await create(swci)
    one = await desk.swop("swop-1")
    await assign(swci, peers=1)
    await one.enrol(1, 1)
    await reset(swci)
    with pytest.raises(errors.RunnerIdle):
        await one.report(1, 0, pb.PEER_COMPLETE)
    await assign(swci, peers=1)
    for stale in (one.enrol(1, 1), one.report(1, 0, pb.PEER_COMPLETE)):
        with pytest.raises(errors.StaleAssignment):
            await stale
    with pytest.raises(errors.AgentNotEnrolled):
        await one.report(2, 0, pb.PEER_RUNNING)
    await one.enrol(2, 1)
    for wrong in (one.report(2, 1, pb.PEER_RUNNING), one.report(2, 0, pb.PEER_NONE), one.report(2, 0, 77)):
        with pytest.raises(errors.MalformedCall):
            await wrong


@pytest.mark.parametrize("role", ["sl", "swop", "sn"])
async def test_only_those_who_command_create_and_assign(role: str, desk: Desk) -> None:
    client = await desk.client(role, "someone")
    calls = (
        client.tasks.CreateTask(pb.CreateTaskRequest(header=header(), body=BODY)),
        client.tasks.DeleteTask(pb.DeleteTaskRequest(name="train")),
        client.runners.CreateRunner(pb.CreateRunnerRequest(name="mine")),
        client.runners.AssignTask(pb.AssignTaskRequest(runner=DEFAULT_RUNNER, task="train", peers=1)),
        client.runners.ResetRunner(pb.ResetRunnerRequest(runner=DEFAULT_RUNNER)),
    )
    for call in calls:
        with pytest.raises(errors.WrongRole):
            await call


async def test_only_a_registered_swop_attends(desk: Desk, swci: SNClient) -> None:
    request = pb.AttendRequest(runner=DEFAULT_RUNNER, group="g", sl_peers=1)
    with pytest.raises(errors.WrongRole):
        await swci.runners.Attend(request)
    stranger = await desk.client("swop", "stranger")
    with pytest.raises(errors.NotAMember):
        await stranger.runners.Attend(request)


async def test_runners_are_created_for_ever_and_listed(swci: SNClient) -> None:
    location = (await swci.runners.CreateRunner(pb.CreateRunnerRequest(name="second"))).location
    listed = (await swci.runners.ListRunners(pb.ListRunnersRequest())).runners
    assert [runner.name for runner in listed] == [DEFAULT_RUNNER, "second"]
    assert listed[1].location == location
    with pytest.raises(errors.ContractNameTaken):
        await swci.runners.CreateRunner(pb.CreateRunnerRequest(name="second"))


@pytest.mark.parametrize("chain", ["embedded", "geth"])
async def test_a_restarted_sn_knows_all_of_it(chain: Choice, pki: Any, tmp_path: Path) -> None:
    identity, directory = pki.identity("sn", "sn-1"), tmp_path / "sn"
    async with contextlib.AsyncExitStack() as stack:
        sn = await stack.enter_async_context(running_sn(identity, directory, chain=chain))
        desk = Desk(pki, sn.port, stack)
        swci = await desk.client("swci", "swci-1")
        await create(swci)
        one = await desk.swop("swop-1", pairs=2)
        await assign(swci, peers=2)
        await one.enrol(1, 2)
        before = await one.report(1, 1, pb.PEER_RUNNING, name="sl-2", description="trains")
        task = await swci.tasks.GetTask(pb.GetTaskRequest(name="train"))
    async with running_sn(identity, directory, chain=chain) as sn, contextlib.AsyncExitStack() as stack:
        swci = await Desk(pki, sn.port, stack).client("swci", "swci-1")
        after = await status(swci)
        assert after.peers == before.peers
        assert (after.state, after.assignment, after.content_hash) == (pb.RUNNER_RUNNING, 1, before.content_hash)
        assert await swci.tasks.GetTask(pb.GetTaskRequest(name="train")) == task


# --- RESET TASKRUNNER --------------------------------------------------------------------------------


@pytest.fixture
async def session(pki: Any, sn: RunningSN, tmp_path: Path) -> AsyncIterator[CommandSession]:
    session = CommandSession(
        pki.identity("swci", "swci-1"), UsrDir(tmp_path), WaitLimits(generic_task_min=WITHIN_S / 60)
    )
    session.contexts.add(SnContext("test", "localhost", sn.port, "", f"localhost:{sn.port}"))
    yield session
    await session.close()


class Heard:
    """Collects what a command says while it runs."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self._changed = asyncio.Event()

    def say(self, line: str) -> None:
        self.lines.append(line)
        self._changed.set()

    async def until(self, line: str) -> None:
        async with asyncio.timeout(WITHIN_S):
            while line not in self.lines:
                self._changed.clear()
                await self._changed.wait()


async def test_a_reset_waits_for_swops_that_are_there_to_remove_what_they_started(
    desk: Desk, swci: SNClient, session: CommandSession
) -> None:
    await create(swci)
    one, two, away = [await desk.swop(name) for name in ("swop-1", "swop-2", "swop-3")]
    await assign(swci, all_peers=True)
    for swop in (one, two, away):
        await swop.enrol(1, 1)
    await away.stop_watching()
    await one.until(lambda seen: not all(agent.present for agent in seen.agents))
    heard = Heard()
    resetting = asyncio.create_task(ResetTaskRunner(name=DEFAULT_RUNNER).run(session, heard.say))
    await heard.until("# swop-1, swop-2 : removing what was started")
    await two.release(1)
    await heard.until("# swop-1 : removing what was started")
    assert not resetting.done()
    await one.release(1)
    assert (await resetting).state == "IDLE"
    assert heard.lines[-1] == "# swop-3 : away, removing what was started when back"


async def test_a_reset_that_waits_in_vain_says_for_whom(desk: Desk, swci: SNClient, session: CommandSession) -> None:
    await create(swci)
    one = await desk.swop("swop-1")
    await assign(swci, peers=1)
    await one.enrol(1, 1)
    session.limits = WaitLimits(generic_task_min=0.001)
    with pytest.raises(errors.WaitedInVain, match="swop-1 : removing what was started"):
        await ResetTaskRunner(name=DEFAULT_RUNNER).run(session, lambda _line: None)
    assert (await status(swci)).state == pb.RUNNER_IDLE

"""The typed API of an SWCI, through its typed client, with a real SN: every resource, streams, and refusals."""

import asyncio
import contextlib
import os
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from scripted_swop import Swop
from sn_swarm import Sl, config, play_round, scripted_sl
from swci_web import HOST, Web, swci_web

from services.rpc import swarm_pb2 as pb
from services.rpc.client import SNClient
from services.runtime.listening import VANISHED_AFTER_S, listen
from services.sn.directory import DEFAULT_RUNNER, DEFAULT_TRAINING
from services.swci.web import sessions
from swarmlearning.swci.v1 import (
    AsyncClient,
    Client,
    Conflict,
    Malformed,
    NotAllowed,
    NotFound,
    ServerFailed,
    SNUnavailable,
    SwciUnreachable,
)

WITHIN_S = 30.0
BUILD = """\
Name: build
TaskType: MAKE_USER_CONTAINER
Author: Ada
Prereq: ROOTTASK
Outcome: user-env
Body:
  BuildContext: ~
  BuildType: INLINE
  BuildSteps:
  - FROM größe
"""


@pytest.fixture
async def web(pki: Any, tmp_path: Path) -> AsyncIterator[Web]:
    async with swci_web(pki, tmp_path) as running:
        yield running


@pytest.fixture
async def client(web: Web) -> AsyncIterator[AsyncClient]:
    async with AsyncClient(**web.options()) as ours:
        yield ours


@contextlib.asynccontextmanager
async def two_sls(web: Web) -> AsyncIterator[list[Sl]]:
    async with contextlib.AsyncExitStack() as stack:
        sls = [
            await stack.enter_async_context(scripted_sl(web.pki.identity("sl", name), web.sn.port))
            for name in ("sl-1", "sl-2")
        ]
        for sl in sls:
            await sl.enrol(config(min_peers=2))
        yield sls


@contextlib.asynccontextmanager
async def swop_of(web: Web) -> AsyncIterator[Swop]:
    async with SNClient(f"localhost:{web.sn.port}", web.pki.identity("swop", "swop-1")) as to_sn:
        swop = Swop(to_sn, "swop-1")
        try:
            await swop.attend(pairs=1)
            yield swop
        finally:
            await swop.stop_watching()


async def reported(client: AsyncClient, name: str) -> None:
    """Returns when the SN has written what a node reported."""
    async with asyncio.timeout(WITHIN_S), contextlib.aclosing(client.watch_contract(DEFAULT_TRAINING)) as states:
        async for state in states:
            if any(who.uid == name and who.round for who in state.participants):
                return


# --- resources -------------------------------------------------------------------------------------------


async def test_contexts_belong_to_a_session(web: Web, client: AsyncClient) -> None:
    assert (await client.server()).name == "sn-1"
    made = await client.create_context("second", ip="localhost", port=web.sn.port)
    assert (made.name, made.sn, made.active) == ("second", "sn-1", False)
    assert (await client.switch_context("second")).active
    assert [(it.name, it.active) for it in (await client.contexts()).contexts] == [("default", False), ("second", True)]
    await client.set_variable("second", "V", "größe / 1")
    assert (await client.variable("second", "V")).environment == {"V": "größe / 1"}
    assert (await client.variables("second")).environment == {"V": "größe / 1"}
    assert (await client.context("second")).environment == {"V": "größe / 1"}
    service = await client.create_context("behind a proxy", service=f"localhost:{web.sn.port}")
    assert service.service == f"localhost:{web.sn.port}"
    async with AsyncClient(**web.options(), session="another") as another:
        assert [it.name for it in (await another.contexts()).contexts] == ["default"]


async def test_nodes_help_and_files(web: Web, client: AsyncClient) -> None:
    async with two_sls(web):
        assert {(it.type, it.name, it.present) for it in (await client.nodes()).nodes} == {
            ("SENTINEL", "sn-1", True), ("SL", "sl-1", True), ("SL", "sl-2", True),
        }  # fmt: skip
    assert [it.syntax for it in (await client.help("list nodes")).commands] == ["LIST NODES"]
    assert len((await client.help()).commands) > 30
    (web.usr / "tasks").mkdir()
    assert [(it.name, it.directory) for it in (await client.files()).files] == [("tasks", True)]


async def test_a_training_its_rounds_and_how_well_it_does(web: Web, client: AsyncClient) -> None:
    made = await client.create_contract("ours")
    assert {it.name: it.location for it in (await client.contracts()).contracts}["ours"] == made.location
    assert not (await client.contract("ours")).configured
    async with two_sls(web) as sls:
        agreed = await client.contract(DEFAULT_TRAINING)
        assert (agreed.min_peers, agreed.participants) == (2, ["sl-1", "sl-2"])
        assert (await client.rounds(DEFAULT_TRAINING)).rounds == []
        digest = await play_round(sls, 1)
        report = pb.ReportRequest(
            contract=DEFAULT_TRAINING, round=1, loss=0.5, metric=float("nan"), epochs_done=1, epochs_total=2
        )
        await sls[0].client.training.Report(report)
        await reported(client, "sl-1")
        accepted = (await client.rounds(DEFAULT_TRAINING)).rounds
        assert [(it.round, it.digest, sorted(it.merged)) for it in accepted] == [(1, digest.hex(), ["sl-1", "sl-2"])]
        status = await client.contract_status(DEFAULT_TRAINING)
        assert (status.round, status.state) == (2, "CHECKIN")
        assert status.last_round is not None and status.last_round.digest == digest.hex()
        pairs = {it.uid: it for it in (await client.performance(DEFAULT_TRAINING)).pairs}
        assert (pairs["sl-1"].loss, pairs["sl-1"].metric, pairs["sl-1"].epochs_total) == (0.5, "NaN", 2)
        assert (pairs["sl-2"].round, pairs["sl-2"].loss) == (0, None)
        with pytest.raises(Conflict, match="still running"):
            await client.reset_contract(DEFAULT_TRAINING)


async def test_tasks_from_lines_from_a_file_and_from_text(web: Web, client: AsyncClient) -> None:
    made = await client.create_task("RUN_SWARM", "by lines", "Ada", outcome="x")
    assert (made.registered_by, made.prereq, made.finalized) == ("swci/swci-1", "ROOTTASK", False)
    await client.set_line("by lines", 1, "Command: größe")
    assert (await client.set_line("by lines", 2, "Entrypoint: python3")).lines[1] == "Entrypoint: python3"
    assert (await client.task_body("by lines")).lines == ["Command: größe", "Entrypoint: python3"]
    assert (await client.delete_task("by lines")).text == "Task Deleted : by lines"
    (web.usr / "build.yaml").write_text(BUILD)
    assert (await client.create_task_from_file("build.yaml")).name == "build"
    await client.create_task_from_text(BUILD.replace("Name: build", "Name: again"))
    assert (await client.task_body("again")).lines == (await client.task_body("build")).lines
    assert (await client.finalize_task("build")).finalized
    assert {it.name: it.finalized for it in (await client.tasks()).tasks} == {
        "ROOTTASK": True, "build": True, "again": False,
    }  # fmt: skip
    assert (await client.task("build")).outcome == "user-env"
    with pytest.raises(Malformed, match="text, line 2: TaskType"):
        await client.create_task_from_text(BUILD.replace("MAKE_USER_CONTAINER", "MAKE_TEA"))


async def test_a_task_is_assigned_watched_waited_for_and_taken_away(web: Web, client: AsyncClient) -> None:
    await client.create_task_from_text(BUILD)
    await client.finalize_task("build")
    async with swop_of(web) as swop:
        assert [it.uid for it in (await client.taskrunner()).agents] == ["swop-1"]
        with pytest.raises(Conflict, match="needs 2 peers"):
            await client.assign("build", peers=2)
        assigned = await client.assign("build")
        assert (assigned.state, assigned.task, assigned.assigned_by) == ("ASSIGNED", "build", "swci/swci-1")
        with pytest.raises(Conflict, match="busy"):
            await client.assign("build", peers=1)
        assert not (await client.wait(seconds=0)).over
        waiting = asyncio.create_task(client.wait())
        await swop.enrol(assigned.assignment, 1)
        await swop.report(assigned.assignment, 0, pb.PEER_RUNNING)
        await swop.report(assigned.assignment, 0, pb.PEER_COMPLETE, description="built")
        ended = await waiting
        assert (ended.over, ended.status.state) == (True, "COMPLETE")
        assert (await client.taskrunner_status()).peers_completed == 1
        for named in (0, "swop-1"):
            assert (await client.peer_status(named)).peer.description == "built"
        reset = await client.reset_taskrunner(seconds=0)
        assert (reset.state, reset.agents[0].released) == ("IDLE", False)
        resetting = asyncio.create_task(client.reset_taskrunner())
        await swop.release(assigned.assignment)
        assert (await resetting).agents[0].released
        by_target = await client.assign("build", target="swop-1")
        assert by_target.targets == ["swop-1"]
    made = await client.create_taskrunner("another")
    assert {it.name: it.location for it in (await client.taskrunners()).taskrunners}["another"] == made.location


async def test_a_name_may_hold_any_character_that_can_be_seen(client: AsyncClient) -> None:
    name = "größe/1 #?%2F&'\"{}"
    await client.create_contract(name)
    assert (await client.contract(name)).name == (await client.contract_status(name)).name == name
    assert (await client.rounds(name)).contract == (await client.performance(name)).contract == name
    await client.create_task("PULL_IMAGE", name, "Ada")
    assert (await client.set_line(name, 1, "Tag: x")).lines == (await client.task_body(name)).lines == ["Tag: x"]
    assert (await client.task(name)).name == name
    assert name in (await client.delete_task(name)).text
    runner = f"{name}/runner"
    await client.create_taskrunner(runner)
    assert (await client.taskrunner(runner)).name == (await client.taskrunner_status(runner)).name == runner
    assert (await client.set_variable("default", name, "v")).environment == {name: "v"}
    assert (await client.variable("default", name)).environment == {name: "v"}


# --- streams ---------------------------------------------------------------------------------------------


async def test_what_changes_arrives_as_an_event(web: Web, client: AsyncClient) -> None:
    async with asyncio.timeout(WITHIN_S), contextlib.aclosing(client.watch_contract(DEFAULT_TRAINING)) as states:
        first = await anext(states)
        assert first.participants == []
        async with two_sls(web):
            while len((newest := await anext(states)).participants) < 2:
                assert newest.version > first.version
    async with asyncio.timeout(WITHIN_S), contextlib.aclosing(client.watch_taskrunner()) as states:
        assert (await anext(states)).agents == []
        async with swop_of(web):
            while not (newest := await anext(states)).agents:
                pass
            assert newest.agents[0].uid == "swop-1"


async def test_one_who_hangs_up_leaves_nothing_behind(web: Web, client: AsyncClient) -> None:
    await client.nodes()
    before = tasks()
    async with AsyncClient(**web.options()) as listener:
        streams = [listener.watch_contract(DEFAULT_TRAINING), listener.watch_taskrunner()]
        for stream in streams:
            await anext(stream)
        assert len(tasks() - before) > 2  # tasks of both servers for the watch
        for stream in streams:
            await stream.aclose()
    if left := tasks() - before:
        _, left = await asyncio.wait(left, timeout=WITHIN_S)
    assert left == set()


@pytest.mark.skipif(not hasattr(socket, "TCP_USER_TIMEOUT"), reason="an option of Linux")
def test_one_who_vanishes_without_a_word_is_given_up_before_long() -> None:
    with contextlib.ExitStack() as stack:
        listening = stack.enter_context(listen(HOST, 0, command="swci", port_option="--web-port"))
        stack.enter_context(socket.create_connection(listening.getsockname()))
        accepted = stack.enter_context(listening.accept()[0])
        limit_ms = accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT)
    assert limit_ms == VANISHED_AFTER_S * 1000


def tasks() -> set["asyncio.Task[Any]"]:
    """All tasks except those by which gRPC accepts the next call, and a session's lasting connection to its SN."""
    lasting = ("AioServer._", "Tunnel._carry", "Background.keep")
    return {it for it in asyncio.all_tasks() if not getattr(it.get_coro(), "__qualname__", "").startswith(lasting)}


async def test_what_cannot_be_watched_is_refused_at_once(client: AsyncClient) -> None:
    with pytest.raises(NotFound, match="no training contract nothing"):
        await anext(client.watch_contract("nothing"))
    with pytest.raises(NotFound, match="no taskrunner nothing"):
        await anext(client.watch_taskrunner("nothing"))


async def test_whoever_waits_when_an_swci_is_stopped_is_told_so(
    pki: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with contextlib.AsyncExitStack() as stack, swci_web(pki, tmp_path) as web:
        client = await stack.enter_async_context(AsyncClient(**web.options()))
        await client.create_task_from_text(BUILD)
        await client.finalize_task("build")
        async with swop_of(web):
            await client.assign("build")
            states = client.watch_taskrunner()
            waiting = [
                asyncio.create_task(it)
                for it in (client.wait(), anext(states), anext(client.watch_contract(DEFAULT_TRAINING)))
            ]
            assert (await waiting[1]).state == "ASSIGNED"
            await waiting[2]
            following = asyncio.ensure_future(anext(states))
            await web.stop()
            for waits in (waiting[0], following):
                with pytest.raises(ServerFailed, match="This SWCI is stopping"):
                    await waits
    assert "Traceback" not in caplog.text


async def test_a_caller_that_does_not_take_its_leave_is_let_go(pki: Any, tmp_path: Path) -> None:
    """A caller whose body was refused before it was read, and that then neither reads nor disconnects."""
    head = b"POST /exec HTTP/1.1\r\nHost: x\r\nContent-Length: 50000000\r\n\r\n"
    context = pki.identity("swci", "swci-2").client_context()

    def ask(port: int) -> socket.socket:
        with context.wrap_socket(socket.create_connection(("localhost", port)), server_hostname="localhost") as tls:
            tls.sendall(head + bytes(100_000))
            assert tls.recv(12) == b"HTTP/1.1 413"
            return socket.socket(fileno=os.dup(tls.fileno()))

    def ends(silent: socket.socket) -> bool:
        silent.settimeout(WITHIN_S / 3)
        try:
            while silent.recv(65536):
                pass
        except ConnectionError:
            return True
        except TimeoutError:
            return False
        return True

    async with swci_web(pki, tmp_path) as web:
        silent = await asyncio.to_thread(ask, web.port)
    with silent:
        assert await asyncio.to_thread(ends, silent)


# --- who is refused, and what goes wrong -----------------------------------------------------------------


@pytest.mark.parametrize("role", ["sl", "swop", "sn", "license"])
async def test_a_certificate_of_another_role_is_refused_in_a_sentence(web: Web, role: str) -> None:
    async with AsyncClient(**web.options(role, f"{role}-9")) as stranger:
        sentence = f"{role}-9 has the role {role}, but this SWCI needs swci or admin"
        for ask in (stranger.nodes(), stranger.create_contract("x"), anext(stranger.watch_taskrunner())):
            with pytest.raises(NotAllowed, match=sentence) as refused:
                await ask
            assert (refused.value.status, refused.value.code) == (403, "wrong-role")
    async with web.raw(role, f"{role}-9") as raw:
        for request in (raw.post("/exec?cmd=LIST%20NODES"), raw.post("/uploadTaskDef", files={"file": b""})):
            answer = await request
            assert answer.status_code == 403
            assert sentence in answer.json()["message"]


async def test_an_administrator_may_ask_and_strangers_are_not_spoken_to(web: Web, foreign_pki: Any) -> None:
    async with AsyncClient(**web.options("admin", "ada")) as admin:
        assert (await admin.nodes()).nodes
    theirs = web.options("swci", "swci-2", foreign_pki)
    for options, why in (
        ({**theirs, "cacert": web.options()["cacert"]}, "does not trust the CA that issued our certificate"),
        ({**web.options(), "cacert": foreign_pki.cacert}, "verify failed"),
    ):
        async with AsyncClient(**options) as stranger:
            with pytest.raises(SwciUnreachable, match=f"The SWCI at localhost:{web.port} cannot be asked: .*{why}"):
                await stranger.nodes()


async def test_errors_have_a_type_and_the_sentence_of_the_server(web: Web, client: AsyncClient, unused: int) -> None:
    with pytest.raises(NotFound, match="There is no task nothing") as unknown:
        await client.task("nothing")
    assert (unknown.value.code, unknown.value.facts["name"]) == ("unknown-task", "nothing")
    with pytest.raises(Conflict, match="already a contract named"):
        await client.create_contract(DEFAULT_TRAINING)
    with pytest.raises(Malformed, match="either ip or service"):
        await client.create_context("x")
    with pytest.raises(SNUnavailable, match=f"The SN at {HOST}:{unused} cannot be reached"):
        await client.create_context("x", ip=HOST, port=unused)
    assert [it.name for it in (await client.contexts()).contexts] == ["default"]


async def test_no_more_sessions_are_kept_than_may_be_in_use(
    web: Web, client: AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sessions, "LIMIT", 2)
    async with contextlib.AsyncExitStack() as stack:
        listener = await stack.enter_async_context(AsyncClient(**web.options(), session="listens"))
        for each in (listener, client):
            await anext(await stack.enter_async_context(contextlib.aclosing(each.watch_taskrunner())))
        late = await stack.enter_async_context(AsyncClient(**web.options(), session="late"))
        with pytest.raises(Conflict, match="This SWCI serves 2 sessions, and all of them are in use"):
            await late.nodes()
        assert (await client.nodes()).nodes  # in an existing session


@pytest.fixture
def unused(unused_tcp_port: int) -> int:
    return unused_tcp_port


# --- the client that waits -------------------------------------------------------------------------------


async def test_the_client_that_waits_has_the_same_operations(web: Web) -> None:
    def everything() -> None:
        with Client(**web.options()) as client:
            assert client.server().name == "sn-1"
            assert client.create_task_from_text(BUILD).name == "build"
            assert client.finalize_task("build").finalized
            with pytest.raises(Conflict, match="needs 2 peers"):
                client.assign("build", DEFAULT_RUNNER, peers=2)
            assert client.wait().over
            states = client.watch_contract(DEFAULT_TRAINING)
            assert next(states).round == 1
            states.close()
            with pytest.raises(NotFound, match="no taskrunner nothing"):
                next(client.watch_taskrunner("nothing"))

    await asyncio.to_thread(everything)

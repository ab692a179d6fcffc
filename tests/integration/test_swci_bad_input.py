"""Any fault in a command is reported in one sentence: by the shell, by POST /exec, and by /api/v1 if it has that
command. Nothing is half done.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest
from scripted_swop import Swop
from swci_web import HOST, Web, swci_web

from services.rpc.client import SNClient
from services.sn.directory import DEFAULT_RUNNER as RUNNER
from services.sn.directory import DEFAULT_TRAINING
from services.swci import following
from services.swci.commands import general
from services.swci.commands.files import Pwd
from services.swci.execution import CommandResult, execute, perform
from services.swci.session import CommandSession
from swarmlearning.swci.v1 import AsyncClient, SNUnavailable

WITHIN_S = 30.0
GOOD = """\
Name: {name}
TaskType: MAKE_USER_CONTAINER
Author: Ada
Prereq: ROOTTASK
Outcome: user-env
Body:
  BuildContext: ~
  BuildType: INLINE
  BuildSteps:
  - FROM python
"""
FILES = {
    "list.yaml": b"- a\n- b\n",
    "broken.yaml": b"Name: [a\nTaskType: x\n",
    "latin.yaml": "Name: a\nAuthor: größe\n".encode("latin-1"),
    "large.yaml": b"# " + b"x" * (10 << 20),
    "unknown.yaml": GOOD.format(name="t").encode() + b"  BuildStep: x\n",
    "taken.yaml": GOOD.format(name="ready").encode(),
    "long.yaml": GOOD.format(name="n" * 200).encode(),
    "secret.yaml": b"Name: t\nTaskType: PULL_IMAGE\nAuthor: A\nPrereq: ROOTTASK\nOutcome: x\n"
    b"Body:\n  RepoName: r\n  OrgAndImageName: o\n  Tag: t\n  Auth:\n    UserName: a\n    Password: b\n",
}
HEADER = {"type": "RUN_SWARM", "author": "a", "prereq": "ROOTTASK", "outcome": "o"}
LONG = "n" * 129
TOO_LONG = "has 129 characters, and 128 are allowed"


@dataclass(frozen=True)
class Case:
    """``typed``: method, path and body of the same request in /api/v1, answered with ``status``."""

    line: str
    sentence: str
    typed: tuple[str, str, dict[str, Any] | None] | None = None
    status: int = 400


def from_file(name: str, sentence: str, status: int = 400) -> Case:
    return Case(f"CREATE TASK FROM {name}", sentence, ("POST", "/tasks/from-file", {"file": name}), status)


def assignment(runner: str = RUNNER, **wanted: Any) -> tuple[str, str, dict[str, Any]]:
    return "POST", f"/taskrunners/{runner}/assignment", wanted


CASES = [
    # too few words, too many, wrong ones
    Case("CREATE CONTEXT", "CREATE CONTEXT lacks <name>"),
    Case("CREATE CONTEXT c", "CREATE CONTEXT lacks WITH"),
    Case("FINALIZE TASK", "FINALIZE TASK lacks <name>"),
    Case("APPEND TASK BODY draft", "APPEND TASK BODY lacks <idx>"),
    Case(f"ASSIGN TASK ready TO {RUNNER} WITH", "ASSIGN TASK lacks <peers> or ALL"),
    Case("LIST NODES now", "'now' is too many"),
    Case("GET CONTRACT INFO a b", "'b' is too many"),
    Case("WAIT FOR TASKRUNNER a b", "'b' is too many"),
    Case("LSIT NODES", "Did you mean LIST NODES?"),
    Case("CREATE CONTEXT c WIHT IP h", "'WIHT' cannot stand after c"),
    Case("ASSIGN TASK ready FOR r WITH 1 PEERS", "'FOR' cannot stand after ready: TO is expected"),
    Case("SLEEP soon", "'soon' is not a number of seconds"),
    Case("CREATE TASK RUN_SWRM t a ROOTTASK o", "is none of RUN_SWARM"),
    Case("GET TASK INFO 'a b", "the quote before 'a b' is not closed"),
    # names that are unknown
    Case("SWITCH CONTEXT nothing", "no context nothing", ("PUT", "/contexts/nothing/active", None), 404),
    Case("GET CONTEXT INFO nothing", "no context nothing", ("GET", "/contexts/nothing", None), 404),
    Case("GET CONTEXT ENV default NONE", "no variable NONE", ("GET", "/contexts/default/environment/NONE", None), 404),
    Case("GET CONTRACT INFO nothing", "no training contract nothing", ("GET", "/contracts/nothing", None), 404),
    Case("PERFDATA nothing", "no training contract nothing", ("GET", "/contracts/nothing/performance", None), 404),
    Case("RESET CONTRACT nothing", "no training contract nothing", ("POST", "/contracts/nothing/reset", None), 404),
    Case("GET TASK BODY nothing", "no task nothing", ("GET", "/tasks/nothing/body", None), 404),
    Case("FINALIZE TASK nothing", "no task nothing", ("POST", "/tasks/nothing/finalize", None), 404),
    Case("DELETE TASK nothing", "no task nothing", ("DELETE", "/tasks/nothing", None), 404),
    Case("APPEND TASK BODY nothing 1 x", "no task nothing", ("PUT", "/tasks/nothing/body/1", {"text": "x"}), 404),
    Case("WAIT FOR TASKRUNNER nothing", "no taskrunner nothing", ("GET", "/taskrunners/nothing/wait", None), 404),
    Case("RESET TASKRUNNER nothing", "no taskrunner nothing", ("POST", "/taskrunners/nothing/reset", None), 404),
    Case("LIST TASKRUNNER PEERS nothing", "no taskrunner nothing", ("GET", "/taskrunners/nothing", None), 404),
    Case(f"GET TASKRUNNER PEER STATUS {RUNNER} nobody", "no peer nobody",
         ("GET", f"/taskrunners/{RUNNER}/peers/nobody", None), 404),
    Case("ASSIGN TASK nothing TO another WITH 1 PEERS", "no task nothing",
         assignment("another", task="nothing", peers=1), 404),
    Case("ASSIGN TASK ready TO nothing WITH 1 PEERS", "no taskrunner nothing",
         assignment("nothing", task="ready", peers=1), 404),
    Case("ASSIGN TASK ready TO another TARGET nobody", "no SWOP nobody",
         assignment("another", task="ready", target="nobody"), 404),
    # names that are taken
    Case("CREATE CONTEXT default WITH IP h", "already a context default",
         ("POST", "/contexts", {"name": "default", "ip": "h"}), 409),
    Case(f"CREATE CONTRACT {DEFAULT_TRAINING}", "already a contract named",
         ("POST", "/contracts", {"name": DEFAULT_TRAINING}), 409),
    Case(f"CREATE TASKRUNNER {RUNNER}", "already a contract named", ("POST", "/taskrunners", {"name": RUNNER}), 409),
    Case("CREATE TASK RUN_SWARM ready a ROOTTASK o", "already a task named ready",
         ("POST", "/tasks", {**HEADER, "name": "ready"}), 409),
    # names that are too long
    Case(f"CREATE CONTRACT {LONG}", TOO_LONG, ("POST", "/contracts", {"name": LONG}), 422),
    Case(f"GET TASK INFO {LONG}", TOO_LONG, ("GET", f"/tasks/{LONG}", None), 422),
    Case(f"CREATE TASKRUNNER {LONG}", TOO_LONG, ("POST", "/taskrunners", {"name": LONG}), 422),
    Case(f"CREATE CONTEXT {LONG} WITH IP h", TOO_LONG, ("POST", "/contexts", {"name": LONG, "ip": "h"}), 422),
    Case(f"ASSIGN TASK {LONG} TO another WITH 1 PEERS", TOO_LONG, assignment("another", task=LONG, peers=1), 422),
    # tasks and taskrunners that are not in the right state
    Case(f"ASSIGN TASK ready TO {RUNNER} WITH 1 PEERS", "busy", assignment(task="ready", peers=1), 409),
    Case("ASSIGN TASK ready TO another WITH 5 PEERS", "needs 5 peers",
         assignment("another", task="ready", peers=5), 409),
    Case("ASSIGN TASK draft TO another WITH 1 PEERS", "not finalized",
         assignment("another", task="draft", peers=1), 409),
    Case("DELETE TASK ready", "is finalized", ("DELETE", "/tasks/ready", None), 409),
    Case("APPEND TASK BODY ready 1 x", "is finalized", ("PUT", "/tasks/ready/body/1", {"text": "x"}), 409),
    Case("APPEND TASK BODY draft 9 x", "would leave a gap", ("PUT", "/tasks/draft/body/9", {"text": "x"}), 409),
    Case("APPEND TASK BODY draft 1 Password: x", "user name and password",
         ("PUT", "/tasks/draft/body/1", {"text": "Password: x"})),
    # files
    from_file("none.yaml", "it is not there"),
    from_file("list.yaml", "keys and values are needed"),
    from_file("broken.yaml", "broken.yaml, line 2"),
    from_file("latin.yaml", "UTF-8"),
    from_file("large.yaml", "larger than"),
    from_file("unknown.yaml", "BuildStep"),
    from_file("long.yaml", "long.yaml, line 1: Name"),
    from_file("secret.yaml", "user name and password would be on the chain"),
    from_file("../outside.yaml", "outside of the usr-dir", 403),
    from_file("taken.yaml", "already a task named ready", 409),
    Case("cd nowhere", "it is not there"),
    Case("ls nowhere", "it is not there", ("GET", "/files?path=nowhere", None)),
]  # fmt: skip


@pytest.fixture
async def web(pki: Any, tmp_path: Path) -> AsyncIterator[Web]:
    """An SWCI with a draft task, a finalized task, a taskrunner that is busy with it, and a free one."""
    async with swci_web(pki, tmp_path) as running, busy(running):
        for name, content in FILES.items():
            (running.usr / name).write_bytes(content)
        yield running


@contextlib.asynccontextmanager
async def busy(web: Web) -> AsyncIterator[None]:
    async with contextlib.AsyncExitStack() as stack:
        client = await stack.enter_async_context(AsyncClient(**web.options()))
        to_sn = await stack.enter_async_context(
            SNClient(f"localhost:{web.sn.port}", web.pki.identity("swop", "swop-1"))
        )
        for name in ("draft", "ready"):
            await client.create_task_from_text(GOOD.format(name=name))
        await client.finalize_task("ready")
        await client.create_taskrunner("another")
        swop = Swop(to_sn, "swop-1")
        stack.push_async_callback(swop.stop_watching)
        await swop.attend()
        await client.assign("ready")
        yield


@contextlib.asynccontextmanager
async def shell_of(web: Web) -> AsyncIterator[CommandSession]:
    session = web.first.another()
    try:
        yield session
    finally:
        await session.close()


async def answer_of(session: CommandSession, line: str) -> CommandResult:
    said: list[str] = []
    async with asyncio.timeout(WITHIN_S):
        answer = await execute(session, line, said.append)
    assert answer is not None
    assert not any("Traceback" in shown for shown in said)
    return answer


def sentence_of(answer: CommandResult) -> str:
    """What a shell shows for a failed command, in one line."""
    assert answer.error is not None, answer.lines
    assert len(answer.lines) == 1
    assert answer.lines[0].startswith("ERROR : ")
    return answer.lines[0].removeprefix("ERROR : ")


async def everything(web: Web) -> Any:
    """All that exists, except for the clock of a living SWOP, which goes on."""
    async with AsyncClient(**web.options("admin", "ada")) as client:
        runners = await client.taskrunners()
        states = [(await client.taskrunner_status(it.name)).version for it in runners.taskrunners]
        body = await client.task_body("draft")
        return await client.contracts(), await client.tasks(), runners, states, body, await client.contexts()


async def test_whatever_is_wrong_is_one_sentence_everywhere_and_nothing_is_done(web: Web) -> None:
    before = await everything(web)
    wrong: dict[str, str] = {}
    async with shell_of(web) as session, web.raw() as raw:
        for case in CASES:
            try:
                await told_everywhere(case, session, raw)
            except AssertionError as error:
                wrong[case.line] = str(error).splitlines()[0]
        assert [it.name for it in session.contexts] == ["default"]
        assert (await perform(session, Pwd(), "", print)).lines == ("/platform/swarm/usr",)
    assert wrong == {}, "\n".join(wrong.values())
    assert await everything(web) == before


async def told_everywhere(case: Case, session: CommandSession, raw: httpx.AsyncClient) -> None:
    told = sentence_of(await answer_of(session, case.line))
    assert case.sentence in told, f"the shell says {told!r}"
    assert told.endswith("."), f"{told!r} is no sentence"
    executed = await raw.post("/exec", params={"cmd": case.line})
    assert executed.status_code == 200
    assert executed.json()["CONTENT"][-1:] == [f"ERROR : {told}"], f"/exec says {executed.text}"
    if case.typed is None:
        return
    method, path, body = case.typed
    answer = await raw.request(method, f"/api/v1{path}", json=body)
    assert answer.status_code == case.status, f"{path} is answered with {answer.status_code}: {answer.text}"
    said = answer.json()["message"]
    assert said == told or case.status == 422, f"{path} says {said!r}, the shell {told!r}"
    assert said.endswith("."), f"{said!r} is no sentence"
    assert "\n" not in said


@pytest.mark.parametrize(("body", "sentence"), [
    ({}, "body.task: Field required"),
    ({"task": "ready", "peer": 1}, "body.peer: Extra inputs are not permitted"),
    ({"task": "ready", "peers": "two"}, "body.peers: Input should be a valid integer"),
    ({"task": "ready", "peers": 0}, "body.peers: Input should be greater than or equal to 1"),
    ({"task": "ready"}, "exactly one of peers, all_peers and target must be given"),
    ({"task": "ready", "peers": 1, "all_peers": True}, "exactly one of peers, all_peers and target must be given"),
    ([], "body: Input should be a valid dictionary"),
])  # fmt: skip
async def test_a_request_of_another_form_is_refused_in_a_sentence(web: Web, body: Any, sentence: str) -> None:
    async with web.raw() as raw:
        answer = await raw.post("/api/v1/taskrunners/another/assignment", json=body)
        assert answer.status_code in (400, 422)
        assert sentence in answer.json()["message"]


async def test_files_that_are_no_task_are_not_kept(web: Web) -> None:
    async with web.raw() as raw:
        for name in ("list.yaml", "broken.yaml", "latin.yaml", "unknown.yaml", "long.yaml", "secret.yaml"):
            answer = await raw.post("/uploadTaskDef", files={"file": (f"new-{name}", FILES[name])})
            assert (answer.status_code, answer.json()["message"].count("\n")) == (400, 0), answer.text
        large = await raw.post("/uploadTaskDef", files={"file": ("new-large.yaml", FILES["large.yaml"])})
        assert (large.status_code, large.json()["code"]) == (413, "body-too-large")
    assert sorted(path.name for path in web.usr.iterdir()) == sorted(FILES)


# --- SNs that cannot be worked with ----------------------------------------------------------------------


async def test_an_sn_that_cannot_be_reached_is_named(
    web: Web, unused_tcp_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(general, "TRY_S", 1.0)
    address = f"{HOST}:{unused_tcp_port}"
    case = Case(
        f"CREATE CONTEXT c WITH IP {HOST} {unused_tcp_port}", f"The SN at {address} cannot be reached",
        ("POST", "/contexts", {"name": "c", "ip": HOST, "port": unused_tcp_port}), 424,
    )  # fmt: skip
    async with shell_of(web) as session, web.raw() as raw:
        await told_everywhere(case, session, raw)
        waited = sentence_of(await answer_of(session, f"WAIT FOR IP {HOST} {unused_tcp_port} 1"))
        assert address in waited and "1 s" in waited


async def test_an_sn_of_another_version_is_named(web: Web) -> None:
    server = grpc.aio.server()
    port = server.add_secure_port(f"{HOST}:0", web.pki.identity("sn", "sn-9").grpc_server_credentials())
    await server.start()
    try:
        case = Case(
            f"CREATE CONTEXT c WITH IP {HOST} {port}", f"The SN at {HOST}:{port} does not know this call",
            ("POST", "/contexts", {"name": "c", "ip": HOST, "port": port}), 424,
        )  # fmt: skip
        async with shell_of(web) as session, web.raw() as raw:
            await told_everywhere(case, session, raw)
            assert "another version" in sentence_of(await answer_of(session, f"WAIT FOR IP {HOST} {port}"))
    finally:
        await server.stop(None)


async def test_an_sn_that_goes_away_in_the_middle_is_named_and_waits_end(
    pki: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(following, "PATIENCE_S", 0.2)
    monkeypatch.setattr(following, "RETRY_S", 0.1)
    async with (
        contextlib.AsyncExitStack() as sn,
        swci_web(pki, tmp_path, sn_stack=sn) as web,
        busy(web),
        shell_of(web) as session,
        AsyncClient(**web.options()) as client,
    ):
        said: asyncio.Queue[str] = asyncio.Queue()
        waiting = asyncio.create_task(execute(session, f"WAIT FOR TASKRUNNER {RUNNER}", said.put_nowait))
        states = client.watch_taskrunner()
        assert (await anext(states)).state == "ASSIGNED"
        assert "WAITING FOR TASKRUNNER" in await said.get()
        await sn.aclose()
        async with asyncio.timeout(WITHIN_S):
            answer = await waiting
            assert answer is not None
            assert "cannot be reached" in sentence_of(answer)
            with pytest.raises(SNUnavailable, match=f"The SN at localhost:{web.sn.port} cannot be reached"):
                while True:
                    await anext(states)
        assert "cannot be reached" in sentence_of(await answer_of(session, "LIST NODES"))
        with pytest.raises(SNUnavailable):
            await client.nodes()

"""The swarm of benchmarks.commands: license server, SN, two SWOPs with a pair each, and SWCIs in two forms."""

import asyncio
import contextlib
import shutil
import socket
import ssl
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import yaml

from benchmarks.base import Base
from services.errors import SwarmError
from services.identity.authority import IssuedFiles
from services.identity.identity import Identity
from services.local.plan import CODE_ROOT, HOST, SWCI, SwarmPlan
from services.local.process import Child, Launch, node_environment
from services.local.swops import RUNNER, profile_of
from services.swci.contexts import SnContext, SnContexts
from services.swci.execution import execute
from services.swci.session import CommandSession, WaitLimits
from services.swci.usr_dir import UsrDir

SWOPS = 2
IMAGE = "swarm-bench-env"
PROGRAMS = ("commands_ml.py", "coordination_ml.py")
WITHIN_S = 60.0

Way = Callable[[str], Awaitable[list[str]]]
"""One way of giving a command: its output. Raises SwarmError, AssertionError where it fails."""


@dataclass
class CommandedSwarm:
    """``ways``: ``shell`` runs the shell's own command objects in this process, ``rest`` asks an SWCI in WEB mode."""

    base: Base
    ways: dict[str, Way]

    @property
    def usr(self) -> Path:
        return self.base.plan.usr_dir


async def remove_image() -> None:
    """The one that Docker has built."""
    from services.swop.executors.docker import DockerExecutor  # noqa: PLC0415  # its library, where it is used

    async with DockerExecutor() as docker:
        await docker.remove_image(IMAGE)


@contextlib.asynccontextmanager
async def commanded_swarm(directory: Path, chain: str, executor: str) -> AsyncIterator[CommandedSwarm]:
    """Raises ChildFailed, NotReady."""
    plan = SwarmPlan(directory, SWOPS, chain, swop_count=SWOPS, images=(IMAGE,))
    (plan.usr_dir / "app").mkdir(parents=True)
    (plan.usr_dir / "out").mkdir(mode=0o777)
    (plan.usr_dir / "out").chmod(0o777)
    for name in PROGRAMS:
        shutil.copy(Path(__file__).with_name(name), plan.usr_dir / "app" / name)
    async with Base.of(plan) as base, contextlib.AsyncExitStack() as stack:
        for index in range(SWOPS):
            await _start_swop(base, index, executor)
        files = base.files[SWCI]
        session = CommandSession(
            Identity.load(cert=files.cert, key=files.key, cacert=files.cacert), UsrDir(plan.usr_dir), WaitLimits(),
            _context(base.sn_port),
        )  # fmt: skip
        stack.push_async_callback(session.close)
        port = await base.start_node(Child.start(_swci(base, files)))
        client = await stack.enter_async_context(_https(files, port))
        yield CommandedSwarm(base, {"shell": _by_shell(session), "rest": _by_rest(client)})


async def _start_swop(base: Base, index: int, executor: str) -> None:
    plan, name = base.plan, base.plan.swops[index]
    pairs = [base.files[sl] for sl in plan.sls_of(index)]
    profile = yaml.safe_load(
        profile_of(name, pairs, HOST, license_port=base.license_port, sn_port=base.sn_port, images=plan.images)
    )
    for node in profile["nodes"]:
        node["slnodedef"]["idx"] = index
        if executor == "DOCKER":  # on the host's network, where each SL has a port of its own
            port = _free_port()
            node["slnodedef"] |= {"slport": port, "slenvvars": [{"SL_BIND_HOST": HOST}, {"SL_BIND_PORT": port}]}
    profile["resourcemgr"]["mgrtype"] = executor
    if executor == "DOCKER":
        del profile["images"]
    (plan.usr_dir / plan.profile(index)).write_text(yaml.safe_dump(profile))
    child = Child.start(plan.swop(index, base.files[name], base.license_port, base.sn_port))
    base.children[name] = child
    await child.ready()
    async with base.client() as client, asyncio.timeout(WITHIN_S):
        async for status in client.watch_runner(RUNNER):
            if any(agent.name == name and agent.present for agent in status.agents):
                return


def _swci(base: Base, files: IssuedFiles) -> Launch:
    plan = base.plan
    argv = (
        sys.executable, "-m", "services.cli", "swci", "--mode", "WEB", "--web-port", "0", "--host", HOST,
        "--usr-dir", str(plan.usr_dir), "--data-dir", str(plan.directory / SWCI), "--sn-ip", HOST,
        "--sn-api-port", str(base.sn_port), "--apls-ip", HOST, "--apls-port", str(base.license_port),
        "--cert", str(files.cert), "--key", str(files.key), "--cacert", str(files.cacert),
    )  # fmt: skip
    return Launch(SWCI, argv, plan.log(SWCI), node_environment(), cwd=CODE_ROOT)


def _context(sn_port: int) -> SnContexts:
    contexts = SnContexts()
    contexts.add(SnContext("default", HOST, sn_port, "", f"{HOST}:{sn_port}"))
    return contexts


def _https(files: IssuedFiles, port: int) -> httpx.AsyncClient:
    tls = ssl.create_default_context(cafile=files.cacert)
    tls.load_cert_chain(files.cert, files.key)
    return httpx.AsyncClient(verify=tls, base_url=f"https://{HOST}:{port}", timeout=WITHIN_S, trust_env=False)


def _by_shell(session: CommandSession) -> Way:
    async def give(line: str) -> list[str]:
        said: list[str] = []
        answer = await execute(session, line, said.append)
        assert answer is not None, f"{line!r} is no command"
        if answer.error is not None:
            raise answer.error
        return [*said, *answer.lines]

    return give


def _by_rest(client: httpx.AsyncClient) -> Way:
    async def give(line: str) -> list[str]:
        reply = await client.post("/exec", params={"cmd": line})
        reply.raise_for_status()
        content: list[str] = reply.json()["CONTENT"]
        if any(said.startswith("ERROR") for said in content):
            raise SwarmError(detail=f"{line}: {content}")
        return content

    return give


def _free_port() -> int:
    with socket.socket() as trial:
        trial.bind((HOST, 0))
        return int(trial.getsockname()[1])


def run_body(usr: Path, syncs: int) -> dict[str, Any]:
    """The body of the training that is timed."""
    return {
        "Command": f"/app/{PROGRAMS[0]} {syncs} /out", "Entrypoint": "python3", "WorkingDir": "/tmp",  # noqa: S108
        "Envvars": [{"SWARM_NODE_COUNT": SWOPS}], "PrivateContent": None,
        "SharedContent": [
            {"Src": str(usr / "app"), "Tgt": "/app", "MType": "BIND"},
            {"Src": str(usr / "out"), "Tgt": "/out", "MType": "BIND"},
        ],
    }  # fmt: skip

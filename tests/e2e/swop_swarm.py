"""A license server, an SN and SWOPs with local processes, as processes; a test commands them as SWCI would."""

import asyncio
import contextlib
import os
import shutil
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import yaml

from services.local.plan import CODE_ROOT
from services.local.process import Child, Launch, node_environment
from services.local.swops import RUNNER, profile_of
from services.rpc import swarm_pb2 as pb
from services.rpc.client import SNClient

HOST = "127.0.0.1"
WITHIN_S = 60.0
PROGRAM = Path(__file__).parent / "programs" / "train.py"

Status = pb.RunnerStatus


class SwopSwarm:
    """``usr``: the SWOPs' usr directory, in which the training program lies under ``app``; models come to ``out``."""

    def __init__(self, pki: Any, directory: Path, swci: SNClient, license_port: int, sn_port: int) -> None:
        self.pki, self.directory, self.swci = pki, directory, swci
        self.usr, self.out = directory / "usr", directory / "usr" / "out"
        self.swops: dict[str, Child] = {}
        self._ports = license_port, sn_port
        self.build_steps = ["FROM x"]  # local processes build nothing
        self._tasks = 0
        self._issued: dict[str, Any] = {}
        (self.usr / "app").mkdir(parents=True)
        self.out.mkdir()
        shutil.copy(PROGRAM, self.usr / "app" / "train.py")

    async def swop(
        self,
        name: str,
        *sls: str,
        changes: Callable[[dict[str, Any]], None] = lambda _: None,
        trust: Path | None = None,
    ) -> Child:
        """Starts a SWOP with a pair for each SL, or the same once more; ``changes`` its profile. ``trust``: its trust
        file, in the place of CAs.
        """
        for who in (name, *sls):  # one that is started again has the certificate that it had
            if who not in self._issued:
                self._issued[who] = self.pki.issue("swop" if who == name else "sl", who)
        files = self._issued
        profile = yaml.safe_load(
            profile_of(
                name, [files[sl] for sl in sls], HOST,
                license_port=self._ports[0], sn_port=self._ports[1], images=["user-env"],
            )
        )  # fmt: skip
        if trust is not None:
            for node in profile["nodes"]:
                identity = node["slnodedef"]["identity"]
                identity[:] = [file for file in identity if file["attribute"]["aType"] != "CACERT"]
        changes(profile)
        (self.usr / f"{name}.yaml").write_text(yaml.safe_dump(profile))
        argv = (
            sys.executable, "-m", "services.cli", "swop", "--usr-dir", str(self.usr),
            "--profile-file-name", f"{name}.yaml", "--data-dir", str(self.directory / name),
            "--cert", str(files[name].cert), "--key", str(files[name].key),
            *(("--cacert", str(files[name].cacert)) if trust is None else ("--trust", str(trust))),
        )  # fmt: skip
        child = Child.start(
            Launch(name, argv, self.directory / f"{name}.log", node_environment("SWOP_"), cwd=CODE_ROOT)
        )
        self.swops[name] = child
        await child.ready()  # it attends its taskrunner: a task that is assigned now counts with it
        now = await self.swci.runners.GetRunner(pb.GetRunnerRequest(runner=RUNNER))
        assert any(agent.name == name and agent.attends and agent.present for agent in now.agents), now
        return child

    async def kill(self, name: str) -> None:
        """The SWOP alone: what it started is not of its process group."""
        child = self.swops.pop(name)
        os.kill(child.pid, 9)
        await child.wait()

    async def task(self, kind: str, body: dict[str, Any], prereq: str = "ROOTTASK", outcome: str = "user-env") -> str:
        """A new task, finalized; gives its name."""
        self._tasks += 1
        header = pb.TaskHeader(name=f"task-{self._tasks}", type=kind, author="x", prereq=prereq, outcome=outcome)
        request = pb.CreateTaskRequest(header=header, body=yaml.safe_dump(body, sort_keys=False), finalize=True)
        await self.swci.tasks.CreateTask(request)
        return header.name

    async def build(self) -> str:
        return await self.task(
            "MAKE_USER_CONTAINER", {"BuildContext": None, "BuildType": "INLINE", "BuildSteps": self.build_steps}
        )

    async def run(
        self, behaviour: str = "well", rounds: int = 3, count: int = 3, prereq: str | None = None, **changes: Any
    ) -> str:
        """A training of the tests' program; its prerequisite comes with it."""
        body = {
            "Command": f"/app/train.py {behaviour} /out {rounds}", "Entrypoint": "python3", "WorkingDir": "/work",
            "Envvars": [{"SWARM_NODE_COUNT": count}], "PrivateContent": None,
            "SharedContent": [
                {"Src": str(self.usr / "app"), "Tgt": "/app", "MType": "BIND"},
                {"Src": str(self.out), "Tgt": "/out", "MType": "BIND"},
            ],
            **changes,
        }  # fmt: skip
        return await self.task("RUN_SWARM", body, prereq or await self.build(), "result")

    async def assign(self, task: str, **who: Any) -> int:
        request = pb.AssignTaskRequest(runner=RUNNER, task=task, **(who or {"all_peers": True}))
        return (await self.swci.runners.AssignTask(request)).assignment

    async def reset(self) -> None:
        """Returns when all SWOPs have released what they started."""
        await self.swci.runners.ResetRunner(pb.ResetRunnerRequest(runner=RUNNER))
        await self.until(lambda now: all(a.released >= a.enrolled_in for a in now.agents))

    async def until(self, wanted: Callable[[Status], bool]) -> Status:
        """The first state that is as wanted; fails with the newest after a while."""
        newest: Status | None = None
        try:
            async with asyncio.timeout(WITHIN_S):
                async for status in self.swci.watch_runner(RUNNER):
                    newest = status
                    if wanted(status):
                        return status
        except TimeoutError:
            logs = "\n".join(path.read_text()[-3000:] for path in sorted(self.directory.glob("swop-*.log")))
            raise AssertionError(f"it did not come so far:\n{newest}\n{logs}") from None
        raise AssertionError("the SN ended")

    async def ended(self) -> Status:
        return await self.until(lambda status: status.state in {pb.RUNNER_COMPLETE, pb.RUNNER_ERROR})

    def left_over(self) -> list[str]:
        """Nodes and volumes that are on disk, and processes that have this swarm's directory in their command line."""
        files = [str(path) for path in self.directory.glob("swop-*/processes/*/*")]
        mine = {child.pid for child in self.swops.values()}
        return files + [f"process {pid}" for pid in processes_with(str(self.directory / "swop-")) if pid not in mine]

    @property
    def sn_port(self) -> int:
        return self._ports[1]

    def swci_command(self, files: Any, *more: str) -> list[str]:
        """An SWCI whose usr-dir is that of the SWOPs."""
        return [
            sys.executable, "-m", "services.cli", "swci", "--usr-dir", str(self.usr),
            "--apls-ip", HOST, "--apls-port", str(self._ports[0]), "--data-dir", str(self.directory / "swci"),
            "--cert", str(files.cert), "--key", str(files.key), "--cacert", str(files.cacert), *more,
        ]  # fmt: skip

    def trust(self) -> Path:
        """A trust file of one organization whose CA may issue what these tests do, in a directory of its own."""
        directory = self.directory / "trust"
        directory.mkdir()
        shutil.copyfile(self.pki.cacert, directory / "ca.pem")
        issues = {"sn": ["sn-*"], "sl": ["sl-*"], "swop": ["swop-*"], "license": ["license-*"]}
        one = {"name": "a", "trust_domain": self.pki.authority.trust_domain, "cas": ["ca.pem"], "issues": issues}
        (directory / "trust.yaml").write_text(yaml.safe_dump({"organizations": [one]}))
        return directory / "trust.yaml"

    def models(self) -> set[bytes]:
        return {path.read_bytes() for path in self.out.glob("*.safetensors")}

    async def stop(self) -> None:
        """What SWOPs have started goes on without them, so it is removed first."""
        if self.swops:
            await self.swci.runners.ResetRunner(pb.ResetRunnerRequest(runner=RUNNER))
            await self.until(lambda now: all(a.released >= a.enrolled_in for a in now.agents if a.name in self.swops))
        for child in self.swops.values():
            assert not await child.stop(), f"{child.name} had to be killed:\n{child.tail()}"


@contextlib.asynccontextmanager
async def swop_swarm(pki: Any, directory: Path) -> AsyncIterator[SwopSwarm]:
    async with contextlib.AsyncExitStack() as stack:
        license_port = (await _node(stack, pki, directory, "license", "license-1", "license-server", "--port", "0"))[
            "port"
        ]
        sn_port = (
            await _node(
                stack, pki, directory, "sn", "sn-1", "sn", "--sentinel", "--chain", "embedded", "--host-ip", HOST,
                "--sn-api-port", "0", "--apls-ip", HOST, "--apls-port", str(license_port),
            )
        )["port"]  # fmt: skip
        identity = pki.identity("swci", "swci-1")
        swci = await stack.enter_async_context(SNClient(f"{HOST}:{sn_port}", identity))
        swarm = SwopSwarm(pki, directory, swci, license_port, sn_port)
        stack.push_async_callback(swarm.stop)
        yield swarm


async def _node(
    stack: contextlib.AsyncExitStack, pki: Any, directory: Path, role: str, name: str, *arguments: str
) -> dict[str, Any]:
    files = pki.issue(role, name)
    argv = (
        sys.executable, "-m", "services.cli", *arguments, "--host", HOST, "--data-dir", str(directory / name),
        "--cert", str(files.cert), "--key", str(files.key), "--cacert", str(files.cacert),
    )  # fmt: skip
    environment = node_environment(SN_LOST_AFTER_SECONDS="2") if role == "sn" else node_environment()
    child = Child.start(Launch(name, argv, directory / f"{name}.log", environment, cwd=CODE_ROOT))
    stack.push_async_callback(child.stop)
    return await child.ready()


def processes_with(text: str) -> list[int]:
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            if text.encode() in path.read_bytes():
                found.append(int(path.parent.name))
    return found

"""Loads the code of nodes once and forks each node from there: a start takes milliseconds instead of most of a second.

``python -m services.local.forking MODULE…`` is the fork server, which loads these modules. It is single-threaded and
starts nothing that would break in a fork. A fork runs what ``python -m`` would run with the same command line. It
becomes an ordinary child of the process that asked for it: the fork server forks twice, and the asking process adopts
the orphan that the first fork leaves.
"""

import asyncio
import contextlib
import ctypes
import gc
import importlib
import json
import os
import runpy
import socket
import sys
import traceback
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from setproctitle import setproctitle

from services.errors import ChildFailed, ProcessesNotWatched
from services.local.plan import CODE_ROOT
from services.local.process import READY_WITHIN_S, Child, Launch, node_environment
from services.runtime.ready import READY_FD_VARIABLE, ReadySocket

CONTROL_VARIABLE: Final = "SWARM_FORKING_FD"
SET_BY_IMPORT: Final = "GRPC_SSL_CIPHER_SUITES"  # by `import services`, which a fork does not repeat
NAME: Final = "forks"
OF_NODES: Final = ("services.cli.commands", "services.cli.nodes", "services.runtime.process")
OF_SNS: Final = ("services.chain.geth", "services.sn.main", "services.sn.settings")
OF_SLS: Final = ("services.sl.main", "services.sl.settings")
MAX_REQUEST: Final = 1 << 20  # bytes; each request is one packet
_PR_SET_CHILD_SUBREAPER: Final = 36  # prctl(2)


@dataclass(frozen=True)
class Forked:
    """A child of this process, made by a fork server."""

    pid: int

    def wait(self) -> int:
        """Waits for its exit code; a negative one is the signal that ended it."""
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])


class ForkServer:
    """The side of the asking process: a Starter for what ``python -m MODULE`` runs."""

    def __init__(self, control: socket.socket, log: Path) -> None:
        self._control = control
        self._log = log

    def start(self, launch: Launch, environment: dict[str, str], log: int, ready: int | None) -> Forked:
        """Raises OSError if the fork server cannot fork, is gone, or does not answer."""
        asked = {"argv": launch.argv, "environment": environment, "cwd": str(launch.cwd or "")}
        with _adopting():
            return Forked(self._ask(asked, [log] if ready is None else [log, ready])["pid"])

    async def load(self, modules: Sequence[str]) -> None:
        """Loads more modules for later forks. Nothing can be started meanwhile. Raises ChildFailed."""
        try:
            await asyncio.to_thread(self._ask, {"load": modules}, [])
        except OSError as error:
            raise ChildFailed(child=NAME, exit=127, tail=f"  {error}", log=self._log) from None

    def _ask(self, asked: dict[str, Any], given: list[int]) -> dict[str, Any]:
        socket.send_fds(self._control, [json.dumps(asked).encode()], given)
        answer: dict[str, Any] = json.loads(self._control.recv(MAX_REQUEST) or b"{}")
        if answer.keys() != {"pid"} and answer.keys() != {"loaded"}:
            raise OSError(answer.get("problem", "the fork server is gone"))
        return answer


@asynccontextmanager
async def fork_server(log: Path, loaded: Sequence[str], **environment: str) -> AsyncIterator[ForkServer]:
    """A fork server that is ready; its forks outlive it. Raises ChildFailed, NotReady, ProcessesNotWatched.

    ``loaded``: modules that forks find loaded. ``environment``: more variables for the fork server, not for its forks.
    """
    _adopt(False)  # if this is forbidden, nothing is started
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.settimeout(READY_WITHIN_S)  # a stopped fork server does not block this process for ever
    with ours:
        with theirs:
            argv = (sys.executable, "-m", "services.local.forking", *loaded)
            environment = node_environment(**environment, **{CONTROL_VARIABLE: str(theirs.fileno())})
            child = Child.start(Launch(NAME, argv, log, environment, cwd=CODE_ROOT, passed=(theirs.fileno(),)))
        try:
            await child.ready()
            yield ForkServer(ours, log)
        finally:
            await child.stop()


@contextmanager
def _adopting() -> Iterator[None]:
    """Inside this context, orphaned descendants become children of this process; otherwise they are reaped elsewhere.

    Raises ProcessesNotWatched.
    """
    _adopt(True)
    try:
        yield
    finally:
        _adopt(False)


def _adopt(yes: bool) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_CHILD_SUBREAPER, int(yes), 0, 0, 0):
        raise ProcessesNotWatched(call="prctl", problem=os.strerror(ctypes.get_errno()))


# --- the fork server itself ----------------------------------------------------------------------------------------


def main() -> None:
    """Serves until the other end of its socket is closed."""
    ready = ReadySocket()
    control = socket.socket(fileno=int(os.environ.pop(CONTROL_VARIABLE)))
    control.set_inheritable(False)
    _load(sys.argv[1:])
    setproctitle("swarm: loads the code of nodes")  # first call, while the environment is unchanged since the start
    ready.report()
    while True:
        asked, given, _, _ = socket.recv_fds(control, MAX_REQUEST, 2)
        if not asked:
            os._exit(0)  # at once: nothing loaded is needed any more
        wanted = json.loads(asked)
        answer = _load_more(wanted["load"]) if "load" in wanted else _fork_twice(wanted, given)
        for descriptor in given:
            os.close(descriptor)
        control.send(json.dumps(answer).encode())


def _load_more(modules: Sequence[str]) -> dict[str, Any]:
    try:
        _load(modules)
    except ImportError as error:
        return {"problem": str(error)}
    return {"loaded": len(modules)}


def _load(modules: Sequence[str]) -> None:
    for module in modules:
        importlib.import_module(module)
    gc.collect()
    gc.freeze()  # so that all forks share the memory pages of what is loaded


def _fork_twice(asked: dict[str, Any], given: list[int]) -> dict[str, Any]:
    """The node's process id, once it has been adopted and may be signalled; or the reason why there is none."""
    told, tell = os.pipe()
    try:
        between = os.fork()
    except OSError as error:
        os.close(tell)
        os.close(told)
        return {"problem": error.strerror}
    if between == 0:
        _fork_and_end(asked, given, tell)
    os.close(tell)
    os.waitpid(between, 0)
    with open(told, "rb") as line:  # noqa: PTH123  # a descriptor
        answer: dict[str, Any] = json.loads(line.read() or b"{}")
    return answer


def _fork_and_end(asked: dict[str, Any], given: list[int], tell: int) -> None:
    """Never returns."""
    try:
        node = os.fork()
    except OSError as error:
        os.write(tell, json.dumps({"problem": error.strerror}).encode())
        os._exit(1)
    if node:
        os._exit(0)
    _become(asked, tell, *given)


def _become(asked: dict[str, Any], tell: int, log: int, ready: int | None = None) -> None:
    """Never returns."""
    code = 70
    try:
        os.setsid()
        for descriptor in (1, 2):
            os.dup2(log, descriptor)
        kept = {SET_BY_IMPORT: os.environ[SET_BY_IMPORT]}
        os.environ.clear()
        os.environ.update(asked["environment"] | kept)
        if ready is not None:
            os.environ[READY_FD_VARIABLE] = str(ready)
        if asked["cwd"]:
            os.chdir(asked["cwd"])
        setproctitle(" ".join(asked["argv"]))
        _close_all_but(0, 1, 2, tell, *([] if ready is None else [ready]))
        os.write(tell, json.dumps({"pid": os.getpid()}).encode())
        os.close(tell)
        _python, _m, module, *arguments = asked["argv"]
        sys.argv = [module, *arguments]
        runpy.run_module(module, run_name="__main__", alter_sys=True)
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
    finally:
        with contextlib.suppress(OSError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


def _close_all_but(*kept: int) -> None:
    for descriptor in [int(entry.name) for entry in Path("/proc/self/fd").iterdir()]:
        if descriptor not in kept:
            with contextlib.suppress(OSError):  # the descriptor that read the list
                os.close(descriptor)


if __name__ == "__main__":
    main()

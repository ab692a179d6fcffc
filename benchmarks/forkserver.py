"""A warm process that forks SLs on request: 64 of them cost a second of imports once, and its memory once.

``python -m benchmarks.forkserver SOCKET`` serves one client, which writes a line of JSON per process (``name``,
``argvs``, ``log``, ``environment``) and reads one for each that is ready (``name``, ``pid``, ``ready``) or has ended
(``exit``). What runs in a fork is ``swarm`` with its own command line; where there are several, they are SLs, side by
side in one event loop. All end with the fork server.
"""

import asyncio
import gc
import importlib
import json
import os
import selectors
import signal
import socket
import sys
import traceback
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from services.cli.main import main as swarm
from services.runtime.ready import READY_FD_VARIABLE, ReadySocket

if TYPE_CHECKING:
    from services.sl.settings import SLSettings

WARM = ("services.cli.nodes", "services.runtime.process", "services.sl.main", "services.sl.settings")
SET_BY_IMPORT = "GRPC_SSL_CIPHER_SUITES"  # by `import services`, which a fork does not repeat


class Nursery:
    """Single-threaded, and it starts nothing that a fork could not stand."""

    def __init__(self, client: socket.socket) -> None:
        self._client = client
        self._selector = selectors.DefaultSelector()
        self._lines: dict[int, socket.socket] = {}
        self._unread = b""

    def serve(self) -> None:
        """Until the client has gone; then its nodes are told to stop, and waited for."""
        self._selector.register(self._client, selectors.EVENT_READ, self._command)
        while self._client.fileno() >= 0:
            for key, _ in self._selector.select():
                key.data()
        for pid in self._lines:
            os.kill(pid, signal.SIGTERM)
        for pid in self._lines:
            os.waitpid(pid, 0)

    def _command(self) -> None:
        data = self._client.recv(1 << 16)
        if not data:
            self._selector.unregister(self._client)
            self._client.close()
            return
        *lines, self._unread = (self._unread + data).split(b"\n")
        for line in lines:
            self._fork(json.loads(line))

    def _fork(self, wanted: dict[str, Any]) -> None:
        ours, theirs = socket.socketpair()
        pid = os.fork()
        if pid == 0:
            for other in (ours, self._client, *self._lines.values()):
                other.close()
            _become(wanted, theirs)
        theirs.close()
        self._lines[pid] = ours
        self._selector.register(ours, selectors.EVENT_READ, lambda: self._heard(wanted["name"], pid, ours))

    def _heard(self, name: str, pid: int, line: socket.socket) -> None:
        """The one line of a node that is ready, or its end."""
        said = line.recv(4096)
        if said:
            self._tell(name=name, pid=pid, ready=json.loads(said))
            return
        self._selector.unregister(line)
        _, status = os.waitpid(pid, 0)
        del self._lines[pid]
        line.close()
        self._tell(name=name, pid=pid, exit=os.waitstatus_to_exitcode(status))

    def _tell(self, **facts: object) -> None:
        self._client.sendall(json.dumps(facts).encode() + b"\n")


def _become(wanted: dict[str, Any], ready: socket.socket) -> None:
    """Never returns."""
    code = 70
    try:
        os.setsid()
        _redirect(Path(wanted["log"]))
        kept = os.environ[SET_BY_IMPORT]
        os.environ.clear()
        os.environ.update({**wanted["environment"], SET_BY_IMPORT: kept, READY_FD_VARIABLE: str(ready.detach())})
        argvs = wanted["argvs"]
        code = swarm(argvs[0]) if len(argvs) == 1 else _side_by_side(argvs)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


class _AllReady(ReadySocket):
    """Of several SLs of one process: the last that is ready says so for all."""

    def __init__(self, count: int, line: ReadySocket) -> None:
        self.health = line.health
        self._left = count
        self._line = line

    def report(self, **facts: Any) -> None:
        self._left -= 1
        if not self._left:
            self._line.report(**facts)


def _side_by_side(argvs: Sequence[Sequence[str]]) -> int:
    """SLs, each with the arguments that ``swarm`` would get: ``sl``, then options that have a value."""
    from services.runtime.process import run_node  # noqa: PLC0415 - loaded by now
    from services.sl.settings import SLSettings  # noqa: PLC0415

    options = [zip(argv[1::2], argv[2::2], strict=True) for argv in argvs]
    flags = [{name.removeprefix("--").replace("-", "_"): value for name, value in given} for given in options]
    return run_node(partial(_run, [SLSettings.load("sl", given) for given in flags]))


async def _run(all_of_them: Sequence["SLSettings"], stop: asyncio.Event, ready: ReadySocket) -> None:
    from services.sl.main import main as sl  # noqa: PLC0415

    together = _AllReady(len(all_of_them), ready)
    async with asyncio.TaskGroup() as group:
        for settings in all_of_them:
            group.create_task(sl(settings, stop, together))


def _redirect(log: Path) -> None:
    log.parent.mkdir(parents=True, exist_ok=True)
    output = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    for descriptor in (1, 2):
        os.dup2(output, descriptor)
    os.close(output)


def main() -> None:
    starter = ReadySocket()
    for module in WARM:
        importlib.import_module(module)
    gc.collect()
    gc.freeze()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(sys.argv[1])
        listener.listen(1)
        starter.report()
        client, _ = listener.accept()
    Nursery(client).serve()


if __name__ == "__main__":
    main()

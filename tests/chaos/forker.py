"""A warm process that forks nodes and programs on request: a start costs milliseconds, not a second of imports.

What runs in a fork is what runs elsewhere: `swarm` with its own command line, or the training program. Two things are
added around it: a fork may move into a network namespace first, and its log may spring traps (benchmarks.log_traps).
"""

import contextlib
import ctypes
import gc
import importlib
import json
import os
import selectors
import signal
import socket
import sys
import traceback
from dataclasses import asdict, dataclass, field
from pathlib import Path

from services.runtime.ready import READY_FD_VARIABLE, ReadySocket

SUITES = "GRPC_SSL_CIPHER_SUITES"
CLONE_NEWNET = 0x40000000
PRELOADED = (
    "services.cli.main", "services.cli.nodes", "services.license_server.main", "services.license_server.settings",
    "services.sl.main", "services.sl.settings", "services.sn.main", "services.sn.settings", "services.chain.geth",
    "tests.chaos.trainer",
)  # fmt: skip


@dataclass(frozen=True)
class Fork:
    """What to run. ``call``: ``module:function``, called with ``argv``, gives the exit code.

    ``before``: another ``module:function``, called first without arguments. ``traps``: the directory of the traps
    that its log may spring; empty for none.
    """

    name: str
    call: str
    argv: list[str]
    log: str
    environment: dict[str, str] = field(default_factory=dict)
    namespace: str = ""
    traps: str = ""
    before: str = ""


def main(path: str) -> None:
    """Serves one controller, which connects to ``path``; ends with it, and its children with their ready sockets."""
    ready = ReadySocket()
    for module in PRELOADED:
        importlib.import_module(module)
    gc.collect()
    gc.freeze()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen(1)
        ready.report()
        control, _ = listener.accept()
    forker = _Forker(control)
    try:
        forker.serve()
    finally:
        forker.end_children()


class _Forker:
    """Single-threaded, and it starts nothing that a fork could not stand."""

    def __init__(self, control: socket.socket) -> None:
        self._control = control
        self._selector = selectors.DefaultSelector()
        self._ready: dict[int, socket.socket] = {}
        self._unread = b""
        self._wake, wake = socket.socketpair()
        for end in (self._wake, wake):
            end.setblocking(False)
        self._wake_end = wake
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(wake.fileno(), warn_on_full_buffer=False)

    def serve(self) -> None:
        self._selector.register(self._control, selectors.EVENT_READ, self._command)
        self._selector.register(self._wake, selectors.EVENT_READ, self._children)
        while True:
            for key, _ in self._selector.select():
                if not key.data():
                    return

    def end_children(self) -> None:
        """Also those that are stopped and would never notice that they are alone."""
        for pid in self._ready:
            _signal(pid, signal.SIGKILL, alone=False)

    def _tell(self, **facts: object) -> None:
        self._control.sendall(json.dumps(facts).encode() + b"\n")

    def _command(self) -> bool:
        data = self._control.recv(1 << 16)
        if not data:
            return False
        *lines, self._unread = (self._unread + data).split(b"\n")
        for line in lines:
            request = json.loads(line)
            if "fork" in request:
                self._fork(request["id"], Fork(**request["fork"]))
            elif request["pid"] in self._ready:  # it has not been reaped: the number is still its own
                _signal(request["pid"], request["signal"], request["alone"])
        return True

    def _fork(self, number: int, wanted: Fork) -> None:
        ours, theirs = socket.socketpair()
        pid = os.fork()
        if pid == 0:
            _become(wanted, theirs, [ours, self._control, self._wake, self._wake_end, *self._ready.values()])
        theirs.close()
        self._ready[pid] = ours
        self._selector.register(ours, selectors.EVENT_READ, lambda: self._heard(pid, ours))
        self._tell(id=number, pid=pid)

    def _heard(self, pid: int, end: socket.socket) -> bool:
        if end.fileno() < 0:  # its child has ended, and was found to in the same turn
            return True
        line = end.recv(4096)
        self._selector.unregister(end)
        if line:
            self._tell(pid=pid, ready=json.loads(line))
        return True

    def _children(self) -> bool:
        self._wake.recv(4096)
        while self._ready:
            pid, status = os.waitpid(-1, os.WNOHANG | os.WUNTRACED)
            if pid == 0:
                break
            if os.WIFSTOPPED(status):
                self._tell(pid=pid, stopped=True)
                continue
            end = self._ready.pop(pid)
            if end in self._selector.get_map():
                self._heard_last(pid, end)
            end.close()
            self._tell(pid=pid, exit=os.waitstatus_to_exitcode(status))
        return True

    def _heard_last(self, pid: int, end: socket.socket) -> None:
        end.setblocking(False)
        try:
            self._heard(pid, end)
        except BlockingIOError:
            self._selector.unregister(end)


def _signal(pid: int, number: int, alone: bool) -> None:
    """To a child, or to the group that it makes when it begins. It has not been reaped: its number is its own."""
    if not alone:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(pid, number)
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def _become(wanted: Fork, ready: socket.socket, others: list[socket.socket]) -> None:
    """Never returns."""
    code = 70
    try:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        for other in others:
            other.close()
        os.setsid()
        _redirect(Path(wanted.log))
        set_by_import = {SUITES: os.environ[SUITES]}  # by `import services`, which is not repeated here
        os.environ.clear()
        os.environ.update(wanted.environment | set_by_import)
        os.environ[READY_FD_VARIABLE] = str(ready.detach())
        if wanted.namespace:
            _enter_namespace(wanted.namespace)
        if wanted.traps:
            from benchmarks.log_traps import TrapStream

            sys.stdout = TrapStream(wanted.name, Path(wanted.traps), sys.stdout)  # type: ignore[assignment]
        if wanted.before:
            _function(wanted.before)()
        sys.argv = [wanted.name, *wanted.argv]
        code = _function(wanted.call)(wanted.argv)
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code or 0)


def _redirect(log: Path) -> None:
    log.parent.mkdir(parents=True, exist_ok=True)
    output = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.dup2(output, 1)
    os.dup2(output, 2)
    os.close(nothing)
    os.close(output)
    sys.stdout = open(1, "w", buffering=1, closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", buffering=1, closefd=False)  # noqa: SIM115


def _enter_namespace(name: str) -> None:
    descriptor = os.open(f"/var/run/netns/{name}", os.O_RDONLY | os.O_CLOEXEC)
    if ctypes.CDLL(None, use_errno=True).setns(descriptor, CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), f"cannot enter the network namespace {name}")
    os.close(descriptor)


def _function(dotted: str):  # type: ignore[no-untyped-def]
    module, name = dotted.split(":")
    return getattr(importlib.import_module(module), name)


def request_of(number: int, wanted: Fork) -> bytes:
    """What the controller sends."""
    return json.dumps({"id": number, "fork": asdict(wanted)}).encode() + b"\n"


if __name__ == "__main__":
    main(sys.argv[1])

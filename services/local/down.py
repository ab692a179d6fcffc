"""`swarm down`: stops the swarm of a directory, and only processes that `swarm up` started."""

import contextlib
import os
import select
import signal
from pathlib import Path

from services.local.plan import STAGES
from services.local.process import KILLED_WITHIN_S, STOP_WITHIN_S, TASKS_END_WITHIN_S
from services.local.state import Running, SwarmState
from services.runtime.pidfd import open_pid

# It ends the tasks of its SWOPs, then stops its children one role after the other.
SUPERVISOR_WITHIN_S = TASKS_END_WITHIN_S + len(STAGES) * (STOP_WITHIN_S + KILLED_WITHIN_S)


def down(directory: Path) -> list[str]:
    """Stops what runs there and returns the names, in the order in which the processes ended.

    `swarm up` itself stops its children in order; if it is gone, they are stopped from here, the last one started
    first. Raises NotRunning if nothing runs.
    """
    state = SwarmState.read(directory)
    running = [process for process in reversed(state.processes) if process.alive]
    stopped: list[str] = []
    if state.supervisor.alive:
        _stop(state.supervisor, SUPERVISOR_WITHIN_S)
        stopped = [process.name for process in running if not process.alive]
    for process in running:
        if process.alive:
            _stop(process, STOP_WITHIN_S)
            stopped.append(process.name)
    SwarmState.forget(directory)
    return stopped


def _stop(process: Running, within_s: float) -> None:
    """TERM, wait, KILL; through a descriptor, which cannot come to refer to another process meanwhile."""
    with contextlib.suppress(ProcessLookupError):
        descriptor = open_pid(process.pid)
        try:
            if not process.alive:
                return
            signal.pidfd_send_signal(descriptor, signal.SIGTERM)
            if not _ended(descriptor, within_s):
                signal.pidfd_send_signal(descriptor, signal.SIGKILL)
                _ended(descriptor, KILLED_WITHIN_S)
        finally:
            os.close(descriptor)


def _ended(descriptor: int, within_s: float) -> bool:
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    return bool(poll.poll(within_s * 1000))

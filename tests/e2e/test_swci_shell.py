"""The shell of SWCI as a person at a terminal has it, in a swarm with a SWOP."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from swop_swarm import HOST, SwopSwarm, swop_swarm
from terminal_session import CTRL_C, CTRL_U, UP, TerminalSession

from services.local.plan import CODE_ROOT
from services.local.process import node_environment
from services.local.swops import RUNNER
from services.rpc import swarm_pb2 as pb

Sessions = Callable[[], TerminalSession]


@pytest.fixture
async def swarm(pki: Any, tmp_path: Path) -> AsyncIterator[SwopSwarm]:
    async with swop_swarm(pki, tmp_path) as running:
        await running.swop("swop-1", "sl-1")
        yield running


@pytest.fixture
async def sessions(swarm: SwopSwarm, pki: Any) -> AsyncIterator[Sessions]:
    """One after the other, of one person."""
    files = pki.issue("swci", "swci-2")
    async with contextlib.AsyncExitStack() as stack:

        def begin() -> TerminalSession:
            argv = swarm.swci_command(files, "--sn-ip", HOST, "--sn-api-port", str(swarm.sn_port))
            session = TerminalSession(argv, node_environment(), CODE_ROOT)
            stack.push_async_callback(session.close)
            session.shows(prompt(0))
            return session

        yield begin


def prompt(executed: int) -> str:
    """As it comes: the space behind it is a movement of the cursor."""
    return f"SWCI:{executed} >"


async def test_a_person_is_helped_to_commands_and_to_names_of_the_swarm(swarm: SwopSwarm, sessions: Sessions) -> None:
    task = await swarm.run("forever", count=1)
    await swarm.assign(task)
    await swarm.until(lambda now: [peer.state for peer in now.peers] == [pb.PEER_RUNNING])
    (swarm.usr / "two words").mkdir()

    def types() -> None:
        shell = sessions()
        shell.completes("li", "LIST")
        shell.completes(" nod", "NODES")
        shell.enter("", "swop-1", prompt(1))
        shell.completes("get contract status def", "aultbb.cqdb.sml.hpe")
        shell.enter("", "STATE", prompt(2))
        shell.completes("get task info ta", "sk-")  # and shows that there are two
        shell.enter(task[-1], "RUN_SWARM", prompt(3))
        shell.completes(f"get taskrunner peer status {RUNNER} sl", "-1")
        shell.enter("", "SWOP_PEER_STATUS", "RUNNING", prompt(4))
        shell.completes(f"assign task {task} to {RUNNER} target sw", "op-1")
        shell.type(CTRL_U)
        shell.completes("cd two", 'two words/"')
        shell.enter("", "/platform/swarm/usr/two words", prompt(5))

    await asyncio.to_thread(types)


async def test_a_session_at_a_terminal(swarm: SwopSwarm, sessions: Sessions) -> None:
    def types() -> None:
        shell = sessions()
        shell.enter("# a remark", prompt(0))
        shell.enter("", prompt(0))
        shell.enter("PWD", "    /platform/swarm/usr", prompt(1))
        shell.enter("cd app", "    /platform/swarm/usr/app", prompt(2))
        shell.enter("ls", "    train.py", prompt(3))
        shell.enter("help wait for ip", "    WAIT FOR IP <ip> [port] [retries]", prompt(4))
        shell.enter("LITS NODES", "    ERROR : ", "Did you mean LIST NODES?", prompt(4))
        shell.enter("get task info none", "    ERROR : ", "There is no task none", prompt(4))
        shell.type("LIST NOD" + CTRL_C)
        shell.shows(prompt(4))
        shell.enter("exit on failure", "EXIT ON FAILURE IS TURNED ON", prompt(5))
        shell.enter("get task info none", "There is no task none")
        assert shell.ends() != 0
        again = sessions()
        again.type(UP)
        again.shows("get task info none")
        again.type(UP)
        again.shows("exit on failure")
        again.type(CTRL_U)
        again.enter("exit")
        assert again.ends() == 0

    await asyncio.to_thread(types)


async def test_ctrl_c_ends_a_wait_and_neither_the_task_nor_the_shell(swarm: SwopSwarm, sessions: Sessions) -> None:
    await swarm.assign(await swarm.run("forever", count=1))

    def types() -> None:
        shell = sessions()
        shell.enter("exit on failure", prompt(1))
        shell.enter(f"wait for taskrunner {RUNNER}", "Maximum wait time is : 120 mins", "# sl-1 : RUNNING")
        shell.type(CTRL_C)
        shell.shows("Interrupted.", prompt(1))
        shell.enter("wait for ip 127.0.0.1 1", "WAITING FOR API SERVER")
        shell.type(CTRL_C)
        shell.shows("Interrupted.", prompt(1))
        shell.enter(f"get taskrunner status {RUNNER}", "TASK STATE", "RUNNING", prompt(2))
        shell.enter(f"reset taskrunner {RUNNER}", "TASKRUNNER RESET", prompt(3))
        shell.enter("exit")
        assert shell.ends() == 0

    await asyncio.to_thread(types)

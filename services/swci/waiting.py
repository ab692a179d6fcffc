"""Waits for the end of a task by its taskrunner's stream: without polling, and with regular messages."""

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Iterator

from services.errors import TaskFailed, TaskTakenAway, WaitedInVain
from services.rpc.client import SNClient
from services.swci import translation
from services.swci.following import follow
from services.swci.session import WaitLimits
from services.swci.wording import age, lines_of, moment
from swarmlearning.swci import models

RUN_SETTING = "SWCI_RUN_TASK_MAX_WAIT_TIME"
GENERIC_SETTING = "SWCI_GENERIC_TASK_MAX_WAIT_TIME"
OVER = ("COMPLETE", "ERROR")

SIGN_OF_LIFE_S = 30.0  # how often a wait says something if nothing happens

Say = Callable[[str], None]
Status = models.TaskRunnerStatus


async def states(client: SNClient, name: str, say: Say, seen: int = 0) -> AsyncGenerator[Status]:
    """Yields the state of a taskrunner now, then after each change. Raises as ``follow`` does."""
    followed = follow(lambda newest: client.watch_runner(name, newest), client.address, say, seen)
    try:
        async for status in followed:
            yield translation.runner_status(status)
    finally:
        await followed.aclose()


class WaitForRunner:
    """One WAIT FOR TASKRUNNER."""

    def __init__(self, client: SNClient, name: str, limits: WaitLimits, say: Say) -> None:
        self._states = states(client, name, say)
        self._limits = limits
        self._say = say
        self._told: dict[tuple[str, int], str] = {}

    async def until_over(self) -> Status:
        """The state when the task is over; a taskrunner without a task counts as over.

        Raises TaskFailed with the failing peers' reasons and last output, TaskTakenAway, WaitedInVain after the limit,
        and the SN's errors.
        """
        try:
            return await self._until_over(await anext(self._states))
        finally:
            await self._states.aclose()

    async def _until_over(self, first: Status) -> Status:
        if first.state == "IDLE":
            return first
        self._newest = first
        minutes, setting = _limit(first, self._limits)
        if first.state not in OVER:
            self._say(f"WAITING FOR TASKRUNNER TO COMPLETE - Maximum wait time is : {minutes:g} mins")
        try:
            async with asyncio.timeout(minutes * 60):
                return await self._end_of(first)
        except TimeoutError:
            what = f"The task {first.task} has not ended"
            told = "; ".join(_states(self._newest)) or "no peer has enrolled yet"
            raise WaitedInVain(what=what, limit=f"{minutes:g} min", states=told, setting=setting) from None

    async def _end_of(self, first: Status) -> Status:
        began = time.monotonic()
        while True:
            status = self._newest
            if status.assignment != first.assignment or status.state == "IDLE":
                raise TaskTakenAway(taskrunner=first.name, task=first.task)
            self._tell(status)
            if status.state in OVER:
                return self._ended(status)
            self._newest = await _next_or_sign_of_life(self._states, _summary(status), began, self._say)

    def _ended(self, status: Status) -> Status:
        """Raises TaskFailed."""
        if status.state != "ERROR":
            return status
        for line in finished(status):
            self._say(line)
        reasons = "; ".join(_failures(status)) or "fewer peers than needed can complete it"
        raise TaskFailed(task=status.task, taskrunner=status.name, reasons=reasons)

    def _tell(self, status: Status) -> None:
        """Says what is new about each peer."""
        for peer in status.peers:
            first = next(iter(lines_of(peer.description)), "")
            news = f"{peer.uid} : {peer.state}" + (f" : {first}" if first else "")
            who = (peer.agent, peer.agent_index)
            if self._told.get(who) != news:
                self._told[who] = news
                self._say(f"# {news}")


class WaitForRelease:
    """After a reset, waits until the taskrunner's SWOPs have removed what they started."""

    def __init__(self, client: SNClient, name: str, limits: WaitLimits, say: Say) -> None:
        self._states = states(client, name, say)
        self._limits = limits
        self._say = say

    async def until_released(self) -> Status:
        """The state then, or once another task is assigned. Does not wait for SWOPs that are away.

        Raises WaitedInVain after the limit, and the SN's errors.
        """
        try:
            return await self._until_released(await anext(self._states))
        finally:
            await self._states.aclose()

    async def _until_released(self, first: Status) -> Status:
        self._newest = first
        minutes = self._limits.generic_task_min
        try:
            async with asyncio.timeout(minutes * 60):
                last = await self._released(first)
        except TimeoutError:
            what, told = f"What was started by {first.name} is not all removed", _removing(self._newest)
            limit = f"{minutes:g} min"
            raise WaitedInVain(what=what, limit=limit, states=told, setting=GENERIC_SETTING) from None
        if last.assignment == first.assignment and (away := [it.uid for it in last.agents if _owes(it)]):
            self._say(f"# {', '.join(away)} : away, removing what was started when back")
        return last

    async def _released(self, first: Status) -> Status:
        began, told = time.monotonic(), ""
        while self._newest.assignment == first.assignment and (removing := _removing(self._newest)):
            if removing != told:
                self._say(f"# {removing}")
                told = removing
            self._newest = await _next_or_sign_of_life(self._states, removing, began, self._say)
        return self._newest


async def _next_or_sign_of_life(following: AsyncGenerator[Status], known: str, began: float, say: Say) -> Status:
    """The next state. Meanwhile says now and then that the wait goes on, and what is ``known``."""
    coming = asyncio.ensure_future(anext(following))
    try:
        while True:
            done, _ = await asyncio.wait({coming}, timeout=SIGN_OF_LIFE_S)
            if done:
                return coming.result()
            say(f"# {age(time.monotonic() - began)} : {known}")
    finally:
        coming.cancel()
        await asyncio.gather(coming, return_exceptions=True)


def _removing(status: Status) -> str:
    """The present SWOPs that are still removing what they started, in words; empty if none."""
    there = [agent.uid for agent in status.agents if _owes(agent) and agent.present]
    return f"{', '.join(there)} : removing what was started" if there else ""


def _owes(agent: models.Agent) -> bool:
    return agent.enrolled and not agent.released


def _limit(status: Status, limits: WaitLimits) -> tuple[float, str]:
    if status.task_type == translation.RUN_SWARM:
        return limits.run_task_min, RUN_SETTING
    return limits.generic_task_min, GENERIC_SETTING


def finished(status: Status) -> list[str]:
    """The lines about a task that is over."""
    took = max(0.0, status.ended_at - (status.assigned_at or status.ended_at))
    return ["TASKRUNNER FINISHED", f"STATE : {status.state}", f"TIME : {took:.1f} s, ended {moment(status.ended_at)}"]


def _failures(status: Status) -> Iterator[str]:
    for peer in status.peers:
        if peer.state == "ERROR":
            said = "\n".join(lines_of(peer.description)).removesuffix(".") or "it gave no reason"
            who = peer.agent if peer.uid == peer.agent else f"{peer.uid} of {peer.agent}"
            yield f"peer {peer.index}, {who}: {said}"


def _states(status: Status) -> Iterator[str]:
    enrolled = {peer.agent for peer in status.peers}
    for peer in status.peers:
        first = next(iter(lines_of(peer.description)), "")
        yield f"{peer.uid} is {peer.state}" + (f" ({first})" if first else "")
    for agent in status.agents:
        if agent.attends and agent.uid not in enrolled:
            yield f"{agent.uid} has not enrolled" + ("" if agent.present else " and is away")


def _summary(status: Status) -> str:
    done = f"{status.peers_completed} of {status.peers_needed} peers completed"
    return f"{status.state}, {done}, {status.peers_active} active, {status.peers_failed} failed"

"""Tasks and taskrunners, as this SN serves them: views follow the chain, watchers follow the views."""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable

from services.chain.network import ContractEntry
from services.chain.runner import TaskRunnerGateway
from services.chain.task_events import AgentAttended, RunnerEvent, RunnerReset
from services.chain.tasks import TaskRegistryGateway
from services.errors import ChainError, UnknownRunner
from services.rpc import swarm_pb2 as pb
from services.runtime import logs
from services.runtime.background import Background
from services.sn.broadcast import Broadcast
from services.sn.directory import RUNNER_KIND, TASKS_KIND
from services.sn.liveness import LOST
from services.sn.membership import Membership
from services.sn.runner_status import runner_status
from services.sn.runner_view import RunnerView
from services.sn.task_book import TaskBook

ROLE = "swop"

_log = logs.get("sn")


class NotATaskrunner(Exception):
    """A contract's events make no taskrunner: it is entered in the directory as one, but is something else."""


def now_ms() -> int:
    """Milliseconds since 1970, the unit of times in the contracts for tasks."""
    return int(time.time() * 1000)


class LiveRunner:
    """One taskrunner. Handlers write through ``gateway``; the outcome arrives as events of the chain.

    A SWOP that this SN looks after (``is_ours``) and that holds no stream for ``grace_s`` no longer attends. A busy
    SWOP may come back to its work until the taskrunner is reset.
    """

    def __init__(
        self,
        name: str,
        gateway: TaskRunnerGateway,
        background: Background,
        *,
        grace_s: float,
        membership: Membership,
        is_ours: Callable[[str], bool],
    ) -> None:
        self.gateway = gateway
        self.view = RunnerView(name, gateway.address)
        self._background = background
        self._grace_s = grace_s
        self._membership = membership
        self._is_ours = is_ours
        self._streams: Counter[str] = Counter()
        self._giving_up: dict[str, asyncio.TimerHandle] = {}
        self._given_up: set[str] = set()  # being written to the chain: none of them counts, even if it is back
        self._broadcast = Broadcast(self.view, lambda: self.status().SerializeToString())
        self._stopped = False
        self.makes_sense = True  # as far as the contract's events tell

    async def open(self) -> None:
        """Replays all events so far; from then on the view follows the chain. Raises NotATaskrunner."""
        async for page in self.gateway.history():
            for event in page:
                self._fold(event)
        self._background.run(self._follow(), f"following {self.view.runner}", vital=True)
        self.follow_members()

    def follow_members(self) -> None:
        """This SN may look after other SWOPs now."""
        self._watch_over_all()
        if self.view.agents:
            self._moved()

    def end_streams(self) -> None:
        self._stopped = True
        for timer in self._giving_up.values():
            timer.cancel()
        self._broadcast.close()

    def status(self) -> pb.RunnerStatus:
        return runner_status(self.view, self.is_present, self._last_seen)

    async def status_at(self, block: int) -> pb.RunnerStatus:
        """The state with everything up to and including ``block``."""
        await self._broadcast.until(block)
        return self.status()

    def watch(self, seen: int) -> AsyncIterator[bytes]:
        """Serialised states; see Broadcast.states."""
        return self._broadcast.states(seen)

    def is_present(self, name: str) -> bool:
        """Whether a SWOP attends and holds a stream; if another SN looks after it, whether it attends."""
        agent = self.view.agents.get(name)
        if agent is None or not agent.attends or name in self._given_up:
            return False
        return bool(self._streams[name]) or not self._is_ours(name)

    def stream_opened(self, name: str) -> None:
        self._streams[name] += 1
        if (timer := self._giving_up.pop(name, None)) is not None:
            timer.cancel()
        self._moved()

    def stream_closed(self, name: str) -> None:
        self._streams[name] -= 1
        self._watch_over(name)
        self._moved()

    def _watch_over_all(self) -> None:
        for name in self.view.agents:
            self._watch_over(name)

    def _watch_over(self, name: str) -> None:
        """Gives up a SWOP that does not open a stream within the grace period."""
        if name not in self._giving_up and self._is_missing(name):
            self._giving_up[name] = asyncio.get_running_loop().call_later(self._grace_s, self._give_up, name)

    def _is_missing(self, name: str) -> bool:
        """Whether it must be given up unless it comes back."""
        agent = self.view.agents.get(name)
        if self._stopped or agent is None or not agent.attends or self.view.is_busy(name):
            return False
        return not self._streams[name] and self._is_ours(name)

    def _give_up(self, name: str) -> None:
        del self._giving_up[name]
        if not self._is_missing(name):  # it has moved to another SN, or is busy now
            return
        _log.warning("SWOP lost", name=name, runner=self.view.runner)
        self._given_up.add(name)
        self._background.run(self._quit(name), f"giving up {name}")

    async def _quit(self, name: str) -> None:
        try:
            await self.gateway.quit(name, LOST, now_ms())
        except BaseException:
            self._given_up.discard(name)
            self._moved()
            raise
        self._forget_given_up()

    def _forget_given_up(self) -> None:
        """Forgets those that the view already shows as not attending: one that comes back attends again, and counts."""
        self._given_up = {name for name in self._given_up if self.view.agents[name].attends}

    def _last_seen(self, name: str) -> float:
        return time.time() if self._streams[name] else self._membership.last_heard.get((ROLE, name), 0.0)

    def _moved(self) -> None:
        if not self._stopped:
            self.view.touch()
            self._broadcast.wake()

    async def _follow(self) -> None:
        try:
            await self._take_events()
        except NotATaskrunner as error:
            facts = {"runner": self.view.runner, "location": self.view.location}
            _log.error("a contract in the directory is not a taskrunner", **facts, why=str(error))
            self.makes_sense = False
            self.end_streams()

    def _fold(self, event: RunnerEvent) -> bool:
        """Raises NotATaskrunner."""
        try:
            return self.view.apply(event)
        except Exception as error:
            raise NotATaskrunner(f"{type(event).__name__} is not possible there: {error!r}") from error

    async def _take_events(self) -> None:
        async for event in self.gateway.follow(max(0, self.view.position.block)):
            if self._fold(event):
                self._forget_given_up()
                _log.info(type(event).__name__, runner=self.view.runner, state=self.view.state.name)
                self._broadcast.wake()
            if isinstance(event, AgentAttended | RunnerReset):  # a busy SWOP may be free now
                self._watch_over_all()
        if not self._stopped:
            raise ChainError(problem="its events ended", log="the log of this node")


class TaskRunners:
    """All taskrunners by name, and the tasks. ``runner`` makes a LiveRunner that is not open yet."""

    def __init__(self, runner: Callable[[ContractEntry], LiveRunner], background: Background) -> None:
        self.book = TaskBook()
        self._runner = runner
        self._background = background
        self._runners: dict[str, LiveRunner] = {}
        self._registry: TaskRegistryGateway | None = None
        self._folded = asyncio.Event()
        self._stopped = False

    @property
    def registry(self) -> TaskRegistryGateway:
        """Raises ChainError if the directory has none yet."""
        if self._registry is None:
            raise ChainError(problem="the directory has no task registry yet", log="the log of this node")
        return self._registry

    @property
    def names(self) -> list[str]:
        return list(self._runners)

    def named(self, name: str) -> LiveRunner:
        """Raises UnknownRunner with the known names."""
        runner = self._runners.get(name)
        if runner is None or not runner.makes_sense:
            raise UnknownRunner(name=name or "''", known=", ".join(self._runners))
        return runner

    async def enter(self, entry: ContractEntry, make_registry: Callable[[str], TaskRegistryGateway]) -> None:
        """Follows a contract of the directory, if it is a taskrunner or the task registry."""
        if entry.kind == RUNNER_KIND:
            runner = self._runner(entry)
            try:
                await runner.open()
            except NotATaskrunner as error:
                facts = {"runner": entry.name, "location": entry.location}
                _log.error("a contract in the directory is not a taskrunner", **facts, why=str(error))
                return
            self._runners[entry.name] = runner
        elif entry.kind == TASKS_KIND and self._registry is None:
            registry = make_registry(entry.location)
            async for page in registry.history():
                for event in page:
                    self.book.apply(event)
            self._registry = registry
            self._background.run(self._follow(registry), "following the tasks", vital=True)

    async def until(self, block: int) -> None:
        """Returns once the events of this block are in the book."""
        while self.book.position.block < block and not self._stopped:
            await self._folded.wait()

    def follow_members(self) -> None:
        for runner in self._runners.values():
            runner.follow_members()

    def end_streams(self) -> None:
        self._stopped = True
        self._folded.set()
        for runner in self._runners.values():
            runner.end_streams()

    async def _follow(self, registry: TaskRegistryGateway) -> None:
        async for event in registry.follow(max(0, self.book.position.block)):
            self.book.apply(event)
            self._folded.set()
            self._folded = asyncio.Event()
        if not self._stopped:
            raise ChainError(problem="its events ended", log="the log of this node")

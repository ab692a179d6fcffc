"""The traffic of a run: one training of its own, SLs and their programs, and everything that is seen of it."""

import asyncio
import contextlib
import fcntl
import json
import os
import sys
import termios
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from benchmarks.log_traps import Trap
from services.chain.rpc import ConnectionLost
from services.errors import NetworkError, SwarmError, UnknownContract
from services.local.process import Launch
from services.rpc import swarm_pb2 as pb
from services.rpc.client import SNClient
from tests.chaos import disk, liar
from tests.chaos.history import Diary, Event, Exit, History, Seen
from tests.chaos.ledger import events_on_chain
from tests.chaos.nodes import Node, Shape
from tests.chaos.processes import Process
from tests.chaos.world import World
from tests.pacing import pause

ROUND_WITHIN_S = 30.0  # nothing in a healthy round takes longer, whatever else these two cores do
TRAP_WITHIN_S = 20.0
END_WITHIN_S = 40.0
RECONNECT_S = 0.1
CAUGHT_UP_WITHIN_S = 30.0
HALF_WRITTEN_BYTES = 256 * 1024


class Stuck(Exception):
    """What was waited for did not come: the end of the run, and a violation."""


@dataclass
class Pair:
    """An SL and its program. ``expected_exit``: its end is not held against it."""

    node: Node
    launches: tuple[Launch, Launch]
    sl: Process
    ml: Process
    expected_exit: bool = False

    @property
    def name(self) -> str:
        return self.node.name

    @property
    def alive(self) -> bool:
        return self.sl.alive and self.ml.alive


async def _happens(holds: Callable[[], bool], what: str) -> None:
    """For what can only be asked about: files, and how full a pipe is."""
    deadline = time.monotonic() + TRAP_WITHIN_S
    while not holds():
        if time.monotonic() > deadline:
            raise Stuck(f"{what} did not come within {TRAP_WITHIN_S:g} s")
        await pause(0.01)


def _waiting_in(pipe: int) -> int:
    """Bytes written and not read."""
    count = bytearray(4)
    fcntl.ioctl(pipe, termios.FIONREAD, count)
    return int.from_bytes(count, sys.byteorder)


@dataclass
class Traffic:
    """One run. Methods raise Stuck where the training does not do what it must."""

    world: World
    directory: Path
    contract: str
    shape: Shape
    seed: int
    history: History
    pairs: dict[str, Pair] = field(default_factory=dict)
    traps: Path = field(init=False)
    _watching: list[asyncio.Task[None]] = field(default_factory=list)
    _news: asyncio.Event = field(default_factory=asyncio.Event)
    _location: str = ""
    _began: float = field(default_factory=time.monotonic)

    def __post_init__(self) -> None:
        self.traps = self.directory / "traps"
        self.traps.mkdir(parents=True)
        self.history.min_peers = self.shape.min_peers

    # --- life ------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Makes the contract, starts all nodes; returns when all SLs are ready."""
        sn = self.world.sns[0]
        async with self.world.client(sn) as client:
            reply = await client.admin.CreateContract(pb.CreateContractRequest(name=self.contract))
        self._location = reply.location
        self._watching = [asyncio.create_task(self._watch(name)) for name in self.world.sns]
        names = [f"{self.contract}-{number + 1}" for number in range(self.shape.nodes)]
        self.history.nodes = names
        await asyncio.gather(*(self.add(name, number) for number, name in enumerate(names)))

    async def add(self, name: str, number: int, **changes: object) -> Pair:
        """Another node, from scratch. ``changes``: of the settings of its program."""
        sns = self.world.sns
        node = Node(name, number, self.contract, sns[number % len(sns)], self.directory, self.shape, self.seed)
        node.prepare()
        return await self._start(node, (node.sl(self.world, self.traps), node.program(**changes)))

    async def restart(self, name: str) -> Pair:
        """The same node again, on its own data, after both its processes have ended."""
        pair = self.pairs[name]
        for process in (pair.sl, pair.ml):
            if await process.wait(END_WITHIN_S) is None:
                raise Stuck(f"{process.name} did not end:\n{process.tail()}")
        self._note_exits(pair)
        return await self._start(pair.node, pair.launches)

    async def finish(self) -> None:
        """Lets every program come to its end; returns when all processes have ended.

        A node that a fault kept from enrolling comes in first: the others would else end the training without it.
        """
        await self.all_take_part()
        (self.directory / "finish").touch()
        for pair in self.pairs.values():
            for process in (pair.ml, pair.sl):
                if await process.wait(END_WITHIN_S) is None and not pair.expected_exit:
                    raise Stuck(f"{process.name} did not end when the training was over:\n{process.tail()}")

    async def close(self) -> None:
        """Whatever happened: nothing of this run stays, and all that is known of it is in the history."""
        for pair in list(self.pairs.values()):
            for process in (pair.ml, pair.sl):
                if process.alive:
                    pair.expected_exit = True
                    process.kill()
                    await process.wait(10.0)
            self._note_exits(pair)
            disk.remove(pair.node.data)
        for task in self._watching:
            task.cancel()
        await asyncio.gather(*self._watching, return_exceptions=True)
        for path in sorted(self.directory.glob("*.diary")):
            lines = [line for line in path.read_text().splitlines() if line.endswith("}")]  # the last may be cut
            self.history.diaries += [Diary.of(json.loads(line)) for line in lines]
        self.history.diaries.sort(key=lambda entry: entry.t)
        self.history.restarts = [(t, name) for t, name in self.world.restarts if t >= self._began]
        await self._read_records()

    # --- waiting ---------------------------------------------------------------------------------------------

    @property
    def well(self) -> list[Pair]:
        """Nodes that run, and that no fault has ended."""
        return [pair for pair in self.pairs.values() if pair.alive and not pair.expected_exit]

    @property
    def now(self) -> Seen:
        """The newest state that any SN has shown."""
        return max(self.history.seen, key=lambda seen: (seen.version, seen.t))

    @property
    def accepted(self) -> int:
        """The newest accepted round."""
        return max((seen.result[0] for seen in self.history.seen if seen.result), default=0)

    async def until(self, holds: Callable[[Seen], bool], what: str, within_s: float = ROUND_WITHIN_S) -> Seen:
        """The first state from now on (the present one included) of which it holds."""
        start = max(0, len(self.history.seen) - 1)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                while True:
                    while start < len(self.history.seen):
                        if holds(self.history.seen[start]):
                            return self.history.seen[start]
                        start += 1
                    self._news.clear()
                    await self._news.wait()
        now = self.now if self.history.seen else None
        raise Stuck(f"{what} did not come within {within_s:g} s; the training is at {now}")

    async def rounds(self, count: int, within_s: float = ROUND_WITHIN_S) -> Seen:
        """Returns when so many more rounds were accepted; each within the time."""
        seen = None
        for target in range(self.accepted + 1, self.accepted + count + 1):
            seen = await self.until(
                lambda state, target=target: state.result is not None and state.result[0] >= target,
                f"round {target}",
                within_s,
            )
        assert seen is not None
        return seen

    async def all_take_part(self) -> None:
        """Returns when every node that runs well has been a participant."""
        seen: set[str] = set()

        def missing(state: Seen) -> list[str]:
            seen.update(state.active)
            return [pair.name for pair in self.well if pair.name not in seen]

        for state in self.history.seen:
            seen.update(state.active)
        await self.until(lambda state: not missing(state), f"the enrolment of {missing(self.now)}")

    async def contributes(self, name: str) -> None:
        """Returns when a node has checked in to a round that is accepted later than now."""
        start = self.accepted
        await self.until(
            lambda state: name in state.checked_in and state.round > start, f"a check-in of {name}", ROUND_WITHIN_S
        )

    async def writes(self, name: str) -> None:
        """Returns when a program blocks in writing to its SL, which does not read."""
        pipe = os.open(self.pairs[name].node.request, os.O_RDONLY | os.O_NONBLOCK)
        try:
            await _happens(lambda: _waiting_in(pipe) >= HALF_WRITTEN_BYTES, f"half a stream of {name}'s program")
        finally:
            os.close(pipe)

    def lie(self, name: str, after: int = 0) -> Path:
        """The file that makes a node's file server lie, once it has sent ``after`` streams as they are."""
        path = self.pairs[name].node.lie
        path.write_text(str(after))
        return path

    async def told(self, lie: Path) -> None:
        """Returns when a lie has been told to somebody."""
        await _happens(lie.with_suffix(liar.TOLD).exists, "a lie")

    async def said(self, words: str, since: Mapping[Process, int]) -> None:
        """Returns when all these processes have written it into their logs, behind so many bytes of each."""
        for process, place in since.items():
            await _happens(partial(process.says, words, place), f"'{words}' in the log of {process.name}")

    async def spring_in(self, trap: Trap, traps: Path, process: Process) -> None:
        """The same for a process of the world."""
        trap.arm(traps)
        caught = asyncio.create_task(process.caught())
        done, _ = await asyncio.wait({caught}, timeout=TRAP_WITHIN_S)
        trap.disarm(traps)
        if not done:
            caught.cancel()
            raise Stuck(f"{process.name} did not come to {trap.name}")

    async def spring(self, trap: Trap) -> Pair:
        """Arms a trap for the SLs; gives the one that stands in it. Raises Stuck where none does."""
        trap.arm(self.traps)
        waits = {asyncio.create_task(pair.sl.caught()): pair for pair in self.pairs.values() if not pair.sl.is_stopped}
        done, rest = await asyncio.wait(waits, timeout=TRAP_WITHIN_S, return_when=asyncio.FIRST_COMPLETED)
        for task in rest:
            task.cancel()
        trap.disarm(self.traps)
        if not done:
            raise Stuck(f"nobody came to {trap.name} ({trap.fields})")
        return waits[done.pop()]

    # --- recording -------------------------------------------------------------------------------------------

    def note(self, text: str) -> None:
        self.history.trouble.append(text)

    async def _start(self, node: Node, launches: tuple[Launch, Launch]) -> Pair:
        """Returns when its SL is ready."""
        sl, ml = [self.world.forks.start(launch) for launch in launches]
        pair = self.pairs[node.name] = Pair(node, launches, sl, ml)
        await sl.ready()
        return pair

    def _note_exits(self, pair: Pair) -> None:
        for part, process in (("sl", pair.sl), ("ml", pair.ml)):
            code = process.exited.result() if process.exited.done() else -9
            tail = process.last_words() if code and not pair.expected_exit else ""
            self.history.exits.append(Exit(time.monotonic(), pair.name, part, code, pair.expected_exit, tail))

    async def _watch(self, sn: str) -> None:
        version = 0
        while True:
            with contextlib.suppress(NetworkError, UnknownContract):  # others hear of a new training a little later
                async with self.world.client(sn) as client:
                    async for status in client.watch(self.contract, version):
                        version = status.version
                        self.history.seen.append(Seen.of(time.monotonic(), sn, status))
                        self._news.set()
            await pause(RECONNECT_S)

    async def _read_records(self) -> None:
        """The SNs' records first: the chain may grow by late reports meanwhile, and then holds them too."""
        newest = max((seen.version for seen in self.history.seen), default=0)
        for sn in self.world.sns:
            try:
                async with asyncio.timeout(CAUGHT_UP_WITHIN_S), self.world.client(sn) as client:
                    await self._caught_up(client, newest)
                    await self._read_record(sn, client)
            except (SwarmError, TimeoutError) as error:
                self.note(f"{sn} does not have the whole record: {error!r}")
        chains = []
        for sn in self.world.sns:
            try:
                chains.append(await events_on_chain(self.world.geth_pid(sn), self._location))
            except (OSError, ValueError, ConnectionLost) as error:
                self.note(f"the chain of {sn} could not be read: {error!r}")
        self.history.chain = max(chains, key=len, default=[])
        for sn, chain in zip(self.world.sns, chains, strict=False):
            if chain != self.history.chain[: len(chain)]:
                self.note(f"the chain of {sn} is another one")

    async def _caught_up(self, client: SNClient, version: int) -> None:
        """An SN that was started again fetches what it has missed, at first perhaps the training itself."""
        while True:
            with contextlib.suppress(UnknownContract, NetworkError):
                async for status in client.watch(self.contract):
                    if status.version >> 20 >= version >> 20:
                        return
            await pause(RECONNECT_S)

    async def _read_record(self, sn: str, client: SNClient) -> None:
        self.history.records[sn] = []
        async for page in client.record(self.contract):
            self.history.records[sn] += [Event.of(event) for event in page.events]
            self.history.record_blocks[sn] = page.block

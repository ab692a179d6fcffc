"""Real SLs around a real SN and license server, each with an ML program of a few lines of numpy."""

import asyncio
import contextlib
import functools
import logging
import threading
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sn_swarm import running_sn

from services.chain.factory import Choice
from services.license_server.main import main as license_server_main
from services.license_server.settings import LicenseServerSettings
from services.sl.main import main as sl_main
from services.sl.settings import SLSettings
from services.sn.directory import DEFAULT_TRAINING
from services.sn.trainings import Trainings
from swarm_callback import wire
from swarm_callback.channel import MLEnd
from swarm_callback.digest import StreamDigest
from swarm_callback.params import decode, encode
from swarm_callback.rounding import rounded
from swarm_callback.session import Session

WITHIN_S = 60.0

Arrays = Mapping[str, NDArray[Any]]
Train = Callable[[dict[str, NDArray[Any]], int], Arrays]


def same(arrays: Arrays, _number: int) -> Arrays:
    """Trains nothing."""
    return arrays


def add(amount: float) -> Train:
    """Every round of training adds this amount to each element."""
    return lambda arrays, _number: {"w": arrays["w"] + np.float32(amount)}


class Ready:
    """Replaces the starter that listens for a node's readiness."""

    def __init__(self) -> None:
        self.facts: dict[str, Any] = {}
        self.reported = asyncio.Event()

    def report(self, **facts: Any) -> None:
        self.facts = facts
        self.reported.set()


@dataclass
class Node:
    """A node's ``main`` as a task."""

    task: asyncio.Task[None]
    stop: asyncio.Event
    facts: dict[str, Any]

    async def ended(self) -> BaseException | None:
        """The error it ended with."""
        async with asyncio.timeout(WITHIN_S):
            await asyncio.wait([self.task])
        return self.task.exception()


@contextlib.asynccontextmanager
async def running(main: Any, settings: Any) -> AsyncIterator[Node]:
    stop, ready = asyncio.Event(), Ready()
    task = asyncio.create_task(main(settings, stop, ready))
    reported = asyncio.create_task(ready.reported.wait())
    try:
        async with asyncio.timeout(WITHIN_S):
            await asyncio.wait([task, reported], return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            task.result()
        yield Node(task, stop, ready.facts)
    finally:
        reported.cancel()
        stop.set()
        async with asyncio.timeout(WITHIN_S):
            await asyncio.wait([task])


@dataclass
class Swarm:
    """An SN and a license server; ``sl`` adds an SL."""

    pki: Any
    directory: Path
    sn_port: int
    licenses_port: int
    trainings: Trainings
    stack: contextlib.AsyncExitStack
    sn_stack: contextlib.AsyncExitStack
    nodes: dict[str, Node] = field(default_factory=dict)
    issued: dict[str, Any] = field(default_factory=dict)

    def settings(self, name: str, **changes: Any) -> SLSettings:
        """``name``: the node's, with or without a slot, such as ``sl-1/0``."""
        certificate, _, slot = name.partition("/")
        if certificate not in self.issued:  # a restarted node keeps its certificate
            self.issued[certificate] = self.pki.issue("sl", certificate)
        files = self.issued[certificate]
        given: dict[str, Any] = {
            "cert": files.cert, "key": files.key, "cacert": files.cacert, "host": "127.0.0.1", "host_ip": "localhost",
            "sl_fs_port": 0, "sn_ip": "localhost", "sn_api_port": self.sn_port, "apls_ip": "localhost",
            "apls_port": self.licenses_port, "data_dir": self.directory / name, "quorum_wait_s": 60.0,
            "keep_serving_s": 30.0, "log_level": "DEBUG", "slot": slot,
        }  # fmt: skip
        return SLSettings.load("sl", {**given, **changes})

    async def sl(self, name: str, **changes: Any) -> Node:
        node = await self.stack.enter_async_context(running(sl_main, self.settings(name, **changes)))
        self.nodes[name] = node
        return node

    @property
    def view(self) -> Any:
        return self.trainings.named(DEFAULT_TRAINING).view

    async def stop_sn(self) -> None:
        await self.sn_stack.aclose()

    async def until(self, wanted: Callable[[Any], bool]) -> None:
        """Waits for a state of the training in the SN's view."""
        async with asyncio.timeout(WITHIN_S):
            async for _ in self.trainings.named(DEFAULT_TRAINING).watch(0):
                if wanted(self.view):
                    return

    async def events(self) -> list[Any]:
        """All events, from the chain."""
        return list(await self.trainings.named(DEFAULT_TRAINING).gateway.events())

    def ml(self, name: str, model: Arrays, train: Train, **options: Any) -> "ML":
        facts = self.nodes[name].facts
        return ML(Path(facts["request_channel"]), Path(facts["response_channel"]), model, train, **options)


@contextlib.asynccontextmanager
async def swarm_of(
    pki: Any,
    directory: Path,
    *sls: str,
    lost_after_s: float = 5.0,
    chain: Choice = "embedded",
    seats: str = "",
    sn_identity: Any = None,
    **changes: Any,
) -> AsyncIterator[Swarm]:
    async with contextlib.AsyncExitStack() as stack:
        files = pki.issue("license", "apls")
        licenses = LicenseServerSettings.load(
            "license-server",
            {
                "data_dir": directory / "apls", "host": "127.0.0.1", "port": 0,
                "cert": files.cert, "key": files.key, "cacert": files.cacert, **({"seats": seats} if seats else {}),
            },
        )  # fmt: skip
        apls = await stack.enter_async_context(running(license_server_main, licenses))
        sn_stack = await stack.enter_async_context(contextlib.AsyncExitStack())
        sn = await sn_stack.enter_async_context(
            running_sn(
                sn_identity or pki.identity("sn", "sn-1"), directory / "sn", lost_after_s=lost_after_s, chain=chain
            )
        )
        swarm = Swarm(pki, directory, sn.port, apls.facts["port"], sn.trainings, stack, sn_stack)
        swarm.issued["license"] = files
        for name in sls:
            await swarm.sl(name, **changes)
        yield swarm


@dataclass
class ML:
    """An ML program: a first sync, ``rounds`` rounds of ``train``, and the end; ``run`` gives the digest."""

    request: Path
    response: Path
    model: Arrays
    train: Train
    rounds: int = 2
    min_peers: int = 3
    weight: int = 1
    checkin: str = "snapshot"
    merge_method: str = "mean"
    contract: str = DEFAULT_TRAINING
    compression: str = "none"
    first_merge: str = "average"
    opening: Mapping[str, Any] = field(default_factory=dict)  # changes to wire.Open
    examples: int = 0
    measured: Callable[[int], tuple[float | None, float | None]] = lambda _round: (0.5, 0.25)
    before_first: Callable[[], object] = lambda: None
    noticed: Callable[[str], object] = lambda _: None
    between: Callable[[int], object] = lambda _: None
    notices: list[str] = field(default_factory=list)
    answers: list[wire.Merged] = field(default_factory=list)
    seen: list[Arrays] = field(default_factory=list)  # the arrays of each exchange
    opened: wire.Opened | None = None
    final: Arrays = field(default_factory=dict)

    async def run(self) -> str:
        """Runs in a separate thread, which a failing test leaves behind, as nothing could end it."""
        loop = asyncio.get_running_loop()
        ended: asyncio.Future[str] = loop.create_future()
        threading.Thread(target=self._thread, args=(loop, ended), daemon=True).start()
        async with asyncio.timeout(WITHIN_S):
            return await ended

    def _thread(self, loop: asyncio.AbstractEventLoop, ended: "asyncio.Future[str]") -> None:
        try:
            digest = self._run()
        except BaseException as error:  # passed to the test
            outcome = functools.partial(_fail, ended, error)
        else:
            outcome = functools.partial(_succeed, ended, digest)
        with contextlib.suppress(RuntimeError):  # the test is over and its loop is closed
            loop.call_soon_threadsafe(outcome)

    def _run(self) -> str:
        channel = MLEnd.connect(self.request, self.response, self.notices.append)
        try:
            return self._train(self._session(channel))
        finally:
            channel.close()  # like the end of a process

    def _train(self, session: Session) -> str:
        self.opened = session.open(self._open())
        self.before_first()
        arrays = self._exchange(session, self.model)
        for number in range(self.rounds):
            if self.answers[-1].training_over:
                break
            self.between(number)
            arrays = self._exchange(session, self.train(dict(arrays), number))
        if not self.answers[-1].training_over:
            arrays = self._exchange(session, self.train(dict(arrays), self.rounds), last=True)
        self.final = arrays
        digest = StreamDigest()
        digest.update(session.merged)
        session.bye()
        return digest.digest().hex()

    def _session(self, channel: MLEnd) -> Session:
        logger = logging.Logger("ml")
        logger.addHandler(_Collect(self._notice))
        return Session(channel, logger)

    def _notice(self, text: str) -> None:
        self.notices.append(text)
        self.noticed(text)

    def _open(self) -> wire.Open:
        usual = wire.Open(
            contract=self.contract, sync_frequency=16, min_peers=self.min_peers, merge_method=self.merge_method,
            node_weightage=self.weight, checkin_model_on_train_end=self.checkin, use_adaptive_sync=False,
            total_epochs=1, framework="NUMPY", pid=1, transfer_compression=self.compression,
            first_merge=self.first_merge,
        )  # fmt: skip
        return replace(usual, **self.opening)

    def _exchange(self, session: Session, arrays: Arrays, last: bool = False) -> Arrays:
        header, data = encode(arrays)
        if self.compression == "bf16":
            data = rounded(header, data)
        if last:
            answer = session.finish(1, self.checkin, self.examples, header, data)
        else:
            answer = session.sync(0, self.examples, header, data)
        self.answers.append(answer)
        merged = decode(session.merged) if len(session.merged) else dict(arrays)
        session.report(wire.Report(answer.round, *self.measured(answer.round), 0, 1))
        self.seen.append({name: np.asarray(values).copy() for name, values in merged.items()})
        return self.seen[-1]


def _fail(ended: "asyncio.Future[str]", error: BaseException) -> None:
    if not ended.done():
        ended.set_exception(error)


def _succeed(ended: "asyncio.Future[str]", digest: str) -> None:
    if not ended.done():
        ended.set_result(digest)


class _Collect(logging.Handler):
    def __init__(self, take: Callable[[str], object]) -> None:
        super().__init__()
        self._take = take

    def emit(self, record: logging.LogRecord) -> None:
        self._take(record.getMessage())

"""An SN on a real chain behind its real API, and SLs controlled by a test."""

import asyncio
import contextlib
import hashlib
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any, ClassVar

from services.chain.factory import Choice, open_chain
from services.identity.identity import Identity
from services.identity.signing import Signer
from services.rpc import swarm_pb2 as pb
from services.rpc.client import SNClient
from services.rpc.result_copy import CopyClaim
from services.sn.directory import DEFAULT_TRAINING
from services.sn.founding import FoundWith
from services.sn.node import Announcement, RunningSN, serving

WITHIN_S = 60.0
LAYOUT = hashlib.sha256(b"layout").digest()
Status = pb.TrainingStatus


@contextlib.asynccontextmanager
async def running_sn(
    identity: Identity,
    data_dir: Path,
    *,
    chain: Choice = "embedded",
    lost_after_s: float = 60.0,
    port: int = 0,
    found_with: FoundWith = "trust-file",  # few tests with several organizations begin with a vote
) -> AsyncIterator[RunningSN]:
    backend = await open_chain(chain, data_dir)
    try:
        where = Announcement("127.0.0.1", port, "127.0.0.1")
        async with serving(identity, backend, data_dir, where, lost_after_s, found_with=found_with) as sn:
            yield sn
    finally:
        await backend.close()


def config(min_peers: int = 2, quorum_wait_ms: int = 60_000, **changes: Any) -> pb.Config:
    agreed: dict[str, Any] = {
        "min_peers": min_peers, "sync_frequency": 16, "merge_method": "mean", "quorum_wait_ms": quorum_wait_ms,
        "transfer_compression": "none",
        "first_merge": "average",
    }  # fmt: skip
    return pb.Config(**{**agreed, **changes})


def digest_of(*parts: object) -> bytes:
    return hashlib.sha256(repr(parts).encode()).digest()


def copy_of(status: Status, digest: bytes, signer: Identity, holder: str = "") -> pb.ResultCopy:
    """A signed claim that ``holder``, by default the signer, has the result of the running merge."""
    holder = holder or signer.name
    return CopyClaim(status.location, status.round, status.term, digest.hex(), holder).signed(Signer(signer))


class Sl:
    """One scripted SL. ``seen``: all states from its Watch stream. ``swarm``: the identities of all scripted SLs, by
    name.
    """

    swarm: ClassVar[dict[str, Identity]] = {}

    def __init__(self, client: SNClient, name: str, contract: str) -> None:
        self.client = client
        self.name = name
        self.contract = contract
        self.seen: list[Status] = []
        self._changed = asyncio.Condition()
        self._watching: asyncio.Task[None] | None = None

    async def register(self, host: str = "127.0.0.1", port: int = 30305) -> None:
        await self.client.network.Register(pb.RegisterRequest(host=host, port=port))

    async def enrol(self, agreed: pb.Config, may_lead: bool = True) -> Status:
        request = pb.EnrolRequest(contract=self.contract, config=agreed, may_lead=may_lead)
        return (await self.client.training.Enrol(request)).status

    async def check_in(self, round_number: int, base: int | None = None, **changes: Any) -> None:
        said: dict[str, Any] = {
            "contract": self.contract, "round": round_number, "base": round_number - 1 if base is None else base,
            "digest": digest_of(self.name, round_number), "size": 1024, "layout": LAYOUT, "weight": 100,
            "host": "127.0.0.1", "port": 30305,
        }  # fmt: skip
        await self.client.training.CheckIn(pb.CheckInRequest(**{**said, **changes}))

    async def publish(self, status: Status, left_out: Sequence[pb.LeftOut] = (), **changes: Any) -> bytes:
        digest: bytes = changes.get("digest", digest_of("merged", status.round))
        said: dict[str, Any] = {
            "contract": self.contract, "round": status.round, "term": status.term, "digest": digest, "size": 1024,
            "left_out": left_out, "copy": self.copy(status, digest, left_out),
        }  # fmt: skip
        await self.client.training.Publish(pb.PublishRequest(**{**said, **changes}))
        return digest

    def copy(self, status: Status, digest: bytes, left_out: Sequence[pb.LeftOut] = ()) -> pb.ResultCopy | None:
        """The claim signed by another scripted SL that is in the merge; None if there is none."""
        out = {entry.name for entry in left_out}
        active = {who.name for who in status.participants if who.active} - {self.name} - out
        holder = next((entry.name for entry in status.check_ins if entry.name in active), None)
        return copy_of(status, digest, self.swarm[holder], holder) if holder is not None else None

    async def leave(self, reason: str = "done") -> None:
        await self.client.training.Leave(pb.LeaveRequest(contract=self.contract, reason=reason))

    async def status(self) -> Status:
        return await self.client.training.GetStatus(pb.GetStatusRequest(contract=self.contract))

    def watch(self, seen: int = 0) -> None:
        """Starts watching in the background."""
        self._watching = asyncio.create_task(self._collect(seen))

    async def stop_watching(self) -> None:
        if self._watching is not None:
            self._watching.cancel()
            await asyncio.gather(self._watching, return_exceptions=True)

    async def until(self, wanted: Callable[[Status], bool]) -> Status:
        """The first wanted state, beginning with the newest seen; fails with all states seen."""
        start = max(0, len(self.seen) - 1)
        try:
            async with asyncio.timeout(WITHIN_S), self._changed:
                while True:
                    for status in self.seen[start:]:
                        if wanted(status):
                            return status
                    start = len(self.seen)
                    await self._changed.wait()
        except TimeoutError:
            raise AssertionError(f"{self.name} saw only {self.seen}") from None

    async def _collect(self, seen: int) -> None:
        async for status in self.client.watch(self.contract, seen):
            async with self._changed:
                self.seen.append(status)
                self._changed.notify_all()


@contextlib.asynccontextmanager
async def scripted_sl(
    identity: Identity, port: int, *, contract: str = DEFAULT_TRAINING, watching: bool = True
) -> AsyncIterator[Sl]:
    """An SL registered with the SN on ``port``."""
    async with SNClient(f"localhost:{port}", identity) as client:
        sl = Sl(client, identity.name, contract)
        sl.swarm[identity.name] = identity
        await sl.register()
        if watching:
            sl.watch()
        try:
            yield sl
        finally:
            await sl.stop_watching()


async def play_round(sls: list[Sl], round_number: int, finished: bool = False) -> bytes:
    """All check in, the leader publishes, all see the result. Returns its digest."""
    await asyncio.gather(*(sl.check_in(round_number, finished=finished) for sl in sls))
    merging = await sls[0].until(lambda status: status.state == pb.MERGE and status.round == round_number)
    leader = next(sl for sl in sls if sl.name == merging.leader)
    digest = await leader.publish(merging)
    for sl in sls:
        done = await sl.until(lambda status: status.last_result.round == round_number)
        assert done.last_result.digest == digest
    return digest

"""A member calls its SN with all kinds of nonsense: each call is refused with a message, and the SN goes on."""

import asyncio
import random
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.descriptor import FieldDescriptor, MethodDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from sn_swarm import config, play_round, running_sn, scripted_sl
from two_organizations import TwoOrganizations

from services.errors import MalformedCall, TooLong
from services.identity.identity import PROCESS_KEY, SLOT_KEY
from services.rpc import swarm_pb2 as pb
from services.rpc.client import SNClient
from services.sn.directory import DEFAULT_RUNNER, DEFAULT_TRAINING
from services.sn.node import RunningSN
from services.sn.roles import ROLES

import grpc  # isort: skip  # after services, which restricts its TLS

CALLS = 700
SEED = 16
WITHIN_S = 60.0

# No name of an existing organization: its administrators could change what the swarm holds about it.
TEXTS = (
    "", "b-1", "a-1", "../../etc/passwd", "a\0b", "\x1b[2J", "x" * 300, "x" * 200_000, "\u202eevil",
    "hospital-b\n", "hospit\u0430l-b", DEFAULT_TRAINING, DEFAULT_RUNNER, "train", "127.0.0.1", "a..b", "mean", "none",
    "leader", "sl", "b-1/0", " ",
)  # fmt: skip
OCTETS = (b"", b"\0", bytes(32), b"\xff" * 32, bytes(31), b"x" * 100_000, b"{}", b"[[[[", bytes(16))
NUMBERS = (0, 1, 2, 1000, 1001, 65_535, 65_536, 2**31, 2**32 - 1)
LARGE = (*NUMBERS, 2**53, 2**63 - 1, 2**63, 2**64 - 1)
VALUES: dict[int, tuple[Any, ...]] = {
    FieldDescriptor.TYPE_STRING: TEXTS, FieldDescriptor.TYPE_BYTES: OCTETS, FieldDescriptor.TYPE_BOOL: (True, False),
    FieldDescriptor.TYPE_DOUBLE: (0.0, -1.0, float("nan"), float("inf"), 1e308),
    FieldDescriptor.TYPE_UINT32: NUMBERS, FieldDescriptor.TYPE_UINT64: LARGE, FieldDescriptor.TYPE_ENUM: (0, 1, 2, 3),
}  # fmt: skip
METADATA = {
    PROCESS_KEY: ("00" * 16, "zz", "A" * 32, "1" * 4000),
    SLOT_KEY: ("0", "..", "a/b", "", "0" * 300),
    "swarm-known-by": ("spiffe-id", "x", ""),
    "traceparent": ("x", "00-" + "0" * 32 + "-" + "0" * 16 + "-01"),
}

# The callers by role. An SL makes the calls that no role may make.
CALLERS = {"sl": "b-1", "swop": "b-2", "admin": "b-3", "sn": "b-4"}


def filled(message: Message, chance: random.Random) -> Message:
    """The message, filled with meaningful values in odd places and meaningless values."""
    for field in message.DESCRIPTOR.fields:
        if chance.random() < 0.2:
            continue
        for _ in range(chance.choice((0, 1, 2, 40)) if field.is_repeated else 1):
            if field.type == FieldDescriptor.TYPE_MESSAGE:
                part = getattr(message, field.name).add() if field.is_repeated else getattr(message, field.name)
                filled(part, chance)
            elif field.is_repeated:
                getattr(message, field.name).append(chance.choice(VALUES[field.type]))
            else:
                setattr(message, field.name, chance.choice(VALUES[field.type]))
    return message


def methods() -> list[MethodDescriptor]:
    return [method for service in pb.DESCRIPTOR.services_by_name.values() for method in service.methods]


class Members:
    """Members of organization B by role, each with a channel that does not use our client."""

    def __init__(self, two: TwoOrganizations, port: int) -> None:
        self._channels: dict[str, Any] = {}
        for role, name in CALLERS.items():
            files = two.files(two.b, role, name)
            secure = grpc.ssl_channel_credentials(
                files.cacert.read_bytes(), files.key.read_bytes(), files.cert.read_bytes()
            )
            self._channels[role] = grpc.aio.secure_channel(f"localhost:{port}", secure)

    async def call(self, method: MethodDescriptor, raw: bytes, metadata: list[tuple[str, str]]) -> grpc.StatusCode:
        path = f"/{method.containing_service.full_name}/{method.name}"
        role = next((role for role in CALLERS if role in ROLES.get(path, ())), "sl")
        channel, more = self._channels[role], {"metadata": metadata, "timeout": WITHIN_S}
        try:
            if method.client_streaming:
                call = channel.stream_stream(path)(_once(raw), **more)
            elif method.server_streaming:
                call = channel.unary_stream(path)(raw, **more)
            else:
                await channel.unary_unary(path)(raw, **more)
                return grpc.StatusCode.OK
            await call.read()
            call.cancel()
        except grpc.aio.AioRpcError as error:
            return error.code()
        return grpc.StatusCode.OK

    async def close(self) -> None:
        await asyncio.gather(*(channel.close() for channel in self._channels.values()))


async def _once(raw: bytes) -> AsyncIterator[bytes]:
    yield raw


@pytest.fixture
def two(tmp_path: Path) -> TwoOrganizations:
    return TwoOrganizations.create(tmp_path / "two")


@pytest.fixture
async def sn(two: TwoOrganizations, tmp_path: Path) -> AsyncIterator[RunningSN]:
    async with running_sn(two.identity("sn", "b-0"), tmp_path / "sn") as sn:
        yield sn


@pytest.fixture
def said() -> Iterator[list[dict[str, Any]]]:
    """The errors logged by the SN."""
    from structlog.testing import capture_logs

    with capture_logs() as found:
        yield found


async def test_calls_that_make_no_sense_are_refused_and_end_nothing(
    two: TwoOrganizations, sn: RunningSN, said: list[dict[str, Any]]
) -> None:
    chance, members = random.Random(SEED), Members(two, sn.port)
    kinds = methods()
    for _ in range(CALLS):
        method = chance.choice(kinds)
        request = filled(GetMessageClass(method.input_type)(), chance).SerializeToString()
        if chance.random() < 0.1:
            request = chance.randbytes(chance.choice((1, 30, 3000)))
        headers = [(key, chance.choice(values)) for key, values in METADATA.items() if chance.random() < 0.2]
        await members.call(method, request, headers)
    await members.close()
    assert [entry["event"] for entry in said if entry["log_level"] == "error"] == []
    async with (
        scripted_sl(two.identity("sl", "a-8"), sn.port) as first,
        scripted_sl(two.identity("sl", "a-9"), sn.port) as second,
        SNClient(f"localhost:{sn.port}", two.identity("admin", "b-3")) as admin,
    ):
        await admin.admin.CreateContract(pb.CreateContractRequest(name="after"))
        for sl in (first, second):
            sl.contract = "after"
            await sl.stop_watching()
            sl.watch()
            await sl.enrol(config())
        await play_round([first, second], 1)


async def test_what_cannot_be_written_is_refused_before_it_is_tried(two: TwoOrganizations, sn: RunningSN) -> None:
    long = "x" * 200_000
    async with (
        SNClient(f"localhost:{sn.port}", two.identity("swop", "b-2")) as swop,
        SNClient(f"localhost:{sn.port}", two.identity("admin", "b-3")) as admin,
        scripted_sl(two.identity("sl", "a-1"), sn.port, watching=False) as sl,
    ):
        with pytest.raises(MalformedCall, match="host"):
            await swop.network.Register(pb.RegisterRequest(port=2**32 - 1))
        await sl.enrol(config())
        out = [pb.LeftOut(name=long)]
        with pytest.raises(TooLong, match="left_out"):
            await sl.client.training.Reopen(pb.ReopenRequest(contract=sl.contract, round=1, left_out=out))
        with pytest.raises(TooLong, match="left_out"):
            await sl.client.training.Publish(
                pb.PublishRequest(contract=sl.contract, round=1, digest=bytes(32), left_out=out)
            )
        for call in (
            admin.tasks.FinalizeTask(pb.FinalizeTaskRequest(name=long)),
            admin.tasks.SetTaskBody(pb.SetTaskBodyRequest(name=long, expected_hash=bytes(32))),
            admin.tasks.DeleteTask(pb.DeleteTaskRequest(name=long)),
        ):
            with pytest.raises(TooLong, match="the task's name"):
                await call


async def test_what_changes_nothing_is_answered_all_the_same(two: TwoOrganizations, sn: RunningSN) -> None:
    """A SWOP that says again that it has cleaned up, or leaves again: this causes no event to wait for."""
    async with (
        SNClient(f"localhost:{sn.port}", two.identity("swop", "b-2")) as swop,
        asyncio.timeout(WITHIN_S / 3),
    ):
        await swop.network.Register(pb.RegisterRequest())
        await swop.runners.Attend(pb.AttendRequest(runner=DEFAULT_RUNNER, group="g", sl_peers=1))
        for _ in range(2):
            await swop.runners.Release(pb.ReleaseRequest(runner=DEFAULT_RUNNER, assignment=0))
        for _ in range(2):
            await swop.runners.Quit(pb.QuitRequest(runner=DEFAULT_RUNNER))


async def test_metadata_without_end_are_refused(two: TwoOrganizations, sn: RunningSN) -> None:
    members = Members(two, sn.port)
    info = next(method for method in methods() if method.name == "GetInfo")
    refused = await members.call(info, b"", [("x-much", "x" * 2_000_000)])
    assert refused is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert await members.call(info, b"", []) is grpc.StatusCode.OK
    await members.close()

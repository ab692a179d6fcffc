"""The client of an SN's API: one channel, a deadline for every call, errors as SwarmError."""

import asyncio
import contextlib
import json
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from time import monotonic
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

import grpc

from services.errors import (
    NameTaken,
    NotAcceptedAsExpired,
    PeerNotAccepted,
    SNSilent,
    SNUnreachable,
    SwarmError,
    TooManyCalls,
)
from services.identity.diagnosis import DIAGNOSIS_TIMEOUT_S, Diagnosis, diagnose
from services.identity.identity import PROCESS_KEY, Identity
from services.identity.peers import Expected
from services.identity.renewal import Credentials, Renewal
from services.rpc import swarm_pb2 as pb
from services.rpc.channels import Channels
from services.rpc.errors import from_rpc_error
from services.rpc.methods import Stub
from services.rpc.tunnel import CONNECT_WITHIN_S
from services.runtime import traces
from services.runtime.background import Background
from services.runtime.splice import VANISHED_AFTER_MS

DEADLINE_S = 30.0
PAGE_WITHIN_S = 60.0
SHORTEST_WAIT_S, USUAL_WAIT_S = 0.05, 1.0  # after too many calls
MESSAGE_LIMIT_BYTES = 4 * 1024 * 1024

# Calls that may arrive twice without further effect. Publish, Reopen and CreateContract are not among them.
IDEMPOTENT = {
    "swarm.v1.Network": ("Register", "HandOver", "Deregister", "HoldName", "ListNodes", "ListContracts", "GetInfo"),
    "swarm.v1.Tasks": ("ListTasks", "GetTask"),
    "swarm.v1.Runners": ("ListRunners", "GetRunner", "GetPeer", "Attend", "Quit", "Release"),
    "swarm.v1.Training": ("Enrol", "CheckIn", "ReportProgress", "VoteOut", "Report", "Leave", "GetStatus"),
}
RETRY_POLICY = {
    "maxAttempts": 4,
    "initialBackoff": "0.1s",
    "maxBackoff": "1s",
    "backoffMultiplier": 2,
    "retryableStatusCodes": ["UNAVAILABLE"],
}
OPTIONS: tuple[tuple[str, int | str], ...] = (
    # A lost connection is noticed within 10 s, even if only a Watch stream is open.
    ("grpc.keepalive_time_ms", 5_000),
    ("grpc.keepalive_timeout_ms", VANISHED_AFTER_MS),
    ("grpc.http2.ping_timeout_ms", VANISHED_AFTER_MS),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
    # Despite its name, the time after which an attempt to connect is given up.
    ("grpc.min_reconnect_backoff_ms", round(CONNECT_WITHIN_S * 1000)),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 2_000),
    ("grpc.max_receive_message_length", MESSAGE_LIMIT_BYTES),
    ("grpc.max_send_message_length", MESSAGE_LIMIT_BYTES),
    # The default, a pool shared by the process, would hand a new client the failed connection of an old one.
    ("grpc.use_local_subchannel_pool", 1),
    # If a variable names a proxy, gRPC uses it for every target, even for a socket of this very process.
    ("grpc.enable_http_proxy", 0),
    (
        "grpc.service_config",
        json.dumps(
            {
                "methodConfig": [
                    {
                        "name": [{"service": service, "method": method} for method in methods],
                        "retryPolicy": RETRY_POLICY,
                    }
                    for service, methods in IDEMPOTENT.items()
                ]
            }
        ),
    ),
)

Request = TypeVar("Request")
Reply = TypeVar("Reply")
Failed = Callable[[grpc.aio.AioRpcError], Awaitable[SwarmError]]


@dataclass(frozen=True)
class CallContext:
    """What the calls of one client share: ``failed`` translates errors, ``caller`` says which process calls."""

    failed: Failed
    caller: traces.Carried

    @property
    def metadata(self) -> traces.Carried:
        """The metadata of a call."""
        return (*self.caller, *(traces.carried() or ()))


class Unary(Generic[Request, Reply]):
    """One call of the API. Raises the SwarmError with which the SN answers, SNUnreachable or PeerNotAccepted.

    After too many calls, it waits as long as the SN asks, within ``timeout``, and calls again.
    """

    def __init__(self, stub: Any, line: CallContext) -> None:
        self._stub = stub
        self._line = line

    async def __call__(self, request: Request, *, timeout: float = DEADLINE_S) -> Reply:
        give_up = monotonic() + timeout
        while True:
            try:
                left = give_up - monotonic()
                reply: Reply = await self._stub(request, timeout=left, metadata=self._line.metadata)
                return reply
            except grpc.aio.AioRpcError as error:
                failure = await self._line.failed(error)
            if not isinstance(failure, TooManyCalls) or (wait_s := _wait_s(failure)) >= give_up - monotonic():
                raise failure
            await asyncio.sleep(wait_s)


class NetworkCalls:
    """Service Network."""

    def __init__(self, stub: Any, line: CallContext) -> None:
        self.Register = Unary[pb.RegisterRequest, pb.RegisterReply](stub.Register, line)
        self.HandOver = Unary[pb.HandOverRequest, pb.HandOverReply](stub.HandOver, line)
        self.Deregister = Unary[pb.DeregisterRequest, pb.DeregisterReply](stub.Deregister, line)
        self.ListNodes = Unary[pb.ListNodesRequest, pb.ListNodesReply](stub.ListNodes, line)
        self.ListContracts = Unary[pb.ListContractsRequest, pb.ListContractsReply](stub.ListContracts, line)
        self.GetInfo = Unary[pb.GetInfoRequest, pb.GetInfoReply](stub.GetInfo, line)
        self.ListOrganizations = Unary[pb.ListOrganizationsRequest, pb.ListOrganizationsReply](
            stub.ListOrganizations, line
        )


class TrainingCalls:
    """Service Training, without its streams (SNClient.watch, SNClient.record)."""

    def __init__(self, stub: Any, line: CallContext) -> None:
        self.Enrol = Unary[pb.EnrolRequest, pb.EnrolReply](stub.Enrol, line)
        self.CheckIn = Unary[pb.CheckInRequest, pb.CheckInReply](stub.CheckIn, line)
        self.ReportProgress = Unary[pb.ProgressRequest, pb.ProgressReply](stub.ReportProgress, line)
        self.Publish = Unary[pb.PublishRequest, pb.PublishReply](stub.Publish, line)
        self.Reopen = Unary[pb.ReopenRequest, pb.ReopenReply](stub.Reopen, line)
        self.VoteOut = Unary[pb.VoteOutRequest, pb.VoteOutReply](stub.VoteOut, line)
        self.Report = Unary[pb.ReportRequest, pb.ReportReply](stub.Report, line)
        self.Leave = Unary[pb.LeaveRequest, pb.LeaveReply](stub.Leave, line)
        self.GetStatus = Unary[pb.GetStatusRequest, pb.TrainingStatus](stub.GetStatus, line)


class AdminCalls:
    """Service Admin."""

    def __init__(self, stub: Any, line: CallContext) -> None:
        self.CreateContract = Unary[pb.CreateContractRequest, pb.CreateContractReply](stub.CreateContract, line)
        self.ReplaceKey = Unary[pb.ReplaceKeyRequest, pb.ReplaceKeyReply](stub.ReplaceKey, line)
        self.ResetContract = Unary[pb.ResetContractRequest, pb.ResetContractReply](stub.ResetContract, line)
        self.ProposeOrganization = Unary[pb.ProposeOrganizationRequest, pb.VoteReply](stub.ProposeOrganization, line)
        self.ProposeRemoval = Unary[pb.ProposeRemovalRequest, pb.VoteReply](stub.ProposeRemoval, line)
        self.Approve = Unary[pb.ApproveRequest, pb.VoteReply](stub.Approve, line)
        self.Withdraw = Unary[pb.WithdrawRequest, pb.WithdrawReply](stub.Withdraw, line)
        self.Expel = Unary[pb.ExpelRequest, pb.ExpelReply](stub.Expel, line)


class TasksCalls:
    """Service Tasks."""

    def __init__(self, stub: Any, line: CallContext) -> None:
        self.CreateTask = Unary[pb.CreateTaskRequest, pb.CreateTaskReply](stub.CreateTask, line)
        self.SetTaskBody = Unary[pb.SetTaskBodyRequest, pb.SetTaskBodyReply](stub.SetTaskBody, line)
        self.FinalizeTask = Unary[pb.FinalizeTaskRequest, pb.FinalizeTaskReply](stub.FinalizeTask, line)
        self.DeleteTask = Unary[pb.DeleteTaskRequest, pb.DeleteTaskReply](stub.DeleteTask, line)
        self.ListTasks = Unary[pb.ListTasksRequest, pb.ListTasksReply](stub.ListTasks, line)
        self.GetTask = Unary[pb.GetTaskRequest, pb.GetTaskReply](stub.GetTask, line)


class RunnersCalls:
    """Service Runners, without its stream (SNClient.watch_runner)."""

    def __init__(self, stub: Any, line: CallContext) -> None:
        self.CreateRunner = Unary[pb.CreateRunnerRequest, pb.CreateRunnerReply](stub.CreateRunner, line)
        self.AssignTask = Unary[pb.AssignTaskRequest, pb.AssignTaskReply](stub.AssignTask, line)
        self.ResetRunner = Unary[pb.ResetRunnerRequest, pb.ResetRunnerReply](stub.ResetRunner, line)
        self.ListRunners = Unary[pb.ListRunnersRequest, pb.ListRunnersReply](stub.ListRunners, line)
        self.GetRunner = Unary[pb.GetRunnerRequest, pb.RunnerStatus](stub.GetRunner, line)
        self.GetPeer = Unary[pb.GetPeerRequest, pb.TaskPeer](stub.GetPeer, line)
        self.Attend = Unary[pb.AttendRequest, pb.AttendReply](stub.Attend, line)
        self.Quit = Unary[pb.QuitRequest, pb.QuitReply](stub.Quit, line)
        self.EnrolInTask = Unary[pb.EnrolInTaskRequest, pb.EnrolInTaskReply](stub.EnrolInTask, line)
        self.ReportPeer = Unary[pb.ReportPeerRequest, pb.ReportPeerReply](stub.ReportPeer, line)
        self.Release = Unary[pb.ReleaseRequest, pb.ReleaseReply](stub.Release, line)


class PeeringCalls:
    """Service Peering, without its streams (SNClient.meet, SNClient.blocks)."""

    def __init__(self, stub: Any, line: CallContext) -> None:
        self.Join = Unary[pb.JoinRequest, pb.JoinReply](stub.Join, line)
        self.FindHolder = Unary[pb.FindHolderRequest, pb.FindHolderReply](stub.FindHolder, line)


class SNClient:
    """Calls one SN as the node of ``identity``. ``address`` is ``host:port``; connects at the first call.

    ``name``: of the SN, if known. Nothing is sent to an SN with another name, or to a node that is not an SN.

    Idempotent calls are repeated a few times while the SN is unavailable; the deadline covers all attempts. Clients are
    cheap to create and drop; all calls of one client share a connection.
    """

    network: NetworkCalls
    training: TrainingCalls
    admin: AdminCalls
    tasks: TasksCalls
    runners: RunnersCalls
    peering: PeeringCalls

    def __init__(self, address: str, identity: Identity, name: str = "") -> None:
        self.address = address
        self._identity = identity
        self._expected = Expected("sn", name)
        self._line = CallContext(self._failed, ((PROCESS_KEY, identity.process.hex()), *identity.said_of_itself))
        self._channels = Channels(address, identity, self._expected, OPTIONS)

    async def __aenter__(self) -> Self:
        self._use(await self._channels.open())
        if self._identity.renewal is not None:
            self._identity.renewal.followers.add(self)
            self._identity.renewal.directories.add(self)
        return self

    def renewed(self) -> None:
        """New calls show the new certificate; running ones are not disturbed."""
        self._use(self._channels.renew())

    def _use(self, channel: Any) -> None:
        self._network_stub: Any = Stub(channel, "Network")
        self.network = NetworkCalls(self._network_stub, self._line)
        self._training_stub: Any = Stub(channel, "Training")
        self.training = TrainingCalls(self._training_stub, self._line)
        self.admin = AdminCalls(Stub(channel, "Admin"), self._line)
        self.tasks = TasksCalls(Stub(channel, "Tasks"), self._line)
        self._runners_stub: Any = Stub(channel, "Runners")
        self.runners = RunnersCalls(self._runners_stub, self._line)
        self._peering_stub: Any = Stub(channel, "Peering")
        self.peering = PeeringCalls(self._peering_stub, self._line)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._identity.renewal is not None:
            self._identity.renewal.followers.discard(self)
            self._identity.renewal.directories.discard(self)
        await self._channels.close()

    async def hand_over(self) -> None:
        """If this node has a new key, has the SN accept it in place of the old one. Raises what a call raises."""
        if self._identity.credentials.handovers:
            await self._hand_over()

    async def take_key(self, newest: Credentials) -> None:
        """Makes this node's new key known to the SN. Raises NameTaken if it knows a third key; what a call raises."""
        identity = self._identity.renewed_by(Renewal(newest), known_by_id=False)
        async with SNClient(self.address, identity, self._expected.name) as client:
            known = (await client._hand_over()).hex()
        if known not in ("", identity.known_as):
            raise NameTaken(name=identity.name, enrolledFingerprint=known)

    async def _hand_over(self) -> bytes:
        request = pb.HandOverRequest(handovers=self._identity.credentials.handovers)
        return (await self.network.HandOver(request)).fingerprint

    async def hold_name(self, host: str = "", port: int = 0) -> AsyncGenerator[None]:
        """Holds this node's name for this process while it is iterated: yields once it is held, then when there is
        news.

        ``host``, ``port``: where peers reach the process, if they do.
        Ends when the SN stops. Raises what a call raises, and NameInUse, also later if the SN believed this process
        gone.
        """
        await self.hand_over()
        call = self._channels.held_by(self._network_stub.HoldName(metadata=self._line.metadata))
        try:
            await _write(call, pb.HoldNameRequest(host=host, port=port))
            while (reply := await call.read()) is not grpc.aio.EOF:
                expulsions = self._identity.credentials.trust.expulsions
                expulsions.put(*((one.role, one.name) for one in reply.expelled))
                if reply.question:
                    await _write(call, pb.HoldNameRequest(answer=reply.question))
                else:
                    yield
        except grpc.aio.AioRpcError as error:
            raise (await self._failed(error)) from None
        finally:
            call.cancel()

    async def list_tasks(self) -> list[pb.TaskEntry]:
        """All tasks, read page by page. Raises what a call raises."""
        found: dict[str, pb.TaskEntry] = {}
        token = ""
        while True:
            page = await self.tasks.ListTasks(pb.ListTasksRequest(page_token=token))
            known = len(found)
            found.update((entry.header.name, entry) for entry in page.tasks)
            token = page.next_page_token
            if not token or len(found) == known:
                return list(found.values())

    async def watch(self, contract: str, seen: int = 0, *, changes: bool = False) -> AsyncGenerator[pb.TrainingStatus]:
        """The state of a training now, unless its version is ``seen``, then the newest after each change.

        ``changes``: if the SN can, only what has changed since the previous state (``TrainingStatus.since``).
        Ends when the SN stops. Raises what a call raises; the caller reconnects with the version it saw last.
        """
        request = pb.WatchRequest(contract=contract, seen=seen, changes=changes)
        call = self._channels.held_by(self._training_stub.Watch(request, metadata=self._line.metadata))
        try:
            async for status in call:
                yield status
        except grpc.aio.AioRpcError as error:
            raise (await self._failed(error)) from None
        finally:
            call.cancel()

    async def watch_runner(self, runner: str, seen: int = 0) -> AsyncGenerator[pb.RunnerStatus]:
        """The state of a taskrunner now, unless its version is ``seen``, then the newest after each change.

        Ends when the SN stops. Raises what a call raises; the caller reconnects with the version it saw last.
        """
        request = pb.WatchRunnerRequest(runner=runner, seen=seen)
        call = self._channels.held_by(self._runners_stub.WatchRunner(request, metadata=self._line.metadata))
        try:
            async for status in call:
                yield status
        except grpc.aio.AioRpcError as error:
            raise (await self._failed(error)) from None
        finally:
            call.cancel()

    async def record(self, contract: str) -> AsyncIterator[pb.RecordPage]:
        """A training's events in the order of the chain, as far as this SN has seen them. Raises what a call raises."""
        request = pb.GetRecordRequest(contract=contract)
        async for page in self._paged(self._training_stub.GetRecord(request, metadata=self._line.metadata)):
            yield page

    async def meet(self, ours: AsyncIterator[pb.PeerNews]) -> AsyncGenerator[pb.PeerNews]:
        """Sends ``ours`` while the other SN is connected, and yields what it sends. Raises what a call raises."""
        await self.hand_over()
        call = self._channels.held_by(self._peering_stub.Meet(metadata=self._line.metadata))
        background = Background("rpc")
        failure: list[Exception] = []

        def failed(error: Exception) -> None:
            """Our side can send no more, so the connection is of no use: ends the call with this error."""
            failure.append(error)
            call.cancel()

        background.run(_send(call, ours), f"speaking to {self.address}", failed)
        try:
            while (news := await call.read()) is not grpc.aio.EOF:
                yield news
        except grpc.aio.AioRpcError as error:
            raise (await self._failed(error)) from None
        except asyncio.CancelledError:
            if failure:
                raise failure[0] from None
            raise
        finally:
            call.cancel()
            await background.close()

    async def blocks(self, since: int) -> AsyncGenerator[bytes]:
        """The blocks after number ``since``, some at a time. Raises what a call raises."""
        request = pb.GetBlocksRequest(since=since)
        async for page in self._paged(self._peering_stub.GetBlocks(request, metadata=self._line.metadata)):
            yield page.blocks

    async def _paged(self, call: Any) -> AsyncGenerator[Any]:
        """Reads page by page: each has a deadline, as the time for all of them depends on the length of the history."""
        self._channels.held_by(call)
        try:
            while True:
                async with asyncio.timeout(PAGE_WITHIN_S):
                    page = await call.read()
                if page is grpc.aio.EOF:
                    return
                yield page
        except grpc.aio.AioRpcError as error:
            raise (await self._failed(error)) from None
        except TimeoutError:
            raise SNSilent(address=self.address) from None
        finally:
            call.cancel()

    async def _failed(self, error: grpc.aio.AioRpcError) -> SwarmError:
        """The SN's answer as an error; without a connection, the reason, which gRPC does not tell."""
        known = from_rpc_error(error, self.address)
        if type(known) is not SNUnreachable or error.code() is not grpc.StatusCode.UNAVAILABLE:
            return known
        found = await self._diagnosis()
        if found.reached and not found.accepted:
            # An SN that is stopping hangs up just like one that refuses us. Only the same answer twice is a refusal.
            again = await self._diagnosis()
            if again == found:
                refusal = NotAcceptedAsExpired if found.expired else PeerNotAccepted
                return refusal(peer="The SN", address=self.address, problem=found.problem)
            found = again
        return known if found.accepted else SNUnreachable(address=self.address, problem=found.problem)

    async def _diagnosis(self) -> Diagnosis:
        host, port = self.address.rsplit(":", 1)
        return await asyncio.to_thread(
            diagnose, host.strip("[]"), int(port), self._identity, DIAGNOSIS_TIMEOUT_S, self._expected
        )


def _wait_s(failure: TooManyCalls) -> float:
    """How long the SN asks to wait."""
    return max(failure.seconds, SHORTEST_WAIT_S) if failure.seconds else USUAL_WAIT_S


async def _write(call: Any, message: pb.HoldNameRequest) -> None:
    with contextlib.suppress(asyncio.InvalidStateError):  # the call has ended; its reader gets the reason
        await call.write(message)


async def _send(call: Any, messages: AsyncIterator[pb.PeerNews]) -> None:
    with contextlib.suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError):  # the reader gets the reason
        async for message in messages:
            await call.write(message)
        await call.done_writing()  # then the other side ends the call

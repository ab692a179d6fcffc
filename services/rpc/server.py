"""A gRPC server with mutual TLS: checks caller and role, and has errors as status, health and reflection."""

import asyncio
import contextlib
import errno
import inspect
import re
import socket
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from contextvars import ContextVar
from typing import Any, Protocol

import grpc
from google.protobuf.message import DecodeError
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1.health import aio as health_aio
from grpc_reflection.v1alpha import reflection, reflection_pb2

from services.errors import (
    EXPIRED,
    IdentityError,
    MalformedCall,
    PortInUse,
    SettingsError,
    SwarmError,
    WrongRole,
)
from services.identity.identity import PROCESS_KEY, Identity, PeerIdentity
from services.identity.live import LiveConnections
from services.rpc.client import MESSAGE_LIMIT_BYTES
from services.rpc.errors import to_status
from services.rpc.limits import CallLimit, CallLimits
from services.rpc.methods import add_service
from services.runtime import logs, traces
from services.runtime.addresses import join_address
from services.runtime.background import Background

HEALTH = health_pb2.DESCRIPTOR.services_by_name["Health"].full_name
REFLECTION = reflection_pb2.DESCRIPTOR.services_by_name["ServerReflection"].full_name

CONNECTIONS = 8192  # below the limit of open files, which the node needs for its own work

OPTIONS: tuple[tuple[str, int], ...] = (
    ("grpc.so_reuseport", 0),  # otherwise two servers on one port would share its clients instead of failing
    ("grpc.keepalive_time_ms", 5_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.http2.ping_timeout_ms", 5_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.http2.min_ping_interval_without_data_ms", 3_000),
    ("grpc.http2.min_recv_ping_interval_without_data_ms", 3_000),
    ("grpc.server_handshake_timeout_ms", 10_000),  # for silent clients; two minutes by default
    ("grpc.max_allowed_incoming_connections", CONNECTIONS),
    ("grpc.max_receive_message_length", MESSAGE_LIMIT_BYTES),
    ("grpc.max_send_message_length", MESSAGE_LIMIT_BYTES),
)

Roles = Mapping[str, frozenset[str]]
Admits = Callable[[str, PeerIdentity], None]
Read = Callable[[bytes], Any]

_caller: ContextVar[PeerIdentity] = ContextVar("caller")
_process: ContextVar[bytes] = ContextVar("process")
_PROCESS = re.compile(r"[0-9a-f]{32}")
_log = logs.get("rpc")


def caller() -> PeerIdentity:
    """Who makes the current call, according to the certificate."""
    return _caller.get()


def calling_process() -> bytes:
    """Which process makes the current call, as it says: 16 bytes, or empty if it does not say."""
    return _process.get()


class RpcServer:
    """Serves the calls of ``services``, named as in swarm.proto. ``roles`` maps ``/package.Service/Method`` to the
    roles that may call it; other methods are denied to all, but health and reflection are open to every certificate.
    ``limits``: how often a caller may call. ``admits`` is asked about every call, and about streams again and again; it
    raises NotOfOrganization if the caller may not make this call.
    """

    def __init__(  # what it serves, and to whom
        self,
        identity: Identity,
        roles: Roles,
        services: Mapping[str, object],
        limits: Mapping[str, CallLimit] | None = None,
        *,
        admits: Admits = lambda _method, _peer: None,
    ) -> None:
        self._identity = identity
        self._live = LiveConnections()
        self._background = Background("rpc")
        gate = _Gate(identity, roles, CallLimits(limits or {}), self._live, admits)
        self._server = grpc.aio.server(interceptors=[gate], options=OPTIONS)
        self._health = health_aio.HealthServicer()
        names = [add_service(self._server, name, servicer) for name, servicer in services.items()]
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        reflection.enable_server_reflection([*names, HEALTH, reflection.SERVICE_NAME], self._server)

    async def start(self, host: str, port: int, option: str) -> int:
        """Opens ``host:port`` (0: any free port) and serves; returns the port.

        Raises PortInUse with ``option``, the flag that sets the port; SettingsError for an address that is not ours.
        """
        host = host.strip("[]")
        check_free(host, port, option)
        try:
            bound = self._server.add_secure_port(join_address(host, port), self._identity.grpc_server_credentials())
        except RuntimeError:  # gRPC gives no reason; most likely the port was taken after the check
            raise PortInUse(port=port, host=host, option=option) from None
        await self._server.start()
        self._background.keep(self._live.run, "looking at streams again")
        return int(bound)

    async def stop(self, grace_s: float) -> None:
        """Reports 'not serving', lets running calls end within ``grace_s``, then cancels the rest."""
        await self._health.enter_graceful_shutdown()
        await self._server.stop(grace_s)
        await self._background.close()


def check_free(host: str, port: int, option: str) -> None:
    """Raises PortInUse or SettingsError if ``host:port`` cannot be opened now.

    If gRPC cannot bind, it writes to stderr, past all logs, and gives no reason; so this is tried first.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as gRPC does
        try:
            probe.bind((host.strip("[]"), port))
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                raise PortInUse(port=port, host=host, option=option) from None
            problem = f"port {port} cannot be opened on {host} ({error.strerror})"
            raise SettingsError(name=option, problem=problem, command="sn") from None


class _Context(Protocol):
    async def abort(self, code: Any, details: str, trailing_metadata: Any) -> None: ...


class _Gate(grpc.aio.ServerInterceptor):  # type: ignore[misc]  # grpc has no types
    """In front of every method: checks identity and role, and translates errors."""

    def __init__(
        self, identity: Identity, roles: Roles, limits: CallLimits, live: LiveConnections, admits: Admits
    ) -> None:
        self._identity = identity
        self._admits = admits
        self._live = live
        self._roles = roles
        self._limits = limits

    async def intercept_service(self, continuation: Any, details: Any) -> Any:
        handler = await continuation(details)
        if handler is None:
            return None
        method: str = details.method
        read = _reading(handler.request_deserializer)
        if handler.response_streaming:
            build = (
                grpc.stream_stream_rpc_method_handler
                if handler.request_streaming
                else (grpc.unary_stream_rpc_method_handler)
            )
            behaviour = self._streaming(method, handler.stream_stream or handler.unary_stream, read)
        else:
            build = grpc.unary_unary_rpc_method_handler
            behaviour = self._unary(method, handler.unary_unary, read)
        return build(behaviour, None, _unless_bytes(handler.response_serializer))

    def _unary(self, method: str, behaviour: Any, read: Read) -> Any:
        async def guarded(raw: bytes, context: Any) -> Any:
            try:
                peer = self._admit(method, context)
                with self._counting(method, peer):
                    request = read(raw)
                    with traces.served(method, context.invocation_metadata() or (), request, peer.name):
                        return await behaviour(request, context)
            except Exception as error:
                await _abort(context, method, error)

        return guarded

    def _streaming(self, method: str, behaviour: Any, read: Read) -> Any:
        async def guarded(raw: Any, context: Any) -> AsyncIterator[Any]:
            try:
                peer = self._admit(method, context)
                with self._counting(method, peer), self._ending(method, context):
                    async for message in behaviour(_read_from(raw, read), context):
                        yield message
            except Exception as error:
                await _abort(context, method, error)

        async def guarded_writer(raw: Any, context: Any) -> None:
            try:
                peer = self._admit(method, context)
                with self._counting(method, peer), self._ending(method, context):
                    await behaviour(_read_from(raw, read), context)
            except Exception as error:
                await _abort(context, method, error)

        return guarded if inspect.isasyncgenfunction(behaviour) else guarded_writer

    def _counting(self, method: str, peer: PeerIdentity) -> AbstractContextManager[None]:
        """Counts the call while it lasts. Raises TooManyCalls."""
        return self._limits.counting(method, peer.fingerprint, peer.name)

    @contextlib.contextmanager
    def _ending(self, method: str, context: Any) -> Iterator[None]:
        """Ends a stream with NotOfOrganization once its caller is no longer accepted."""
        task, caller = asyncio.current_task(), self._identity.caller_of_grpc(context)
        refusals: list[SwarmError] = []

        def end(refusal: SwarmError) -> None:
            refusals.append(refusal)
            if task is not None:
                task.cancel()

        with self._live.held(lambda: self._admits(method, caller()), end):
            try:
                yield
            except asyncio.CancelledError:
                if not refusals or task is None:
                    raise
                task.uncancel()
                raise refusals[0] from None

    def _admit(self, method: str, context: Any) -> PeerIdentity:
        """Sets and returns the caller. Raises IdentityError if it has no SPIFFE URI, NotOfOrganization if its
        organization may not name such a node or is not in the swarm, WrongRole if its role may not make this call.
        """
        peer = self._identity.peer_of_grpc(context)
        service = method.split("/")[1]
        allowed = self._roles.get(method, frozenset())
        if service not in (HEALTH, REFLECTION) and peer.role not in allowed:
            action = method.rsplit("/", 1)[-1]
            raise WrongRole(
                name=peer.name,
                role=peer.role,
                action=action,
                needed=" or ".join(sorted(allowed)) or "a role that nobody has",
            )
        if service not in (HEALTH, REFLECTION):
            self._admits(method, peer)
        _caller.set(peer)
        _process.set(_process_in(context.invocation_metadata() or ()))
        return peer


def _process_in(metadata: Iterable[tuple[str, str | bytes]]) -> bytes:
    said = str(next((value for key, value in metadata if key == PROCESS_KEY), ""))
    return bytes.fromhex(said) if _PROCESS.fullmatch(said) else b""


def _reading(deserialize: Any) -> Read:
    """Parses requests only after caller and limits were checked. Raises MalformedCall."""

    def read(raw: bytes) -> Any:
        try:
            return deserialize(raw) if deserialize else raw
        except DecodeError:
            raise MalformedCall(field="the message") from None

    return read


def _read_from(raw: Any, read: Read) -> Any:
    """The request, or a stream of requests."""
    return read(raw) if isinstance(raw, bytes) else _each(raw, read)


async def _each(raw: AsyncIterator[bytes], read: Read) -> AsyncIterator[Any]:
    async for message in raw:
        yield read(message)


def _unless_bytes(serialize: Any) -> Any:
    """Lets a handler answer with bytes that were serialised once for many watchers."""
    return lambda message: message if isinstance(message, bytes) else serialize(message)


async def _abort(context: _Context, method: str, error: Exception) -> None:
    if isinstance(error, grpc.aio.AbortError):  # the handler has already answered
        raise error
    if not isinstance(error, SwarmError):
        _log.exception("a call failed unexpectedly", method=method)
        error = SwarmError(detail=f"{type(error).__name__} in {method}")
    elif isinstance(error, IdentityError):
        say = _log.info if isinstance(error, EXPIRED) else _log.warning
        say("call denied", method=method, reason=str(error))
    await context.abort(*to_status(error))

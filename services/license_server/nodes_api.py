"""The API through which nodes lease seats, over mutual TLS. Plain ASGI, as each node renews every few seconds."""

import asyncio
import re
import ssl
from collections.abc import Awaitable, Callable, Mapping
from functools import lru_cache
from typing import Any, Protocol
from urllib.parse import parse_qs

from pydantic import BaseModel, ValidationError

from services.errors import BodyTooLarge, LicenseError, NoSuchThing, NotActive, SwarmError
from services.identity.identity import KNOWN_BY_KEY, SLOT_KEY, PeerIdentity
from services.license_server.lease_allocator import Granted, LeaseAllocator
from services.license_server.leases import LeaseHolder
from services.license_server.nodes_messages import AcquireRequest, RenewRequest, SwarmRequest
from services.license_server.nodes_openapi import document
from services.license_server.services import Services
from services.license_server.swarms import SwarmRegistry
from services.licensing.expulsions import ExpulsionsRequest
from services.licensing.swarms import LeasingSwarms
from services.runtime import logs
from services.web.answers import error_content, send_json, status_of
from services.web.peer_certificate import certificate_of, peer_in

MAX_BODY = 64 * 1024

_LEASE = re.compile(r"/v1/leases/([^/]{1,200})")
_SLOT = SLOT_KEY.encode()
_KNOWN_BY = KNOWN_BY_KEY.encode("ascii")
_RENEW = re.compile(r"/v1/leases/([^/]{1,200})/renew")
_log = logs.get("license-server")

Scope = Mapping[str, Any]
Receive = Callable[[], Awaitable[Any]]
Handler = Callable[[LeaseHolder, "NodeRequest"], Awaitable[tuple[int, Any]]]


class MalformedRequest(Exception):
    """``str()`` gives the field and what is wrong with it."""


class NodeRequest:
    """One request, with its body read."""

    def __init__(self, scope: Scope, lease_id: str, body: bytes) -> None:
        self.lease_id = lease_id
        self._query = scope["query_string"]
        self._body = body

    def read(self, model: type[BaseModel]) -> Any:
        """Raises MalformedRequest naming the field."""
        try:
            return model.model_validate_json(self._body)
        except ValidationError as malformed:
            raise _malformed("body", malformed) from None

    def number(self, name: str) -> int:
        """A whole number in the query. Raises MalformedRequest."""
        given = parse_qs(self._query.decode("latin-1")).get(name, ["0"])[0]
        if not given.lstrip("-").isdecimal() or len(given) > 18:
            raise MalformedRequest(f"query.{name}: it is not a whole number")
        return int(given)

    @property
    def token(self) -> int:
        """The token in the query. Raises MalformedRequest."""
        given = parse_qs(self._query.decode("latin-1"), keep_blank_values=True)
        try:
            return RenewRequest(token=int(given.get("token", [""])[0])).token
        except ValidationError as malformed:
            raise _malformed("query", malformed) from None
        except ValueError:
            raise MalformedRequest("query.token: it is not a whole number") from None


class PairedServer(Protocol):
    """The other server of a pair, which must know each lease."""

    name: str

    def admit(self, peer: PeerIdentity) -> None: ...

    async def changes(self, seen: int, term: int, history: bool, audit: int) -> dict[str, Any]: ...

    async def confirm(self) -> None: ...


class NodesApi:
    """``partner``: None if this server is alone."""

    def __init__(self, services: Services, partner: PairedServer | None = None) -> None:
        self._services = services
        self._allocator: LeaseAllocator = services.allocator
        self._partner = partner
        self._swarms = SwarmRegistry()
        self._routes: dict[tuple[str, str], Handler] = {
            ("POST", "/v1/leases"): self._acquire,
            ("POST", "/v1/leases/{lease_id}/renew"): self._renew,
            ("DELETE", "/v1/leases/{lease_id}"): self._release,
            ("POST", "/v1/swarms"): self._hear_swarm,
            ("POST", "/v1/expulsions"): self._hear_expulsions,
            ("GET", "/v1/status"): self._status,
            ("GET", "/v1/openapi.json"): self._describe,
            ("GET", "/v1/partner"): self._tell_partner,
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Any) -> None:
        try:
            peer, certificate = peer_of(scope)
            status, content = await self._answer(scope, receive, peer, certificate)
        except MalformedRequest as error:
            refusal = LicenseError(feature="this request", problem=str(error))
            status, content = 422, _refused(refusal, scope)
        except SwarmError as error:
            status, content = status_of(error), _refused(error, scope)
        await send_json(send, status, content)

    async def _answer(self, scope: Scope, receive: Receive, peer: PeerIdentity, certificate: bytes) -> tuple[int, Any]:
        template, lease_id = _template(scope["path"])
        handler = self._routes.get((scope["method"], template))
        if handler is None:
            allowed = [method for method, path in self._routes if path == template]
            if allowed:
                return 405, {"code": "license", "message": f"Here only {', '.join(allowed)} is answered", "facts": {}}
            raise NoSuchThing(what="path", name=scope["path"][:100])
        body = await _body(scope, receive)
        client = scope.get("client") or ("", 0)
        holder = LeaseHolder(peer.role, peer.name, peer.fingerprint, client[0], _pem(certificate), peer.organization)
        return await handler(holder, NodeRequest(scope, lease_id, body))

    async def _acquire(self, holder: LeaseHolder, call: NodeRequest) -> tuple[int, Any]:
        feature = call.read(AcquireRequest).feature
        self._guard()
        granted = await asyncio.wrap_future(self._allocator.ask_acquire(holder, feature))
        if self._partner is not None:
            await self._partner.confirm()
        return 200, _reply(granted)

    async def _renew(self, holder: LeaseHolder, call: NodeRequest) -> tuple[int, Any]:
        token = call.read(RenewRequest).token
        self._guard()
        return 200, _reply(await asyncio.wrap_future(self._allocator.ask_renew(holder, call.lease_id, token)))

    async def _release(self, holder: LeaseHolder, call: NodeRequest) -> tuple[int, Any]:
        token = call.token
        self._guard()
        await asyncio.wrap_future(self._allocator.ask_release(holder, call.lease_id, token))
        return 204, None

    def _guard(self) -> None:
        """Raises NotActive if this server is on standby."""
        if not self._services.active:
            raise NotActive(active=self._partner.name if self._partner else "the other one")

    async def _tell_partner(self, holder: LeaseHolder, call: "NodeRequest") -> tuple[int, Any]:
        """Only for the other server of a pair."""
        if self._partner is None:
            raise NoSuchThing(what="partner", name=holder.name)
        self._partner.admit(PeerIdentity(holder.role, holder.name, holder.fingerprint))
        seen, term, history = call.number("seen"), call.number("term"), bool(call.number("history"))
        return 200, await self._partner.changes(seen, term, history, call.number("audit"))

    async def _status(self, _holder: LeaseHolder, _call: NodeRequest) -> tuple[int, Any]:
        found = await asyncio.to_thread(self._allocator.status)
        features = {
            feature: {"capacity": capacity, "in_use": len(holders), "holders": holders}
            for feature, (capacity, holders) in found.items()
        }
        return 200, {"features": features, "swarms": [swarm.model_dump() for swarm in self._swarms.all()]}

    async def _hear_swarm(self, holder: LeaseHolder, call: NodeRequest) -> tuple[int, Any]:
        said = call.read(SwarmRequest)
        self._guard()
        self._swarms.hear(holder, said.network, said.address)
        return 200, LeasingSwarms(swarms=self._swarms.all()).model_dump()

    async def _hear_expulsions(self, holder: LeaseHolder, call: NodeRequest) -> tuple[int, Any]:
        members = [(it.role, it.name) for it in call.read(ExpulsionsRequest).members]
        self._guard()
        await asyncio.to_thread(self._services.expulsions.hear, holder, members)
        return 204, None

    async def _describe(self, _holder: LeaseHolder, _call: NodeRequest) -> tuple[int, Any]:
        return 200, document()


def peer_of(scope: Scope) -> tuple[PeerIdentity, bytes]:
    """The caller, with the slot that it names, and its certificate (DER).

    Raises NoIdentity without a certificate, IdentityError if it names nobody, NotOfOrganization.
    """
    peer = peer_in(scope).known_by(_header(scope, _KNOWN_BY))
    return peer.in_slot(_header(scope, _SLOT)), certificate_of(scope) or b""


def address_of(scope: Scope) -> str:
    """The address that the caller used for this server."""
    return _header(scope, b"host")[:255] or "this server"


def _refused(error: SwarmError, scope: Scope) -> dict[str, Any]:
    _log.warning("refused", path=scope["path"], code=error.code, why=str(error))
    return error_content(error, address_of(scope))


def _header(scope: Scope, wanted: bytes) -> str:
    return next((str(value.decode("latin-1")) for name, value in scope["headers"] if name == wanted), "")


async def _body(scope: Scope, receive: Receive) -> bytes:
    """Raises BodyTooLarge before anything is read, also if the request does not declare its length."""
    length = _header(scope, b"content-length") or "0"
    if _header(scope, b"transfer-encoding") or not length.isdecimal() or int(length) > MAX_BODY:
        raise BodyTooLarge(limit=MAX_BODY)
    body = b""
    more = True
    while more:
        message = await receive()
        if message["type"] != "http.request":
            break
        body += message.get("body", b"")
        more = message.get("more_body", False)
    return body


def _template(path: str) -> tuple[str, str]:
    if found := _RENEW.fullmatch(path):
        return "/v1/leases/{lease_id}/renew", found[1]
    if found := _LEASE.fullmatch(path):
        return "/v1/leases/{lease_id}", found[1]
    return path, ""


def _reply(granted: Granted) -> dict[str, Any]:
    return {
        "lease": granted.lease,
        "token": granted.token,
        "expires_in_s": granted.expires_in_s,
        "capacity": granted.capacity,
        "grace_s": granted.grace_s,
    }


def _malformed(place: str, malformed: ValidationError) -> MalformedRequest:
    first = malformed.errors()[0]
    where = ".".join([place, *(str(part) for part in first["loc"])])
    return MalformedRequest(f"{where}: {first['msg']}")


@lru_cache(maxsize=4096)
def _pem(certificate: bytes) -> str:
    return ssl.DER_cert_to_PEM_cert(certificate)

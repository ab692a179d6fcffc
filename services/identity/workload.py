"""X.509-SVIDs from a SPIFFE Workload API: the first one, and the newer ones while the node runs."""

import asyncio
import contextlib
import stat
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from services.errors import SwarmError, WorkloadApiFailed
from services.identity.identity import Identity
from services.identity.memory_files import InMemory
from services.identity.peers import TrustBundle, read_trust
from services.identity.renewal import Credentials, Renewal
from services.identity.spiffe import SpiffeId
from services.runtime import logs

FIRST_WITHIN_S = 10.0
ASK_ANEW_S = 10.0

_log = logs.get("identity")


@contextlib.asynccontextmanager
async def workload_identity(
    socket_path: Path, *, cacert: Path | None, capath: Path | None, expected_role: str, slot: str = ""
) -> AsyncIterator[Identity]:
    """The identity that the Workload API at ``socket_path`` gives this process; newer SVIDs are taken as they come.

    ``cacert``, ``capath``: CAs to trust in addition to those of the SVID's trust domain. Raises WorkloadApiFailed, and
    what Identity.load raises for an SVID.
    """
    client = _client(socket_path)
    source = _WorkloadSource(socket_path, expected_role, slot, read_trust(cacert, capath) if cacert or capath else None)
    try:
        first, credentials = source.judge(await asyncio.to_thread(source.fetch, client))
        source.renewal = Renewal(credentials)
        async with _streamed(client, source):
            yield first.renewed_by(source.renewal, known_by_id=True)
    finally:
        client.close()


def present_identity(
    socket_path: Path, *, cacert: Path | None, capath: Path | None, expected_role: str | None
) -> Identity:
    """The current identity, for a short command. Blocks; raises what ``workload_identity`` raises."""
    source = _WorkloadSource(socket_path, expected_role, "", read_trust(cacert, capath) if cacert or capath else None)
    client = _client(socket_path)
    try:
        identity, credentials = source.judge(source.fetch(client))
    finally:
        client.close()
    return identity.renewed_by(Renewal(credentials), known_by_id=True)


@contextlib.asynccontextmanager
async def _streamed(client: Any, source: "_WorkloadSource") -> AsyncIterator[None]:
    """Inside this context, ``source`` takes new SVIDs. The library gives up after a bad answer; we ask again."""
    loop = asyncio.get_running_loop()
    streams: list[Any] = []

    def hand(take: Callable[[Any], None], what: Any) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed
            loop.call_soon_threadsafe(take, what)

    def ended(error: Exception) -> None:
        if streams:
            source.ended(error)
            loop.call_later(ASK_ANEW_S, begin)

    def begin() -> None:
        if streams:
            streams[0] = client.stream_x509_contexts(partial(hand, source.take), partial(hand, ended))

    streams.append(None)
    begin()
    try:
        yield
    finally:
        streams.pop().cancel()


class _WorkloadSource:
    """Answers of the Workload API, judged like certificate files."""

    renewal: Renewal

    def __init__(self, socket_path: Path, role: str | None, slot: str, more: TrustBundle | None) -> None:
        self._path = socket_path
        self._role = role
        self._slot = slot
        self._more = more

    def fetch(self, client: Any) -> Any:
        """Blocks. Raises WorkloadApiFailed."""
        from spiffe.errors import PySpiffeError  # noqa: PLC0415  # for those who use it

        try:
            return client.fetch_x509_context(timeout=FIRST_WITHIN_S)
        except PySpiffeError as error:
            raise WorkloadApiFailed(path=self._path, problem=_words(error)) from None

    def judge(self, found: Any) -> tuple[Identity, Credentials]:
        """Judges an answer of the API. Raises WorkloadApiFailed, and what Identity.load raises."""
        svid = self._chosen(found.x509_svids)
        bundle = found.x509_bundle_set.get_bundle_for_trust_domain(svid.spiffe_id.trust_domain)
        if bundle is None or not bundle.x509_authorities:
            problem = f"it gave {svid.spiffe_id}, but no CA certificate of that trust domain"
            raise WorkloadApiFailed(path=self._path, problem=problem)
        trusted = sorted(bundle.x509_authorities, key=lambda one: one.public_bytes(Encoding.DER))
        if self._more is not None:
            trusted += self._more.certificates
        private = svid.private_key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        cert, key, cas = InMemory(_pem(svid.cert_chain)), InMemory(private), InMemory(_pem(trusted))
        names = {cert.path: f"(from {self._path})", key.path: "its key", cas.path: f"the bundle of {self._path}"}
        try:
            loaded = Identity.load(
                cert=cert.path, key=key.path, cacert=cas.path, expected_role=self._role, slot=self._slot
            )
        except SwarmError as error:
            raise type(error)(**{name: _renamed(value, names) for name, value in error.facts.items()}) from None
        trust = replace(loaded.trust, source=names[cas.path])
        credentials = Credentials(cert.path, key.path, trust, loaded.fingerprint, kept=(cert, key))
        return replace(loaded, trust=trust), credentials

    def take(self, found: Any) -> None:
        """Takes a newer answer. If it cannot be used, logs that and keeps the current credentials."""
        try:
            newest, credentials = self.judge(found)
        except SwarmError as error:
            _log.error("a new SVID cannot be used", why=str(error))
            return
        if credentials.cert.read_bytes() != self.renewal.current.cert.read_bytes():
            self.renewal.take(credentials)
            _log.info("loaded a new SVID", name=newest.name, number=self.renewal.number)

    def ended(self, error: Exception) -> None:
        """The stream of answers has ended."""
        _log.warning("the Workload API delivers no new SVIDs; asking again", path=str(self._path), why=_words(error))

    def _chosen(self, svids: list[Any]) -> Any:
        """Of a workload's SVIDs, the first with our role."""
        parsed: list[tuple[str, Any]] = []
        problem = "it gave no SVID"
        for svid in svids:
            try:
                parsed.append((SpiffeId.parse(str(svid.spiffe_id)).role, svid))
            except ValueError as error:
                problem = f"its SVID is of no node: {error}"
        if not parsed:
            raise WorkloadApiFailed(path=self._path, problem=problem)
        return next((svid for role, svid in parsed if role == self._role), parsed[0][1])


def _client(path: Path) -> Any:
    """Raises WorkloadApiFailed if there is no socket."""
    from spiffe import WorkloadApiClient  # noqa: PLC0415  # it loads gRPC; for those who use it

    try:
        mode = path.stat().st_mode
    except OSError as error:
        raise WorkloadApiFailed(path=path, problem=(error.strerror or str(error)).lower()) from None
    if not stat.S_ISSOCK(mode):
        raise WorkloadApiFailed(path=path, problem="it is not a socket")
    return WorkloadApiClient(f"unix://{path.absolute()}")


def _pem(certificates: Any) -> bytes:
    found: list[x509.Certificate] = list(certificates)
    return b"".join(certificate.public_bytes(Encoding.PEM) for certificate in found)


def _renamed(value: Any, names: Mapping[Path, str]) -> Any:
    """A fact of an error, with names that people know instead of paths of files in memory."""
    for path, name in names.items():
        value = str(value).replace(str(path), name)
    return value


def _words(error: Exception) -> str:
    """The library's message, in one line."""
    return " ".join(str(error).split()) or type(error).__name__

"""The lease every node holds: taken at start, renewed in the background, given back at the end."""

import asyncio
import contextlib
import random
import time
from typing import Any, Literal, NoReturn, Self, get_args

import aiohttp

from services.errors import (
    LeaseUnknown,
    LicenceError,
    LicenceRevoked,
    LicenseServerUnreachable,
    NoSeatLeft,
    PeerNotAccepted,
    SwarmError,
    WrongRole,
    by_code,
)
from services.identity.diagnosis import diagnose
from services.identity.identity import Identity
from services.runtime import logs

GRACE_S = 24 * 3600.0  # a run of a day is not lost to a license server that is down for the night
REQUEST_TIMEOUT_S = 10.0
RELEASE_TIMEOUT_S = 2.0
RENEWALS_PER_TERM = 3
JITTER = 0.2  # of the interval, so that nodes started together do not renew together

LeaseState = Literal["held", "grace", "lost"]
LEASE_STATES: tuple[LeaseState, ...] = get_args(LeaseState)

_log = logs.get("licensing")


class Lease:
    """A seat on a license server. ``async with await Lease.acquire(...)`` gives it back at the end.

    ``lost`` is set when the seat is gone for good; ``failure`` then says why.
    """

    def __init__(self, server: "_Server", feature: str, grant: dict[str, Any], grace_s: float) -> None:
        self.feature = feature
        self.lost = asyncio.Event()
        self.failure: LicenceError | None = None
        self._away = False
        self._server = server
        self._grace_s = grace_s
        self._closing = asyncio.Event()
        self._take(grant)
        self._renewing = asyncio.create_task(self._keep(), name="licence renewal")

    @property
    def state(self) -> LeaseState:
        """``grace``: the license server is away, and the seat is held all the same for now."""
        if self.lost.is_set():
            return "lost"
        return "grace" if self._away else "held"

    @classmethod
    async def acquire(cls, address: str, identity: Identity, feature: str, *, grace_s: float = GRACE_S) -> Self:
        """Takes a seat for ``feature`` on the license server ``address`` (host:port) and keeps it.

        Once the seat is held, a server that cannot be reached is ridden out for ``grace_s``.
        Raises LicenseServerUnreachable, PeerNotAccepted, NoSeatLeft, WrongRole, LicenceError.
        """
        server = _Server(address, identity)
        try:
            grant = await server.request("POST", "/v1/leases", feature, {"feature": feature})
        except BaseException:
            await server.close()
            raise
        _log.info("licence acquired", feature=feature, server=address)
        return cls(server, feature, grant, grace_s)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_failure: object) -> None:
        await self.release()

    async def raise_when_lost(self) -> NoReturn:
        """For a task group: waits, for ever if all is well, and raises ``failure`` when the seat is gone."""
        await self.lost.wait()
        raise self.failure or LicenceError(feature=self.feature, problem="it is lost", address=self._server.address)

    async def release(self) -> None:
        """Gives the seat back, and takes two seconds at most: the server frees it by itself a little later."""
        if self._closing.is_set():
            return
        self._closing.set()
        self._renewing.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._renewing
        try:
            async with asyncio.timeout(RELEASE_TIMEOUT_S):
                await self._server.request(
                    "DELETE", f"/v1/leases/{self._id}?token={self._token}", self.feature, explain=False
                )
            _log.info("licence given back", feature=self.feature)
        except (TimeoutError, SwarmError) as error:
            _log.warning("licence not given back, it expires by itself", feature=self.feature, why=str(error))
        finally:
            await self._server.close()

    def _take(self, grant: dict[str, Any]) -> None:
        self._id, self._token = str(grant["lease"]), int(grant["token"])
        self._interval_s = float(grant["expires_in_s"]) / RENEWALS_PER_TERM
        self._renewed_at = time.monotonic()

    async def _keep(self) -> None:
        """Renews until the node ends or the seat is lost."""
        while not await self._closed_within(self._interval_s * random.uniform(1 - JITTER, 1 + JITTER)):  # noqa: S311
            try:
                await self._renew()
            except (LicenceRevoked, NoSeatLeft, WrongRole) as error:
                self._lose(str(error))
                return
            except SwarmError as error:  # no answer, or trouble of the server's own: not a verdict
                if time.monotonic() - self._renewed_at > self._grace_s:
                    self._lose(f"its server was away for more than {self._grace_s:g} s ({error})")
                    return
                if not self._away:
                    _log.warning("license server lost, going on", for_at_most_s=self._grace_s, why=str(error))
                self._away = True
            else:
                if self._away:
                    _log.info("license server is back", server=self._server.address)
                self._away = False

    async def _renew(self) -> None:
        """Renews; a lease the server no longer knows (freed while it could not be reached) is taken anew, once."""
        try:
            await self._server.request("POST", f"/v1/leases/{self._id}/renew", self.feature, {"token": self._token})
            self._renewed_at = time.monotonic()
        except LeaseUnknown:
            _log.warning("lease was freed by the server, taking a new one", feature=self.feature)
            self._take(await self._server.request("POST", "/v1/leases", self.feature, {"feature": self.feature}))

    async def _closed_within(self, seconds: float) -> bool:
        try:
            async with asyncio.timeout(seconds):
                return await self._closing.wait()
        except TimeoutError:
            return False

    def _lose(self, problem: str) -> None:
        self.failure = LicenceRevoked(feature=self.feature, problem=problem, address=self._server.address)
        _log.error("licence lost", feature=self.feature, why=problem)
        self.lost.set()


class _Server:
    """HTTPS to one license server; what it refuses is raised as the error class it names."""

    def __init__(self, address: str, identity: Identity) -> None:
        self.address = address
        self._identity = identity
        # Requests are ten seconds apart, the server drops idle connections after five.
        connector = aiohttp.TCPConnector(ssl=identity.client_context(), force_close=True)
        timeout = aiohttp.ClientTimeout(total=REQUEST_TIMEOUT_S)
        self._session = aiohttp.ClientSession(f"https://{address}", connector=connector, timeout=timeout)

    async def close(self) -> None:
        await self._session.close()

    async def request(
        self, method: str, path: str, feature: str, body: dict[str, Any] | None = None, *, explain: bool = True
    ) -> dict[str, Any]:
        """The JSON of the answer, {} where it has none. ``explain``: look for the cause of a failed connection.

        Raises LicenseServerUnreachable, PeerNotAccepted, or the error the server answers with.
        """
        try:
            async with self._session.request(method, path, json=body) as response:
                content = await response.json() if response.content_type == "application/json" else {}
                status = response.status
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise await self._unreachable(error, explain) from None
        if status >= 400:
            raise self._refusal(status, content, feature)
        return dict(content)

    async def _unreachable(self, error: Exception, explain: bool) -> SwarmError:
        problem = f"no answer within {REQUEST_TIMEOUT_S:g} s" if isinstance(error, TimeoutError) else str(error)
        if explain and not isinstance(error, TimeoutError):
            host, _, port = self.address.rpartition(":")
            found = await asyncio.to_thread(diagnose, host.strip("[]"), int(port), self._identity)
            if found.reached and not found.accepted:
                return PeerNotAccepted(peer="The license server", address=self.address, problem=found.problem)
            problem = problem if found.accepted else found.problem
        return LicenseServerUnreachable(address=self.address, problem=problem)

    def _refusal(self, status: int, content: Any, feature: str) -> SwarmError:
        code = content.get("code") if isinstance(content, dict) else None
        facts = content.get("facts") if isinstance(content, dict) else None
        cls = by_code(str(code))
        if cls is SwarmError or not isinstance(facts, dict):  # no license server of ours
            return LicenceError(feature=feature, problem=f"it answered HTTP {status}", address=self.address)
        return cls(**{"feature": feature, **facts, "address": self.address})

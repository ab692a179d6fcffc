"""The lease of a node: taken at the start, renewed in the background, given back at the end."""

import asyncio
import contextlib
import json
import random
import time
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal, NoReturn, Self, get_args

from services.errors import (
    Expelled,
    LeaseUnknown,
    LicenseError,
    LicenseExpired,
    LicenseNotYetValid,
    LicenseRevoked,
    NodeNotAllowed,
    NoSeatLeft,
    SwarmError,
    WrongRole,
)
from services.identity.identity import Identity
from services.licensing.features import NOTE
from services.licensing.servers import Servers
from services.runtime import logs
from services.runtime.background import Background

GRACE_S = 24 * 3600.0  # unless the server sets another: a night without a server does not cost a run of a day
RELEASE_TIMEOUT_S = 2.0
RENEWALS_PER_TERM = 3
FIRST_RETRY_S = 1.0
JITTER = 0.2  # fraction of the interval, so nodes that started together do not renew together
REMIND_S = 3600.0  # how often the log repeats that the node continues without a license server

LeaseState = Literal["held", "grace", "lost"]
LEASE_STATES: tuple[LeaseState, ...] = get_args(LeaseState)

# A node that had a seat and gets none again continues for the grace period, as without a server.
_NO_SEAT = (NoSeatLeft, NodeNotAllowed, LicenseExpired, LicenseNotYetValid)

_log = logs.get("licensing")


class Lease:
    """A seat on a license server. ``async with await Lease.acquire(...)`` gives it back at the end.

    ``lost`` is set when the seat is gone for good; ``failure`` then says why.
    """

    def __init__(
        self, servers: Servers, feature: str, grant: dict[str, Any], grace_s: float | None, note: Path | None
    ) -> None:
        self.feature = feature
        self.lost = asyncio.Event()
        self.failure: SwarmError | None = None
        self._away_since: float | None = None
        self._away_why = ""
        self._reminded_at = 0.0
        self._retry_s = FIRST_RETRY_S
        self._servers = servers
        self._own_grace_s = grace_s
        self._note = note
        self._closing = asyncio.Event()
        self._take(grant)
        self._write_note()
        self._background = Background("licensing")
        self._background.keep(self._keep, "renewing the license")

    @property
    def state(self) -> LeaseState:
        """``grace``: no license server gives a seat, but the node continues for now."""
        if self.lost.is_set():
            return "lost"
        return "held" if self._away_since is None else "grace"

    @property
    def grace_left_s(self) -> float:
        """How long the node continues if no license server comes back."""
        away_s = 0.0 if self._away_since is None else time.monotonic() - self._renewed_at
        return 0.0 if self.lost.is_set() else max(self._grace_s - away_s, 0.0)

    @classmethod
    async def acquire(
        cls,
        address: str | Sequence[str],
        identity: Identity,
        feature: str,
        *,
        grace_s: float | None = None,
        data_dir: Path | None = None,
    ) -> Self:
        """Takes a seat for ``feature`` on a license server (host:port, tried in order) and keeps it.

        With a seat, the node continues for the grace period if no server can be reached; the server sets that period
        unless ``grace_s`` does. ``data_dir``: where the license's state is noted, for `swarm status`.
        Raises LicenseServerUnreachable, PeerNotAccepted, NoSeatLeft, WrongRole, LicenseRevoked, Expelled, LicenseError.
        """
        servers = Servers([address] if isinstance(address, str) else address, identity)
        try:
            grant = await servers.request("POST", "/v1/leases", feature, {"feature": feature})
        except BaseException:
            await servers.close()
            raise
        _log.info("license acquired", feature=feature, server=servers.address)
        return cls(servers, feature, grant, grace_s, None if data_dir is None else data_dir / NOTE)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_failure: object) -> None:
        await self.release()

    async def raise_when_lost(self, round_over: Callable[[], Awaitable[None]] | None = None) -> NoReturn:
        """For a task group: waits, forever if all is well, and raises ``failure`` when the seat is lost.

        ``round_over`` returns when the node is between two rounds; this waits for it, at most for the grace period, so
        that no round is interrupted.
        """
        await self.lost.wait()
        if round_over is not None:
            _log.warning("this node ends when its round is over", why=str(self.failure))
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._grace_s):
                    await round_over()
        raise self.failure or LicenseError(feature=self.feature, problem="it is lost", address=self._servers.address)

    async def release(self) -> None:
        """Gives the seat back, within at most two seconds: the server frees it by itself a little later."""
        if self._closing.is_set():
            return
        self._closing.set()
        await self._background.close()
        try:
            async with asyncio.timeout(RELEASE_TIMEOUT_S):
                await self._servers.request(
                    "DELETE", f"/v1/leases/{self._id}?token={self._token}", self.feature, explain=False
                )
            _log.info("license returned", feature=self.feature)
        except (TimeoutError, SwarmError) as error:
            _log.warning("license not returned, it expires by itself", feature=self.feature, why=str(error))
        finally:
            if self._note is not None:
                with contextlib.suppress(OSError):
                    self._note.unlink(missing_ok=True)
            await self._servers.close()

    def _take(self, grant: dict[str, Any]) -> None:
        self._id, self._token = str(grant["lease"]), int(grant["token"])
        self._renewed(grant)

    def _renewed(self, grant: dict[str, Any]) -> None:
        self._interval_s = float(grant["expires_in_s"]) / RENEWALS_PER_TERM
        told = float(grant.get("grace_s", GRACE_S))
        self._grace_s = told if self._own_grace_s is None else self._own_grace_s
        self._renewed_at = time.monotonic()

    async def _keep(self) -> None:
        """Renews until the node ends, even during its last round, so that no other node gets its seat yet."""
        while not await self._closed_within(self._pause_s() * random.uniform(1 - JITTER, 1 + JITTER)):  # noqa: S311
            try:
                await self._renew()
            except (LicenseRevoked, WrongRole) as error:
                self._lose(error.problem or str(error))
            except Expelled as error:
                self._lose(str(error), error)
            except LicenseExpired as error:
                self._lose(f"it expired at {error.facts.get('when')}")
            except SwarmError as error:  # no answer, or a failure of the server itself: no decision
                self._go_on_without(error)
            else:
                self._back()

    def _pause_s(self) -> float:
        """Time until the next attempt; if no server answers, short at first (it may be back soon), then longer."""
        if self._away_since is None or self.lost.is_set():
            return self._interval_s
        pause_s, self._retry_s = min(self._retry_s, self._interval_s), self._retry_s * 2
        return pause_s

    async def _renew(self) -> None:
        """Renews; if the server no longer knows the lease (freed while it was unreachable), takes a new one, once."""
        try:
            self._renewed(
                await self._servers.request(
                    "POST", f"/v1/leases/{self._id}/renew", self.feature, {"token": self._token}
                )
            )
        except LeaseUnknown:
            if self._away_since is None:
                _log.warning("lease was freed by the server, taking a new one", feature=self.feature)
            try:
                grant = await self._servers.request("POST", "/v1/leases", self.feature, {"feature": self.feature})
            except _NO_SEAT as error:
                raise LicenseError(feature=self.feature, problem=str(error), address=self._servers.address) from None
            self._take(grant)

    def _go_on_without(self, error: SwarmError) -> None:
        now = time.monotonic()
        if self.lost.is_set():
            return
        if now - self._renewed_at > self._grace_s:
            self._lose(f"for more than {self._grace_s:g} s no license server gave it a seat ({error})")
            return
        if self._away_since is None or now - self._reminded_at > REMIND_S:
            left_s = round(self.grace_left_s if self._away_since is not None else self._grace_s, 1)
            _log.warning("license server lost, continuing", for_at_most_s=left_s, why=str(error))
            self._reminded_at = now
        if self._away_since is None:
            self._away_since, self._away_why = now, str(error)
            self._write_note()

    def _back(self) -> None:
        if self._away_since is None or self.lost.is_set():
            return
        away_s = round(time.monotonic() - self._away_since, 1)
        _log.info("license server is back", server=self._servers.address, after_s=away_s)
        self._away_since, self._retry_s = None, FIRST_RETRY_S
        self._write_note()

    async def _closed_within(self, seconds: float) -> bool:
        try:
            async with asyncio.timeout(seconds):
                return await self._closing.wait()
        except TimeoutError:
            return False

    def _lose(self, problem: str, failure: SwarmError | None = None) -> None:
        if self.lost.is_set():
            return
        self.failure = failure or LicenseRevoked(feature=self.feature, problem=problem, address=self._servers.address)
        _log.error("license lost", feature=self.feature, why=problem)
        self.lost.set()
        self._write_note()

    def _write_note(self) -> None:
        """Notes the state for observers outside the node; if the disk refuses, the node still continues."""
        if self._note is None:
            return
        until = datetime.now(UTC) + timedelta(seconds=self.grace_left_s)
        note = {"feature": self.feature, "state": self.state, "server": self._servers.address}
        if self.state == "grace":
            note |= {"until": until.isoformat(timespec="seconds"), "why": self._away_why}
        elif self.failure is not None:
            note |= {"why": str(self.failure)}
        with contextlib.suppress(OSError):
            self._note.parent.mkdir(parents=True, exist_ok=True)
            self._note.write_text(json.dumps(note))

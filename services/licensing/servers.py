"""HTTPS to the license servers of a node: the first one, and the one that takes over if that is gone."""

import asyncio
from collections.abc import Sequence
from typing import Any

import aiohttp

from services.errors import (
    LicenseError,
    LicenseServerUnreachable,
    NotAcceptedAsExpired,
    NotActive,
    PeerNotAccepted,
    StorageError,
    SwarmError,
    by_code,
)
from services.identity.diagnosis import diagnose
from services.identity.identity import Identity
from services.identity.peers import Expected

REQUEST_TIMEOUT_S = 10.0
CONNECT_TIMEOUT_S = 3.0
KEEP_ALIVE_S = 30.0  # less than the server's, so no request uses a connection that is just being closed

_EXPECTED = Expected("license")

# These errors are not the answer of an active license server: another one is asked.
_ELSEWHERE = (LicenseServerUnreachable, NotActive, PeerNotAccepted, StorageError)


class Servers:
    """One connection to each, opened when needed. A server's refusal is raised as the error class that it names."""

    def __init__(self, addresses: Sequence[str], identity: Identity) -> None:
        self._servers = [_Server(address, identity) for address in addresses]
        self._current = 0

    @property
    def address(self) -> str:
        """Address of the server that answered last."""
        return self._servers[self._current].address

    async def close(self) -> None:
        for server in self._servers:
            await server.close()

    async def request(
        self, method: str, path: str, feature: str, body: dict[str, Any] | None = None, *, explain: bool = True
    ) -> dict[str, Any]:
        """The JSON that the first active server answers, {} if it has none.

        ``explain``: look for the cause of a failed connection. Raises LicenseServerUnreachable, PeerNotAccepted,
        NotActive, or the error with which the server answers.
        """
        failures: list[SwarmError] = []
        for offset in range(len(self._servers)):
            number = (self._current + offset) % len(self._servers)
            try:
                answer = await self._servers[number].request(method, path, feature, body, explain=explain)
            except _ELSEWHERE as error:
                failures.append(error)
            except SwarmError:
                self._current = number
                raise
            else:
                self._current = number
                return answer
        raise _worst(failures)


class _Server:
    def __init__(self, address: str, identity: Identity) -> None:
        self.address = address
        self._identity = identity
        self._session: aiohttp.ClientSession | None = None

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()

    async def request(
        self, method: str, path: str, feature: str, body: dict[str, Any] | None, *, explain: bool
    ) -> dict[str, Any]:
        try:
            status, content = await self._exchange(method, path, body)
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise await self._unreachable(error, explain) from None
        if status >= 400:
            raise self._refusal(status, content, feature)
        return dict(content)

    async def _exchange(self, method: str, path: str, body: dict[str, Any] | None) -> tuple[int, Any]:
        """Tries again if a kept-open connection was closed: every request may be made twice."""
        try:
            return await self._exchange_once(method, path, body)
        except aiohttp.ServerDisconnectedError:
            return await self._exchange_once(method, path, body)

    async def _exchange_once(self, method: str, path: str, body: dict[str, Any] | None) -> tuple[int, Any]:
        if self._session is None:
            connector = aiohttp.TCPConnector(
                ssl=self._identity.client_context(_EXPECTED), keepalive_timeout=KEEP_ALIVE_S
            )
            timeout = aiohttp.ClientTimeout(total=REQUEST_TIMEOUT_S, sock_connect=CONNECT_TIMEOUT_S)
            headers = dict(self._identity.said_of_itself)
            self._session = aiohttp.ClientSession(
                f"https://{self.address}", connector=connector, timeout=timeout, headers=headers
            )
        async with self._session.request(method, path, json=body) as response:
            content = await response.json() if response.content_type == "application/json" else {}
            return response.status, content

    async def _unreachable(self, error: Exception, explain: bool) -> SwarmError:
        problem = f"no answer within {REQUEST_TIMEOUT_S:g} s" if isinstance(error, TimeoutError) else str(error)
        if explain and not isinstance(error, TimeoutError):
            host, _, port = self.address.rpartition(":")
            found = await asyncio.to_thread(diagnose, host.strip("[]"), int(port), self._identity, expected=_EXPECTED)
            if found.reached and not found.accepted:
                refusal = NotAcceptedAsExpired if found.expired else PeerNotAccepted
                return refusal(peer="The license server", address=self.address, problem=found.problem)
            problem = problem if found.accepted else found.problem
        return LicenseServerUnreachable(address=self.address, problem=problem)

    def _refusal(self, status: int, content: Any, feature: str) -> SwarmError:
        code = content.get("code") if isinstance(content, dict) else None
        facts = content.get("facts") if isinstance(content, dict) else None
        cls = by_code(str(code))
        if cls is SwarmError or not isinstance(facts, dict):  # not one of our license servers
            return LicenseError(feature=feature, problem=f"it answered HTTP {status}", address=self.address)
        return cls(**{"feature": feature, **facts, "address": self.address})


def _worst(failures: list[SwarmError]) -> SwarmError:
    """The error to raise if several failed: with all their addresses if none could be reached."""
    unreachable = [error for error in failures if isinstance(error, LicenseServerUnreachable)]
    if len(unreachable) < 2 or len(unreachable) < len(failures):
        return next((error for error in failures if error not in unreachable), failures[0])
    addresses = " and ".join(str(error.facts["address"]) for error in unreachable)
    problems = "; ".join(error.problem for error in unreachable)
    return LicenseServerUnreachable(address=addresses, problem=problems)

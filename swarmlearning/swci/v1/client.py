"""The two clients, with the same operations: one blocks, the other is asynchronous. Both use HTTPS."""

import ssl
from collections.abc import AsyncGenerator, Generator
from os import PathLike
from types import TracebackType
from typing import Any, Self

import httpx

from swarmlearning.swci.v1.answers import Events, result_of, unreachable
from swarmlearning.swci.v1.api import Operations
from swarmlearning.swci.v1.calls import Call, Result

WEB_PORT = 30306
CONNECT_WITHIN_S = 30.0
SILENT_FOR_S = 60.0  # a stream sends a sign of life every 15 s
SESSION_HEADER = "Swci-Session"

File = str | PathLike[str]


class _Settings:
    def __init__(
        self,
        host: str,
        port: int = WEB_PORT,
        cert: File | None = None,
        key: File | None = None,
        cacert: File | None = None,
        *,
        session: str = "",
    ) -> None:
        """``cert``, ``key``: PEM files with the role swci or admin. ``cacert``: PEM file of the CAs, by default those
        of the system; the server's certificate is always verified. ``session``: separates the contexts of programs that
        share a certificate.
        """
        tls = ssl.create_default_context(cafile=cacert)
        tls.minimum_version = ssl.TLSVersion.TLSv1_3
        if cert is not None:
            tls.load_cert_chain(cert, key)
        self.address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        options: dict[str, Any] = {
            "base_url": f"https://{self.address}/api/v1", "verify": tls, "trust_env": False,
            "headers": {SESSION_HEADER: session} if session else {},
        }  # fmt: skip
        self._open(options)

    def _open(self, options: dict[str, Any]) -> None:
        raise NotImplementedError


class Client(_Settings, Operations):
    """The blocking client. Close it at the end, or use it with ``with``."""

    def _open(self, options: dict[str, Any]) -> None:
        self._http = httpx.Client(**options)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self._http.close()

    def ask(self, call: Call[Result]) -> Result:
        """Carries out a call that the operations describe."""
        try:
            return result_of(call, self._http.request(**_request(call)))
        except httpx.HTTPError as error:
            raise unreachable(self.address, error) from None

    def follow(self, call: Call[Result]) -> Generator[Result]:
        """Each state as it comes; closing the generator hangs up."""
        events = Events(call)
        try:
            with self._http.stream(**_request(call, SILENT_FOR_S)) as answer:
                if not answer.is_success:
                    answer.read()
                    result_of(call, answer)
                for line in answer.iter_lines():
                    yield from events.take(line)
        except httpx.HTTPError as error:
            raise unreachable(self.address, error) from None


class AsyncClient(_Settings, Operations):
    """The asynchronous client. Close it at the end, or use it with ``async with``."""

    def _open(self, options: dict[str, Any]) -> None:
        self._http = httpx.AsyncClient(**options)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        await self._http.aclose()

    async def ask_async(self, call: Call[Result]) -> Result:
        """Carries out a call that the operations describe."""
        try:
            return result_of(call, await self._http.request(**_request(call)))
        except httpx.HTTPError as error:
            raise unreachable(self.address, error) from None

    async def follow_async(self, call: Call[Result]) -> AsyncGenerator[Result]:
        """Each state as it comes; closing the generator (``contextlib.aclosing``) hangs up."""
        events = Events(call)
        try:
            async with self._http.stream(**_request(call, SILENT_FOR_S)) as answer:
                if not answer.is_success:
                    await answer.aread()
                    result_of(call, answer)
                async for line in answer.aiter_lines():
                    for state in events.take(line):
                        yield state
        except httpx.HTTPError as error:
            raise unreachable(self.address, error) from None


def _request(call: Call[Any], within_s: float | None = None) -> dict[str, Any]:
    timeout = httpx.Timeout(within_s or call.within_s, connect=CONNECT_WITHIN_S)
    return {
        "method": call.method, "url": call.path, "params": dict(call.query), "json": call.body, "timeout": timeout,
    }  # fmt: skip

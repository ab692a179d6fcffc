"""Guards the pages and APIs for people: security headers, limits on the size and rate of requests."""

import time
from collections.abc import Mapping, MutableMapping
from typing import Any

from services.errors import BodyTooLarge, TooManyRequests

MAX_BODY = 1 << 20
MAX_RESTORE = 64 << 20
PER_MINUTE = 600  # requests per address
SIGN_INS_PER_MINUTE = 10
MAX_ADDRESSES = 10_000

_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; font-src 'self'; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
CSP = b"content-security-policy"
HEADERS = {
    CSP: _POLICY.encode(),
    b"strict-transport-security": b"max-age=31536000",
    b"x-content-type-options": b"nosniff",
    b"x-frame-options": b"DENY",
    b"referrer-policy": b"no-referrer",
    b"permissions-policy": b"camera=(), geolocation=(), microphone=(), payment=(), usb=()",
    b"cross-origin-opener-policy": b"same-origin",
    b"cross-origin-resource-policy": b"same-origin",
    b"cache-control": b"no-store",
}


class RequestLimits:
    """Limits for all requests except those of nodes."""

    def __init__(self) -> None:
        self._all = Rate(PER_MINUTE)
        self._sign_ins = Rate(SIGN_INS_PER_MINUTE)

    def check(self, scope: Mapping[str, Any]) -> None:
        """Raises TooManyRequests, BodyTooLarge."""
        path, headers = scope["path"], dict(scope["headers"])
        address = (scope.get("client") or ("?", 0))[0]
        self._all.count(address)
        if scope["method"] == "POST" and is_sign_in(path):
            self._sign_ins.count(address)
        limit = MAX_RESTORE if path.endswith("/restore") else MAX_BODY
        if b"transfer-encoding" in headers or int(headers.get(b"content-length", b"0")) > limit:
            raise BodyTooLarge(limit=limit)  # also if it does not declare its length


def is_sign_in(path: str) -> bool:
    return path.endswith("/sign-in") or path.startswith("/setup/")


def with_headers(send: Any, path: str) -> Any:
    """``send`` with security headers added. Headers set by the application stay, except the Content-Security-Policy."""
    cached = path.startswith("/static/")

    async def guarded(message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            set_already = {name.lower() for name, _ in message["headers"]}
            mine = [(name, value) for name, value in HEADERS.items() if name not in set_already or name == CSP]
            if cached and b"cache-control" not in set_already:
                mine = [(name, value) for name, value in mine if name != b"cache-control"]
            kept = [(name, value) for name, value in message["headers"] if name.lower() != CSP]
            message = {**message, "headers": [*kept, *mine]}
        await send(message)

    return guarded


class Rate:
    """Limits requests per minute and address, by a token bucket."""

    def __init__(self, per_minute: int) -> None:
        self._per_minute = per_minute
        self._buckets: dict[str, tuple[float, float]] = {}  # address -> (left, at)

    def count(self, address: str) -> None:
        """Raises TooManyRequests."""
        now = time.monotonic()
        left, at = self._buckets.get(address, (float(self._per_minute), now))
        left = min(left + (now - at) * self._per_minute / 60, float(self._per_minute))
        if left < 1:
            seconds = int((1 - left) * 60 / self._per_minute) + 1
            raise TooManyRequests(address=address, seconds=seconds)
        if len(self._buckets) >= MAX_ADDRESSES:
            self._buckets = {key: kept for key, kept in self._buckets.items() if now - kept[1] < 60}
        self._buckets[address] = (left - 1, now)

"""Prometheus metrics of a node: declared by the node, measured only if enabled, served over HTTP or mTLS."""

import contextlib
import errno
import ipaddress
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Sequence
from typing import TYPE_CHECKING, Any

from services.errors import IdentityError, PortInUse, SettingsError
from services.runtime import logs

if TYPE_CHECKING:
    from aiohttp import web

PATH = "/metrics"
PORT_OPTION = "--metrics-port"
HOST_OPTION = "--metrics-host"

# From a round of a tiny model, a few milliseconds, to one of a large model over a slow link.
SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 900, 3600)

_log = logs.get("metrics")


class Counter:
    """Only grows. Does nothing if metrics are off."""

    def __init__(self, real: Any) -> None:
        self._real = real

    def add(self, amount: float = 1, **labels: str) -> None:
        if self._real is not None:
            _labelled(self._real, labels).inc(amount)


class Gauge:
    """A current value. Does nothing if metrics are off."""

    def __init__(self, real: Any) -> None:
        self._real = real

    def set(self, value: float, **labels: str) -> None:
        if self._real is not None:
            _labelled(self._real, labels).set(value)


class Histogram:
    """How long things took, in seconds. Does nothing if metrics are off."""

    def __init__(self, real: Any) -> None:
        self._real = real

    def took(self, seconds: float, **labels: str) -> None:
        if self._real is not None:
            _labelled(self._real, labels).observe(seconds)


class Meter:
    """Where a node declares its metrics. If off, it costs nothing: prometheus_client is not even imported."""

    def __init__(self, *, on: bool) -> None:
        self._readings: list[Callable[[], None]] = []
        self._prometheus: Any = None
        if on:
            import prometheus_client  # noqa: PLC0415  # few nodes need it

            self._prometheus = prometheus_client
            self._prometheus.disable_created_metrics()  # a second series for each counter, which nobody needs
            self._registry = prometheus_client.CollectorRegistry()
            prometheus_client.ProcessCollector(registry=self._registry)

    @property
    def on(self) -> bool:
        return self._prometheus is not None

    def counter(self, name: str, meaning: str, labels: Sequence[str] = ()) -> Counter:
        return Counter(self._prometheus and self._prometheus.Counter(name, meaning, labels, registry=self._registry))

    def gauge(self, name: str, meaning: str, labels: Sequence[str] = ()) -> Gauge:
        return Gauge(self._prometheus and self._prometheus.Gauge(name, meaning, labels, registry=self._registry))

    def histogram(self, name: str, meaning: str, labels: Sequence[str] = ()) -> Histogram:
        if self._prometheus is None:
            return Histogram(None)
        return Histogram(self._prometheus.Histogram(name, meaning, labels, buckets=SECONDS, registry=self._registry))

    def read_at_scrape(self, reading: Callable[[], None]) -> None:
        """``reading`` sets gauges; it is called before each scrape is answered."""
        self._readings.append(reading)

    def exposition(self) -> bytes:
        """All metrics in Prometheus' text format. Only if metrics are on."""
        for reading in self._readings:
            reading()
        text: bytes = self._prometheus.generate_latest(self._registry)
        return text


@contextlib.asynccontextmanager
async def served(
    meter: Meter,
    command: str,
    host: str,
    port: int | None,
    tls: Callable[[], ssl.SSLContext],
    *,
    judge: Callable[[Any], object] = lambda _: None,
) -> AsyncIterator[dict[str, int]]:
    """Serves ``meter`` while the block runs; yields ``{"metrics_port": ...}``, or {} if metrics are off.

    Without TLS on this machine's loopback address only; on any other address under mutual TLS, with the context from
    ``tls``, and only if ``judge(connection)`` raises no IdentityError. ``command``: of the node, for errors. Raises
    PortInUse, SettingsError.
    """
    if not meter.on or port is None:
        yield {}
        return
    from aiohttp import web  # noqa: PLC0415  # as prometheus_client

    from services.runtime.http_log import server_log  # noqa: PLC0415

    context = None if is_loopback(host) else tls()
    with _listening(command, host, port) as bound:
        runner = web.AppRunner(
            _app(meter, judge), access_log=None, logger=server_log, handle_signals=False, shutdown_timeout=1.0
        )
        await runner.setup()
        try:
            await web.SockSite(runner, bound, ssl_context=context).start()
            chosen = int(bound.getsockname()[1])
            scheme = "http" if context is None else "https"
            _log.info("metrics", url=f"{scheme}://{host}:{chosen}{PATH}", client_certificate=context is not None)
            yield {"metrics_port": chosen}
        finally:
            await runner.cleanup()


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach an address. False for a name, as it may resolve to anything."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def _app(meter: Meter, judge: Callable[[Any], object]) -> "web.Application":
    from aiohttp import web  # noqa: PLC0415  # as prometheus_client

    async def scrape(request: web.Request) -> web.Response:
        tls = request.transport and request.transport.get_extra_info("ssl_object")
        try:
            if tls is not None:
                judge(tls)
        except IdentityError as error:
            refusal = web.Response(status=web.HTTPForbidden.status_code, text=str(error))
            refusal.force_close()
            return refusal
        headers = {"Content-Type": "text/plain; version=0.0.4; charset=utf-8"}
        return web.Response(body=meter.exposition(), headers=headers)

    app = web.Application()
    app.router.add_get(PATH, scrape, allow_head=False)
    return app


def _listening(command: str, host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host.strip("[]"), port), family=family)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise PortInUse(port=port, host=host, option=PORT_OPTION) from None
        problem = f"port {port} cannot be opened on {host} ({error.strerror})"
        raise SettingsError(name=HOST_OPTION, problem=problem, command=command) from None


def _labelled(real: Any, labels: dict[str, str]) -> Any:
    return real.labels(**labels) if labels else real

"""OpenTelemetry traces of rounds across nodes: off, and without cost, unless OTEL_EXPORTER_OTLP_ENDPOINT is set.

All spans of a round share one trace, whose id every node derives from contract and round. The span in which a call is
made is sent along in gRPC metadata.
"""

import contextlib
import hashlib
import os
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from services.runtime import logs

ENDPOINT_VARIABLE = "OTEL_EXPORTER_OTLP_ENDPOINT"
EXPORT_TIMEOUT_S = 5

Carried = tuple[tuple[str, str], ...]
Facts = Mapping[str, str | int | bool]

_log = logs.get("traces")
_tracing: "_Tracing | None" = None


@dataclass(frozen=True)
class RoundOf:
    """One round of one training. ``location``: address of the training's contract, which is unique."""

    location: str
    round: int


class Span:
    """Something that takes a while. Does nothing if traces are off."""

    def __init__(self, real: Any = None) -> None:
        self._real = real

    def enter(self) -> None:
        """From now on, this task and those that it starts work in this span, until another one is entered."""
        if self._real is not None and _tracing is not None:
            _tracing.enter(self._real)

    def end(self) -> None:
        if self._real is not None:
            self._real.end()

    def begin(self, name: str, facts: Facts, *, seconds_ago: float = 0.0) -> "Span":
        """Begins a child of this span."""
        if self._real is None or _tracing is None:
            return OFF
        return Span(_tracing.begin(name, self._real, seconds_ago, facts))


OFF = Span()


def configure(service: str, node: str) -> None:
    """Turns traces on if their endpoint is set; OpenTelemetry's own variables configure the rest."""
    if not os.environ.get(ENDPOINT_VARIABLE):
        return
    try:
        from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter  # noqa: PLC0415  # an extra
        from opentelemetry.sdk.resources import Resource  # noqa: PLC0415
        from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415
        from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415
    except ImportError as error:
        _log.warning("no traces: pip install 'swarm-learning[services,otel]'", missing=error.name)
        return
    resource = Resource.create({"service.name": service, "service.instance.id": node})
    provider = TracerProvider(resource=resource)
    exporter = OTLPSpanExporter(timeout=EXPORT_TIMEOUT_S)
    provider.add_span_processor(BatchSpanProcessor(exporter, export_timeout_millis=EXPORT_TIMEOUT_S * 1000))
    use(provider)
    _log.info("traces", endpoint=os.environ[ENDPOINT_VARIABLE])


def use(provider: Any) -> None:
    """Sends spans to an OpenTelemetry tracer provider; None turns traces off."""
    global _tracing  # noqa: PLW0603  # like the log, one for the process
    _tracing = _Tracing(provider) if provider is not None else None


def on() -> bool:
    return _tracing is not None


def begin_in(round_of: RoundOf, name: str, facts: Facts, *, seconds_ago: float = 0.0) -> Span:
    """A span at the top of a round's trace. ``seconds_ago``: when it began, if it has begun already."""
    if _tracing is None:
        return OFF
    return Span(_tracing.begin(name, _tracing.root(round_of), seconds_ago, facts))


def carried() -> Carried | None:
    """Metadata for a call, so that its other side becomes part of the trace; None if there is nothing to send."""
    return _tracing.carried() if _tracing is not None else None


@contextlib.contextmanager
def served(method: str, metadata: Iterable[tuple[str, str | bytes]], request: object, caller: str) -> Iterator[None]:
    """The other side of a call with ``carried()``: a span with the contract and round named in the request."""
    if _tracing is None:
        yield
        return
    named = ((name, getattr(request, name, None)) for name in ("contract", "round", "term"))
    facts = {name: value for name, value in named if isinstance(value, str | int)}
    with _tracing.serving(method, dict(metadata), {"caller": caller, **facts}):
        yield


def _named(facts: Facts) -> dict[str, str | int | bool]:
    return {f"swarm.{name}": value for name, value in facts.items()}


class _Tracing:
    """All use of OpenTelemetry."""

    def __init__(self, provider: Any) -> None:
        from opentelemetry import context, trace  # noqa: PLC0415  # an extra
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator  # noqa: PLC0415

        self._context = context
        self._trace = trace
        self._propagator = TraceContextTextMapPropagator()
        self._tracer = provider.get_tracer("swarm")

    def root(self, round_of: RoundOf) -> Any:
        """The parent of a round's top spans. It is not recorded: it only carries the trace id."""
        number = hashlib.sha256(f"{round_of.location}/{round_of.round}".encode()).digest()
        context = self._trace.SpanContext(
            trace_id=int.from_bytes(number[:16]),
            span_id=int.from_bytes(number[16:24]),
            is_remote=True,
            trace_flags=self._trace.TraceFlags(self._trace.TraceFlags.SAMPLED),
        )
        return self._trace.NonRecordingSpan(context)

    def begin(self, name: str, parent: Any, seconds_ago: float, facts: Facts) -> Any:
        began = time.time_ns() - int(seconds_ago * 1e9)
        within = self._trace.set_span_in_context(parent)
        return self._tracer.start_span(name, context=within, attributes=_named(facts), start_time=began)

    def enter(self, span: Any) -> None:
        self._context.attach(self._trace.set_span_in_context(span))

    def carried(self) -> Carried | None:
        carrier: dict[str, str] = {}
        self._propagator.inject(carrier)
        return tuple(carrier.items()) or None

    def serving(self, method: str, carrier: Mapping[str, str | bytes], facts: Facts) -> Any:
        return self._tracer.start_as_current_span(
            method,
            context=self._propagator.extract(carrier),
            kind=self._trace.SpanKind.SERVER,
            attributes=_named(facts),
            record_exception=False,
        )

"""One structured line per event, for people or as JSON."""

import json
import logging
import sys
from datetime import UTC, datetime
from typing import Literal, TextIO, cast

import structlog
from structlog.typing import EventDict, FilteringBoundLogger, WrappedLogger

from services.runtime.escaping import replaced_in_lines
from services.runtime.output import Unfailing

LogFormat = Literal["human", "json"]
_INDENT = "    "
LIBRARY_FORMAT = "%(asctime)s %(levelname)-7s %(name)s: %(message)s"


def configure(log_format: LogFormat, node: str, level: str = "INFO", stream: TextIO | None = None) -> None:
    """Sends every event of this process, of libraries too, to ``stream`` (default: stdout).

    ``node`` is bound to each event, so that logs of several nodes can be read together.
    """
    out = cast(TextIO, Unfailing(stream))
    render = structlog.processors.JSONRenderer() if log_format == "json" else _render_for_people
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            _Of(node),
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            render,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        logger_factory=structlog.PrintLoggerFactory(out),
        cache_logger_on_first_use=False,
    )
    structlog.contextvars.bind_contextvars(node=node)
    handler = logging.StreamHandler(out)
    handler.setFormatter(_Json(node) if log_format == "json" else _ForPeople(LIBRARY_FORMAT))
    logging.basicConfig(level=logging.WARNING, handlers=[handler])


def configure_command() -> None:
    """For a command that is not a node: its output is its own, so only warnings are logged, on stderr."""
    configure("human", "swarm", "WARNING", sys.stderr)


def about(**facts: object) -> None:
    """Adds these facts to all later events of this task and of tasks that it starts, unless an event overrides them."""
    structlog.contextvars.bind_contextvars(**facts)


def get(part: str) -> FilteringBoundLogger:
    """The logger of one part of a node."""
    logger: FilteringBoundLogger = structlog.get_logger(part=part)
    return logger


class _Of:
    """Adds the node's name if the context has none: threads started by a node have contexts of their own."""

    def __init__(self, node: str) -> None:
        self._node = node

    def __call__(self, _logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
        return event if "node" in event else {"node": self._node, **event}


class _Json(logging.Formatter):
    """Log records of libraries, in the same form as a node's own events."""

    def __init__(self, node: str) -> None:
        super().__init__()
        self._node = node

    def format(self, record: logging.LogRecord) -> str:
        said = {
            "node": self._node,
            "part": record.name,
            "event": record.getMessage(),
            "level": record.levelname.lower(),
            "timestamp": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="microseconds"),
        }
        if record.exc_info:
            said["exception"] = self.formatException(record.exc_info)
        return json.dumps(said)


def _render_for_people(_logger: WrappedLogger, _method: str, event: EventDict) -> str:
    """``12:30:45.123 INFO  sl-1  checked in  round=3 digest=ab12``"""
    clock = str(event.pop("timestamp"))[11:23]
    level = str(event.pop("level")).upper()
    node = event.pop("node", "")
    event.pop("part", None)
    text = event.pop("event")
    trace = event.pop("exception", "")
    facts = " ".join(f"{key}={_as_part(str(value))}" for key, value in event.items())
    line = f"{clock} {level:<7} {node}  {_as_part(str(text))}" + (f"  {facts}" if facts else "")
    return f"{line}\n{_INDENT}{_as_part(trace)}" if trace else line


def _as_part(text: str) -> str:
    """Text as part of one event: it may come from a peer, and none of its lines may look like another event."""
    return replaced_in_lines(text).replace("\n", f"\n{_INDENT}")


class _ForPeople(logging.Formatter):
    """Log records of libraries, as lines."""

    def format(self, record: logging.LogRecord) -> str:
        return _as_part(super().format(record))

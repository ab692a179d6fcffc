"""One structured line per event, for people or as JSON."""

import logging
import sys
from typing import Literal, TextIO

import structlog
from structlog.typing import EventDict, FilteringBoundLogger, WrappedLogger

LogFormat = Literal["human", "json"]


def configure(log_format: LogFormat, node: str, level: str = "INFO", stream: TextIO | None = None) -> None:
    """Sends every event of this process, of libraries too, to ``stream`` (default: stdout).

    ``node`` is bound to each event, so that logs of several nodes can be read together.
    """
    out = stream or sys.stdout
    render = structlog.processors.JSONRenderer() if log_format == "json" else _render_for_people
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
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
    logging.basicConfig(level=logging.WARNING, stream=out, format="%(asctime)s %(levelname)-7s %(name)s: %(message)s")


def get(part: str) -> FilteringBoundLogger:
    """The logger of one part of a node."""
    logger: FilteringBoundLogger = structlog.get_logger(part=part)
    return logger


def _render_for_people(_logger: WrappedLogger, _method: str, event: EventDict) -> str:
    """``12:30:45.123 INFO  sl-1  checked in  round=3 digest=ab12``"""
    clock = str(event.pop("timestamp"))[11:23]
    level = str(event.pop("level")).upper()
    node = event.pop("node", "")
    event.pop("part", None)
    text = event.pop("event")
    trace = event.pop("exception", "")
    facts = " ".join(f"{key}={value}" for key, value in event.items())
    line = f"{clock} {level:<7} {node}  {text}" + (f"  {facts}" if facts else "")
    return f"{line}\n{trace}" if trace else line

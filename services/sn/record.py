"""The record of a training, as the API sends it: the chain's events, one by one and in order."""

import re
from collections.abc import Sequence
from dataclasses import fields
from typing import Any

from services.chain.events import TrainingConfig, TrainingEvent
from services.rpc import swarm_pb2 as pb
from services.sn.statuses import config_message

# A page stays well below the size limit of a message, however long the reasons in it are.
PAGE_BYTES = 256 * 1024


def pages(location: str, block: int, events: Sequence[TrainingEvent]) -> list[pb.RecordPage]:
    """``block``: the block up to which the record is complete. Each page has at least one event."""
    found: list[pb.RecordPage] = []
    room = 0
    for event in events:
        told = entry(event)
        room -= told.ByteSize()
        if room < 0:
            found.append(pb.RecordPage(location=location, block=block))
            room = PAGE_BYTES - told.ByteSize()
        found[-1].events.append(told)
    return found


def entry(event: TrainingEvent) -> pb.RecordEvent:
    """One event. Message and dataclass have the same fields."""
    kind = type(event).__name__
    values = {it.name: _value(getattr(event, it.name)) for it in fields(event) if it.name != "position"}
    message = getattr(pb.RecordEvent, kind)(**values)
    block, log_index = event.position
    return pb.RecordEvent(block=block, log_index=log_index, **{field_of(kind): message})


def field_of(kind: str) -> str:
    """``MergeStarted`` is sent as ``merge_started``."""
    return re.sub(r"(?<!^)([A-Z])", r"_\1", kind).lower()


def _value(value: Any) -> Any:
    return config_message(value) if isinstance(value, TrainingConfig) else value

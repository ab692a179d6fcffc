"""Answers: results, refusals, and the states of a stream."""

import json
from dataclasses import dataclass, field
from typing import Any

import httpx

from swarmlearning.swci.reasons import HUNG_UP, reason_of
from swarmlearning.swci.v1.calls import Call, Result
from swarmlearning.swci.v1.errors import SwciUnreachable, refusal


def result_of(call: Call[Result], answer: httpx.Response) -> Result:
    """The result in a complete answer. Raises ApiError, SwciUnreachable."""
    try:
        data = answer.json()
    except ValueError:
        data = None
    if not answer.is_success:
        raise refusal(answer.status_code, data)
    return _read(call, data)


def unreachable(address: str, error: httpx.HTTPError) -> SwciUnreachable:
    if isinstance(error, httpx.TimeoutException):
        reason = "it does not answer"
    elif isinstance(error, httpx.RemoteProtocolError | httpx.ReadError | httpx.WriteError):
        reason = HUNG_UP
    else:
        reason = reason_of(error)
    return SwciUnreachable(f"The SWCI at {address} cannot be asked: {reason}")


@dataclass
class Events:
    """Server-sent events, line by line."""

    call: Call[Any]
    _kind: str = ""
    _data: list[str] = field(default_factory=list)

    def take(self, line: str) -> list[Any]:
        """The state that this line completes, if any. Raises ApiError, by which a stream says why it ends."""
        if line:
            name, _, value = line.partition(":")
            value = value.removeprefix(" ")
            if name == "event":
                self._kind = value
            elif name == "data":
                self._data.append(value)
            return []
        kind, text = self._kind, "\n".join(self._data)
        self._kind, self._data = "", []
        if not text:
            return []
        try:
            data = json.loads(text)
        except ValueError:
            raise SwciUnreachable("What answered is no SWCI: an event holds no JSON.") from None
        if kind == "error":
            raise refusal(data.get("status", 0) if isinstance(data, dict) else 0, data)
        return [_read(self.call, data)]


def _read(call: Call[Result], data: Any) -> Result:
    try:
        return call.read(data)
    except ValueError as error:
        first = str(error).splitlines()[0]
        raise SwciUnreachable(f"What answered is no SWCI of this version: {first}.") from None

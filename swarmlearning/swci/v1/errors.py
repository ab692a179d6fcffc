"""What can go wrong with a request.

SwciError
├── SwciUnreachable        there is no answer, or one that cannot be understood
└── ApiError               the SWCI refused, with a reason
    ├── Malformed          400, 413, 422: the command cannot be carried out as it is
    ├── NotAllowed         401, 403: this certificate may not
    ├── NotFound           404
    ├── Conflict           409: it contradicts the present state
    ├── SNUnavailable      424: the SN does not answer, or runs another version
    └── ServerFailed       5xx
"""

from collections.abc import Mapping
from typing import Any

from swarmlearning.swci.client import SwciError


class SwciUnreachable(SwciError):
    """The SWCI cannot be reached, hung up, or answered with something else."""


class ApiError(SwciError):
    """``str()`` is the server's message, ``code`` its stable code, ``facts`` its values. ``status``: HTTP status."""

    def __init__(self, status: int, code: str, message: str, facts: Mapping[str, Any]) -> None:
        super().__init__(message)
        self.status, self.code, self.facts = status, code, facts


class Malformed(ApiError):
    """The command cannot be carried out as it is."""


class NotAllowed(ApiError):
    """There is no certificate, or its role does not permit the command."""


class NotFound(ApiError):
    """What the command names does not exist."""


class Conflict(ApiError):
    """It contradicts the present state: a name is taken, a taskrunner is busy."""


class SNUnavailable(ApiError):
    """The SN of the active context does not answer, or runs another version."""


class ServerFailed(ApiError):
    """The SWCI failed unexpectedly."""


_BY_STATUS: dict[int, type[ApiError]] = {
    400: Malformed, 413: Malformed, 422: Malformed,
    401: NotAllowed, 403: NotAllowed,
    404: NotFound, 405: NotFound,
    409: Conflict, 424: SNUnavailable,
}  # fmt: skip


def refusal(status: int, answer: Any) -> SwciError:
    """The error that an answer describes; SwciUnreachable if it describes none."""
    match answer:
        case {"code": str(code), "message": str(message), "facts": dict(facts)}:
            return _BY_STATUS.get(status, ServerFailed)(status, code, message, facts)
    return SwciUnreachable(f"What answered is no SWCI: status {status} without a reason.")

"""Which HTTP status an error is told with."""

from services.errors import NetworkError, SwarmError
from services.web.answers import status_of

# The SN that was asked for does not answer; this server does.
FAILED_DEPENDENCY = 424


def status(error: SwarmError) -> int:
    return FAILED_DEPENDENCY if isinstance(error, NetworkError) else status_of(error)

"""The HTTP status of each error."""

from services.errors import NetworkError, SwarmError
from services.web.answers import status_of

# The SN does not answer, although this server does.
FAILED_DEPENDENCY = 424


def status(error: SwarmError) -> int:
    return FAILED_DEPENDENCY if isinstance(error, NetworkError) else status_of(error)

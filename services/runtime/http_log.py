"""What aiohttp's HTTP servers say in the log of a node."""

import logging

from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.log import server_logger


class _OneLine(logging.LoggerAdapter[logging.Logger]):
    """A request that is no HTTP is the fault of who sends it: one line, and no trace through the library."""

    def exception(self, msg: object, *args: object, exc_info: object = True, **more: object) -> None:
        if isinstance(exc_info, HttpProcessingError):
            first = (exc_info.message.strip().splitlines() or [""])[0]
            self.logger.warning(f"{msg}: %s", *args, first[:200])
        else:
            self.logger.exception(msg, *args, exc_info=exc_info, **more)  # type: ignore[arg-type]


server_log = _OneLine(server_logger)

"""What aiohttp's HTTP servers write to a node's log."""

import logging

from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.log import server_logger


class _OneLine(logging.LoggerAdapter[logging.Logger]):
    """A request that is not HTTP is the client's fault: it gets one line, without a traceback through the library."""

    def exception(self, msg: object, *args: object, exc_info: object = True, **more: object) -> None:
        if isinstance(exc_info, HttpProcessingError):
            first = (exc_info.message.strip().splitlines() or [""])[0]
            self.logger.warning(f"{msg}: %s", *args, first[:200])
        else:
            self.logger.exception(msg, *args, exc_info=exc_info, **more)  # type: ignore[arg-type]


server_log = _OneLine(server_logger)

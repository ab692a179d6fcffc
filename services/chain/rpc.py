"""How a request to geth can fail, and how long an answer may be."""

from typing import Any

MESSAGE_LIMIT_BYTES = 256 * 2**20


class ConnectionLost(Exception):
    """geth closed the socket, or nobody listens; a request may or may not have been carried out."""


class RpcError(Exception):
    """geth answered with an error. ``data``: what came with it, such as revert data in hex."""

    def __init__(self, message: str, data: Any = None) -> None:
        super().__init__(message)
        self.data = data


class AnswerTooLong(Exception):
    """geth's answer is longer than the request allows."""

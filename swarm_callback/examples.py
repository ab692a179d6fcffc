"""A node's weight as the number of examples that it was trained on since the last merge."""

import logging
from collections.abc import Callable
from typing import Final, Self

from swarm_callback.errors import ParameterError
from swarm_callback.options import SAMPLES, Options

MAX_EXAMPLES: Final = 1_000_000  # as in the contract


class Examples:
    """``seen``: gives the number of examples since the beginning; None if the weight is fixed."""

    def __init__(self, seen: Callable[[], int] | None, logger: logging.Logger) -> None:
        self._seen = seen
        self._logger = logger
        self._at_merge = 0

    @classmethod
    def of(cls, options: Options, counted: bool, seen: Callable[[], int]) -> Self:
        """Raises ParameterError if examples are needed and the platform does not count them."""
        if options.weighting == SAMPLES and not counted:
            problem = "examples are not counted on this platform: give a number"
            raise ParameterError(name="nodeWeightage", value=SAMPLES, problem=problem)
        return cls(seen if options.weighting == SAMPLES else None, options.logger)

    def since_merge(self) -> int:
        """Called at each exchange. Examples since the previous one, at most MAX_EXAMPLES; 0 if the weight is fixed."""
        if self._seen is None:
            return 0
        now = self._seen()
        count, self._at_merge = now - self._at_merge, now
        if count > MAX_EXAMPLES:
            self._logger.warning("%d examples weigh as %d, the most there is", count, MAX_EXAMPLES)
        return max(0, min(count, MAX_EXAMPLES))

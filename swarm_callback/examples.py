"""The weight of a node that weighs by the examples it was trained on since the last merge."""

import logging
from collections.abc import Callable
from typing import Final, Self

from swarm_callback.errors import ParameterError
from swarm_callback.options import SAMPLES, Options

MAX_EXAMPLES: Final = 1_000_000  # as in the contract


class Examples:
    """``seen``: examples since the begin; None where the weight is fixed."""

    def __init__(self, seen: Callable[[], int] | None, logger: logging.Logger) -> None:
        self._seen = seen
        self._logger = logger
        self._at_merge = 0

    @classmethod
    def of(cls, options: Options, counted: bool, seen: Callable[[], int]) -> Self:
        """Raises ParameterError where the platform does not count."""
        if options.weighting == SAMPLES and not counted:
            problem = "examples are not counted on this platform: give a number"
            raise ParameterError(name="nodeWeightage", value=SAMPLES, problem=problem)
        return cls(seen if options.weighting == SAMPLES else None, options.logger)

    def since_merge(self) -> int:
        """At each exchange; 0 where the weight is fixed."""
        if self._seen is None:
            return 0
        now = self._seen()
        count, self._at_merge = now - self._at_merge, now
        if count > MAX_EXAMPLES:
            self._logger.warning("%d examples weigh as %d, the most there is", count, MAX_EXAMPLES)
        return max(0, min(count, MAX_EXAMPLES))

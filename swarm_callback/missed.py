"""Rounds without this node: warns of them, and ends a training whose parameters stay not finite."""

import logging

from swarm_callback import wire
from swarm_callback.errors import NotFinite

WARN_AFTER_ROUNDS = 3
MAX_SPOILED_ROUNDS = 3


class MissedRounds:
    """Counts missed rounds in a row, and those missed because of values that are not finite."""

    def __init__(self, logger: logging.Logger) -> None:
        self._logger = logger
        self._missed = self._spoiled = 0

    def count(self, merged: wire.Merged) -> None:
        """Warns of missed rounds. Raises NotFinite after MAX_SPOILED_ROUNDS in a row with non-finite values."""
        if merged.late >= WARN_AFTER_ROUNDS:
            self._logger.warning(
                "%d merges were made without this node before this one: what it trained meanwhile weighs 1/%d of its "
                "weight. Where it is slower than others, let rounds wait longer (SL_WAIT_FOR_FULL_QUORUM_SECONDS)",
                merged.late, merged.late + 1,
            )  # fmt: skip
        self._missed = 0 if merged.contributed else self._missed + 1
        self._spoiled = self._spoiled + 1 if merged.not_finite else 0
        if self._spoiled >= MAX_SPOILED_ROUNDS:
            raise NotFinite(times=self._spoiled, note=merged.note)
        if self._missed and self._missed % WARN_AFTER_ROUNDS == 0:
            self._logger.warning(
                "The last %d merges were made without this node: what it trained for them does not count. Where it is "
                "slower than others, let rounds wait longer (SL_WAIT_FOR_FULL_QUORUM_SECONDS)",
                self._missed,
            )

"""Time in the hand of a test."""

from dataclasses import dataclass


@dataclass
class Clock:
    """Says what time it is: seconds, which pass when the test says so."""

    now: float = 1000.0

    def __call__(self) -> float:
        return self.now

"""How far a training is that may have several phases, such as one with frozen layers and one without."""

from enum import Enum, auto

from swarm_callback.errors import AlreadyTrained, UsageError


class Begin(Enum):
    """What begins with ``on_train_begin``."""

    TRAINING = auto()
    PHASE = auto()  # the one before has ended
    AGAIN = auto()  # the one before has not: an error, or a cell of a notebook that was stopped


class Phases:
    """``count`` phases, each begun and ended, are one training."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.ended = 0
        self.running = False
        self._began_at_all = False

    @property
    def over(self) -> bool:
        return self.ended == self.count

    @property
    def still_to_come(self) -> str:
        """Why a training that ends now has ended too early."""
        if self.running or self.count == 1:
            return "on_train_end was not called"
        return f"only {self.ended} of its {self.count} phases were trained"

    def begin(self) -> Begin:
        """Raises AlreadyTrained."""
        if self.over:
            raise AlreadyTrained
        again, self.running = self.running, True
        first, self._began_at_all = not self._began_at_all, True
        return Begin.TRAINING if first else Begin.AGAIN if again else Begin.PHASE

    def check_running(self) -> None:
        """A batch ended. Raises UsageError."""
        if not self.running and not self.over:
            raise UsageError(problem="A batch ended before on_train_begin")

    def end(self) -> None:
        """Raises UsageError."""
        if not self.running:
            raise UsageError(problem="on_train_end was called without a training that had begun")
        self.running = False
        self.ended += 1

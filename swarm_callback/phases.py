"""The progress of a training with one or more phases, such as one with frozen layers and one without."""

from enum import Enum, auto

from swarm_callback.errors import AlreadyTrained, UsageError


class Begin(Enum):
    """What ``on_train_begin`` begins."""

    TRAINING = auto()
    PHASE = auto()  # the previous one has ended
    AGAIN = auto()  # the previous one has not: an error, or a stopped notebook cell


class Phases:
    """A training of ``count`` phases, each of which begins and ends."""

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
        """Why the training is too short if it ends now."""
        if self.running or self.count == 1:
            return "on_train_end was not called"
        return f"only {self.ended} of its {self.count} phases were trained"

    def begin(self) -> Begin:
        """Raises AlreadyTrained after the last phase."""
        if self.over:
            raise AlreadyTrained
        again, self.running = self.running, True
        first, self._began_at_all = not self._began_at_all, True
        return Begin.TRAINING if first else Begin.AGAIN if again else Begin.PHASE

    def check_running(self) -> None:
        """Called after a batch. Raises UsageError if no phase is running and more are to come."""
        if not self.running and not self.over:
            raise UsageError(problem="A batch ended before on_train_begin")

    def end(self) -> None:
        """Raises UsageError if no phase is running."""
        if not self.running:
            raise UsageError(problem="on_train_end was called without a training that had begun")
        self.running = False
        self.ended += 1

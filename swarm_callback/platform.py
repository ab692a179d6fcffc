"""What an ML platform supplies to SwarmCallback: five methods, and more where it can."""

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any, ClassVar

from swarm_callback.options import Options
from swarm_callback.params import Tensor


class Platform(ABC):
    """The abstract methods are the five."""

    PLATFORMS: ClassVar[tuple[str, ...]]  # values of mlPlatform that fit, the default first
    RESETS_OPTIMIZERS: ClassVar[bool] = False  # whether there is a ``reset_optimizer``
    OPENS_AT_ONCE: ClassVar[bool] = True  # else a method of the platform calls ``open_session``
    COUNTS_EXAMPLES: ClassVar[bool] = False  # whether there is an ``examples_seen``
    WITHOUT_EFFECT: ClassVar[Mapping[str, str]] = {}  # parameters that mean nothing here, and why

    batches_to_come: int | None = None  # of the training that begins, where the platform knows it

    @abstractmethod
    def verify_platform(self, options: Options) -> None:
        """Checks and keeps what the platform needs of the parameters. Raises ParameterError."""

    @abstractmethod
    def set_validation_data(self, data: Any, batch_size: int | None) -> None:
        """Checks and keeps ``adsValData``. Raises ParameterError."""

    @abstractmethod
    def extract_parameters(self) -> Mapping[str, Tensor]:
        """The parameters by names that are the same on every node; views are welcome."""

    @abstractmethod
    def load_parameters(self, tensors: Mapping[str, Tensor]) -> None:
        """Puts values of the same names, shapes and dtypes into the model, in place and exactly."""

    @abstractmethod
    def evaluate(self) -> tuple[float | None, float | None]:
        """Loss and metric on the validation data, with no trace left in the training. None: there is no such value."""

    def check_parameters(self) -> None:  # noqa: B027  # most platforms have nothing to find out
        """A platform may find out here, before the first round, that merged values would not reach its model."""

    def try_evaluation(self) -> bool:
        """A platform that knows its model evaluates one batch here: before the node enrols, or before the first round.
        False: not yet.
        """
        return True

    def no_trace(self) -> AbstractContextManager[None]:
        """Around an evaluation by a function of the user's own: the state of the framework is as before."""
        return nullcontext()

    def trainable(self) -> Collection[str]:
        """Names of parameters that are being trained, for ``share="trainable"``."""
        return set(self.extract_parameters()) - set(self.untrained())

    def untrained(self) -> Collection[str]:
        """Names of parameters that no optimizer changes and that may hold constants: masks, observers."""
        return ()

    def reset_optimizer(self) -> None:  # noqa: B027  # see RESETS_OPTIMIZERS
        """Forgets what the optimizer has gathered: it belongs to parameters that are no longer there."""

    def examples_seen(self) -> int:
        """How many examples the model was trained on since this was constructed; see COUNTS_EXAMPLES."""
        return 0
